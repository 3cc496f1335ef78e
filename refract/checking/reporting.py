"""Turn what pytest sees into what a learner reads: one outcome per test, with the learner's own frames."""

from __future__ import annotations

import builtins
import dis
import linecache
import os
import re
import traceback
from collections.abc import Callable, Collection, Generator
from types import TracebackType
from typing import Any

import pytest

from refract.checking import limits
from refract.checking.expect import CheckFailure, Malformed
from refract.checking.marks import mistake_of, title_of
from refract.checking.packing import PackedAnswer, is_library_file
from refract.checking.result import UNTOUCHED
from refract.checking.spelling import near

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
    """A pytest plugin: keeps the tests of one exercise, and emits what becomes of each.

    ``given`` tells the names that the section's own cells define, should one be missing.
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], None],
        exercise: str,
        packed: PackedAnswer,
        given: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._exercise, self._packed, self._process, self._given = exercise, packed, os.getpid(), given
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
            return {"status": "not attempted", "message": UNTOUCHED}
        words = traceback.format_exception_only(error)[-1].strip()
        if not frames:
            if isinstance(error, AssertionError):  # a plain assert in the test
                return {"message": _cut(str(error).split("\n")[0] or words), "mistake": mistake_of(item)}
            if isinstance(error, TypeError) and _REFUSED.search(words):
                return {"message": _cut(f"{_REFUSAL}\n  {words}")}
            return {"message": _cut(f"{_UNUSABLE}\n  {words}")}
        last = frames[-1]
        line = f": {last.line}" if last.line else ""
        where = f"line {last.lineno}" + ("" if last.name.startswith("<") else f", in `{last.name}`")
        return {
            "message": _cut(f"{self._raised(error)}\n  {where}{line}\n  {words}"),
            "traceback": self._traceback(error),
            "place": f"{type(error).__name__} at {last.filename}:{last.lineno}",
            "words": words.split("\n")[0],
        }

    def _raised(self, error: BaseException) -> str:
        if isinstance(error, RecursionError):
            return "Your code calls itself without end (recursion)."
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return f"Your code asked for more memory than a check may use ({limits.memory() / 2**30:.0f} GB)."
        if isinstance(error, NameError) and error.name is not None:
            return self._undefined(error.name, error.__traceback__)
        if isinstance(error, AttributeError) and isinstance(error.name, str):
            meant = near(error.name, _attributes(error.obj))
            return f"Your code asks for `{error.name}`, which is not there." + (f" {_meant(meant)}" if meant else "")
        if "grad can be implicitly created only for scalar outputs" in str(error):
            return (
                "Your code calls `backward` on a tensor of several numbers; it starts from one. If there is one loss "
                "per model, take their sum: no model's weights act on another's loss, so each gets its own gradient."
            )
        return "Your code raised an exception."

    def _undefined(self, name: str, tb: TracebackType | None) -> str:
        if name in self._packed.skipped:
            return (
                f"Your code uses `{name}` from {self._packed.skipped[name]}, which was not run: of a file only the "
                "definitions are. Pass it in as an argument."
            )
        text, given = f"Your code uses `{name}`, which is not defined.", self._given()
        if name in given:
            return f"{text} A cell of this section defines it: run that cell, then check again."
        meant = near(name, [*self._locals(tb), *self._packed.names, *given, *vars(builtins)])
        if meant is not None:
            return f"{text} {_meant(meant)} If not, run the cell that defines it."
        return f"{text} Is it misspelt? If not, define it above that line, or run the cell that defines it."

    def _locals(self, tb: TracebackType | None) -> list[str]:
        """The variables of the learner's own functions that were running, assigned or not."""
        frames = [frame for frame, _ in traceback.walk_tb(tb) if frame.f_code.co_filename in self._packed.sources]
        return [name for frame in reversed(frames) for name in (*frame.f_code.co_varnames, *frame.f_code.co_cellvars)]

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


_REFUSED = re.compile(r"\(\) (missing|takes|got) .*argument")
_REFUSAL = "Your function cannot be called as the exercise says. Keep the arguments of the exercise's first line."
_UNUSABLE = (
    "The test could not use what your answer returned. "
    "Compare its kind and its shape with what the exercise's first line promises."
)


def _meant(name: str) -> str:
    return f"It may be misspelt: did you mean `{name}`?"


def _attributes(value: Any) -> list[str]:
    try:
        return dir(value)
    except Exception:  # of an object whose class is the learner's, anything may be asked
        return []


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
