"""One check, inside the worker: limits, the answer unpacked, pytest run, each outcome reported as it falls.

Events go out as they happen, so that whoever supervises knows which test was running when an answer hangs or
ends the process. Nothing here is trusted to return.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from refract.checking import guard, limits
from refract.checking.packing import PackedAnswer

Emit = Callable[[dict[str, Any]], None]

# What a check does not use costs time at every check.
_PLUGINS_OFF = (
    "cacheprovider", "warnings", "logging", "doctest", "pastebin", "junitxml", "faulthandler", "unraisableexception",
    "threadexception", "debugging", "stepwise", "setuponly", "setupplan", "legacypath", "recwarn", "terminal",
)  # fmt: skip


def judge(request: dict[str, Any], emit: Emit) -> None:
    """Check one answer and emit ``plan``, ``test``, ``outcome`` and at last ``done`` events."""
    prepare(request)
    printed = limits.Printed(lambda text: emit({"event": "stop", "message": text}))
    limits.redirect(printed)
    began = time.perf_counter()
    trouble = _judge(request, emit)
    if trouble is not None:
        emit(trouble)
    emit({"event": "done", "seconds": time.perf_counter() - began, "output": printed.text()})


def prepare(request: dict[str, Any]) -> None:
    """Make this process safe to run an answer in, and see the course as the caller does."""
    for variable in [name for name in os.environ if name.startswith("REFRACT_WORKER")]:
        del os.environ[variable]
    os.environ["REFRACT_ROOT"] = request["root"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    sys.path.insert(0, request["root"])
    sys.path.extend(folder for folder in request["path"] if folder not in sys.path)
    sys.dont_write_bytecode = False
    with contextlib.suppress(OSError):
        os.chdir(request["folder"])
    tempfile.tempdir = request["folder"]
    limits.apply()
    guard.watch_random_seed()


def _judge(request: dict[str, Any], emit: Emit) -> dict[str, Any] | None:
    """Run the tests; return a last event if something stood in the way."""
    import pytest

    from refract import reference
    from refract.checking import given, plugin, rebinding, reporting
    from refract.paths import SectionPaths

    paths, name = SectionPaths(request["chapter"], request["section"]), request["exercise"]
    packed = PackedAnswer.from_message(request["answer"])
    reporting.remember(packed.sources)
    sys.path.extend(folder for folder in packed.path if folder not in sys.path)
    try:
        due = reference.get(paths, name)
        others = {other: reference.get(paths, other) for other in request["exercises"] if other != name}
    except Exception as error:
        return {"event": "broken", "message": f"The reference of {paths.id} does not load: {error!r}"}
    try:
        answer = pickle.loads(packed.data)
    except BaseException as error:
        text = f"Your answer could not be set up again for the check: {type(error).__name__}: {error}"
        return {"event": "stop", "message": text}
    problem = rebinding.kind_problem(name, answer, due)
    if problem is not None:
        return {"event": "wrong kind", "message": problem}
    rebinding.rebind(answer, others)

    reporter = reporting.Reporter(emit, name, packed, lambda: {*given.names(paths), *others})
    provider = plugin.Provider(paths, request["exercises"], {name: answer})
    arguments = [
        str(paths.tests), "-c", os.devnull, "--rootdir", request["root"],
        "--import-mode=importlib", "--noconftest", "-s",
        *(part for off in _PLUGINS_OFF for part in ("-p", f"no:{off}")),
    ]  # fmt: skip
    code = pytest.main(arguments, plugins=[plugin, plugin.Provided(provider), reporter])
    if reporter.broken:
        return {"event": "broken", "message": reporter.broken}
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        return {"event": "broken", "message": f"pytest could not run {paths.tests} (exit code {int(code)})."}
    return None


def load(request: dict[str, Any], emit: Emit) -> None:
    """Execute a file's definitions (see :mod:`refract.checking.definitions`) and emit the packed answers."""
    from refract.checking import definitions

    prepare(request)
    printed = limits.Printed(lambda text: emit({"event": "stop", "message": text}))
    limits.redirect(printed)
    emit({"event": "loaded", **definitions.load(request, lambda cell: emit({"event": "test", "name": cell}))})
    emit({"event": "done"})
