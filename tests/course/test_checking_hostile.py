"""Whatever an answer does: it is named, this process and its variables live, and the next check is unaffected."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from refract.checking import client, run_checks
from refract.paths import SectionPaths

FORKS = sys.platform.startswith("linux")


def _load_answers() -> ModuleType:
    file = Path(__file__).parent / "hostile" / "answers.py"
    spec = importlib.util.spec_from_file_location("hostile_answers", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hostile_answers"] = module
    spec.loader.exec_module(module)
    return module


ANSWERS = _load_answers()
# What the two strategies do differently: how a process that has ended or is late is met.
CHOSEN = ("endless_call_in_c", "prints_fifty_megabytes", "exits_with_success", "segmentation_fault")


def good(x):
    return 2 * x


def state() -> dict[str, Any]:
    """What of this process an answer might have changed."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "patched": (torch.rand, torch.nn.functional.relu, torch.Tensor.__add__, torch.isclose, len, print),
        "folder": Path.cwd(),
        "files": sorted(Path.cwd().iterdir()),
        "environment": {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "threads": {thread.name for thread in threading.enumerate() if not thread.name.startswith("refract-")},
        "output": (sys.stdout, sys.stderr, sys.stdin),
    }


def survive(case: Any, toy: SectionPaths, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_checks(toy, "double", good, strategy).passed  # what is timed below begins with a worker that is ready
    before = state()
    with monkeypatch.context() as patch:
        if case.late:
            patch.setenv("REFRACT_CHECK_SECONDS", "1.5")
        began = time.monotonic()
        if case.late:
            before["environment"] = state()["environment"]
        result = run_checks(toy, "double", case.answer, strategy)
        took = time.monotonic() - began
        assert state() == before
    assert result.status == case.status, result
    assert case.words in result.message, result
    assert took < 10
    following = run_checks(toy, "double", good, strategy)
    assert following.passed, following


@pytest.mark.skipif(not FORKS, reason="the fork server is for Linux")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in ANSWERS.ALL])
def test_fork_server_survives(case, toy, monkeypatch):
    client.pool("fork").warm()
    server = client.pool("fork").pid
    survive(case, toy, "fork", monkeypatch)
    assert client.pool("fork").pid == server  # it is the fork that was ended, not the server


@pytest.mark.parametrize("name", [*CHOSEN, "leaves_a_process"])
def test_standby_process_survives(name, toy, monkeypatch):
    case = next(each for each in ANSWERS.ALL if each.name == name)
    survive(case, toy, "standby", monkeypatch)


@pytest.mark.skipif(not FORKS, reason="the fork server is for Linux")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in ANSWERS.ON_THE_SERVER])
def test_server_that_is_attacked_is_replaced(case, toy, monkeypatch):
    before = client.pool("fork").pid
    survive(case, toy, "fork", monkeypatch)
    assert client.pool("fork").pid != before


@pytest.mark.skipif(not FORKS, reason="reads /proc")
def test_what_an_answer_leaves_running_is_ended(toy):
    """A process that has left its group and its parent is found all the same."""
    leaves = next(each for each in ANSWERS.ALL if each.name == "leaves_a_process")
    client.pool("fork").warm()
    server = client.pool("fork").pid
    assert run_checks(toy, "double", leaves.answer, "fork").status == "failed"
    assert client.pool("fork").pid == server
    assert _children(server) == []


def _children(parent: int | None) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(not FORKS, reason="reads /proc")
def test_temporary_folders_are_removed(toy, tmp_path, monkeypatch):
    def writes(x):
        Path("here.txt").write_text("mine")
        print(Path.cwd())
        return 0 * x

    result = run_checks(toy, "double", writes, "fork")
    folder = Path(result.output.split()[0])
    assert folder.name.startswith("refract-check-")
    assert not folder.exists()
