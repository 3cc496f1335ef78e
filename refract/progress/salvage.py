"""Reading events out of a database that SQLite can no longer read.

Python's ``sqlite3`` has no ``.recover``. Events are never changed or deleted, so every copy of a row that lies
in any page of the file or of its write-ahead log is true: it is enough to walk over the leaf pages one by one,
without the tree above them, and to keep what proves to be an event.
Formats: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from refract.progress.events import Event

PAGE = 4096  # set by the store when it creates a file
_COLUMNS = ("id", "time", "kind", "section", "name", "data")
_LEAF_OF_TABLE = 0x0D


def decode(row: tuple[bytes, ...]) -> Event:
    """An event from a row of bytes. Raises ``ValueError`` if it is not one."""
    if len(row) != len(_COLUMNS) or not all(isinstance(value, bytes) for value in row):
        raise ValueError("not a row of six texts")
    texts = dict(zip(_COLUMNS, (value.decode() for value in row), strict=True))
    return Event.from_dict({**texts, "data": json.loads(texts["data"])})


def events(path: Path) -> list[Event]:
    """Every event that can be read from the damaged database at ``path`` and its ``-wal`` file, in order of time."""
    found: dict[str, Event] = {}
    for row in [*_by_pages(path), *_by_query(path)]:  # in this order: SQLite throws away a log that it cannot read
        with contextlib.suppress(ValueError, RecursionError):
            event = decode(row)
            found.setdefault(event.id, event)
    return sorted(found.values(), key=lambda event: (event.time, event.id))


def _by_query(path: Path) -> Iterator[tuple[bytes, ...]]:
    """What SQLite itself still reads, up to the first damage."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        yield from connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM events")


def _by_pages(path: Path) -> Iterator[tuple[bytes, ...]]:
    numbered = _pages(path)
    chains = dict(numbered)  # the last copy of each page: a frame of the log comes after the page it replaces
    for _, page in numbered:
        yield from _rows(page, chains)


def _pages(path: Path) -> list[tuple[int, bytes]]:
    content = path.read_bytes()
    pages = [(at // PAGE + 1, content[at : at + PAGE]) for at in range(0, len(content), PAGE)]
    log = path.with_name(path.name + "-wal")
    frames = log.read_bytes()[32:] if log.exists() else b""
    for at in range(0, len(frames) - 24, PAGE + 24):
        pages.append((int.from_bytes(frames[at : at + 4], "big"), frames[at + 24 : at + 24 + PAGE]))
    return [(number, page.ljust(PAGE, b"\0")) for number, page in pages]


def _rows(page: bytes, chains: dict[int, bytes]) -> Iterator[tuple[bytes, ...]]:
    if page[0] != _LEAF_OF_TABLE:
        return
    count = min(int.from_bytes(page[3:5], "big"), PAGE // 2)
    for index in range(count):
        pointer = 8 + 2 * index
        with contextlib.suppress(IndexError, ValueError):
            yield _record(page, int.from_bytes(page[pointer : pointer + 2], "big"), chains)


def _record(page: bytes, at: int, chains: dict[int, bytes]) -> tuple[bytes, ...]:
    size, at = _varint(page, at)
    _, at = _varint(page, at)  # the row's number
    payload = _payload(page, at, size, chains)
    header, place = _varint(payload, 0)
    lengths = []
    while place < header:
        code, place = _varint(payload, place)
        if code < 13 or code % 2 == 0:
            raise ValueError("a column that is not text")
        lengths.append((code - 13) // 2)
    values = []
    for length in lengths:
        values.append(payload[place : place + length])
        place += length
    if place != size:
        raise ValueError("the record's length does not add up")
    return tuple(values)


def _payload(page: bytes, at: int, size: int, chains: dict[int, bytes]) -> bytes:
    """The record's bytes, the part that overflows into other pages included."""
    if size <= PAGE - 35:
        return page[at : at + size]
    smallest = (PAGE - 12) * 32 // 255 - 23
    local = smallest + (size - smallest) % (PAGE - 4)
    local = local if local <= PAGE - 35 else smallest
    pieces, following = [page[at : at + local]], page[at + local : at + local + 4]
    missing, seen = size - local, set()
    while missing > 0:
        number = int.from_bytes(following, "big")
        if number in seen or number not in chains:
            raise ValueError("a broken chain of pages")
        seen.add(number)
        pieces.append(chains[number][4 : 4 + min(missing, PAGE - 4)])
        missing -= len(pieces[-1])
        following = chains[number][:4]
    return b"".join(pieces)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(8):
        byte = content[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | content[at + 8], at + 9
