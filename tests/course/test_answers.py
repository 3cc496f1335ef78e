"""The checkers are checked: every wrong answer fails, by the test meant to catch it; every right one passes."""

from __future__ import annotations

import re
import time

import pytest

from refract.authoring.source import load
from refract.checking import run_checks
from refract.checking.examples import LEAST_RIGHT, LEAST_WRONG, Example, checkers_of, load_examples, stub_answer
from refract.checking.result import CHANGES_INPUT
from refract.paths import SectionPaths, all_sections
from refract.reference import get

SECTIONS = [pytest.param(paths, id=paths.id) for paths in all_sections()]
EXERCISES = [
    pytest.param(paths, exercise.name, id=f"{paths.id}-{exercise.name}")
    for paths in all_sections()
    for exercise in load(paths).exercises
]
EXAMPLES = [
    pytest.param(paths, example, id=f"{paths.id}-{example.exercise}-{example.name}")
    for paths in all_sections()
    for example in load_examples(paths)
]


@pytest.mark.parametrize(("paths", "example"), EXAMPLES)
def test_verdict_is_the_one_due(paths: SectionPaths, example: Example):
    fault = example.fault(run_checks(paths, example.exercise, example.answer))
    assert fault is None, fault


@pytest.mark.parametrize(("paths", "name"), EXERCISES)
def test_reference_passes_in_the_worker(paths: SectionPaths, name: str):
    result = run_checks(paths, name, get(paths, name))
    assert result.passed, result


@pytest.mark.parametrize(("paths", "name"), EXERCISES)
def test_every_test_has_a_title_of_its_own(paths: SectionPaths, name: str):
    """Cases of a parametrised test whose objects have no short form look alike: give them ``ids=``."""
    titles = [test.title for test in run_checks(paths, name, get(paths, name)).tests]
    assert len(set(titles)) == len(titles), [title for title in titles if titles.count(title) > 1]
    made_up = re.compile(r"\[(?!.* = )(?:.*-)?(?!u?int8)[a-z_]+\d(?:-.*)?\]$")  # "[small-shape0]"
    assert not [title for title in titles if made_up.search(title)]


@pytest.mark.parametrize(("paths", "name"), EXERCISES)
def test_a_warm_check_is_fast(paths: SectionPaths, name: str):
    """Half a second on a machine that does nothing else; on a busy one as much longer as it makes us wait."""
    answer = get(paths, name)
    run_checks(paths, name, answer)
    found = []
    for _ in range(8):
        before = _waiting()
        began = time.perf_counter()
        run_checks(paths, name, answer)
        took = time.perf_counter() - began
        found.append((took / max(before, _waiting()), took))
        if found[-1][0] < 0.5:
            return
    raise AssertionError(f"no check in less than 0.5 s; (on a quiet machine, here): {found}")


def _waiting() -> float:
    """How many times longer than its own work a busy process takes on this machine now."""
    began, worked = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < 0.1:
        sum(range(1000))
    return (time.perf_counter() - began) / max(time.process_time() - worked, 1e-3)


@pytest.mark.parametrize(("paths", "name"), EXERCISES)
def test_stub_is_not_attempted(paths: SectionPaths, name: str):
    result = run_checks(paths, name, stub_answer(paths, name))
    assert result.status == "not attempted", result


@pytest.mark.parametrize(("paths", "name"), EXERCISES)
def test_there_are_enough_answers(paths: SectionPaths, name: str):
    examples = [example for example in load_examples(paths) if example.exercise == name]
    wrong = sum(not example.right for example in examples)
    right = sum(example.right for example in examples)
    assert wrong >= LEAST_WRONG, f"{name} has {wrong} wrong answers; it needs {LEAST_WRONG}"
    assert right >= LEAST_RIGHT, f"{name} has {right} right answers; it needs {LEAST_RIGHT}"


@pytest.mark.parametrize(("paths", "name"), EXERCISES)
def test_every_mistake_has_an_answer_that_makes_it(paths: SectionPaths, name: str):
    exercise = load(paths).exercise(name)
    assert exercise is not None
    described = {mistake.name for mistake in exercise.mistakes}
    made = {example.mistake for example in load_examples(paths) if example.exercise == name and example.mistake}
    assert made - {CHANGES_INPUT} == described  # that one the machinery describes


@pytest.mark.parametrize("paths", SECTIONS)
def test_every_named_test_exists(paths: SectionPaths):
    """``fails="test_x"`` of a wrong answer names a test that takes that exercise."""
    for example in load_examples(paths):
        if example.fails is not None:
            assert example.fails.partition("[")[0] in checkers_of(paths, example.exercise), example.name
