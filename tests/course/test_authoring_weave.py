"""From source and reference to notebooks: stubs without answers, stable cells, no secrets for the learner."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import nbformat
import pytest

from refract import session
from refract.authoring import source, stubs, values, weave
from refract.authoring.values import ROLE, Recorded
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections
from tests.course import authoring_toy as toy
from tests.course.authoring_toy import REFERENCE, SECTION, SOURCE

STOP = 'raise NotImplementedError("your code here")'
RECORDED = {"how_many": Recorded(10), "grand_total": Recorded(45, 0.5), "mean": Recorded(4.5)}


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    toy.write(tmp_path)
    return tmp_path


# --- stubs -------------------------------------------------------------------------------------

# name: (the reference, what the stub must be). A line that holds "secret" belongs to the answer.
STUBS = {
    "plain": (
        '''
def f(x):
    """Twice x."""
    secret = 2
    return secret * x
''',
        '''
def f(x):
    """Twice x."""
    raise NotImplementedError("your code here")
''',
    ),
    "no docstring": ("\ndef f(x):\n    return x + secret\n", f"\ndef f(x):\n    {STOP}\n"),
    "decorators": (
        '''
@functools.cache
@functools.wraps(
    len,
)
def f(x):
    """Twice x.

    Over several lines, with a "quote".
    """

    # secret comment
    return 2 * x
''',
        f'''
@functools.cache
@functools.wraps(
    len,
)
def f(x):
    """Twice x.

    Over several lines, with a "quote".
    """
    {STOP}
''',
    ),
    "signature over many lines": (
        """
def f(
    x: "batch feature",  # given
    *,
    scale: float = 2.0,
) -> "batch":
    # secret comment

    # and another secret
    return scale * x
""",
        f"""
def f(
    x: "batch feature",  # given
    *,
    scale: float = 2.0,
) -> "batch":
    {STOP}
""",
    ),
    "comments after the last statement": (
        '''
def f(x):
    """Doc."""
    return 2 * x
    # secret comment

    # another secret


def g(x):
    return secret
''',
        f'''
def f(x):
    """Doc."""
    {STOP}
''',
    ),
    "nested functions": (
        '''
def f(x):
    """Doc."""

    @functools.cache
    def secret(y):
        """Secret."""
        return y

    return secret(x)
''',
        f'''
def f(x):
    """Doc."""
    {STOP}
''',
    ),
    "a nested function first, without docstring": (
        "\ndef f(x):\n    @functools.cache\n    def secret(y):\n        return y\n\n    return secret(x)\n",
        f"\ndef f(x):\n    {STOP}\n",
    ),
    "class": (
        '''
class f(dict):
    """A class."""

    given = 3

    @property
    def a(self) -> int:
        """First."""
        return secret
        # secret comment

    # a comment on the next method
    @classmethod
    def b(cls, x): # given
        # secret comment
        return [
            secret,
            x,
        ]

    class Inner:
        def c(self):
            return secret

    async def d(self):
        return secret
''',
        f'''
class f(dict):
    """A class."""

    given = 3

    @property
    def a(self) -> int:
        """First."""
        {STOP}

    # a comment on the next method
    @classmethod
    def b(cls, x): # given
        {STOP}

    class Inner:
        def c(self):
            {STOP}

    async def d(self):
        {STOP}
''',
    ),
    "regions at several indents": (
        '''
def f(x):
    """Doc."""
    total = 0
    # BEGIN SOLUTION
    secret = 1
    # END SOLUTION
    for y in x:
        # Given: say what to do.
        if y:
            # BEGIN SOLUTION
            total += secret

            # END SOLUTION
    return total
''',
        f'''
def f(x):
    """Doc."""
    total = 0
    {STOP}
    for y in x:
        # Given: say what to do.
        if y:
            {STOP}
    return total
''',
    ),
    "a region that ends the function": (
        """
def f(x):
    total = 0
    # BEGIN SOLUTION
    return total + secret

    # END SOLUTION


# a comment of the module
def _g(x):
    return secret
""",
        f"""
def f(x):
    total = 0
    {STOP}
""",
    ),
    "a region in one method": (
        """
class f:
    def a(self):
        return 1

    def b(self):
        # BEGIN SOLUTION
        return secret
        # END SOLUTION
""",
        f"""
class f:
    def a(self):
        return 1

    def b(self):
        {STOP}
""",
    ),
}


def reference(text: str) -> None:
    SECTION.reference.write_text(f"import functools\n{text}", encoding="utf-8")


@pytest.mark.parametrize("case", STUBS)
def test_a_stub_keeps_what_is_given_and_nothing_of_the_answer(course, case):
    given, expected = STUBS[case]
    reference(given)
    stub = stubs.stub(SECTION, "f")
    assert stub.strip("\n") == expected.strip("\n")
    assert "secret" not in stub.lower()
    compile(stub, "stub", "exec")


@pytest.mark.parametrize("case", STUBS)
def test_the_solution_is_the_reference_without_markers(course, case):
    given, _ = STUBS[case]
    reference(given)
    text = stubs.solution_source(SECTION, "f")
    assert "SOLUTION" not in text
    tree = ast.parse(text)
    assert len(tree.body) == 1
    assert ast.dump(tree.body[0]) == ast.dump(ast.parse(given).body[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\nclass f:\n    secret: int = 3\n", "is its answer"),
        ("\ndef f(x):\n    # BEGIN SOLUTION (here)\n    secret = 1\n    # END SOLUTION (there)\n", "is its answer"),
        ("\ndef f(x): return 2 * x\n", "does not compile"),
        ("\ndef f(x):\n    # END SOLUTION\n    return x\n", "unbalanced"),
    ],
)
def test_a_stub_that_would_give_the_answer_away_is_refused(course, text, problem):
    reference(text)
    with pytest.raises(RefractError, match=problem):
        stubs.stub(SECTION, "f")


def test_the_reference_s_imports_are_emitted_and_private_names_are_not_symbols(course):
    found = stubs.read(SECTION)
    assert found.imports == (
        "from collections.abc import Sequence\n\nfrom solutions.ch1_toy.tools import START".replace("\n\n", "\n")
    )
    reference("\nfrom math import (\n    pi,\n    tau,\n)\n\nX = 1\n\n\ndef _f():\n    pass\n\n\ndef f():\n    pass\n")
    found = stubs.read(SECTION)
    assert found.imports == "import functools\nfrom math import (\n    pi,\n    tau,\n)"
    assert list(found.symbols) == ["f"]
    with pytest.raises(RefractError, match="no function or class 'absent'"):
        stubs.stub(SECTION, "absent")


# --- cells -------------------------------------------------------------------------------------


def learner(text: str = SOURCE, recorded=RECORDED):
    SECTION.source.write_text(text, encoding="utf-8")
    return weave.learner(source.load(SECTION), recorded)


def worked(recorded=RECORDED):
    SECTION.source.write_text(SOURCE, encoding="utf-8")
    return weave.worked(source.load(SECTION), recorded)


def test_the_learner_s_cells_in_order(course):
    assert [cell["id"] for cell in learner().cells] == [
        "sums-text",
        "top-colab",
        "top-setup",
        "top-imports",
        "adding-text",
        "exercise-total",
        "exercise-total-answer",
        "exercise-total-check",
        "exercise-total-stuck",
        "predict-size",
        "predict-size-answer",
        "predict-parity",
        "predict-parity-answer",
        "looking-text",
        "looking-code",
        "reveal-size",
        "figure-growth",
        "reveal-parity",
        "figure-odd",
        "looking-text-2",
        "claim-quadratic",
        "looking-aside",
        "looking-bonus",
    ]


def test_what_the_learner_s_cells_say(course):
    cells = {cell["id"]: cell for cell in learner().cells}
    assert cells["exercise-total-answer"]["source"] == stubs.stub(SECTION, "total")
    assert cells["exercise-total-check"]["source"] == "check(total)"
    stuck = cells["exercise-total-stuck"]["source"].split("\n")
    assert stuck[1:] == ['# hint("total")', '# total = solution("total")']
    assert cells["predict-parity-answer"]["source"].split("\n") == [
        "# Put your answer in, and how sure you are, from 0 to 1 (0.7 is 70 per cent).",
        'predict("parity", answer=None, confidence=None)',
    ]
    assert "- **a.** Odd\n- **b.** Even" in cells["predict-parity"]["source"]
    assert cells["reveal-parity"]["source"] == 'reveal("parity")'
    assert "there are 10 of them below" in cells["exercise-total"]["source"]
    assert cells["looking-text-2"]["source"] == "The mean is 4.50."
    assert cells["claim-quadratic"]["source"].split("\n\n")[1:] == [
        "Here: **replicated**.",
        "Measured: `grand_total = 45`, `how_many = 10` (under [Looking](#Looking)). Replicated if "
        "`abs(grand_total - how_many * (how_many - 1) / 2) < 0.1`, partly if `grand_total > 0`.",
    ]
    assert cells["top-imports"]["source"].endswith('\n\nsetup("ch1_toy/s1_sums")')
    assert cells["looking-code"]["source"].startswith("import plotly.graph_objects as go")
    assert "difficulty ●○○○○ · importance ●●○○○ · about 3 minutes" in cells["exercise-total"]["source"]
    assert {cell["id"] for cell in learner().cells if cell["cell_type"] == "code"} == {
        name
        for name in cells
        if name.endswith(("-answer", "-check", "-stuck", "-code", "-setup", "-imports")) or name.startswith("reveal-")
    }


def test_the_worked_notebook_has_the_same_cells_but_the_answers(course):
    theirs, ours = ({cell["id"]: cell for cell in notebook.cells} for notebook in (learner(), worked()))
    assert theirs.keys() - ours.keys() == {
        "exercise-total-stuck", "predict-size-answer", "predict-parity-answer", "top-colab",
    }  # fmt: skip
    assert ours.keys() - theirs.keys() == {"top-about"}
    assert ours["exercise-total-answer"]["source"] == stubs.solution_source(SECTION, "total")
    assert "The revealed_marker: it is 45." in ours["reveal-size"]["source"]
    assert ours["reveal-size"]["cell_type"] == "markdown"
    for name in ("looking-code", "top-setup", "top-imports", "exercise-total", "figure-growth", "claim-quadratic"):
        assert ours[name]["source"] == theirs[name]["source"]


def test_without_values_the_worked_notebook_keeps_its_roles(course):
    cells = {cell["id"]: cell["source"] for cell in worked(None).cells}
    assert cells["looking-text-2"] == "The mean is {value}`mean:.2f`."
    assert "Measured" not in cells["claim-quadratic"]


def test_a_value_never_recorded_stops_the_weaving(course):
    with pytest.raises(RefractError, match="'how_many', which was never recorded"):
        learner(recorded={})


def ids_and_sources(notebook):
    return {cell["id"]: cell["source"] for cell in notebook.cells}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("## Adding\n", "## Adding\n\nA new paragraph.\n"),
        ("## Adding\n", "## Adding\n\nNew.\n\n```python\nx = 1\n```\n\nMore.\n\n:::{aside} New\nText.\n:::\n"),
        ("Begin at zero_hint_marker", "Begin elsewhere"),
    ],
)
def test_what_is_inserted_under_one_heading_changes_nothing_under_another(course, old, new):
    assert SOURCE.count(old) == 1
    before = ids_and_sources(learner())
    after = ids_and_sources(learner(SOURCE.replace(old, new)))
    elsewhere = {name: text for name, text in before.items() if not name.startswith("adding-")}
    assert {name: text for name, text in after.items() if not name.startswith("adding-")} == elsewhere
    assert list(elsewhere) == [name for name in after if not name.startswith("adding-")]


def test_ids_are_unique_and_legal_whatever_the_headings(course):
    headings = ["Again", "Again", "A $x^2$ `code` & (more)", "A" * 200, "A" * 200, "第一章", "第二章", "text", "***"]
    extra = "".join(f"\n## {heading}\n\nText.\n\n```python\nx = 1\n```\n\nMore.\n" for heading in headings)
    notebook = learner(SOURCE + extra)
    names = [cell["id"] for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    nbformat.validate(notebook)


def test_a_comment_in_a_fence_is_no_heading(course):
    kept = "````text\n```python\n## a comment\n```\n## another\n````"
    notebook = learner(SOURCE + f"\n## Last\n\n{kept}\n")
    assert notebook.cells[-1]["source"] == f"## Last\n\n{kept}"


def test_notebooks_are_deterministic_and_valid(course):
    first, second = nbformat.writes(learner()), nbformat.writes(learner())
    assert first == second
    for notebook in (learner(), worked()):
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert nbformat.writes(worked()) == nbformat.writes(worked())


def test_the_digest_knows_a_cell_that_was_changed(course):
    notebook = nbformat.reads(nbformat.writes(learner()), as_version=4)
    assert notebook.metadata["refract"]["digest"] == weave.digest(notebook)
    notebook.cells[6]["source"] += "\n"
    assert notebook.metadata["refract"]["digest"] != weave.digest(notebook)


def test_the_learner_s_notebook_of_the_toy_gives_nothing_away(course):
    text = nbformat.writes(learner())
    for secret in ("running_answer", "revealed_marker", "zero_hint_marker", "one more than the sum", "Odd: five"):
        assert secret in SOURCE + REFERENCE
        assert secret not in text


def test_long_cells_say_how_long(course):
    notebook = weave.learner(source.load(SECTION), RECORDED, {"looking-code": 9.0, "top-imports": 0.5})
    cells = {cell["id"]: cell["source"] for cell in notebook.cells}
    assert cells["looking-code"].startswith("# Takes about 10 seconds on two cores.\nimport plotly")
    assert not cells["top-imports"].startswith("#")


def test_a_check_says_nothing_of_its_seconds(course):
    """The first one waits for the checker's process to start, which no later run of the cell does."""
    notebook = weave.learner(source.load(SECTION), RECORDED, {"exercise-total-check": 9.0})
    cells = {cell["id"]: cell["source"] for cell in notebook.cells}
    assert cells["exercise-total-check"] == "check(total)"


def test_a_claim_says_where_each_value_was_recorded_and_what_part_replicated(course):
    heading = "\n## Passed by\n\n## The *mean* of squares\n\n```text\n# no heading\n```\n"
    more = heading + '\n```python\nrecord(\n    "how_many", 3)\n```\n'
    text = SOURCE.replace('record("how_many", len(numbers))\n', "").replace("\nThe mean is", f"{more}\nThe mean is")
    SECTION.source.write_text(text, encoding="utf-8")
    section = source.load(SECTION)
    recorded = {**RECORDED, "grand_total": Recorded(44.0)}
    said = weave.evidence(section, section.claims[0], recorded)
    assert said.startswith(
        "Measured: `grand_total = 44` (under [Looking](#looking)); "
        "`how_many = 10` (under [The *mean* of squares](#the-mean-of-squares)). Replicated if"
    )
    cells = {cell["id"]: cell["source"] for cell in weave.learner(section, recorded).cells}
    assert "\n\nHere: **partly replicated**.\n\n" in cells["claim-quadratic"]
    whole = source.load(SECTION).claims[0].__class__(**{**vars(section.claims[0]), "partly": None})
    assert "partly" not in weave.evidence(section, whole, recorded)


# --- the course's own sections -----------------------------------------------------------------

SECTIONS = [pytest.param(paths, id=paths.id) for paths in all_sections()]


@pytest.fixture(params=SECTIONS)
def paths(request) -> SectionPaths:
    return request.param


@pytest.fixture
def notebook(paths):
    return nbformat.read(paths.notebook, as_version=4)


def body_lines(paths: SectionPaths) -> set[str]:
    """The lines of the reference that a learner is to write: those that no stub keeps, and that are no trifle."""
    section = source.load(paths)
    found: set[str] = set()
    for exercise in section.exercises:
        kept = {line.strip() for line in stubs.stub(paths, exercise.name).split("\n")}
        answer = {line.strip() for line in stubs.solution_source(paths, exercise.name).split("\n")}
        lines = {line for line in answer - kept if len(line) > 20}
        assert lines, f"{exercise.name} has no line to look for"
        found |= lines
    return found


def test_no_line_of_a_reference_is_in_the_learner_s_file(paths):
    file = re.sub(r"\\(.)", r"\1", paths.notebook.read_text(encoding="utf-8"))  # as written, quotes unescaped
    given = "\n".join(block.source for block in source.load(paths).blocks if hasattr(block, "source"))
    for line in body_lines(paths):
        assert line not in file or line in given, line


def test_no_hint_mistake_reveal_or_role_is_in_the_learner_s_file(paths, notebook):
    section = source.load(paths)
    recorded = values.load(paths)
    text = "\n".join(cell["source"] for cell in notebook.cells) + str(notebook.metadata)
    secrets = [item for exercise in section.exercises for item in exercise.hints]
    secrets += [mistake.text for exercise in section.exercises for mistake in exercise.mistakes]
    secrets += [prediction.reveal for prediction in section.predictions]
    for secret in secrets:
        filled = values.fill(secret, recorded)
        sentences = [part for part in re.split(r"(?<=[.?!])\s+", filled) if len(part) > 20] or [filled]
        for sentence in sentences:
            assert sentence not in text, sentence
    assert not ROLE.search(text)
    assert "{value}" not in text


def test_no_prediction_s_answer_is_in_its_cells(paths, notebook):
    section = source.load(paths)
    cells = {cell["id"]: cell for cell in notebook.cells}
    for prediction in section.predictions:
        call = cells[f"predict-{prediction.name}-answer"]["source"]
        # the same line for every prediction, then the empty call
        assert call == f'{weave.ASK}\npredict("{prediction.name}", answer=None, confidence=None)'
        if len(prediction.answer) > 1:  # a letter stands in the list of choices anyway
            assert prediction.answer not in cells[f"predict-{prediction.name}"]["source"]
        names = [cell["id"] for cell in notebook.cells]
        assert names.index(f"reveal-{prediction.name}") > names.index(f"predict-{prediction.name}-answer")


def test_no_outputs_counts_or_other_metadata_in_the_learner_s_file(paths, notebook):
    for cell in notebook.cells:
        assert not cell["metadata"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert set(notebook.metadata) == {"kernelspec", "language_info", "refract"}
    assert set(notebook.metadata["refract"]) == {"section", "kind", "digest"}
    nbformat.validate(notebook)


def test_the_set_up_cell_is_the_same_in_every_section(course, monkeypatch):
    toy_cell = next(cell["source"] for cell in learner().cells if cell["id"] == "top-setup")
    monkeypatch.delenv("REFRACT_ROOT")
    for paths in all_sections():
        for file in (paths.notebook, paths.worked):
            cells = {cell["id"]: cell["source"] for cell in nbformat.read(file, as_version=4).cells}
            assert cells["top-setup"] == toy_cell
            code = [cell for cell in nbformat.read(file, as_version=4).cells if cell["cell_type"] == "code"]
            assert code[0]["id"] == "top-setup"


def test_the_learner_s_definitions_can_be_made(paths, notebook, capsys, monkeypatch):
    """Imports and stubs run as they stand; each stub then says that it is not written."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(session, "_current", None)
    space: dict = {}
    names: list[str] = []
    for cell in notebook.cells:
        role = re.search(r"(top-setup|top-imports|exercise-(?P<name>\w+)-answer)$", cell["id"])
        if cell["cell_type"] == "code" and role:
            exec(compile(cell["source"], cell["id"], "exec"), space)
            names += filter(None, [role["name"]])
    assert names == [exercise.name for exercise in source.load(paths).exercises]
    assert all(callable(space[name]) for name in names)
    assert "Everything is ready" in capsys.readouterr().out
