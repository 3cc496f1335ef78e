"""``check``: which exercise is meant, what is recorded, and that it displays."""

from __future__ import annotations

import sqlite3
import sys
from types import SimpleNamespace

import pytest

from refract import check, session
from refract.errors import RefractError
from refract.progress import open_store


@pytest.fixture
def notebook(toy, monkeypatch, tmp_path):
    """A kernel in the toy's section: its variables, and a progress file of its own."""
    variables: dict = {}
    monkeypatch.setattr(session, "_current", toy)
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "home"))
    shell = SimpleNamespace(user_ns=variables)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return variables


def double(x):
    """The learner's."""
    return 2 * x


def elsewhere(x):
    return 2 * x


def test_by_its_own_name(notebook):
    result = check(double)
    assert (result.exercise, result.status) == ("double", "passed")


def test_by_the_name_the_notebook_gives_it(notebook):
    notebook["double"] = elsewhere
    assert check(elsewhere).exercise == "double"
    notebook["quadruple"] = add = lambda x: 4 * x
    assert check(add).exercise == "quadruple"


def test_by_an_explicit_name(notebook):
    notebook["double"] = elsewhere
    assert check(elsewhere, "quadruple").status == "failed"


def test_by_text(notebook):
    """``check("double")`` is what somebody writes who has just written ``hint("double")``."""
    notebook["double"] = elsewhere
    assert (check("double").exercise, check("double").status) == ("double", "passed")
    assert check("double", "quadruple").status == "failed"
    with pytest.raises(RefractError) as caught:
        check("quadruple")
    assert str(caught.value) == (
        "There is no `quadruple` here yet.\n  Run the cell that defines it, then write check(quadruple)."
    )
    notebook["quadrupel"] = lambda x: 4 * x
    with pytest.raises(RefractError) as caught:
        check("quadruple")
    assert str(caught.value) == (
        "You define `quadrupel`; the exercise is called `quadruple`.\n  Rename yours and write check(quadruple)."
    )
    with pytest.raises(RefractError, match=r"no exercise called 'doubel'\.\n  Did you mean `double`"):
        check("doubel")
    with pytest.raises(RefractError, match=r"no exercise called 'what'\.\n  Its exercises: double"):
        check("what")


def test_by_text_outside_a_notebook(notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    monkeypatch.setattr(sys.modules["__main__"], "double", elsewhere, raising=False)
    assert check("double").passed


def test_a_misspelt_name(notebook):
    def duoble(x):
        return 2 * x

    notebook["duoble"] = duoble
    with pytest.raises(RefractError) as caught:
        check(duoble)
    assert str(caught.value) == (
        "You define `duoble`; the exercise is called `double`.\n"
        '  Rename yours and write check(double), or say which is meant: check(duoble, "double").'
    )
    assert check(duoble, "double").passed
    with pytest.raises(RefractError, match="Did you mean `double`"):
        check(duoble, "doubel")


def test_what_is_not_clear_is_asked(notebook):
    with pytest.raises(RefractError, match=r'check\(my_function, "double"\)'):
        check(elsewhere)
    notebook["double"] = notebook["quadruple"] = elsewhere
    with pytest.raises(RefractError, match="not clear"):
        check(elsewhere)
    with pytest.raises(RefractError, match="no exercise called 'triple'"):
        check(elsewhere, "triple")
    with pytest.raises(RefractError, match="not clear"):
        check(None)


def test_no_section_yet(monkeypatch):
    monkeypatch.setattr(session, "_current", None)
    with pytest.raises(RefractError, match="first two code cells"):
        check(double)


def test_the_attempt_is_recorded_with_its_source(notebook):
    check(double)
    check(lambda x: x**2, "double")
    first, second = open_store().events(kind="attempt", section="ch1_toy/s1_first", name="double")
    assert (first.data["status"], first.data["passed"], first.data["total"]) == ("passed", 8, 8)
    assert first.data["source"].startswith("def double(x):")
    assert (second.data["status"], second.data["mistake"]) == ("failed", "squared")


def test_a_stub_is_no_attempt(notebook):
    def double(x):
        raise NotImplementedError("your code here")

    assert check(double).status == "not attempted"
    assert open_store().events(kind="attempt") == []


def test_a_progress_file_that_fails_does_not_break_the_check(notebook, monkeypatch, capsys):
    def broken(*_, **__):
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr("refract.progress.open_store", broken)
    assert check(double).passed
    assert capsys.readouterr().err == "This attempt was not recorded: OperationalError: disk full\n"


def test_what_cannot_be_handed_over_is_recorded_too(notebook):
    stuck = (i for i in range(3))
    result = check(lambda x: next(stuck) * x, "double")
    assert result.status == "stopped"
    assert "`stuck`" in result.message
    assert open_store().events(kind="attempt")[0].data["status"] == "stopped"
