"""``pytest --answers FILE``: a file's answers, each judged once in the worker, and the tests that report on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refract.checking import plugin
from refract.checking.answers import LoadedAnswers, load_answers, section_in
from refract.checking.reporting import test_name
from refract.checking.result import FAILED, NOT_ATTEMPTED, PASSED, STOPPED, CheckResult
from refract.checking.running import run_checks
from refract.errors import RefractError
from refract.paths import SectionPaths


class AnswerSheet:
    """The answers of one file, and what became of them."""

    def __init__(self, paths: SectionPaths, file: Path, loaded: LoadedAnswers) -> None:
        self.paths, self._file, self._loaded = paths, file, loaded
        self._results: dict[str, CheckResult] = {}
        self._told: set[str] = set()

    @classmethod
    def open(cls, file: Path, config: pytest.Config) -> AnswerSheet:
        """Find the section (the notebook's metadata, the file's name, or the one test file named) and load."""
        try:
            paths = section_in(file) or _named(config) or SectionPaths.parse(file.stem)
            return cls(paths, file, load_answers(file, paths))
        except RefractError as error:
            raise pytest.UsageError(str(error)) from None

    def item(self, item: pytest.Item) -> pytest.Item:
        """A test that reports what became of ``item`` in the worker."""
        names, module = plugin.exercises_of(item), item.getparent(plugin.SectionModule)
        assert module is not None
        replaced: AnswerItem = AnswerItem.from_parent(
            module, name=item.name, sheet=self, exercises=names, where=item.reportinfo()
        )
        replaced.own_markers = [
            mark for mark in item.own_markers if mark.name not in ("skipif", "xfail", "usefixtures")
        ]
        return replaced

    def result(self, name: str) -> CheckResult:
        """The check of one exercise, made when it is first asked for."""
        if name not in self._results:
            if name in self._loaded.answers:
                self._results[name] = run_checks(self.paths, name, self._loaded.answers[name])
            else:
                self._results[name] = CheckResult(self.paths.id, name, NOT_ATTEMPTED)
        return self._results[name]

    def whole(self, name: str) -> str:
        """Why an exercise could not be judged at all: in full once, then in brief."""
        if name in self._told:
            return f"{name}: could not be checked, as said above."
        self._told.add(name)
        return f"{name}: {self.result(name).message}"

    def summarise(self, terminal: Any) -> None:
        """One line per exercise, then what was left out of the file."""
        terminal.section(f"{self.paths.id}: {self._file.name}")
        width = max(map(len, self._results), default=0)
        for name, result in self._results.items():
            passed, total = result.count
            shown = " (solution shown)" if name in self._loaded.shown else ""
            count = (
                f", {passed} of {total} test{'s' * (total != 1)}" if total and result.status != NOT_ATTEMPTED else ""
            )
            terminal.write_line(f"{name:{width}}  {result.status}{count}{shown}")
        for note in self._loaded.notes:
            terminal.write_line(f"note: {note}")


class AnswerFailure(Exception):
    """An answer failed a test; the text is for the learner."""


class AnswerItem(pytest.Item):
    """Stands in for a test: judged in the worker, reported here."""

    def __init__(self, *, sheet: AnswerSheet, exercises: Sequence[str], where: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._sheet, self._exercises, self._where = sheet, exercises, where

    def runtest(self) -> None:
        for name in self._exercises:
            result = self._sheet.result(name)
            outcome = next((test for test in result.tests if test.name == test_name(self.nodeid)), None)
            if result.status == NOT_ATTEMPTED or (outcome is not None and outcome.status == NOT_ATTEMPTED):
                pytest.skip(f"{name}: not attempted")
            if outcome is not None and outcome.status in (FAILED, STOPPED):
                raise AnswerFailure(f"{name}: {outcome.title}\n{outcome.message}")
            if result.status in (FAILED, STOPPED) and not result.failing:
                raise AnswerFailure(self._sheet.whole(name))
            if outcome is None or outcome.status != PASSED:
                pytest.skip(f"{name}: {outcome.message or outcome.status}" if outcome else f"{name}: not run")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, AnswerFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> Any:
        return self._where


def _named(config: pytest.Config) -> SectionPaths | None:
    """The section of the one test file on the command line."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS or len(config.args) != 1:
        return None
    return plugin.section_of(Path(config.args[0].partition("::")[0]).resolve())
