"""The worker's life: it starts once, is replaced when it dies, and ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from refract.checking import client, run_checks, warm
from refract.checking.client import Pool
from refract.errors import RefractError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, sends signals")


def good(x):
    return 2 * x


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    return not alive(pid)


def test_one_worker_serves_all_checks(toy):
    assert run_checks(toy, "double", good, "fork").passed
    first = client.pool("fork").pid
    assert run_checks(toy, "double", good, "fork").passed
    assert client.pool("fork").pid == first


def test_a_worker_killed_between_checks_is_replaced(toy):
    run_checks(toy, "double", good, "fork")
    first = client.pool("fork").pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert run_checks(toy, "double", good, "fork").passed
    assert client.pool("fork").pid != first


def test_warming_returns_at_once(monkeypatch):
    monkeypatch.setattr(client, "_pools", {})
    began = time.monotonic()
    warm()
    assert time.monotonic() - began < 0.5
    client.pool().close()


@pytest.mark.parametrize("strategy", ["fork", "standby"])
@pytest.mark.parametrize("last_words", ["os.kill(os.getpid(), 9)", "sys.exit()"])
def test_the_worker_ends_with_its_parent(strategy, last_words):
    program = f"""
    import os, sys
    from refract.checking.client import Pool
    pool = Pool({strategy!r})
    pool.warm()
    print(pool.pid, flush=True)
    {last_words}
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert gone(int(done.stdout)), done.stderr


def test_an_answer_ends_with_the_kernel(toy, tmp_path):
    """A kernel that is killed in the middle of a check leaves neither worker nor answer behind."""
    mark = tmp_path / "pid"
    program = f"""
    import os, sys, threading
    from refract.checking import run_checks
    from refract.paths import SectionPaths
    def answer(x):
        with open({str(mark)!r}, "w") as file:
            print(os.getpid(), file=file)
        while True:
            pass
    run_checks(SectionPaths("ch1_toy", "s1_first"), "double", answer, "fork")
    """
    environment = os.environ | {"REFRACT_CHECK_SECONDS": "60"}
    kernel = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], env=environment)
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text().endswith("\n")) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    kernel.kill()
    kernel.wait()
    assert gone(int(mark.read_text()))


def test_an_interrupted_check_leaves_the_next_one_right(toy, monkeypatch):
    """What the worker says after an interrupt is not taken for the next check's result."""

    def wrong(x):
        return x

    run_checks(toy, "double", good, "fork")
    ask = client.Worker.ask

    def interrupted(self, request):
        from refract.checking import supervision

        supervision.send(self.connection, request)
        assert self.connection.poll(10)  # the result is there, and nobody takes it
        raise KeyboardInterrupt

    monkeypatch.setattr(client.Worker, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_checks(toy, "double", wrong, "fork")
    monkeypatch.setattr(client.Worker, "ask", ask)
    assert run_checks(toy, "double", good, "fork").passed


def test_a_fork_of_the_kernel_leaves_its_worker_alone(toy):
    run_checks(toy, "double", good, "fork")
    worker = client.pool("fork").pid
    child = os.fork()
    if child == 0:
        os._exit(0 if client._pools == {} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run_checks(toy, "double", good, "fork").passed
    assert client.pool("fork").pid == worker


def test_threads_may_check_at_once(toy):
    results = []
    threads = [threading.Thread(target=lambda: results.append(run_checks(toy, "double", good))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [result.passed for result in results] == [True] * 4


def test_a_worker_that_cannot_start_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RefractError, match="did not start"):
        Pool("fork").warm()


def test_a_learners_file_does_not_stand_in_for_a_library(toy, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise RuntimeError('not the library')")
    (tmp_path / "random.py").write_text("raise RuntimeError('not the library')")
    monkeypatch.chdir(tmp_path)
    fresh = Pool("fork")
    fresh.warm()
    assert fresh.pid is not None
    fresh.close()
