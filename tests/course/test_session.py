"""What a notebook calls: set-up, predictions, hints, the solution, recording and showing."""

from __future__ import annotations

import json
import math
import re
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
    monkeypatch.setattr(session, "_asked", None)
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
    for misspelt, meant in (("s1_sum", "s1_sums"), ("sums", "s1_sums"), ("ch1_toy/s1_sms", "ch1_toy/s1_sums")):
        with pytest.raises(RefractError) as caught:
            session.setup(misspelt)
        assert caught.value.remedy.startswith(f"Did you mean {meant}? ")
    with pytest.raises(RefractError, match="No section has been set up"):
        session.current()


@pytest.mark.parametrize(
    "call", [lambda: session.hint("total"), lambda: session.predict("size", 3), lambda: session.solution("total")]
)
def test_without_setup_each_call_says_so(course, monkeypatch, call):
    monkeypatch.setattr(session, "_current", None)
    with pytest.raises(RefractError, match="No section has been set up") as caught:
        call()
    assert "first two code cells" in caught.value.remedy


# --- predictions -------------------------------------------------------------------------------


def test_a_choice_is_noted(course, capsys):
    session.predict("parity", " A ", confidence=0.8)
    assert capsys.readouterr().out == "Noted: a. Odd, 80% sure. Go on; the answer comes after the figure.\n"
    (data,) = events("prediction")
    assert (data["answer"], data["confidence"]) == ("a", 0.8)


@pytest.mark.parametrize(("answer", "noted"), [(44, 44.0), ("44.5", 44.5), (torch.tensor(3), 3.0), ("0", 0.0)])
def test_a_number_is_noted(course, answer, noted):
    session.predict("size", answer)
    (data,) = events("prediction")
    assert data["answer"] == noted
    assert type(data["answer"]) is float


@pytest.mark.parametrize("answer", ["c", "ab", "", 1, "α", ["a"]])
def test_an_answer_that_is_no_choice_is_told_and_not_noted(course, capsys, answer):
    session.predict("parity", answer)  # raises nothing: "run all" goes on
    said = capsys.readouterr().out
    assert said == f"Not noted: {answer!r} is none of the choices.\n  Answer with one letter of a, b.\n"
    assert events("prediction") == []


@pytest.mark.parametrize("answer", ["many", math.nan, math.inf, [1, 2], "a"])
def test_an_answer_that_is_no_number_is_told_and_not_noted(course, capsys, answer):
    session.predict("size", answer)
    assert capsys.readouterr().out == f"Not noted: {answer!r} is not a number.\n  Answer with a number.\n"
    assert events("prediction") == []


@pytest.mark.parametrize("confidence", [-0.1, -1, 100.5, 130, math.nan, math.inf, "sure", "130%", "", True, [0.5]])
def test_a_confidence_that_is_no_probability_is_told_and_not_noted(course, capsys, confidence):
    session.predict("parity", "a", confidence)
    said = capsys.readouterr().out
    assert said == f"Not noted: confidence={confidence!r} is no probability.\n  Write 0.8, or 80, for 80 per cent.\n"
    assert events("prediction") == []


@pytest.mark.parametrize(
    ("confidence", "noted"),
    [
        (0, 0.0),
        (1, 1.0),
        (0.5, 0.5),
        (80, 0.8),
        (100, 1.0),
        (2, 0.02),
        (62.5, 0.625),
        ("0.7", 0.7),
        (" .7", 0.7),
        ("80 %", 0.8),
    ],
)
def test_a_confidence_over_one_is_per_cent(course, confidence, noted):
    session.predict("parity", "a", confidence)
    (data,) = events("prediction")
    assert data["confidence"] == noted
    assert type(data["confidence"]) is float


@pytest.mark.parametrize("answer", [-0.5, 91])
def test_a_number_that_cannot_be_is_told_and_not_noted(course, capsys, answer):
    session.predict("size", answer)
    told = f"Not noted: It cannot be {answer:g}.\n  Answer with a number from 0 to 90.\n"
    assert capsys.readouterr().out == told
    assert events("prediction") == []
    session.predict("size", 90)
    assert capsys.readouterr().out.startswith("Noted: 90.")


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


def test_the_first_confidence_counts_too(course, capsys):
    session.predict("parity", "b", 0.7)
    session.predict("parity", "b", 0.95)
    assert "Your first answer, b. Even (70% sure), is the one that counts." in capsys.readouterr().out


def test_an_unknown_prediction_is_named(course):
    for call in (session.predict, session.reveal):
        with pytest.raises(RefractError, match="no prediction called 'nothing'") as caught:
            call("nothing")
        assert caught.value.remedy == "Predictions of this section: size, parity."
        with pytest.raises(RefractError) as caught:
            call("partiy")
        assert caught.value.remedy.startswith("Did you mean parity? ")


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


def test_reveal_without_a_prediction_asks_first_and_then_shows(course, displayed, capsys):
    session.reveal("parity")
    asked = capsys.readouterr().out
    assert asked.startswith('You have not predicted yet. Answer above, in the cell of predict("parity", …)')
    assert "run this cell once more" in asked
    assert displayed == events("skip") == []
    session.reveal("parity")
    assert displayed[0].data.split("\n\n")[:2] == ["**What happened:** a. Odd", "You made no prediction."]
    assert "Odd: five of the ten are." in displayed[0].data
    assert events("skip") == [{"via": "notebook"}]
    assert events("prediction") == []
    session.reveal("parity")  # shown once is shown: no second question, and no second event
    assert displayed[1].data == displayed[0].data
    assert len(events("skip")) == 1


class Kernel:
    """Numbers cells as a kernel does."""

    execution_count = 0

    def run(self, *names: str) -> None:
        """One cell for each reveal; an empty name is a cell with other code."""
        for name in names:
            self.execution_count += 1
            if name:
                session.reveal(name)


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    import IPython

    kernel = Kernel()
    monkeypatch.setattr(IPython, "get_ipython", lambda: kernel)
    return kernel


def test_run_all_gives_no_answer_away_however_often(course, displayed, kernel):
    for _ in range(3):
        kernel.run("size", "", "parity", "")
    kernel.run("size", "parity", "size")
    assert displayed == events("skip") == []
    kernel.run("size", "parity", "", "parity")
    assert len(displayed) == 1
    kernel.run("parity")
    assert [item.data.split("\n\n")[0] for item in displayed] == ["**What happened:** 45", "**What happened:** a. Odd"]


def test_a_cell_that_reveals_twice_is_one_run(course, displayed, kernel):
    kernel.run("")
    session.reveal("size")
    session.reveal("size")
    assert displayed == []


def test_another_section_s_question_of_the_same_name_is_another_question(course, displayed, monkeypatch):
    session.reveal("parity")
    monkeypatch.setattr(session, "_asked", ("ch9_other/s1_other", "parity", None))
    session.reveal("parity")
    assert displayed == []


def test_a_prediction_after_the_answer_is_kept_and_does_not_count(course, displayed, capsys):
    session.reveal("parity")
    session.reveal("parity")
    session.predict("parity", "a", 0.9)
    assert "this prediction does not count" in capsys.readouterr().out
    (made,) = open_store().predictions(SECTION.id)
    assert (made.answer, made.confidence, made.late) == ("a", 0.9, True)
    session.reveal("parity")
    assert "You said a. Odd, after you had seen the answer: it does not count." in displayed[-1].data
    assert open_store().calibration().count == 0


def test_a_skip_on_the_site_is_seen_here(course, displayed, capsys):
    open_store().add_skip(SECTION.id, "parity", via="site")
    session.reveal("parity")
    assert displayed[0].data.startswith("**What happened:** a. Odd\n\nYou made no prediction.")
    session.predict("parity", "a")
    assert "does not count" in capsys.readouterr().out


def test_the_worked_notebook_reveals_at_once_and_notes_nothing(course, recording, displayed):
    session.reveal("parity")
    assert displayed[0].data.startswith("**What happened:** a. Odd\n\nYou made no prediction.\n\nOdd: five")
    assert open_store().events() == []


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


CLASS = '''

class Counter:
    """Counts."""

    def __repr__(self):
        return "a counter"
'''


@pytest.fixture
def shell(course, monkeypatch):
    """A real IPython, as a notebook has it; its exercises are a function and a class."""
    from IPython.core.interactiveshell import InteractiveShell

    from refract.checking.packing import pack

    monkeypatch.delitem(sys.modules, SECTION.reference_module, raising=False)
    monkeypatch.delitem(sys.modules, "solutions.ch1_toy", raising=False)
    monkeypatch.delitem(sys.modules, "solutions", raising=False)
    monkeypatch.syspath_prepend(str(course))
    SECTION.reference.write_text(toy.REFERENCE + CLASS, encoding="utf-8")
    exercise = (
        "```{exercise} Counter\n:difficulty: 1\n:importance: 1\n:minutes: 1\n\nCount.\n\n:::{hint} One.\n:::\n```\n"
    )
    SECTION.source.write_text(f"{toy.SOURCE}\n{exercise}", encoding="utf-8")
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.user_ns.update(solution=session.solution, pack=pack)
    yield shell
    InteractiveShell.clear_instance()
    for name in [name for name in sys.modules if name.split(".")[0] == "solutions"]:
        del sys.modules[name]


def echoed(shell, capsys, code: str) -> str:
    """What a cell prints, without the folded source and the prompt, which a notebook leaves out if nothing follows."""
    assert shell.run_cell(code).success
    return re.sub(r"<IPython.core.display.HTML object>\n|Out\[\d+\]: ", "", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["total", "Counter"])
def test_a_bare_solution_shows_its_source_and_no_repr(shell, capsys, name):
    from refract import reference

    assert echoed(shell, capsys, f'solution("{name}")') == ""
    assert echoed(shell, capsys, f'solution("{name}")\nmine = solution("{name}")\nmine') == ""
    assert name in echoed(shell, capsys, "mine")  # asked for later, it is echoed as ever
    mine = shell.user_ns["mine"]
    assert mine is reference.get(SECTION, name)
    assert "_ipython_display_" not in vars(mine)
    assert shell.events.callbacks["post_run_cell"] == []


def test_what_solution_returns_works_in_the_same_cell(shell, capsys):
    assert "6" in echoed(shell, capsys, 'total = solution("total")\ntotal([1, 2, 3])')
    assert "a counter" in echoed(shell, capsys, 'Counter = solution("Counter")\nCounter()')
    code = 'import inspect\ntotal = solution("total")\nprint(inspect.getsource(total)[:9], bool(pack(total).data))'
    assert echoed(shell, capsys, code) == "def total True\n"


def test_an_unknown_exercise_is_named(course):
    for call in (session.hint, session.solution):
        with pytest.raises(RefractError, match="no exercise called 'nothing'") as caught:
            call("nothing")
        assert caught.value.remedy == "Exercises of this section: total."
        with pytest.raises(RefractError) as caught:
            call("toatl")
        assert caught.value.remedy == "Did you mean total? Exercises of this section: total."


# --- values and figures ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("grand_total", 44.0, "grand_total = 44   (the course's run: 45 ± 0.5)"),
        ("how_many", torch.tensor(9), "how_many = 9   (the course's run: 10)"),
        ("something_new", 0.12345, "something_new = 0.123"),
        ("a_text", "b", "a_text = b"),
        ("a_truth", torch.tensor(True), "a_truth = 1"),
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


def test_in_a_learner_s_notebook_show_shows_and_keeps_for_the_export(course, monkeypatch):
    calls: list = []
    figure = go.Figure()
    monkeypatch.setattr(go.Figure, "show", lambda self: calls.append(self is figure))
    session.show(figure, "line")
    assert calls == [True]
    kept = course / "home" / "figures" / SECTION.id / "line.json"
    assert list(course.rglob("line.json")) == [kept], "the course's own figures stay as they are"
    assert json.loads(kept.read_text(encoding="utf-8"))["data"] == []


def test_a_figure_that_cannot_be_kept_is_shown_all_the_same(course, monkeypatch):
    calls: list = []
    monkeypatch.setattr(go.Figure, "show", lambda self: calls.append(1))
    (course / "home").write_text("a file where a folder is due", encoding="utf-8")
    session.show(go.Figure(), "line")
    assert len(calls) == 1


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
