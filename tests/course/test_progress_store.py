"""The progress store: what goes in comes out, and merges in any order come to the same."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import refract
from refract.errors import RefractError
from refract.progress import Event, home, open_store
from refract.progress.events import make

SECTION = "ch1_demo/s1_demo"
REPOSITORY = Path(refract.__file__).resolve().parent.parent


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "progress.db")


def test_events_come_back_as_they_went_in(store):
    data = {"status": "failed", "message": "ünï\ud800\0", "seconds": 0.25, "nested": {"list": [1, None, True]}}
    identity = store.add("attempt", SECTION, "encode", **data)
    store.add("hint", SECTION, "encode", step=1)
    store.add("note", "ch2_other/s1_other", "")
    [event] = store.events("attempt")
    assert (event.id, event.kind, event.section, event.name) == (identity, "attempt", SECTION, "encode")
    assert event.data == data
    assert event.time.utcoffset().total_seconds() == 0
    assert [event.kind for event in store.events(section=SECTION)] == ["attempt", "hint"]
    assert [event.kind for event in store.events(name="")] == ["note"]
    assert store.sections() == [SECTION, "ch2_other/s1_other"]
    assert store.last_activity() == store.events()[-1].time


def test_an_event_survives_json(store):
    store.add("prediction", SECTION, "survivors", answer=[1, 2.5], confidence=0.75)
    [event] = store.events()
    assert Event.from_dict(event.to_dict()) == event


@pytest.mark.parametrize(
    "data",
    [
        {"loss": math.nan},
        {"deep": [{"loss": math.inf}]},
        {"tensor": object()},
        {"text": b"bytes"},
        {"nested": {1: "one"}},
        {"huge": "x" * 2_000_000},
    ],
    ids=["nan", "infinity", "object", "bytes", "key", "huge"],
)
def test_data_that_cannot_be_kept_is_refused_and_nothing_is_written(store, data):
    with pytest.raises(RefractError):
        store.add_many([("note", SECTION, "fine", {}), ("note", SECTION, "bad", data)])
    assert store.events() == []


def test_a_list_that_holds_itself_is_refused(store):
    endless: list = []
    endless.append(endless)
    with pytest.raises(RefractError, match="nested"):
        store.add("note", SECTION, "x", endless=endless)


@pytest.mark.parametrize(
    ("kind", "section", "name"), [("Not A Kind", "s", "n"), ("note", "\ud800", "n"), ("note", "s", 3)]
)
def test_bad_names_are_refused(store, kind, section, name):
    with pytest.raises(RefractError):
        store.add(kind, section, name)
    assert store.events() == []


def test_add_many_keeps_the_order(store):
    names = [f"e{number}" for number in range(50)]
    store.add_many(("note", SECTION, name, {}) for name in names)
    assert [event.name for event in store.events()] == names


def test_refract_home_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "deep" / "home"))
    store = open_store()
    assert home() == tmp_path / "deep" / "home"
    assert store.path == tmp_path / "deep" / "home" / "progress.db"
    assert store.path.exists()
    monkeypatch.delenv("REFRACT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert home() == tmp_path / "xdg" / "refract"


def test_merge_is_idempotent_and_free_of_order(tmp_path):
    generator = random.Random(1)
    for case in range(6):
        pool = [make("note", SECTION, f"e{number}", {"n": number}) for number in range(12)]
        parts = [generator.sample(pool, generator.randrange(0, 9)) for _ in range(3)]
        files = []
        for index, part in enumerate(parts):
            source = open_store(tmp_path / f"{case}-{index}.db")
            assert source.merge(part) == len(part)
            files.append(source.path)
        outcomes = []
        for turn in range(3):
            order = files[:] + generator.sample(files, 2)  # some of them twice
            generator.shuffle(order)
            target = open_store(tmp_path / f"{case}-target-{turn}.db")
            added = sum(target.merge(path) for path in order)
            assert added == len({event.id for part in parts for event in part})
            assert target.merge(target.events()) == 0
            outcomes.append(target.events())
        assert outcomes[0] == outcomes[1] == outcomes[2]


def test_merge_reads_a_zip_and_leaves_the_other_file_alone(store, tmp_path):
    other = open_store(tmp_path / "other.db")
    other.add("hint", SECTION, "encode", step=2)
    content = other.path.read_bytes()
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(other.path, "results/progress.db")
    assert store.merge(tmp_path / "export.zip") == 1
    assert store.merge(other.path) == 0
    assert other.path.read_bytes() == content
    assert store.hints_opened(SECTION, "encode") == 2


def test_merge_refuses_what_is_not_a_progress_file(store, tmp_path):
    (tmp_path / "text.db").write_text("not a database, and long enough to have a header of one hundred bytes" * 3)
    (tmp_path / "empty.db").touch()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE events (id TEXT)")
    foreign.close()
    for name in ("text.db", "empty.db", "other.zip", "foreign.db", "missing.db"):
        with pytest.raises(RefractError):
            store.merge(tmp_path / name)
    assert store.events() == []


def test_threads_and_processes_write_at_once(tmp_path):
    path = tmp_path / "new" / "progress.db"  # not there yet: they race to create it
    program = (
        "import sys; from pathlib import Path; from refract.progress import open_store\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "for n in range(40): store.add('note', 's', sys.argv[2], n=n)"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), f"p{number}"], cwd=REPOSITORY, stderr=subprocess.PIPE
        )
        for number in range(4)
    ]
    store = open_store(path)
    threads = [
        threading.Thread(target=lambda name=name: [store.add("note", "s", name, n=n) for n in range(40)])
        for name in ("t0", "t1")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors.decode()
    for name in ("p0", "p1", "p2", "p3", "t0", "t1"):
        assert [event.data["n"] for event in store.events(name=name)] == list(range(40))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_may_use_its_parents_store(store):
    store.add("note", SECTION, "parent")
    child = os.fork()
    if child == 0:
        try:
            store.add("note", SECTION, "child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert [event.name for event in store.events()] == ["parent", "child"]


def test_backup_is_one_file_with_everything(store, tmp_path):
    store.add_many(("note", SECTION, f"e{number}", {"text": "x" * 3000}) for number in range(100))
    store.backup(tmp_path / "copy.db")
    assert [path.name for path in tmp_path.glob("copy.db*")] == ["copy.db"]
    with sqlite3.connect(f"file:{tmp_path / 'copy.db'}?mode=ro", uri=True) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert copy.execute("SELECT count(*) FROM events").fetchone() == (100,)
    assert open_store(tmp_path / "copy.db").events() == store.events()
