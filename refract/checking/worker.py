"""The process that judges answers: ``python -m refract.checking.worker``.

On Linux it is a fork server: everything heavy is imported once, and each check runs in a fork of its own. It
never runs a parallel torch operation itself, as OpenMP's threads would not survive the fork. Elsewhere it
judges one answer in itself and ends; the caller keeps the next one ready.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import functools
import gc
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from refract.checking import supervision
from refract.checking.supervision import ABANDONED, ENDED, Report

ADDRESS, KEY, STRATEGY = "REFRACT_WORKER_ADDRESS", "REFRACT_WORKER_KEY", "REFRACT_WORKER_STRATEGY"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Connect to the caller, import what checks need, serve."""
    if ADDRESS not in os.environ:
        _import_heavy()
        print("The checker's process starts. It is meant to be started by check(), not by hand.")
        return
    connection = Client(os.environ[ADDRESS], authkey=bytes.fromhex(os.environ[KEY]))
    try:
        _import_heavy()
    except BaseException as error:
        supervision.send(connection, {"event": "unable", "message": f"{type(error).__name__}: {error}"})
        raise
    supervision.send(connection, {"event": "ready"})
    serve = _serve_by_forking if os.environ[STRATEGY] == "fork" else _serve_once
    with contextlib.suppress(EOFError, OSError):  # the caller has gone
        serve(connection)
    os._exit(0)


def _import_heavy() -> None:
    import cloudpickle  # noqa: F401
    import einops  # noqa: F401
    import jaxtyping  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import torch

    from refract import reference  # noqa: F401
    from refract.checking import expect, guard, judging, marks, plugin, rebinding, reporting, watching  # noqa: F401

    torch.set_num_threads(1)
    guard.settle_torch()


def job(request: dict[str, Any]) -> Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], None]:
    """The function that a request asks for."""
    from refract.checking import judging

    return {"check": judging.judge, "load": judging.load}[request["job"]]


def _serve_once(connection: Any) -> None:
    """Judge one answer in this process. The caller kills it when it is late; a timer does if the caller is gone."""
    request = supervision.receive(connection)
    timer = threading.Timer(request["seconds"] + 5, os._exit, args=(1,))
    timer.daemon = True
    timer.start()
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        seconds = int(request["seconds"]) + 10
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with _folder() as folder:
        job(request)(request | {"folder": folder}, functools.partial(supervision.send, connection))
        # The caller ends this process: what the answer left running is killed with it.
        connection.poll(10)


def _serve_by_forking(connection: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # processes that an answer leaves behind become ours, to be ended
    parent = os.getppid()
    gc.collect()
    gc.freeze()
    while True:
        while not connection.poll(5):
            if os.getppid() != parent:
                return
        request = supervision.receive(connection)
        _import_libraries(request)
        with _folder() as folder:
            report = _in_a_fork(request | {"folder": folder}, connection, libc)
        if report.ending == ABANDONED:
            return
        supervision.send(connection, {"events": report.events, "ending": report.ending, "exit": report.exit})


def _in_a_fork(request: dict[str, Any], connection: Any, libc: Any) -> Report:
    reader, writer = multiprocessing.Pipe(duplex=False)
    server = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != server:
                os._exit(1)
            connection.close()
            reader.close()
            job(request)(request, functools.partial(supervision.send, writer))
        except BaseException as error:
            with contextlib.suppress(Exception):
                supervision.send(writer, {"event": "broken", "message": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(0)
    writer.close()
    report = supervision.follow(reader, request["seconds"], watch=connection)
    reader.close()
    if report.ending == ENDED:
        # The pipe is closed: either the process is ending, or the answer closed its end and lives on.
        report.exit = _exit_status(child)
    _end(child)
    return report


def _exit_status(child: int) -> int | None:
    """The exit status of a process that is about to end, or None if it does not."""
    done = threading.Event()
    for _ in range(100):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            return os.waitstatus_to_exitcode(status)
        done.wait(0.01)
    return None


def _end(child: int) -> None:
    """End a check's process, its group, and whatever else it left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """This process's children: those of a check that has ended are among them, as we are their subreaper."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def _folder() -> Any:
    folder = tempfile.mkdtemp(prefix="refract-check-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import_libraries(request: dict[str, Any]) -> None:
    """Import, before forking, the libraries that the section's reference and checkers name. Never the course itself."""
    for file in request["files"]:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            for name in _imports(file, Path(file).stat().st_mtime_ns):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


@functools.lru_cache(maxsize=256)
def _imports(file: str, _changed: int) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return tuple(sorted(name for name in names if name.partition(".")[0] not in ("refract", "solutions", "tests")))


if __name__ == "__main__":
    main()
    sys.exit(0)
