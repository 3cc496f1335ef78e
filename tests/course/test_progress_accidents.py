"""The progress store when things go wrong: killed writers, damaged files, foreign files, folders that refuse."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import refract
from refract.errors import RefractError
from refract.progress import open_store, salvage

SECTION = "ch1_demo/s1_demo"
REPOSITORY = Path(refract.__file__).resolve().parent.parent

# Writes pairs of events for ever; a pair's number is printed once the store has acknowledged it.
WRITER = """
import sys
from pathlib import Path
from refract.progress import open_store
store, life = open_store(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
number = 0
while True:
    pair = f"{life}-{number}"
    store.add_many([("note", "s", pair, {"half": half, "text": "x" * (number % 7 * 1500)}) for half in (0, 1)])
    print(pair, flush=True)
    number += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_at_any_moment_loses_nothing_acknowledged_and_leaves_no_half_transaction(tmp_path):
    path, generator, acknowledged = tmp_path / "progress.db", random.Random(0), set()
    lives = 6
    for life in range(lives):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"{life}{name}"],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in "ab"
        ]
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == "ready\n"
            for _ in range(generator.randrange(4)):  # so that the kill falls at ever other places
                acknowledged.add(writer.stdout.readline().strip())
        with contextlib.suppress(subprocess.TimeoutExpired):  # a random instant, in time too
            writers[0].wait(timeout=generator.random() * 0.05)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            lines = writer.communicate(timeout=30)[0].splitlines(keepends=True)
            acknowledged.update(line.strip() for line in lines if line.endswith("\n"))
            assert writer.returncode == -signal.SIGKILL

        notes: list[str] = []
        pairs = Counter(event.name for event in open_store(path, notes.append).events())
        assert notes == []  # not even taken for damaged
        assert set(pairs.values()) == {2}
        assert acknowledged <= set(pairs)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(acknowledged) > 2 * lives


def filled(path: Path, count: int = 300):
    """A store of several levels of pages, with events that overflow their page."""
    store = open_store(path)
    store.add_many(("note", SECTION, f"e{n}", {"n": n, "text": "ü" * (n % 10 * 700)}) for n in range(count))
    return store


def damage(path: Path, at: int, length: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[at : at + length] = random.Random(at).randbytes(len(content[at : at + length]))
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("page", [0, 1, 2, 5, 40])
def test_a_damaged_page_costs_at_most_what_was_on_it(tmp_path, page):
    path = tmp_path / "progress.db"
    before = filled(path).events()
    damaged = damage(path, page * salvage.PAGE, salvage.PAGE)

    notes: list[str] = []
    store = open_store(path, notes.append)
    after = store.events()
    assert {event.id for event in after} <= {event.id for event in before}
    assert all(event in before for event in after)
    assert len(after) >= len(before) - 40
    if page in (0, 1):  # the header and the root of the tree hold no events
        assert after == before
    [note] = notes
    [aside] = tmp_path.glob("progress.damaged.*.db")
    assert str(aside) in note
    assert "\n" not in note
    assert f"{len(after)} events" in note
    assert aside.read_bytes() == damaged
    store.add("note", SECTION, "later")
    assert len(open_store(path, notes.append).events()) == len(after) + 1
    assert len(notes) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_damage_while_the_store_is_open_is_mended_and_the_event_kept(tmp_path):
    path = tmp_path / "progress.db"
    notes: list[str] = []
    before = filled(path).events()
    store = open_store(path, notes.append)
    damage(path, 0, 100)
    store.add("note", SECTION, "new")
    assert [event.name for event in store.events()] == [*(event.name for event in before), "new"]
    assert len(notes) == 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_file_gives_what_is_left(tmp_path, share):
    path = tmp_path / "progress.db"
    notes: list[str] = []
    before = filled(path).events()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    after = open_store(path, notes.append).events()
    assert len(notes) == 1
    assert 0.6 * share * len(before) <= len(after) <= len(before)
    assert all(event in before for event in after)


def test_events_in_the_log_of_a_killed_writer_are_salvaged(tmp_path):
    path = tmp_path / "progress.db"
    filled(path, 50)
    # A connection that is held open keeps the log from being written back into the file.
    holder = sqlite3.connect(path)
    holder.execute("SELECT count(*) FROM events").fetchone()
    open_store(path).add_many(("note", SECTION, f"log{n}", {"n": n}) for n in range(5))
    log = path.with_name("progress.db-wal").read_bytes()
    main = path.read_bytes()
    holder.close()
    other = tmp_path / "other" / "progress.db"
    other.parent.mkdir()
    other.write_bytes(b"\xff" * 100 + main[100:])
    other.with_name("progress.db-wal").write_bytes(log)
    notes: list[str] = []
    names = [event.name for event in open_store(other, notes.append).events()]
    assert {f"log{n}" for n in range(5)} <= set(names)
    assert len(names) == 55
    assert len(notes) == 1


def test_a_log_that_sqlite_refuses_is_read_page_by_page(tmp_path):
    path = tmp_path / "progress.db"
    filled(path, 50)
    holder = sqlite3.connect(path)
    holder.execute("SELECT count(*) FROM events").fetchone()
    open_store(path).add_many(("note", SECTION, f"log{n}", {"text": "x" * 5000}) for n in range(5))
    log = bytearray(path.with_name("progress.db-wal").read_bytes())
    other = tmp_path / "other.db"
    other.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])
    holder.close()
    log[:32] = b"\xff" * 32
    other.with_name("other.db-wal").write_bytes(log)
    found = salvage.events(other)
    assert [event.data for event in found if event.name.startswith("log")] == [{"text": "x" * 5000}] * 5
    assert len(found) == 55


def test_a_row_that_is_no_event_is_left_behind_and_the_rest_kept(tmp_path):
    path = tmp_path / "progress.db"
    notes: list[str] = []
    store = filled(path, 20)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE events SET data = '{\"n\": ' WHERE name = 'e7'")
    connection.close()
    store = open_store(path, notes.append)
    assert [event.data["n"] for event in store.events()] == [n for n in range(20) if n != 7]
    assert len(notes) == 1


def test_a_mending_that_was_killed_is_taken_up_again(tmp_path):
    path = tmp_path / "progress.db"
    notes: list[str] = []
    filled(path, 20)
    half = open_store(tmp_path / "progress.db.mending")
    half.add("note", SECTION, "saved by the first attempt")
    damage(path, 0, 100)
    names = [event.name for event in open_store(path, notes.append).events()]
    assert len(names) == 21
    assert "saved by the first attempt" in names
    assert not half.path.exists()


READER = """
import sys
from pathlib import Path
from refract.progress import open_store
for round in sys.stdin:
    store = open_store(Path(round.strip()))
    print(len(store.events()), flush=True)
"""


def test_many_processes_find_the_damage_and_one_mends_it(tmp_path):
    readers = [
        subprocess.Popen([sys.executable, "-c", READER], cwd=REPOSITORY, stdin=-1, stdout=-1, stderr=-1, text=True)
        for _ in range(4)
    ]
    rounds = 8
    for number in range(rounds):
        path = tmp_path / f"{number}" / "progress.db"
        filled(path, 100)
        damage(path, 0, 100)
        for reader in readers:  # all wait in the same line: they go at once
            assert reader.stdin
            reader.stdin.write(f"{path}\n")
            reader.stdin.flush()
        for reader in readers:
            assert reader.stdout
            assert reader.stdout.readline() == "100\n"
        assert len(list(path.parent.glob("progress.damaged.*.db"))) == 1
    errors = [reader.communicate(timeout=60)[1] for reader in readers]
    assert sum(error.count("was damaged") for error in errors) == rounds, errors


def test_the_damaged_files_log_does_not_reach_the_new_file(tmp_path):
    path = tmp_path / "progress.db"
    filled(path, 50)
    holder = sqlite3.connect(path)  # keeps the log in its place
    holder.execute("SELECT count(*) FROM events").fetchone()
    open_store(path).add_many(("note", SECTION, f"log{n}", {"n": n}) for n in range(5))
    damage(path, 3 * salvage.PAGE, salvage.PAGE)
    notes: list[str] = []
    names = [event.name for event in open_store(path, notes.append).events()]
    assert {f"log{n}" for n in range(5)} <= set(names)
    assert len(notes) == 1
    holder.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [event.name for event in open_store(path, notes.append).events()] == names
    assert len(notes) == 1


def test_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "progress.db"
    filled(path, 20)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(RefractError, match="newer") as caught:
        open_store(path)
    assert "Update Refract" in caught.value.remedy
    with pytest.raises(RefractError, match="newer"):
        open_store(tmp_path / "mine.db").merge(path)
    assert path.read_bytes() == content
    assert sorted(other.name for other in tmp_path.iterdir()) == ["mine.db", "progress.db"]


@pytest.mark.parametrize("version", [0, 7])
def test_another_programs_database_is_refused_and_left_alone(tmp_path, version):
    path = tmp_path / "progress.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(RefractError, match="not a progress file"):
        open_store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(RefractError, match=r"cannot be used") as caught:
        open_store()
    assert "REFRACT_HOME" in caught.value.remedy


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and POSIX permissions")
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_a_read_only_folder_is_a_clear_error(tmp_path, existing):
    folder = tmp_path / "home"
    folder.mkdir()
    if existing:
        open_store(folder / "progress.db").add("note", SECTION, "before")
        (folder / "progress.db").chmod(0o444)
    folder.chmod(0o555)
    descriptor = os.open(folder, os.O_RDONLY)
    child = os.fork()
    if child == 0:  # root may write anywhere: be nobody, in a process of its own
        code = 9
        try:
            os.fchdir(descriptor)  # a relative path, as nobody may not enter the folders above
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                open_store(Path("progress.db")).add("note", SECTION, "x")
                code = 1
            except RefractError as error:
                code = 0 if "cannot be used" in error.problem and "writable" in error.remedy else 2
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(descriptor)
    folder.chmod(0o755)
    assert status == 0
    assert not existing or len(list(folder.glob("*.damaged*"))) == 0


def test_a_file_that_is_locked_for_too_long_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("refract.progress.store.BUSY_SECONDS", 0.1)
    store = open_store(tmp_path / "progress.db")
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(RefractError, match="in use"):
            store.add("note", SECTION, "x")
    finally:
        holder.close()
    store.add("note", SECTION, "x")
    assert len(store.events()) == 1
