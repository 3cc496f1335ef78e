"""Answers whose verdict is known: wrong ones that must fail, and by what; right ones of another shape that must pass.

They stand in ``tests/<chapter>/answers_<section>.py``. ``python -m refract.checking.examples`` judges them all and
prints how many are caught; with ``--messages`` also what each wrong one is told, for you to read as a learner would.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from refract.authoring.source import load
from refract.checking.packing import PackedAnswer, pack
from refract.checking.result import FAILED, STOPPED, CheckResult
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections

T = TypeVar("T")
LEAST_WRONG, LEAST_RIGHT = 8, 3


@dataclass(frozen=True)
class Example:
    """One answer and the verdict that is due. Of a wrong one, exactly one of the three reasons is given."""

    exercise: str
    answer: Any
    name: str
    note: str
    right: bool = False
    mistake: str | None = None
    fails: str | None = None
    stopped: str | None = None

    def fault(self, result: CheckResult) -> str | None:
        """What is wrong with the verdict, or None if it is the one that is due."""
        if self.right:
            return None if result.passed else f"a right answer came out as {result.status}:\n{result!r}"
        if self.stopped is not None:
            due = result.status == STOPPED and self.stopped in result.message
            return None if due else f"should have been stopped ({self.stopped!r}), but came out as:\n{result!r}"
        if result.status != FAILED:
            return f"a wrong answer came out as {result.status}"
        if self.mistake is not None and result.mistake != self.mistake:
            return f"should be named {self.mistake!r}, but was named {result.mistake!r}:\n{result!r}"
        failing = {test.name.partition("[")[0] for test in result.failing} | {test.name for test in result.failing}
        if self.fails is not None and self.fails not in failing:
            return f"{self.fails} should fail; these do: {', '.join(sorted(failing))}"
        return None


_collected: list[Example] = []


def wrong(
    exercise: str,
    *,
    mistake: str | None = None,
    fails: str | None = None,
    stopped: str | None = None,
    name: str | None = None,
) -> Callable[[T], T]:
    """A wrong answer. It must be named ``mistake``, or fail the test ``fails``, or be stopped with these words."""
    if sum(reason is not None for reason in (mistake, fails, stopped)) != 1:
        raise TypeError(f"wrong({exercise!r}) takes exactly one of mistake=, fails= and stopped=")

    def keep(answer: T) -> T:
        text = _note(answer)
        _collected.append(
            Example(exercise, answer, name or _name(answer), text, mistake=mistake, fails=fails, stopped=stopped)
        )
        return answer

    return keep


def right(exercise: str, *, name: str | None = None) -> Callable[[T], T]:
    """A right answer that is not written as the reference is."""

    def keep(answer: T) -> T:
        _collected.append(Example(exercise, answer, name or _name(answer), _note(answer), right=True))
        return answer

    return keep


def _name(answer: Any) -> str:
    name = getattr(answer, "__name__", None)
    if name is None:
        raise TypeError("this answer has no name of its own: give name=")
    return str(name)


def _note(answer: Any) -> str:
    return (getattr(answer, "__doc__", None) or "").strip().split("\n")[0]


def load_examples(paths: SectionPaths) -> list[Example]:
    """The examples of a section, in the order of its file. Raises RefractError for a file that contradicts itself."""
    if not paths.answers.is_file():
        return []
    name = f"refract_answers.{paths.chapter}.{paths.section}"
    spec = importlib.util.spec_from_file_location(name, paths.answers)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling finds a function's module by its name
    _collected.clear()
    spec.loader.exec_module(module)
    examples = list(_collected)
    _collected.clear()
    names = [example.name for example in examples]
    for each in names:
        if names.count(each) > 1:
            raise RefractError(f"{paths.answers}: two answers are called {each!r}.", "Give each a name of its own.")
    exercises = {exercise.name for exercise in load(paths).exercises}
    for example in examples:
        if example.exercise not in exercises:
            raise RefractError(
                f"{paths.answers}: {example.name} answers {example.exercise!r}, which is no exercise.",
                f"Exercises: {', '.join(sorted(exercises))}.",
            )
    return examples


def stub_answer(paths: SectionPaths, name: str) -> PackedAnswer:
    """The generated stub of an exercise, as a learner's notebook defines it."""
    from refract.authoring import stubs

    space: dict[str, Any] = {"__name__": "__main__"}
    exec(stubs.read(paths).imports, space)  # the section's given imports
    exec(compile(stubs.stub(paths, name), f"<stub of {name}>", "exec"), space)
    return pack(space[name])


def checkers_of(paths: SectionPaths, name: str) -> list[str]:
    """The names of the test functions that take an exercise, as their signatures say."""
    tree = ast.parse(paths.tests.read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and name in {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    ]


@dataclass
class Row:
    """One line of the table."""

    exercise: str
    tests: int
    caught: int = 0
    wrong: int = 0
    passed: int = 0
    right: int = 0


def table(
    paths: SectionPaths,
    judge: Callable[[str, Any], CheckResult],
    tell: Callable[[Example, CheckResult], None] | None = None,
) -> tuple[list[Row], list[str]]:
    """Judge all examples of a section: rows, and what is not as it should be. ``tell`` hears of each verdict."""
    rows = {
        exercise.name: Row(exercise.name, len(checkers_of(paths, exercise.name))) for exercise in load(paths).exercises
    }
    faults = []
    for example in load_examples(paths):
        row = rows[example.exercise]
        result = judge(example.exercise, example.answer)
        if tell is not None:
            tell(example, result)
        fault = example.fault(result)
        if fault is not None:
            faults.append(f"{example.exercise}, {example.name}: {fault}")
        if example.right:
            row.right += 1
            row.passed += fault is None
        else:
            row.wrong += 1
            row.caught += fault is None
    return list(rows.values()), faults


def render(rows: list[Row]) -> Iterator[str]:
    """The table, line by line."""
    width = max([len("exercise"), *(len(row.exercise) for row in rows)])
    yield f"{'exercise':{width}}  wrong caught  right passed  tests"
    for row in rows:
        caught, passed = f"{row.caught} / {row.wrong}", f"{row.passed} / {row.right}"
        yield f"{row.exercise:{width}}  {caught:>12}  {passed:>12}  {row.tests:>5}"


def _print_message(example: Example, result: CheckResult) -> None:
    if not result.passed:
        print(f"{example.exercise}, {example.name}: {example.note}", result.message, "", sep="\n")


def main(arguments: list[str]) -> int:
    """Print the table of each section (all, or those named). Returns 1 if any verdict is not the one due."""
    from refract.checking.running import run_checks

    aloud = "--messages" in arguments
    sections = [SectionPaths.parse(name) for name in arguments if name != "--messages"] or all_sections()
    trouble = 0
    for paths in sections:
        rows, faults = table(paths, functools.partial(run_checks, paths), _print_message if aloud else None)
        print(paths.id, *render(rows), *faults, sep="\n")
        trouble += len(faults)
    return 1 if trouble else 0


if __name__ == "__main__":
    # This file is run as __main__; the answers' decorators belong to the module of its own name.
    sys.exit(importlib.import_module("refract.checking.examples").main(sys.argv[1:]))
