"""Recorded values: quoted in prose, deciding claims, agreeing from run to run."""

from __future__ import annotations

import pytest

from refract.authoring import values
from refract.authoring.model import Claim
from refract.authoring.values import Recorded
from refract.errors import RefractError

RECORDED = {
    "count": Recorded(5),
    "share": Recorded(0.123456),
    "drop": Recorded(-0.5),
    "zero": Recorded(0),
    "answer": Recorded("b"),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{value}`count` of them", "5 of them"),
        ("{value}`share`", "0.123"),
        ("{value}`share:.1f`, {value}`share:.0%`", "0.1, 12%"),
        ("{value}`count:03d`", "005"),
        ("{value}`count:.1f`", "5.0"),
        ("{value}`drop:.2f`", "\N{MINUS SIGN}0.50"),
        ("{value}`answer`, {value}`answer:.2f`", "b, b"),
        ("`count` {value} `count`, {value}count", "`count` {value} `count`, {value}count"),
        ("| {value}`count` | $x$ |", "| 5 | $x$ |"),
    ],
)
def test_fill_writes_each_value_as_it_is_asked(text, expected):
    assert values.fill(text, RECORDED) == expected


def test_fill_names_a_value_that_nothing_recorded():
    with pytest.raises(RefractError, match="'missing', which was never recorded") as caught:
        values.fill("{value}`count` and {value}`missing`", RECORDED)
    assert "record(name, value" in caught.value.remedy


@pytest.mark.parametrize("form", ["d", "q"])
def test_a_format_that_does_not_suit_is_named(form):
    with pytest.raises(RefractError, match=f"cannot be written as '{form}'"):
        values.fill(f"{{value}}`share:{form}`", RECORDED)


def test_quoted_lists_the_names():
    assert values.quoted("{value}`a` {value}`b:.2f` {value}`a` `c` {value}`D`") == {"a", "b"}


@pytest.mark.parametrize(
    ("condition", "truth", "names"),
    [
        ("count == 5", True, {"count"}),
        ("count != 5", False, {"count"}),
        ("0.1 < share < 0.2", True, {"share"}),
        ("0.1 < share < 0.12", False, {"share"}),
        ("share >= 0.2 or count > 4", True, {"share", "count"}),
        ("share >= 0.2 and count > 4", False, {"share", "count"}),
        ("not share > 0.2", True, {"share"}),
        ("abs(drop) * 2 + 1 == count - 3", True, {"drop", "count"}),
        ("count / 2 <= 2.5", True, {"count"}),
        ("drop == -0.5", True, {"drop"}),
        ("answer == 'b'", True, {"answer"}),
        ("(count > 9) or (drop < 0 and not zero == 1)", True, {"count", "drop", "zero"}),
    ],
)
def test_conditions(condition, truth, names):
    assert values.condition_names(condition) == names
    assert values.holds(condition, RECORDED) is truth


@pytest.mark.parametrize(
    "condition",
    [
        "print(count) == 1",
        "__import__('os').system('true') == 0",
        "abs(count, 2) > 1",
        "abs(count).real > 1",
        "max(count, 2) > 1",
        "count.real > 1",
        "[x for x in (1, 2)] == 1",
        "(lambda: 1) == 1",
        "count[0] > 1",
        "(1 if count else 2) > 1",
        "count ** 9999 > 1",
        "f'{count}' == '5'",
        "count in (1, 2)",
        "count is 5",
        "(x := 1) > 0",
        "count >",
        "",
        "count > 1; share > 1",
        "count = 1",
        "count",
        "count and share > 1",
        "abs(drop)",
    ],
)
def test_what_is_no_condition_is_refused(condition):
    with pytest.raises(ValueError, match=r"is more than|is not an expression|compares nothing"):
        values.condition_names(condition)
    with pytest.raises(ValueError):
        values.holds(condition, RECORDED)


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("missing > 1", "reads missing, which was never recorded"),
        ("count / zero > 1", "cannot be decided with count = 5, zero = 0"),
        ("answer > 1", "cannot be decided with answer = 'b'"),
    ],
)
def test_a_condition_that_cannot_be_decided_says_why(condition, problem):
    with pytest.raises(RefractError, match=problem):
        values.holds(condition, RECORDED)


@pytest.mark.parametrize(
    ("replicated", "partly", "verdict"),
    [
        ("count > 4", "count > 3", "replicated"),
        ("count > 4", None, "replicated"),
        ("count > 5", "count > 3", "partly"),
        ("count > 5", "count > 6", "not replicated"),
        ("count > 5", None, "not replicated"),
    ],
)
def test_verdicts(replicated, partly, verdict):
    claim = Claim("c", "statement", "source", replicated, partly, 1)
    assert values.verdict(claim, RECORDED) == verdict


def test_the_evidence_is_what_either_condition_reads():
    claim = Claim("c", "statement", "source", "share > 1", "count > 1", 1)
    assert values.evidence(claim, RECORDED) == {"count": 5, "share": 0.123456}


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        (Recorded(1.0, 0.1), Recorded(1.1), True),
        (Recorded(1.0, 0.1), Recorded(0.85), False),
        (Recorded(1.0), Recorded(1.0, 5.0), True),
        (Recorded(1.0), Recorded(1.001, 5.0), False),  # the committed run's tolerance counts, not the new one's
        (Recorded(3), Recorded(3.0), True),
        (Recorded("a", 9.0), Recorded("b", 9.0), False),
        (Recorded("a"), Recorded("a"), True),
        (Recorded("1", 9.0), Recorded(1, 9.0), False),
    ],
)
def test_agreement_within_the_tolerance(old, new, agree):
    assert old.agrees(new) is agree


def test_a_file_of_values_comes_back_as_it_was(tmp_path):
    file = tmp_path / "values.json"
    assert values.load_recorded(file) == {}
    file.write_text(values.dump(RECORDED), encoding="utf-8")
    assert values.load_recorded(file) == RECORDED
    assert list(values.load_recorded(file)) == sorted(RECORDED)
    values.load_recorded(file).clear()
    assert values.load_recorded(file) == RECORDED
