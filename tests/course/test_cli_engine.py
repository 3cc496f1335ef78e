"""The command line with the real checking engine: what a learner types, and sees."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

import refract
from refract.cli import app
from refract.paths import SectionPaths
from refract.progress import open_store

REPOSITORY = Path(refract.__file__).resolve().parent.parent
SECTION = "ch1_demo/s1_demo"
SOURCE = """# A demonstration

```{exercise} double
:difficulty: 1
:importance: 1
:minutes: 2

Return twice `x`.

:::{hint} Add.
:::
:::{mistake} squared
You squared $x$.
:::
```

```{exercise} halve
:difficulty: 1
:importance: 1
:minutes: 2

Return half of `x`.

:::{hint} Divide.
:::
```
"""
REFERENCE = '''def double(x: float) -> float:
    """Twice ``x``."""
    return x + x


def halve(x: float) -> float:
    """Half of ``x``."""
    return x / 2
'''
TESTS = '''from refract.checking.expect import expect_close
from refract.checking.marks import mistake


@mistake("squared")
def test_three(double):
    """Three becomes six."""
    expect_close(double(3.0), 6.0, what="double(3)")


def test_half_of_three(halve):
    """Three becomes one and a half."""
    expect_close(halve(3.0), 1.5, what="halve(3)")
'''
STUB = 'raise NotImplementedError("your code here")'


def notebook(double: str = STUB, halve: str = STUB) -> str:
    cells = ["import math", f"def double(x):\n    {double}", "check(double)", f"def halve(x):\n    {halve}", "1 / 0"]
    return nbformat.writes(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell, id=f"c{n}") for n, cell in enumerate(cells)])
    )


@pytest.fixture
def course(tmp_path, monkeypatch):
    root = tmp_path / "course"
    monkeypatch.setenv("REFRACT_ROOT", str(root))
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    paths = SectionPaths("ch1_demo", "s1_demo")
    for file, text in (
        (paths.source, SOURCE),
        (paths.reference, REFERENCE),
        (paths.tests, TESTS),
        (paths.notebook, notebook()),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def refract_(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_a_learners_way_from_start_to_export(course, monkeypatch):
    monkeypatch.chdir(course)
    refract_("start")
    mine = course / "work" / "s1_demo.ipynb"

    mine.write_text(notebook(double="return x ** 2"))
    output = refract_("check", code=1)
    assert "You squared $x$." in output
    assert "halve: not attempted" in output
    assert "You squared $x$." in refract_("hint", "double")

    mine.write_text(notebook(double="return 2 * x", halve='return __import__("os")._exit(3)'))
    output = refract_("check", code=1)
    assert "double: passed" in output
    assert re.search(r"halve: (stopped|could not be checked)", output)

    mine.write_text(notebook(double="return 2 * x", halve="return x / 2"))
    assert "2 of 2 exercises passed." in refract_("check")
    assert "return x / 2" in refract_("solution", "halve")
    refract_("export", "-o", "mine.zip")
    assert "Nothing new" in refract_("progress", "import", "mine.zip")
    store = open_store()
    assert [event.data["status"] for event in store.events("attempt", SECTION, "halve")] == ["stopped", "passed"]
    assert (store.last_source(SECTION, "double") or "").strip() == "def double(x):\n    return 2 * x"


def test_a_problem_is_two_lines_and_no_traceback(course):
    refract_("start")
    (course / "work" / "s1_demo.ipynb").write_text(notebook()[:200])
    done = subprocess.run(
        [sys.executable, "-m", "refract", "check"], cwd=course, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing on Windows")
def test_watch_rechecks_on_save_and_ends_with_ctrl_c(course):
    refract_("start")
    mine = course / "work" / "s1_demo.ipynb"
    watcher = subprocess.Popen(
        [sys.executable, "-m", "refract", "watch"],
        cwd=course,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert watcher.stdout

    def until(words: str) -> None:
        for line in watcher.stdout:  # type: ignore[union-attr]
            if words in line:
                return
        raise AssertionError(f"{words!r} never came")

    try:
        until("0 of 2")
        until("Watching.")
        mine.write_text(notebook(double="return 2 * x"))
        until("1 of 2")
        until("Watching.")
        mine.write_text(notebook()[:200])
        until("cannot be read just now")
        mine.write_text(notebook(double="return 2 * x", halve="return x"))
        until("halve: not yet")
        mine.write_text(notebook(double="return 2 * x", halve="return x / 2"))
        until("2 of 2")
        until("Watching.")
        os.killpg(watcher.pid, signal.SIGINT)  # as a terminal does: to the whole group
        rest, _ = watcher.communicate(timeout=30)
    finally:
        if watcher.poll() is None:
            os.killpg(watcher.pid, signal.SIGKILL)
            watcher.communicate()
    assert "Stopped watching." in rest
    assert "Traceback" not in rest
    assert watcher.returncode == 0
    state = open_store().summary(SECTION)
    assert [state[name].status for name in ("double", "halve")] == ["passed", "passed"]
    assert {event.data["via"] for event in open_store().events("attempt")} == {"watch"}


def test_without_the_requirements_it_says_what_to_install():
    """``-S`` leaves the installed packages out, as another Python of the machine would."""
    command = [sys.executable, "-S", "-m", "refract", "build", "--check"]
    done = subprocess.run(
        command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "has no module" in done.stderr
    assert "requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr
