"""What a notebook calls: set-up, predictions, hints, the solution, recording and showing."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

import refract
from refract import session
from refract.authoring import source, values
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.progress import open_store
from tests.course import authoring_toy as toy
from tests.course.authoring_toy import SECTION

RECORDED = {"how_many": Recorded(10), "grand_total": Recorded(45, 0.5), "mean": Recorded(4.5)}


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """The toy course, set up in this kernel, with its values recorded."""
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REFRACT_RECORD", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(session, "_current", SECTION)
    toy.write(tmp_path)
    SECTION.values.parent.mkdir(parents=True)
    SECTION.values.write_text(values.dump(RECORDED), encoding="utf-8")
    return tmp_path


@pytest.fixture
def displayed(monkeypatch) -> list:
    """What was displayed, in order."""
    import IPython.display

    shown: list = []
    monkeypatch.setattr(IPython.display, "display", lambda item, **how: shown.append(item))
    return shown


@pytest.fixture
def recording(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "record"
    monkeypatch.setenv("REFRACT_RECORD", str(folder))
    return folder


def events(kind: str) -> list[dict]:
    return [event.data for event in open_store().events(kind, SECTION.id)]


# --- set-up ------------------------------------------------------------------------------------


def test_everything_the_notebook_imports_is_there():
    for name in refract.__all__:
        assert callable(getattr(refract, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = refract.nothing


def test_setup_begins_a_section(course, monkeypatch, capsys):
    import plotly.io as pio

    monkeypatch.setattr(session, "_current", None)
    session.setup("s1_sums")
    assert session.current() == SECTION
    assert str(course) in sys.path
    assert pio.templates.default == "refract"
    assert capsys.readouterr().out.startswith("Sums. Everything is ready.")


def test_setup_of_an_unknown_section_names_the_known_and_changes_nothing(course, monkeypatch):
    monkeypatch.setattr(session, "_current", None)
    with pytest.raises(RefractError, match="no section called 's9_none'") as caught:
        session.setup("s9_none")
    assert "ch1_toy/s1_sums" in caught.value.remedy
    with pytest.raises(RefractError, match="No section has been set up"):
        session.current()


@pytest.mark.parametrize(
    "call", [lambda: session.hint("total"), lambda: session.predict("size", 3), lambda: session.solution("total")]
)
def test_without_setup_each_call_says_so(course, monkeypatch, call):
    monkeypatch.setattr(session, "_current", None)
    with pytest.raises(RefractError, match="No section has been set up") as caught:
        call()
    assert "first cell" in caught.value.remedy


# --- predictions -------------------------------------------------------------------------------


def test_a_choice_is_noted(course, capsys):
    session.predict("parity", " A ", confidence=0.8)
    assert capsys.readouterr().out == "Noted: a. Odd, 80% sure. Go on; the answer comes after the figure.\n"
    (data,) = events("prediction")
    assert (data["answer"], data["confidence"]) == ("a", 0.8)


@pytest.mark.parametrize(("answer", "noted"), [(44, 44.0), ("44.5", 44.5), (torch.tensor(3), 3.0), (-1e9, -1e9)])
def test_a_number_is_noted(course, answer, noted):
    session.predict("size", answer)
    (data,) = events("prediction")
    assert data["answer"] == noted
    assert type(data["answer"]) is float


@pytest.mark.parametrize("answer", ["c", "ab", "", 1, "α", ["a"]])
def test_an_answer_that_is_no_choice_is_refused(course, answer):
    with pytest.raises(RefractError, match="none of the choices") as caught:
        session.predict("parity", answer)
    assert "a, b" in caught.value.remedy
    assert events("prediction") == []


@pytest.mark.parametrize("answer", ["many", math.nan, math.inf, [1, 2], "a"])
def test_an_answer_that_is_no_number_is_refused(course, answer):
    with pytest.raises(RefractError, match="is not a number"):
        session.predict("size", answer)
    assert events("prediction") == []


@pytest.mark.parametrize("confidence", [-0.1, 1.1, 80, math.nan, "high"])
def test_a_confidence_that_is_no_probability_is_refused(course, confidence):
    with pytest.raises(RefractError, match="is no probability") as caught:
        session.predict("parity", "a", confidence)
    assert "0.8" in caught.value.remedy
    assert events("prediction") == []


@pytest.mark.parametrize("confidence", [0, 1, 0.5])
def test_the_ends_are_probabilities(course, confidence):
    session.predict("parity", "a", confidence)
    assert events("prediction")[0]["confidence"] == confidence


@pytest.mark.parametrize(("name", "example"), [("parity", '"a"'), ("size", "3")])
@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_yet_shows_how(course, capsys, name, example, answer):
    session.predict(name, answer)
    assert f'predict("{name}", {example}, confidence=0.7)' in capsys.readouterr().out
    assert events("prediction") == []


def test_the_first_answer_counts(course, capsys, displayed):
    session.predict("parity", "b")
    session.predict("parity", "a")
    assert "Your first answer, b. Even, is the one that counts." in capsys.readouterr().out
    session.reveal("parity")
    assert "You said b. Even: that is not what happened." in displayed[0].data


def test_an_unknown_prediction_is_named(course):
    for call in (session.predict, session.reveal):
        with pytest.raises(RefractError, match="no prediction called 'nothing'"):
            call("nothing")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (45, "that is right"),
        (43, "that is right"),
        (47, "that is right"),
        (42.9, "that is not what happened"),
        (48, "that is not what happened"),
    ],
)
def test_reveal_judges_a_number_within_its_tolerance(course, displayed, answer, verdict):
    session.predict("size", answer, 0.6)
    session.reveal("size")
    (shown,) = displayed
    assert shown.data.split("\n\n") == [
        "**What happened:** 45",
        f"You said {answer:g} (60% sure): {verdict}.",
        "The revealed_marker: it is 45.",
    ]
    noted = events("prediction")[-1]
    assert (noted["correct"], noted["truth"]) == (verdict == "that is right", 45.0)


def test_reveal_judges_a_choice(course, displayed):
    session.predict("parity", "a")
    session.reveal("parity")
    assert displayed[0].data.startswith("**What happened:** a. Odd\n\nYou said a. Odd: that is right.\n\nOdd: five")


def test_reveal_without_a_prediction_tells_and_notes_nothing(course, displayed):
    session.reveal("parity")
    assert "You made no prediction this time." in displayed[0].data
    assert "Odd: five of the ten are." in displayed[0].data
    assert events("prediction") == []


def test_reveal_twice_says_the_same(course, displayed):
    session.predict("parity", "b", 0.5)
    session.reveal("parity")
    session.reveal("parity")
    assert displayed[0].data == displayed[1].data


def test_a_recorded_text_may_be_the_answer_of_a_choice(course, displayed):
    text = toy.SOURCE.replace(":answer: a\n", ":answer: who\n")
    SECTION.source.write_text(text, encoding="utf-8")
    SECTION.values.write_text(values.dump({**RECORDED, "who": Recorded("b")}), encoding="utf-8")
    session.predict("parity", "b")
    session.reveal("parity")
    assert "**What happened:** b. Even\n\nYou said b. Even: that is right." in displayed[0].data


# --- help --------------------------------------------------------------------------------------


def test_hints_open_one_at_a_time(course, displayed):
    session.hint("total")
    session.hint("total")
    session.hint("total")
    first, second, third = (item.data for item in displayed)
    assert first == "**Hint 1 of 2.** What is the sum of nothing?\n\n*1 more, one a call.*"
    assert second.startswith("**Hint 2 of 2.** Begin at zero_hint_marker")
    assert '`solution("total")` gives the reference' in second
    assert third == second
    assert [data["step"] for data in events("hint")] == [1, 2]


def test_a_hint_s_values_are_filled_in(course, displayed):
    text = toy.SOURCE.replace("zero_hint_marker", "{value}`how_many`")
    SECTION.source.write_text(text, encoding="utf-8")
    session.hint("total")
    session.hint("total")
    assert "Begin at 10 and add each." in displayed[1].data


def test_the_solution_can_be_used_and_is_noted(course, displayed, monkeypatch):
    monkeypatch.delitem(sys.modules, SECTION.reference_module, raising=False)
    total = session.solution("total")
    assert total([1, 2, 3]) == 6
    assert "running_answer += number" in displayed[0].data
    assert displayed[0].data.startswith("<details>")
    assert "<summary>The reference for <code>total</code></summary>" in displayed[0].data
    assert open_store().solution_shown(SECTION.id, "total")


def test_an_unknown_exercise_is_named(course):
    for call in (session.hint, session.solution):
        with pytest.raises(RefractError, match="no exercise called 'nothing'") as caught:
            call("nothing")
        assert caught.value.remedy == "Exercises of this section: total."


# --- values and figures ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("grand_total", 44.0, "grand total: 44   (the course's run: 45 ± 0.5)"),
        ("how_many", torch.tensor(9), "how many: 9   (the course's run: 10)"),
        ("something_new", 0.12345, "something new: 0.123"),
        ("a_text", "b", "a text: b"),
        ("a_truth", torch.tensor(True), "a truth: 1"),
    ],
)
def test_in_a_learner_s_notebook_record_compares(course, capsys, name, value, line):
    session.record(name, value, within=0.1)
    assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("value", [math.nan, math.inf, None, [1.0], torch.tensor(math.nan)])
def test_what_is_no_number_is_not_recorded(course, value):
    with pytest.raises(RefractError, match="The value 'x' is"):
        session.record("x", value)


def test_in_the_worked_notebook_record_writes(course, recording):
    session.record("a", torch.tensor(0.5), within=0.1)
    session.record("b", 3)
    session.record("c", "text")
    assert values.load_recorded(recording / "values.json") == {
        "a": Recorded(0.5, 0.1),
        "b": Recorded(3),
        "c": Recorded("text"),
    }
    with pytest.raises(RefractError, match="'b' is recorded twice"):
        session.record("b", 4)


def test_in_the_worked_notebook_show_saves(course, recording, monkeypatch):
    import IPython.display

    shown: list = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, **how: shown.append((bundle, how)))
    session.show(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])), "line")
    saved = json.loads((recording / "figures/line.json").read_text())
    assert saved["data"][0]["type"] == "scatter"
    ((bundle, how),) = shown
    assert bundle["application/vnd.plotly.v1+json"] == saved
    assert how["metadata"] == {"refract": {"figure": "line"}}


def test_in_a_learner_s_notebook_show_only_shows(course, monkeypatch):
    calls: list = []
    figure = go.Figure()
    monkeypatch.setattr(go.Figure, "show", lambda self: calls.append(self is figure))
    session.show(figure, "line")
    assert calls == [True]
    assert not list(course.rglob("line.json"))


def test_the_worked_notebook_prints_no_progress_bar(course, recording):
    assert session.bar(10, "steps") is None


def test_a_learner_sees_a_progress_bar_that_ends(course, capsys):
    step = session.bar(3, "steps")
    assert step is not None
    for index in range(3):
        step(index, torch.tensor(0.0))
    assert "3/3" in capsys.readouterr().err


def test_predictions_agree_with_the_source(course):
    for prediction in source.load(SECTION).predictions:
        right = session.truth(prediction, RECORDED)
        assert session.judge(prediction, right, RECORDED)
        assert session.write_answer(prediction, right) in ("45", "a. Odd")
