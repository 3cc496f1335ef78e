"""Wrong and right answers, on the toy: what counts as caught, and that a verdict that is not due is noticed."""

from __future__ import annotations

import functools
import os
import shutil

import pytest

from refract.checking import CheckResult, TestOutcome, examples, run_checks
from refract.checking.examples import Example, load_examples, right, stub_answer, table, wrong
from refract.errors import RefractError


def test_table_counts_what_is_caught(toy):
    rows, faults = table(toy, functools.partial(run_checks, toy))
    assert faults == []
    double = rows[0]
    assert (double.exercise, double.caught, double.wrong, double.passed, double.right) == ("double", 2, 2, 1, 1)
    assert double.tests == 4
    assert next(iter(examples.render(rows))).split() == ["exercise", "wrong", "caught", "right", "passed", "tests"]


def test_messages_can_be_read(toy, capsys):
    assert examples.main(["--messages", toy.id]) == 0
    printed = capsys.readouterr().out
    assert "double, square: Squares.\nYou squared <b>x</b>" in printed
    assert "double, add" not in printed
    assert examples.main([toy.id]) == 0
    assert "Squares." not in capsys.readouterr().out


def test_table_notices_answers_that_are_not_caught(toy):
    lenient = lambda name, answer: CheckResult(toy.id, name, "passed", (TestOutcome("test_ones", "", "passed"),))  # noqa: E731
    rows, faults = table(toy, lenient)
    assert len(faults) == 2
    assert rows[0].caught == 0
    assert rows[0].passed == 1


def failed(*tests: str, mistake: str | None = None) -> CheckResult:
    return CheckResult("s", "double", "failed", tuple(TestOutcome(test, "", "failed") for test in tests), "no", mistake)


@pytest.mark.parametrize(
    ("example", "result", "due"),
    [
        (Example("double", None, "a", "", mistake="squared"), failed("test_three", mistake="squared"), True),
        (Example("double", None, "a", "", mistake="squared"), failed("test_three", mistake="other"), False),
        (Example("double", None, "a", "", mistake="squared"), failed("test_three"), False),
        (Example("double", None, "a", "", fails="test_three"), failed("test_ones", "test_three"), True),
        (Example("double", None, "a", "", fails="test_sizes"), failed("test_sizes[1]"), True),
        (Example("double", None, "a", "", fails="test_three"), failed("test_ones"), False),
        (Example("double", None, "a", "", fails="test_three"), CheckResult("s", "double", "passed"), False),
        (
            Example("double", None, "a", "", stopped="too long"),
            CheckResult("s", "d", "stopped", message="too long"),
            True,
        ),
        (Example("double", None, "a", "", stopped="too long"), CheckResult("s", "d", "stopped", message="died"), False),
        (
            Example("double", None, "a", "", fails="test_three"),
            CheckResult("s", "double", "stopped", (TestOutcome("test_three", "", "stopped"),)),
            False,
        ),
        (Example("double", None, "a", "", right=True), CheckResult("s", "double", "passed"), True),
        (Example("double", None, "a", "", right=True), failed("test_ones"), False),
    ],
)
def test_verdict_due(example, result, due):
    assert (example.fault(result) is None) == due


def test_wrong_takes_exactly_one_reason():
    with pytest.raises(TypeError, match="exactly one"):
        wrong("double")
    with pytest.raises(TypeError, match="exactly one"):
        wrong("double", mistake="squared", fails="test_ones")


def test_an_answer_without_a_name_needs_one():
    with pytest.raises(TypeError, match="name="):
        right("double")(functools.partial(max))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@right('double')\ndef a(x): ...\n@right('double')\ndef a(x): ...", "two answers are called 'a'"),
        ("@right('triple')\ndef a(x): ...", "answers 'triple', which is no exercise"),
    ],
)
def test_a_file_that_contradicts_itself(toy, tmp_path, monkeypatch, text, words):
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    toy.answers.write_text(f"from refract.checking.examples import right\n{text}")
    with pytest.raises(RefractError, match=words):
        load_examples(toy)


def test_stub_is_not_attempted(toy):
    for name in ("double", "quadruple", "counter"):
        result = run_checks(toy, name, stub_answer(toy, name))
        assert result.status == "not attempted"
        assert result.message == "Not attempted yet."
