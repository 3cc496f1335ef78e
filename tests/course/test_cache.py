"""The cache: filled whole or not at all, by one process at a time, and clear about what is wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refract import cache
from refract.errors import RefractError
from refract.paths import root


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REFRACT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_folder_is_the_variable_s_or_the_system_s(own, monkeypatch):
    assert cache.folder() == own
    monkeypatch.setenv("REFRACT_CACHE", "~/somewhere")
    assert cache.folder() == Path.home() / "somewhere"
    monkeypatch.delenv("REFRACT_CACHE")
    assert cache.folder().name == "refract" or "refract" in cache.folder().parts


def test_a_folder_appears_when_it_is_whole_and_replaces_the_old_one(own):
    target = own / "thing"
    for text in ("first", "second"):
        with cache.whole(target) as partial:
            assert partial != target
            (partial / text).write_text(text)
            assert not (target / text).exists()
        assert [path.name for path in target.iterdir()] == [text]
    assert [path.name for path in own.iterdir()] == ["thing"]


@pytest.mark.parametrize("fault", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(own, fault):
    with cache.whole(own / "thing") as partial:
        (partial / "file").write_text("good")
    with pytest.raises(type(fault)), cache.whole(own / "thing") as partial:
        (partial / "file").write_text("half")
        raise fault
    assert (own / "thing/file").read_text() == "good"
    assert [path.name for path in own.iterdir()] == ["thing"]


def test_a_full_disk_is_said_before_and_on_the_way(own):
    message = r"is full: .* MB are free and 1000000000000 MB are needed"
    with pytest.raises(RefractError, match=message) as caught, cache.whole(own / "thing", needs=10**18):
        pytest.fail("the block must not begin")
    assert "REFRACT_CACHE" in caught.value.remedy
    with pytest.raises(RefractError, match="is full: No space left"), cache.whole(own / "thing"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(own.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REFRACT_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(RefractError, match="cannot be used as a cache") as caught, cache.locked("thing"):
        pytest.fail("the block must not begin")
    assert "Set REFRACT_CACHE" in caught.value.remedy


def python(script: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(root())}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)


FILL = """
from refract import cache
with cache.locked("thing"), cache.whole(cache.folder() / "thing") as partial:
    (partial / "half").write_text("half")
    print("begun", flush=True)
    import time; time.sleep(60)
"""


def test_a_process_killed_half_way_is_cleaned_up_after(own):
    process = python(FILL)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (own / "thing.partial/half").exists()
    with cache.locked("thing"), cache.whole(own / "thing") as partial:
        (partial / "whole").write_text("whole")
    assert {path.name for path in own.iterdir()} == {"thing", "thing.lock"}
    assert [path.name for path in (own / "thing").iterdir()] == ["whole"]


COUNT = """
import time
from refract import cache
for _ in range(20):
    with cache.locked("sum"):
        file = cache.folder() / "sum"
        now = int(file.read_text()) if file.exists() else 0
        time.sleep(0.001)
        file.write_text(str(now + 1))
"""


def test_one_process_at_a_time(own):
    processes = [python(COUNT) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert (own / "sum").read_text() == "60"


def test_who_waits_says_so_and_not_for_ever(own, monkeypatch, capsys):
    process = python(FILL)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setattr(cache, "PATIENCE", 0.2)
    began = time.perf_counter()
    try:
        with pytest.raises(RefractError, match="has been preparing thing"), cache.locked("thing"):
            pytest.fail("the block must not begin")
    finally:
        process.kill()
        process.wait()
    assert time.perf_counter() - began < 5
    assert "Waiting for it" in capsys.readouterr().out
