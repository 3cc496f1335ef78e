"""A file's answers: what of it is run, what is left out, and ``pytest --answers FILE``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from refract.checking import client, load_answers, run_checks
from refract.checking.answers import section_in
from refract.errors import RefractError
from refract.paths import SectionPaths


def notebook(file: Path, *cells: str, **metadata: object) -> Path:
    made = [{"cell_type": "code", "source": textwrap.dedent(cell).strip().splitlines(keepends=True)} for cell in cells]
    made.insert(0, {"cell_type": "markdown", "source": "# Mine"})
    file.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return file


def module(file: Path, text: str) -> Path:
    file.write_text(textwrap.dedent(text))
    return file


SETUP = """
%load_ext autoreload
!pip install nothing
import torch
from jaxtyping import Float
from torch import Tensor
from refract import check, hint, setup, solution
setup("ch1_toy/s1_first")
FACTOR = 2
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""


def test_notebook_is_run_as_far_as_its_definitions(toy, tmp_path):
    file = notebook(
        tmp_path / "mine.ipynb",
        SETUP,
        """
        def double(x: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
            '''Mine.'''
            return FACTOR * x

        check(double)
        open("trace", "w").write("the cell ran")
        """,
        "%%time\ndef quadruple(x):\n    return double(double(x)).to(device)\nquadruple(1)",
        "%%bash\nexit 1",
        "while True:\n    pass",
        "losses = [train(step) for step in range(10**9)]",
        "result = !ls",
    )
    loaded = load_answers(file, toy)
    assert set(loaded.answers) == {"double", "quadruple"}
    assert loaded.sources["double"].startswith("def double(x: Float")
    assert "check(double)" not in loaded.sources["double"]
    assert loaded.notes == [
        "Only definitions were run; variables that other code makes were left out: `losses`, `result`"
    ]
    assert not loaded.shown
    for name, answer in loaded.answers.items():
        assert run_checks(toy, name, answer).passed
    assert not (tmp_path / "trace").exists()
    assert not Path("trace").exists()


def test_an_error_in_one_cell_loses_no_other(toy, tmp_path):
    file = notebook(
        tmp_path / "mine.ipynb",
        "import torch\nimport no_such_library\nfrom torch import nn",
        "def double(x:\n    return x",
        "class counter(nowhere):\n    pass",
        "def quadruple(x):\n    return torch.mul(x, 4)",
    )
    loaded = load_answers(file, toy)
    assert run_checks(toy, "quadruple", loaded.answers["quadruple"]).passed
    double, counter = (run_checks(toy, name, loaded.answers[name]) for name in ("double", "counter"))
    assert double.status == counter.status == "stopped"
    assert "mine.ipynb, cell 3" in double.message
    assert "NameError: name 'nowhere' is not defined" in counter.message
    assert [note.split(":")[0] for note in loaded.notes] == [
        "mine.ipynb, cell 2, line 2",
        "mine.ipynb, cell 3, line 1",
        "mine.ipynb, cell 4, line 1",
    ]


@pytest.fixture
def built(toy, tmp_path, monkeypatch):
    """The toy with a learner's notebook of its own, whose figures cannot be made from definitions alone."""
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    notebook(toy.notebook, *COURSE_CELLS)
    return toy


COURSE_CELLS = (
    "import torch\nfrom torch import Tensor",
    "def double(x: Tensor):\n    raise NotImplementedError('your code here')",
    "W = train()  # takes long\nlarge = W > 0.5\nshown = large\nrun = W[0]\nlost = Tensor + gone",
    "def quadruple(x):\n    raise NotImplementedError('your code here')",
)


def test_the_courses_own_cells_are_not_the_learners_worry(built, tmp_path):
    """Spacing and comments aside, they are as they were. A cell of an answer is always the learner's."""
    cells = [*COURSE_CELLS, "mine = made()", "bad = nowhere + 1"]
    cells[1] = "def double(x: Tensor):\n    return 2 * x"
    cells[2] = cells[2].replace("  # takes long", "").replace("large = W > 0.5", "large  =  W>0.5")
    assert load_answers(notebook(tmp_path / "a.ipynb", *cells), built).notes == [
        "a.ipynb, cell 7, line 1: NameError: name 'nowhere' is not defined",
        "Only definitions were run; variables that other code makes were left out: `mine`",
    ]
    assert load_answers(notebook(tmp_path / "b.ipynb", *COURSE_CELLS), built).notes == []
    cells = [cell.replace("import Tensor", "import nn") for cell in COURSE_CELLS]
    assert load_answers(notebook(tmp_path / "c.ipynb", *cells), built).notes == [
        "c.ipynb, cell 3, line 1: NameError: name 'Tensor' is not defined"
    ]


def test_a_cell_of_the_course_that_was_changed_is_the_learners(built, tmp_path):
    cells = [*COURSE_CELLS]
    cells[2] = cells[2].replace("0.5", "0.1").replace("train()", "train(1)")
    notes = load_answers(notebook(tmp_path / "a.ipynb", *cells), built).notes
    assert notes == [
        "Only definitions were run; variables that other code makes were left out: `W`, `large`",
    ]


def test_a_library_that_is_missing_is_noted_wherever_it_is_imported(built, tmp_path):
    notebook(built.notebook, "import no_such_library")
    (note,) = load_answers(notebook(tmp_path / "a.ipynb", "import no_such_library"), built).notes
    assert "No module named 'no_such_library'" in note


def test_an_answer_that_leans_on_what_a_figure_made(built, tmp_path):
    cells = [*COURSE_CELLS, "def double(x):\n    return 2 * x if large.any() else shown"]
    result = run_checks(built, "double", load_answers(notebook(tmp_path / "a.ipynb", *cells), built).answers["double"])
    assert "uses `large` from a.ipynb, cell 4, which was not run" in result.message


def test_an_answer_that_cannot_be_defined_for_want_of_it(built, tmp_path):
    cells = [*COURSE_CELLS, "def double(x, factor=W):\n    return 2 * x"]
    loaded = load_answers(notebook(tmp_path / "a.ipynb", *cells), built)
    assert loaded.notes == ["a.ipynb, cell 6, line 1: NameError: name 'W' is not defined"]
    assert "raises NameError: name 'W'" in run_checks(built, "double", loaded.answers["double"]).message


def test_a_notebook_of_the_course_that_cannot_be_read_is_done_without(built, tmp_path):
    built.notebook.write_text("{")
    assert load_answers(notebook(tmp_path / "a.ipynb", "bad = nowhere"), built).notes


def test_a_function_of_nearly_an_exercises_name(toy, tmp_path):
    for file in (
        notebook(
            tmp_path / "mine.ipynb", "import torch", "def duoble(x):\n    return 2 * x", "def Counter():\n    pass"
        ),
        module(tmp_path / "mine.py", "def duoble(x):\n    return 2 * x\n\nclass Counter:\n    pass"),
    ):
        loaded = load_answers(file, toy)
        assert set(loaded.answers) == {"double", "counter"}
        result = run_checks(toy, "double", loaded.answers["double"])
        where = "mine.ipynb, cell 3" if file.suffix == ".ipynb" else "mine.py"
        assert (result.status, result.message) == (
            "stopped",
            f"You define `duoble` in {where}; the exercise is called `double`. "
            "Rename yours to `double`, then check again.",
        )


def test_another_function_is_not_taken_for_an_exercise(toy, tmp_path):
    text = "duoble = 3\ndef double_slowly(x):\n    pass\nfrom itertools import count as counte\n"
    loaded = load_answers(module(tmp_path / "mine.py", text), toy)
    assert loaded.answers == {}


def test_a_misspelt_name_in_a_definition(toy, tmp_path):
    (note,) = load_answers(module(tmp_path / "mine.py", "FACTOR = 2\nHALF = FACTRO / 4"), toy).notes
    assert note == "mine.py, line 2: NameError: name 'FACTRO' is not defined. Did you mean `FACTOR`?"


@pytest.mark.parametrize("suffix", [".ipynb", ".py"])
def test_the_headline_has_the_line_that_raised(toy, tmp_path, suffix):
    text = "def double(x):\n    rows = x[None]\n    return 2 * rows[3]"
    file = tmp_path / f"mine{suffix}"
    file = notebook(file, "import torch", text) if suffix == ".ipynb" else module(file, f"import torch\n\n\n{text}")
    message = run_checks(toy, "double", load_answers(file, toy).answers["double"]).message
    line = 3 if suffix == ".ipynb" else 6
    assert message.splitlines()[:3] == [
        "Your code raised an exception.",
        f"  line {line}, in `double`: return 2 * rows[3]",
        "  IndexError: index 3 is out of bounds for dimension 0 with size 1",
    ]


def test_the_solution_is_noted_as_such(toy, tmp_path):
    file = notebook(
        tmp_path / "mine.ipynb",
        "def double(x):\n    return x",
        'double = solution("double")',
        'quadruple = solution("quadruple")',
        "def quadruple(x):\n    return 4 * x",
        '# counter = solution("counter")',
    )
    loaded = load_answers(file, toy)
    assert loaded.shown == {"double"}
    assert set(loaded.answers) == {"double", "quadruple"}
    assert "double is the reference (solution shown)." in loaded.notes
    assert run_checks(toy, "double", loaded.answers["double"]).passed


def test_module(toy, tmp_path):
    (tmp_path / "helpers.py").write_text("def two():\n    return 2\n")
    file = module(
        tmp_path / "mine.py",
        """
        from __future__ import annotations

        import functools

        import helpers

        SCALE: float = 1.0
        if SCALE > 0:
            def double(x: Undefined) -> Missing:
                return SCALE * helpers.two() * x
        quadruple = functools.partial(lambda k, x: k * x, 4)
        print("never")
        raise SystemExit
        """,
    )
    loaded = load_answers(file, toy)
    assert set(loaded.answers) == {"double", "quadruple"}
    for name, answer in loaded.answers.items():
        assert run_checks(toy, name, answer).passed


def test_traceback_names_the_cell(toy, tmp_path):
    file = notebook(tmp_path / "mine.ipynb", "X = 1", "def double(x):\n    return x.nothing")
    result = run_checks(toy, "double", load_answers(file, toy).answers["double"])
    assert 'File "mine.ipynb, cell 3", line 2, in double\n    return x.nothing' in result.traceback


def test_a_variable_that_was_left_out_is_explained(toy, tmp_path):
    file = notebook(tmp_path / "mine.ipynb", "scale = compute()", "def double(x):\n    return scale * x")
    result = run_checks(toy, "double", load_answers(file, toy).answers["double"])
    assert "uses `scale` from mine.ipynb, cell 2, which was not run" in result.message


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.ipynb", None, "cannot be read: No such file"),
        ("none.py", None, "cannot be read: No such file"),
        ("broken.ipynb", '{"cells": [', "its JSON is broken"),
        ("list.ipynb", "[]", "it has no cells"),
        ("old.ipynb", '{"worksheets": []}', "it has no cells"),
        ("notes.txt", "hello", "neither a notebook nor a module"),
    ],
)
def test_what_is_no_file_of_answers(toy, tmp_path, name, text, words):
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(RefractError, match=words):
        load_answers(file, toy)


def test_bytes_that_are_no_text(toy, tmp_path):
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RefractError, match="it is not text"):
        load_answers(tmp_path / "mine.py", toy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\nclass A:\n    os._exit(0)", "ended the process"),
        ("class A:\n    while True: pass", "took more than 1.5 s"),
        ("class A:\n    while True: print('x' * 10**6)", "characters"),
    ],
)
def test_hostile_definitions(toy, tmp_path, monkeypatch, text, words):
    client.pool().warm()
    monkeypatch.setenv("REFRACT_LOAD_SECONDS", "1.5")
    with pytest.raises(RefractError, match=words) as caught:
        load_answers(module(tmp_path / "mine.py", text), toy)
    assert "mine.py" in str(caught.value)
    monkeypatch.delenv("REFRACT_LOAD_SECONDS")
    loaded = load_answers(module(tmp_path / "mine.py", "def double(x):\n    return 2 * x"), toy)
    assert run_checks(toy, "double", loaded.answers["double"]).passed


def test_section_in_the_metadata(toy, tmp_path):
    assert section_in(notebook(tmp_path / "a.ipynb", refract={"section": "ch1_toy/s1_first"})) == toy
    assert section_in(notebook(tmp_path / "b.ipynb")) is None
    assert section_in(tmp_path / "c.py") is None


# --- pytest on the command line ------------------------------------------------------------------


def run_pytest(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Pytest in the toy course, in a process of its own."""
    root = os.environ["REFRACT_ROOT"]
    (Path(root) / "tests" / "conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", root, "-rs"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "REFRACT_CHECK_SECONDS": "4"}
    return subprocess.run(
        [*command, "--import-mode=importlib", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=environment, cwd=root, check=False,
    )  # fmt: skip


def test_plain_pytest_judges_the_reference(toy):
    done = run_pytest("-q", toy.tests)
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout


def test_plain_pytest_notices_a_wrong_reference(toy, tmp_path, monkeypatch):
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    toy.reference.write_text(
        toy.reference.read_text().replace("return 2 * x", "torch.manual_seed(0)\n    return 3 * x")
    )
    done = run_pytest("-q", toy.tests)
    assert done.returncode == 1
    assert "seeds the global random generator of torch" in done.stdout


def test_answers_of_a_notebook(toy, tmp_path):
    """Half done: one right, one wrong, one not attempted. The section is in the metadata."""
    file = notebook(
        tmp_path / "copy.ipynb",
        SETUP,
        "def double(x):\n    return 2 * x",
        "def quadruple(x):\n    raise NotImplementedError('your code here')",
        "class counter:\n    def __init__(self, start=0):\n        self.count = start\n"
        "    def step(self):\n        return 7\n",
        refract={"section": toy.id},
    )
    done = run_pytest("--answers", file)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 8 passed, 2 skipped" in done.stdout
    assert "After 2 comes 3." in done.stdout
    assert "quadruple: not attempted" in done.stdout
    summary = done.stdout.partition("ch1_toy/s1_first: copy.ipynb")[2]
    assert "double     passed, 8 of 8 tests" in summary
    assert "counter    failed, 1 of 2 tests" in summary
    assert "quadruple  not attempted" in summary
    assert "Traceback" not in done.stdout


def test_what_stands_in_the_way_of_many_tests_is_told_once(toy, tmp_path):
    text = "def double(x):\n    return x[None][3]\n\ndef counte():\n    pass"
    done = run_pytest("--answers", module(tmp_path / "s1_first.py", text))
    assert done.returncode == 1
    assert done.stdout.count("  line 2, in `double`: return x[None][3]") == 1
    assert (
        done.stdout.count("double: Three becomes six\nThe same as in the test: Ones become twos.\n  IndexError: ") == 1
    )
    assert done.stdout.count("You define `counte` in s1_first.py; the exercise is called `counter`.") == 1
    assert done.stdout.count("counter: could not be checked, as said above.") == 1


def test_plain_pytest_notices_a_reference_that_changes_its_input(toy, tmp_path, monkeypatch):
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    toy.reference.write_text(toy.reference.read_text().replace("return 2 * x", "return x.mul_(2)"))
    done = run_pytest("-q", toy.tests, "-k", "ones")
    assert done.returncode == 1
    assert "Your answer changed its input `x`" in done.stdout


def test_answers_of_a_module_that_hangs(toy, tmp_path):
    file = module(
        tmp_path / "s1_first.py",
        """
        def double(x):
            while True:
                pass
        """,
    )
    done = run_pytest("--answers", file)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "double: Ones become twos" in done.stdout
    assert "took too long" in done.stdout
    assert "1 failed" in done.stdout


def test_nothing_attempted_is_no_failure(toy, tmp_path):
    done = run_pytest("--answers", notebook(tmp_path / "s1_first.ipynb", "import torch"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 skipped" in done.stdout


def test_section_by_the_test_file_that_is_named(toy, tmp_path):
    file = module(tmp_path / "mine.py", "def double(x):\n    return 2 * x")
    done = run_pytest("--answers", file, toy.tests, "-k", "ones")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout or "1 passed" in done.stdout


@pytest.mark.parametrize(("name", "words"), [("none.ipynb", "cannot be read"), ("what.py", "no section called 'what'")])
def test_answers_that_cannot_be_found(toy, tmp_path, name, words):
    (tmp_path / "what.py").write_text("")
    done = run_pytest("--answers", tmp_path / name)
    assert done.returncode == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_sections_are_found_by_their_place(toy):
    from refract.checking.plugin import section_of

    assert section_of(toy.tests) == toy
    assert section_of(toy.tests.with_name("test_s9_none.py")) is None
    assert section_of(Path(__file__)) is None
    assert SectionPaths.parse("s1_first") == toy
