"""Turn what pytest sees into what a learner reads: one outcome per test, with the learner's own frames."""

from __future__ import annotations

import dis
import linecache
import os
import traceback
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any

import pytest

from refract.checking import limits
from refract.checking.expect import CheckFailure, Malformed
from refract.checking.marks import mistake_of, title_of
from refract.checking.packing import PackedAnswer, is_library_file

_LINES = 40  # lines of a traceback that are kept
_LETTERS = 4_000  # characters of a message that are kept


def remember(sources: dict[str, list[str]]) -> None:
    """Let tracebacks show the learner's lines, which no file on this side holds."""
    for file, lines in sources.items():
        if lines:
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def test_name(nodeid: str) -> str:
    """A test's name within its file."""
    return nodeid.split("::", 1)[-1]


class Reporter:
    """A pytest plugin: keeps the tests of one exercise, and emits what becomes of each."""

    def __init__(self, emit: Callable[[dict[str, Any]], None], exercise: str, packed: PackedAnswer) -> None:
        self._exercise, self._packed, self._process = exercise, packed, os.getpid()
        self._send = emit
        self.broken = ""

    def _emit(self, event: dict[str, Any]) -> None:
        if os.getpid() == self._process:  # an answer that forks reports once
            self._send(event)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self._exercise in getattr(item, "fixturenames", ())]
        self._emit({"event": "plan", "tests": [[test_name(item.nodeid), title_of(item)] for item in items]})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken = str(report.longrepr)

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.broken = str(excrepr)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._emit({"event": "test", "name": test_name(nodeid)})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
        report = yield
        if call.when == "call" or not report.passed:
            outcome: dict[str, Any] = {"event": "outcome", "name": test_name(item.nodeid), "status": report.outcome}
            error = None if call.excinfo is None else call.excinfo.value
            if error is not None and (report.failed or self._own_frames(error.__traceback__)):
                outcome |= {"status": "failed"} | self._explain(item, error)
            elif report.skipped:
                outcome["message"] = str(error or "")
            self._emit(outcome)
        report.longrepr = None  # rendering a traceback costs more than the tests
        return report

    def _explain(self, item: pytest.Item, error: BaseException) -> dict[str, Any]:
        frames = self._own_frames(error.__traceback__)
        if isinstance(error, pytest.skip.Exception):
            return {"message": "Your code skips the test."}
        if isinstance(error, CheckFailure):
            named = error.mistake or (None if isinstance(error, Malformed) else mistake_of(item))
            cause = error.__cause__
            shown = self._traceback(cause) if cause is not None else ""
            return {"message": _cut(str(error)), "mistake": named, "traceback": shown}
        if _is_stub(error):
            return {"status": "not attempted", "message": "Not attempted yet."}
        words = traceback.format_exception_only(error)[-1].strip()
        if not frames:
            if isinstance(error, AssertionError):  # a plain assert in the test
                return {"message": _cut(str(error).split("\n")[0] or words), "mistake": mistake_of(item)}
            return {"message": _cut(f"The test could not use what your answer returned.\n  {words}")}
        return {"message": _cut(self._raised(error, words)), "traceback": self._traceback(error)}

    def _raised(self, error: BaseException, words: str) -> str:
        if isinstance(error, RecursionError):
            return f"Your code calls itself without end (recursion).\n  {words}"
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return (
                f"Your code asked for more memory than a check may use ({limits.memory() / 2**30:.0f} GB).\n  {words}"
            )
        if isinstance(error, NameError) and error.name in self._packed.skipped:
            where = self._packed.skipped[error.name]
            return (
                f"Your code uses `{error.name}` from {where}, which was not run: of a file only the definitions are. "
                f"Pass it in as an argument.\n  {words}"
            )
        if isinstance(error, NameError) and error.name is not None:
            return f"Your code uses `{error.name}`, which is not defined. Run the cell that defines it.\n  {words}"
        return f"Your code raised an exception.\n  {words}"

    def _own_frames(self, tb: TracebackType | None) -> list[traceback.FrameSummary]:
        """The frames of the learner's own code."""
        return [frame for frame in traceback.extract_tb(tb) if frame.filename in self._packed.sources]

    def _traceback(self, error: BaseException) -> str:
        frames = [
            traceback.FrameSummary(_place(frame.filename), frame.lineno, frame.name, line=frame.line)
            for frame in self._own_frames(error.__traceback__)
        ]
        lines = "".join(traceback.StackSummary.from_list(frames).format()).splitlines()
        if len(lines) > _LINES:
            lines = [*lines[: _LINES // 2], "  …", *lines[-_LINES // 2 :]]
        return "\n".join([*lines, _cut(traceback.format_exception_only(error)[-1].strip())]) if lines else ""


def _place(file: str) -> str:
    """A file name that means something to the learner."""
    return "your notebook" if "ipykernel_" in file or file.startswith("<ipython-input") else file


def _is_stub(error: BaseException) -> bool:
    """A ``raise NotImplementedError`` written in Python, not an operation that torch lacks for some dtype."""
    tb = error.__traceback__
    if not isinstance(error, NotImplementedError) or tb is None:
        return False
    while tb.tb_next is not None:
        tb = tb.tb_next
    code = tb.tb_frame.f_code
    return dis.opname[code.co_code[tb.tb_lasti]] == "RAISE_VARARGS" and not is_library_file(code.co_filename)


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else text[:_LETTERS] + "…"
