"""The command line on a toy course: each command's happy path, its bad inputs, and that nothing is lost.

The checking engine is replaced by a stand-in that runs in this process; ``test_cli_engine.py`` uses the real one.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from typer.testing import CliRunner

import refract.checking
from refract.checking.result import CheckResult, TestOutcome
from refract.cli import app
from refract.cli.answers import Target
from refract.cli.watch import Memory, follow, recheck, screen
from refract.errors import RefractError
from refract.names import suggestion
from refract.paths import SectionPaths
from refract.progress import home, open_store

SECTION = "ch1_demo/s1_demo"
SOURCE = """# A demonstration

```{exercise} double
:difficulty: 1
:importance: 2
:minutes: 5

Return twice `x`.

It is not hard.

:::{hint} What is one and one?
:::
:::{hint} Add the number to itself, whatever its shape may be; a sentence long enough to be wrapped by a terminal.
:::
:::{mistake} squared
You squared $x$: 3 became 9.
:::
```

```{predict} parity
:kind: choice
:answer: a

Is twice a number even?

- a. yes
- b. no

:::{reveal}
It is.
:::
```

```{exercise} halve
:difficulty: 2
:importance: 3
:minutes: 1

Return half of `x`.

:::{hint} Divide.
:::
```
"""
REFERENCE = '''"""The reference."""


def double(x: float) -> float:
    """Twice ``x``."""
    # BEGIN SOLUTION
    return x + x
    # END SOLUTION


def halve(x: float) -> float:
    """Half of ``x``."""
    return x / 2
'''
STUB = 'raise NotImplementedError("your code here")'
EXAMPLES = {"double": (3, 6), "halve": (3, 1.5)}
PIXEL = base64.b64encode(b"\x89PNG pixel").decode()


def notebook_of(*cells: str, image: str | None = None) -> str:
    cells_ = [nbformat.v4.new_code_cell(cell, id=f"cell{number}") for number, cell in enumerate(cells)]
    if image:
        cells_[0]["outputs"] = [nbformat.v4.new_output("display_data", data={"image/png": image})]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells_))


def code(double: str = STUB, halve: str = STUB) -> list[str]:
    return [f"def double(x):\n    {double}", f"def halve(x):\n    {halve}"]


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one section, an empty home, and the stand-in for the engine. Returns the course's folder."""
    root = tmp_path / "course"
    paths = SectionPaths("ch1_demo", "s1_demo")
    monkeypatch.setenv("REFRACT_ROOT", str(root))
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "home"))
    for file, text in (
        (paths.source, SOURCE),
        (paths.reference, REFERENCE),
        (paths.notebook, notebook_of("import math", *code())),
        (paths.figures / "pentagon.json", "{}"),
        (paths.figures / "pentagon.png", "png"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setitem(vars(refract.checking), "load_answers", stand_in_for_load_answers)
    monkeypatch.setitem(vars(refract.checking), "run_checks", stand_in_for_run_checks)
    return root


def stand_in_for_load_answers(file: Path, paths: SectionPaths) -> SimpleNamespace:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        try:
            cells = json.loads(text)["cells"]
        except ValueError as error:
            raise RefractError(f"{file} is not a notebook: {error}", "Save it again.") from error
        text = "\n".join("".join(cell["source"]) for cell in cells)
    names: dict = {"solution": lambda name: name}
    exec(text, names)
    parts = {
        node.name: ast.get_source_segment(text, node)
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }
    answers = {name: names[name] for name in EXAMPLES if name in names}
    shown = {name for name, answer in answers.items() if answer == name}
    return SimpleNamespace(answers=answers, sources=parts, notes=[], shown=shown)


CHECKED: list[str] = []


def stand_in_for_run_checks(paths: SectionPaths, name: str, answer) -> CheckResult:
    CHECKED.append(name)
    given, wanted = EXAMPLES[name]
    try:
        got = answer(given)
    except NotImplementedError:
        return CheckResult(paths.id, name, "not attempted")
    status = "passed" if got == wanted else "failed"
    tests = (TestOutcome(f"test_{name}", "It is right", status),)
    mistake = "squared" if got == given**2 else None
    message = "" if status == "passed" else f"{name}({given}) should be {wanted}; it is {got}."
    return CheckResult(paths.id, name, status, tests, message, mistake, 0.01)


def run(*arguments: str, code: int = 0, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, arguments, input=typed)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def write(course: Path, *cells: str, **more) -> Path:
    file = course / "work" / "s1_demo.ipynb"
    file.parent.mkdir(exist_ok=True)
    file.write_text(notebook_of(*cells, **more), encoding="utf-8")
    return file


# -- start -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [(), ("s1_demo",), (SECTION,)], ids=["none", "short", "long"])
def test_start_copies_the_notebook_and_says_what_to_type_next(course, name):
    output = run("start", *name)
    built = (course / "chapters" / "ch1_demo" / "s1_demo.ipynb").read_text()
    assert (course / "work" / "s1_demo.ipynb").read_text() == built
    assert [path.name for path in (course / "work").iterdir()] == ["s1_demo.ipynb"]
    assert "jupyter lab work/s1_demo.ipynb" in output
    assert "python -m refract watch s1_demo" in output


def test_start_never_overwrites_what_a_learner_wrote(course):
    file = write(course, *code(double="return x * 2"))
    mine = file.read_text()
    output = run("start")
    assert file.read_text() == mine
    assert "left as it is" in output
    assert "--again" in output


def test_start_again_keeps_the_old_one_under_a_dated_name(course):
    mine = []
    for number in range(3):  # within one second, as well
        mine.append(write(course, f"mine = {number}").read_text())
        run("start", "--again")
    kept = [path.read_text() for path in (course / "work").glob("s1_demo.*-*.ipynb")]
    assert sorted(kept) == sorted(mine)
    assert "def double" in (course / "work" / "s1_demo.ipynb").read_text()


def test_start_of_a_section_that_is_not_there(course):
    output = run("start", "s9_nowhere", code=2)
    assert "s9_nowhere" in output
    assert SECTION in output
    assert "Traceback" not in output


def test_start_again_without_a_built_notebook_leaves_the_learners_alone(course):
    file = write(course, "mine = 1")
    (course / "chapters" / "ch1_demo" / "s1_demo.ipynb").unlink()
    before = file.read_text()
    for command in (("start", "--again"), ("reset", "--yes")):
        assert "has not been built" in run(*command, code=2)
    assert file.read_text() == before
    assert len(list((course / "work").iterdir())) == 1
    assert open_store().events("reset") == []


# -- check -------------------------------------------------------------------------------------------------------------


def test_check_says_what_passed_and_what_is_next_and_records_it(course):
    write(course, *code(double="return 2 * x"))
    output = run("check")
    assert "double: passed" in output
    assert "halve: not attempted" in output
    assert "Next: halve (about 1 minute)" in output
    store = open_store()
    assert store.state(SECTION, "double").passed
    assert store.last_source(SECTION, "double") == "def double(x):\n    return 2 * x"
    [event] = store.events("attempt")
    assert event.data["via"] == "check"


def test_check_of_a_wrong_answer_exits_with_one_and_shows_the_message(course):
    write(course, *code(double="return 2 * x", halve="return x"))
    output = run("check", code=1)
    assert "halve(3) should be 1.5; it is 3." in output
    assert "python -m refract hint halve" in output
    assert open_store().state(SECTION, "halve").last_message == "halve(3) should be 1.5; it is 3."


def test_check_takes_files_sections_and_exercises(course):
    write(course, *code(double="return 2 * x", halve="return x"))
    module = course / "answers.py"
    module.write_text("def double(x):\n    return x * 2\n")
    for arguments, expected in (
        (("double",), 0),
        (("halve",), 1),
        (("s1_demo", "double"), 0),
        ((SECTION, "halve", "double"), 1),
        (("work/s1_demo.ipynb", "double"), 0),
        (("answers.py",), 0),
        (("answers.py", "--section", SECTION), 0),
        (("answers.py", "halve"), 1),  # asked for, and not there
    ):
        run("check", *arguments, code=expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("duoble",), "Did you mean double"),
        (("s1_demo", "nothing"), "no exercise 'nothing'"),
        (("missing.ipynb",), "There is no file missing.ipynb"),
        (("s2_other/x",), "no section called"),
        (("demo",), "Did you mean s1_demo"),
        (("s1_dmeo", "double"), "no exercise or section called 's1_dmeo'.\n  Did you mean s1_demo"),
        (("s1_demo", "duoble"), "Did you mean double"),
        ((), "python -m refract start s1_demo"),
    ],
)
def test_check_of_what_is_not_there(course, arguments, words):
    if arguments and not arguments[0].startswith("missing"):
        write(course, *code())
    assert words in run("check", *arguments, code=2)


def test_check_does_not_judge_a_solution_that_was_shown(course):
    write(course, 'double = solution("double")', "def halve(x):\n    return x / 2")
    output = run("check")
    assert "double: the solution was shown" in output
    assert "1 of 2 exercises passed." in output
    state = open_store().state(SECTION, "double")
    assert state.solution_shown
    assert not state.passed


# -- watch -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(course):
    from refract.authoring import source

    paths = SectionPaths.parse(SECTION)
    section, target, memory = source.load(paths), Target(paths, course / "work" / "s1_demo.ipynb"), Memory()
    CHECKED.clear()

    def look() -> tuple[list[str], str]:
        CHECKED.clear()
        changed = recheck(section, target, memory, open_store())
        assert set(CHECKED) <= set(changed)
        return list(CHECKED), screen(section, target, memory)

    return look


def test_watch_checks_again_only_what_changed(course, watched):
    write(course, *code())
    assert watched()[0] == ["double", "halve"]
    assert watched()[0] == []
    write(course, *code(halve="return x / 2"))
    assert watched()[0] == ["halve"]
    write(course, "two = 2", *code(halve="return x / 2"))  # what the answers may lean on
    assert watched()[0] == ["double", "halve"]


def test_watch_shows_the_bar_the_first_failure_and_what_is_next(course, watched):
    write(course, *code())
    shown = watched()[1]
    assert "[------------------------------] 0 of 2" in shown
    assert "Next: double (about 5 minutes)\n  Return twice `x`." in shown
    assert "It is not hard" not in shown
    write(course, *code(double="return 2 * x", halve="return x"))
    shown = watched()[1]
    assert "[###############---------------] 1 of 2" in shown
    assert "passed          double" in shown
    assert "halve(3) should be 1.5; it is 3." in shown
    write(course, 'double = solution("double")', code(halve="return x / 2")[1])
    shown = watched()[1]
    assert "2 of 2" in shown
    assert "solution shown  double" in shown
    assert "All exercises of this section are done." in shown
    assert [event.name for event in open_store().events("attempt")] == ["double", "halve", "halve"]


def test_watch_survives_a_half_written_notebook(course, watched):
    file = write(course, *code(double="return 2 * x"))
    watched()
    whole = file.read_text()
    for broken in (whole[: len(whole) // 2], "", "[]"):
        file.write_text(broken)
        checked, shown = watched()
        assert checked == []
        assert "cannot be read just now" in shown
        assert "1 of 2" in shown
    file.unlink()
    assert "cannot be read just now" in watched()[1]
    file.write_text(whole)
    checked, shown = watched()
    assert checked == []
    assert "cannot be read" not in shown


def test_watch_follows_the_file_until_ctrl_c(course, capsys):
    from refract.authoring import source

    file = write(course, *code())
    paths = SectionPaths.parse(SECTION)
    screens: list[str] = []

    def show(text: str) -> None:
        screens.append(text)
        if len(screens) == 1:  # as an editor saves: another file, renamed over it
            (course / "work" / "unrelated.txt").touch()
            saved = course / "work" / "swap"
            saved.write_text(notebook_of(*code(double="return 2 * x")))
            saved.replace(file)
        else:
            raise KeyboardInterrupt

    follow(source.load(paths), Target(paths, file), open_store(), show)
    assert ["0 of 2" in screens[0], "1 of 2" in screens[1], len(screens)] == [True, True, 2]
    assert "Stopped watching" in capsys.readouterr().out


def test_watch_draws_only_when_the_file_has_changed(course, monkeypatch):
    import watchfiles

    from refract.authoring import source

    file = write(course, *code())
    paths = SectionPaths.parse(SECTION)
    screens: list[str] = []

    def watch(*_, **__):
        yield from [set(), set(), set()]
        write(course, *code(double="return 2 * x"))
        yield from [set(), set()]
        raise KeyboardInterrupt

    monkeypatch.setattr(watchfiles, "watch", watch)
    follow(source.load(paths), Target(paths, file), open_store(), screens.append)
    assert len(screens) == 2


def test_watch_without_a_notebook(course):
    assert "python -m refract start s1_demo" in run("watch", code=2)


# -- hint and solution -------------------------------------------------------------------------------------------------


def test_hints_open_one_at_a_time(course):
    first = run("hint", "double")
    assert "Hint 1 of 2\n  What is one and one?" in first
    assert "1 hint left." in first
    second = run("hint", "double")
    assert "Add the number to itself" in second
    assert "one and one" not in second
    assert max(map(len, second.splitlines())) <= 90
    third = run("hint", "double")
    assert "Add the number to itself" in third
    assert "solution double --show-me" in third
    store = open_store()
    assert [event.data["step"] for event in store.events("hint")] == [1, 2]
    again = run("hint", "double", "--again")
    assert "one and one" in again
    assert "Add the number" in again
    assert len(store.events("hint")) == 2


def test_the_hint_that_fits_the_failure_comes_first(course):
    write(course, *code(double="return x * x"))
    run("check", code=1)
    output = run("hint", "double")
    assert output.index("You squared $x$: 3 became 9.") < output.index("Hint 1 of 2")
    write(course, *code(double="return x"))
    run("check", code=1)
    assert "squared" not in run("hint", "double")


def test_hint_without_a_name_is_of_the_next_exercise_that_is_not_passed(course):
    first = run("hint")
    assert first.startswith("Your next exercise: double (ch1_demo/s1_demo)\n\nHint 1 of 2\n  What is one and one?")
    write(course, *code(double="return 2 * x"))
    run("check")
    assert "Your next exercise: halve" in run("hint", "s1_demo")
    assert [(event.name, event.data["step"]) for event in open_store().events("hint")] == [("double", 1), ("halve", 1)]
    assert "Divide." in run("hint", "--again")
    run("solution", "halve", "--show-me")
    output = run("hint", code=2)
    assert "No exercise of ch1_demo/s1_demo is open" in output
    assert "Hint 2 of 2" in run("hint", "double")


def test_hint_without_a_name_stays_in_the_section_last_worked_on(course):
    for name in ("s2_more", "s3_third"):
        (course / "chapters" / "ch1_demo" / f"{name}.md").write_text(SOURCE.replace("double", "treble"))
    assert "Which section" in run("hint", code=2)
    assert "treble (ch1_demo/s3_third)" in run("hint", "--section", "s3_third")
    open_store().add_skip("ch1_demo/s2_more", "parity")
    open_store().add_hint("ch9_gone/s1_gone", "old", 1)
    assert "treble (ch1_demo/s2_more)" in run("hint")
    assert "double (ch1_demo/s1_demo)" in run("hint", "s1_demo")
    assert "double (ch1_demo/s1_demo)" in run("hint")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("start", "s1_dem"), "s1_demo"),
        (("start", "ch1_demo/s1_dem"), "ch1_demo/s1_demo"),
        (("reset", "demo"), "s1_demo"),
        (("export", "S1_Demo"), "s1_demo"),
        (("progress", "--section", "s1demo"), "s1_demo"),
        (("hint", "Duble"), "double"),
        (("hint", "s1_dmo"), "s1_demo"),
        (("hint", "halv", "--section", "s1_demo"), "halve"),
        (("hint", "halve", "--section", "s1demo"), "s1_demo"),
        (("solution", "halv"), "halve"),
        (("watch", "s1_demmo"), "s1_demo"),
    ],
)
def test_a_misspelt_name_is_recognised(course, arguments, meant):
    output = run(*arguments, code=2)
    assert f"  Did you mean {meant}? " in output
    assert len(output.strip().splitlines()) == 2
    assert open_store().events() == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy", "Did you mean s1_toy_models? "),  # a part of one name
        ("s1_tyo_models", "Did you mean s1_toy_models? "),
        ("A_LONG_NAME", "Did you mean a_long_name_2? "),
        (" s2_phase ", "Did you mean s2_Phase_change? "),
        ("name", ""),  # a part of two
        ("s", ""),
        ("", ""),
    ],
)
def test_the_name_that_was_meant(name, said):
    assert suggestion(name, ["s1_toy_models", "s2_Phase_change", "one_long_name_1", "a_long_name_2"]) == said


def test_what_is_like_nothing_gets_no_suggestion(course):
    for arguments in (("start", "zzz"), ("hint", "zzz"), ("check", "zzz"), ("solution", "s1_demo")):
        output = run(*arguments, code=2)
        assert "Did you mean" not in output
        assert "zzz" in output or "s1_demo" in output


def test_check_finds_the_section_that_has_the_exercise(course):
    (course / "chapters" / "ch1_demo" / "s2_more.md").write_text(
        SOURCE.replace("double", "treble").replace("halve", "third")
    )
    write(course, *code(double="return 2 * x"))
    (course / "work" / "s2_more.ipynb").write_text(notebook_of("x = 1"))
    assert "Which section" in run("check", code=2)
    assert "double: passed" in run("check", "double")


@pytest.mark.parametrize("command", ["hint", "solution"])
def test_an_exercise_that_is_not_there(course, command):
    output = run(command, "duble", code=2)
    assert "Did you mean double" in output
    assert open_store().events() == []


def test_the_solution_needs_a_pass_or_a_yes(course):
    assert "x + x" not in run("solution", "double", code=1, typed="n\n")
    assert "x + x" not in run("solution", "double", code=1, typed="")
    assert open_store().events() == []
    output = run("solution", "double", typed="y\n")
    assert "2 hints left" in output
    assert "x + x" in output
    assert "BEGIN SOLUTION" not in output
    assert open_store().solution_shown(SECTION, "double")
    assert "x / 2" in run("solution", "halve", "--show-me")


def test_the_solution_is_open_after_a_pass(course):
    write(course, *code(double="return 2 * x"))
    run("check")
    output = run("solution", "double")
    assert compile(output, "solution", "exec")
    assert open_store().state(SECTION, "double").without_solution


# -- progress ----------------------------------------------------------------------------------------------------------


def test_progress_shows_a_table(course):
    write(course, *code(double="return 2 * x"))
    run("check")
    run("hint", "halve")
    run("solution", "halve", "--show-me")
    open_store().add_prediction(SECTION, "parity", "a", confidence=0.8, correct=True, truth="a")
    rows = {line.split()[0]: line.split() for line in run("progress").splitlines() if line.strip()}
    assert rows["double"] == ["double", "passed", "1", "0", "of", "2"]
    assert rows["halve"] == ["halve", "new,", "solution", "seen", "0", "1", "of", "1"]
    assert rows["parity"] == ["parity", "a", "80%", "right"]
    assert "shown without one" not in run("progress")
    assert rows["80%"] == ["80%", "to", "100%", "1", "80%", "100%"]


def test_progress_writes_a_number_as_a_person_would(course):
    store = open_store()
    for name, answer in (("whole", 2.0), ("half", 2.5), ("letter", "a")):
        store.add_prediction(SECTION, name, answer)
    rows = {line.split()[0]: line.split()[1] for line in run("progress").splitlines() if "not revealed" in line}
    assert rows == {"whole": "2", "half": "2.5", "letter": "a"}


def test_progress_tells_what_was_shown_before_it_was_predicted(course):
    store = open_store()
    store.add_skip(SECTION, "parity")
    assert "parity      none          shown without one" in run("progress")
    store.add_prediction(SECTION, "parity", "a", confidence=0.8, correct=True)
    output = run("progress")
    assert "parity      a       80%   made after the answer, not counted" in output
    assert "shown without one" not in output
    assert "Calibration" not in output


def test_progress_as_json(course):
    write(course, *code(double="return 2 * x"))
    run("check")
    open_store().add_skip(SECTION, "parity")
    data = json.loads(run("progress", "--json", "--section", "s1_demo"))
    [section] = data["sections"]
    assert (section["section"], section["passed"], section["total"]) == (SECTION, 1, 2)
    assert [exercise["status"] for exercise in section["exercises"]] == ["passed", "new"]
    assert data["calibration"]["count"] == 0
    assert section["shown_unpredicted"] == ["parity"]


def test_progress_of_a_section_that_is_not_there(course):
    assert "no section called" in run("progress", "--section", "nowhere", code=2)


def test_import_adds_what_was_done_elsewhere_once(course, tmp_path):
    other = open_store(tmp_path / "elsewhere.db")
    other.add_hint(SECTION, "double", 2)
    assert "1 event added" in run("progress", "import", str(other.path))
    assert "Nothing new" in run("progress", "import", str(other.path))
    assert open_store().hints_opened(SECTION, "double") == 2
    assert "There is no file" in run("progress", "import", "missing.db", code=2)


# -- export and reset --------------------------------------------------------------------------------------------------


def test_export_holds_answers_figures_and_results_and_can_be_imported(course, tmp_path, monkeypatch):
    file = write(course, *code(double="return 2 * x"), image=PIXEL)
    run("check")
    write(course, *code(double="return x"), image=PIXEL)
    run("check", code=1)
    mine = home() / "figures" / SECTION / "pentagon.json"
    mine.parent.mkdir(parents=True)
    mine.write_text('{"mine": 1}', encoding="utf-8")
    output = run("export", "-o", str(tmp_path / "mine.zip"))
    assert "mine.zip" in output
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {
            f"answers/{SECTION}/s1_demo.ipynb",
            f"answers/{SECTION}/double.py",
            f"figures/{SECTION}/pentagon.json",
            f"figures/{SECTION}/pentagon.png",
            f"figures/{SECTION}/notebook/cell001-1.png",
            f"figures/{SECTION}/yours/pentagon.json",
            "results/progress.json",
            "results/progress.db",
            "README.txt",
        }
        assert archive.read(f"answers/{SECTION}/s1_demo.ipynb") == file.read_bytes()
        assert archive.read(f"answers/{SECTION}/double.py") == b"def double(x):\n    return 2 * x\n"
        assert archive.read(f"figures/{SECTION}/notebook/cell001-1.png") == b"\x89PNG pixel"
        listed = [line.split(maxsplit=1) for line in archive.read("README.txt").decode().splitlines()[2:9]]
        assert listed == [
            [f"answers/{SECTION}/s1_demo.ipynb", "your notebook"],
            [f"answers/{SECTION}/double.py", "your last answer that passed"],
            [f"figures/{SECTION}/", "the course's figures, 2 files"],
            [f"figures/{SECTION}/notebook/", "pictures in your notebook, 1 file"],
            [f"figures/{SECTION}/yours/", "your figures, as Plotly JSON, 1 file"],
            ["results/progress.json", "your progress, to read"],
            [
                "results/progress.db",
                "your progress in all sections: python -m refract progress import THIS.zip adds it",
            ],
        ]
        assert json.loads(archive.read("results/progress.json"))["sections"][0]["passed"] == 1
    before = open_store().events()
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "another"))
    assert "2 events added" in run("progress", "import", str(tmp_path / "mine.zip"))
    assert open_store().events() == before


def test_the_readme_of_an_export_names_what_is_in_it_and_nothing_else(course):
    for file in (course / "assets" / "figures" / SECTION).iterdir():
        file.unlink()
    open_store().add_hint(SECTION, "double", 1)  # begun on the site: no notebook, no answer, no figure
    run("export")
    with zipfile.ZipFile(course / "refract_export.zip") as archive:
        named = [line.split()[0] for line in archive.read("README.txt").decode().splitlines()[1:] if line]
        assert sorted([*named, "README.txt"]) == sorted(archive.namelist())


def test_export_replaces_nothing_unless_told(course):
    write(course, *code())
    run("export", SECTION)
    target = course / "refract_export.zip"
    before = target.read_bytes()
    assert "exists already" in run("export", code=2)
    assert target.read_bytes() == before
    target.write_text("other")
    run("export", "--force")
    assert zipfile.is_zipfile(target)


def test_an_export_that_fails_leaves_the_old_one_whole(course, monkeypatch):
    write(course, *code())
    target = course / "refract_export.zip"
    target.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("refract.cli.export.as_json", full)
    assert "No space left" in run("export", "--force", code=2)
    assert target.read_text() == "old"
    assert [path.name for path in course.iterdir() if "refract_export" in path.name] == ["refract_export.zip"]


def test_export_of_a_broken_notebook_keeps_it_as_it_is(course):
    file = write(course, *code())
    file.write_text("{half")
    run("export")
    with zipfile.ZipFile(course / "refract_export.zip") as archive:
        assert archive.read(f"answers/{SECTION}/s1_demo.ipynb") == b"{half"
        assert "could not be read" in archive.read("README.txt").decode()


def test_export_of_nothing(course):
    assert "not begun" in run("export", code=2)
    assert not (course / "refract_export.zip").exists()


def test_export_into_a_folder_that_is_not_there(course):
    write(course, *code())
    assert "could not be written" in run("export", "-o", "no/such/folder.zip", code=2)


def test_reset_puts_the_notebook_aside_and_counts_from_now(course):
    mine = write(course, *code(double="return 2 * x")).read_text()
    run("check")
    run("reset", "s1_demo", "--yes")
    [aside] = (course / "work").glob("s1_demo.*-*.ipynb")
    assert aside.read_text() == mine
    assert "NotImplementedError" in (course / "work" / "s1_demo.ipynb").read_text()
    store = open_store()
    assert store.state(SECTION, "double").status == "new"
    assert len(store.events("attempt")) == 1


@pytest.mark.parametrize(("option", "kept"), [("--notebook", "progress"), ("--progress", "notebook")])
def test_reset_of_one_leaves_the_other(course, option, kept):
    file = write(course, *code(double="return 2 * x"))
    mine = file.read_text()
    run("check")
    run("reset", option, "--yes")
    assert (file.read_text() == mine) == (kept == "notebook")
    assert open_store().state(SECTION, "double").passed == (kept == "progress")


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_reset_asks_first(course, typed):
    mine = write(course, *code(double="return 2 * x")).read_text()
    run("check")
    run("reset", code=1, typed=typed)
    assert (course / "work" / "s1_demo.ipynb").read_text() == mine
    assert len(list((course / "work").iterdir())) == 1
    assert open_store().state(SECTION, "double").passed


# -- build, site, and the whole ----------------------------------------------------------------------------------------


def test_build_passes_its_options_on(course, monkeypatch):
    calls = []

    def build(sections, *, check, execute, verify):
        calls.append((sections, check, execute, verify))
        return 3

    monkeypatch.setitem(sys.modules, "refract.authoring.build", SimpleNamespace(build=build))
    run("build", code=3)
    run("build", "s1_demo", "--check", code=3)
    run("build", "--execute", "--verify", code=3)
    assert calls == [(None, False, False, False), (["s1_demo"], True, False, False), (None, False, True, True)]


def test_site_starts_streamlit_with_this_python(course, monkeypatch):
    assert "There is no site" in run("site", code=2)
    page = course / "streamlit_app" / "app.py"
    page.parent.mkdir()
    page.touch()
    calls = []

    def call(command, cwd):
        calls.append((command, cwd))
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    run("site", "--port", "8600", "--headless")
    [(command, folder)] = calls
    assert command[:5] == [sys.executable, "-m", "streamlit", "run", str(page)]
    assert command[-4:] == ["--server.port", "8600", "--server.headless", "true"]
    assert folder == course


def test_several_sections_must_be_told_apart(course):
    for name in ("s2_more", "s3_third"):
        (course / "chapters" / "ch1_demo" / f"{name}.md").write_text(SOURCE.replace("double", "treble"))
    output = run("check", code=2)
    assert "Which section" in output
    assert "s1_demo, s2_more, s3_third" in output
    assert "Hint 1" in run("hint", "double")  # only one section has it
    assert "Several sections" in run("hint", "treble", code=2)
    assert "Hint 1" in run("hint", "treble", "--section", "s2_more")
    write(course, *code(double="return 2 * x"))
    assert "double: passed" in run("check")  # the only one that is begun


def test_a_course_without_sections(tmp_path, monkeypatch):
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    assert "REFRACT_ROOT" in run("start", code=2)


def test_a_problem_with_the_progress_file_is_two_lines(course, monkeypatch):
    (course / "file").touch()
    monkeypatch.setenv("REFRACT_HOME", str(course / "file"))
    output = run("progress", code=2)
    assert len(output.strip().splitlines()) == 2
    assert "REFRACT_HOME" in output


def test_help_is_quick_to_import():
    program = (
        "import sys, refract.cli\n"
        "print([name for name in ('torch', 'numpy', 'nbformat', 'streamlit', 'IPython', 'markdown_it', 'watchfiles')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_module_is_the_command():
    plain = os.environ | {"_TYPER_FORCE_DISABLE_TERMINAL": "1", "TERM": "dumb"}  # no colours, on CI machines either
    done = subprocess.run(
        [sys.executable, "-m", "refract", "--help"], capture_output=True, text=True, check=True, env=plain
    )
    for command in ("start", "check", "watch", "hint", "solution", "progress", "export", "reset", "build", "site"):
        assert f" {command} " in done.stdout
