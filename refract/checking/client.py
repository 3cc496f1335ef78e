"""The caller's side of the worker: start it, ask it, replace it. Nothing here waits without a limit."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from refract.checking import supervision
from refract.checking.supervision import ENDED, LATE, Report
from refract.checking.worker import ADDRESS, KEY, STRATEGY
from refract.errors import RefractError

_START = 120.0  # seconds for a worker to import torch on a slow disk
_GRACE = 3.0  # seconds beyond a check's limit after which the worker itself is taken for dead


def limit() -> float:
    """Seconds that one check may take (``REFRACT_CHECK_SECONDS``)."""
    return float(os.environ.get("REFRACT_CHECK_SECONDS", "8"))


def default_strategy() -> str:
    """Fork where forking a process that holds torch is safe, else "standby" (``REFRACT_CHECK_STRATEGY``)."""
    return os.environ.get("REFRACT_CHECK_STRATEGY") or ("fork" if sys.platform.startswith("linux") else "standby")


class _Gone(Exception):
    """The worker is not there any more."""


class Worker:
    """One worker process, and the connection to it."""

    def __init__(self, strategy: str) -> None:
        self.strategy, self.owner = strategy, os.getpid()
        key = secrets.token_bytes(32)
        self.process, self.connection = _start(strategy, key)

    def wait_until_ready(self) -> None:
        """Wait for the worker's imports. Raises RefractError if it cannot run at all."""
        try:
            if not self.connection.poll(_START):
                raise _Gone
            greeting = supervision.receive(self.connection)
        except (EOFError, OSError, ValueError, _Gone):
            self.end()
            raise RefractError("The checker's process did not start.", _REMEDY) from None
        if greeting["event"] != "ready":
            self.end()
            raise RefractError(f"The checker's process did not start: {greeting['message']}", _REMEDY)

    @property
    def alive(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, request: dict[str, Any]) -> Report:
        """One request. Raises _Gone if the worker dies before it reports."""
        try:
            supervision.send(self.connection, request)
        except (OSError, ValueError):
            raise _Gone from None
        if self.strategy == "standby":
            report = supervision.follow(self.connection, request["seconds"])
            if report.ending == ENDED:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    report.exit = self.process.wait(1)
            return report
        try:
            if not self.connection.poll(request["seconds"] + _GRACE):
                return Report([], LATE)
            answer = supervision.receive(self.connection)
        except (EOFError, OSError, ValueError):
            raise _Gone from None
        return Report(answer["events"], answer["ending"], answer["exit"])

    def end(self) -> None:
        """Kill the process and its group."""
        with contextlib.suppress(OSError):
            self.connection.close()
        if self.owner != os.getpid():
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


_REMEDY = f"See why with: {Path(sys.executable).name} -m refract.checking.worker"


def _start(strategy: str, key: bytes) -> tuple[subprocess.Popen[bytes], Any]:
    listener = Listener(authkey=key)
    package = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {
        ADDRESS: str(listener.address),
        KEY: key.hex(),
        STRATEGY: strategy,
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
        # One thread: a check is small, and OpenMP's threads do not survive a fork.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
    }
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    process = subprocess.Popen(
        # -P: a learner's random.py in the working folder must not stand in for the library's.
        [sys.executable, "-P", "-m", "refract.checking.worker"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment, cwd=package, **options,
    )  # fmt: skip
    return process, _accept(listener, process, key)


def _accept(listener: Listener, process: subprocess.Popen[bytes], key: bytes) -> Any:
    """The worker's connection. accept() knows no limit, so a thread waits in it, and is let go if the worker dies."""
    accepted: queue.Queue[Any] = queue.Queue()

    def accept() -> None:
        try:
            accepted.put(listener.accept())
        except Exception as error:
            accepted.put(error)

    threading.Thread(target=accept, name="refract-accept", daemon=True).start()
    connection: Any = None
    for _ in range(int(_START * 10)):
        with contextlib.suppress(queue.Empty):
            connection = accepted.get(timeout=0.1)
            break
        if process.poll() is not None:
            break
    if connection is None:
        with contextlib.suppress(Exception):
            Client(listener.address, authkey=key).close()
    listener.close()
    if connection is None or isinstance(connection, Exception):
        process.kill()
        process.wait()
        raise RefractError("The checker's process did not start.", _REMEDY)
    return connection


class Pool:
    """Keeps one worker warm, and asks it one thing at a time."""

    def __init__(self, strategy: str | None = None) -> None:
        self.strategy = strategy or default_strategy()
        self._lock = threading.RLock()
        self._worker: Worker | None = None

    def warm(self) -> None:
        """Have a worker ready. Returns when it is."""
        with self._lock:
            if self._worker is None or not self._worker.alive:
                self._drop()
                self._worker = Worker(self.strategy)
                self._worker.wait_until_ready()

    def warm_in_background(self) -> None:
        """Return at once; a worker is ready a few seconds later. Trouble shows at the first check."""

        def start() -> None:
            with contextlib.suppress(RefractError):
                self.warm()

        threading.Thread(target=start, name="refract-warm", daemon=True).start()

    def ask(self, request: dict[str, Any]) -> Report:
        """One request, answered within its ``seconds`` (and the worker's start, if it is not warm)."""
        with self._lock:
            for _ in range(
                2
            ):  # a worker that died since is replaced; one that dies of the request is not tried a third time
                self.warm()
                assert self._worker is not None
                try:
                    report = self._worker.ask(request)
                except _Gone:
                    self._drop()
                    continue
                except BaseException:  # interrupted: what the worker says next would answer the wrong question
                    self._drop()
                    raise
                if self.strategy == "standby":
                    self._drop()
                    self.warm_in_background()
                elif report.ending == LATE and not report.events:
                    self._drop()
                return report
        return Report([], ENDED, None)

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._drop()

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._worker.process.pid if self._worker is not None else None

    def _drop(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


_pools: dict[str, Pool] = {}
_pools_lock = threading.Lock()


def pool(strategy: str | None = None) -> Pool:
    """This process's pool for a strategy."""
    strategy = strategy or default_strategy()
    with _pools_lock:
        if strategy not in _pools:
            _pools[strategy] = Pool(strategy)
        return _pools[strategy]


def warm() -> None:
    """Start the worker in the background, so that the first check does not wait for torch. Returns at once."""
    pool().warm_in_background()


@atexit.register
def _close() -> None:
    for each in list(_pools.values()):
        if each._lock.acquire(timeout=1):
            each.close()
            each._lock.release()


def _after_fork() -> None:
    # A fork of the kernel must neither use nor end its parent's worker.
    global _pools_lock  # noqa: PLW0603
    _pools_lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
