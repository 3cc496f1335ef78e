"""The learner's progress: events, appended to one SQLite file and never changed.

Every call opens its own connection. It costs about a millisecond and makes the store indifferent to threads, forks,
and other processes (a notebook, ``watch`` and the site at once); a process that is killed leaves at most a
write-ahead log, which SQLite replays or discards as a whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from refract.errors import RefractError
from refract.progress import salvage, states
from refract.progress.events import Event, encode, make

VERSION = 1  # of the table's form, in PRAGMA user_version
APPLICATION = 0x52465243  # "RFRC", in PRAGMA application_id: tells our files from other people's
NAME = "progress.db"
BUSY_SECONDS = 20.0
_TABLE = """CREATE TABLE events (id TEXT NOT NULL PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL,
    section TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL)"""
_COLUMNS = "id, time, kind, section, name, data"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_MOST_MESSAGE, _MOST_SOURCE = 20_000, 200_000  # characters of an attempt's message, of an answer's code

T = TypeVar("T")


class _DamagedError(Exception):
    """The file is not, or no longer, a whole progress file of this version."""


def home() -> Path:
    """The folder of the progress file: ``REFRACT_HOME``, or the user's data folder of the operating system."""
    override = os.environ.get("REFRACT_HOME")
    if override:
        return Path(override).expanduser()
    import platformdirs

    return platformdirs.user_data_path("refract", appauthor=False)


def open_store(path: Path | None = None, notify: Callable[[str], None] | None = None) -> Store:
    """The store at ``path``, or the user's own; begun if there is none.

    A damaged file is moved aside under a dated name, its readable events go into a new one, and ``notify`` (default:
    a line on stderr) is told in one sentence. Raises ``RefractError`` for a folder that cannot be written and
    for a file that a newer Refract, or another program, made; such a file is left as it is.
    """
    return Store(Path(path) if path is not None else home() / NAME, notify or _to_stderr)


class Store:
    """See ``open_store``. Its methods may be called from any thread and any process."""

    def __init__(self, path: Path, notify: Callable[[str], None]) -> None:
        self.path = path
        self._notify = notify
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        self._run(_check_whole)

    # -- writing ---------------------------------------------------------------------------------------------------

    def add(self, kind: str, section: str, name: str, /, **data: Any) -> str:
        """Append one event; when this returns, it is on the disk. Returns its id."""
        return self.add_many([(kind, section, name, data)])[0]

    def add_many(self, rows: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> list[str]:
        """Append several events ``(kind, section, name, data)``: all of them or, if anything fails, none."""
        now = datetime.now(UTC)
        # A microsecond apart, so that their order survives in their times.
        new = [make(*row, time=now + timedelta(microseconds=place)) for place, row in enumerate(rows)]
        self._insert(new)
        return [event.id for event in new]

    def add_attempt(self, result: Mapping[str, Any], *, source: str | None = None, via: str = "notebook") -> str:
        """Append a check's result (``CheckResult.to_dict()``). ``source`` is the answer's code, ``via`` who asked.

        How many tests passed, and of how many that were not skipped, is taken from ``result["tests"]``.
        """
        outcomes = [test["status"] for test in result.get("tests") or [] if test["status"] != "skipped"]
        return self.add(
            "attempt",
            result["section"],
            result["exercise"],
            status=result["status"],
            passed=outcomes.count("passed"),
            total=len(outcomes),
            message=_cut(result.get("message"), _MOST_MESSAGE),
            mistake=result.get("mistake"),
            seconds=result.get("seconds"),
            source=source if source and len(source) <= _MOST_SOURCE else None,  # whole or not: it is exported as code
            via=via,
        )

    def add_hint(self, section: str, name: str, step: int) -> str:
        """Record that hint number ``step`` (from 1) of an exercise was opened."""
        if not isinstance(step, int) or step < 1:
            raise RefractError(f"There is no hint number {step!r}.", "Hints count from 1.")
        return self.add("hint", section, name, step=step)

    def add_solution(self, section: str, name: str) -> str:
        """Record that the reference solution of an exercise was shown."""
        return self.add("solution", section, name)

    def add_prediction(
        self,
        section: str,
        name: str,
        answer: Any,
        *,
        confidence: float | None = None,
        correct: bool | None = None,
        truth: Any = None,
    ) -> str:
        """Record an answer to a question, and how sure of it the learner was: a probability in ``[0, 1]``.

        ``correct`` and ``truth`` may be left out and given by a second call with the same answer, after the reveal.
        """
        if confidence is not None and not 0 <= confidence <= 1:
            raise RefractError(
                f"A confidence of {confidence!r} is not a probability.", "Give a number from 0 to 1: 0.7 for 70%."
            )
        return self.add("prediction", section, name, answer=answer, confidence=confidence, correct=correct, truth=truth)

    def add_skip(self, section: str, name: str, via: str = "notebook") -> str:
        """Record that the answer to a question was shown; a prediction from then on does not count."""
        return self.add("skip", section, name, via=via)

    def reset(self, section: str, name: str = "") -> str:
        """Start a section, or one exercise of it, afresh. The history stays; the states count from here."""
        return self.add("reset", section, name)

    def merge(self, other: Path | str | Iterable[Event]) -> int:
        """Add the events of another progress file, of an exported zip, or of a list. Returns how many were new.

        Merging twice adds nothing; the order of merges makes no difference.
        """
        return self._insert(read_file(Path(other), self._notify) if isinstance(other, (str, Path)) else other)

    # -- reading ---------------------------------------------------------------------------------------------------

    def events(self, kind: str | None = None, section: str | None = None, name: str | None = None) -> list[Event]:
        """The events that match, in the order in which they happened."""
        wanted = {
            key: value for key, value in (("kind", kind), ("section", section), ("name", name)) if value is not None
        }
        where = " AND ".join(f"{key} = ?" for key in wanted) or "1"
        query = f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY time, id"
        return self._run(lambda connection: _decoded(connection.execute(query, tuple(wanted.values()))))

    def sections(self) -> list[str]:
        """The ids of the sections that have events, sorted."""
        return sorted({event.section for event in self.events()})

    def summary(self, section: str, names: Iterable[str] = ()) -> dict[str, states.ExerciseState]:
        """The state of each exercise of ``names``, in that order, and of any other that has events."""
        return states.exercise_states(self.events(section=section), section, names)

    def state(self, section: str, name: str) -> states.ExerciseState:
        """The state of one exercise; a fresh one if nothing has happened."""
        return self.summary(section, [name])[name]

    def section_summary(self, section: str, names: Iterable[str] = ()) -> states.SectionSummary:
        """The section's exercises, predictions and last activity, read once."""
        events = self.events(section=section)
        return states.SectionSummary(
            section,
            states.exercise_states(events, section, names),
            states.predictions(events, section),
            events[-1].time if events else None,
            frozenset(name for _, name in states.skipped(events, section)),
        )

    def hints_opened(self, section: str, name: str) -> int:
        """The furthest hint that was opened; 0 if none."""
        return self.state(section, name).hints_opened

    def solution_shown(self, section: str, name: str) -> bool:
        """Whether the reference solution was shown."""
        return self.state(section, name).solution_shown

    def predictions(self, section: str | None = None) -> list[states.Prediction]:
        """The first answer to each question."""
        return states.predictions(self.events(section=section), section)

    def calibration(self, section: str | None = None, bins: int = 5) -> states.Calibration:
        """Confidence against success, over one section or all; see ``states.calibration``."""
        return states.calibration(self.predictions(section), bins)

    def last_source(self, section: str, name: str) -> str | None:
        """The code of the last answer that passed, resets or not; ``None`` if there is none."""
        for event in reversed(self.events("attempt", section, name)):
            if event.data.get("status") == "passed" and event.data.get("source"):
                return event.data["source"]
        return None

    def last_activity(self, section: str | None = None) -> datetime | None:
        """When anything last happened."""
        events = self.events(section=section)
        return events[-1].time if events else None

    def backup(self, target: Path) -> None:
        """Write a consistent copy, one file without a log, to ``target``, while others may be writing."""

        def copy(connection: sqlite3.Connection) -> None:
            with contextlib.closing(sqlite3.connect(target)) as other:
                connection.backup(other)
                other.execute("PRAGMA journal_mode = DELETE")

        self._run(copy)

    # -- the file --------------------------------------------------------------------------------------------------

    def _insert(self, events: Iterable[Event]) -> int:
        rows = [
            (event.id, event.to_dict()["time"], event.kind, event.section, event.name, encode(event.data))
            for event in events
        ]

        def insert(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")  # if this is not reached, closing the connection rolls back
            return connection.total_changes - before

        return self._run(insert) if rows else 0

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """``work`` on a fresh connection; a damaged file is mended first, and the work begun again."""
        for mended in (False, True):
            try:
                with _connection(self.path) as connection:
                    return work(connection)
            except _DamagedError as error:
                if mended:
                    raise self._unwritable(error) from error
            except sqlite3.DatabaseError as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in _DAMAGE or mended:
                    raise self._unwritable(error) from error
            self._mend()
        raise AssertionError("unreachable")

    def _mend(self) -> None:
        try:
            report = _replace_damaged(self.path)
        except (OSError, sqlite3.Error) as error:
            raise self._unwritable(error) from error
        if report:
            self._notify(report)

    def _unwritable(self, error: Exception) -> RefractError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return RefractError(
                f"The progress file {self.path} has been in use for {BUSY_SECONDS:.0f} s.",
                "Close other programs that use it, and try again.",
            )
        return RefractError(
            f"The progress file {self.path} cannot be used: {error}.",
            "Make its folder writable, or name another folder in the environment variable REFRACT_HOME.",
        )


def read_file(path: Path, notify: Callable[[str], None] | None = None) -> list[Event]:
    """The events of a progress file or of a zip made by ``refract export``, which stays as it is.

    Raises ``RefractError`` if it is neither, or was made by a newer Refract.
    """
    if not path.is_file():
        raise RefractError(f"There is no file {path}.", "Name a progress file (.db) or a zip made by `refract export`.")
    with tempfile.TemporaryDirectory(prefix="refract-") as folder:
        copy = Path(folder) / NAME
        if zipfile.is_zipfile(path):
            _unzip(path, copy)
        else:
            shutil.copyfile(path, copy)
            log = path.with_name(path.name + "-wal")
            if log.exists():
                shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
        if copy.stat().st_size == 0:
            raise _not_ours(path)
        try:
            with _connection(copy, shown=path) as connection:
                _check_whole(connection)
                return _decoded(connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY time, id"))
        except (_DamagedError, sqlite3.DatabaseError) as error:
            found = salvage.events(copy)
            if not found:
                raise _not_ours(path) from error
            (notify or _to_stderr)(f"{path} is damaged; {_count(found)} could be read from it.")
            return found


def _unzip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.rsplit("/", 1)[-1] == NAME]
        if len(members) != 1:
            raise _not_ours(path)
        try:
            with archive.open(members[0]) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
        except (zipfile.BadZipFile, OSError) as error:
            raise RefractError(f"{path} cannot be unpacked: {error}.", "Export it again.") from error


@contextlib.contextmanager
def _connection(path: Path, shown: Path | None = None) -> Iterator[sqlite3.Connection]:
    """A connection to a store of our version, which is created where there is no file or an empty one."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.text_factory = bytes  # decoded by hand, so that a damaged text is noticed and not replaced
        connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut, too
        version, ours = _number(connection, "user_version"), _number(connection, "application_id") == APPLICATION
        if version == 0 and not ours:
            _create(connection, shown or path)
        elif not ours:
            raise _not_ours(shown or path)
        elif version == 0:
            raise _DamagedError("its header is damaged")
        elif version > VERSION:
            raise RefractError(
                f"The progress file {shown or path} is of a newer Refract (form {version}; this one knows {VERSION}).",
                "Update Refract; the file was left as it is.",
            )
        yield connection


def _create(connection: sqlite3.Connection, path: Path) -> None:
    _retry(lambda: connection.execute(f"PRAGMA page_size = {salvage.PAGE}"))
    # Two processes may begin at once: SQLite does not wait for a lock when it changes the journal's mode.
    _retry(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute("BEGIN IMMEDIATE")
    if _number(connection, "user_version") == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise _not_ours(path)
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _retry(step: Callable[[], object]) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            step()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _check_whole(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != b"ok":
        raise _DamagedError("its pages do not fit together")
    try:
        connection.execute(f"SELECT {_COLUMNS} FROM events LIMIT 0")
    except sqlite3.OperationalError as error:
        raise _DamagedError(str(error)) from error


def _decoded(rows: Iterable[tuple[bytes, ...]]) -> list[Event]:
    try:
        return [salvage.decode(row) for row in rows]
    except (ValueError, RecursionError) as error:
        raise _DamagedError(str(error)) from error


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _replace_damaged(path: Path) -> str | None:
    """Put a damaged file aside and begin a new one with what could be read. Returns the sentence to tell the user.

    Safe to kill: the damaged file is copied before it is replaced, and a half-made replacement is taken up again.
    """
    with _only_one(path.with_name(path.name + ".lock")):
        try:  # another process may have mended it while we waited
            with _connection(path) as connection:
                _check_whole(connection)
                _decoded(connection.execute(f"SELECT {_COLUMNS} FROM events"))
            return None
        except (_DamagedError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode & 0xFF not in _DAMAGE:
                raise
        log, index = path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")
        aside = dated(path.with_name(f"{path.stem}.damaged{path.suffix}"))
        shutil.copy2(path, aside)
        if log.exists():
            shutil.copy2(log, aside.with_name(aside.name + "-wal"))
        fresh = path.with_name(path.name + ".mending")
        with tempfile.TemporaryDirectory(prefix="refract-") as folder:  # SQLite may write to what it opens
            copy = Path(folder) / NAME
            shutil.copy2(path, copy)
            if log.exists():
                shutil.copy2(log, copy.with_name(copy.name + "-wal"))
            found = salvage.events(copy)
        _begin(fresh, found)
        log.unlink(missing_ok=True)  # or SQLite would replay the old log into the new file
        index.unlink(missing_ok=True)
        fresh.replace(path)
    return f"The progress file was damaged: {_count(found)} saved from it, the damaged file kept as {aside}."


def _begin(path: Path, found: list[Event]) -> None:
    """A new store at ``path`` with the events found, and those in what an attempt that was killed left there."""
    earlier: list[Event] = []
    if path.exists():
        with contextlib.suppress(RefractError):
            earlier = read_file(path, lambda _: None)
    for part in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        part.unlink(missing_ok=True)
    Store(path, lambda _: None).merge([*earlier, *found])


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """A lock between processes that ends with its holder, however that ends: SQLite's own, on an empty file."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def dated(path: Path) -> Path:
    """``path`` with the time in its name, and a number if that is taken: ``s1.2026-03-01-120000.ipynb``."""
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    free, number = path.with_name(f"{path.stem}.{stamp}{path.suffix}"), 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}.{stamp}-{number}{path.suffix}")
    return free


def _not_ours(path: Path) -> RefractError:
    return RefractError(
        f"{path} is not a progress file of Refract; it was left as it is.",
        "Name a progress file (.db), a zip made by `refract export`, or, in REFRACT_HOME, another folder.",
    )


def _count(events: list[Event]) -> str:
    return f"{len(events)} event{'' if len(events) == 1 else 's'}"


def _cut(text: str | None, most: int) -> str | None:
    mark = " ... [cut]"
    return text if text is None or len(text) <= most else text[: most - len(mark)] + mark


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)
