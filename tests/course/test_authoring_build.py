"""The build on a toy course: what it writes, what it keeps, what counts as drift; and what the real sections hold."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from refract.authoring import execute, provenance, source, values, weave
from refract.authoring.build import build
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections
from tests.course import authoring_toy as toy
from tests.course.authoring_toy import DEEPER, REFERENCE, SECTION, SOURCE, TOOLS

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, list[str]]:
    """The toy course, built once and for real: a kernel, a browser. And what the build said."""
    root = tmp_path_factory.mktemp("course")
    toy.write(root)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFRACT_ROOT", str(root))
        assert build(say=said.append) == 0
    return root, said


@pytest.fixture
def course(built, tmp_path, monkeypatch) -> Path:
    """A copy of the built course, to change at will."""
    root = tmp_path / "course"
    shutil.copytree(built[0], root)
    monkeypatch.setenv("REFRACT_ROOT", str(root))
    return root


@pytest.fixture
def no_kernel(monkeypatch):
    """Whoever starts a kernel now fails."""

    def refuse(*arguments):
        raise AssertionError("a kernel was started")

    monkeypatch.setattr(execute, "execute", refuse)


def run(**how) -> tuple[int, list[str]]:
    said: list[str] = []
    return build(say=said.append, **how), said


def worked():
    return nbformat.read(SECTION.worked, as_version=4)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# --- what a build writes -----------------------------------------------------------------------


def test_a_build_writes_everything_and_says_so(built):
    _, said = built
    assert said[0] == "ch1_toy/s1_sums: executing the worked notebook …"
    assert sorted(line.removeprefix("wrote ") for line in said[1:]) == [
        "assets/figures/ch1_toy/s1_sums/growth.json",
        "assets/figures/ch1_toy/s1_sums/growth.png",
        "assets/figures/ch1_toy/s1_sums/odd.json",
        "assets/figures/ch1_toy/s1_sums/odd.png",
        "assets/values/ch1_toy/s1_sums.json",
        "chapters/ch1_toy/s1_sums.ipynb",
        "solutions/ch1_toy/s1_sums.ipynb",
    ]


def test_values_and_figures_are_those_of_the_code(course):
    assert values.load(SECTION) == {"how_many": Recorded(10), "grand_total": Recorded(45, 0.5), "mean": Recorded(4.5)}
    figure = json.loads((SECTION.figures / "growth.json").read_text())
    assert figure["data"][0]["y"] == [0, 1, 3, 6, 10, 15, 21, 28, 36, 45]
    assert "template" not in figure["layout"]
    for name in ("growth", "odd"):
        assert (SECTION.figures / f"{name}.png").read_bytes().startswith(PNG)


def test_the_worked_notebook_is_executed_timed_and_shows_its_figures(course):
    notebook = worked()
    nbformat.validate(notebook)
    cells = {cell["id"]: cell for cell in notebook.cells}
    code = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.metadata["refract"]["seconds"] >= 0 for cell in code)
    assert notebook.metadata["refract"]["seconds"] >= sum(cell.metadata["refract"]["seconds"] for cell in code) - 0.1
    assert "passed" in str(cells["exercise-total-check"]["outputs"])
    shown = {output["metadata"]["refract"]["figure"]: output["data"] for output in cells["looking-code"]["outputs"]}
    assert list(shown) == ["growth", "odd"]
    for name, data in shown.items():
        assert b64decode(data["image/png"]) == (SECTION.figures / f"{name}.png").read_bytes()
        assert data["application/vnd.plotly.v1+json"]["data"]
    assert cells["looking-text-2"]["source"] == "The mean is 4.50."


def test_a_second_build_runs_and_writes_nothing(course, no_kernel):
    before = {path: path.stat().st_mtime_ns for path in course.rglob("*") if path.is_file()}
    assert run() == (0, [])
    assert {path: path.stat().st_mtime_ns for path in course.rglob("*") if path.is_file()} == before


def test_the_check_passes_and_writes_nothing(course, no_kernel):
    before = {path: path.stat().st_mtime_ns for path in course.rglob("*") if path.is_file()}
    assert run(check=True) == (0, ["Everything generated is in step with its source."])
    assert {path: path.stat().st_mtime_ns for path in course.rglob("*") if path.is_file()} == before


def test_a_build_of_an_unknown_section_is_refused(course):
    with pytest.raises(RefractError, match="no section called 's9_none'"):
        build(["s9_none"])


# --- drift -------------------------------------------------------------------------------------

BOOK, LEARNER = "solutions/ch1_toy/s1_sums.ipynb", "chapters/ch1_toy/s1_sums.ipynb"
STALE = f"{BOOK} is stale: its code, its reference or what they import has changed."
FIGURES = "assets/figures/ch1_toy/s1_sums"

# name: (file, what stands there, what is put there; None removes the file), and what the check says
DRIFT: dict[str, tuple[str, str | None, str, list[str]]] = {
    "prose changed": (
        "chapters/ch1_toy/s1_sums.md",
        "Read on;",
        "Read;",
        [f"{BOOK} differs from its source.", f"{LEARNER} differs from its source."],
    ),
    "a hint changed": ("chapters/ch1_toy/s1_sums.md", "zero_hint_marker", "one", []),
    "a reveal changed": ("chapters/ch1_toy/s1_sums.md", "Odd: five", "Odd: 5", [f"{BOOK} differs from its source."]),
    "code changed": ("chapters/ch1_toy/s1_sums.md", "list(range(10))", "list(range(0, 10))", [STALE]),
    "reference changed": ("solutions/ch1_toy/s1_sums.py", "+= number", "+= 1 * number", [STALE]),
    "docstring of the reference changed": ("solutions/ch1_toy/s1_sums.py", "that of nothing", "of nothing", [STALE]),
    "an imported module changed": ("solutions/ch1_toy/tools.py", "START = ZERO", "START = -ZERO", [STALE]),
    "what that module imports changed": ("solutions/ch1_toy/deeper.py", "ZERO = 0", "ZERO = -0", [STALE]),
    "the learner's notebook edited": (LEARNER, "check(total)", "check(sum)", [f"{LEARNER} differs from its source."]),
    "the learner's notebook deleted": (LEARNER, None, "", [f"{LEARNER} differs from its source."]),
    "the worked notebook's prose edited": (BOOK, "The mean is", "The median is", [f"{BOOK} differs from its source."]),
    "the worked notebook's outputs edited": (
        BOOK,
        "[figure: growth]",
        "[figure: grown]",
        [f"{BOOK} (its outputs) was changed after the worked notebook made it."],
    ),
    "the worked notebook deleted": (BOOK, None, "", [f"{BOOK} is missing."]),
    "a figure deleted": (f"{FIGURES}/growth.png", None, "", [f"{FIGURES}/growth.png is missing."]),
    "a figure edited": (
        f"{FIGURES}/growth.json",
        "45",
        "46",
        [f"{FIGURES}/growth.json was changed after the worked notebook made it."],
    ),
    "values edited": (
        "assets/values/ch1_toy/s1_sums.json",
        "4.5",
        "4.6",
        ["assets/values/ch1_toy/s1_sums.json was changed after the worked notebook made it."],
    ),
    "values deleted": (
        "assets/values/ch1_toy/s1_sums.json",
        None,
        "",
        ["assets/values/ch1_toy/s1_sums.json is missing."],
    ),
}


@pytest.mark.parametrize("case", DRIFT)
def test_the_check_reports_drift(course, no_kernel, case):
    name, old, new, expected = DRIFT[case]
    if old is None:
        (course / name).unlink()
    else:
        edit(course / name, old, new)
    code, said = run(check=True)
    if expected:
        assert code == 1
        assert said == [*expected, "Run `python -m refract build` and commit what it writes."]
    else:
        assert (code, said) == (0, ["Everything generated is in step with its source."])


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("refract/plots/style.py", True),  # every set-up turns it on
        ("refract/plots/lines.py", True),
        ("refract/plots/__init__.py", True),
        ("refract/plots/unused.py", False),
        ("refract/session.py", False),
        ("refract/checking/__init__.py", False),
    ],
)
def test_what_makes_figures_counts_and_the_machinery_does_not(tmp_path, monkeypatch, module, counts):
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    cell = "from refract.plots.lines import draw\nfrom refract.session import bar\nimport refract.checking"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    for name in ("plots/style", "plots/lines", "plots/__init__", "plots/unused", "session", "checking/__init__"):
        (tmp_path / f"refract/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"refract/{name}.py").write_text("from refract.plots import style\n")
    before = provenance.made_by(notebook)
    (tmp_path / module).write_text("from refract.plots import style  # changed\n")
    assert (provenance.made_by(notebook) != before) is counts


def test_a_figure_that_nothing_made_is_drift(course, no_kernel):
    (SECTION.figures / "old.json").write_text("{}")
    code, said = run(check=True)
    assert (code, said[0]) == (1, f"{FIGURES}/old.json was not made by the worked notebook.")


def test_prose_is_woven_again_without_execution(course, no_kernel):
    before = {cell["id"]: cell for cell in worked().cells}
    edit(SECTION.source, "## Looking", "## Looking closer")
    edit(SECTION.source, "Odd: five of the ten are.", "Odd, since five of the ten are.")
    code, said = run()
    assert (code, sorted(said)) == (0, [f"wrote {LEARNER}", f"wrote {BOOK}"])
    after = {cell["id"]: cell for cell in worked().cells}
    for field in ("source", "outputs", "execution_count", "metadata"):
        assert after["looking-closer-code"][field] == before["looking-code"][field]
    assert "Odd, since five" in after["reveal-parity"]["source"]
    assert run(check=True)[0] == 0
    assert run() == (0, [])


# --- what a person changed ---------------------------------------------------------------------


def by_hand(how: str) -> None:
    notebook = nbformat.read(SECTION.notebook, as_version=4)
    cell = next(cell for cell in notebook.cells if cell["id"] == "exercise-total-answer")
    if how == "an answer":
        cell["source"] = "def total(numbers):\n    return sum(numbers)"
    elif how == "an output":
        cell["outputs"] = [nbformat.v4.new_output("stream", text="mine")]
    elif how == "a cell":
        notebook.cells.append(nbformat.v4.new_code_cell("mine = 1"))
    else:
        del notebook.metadata["refract"]
    nbformat.write(notebook, SECTION.notebook)


@pytest.mark.parametrize("how", ["an answer", "an output", "a cell", "no record of being generated"])
def test_a_notebook_that_a_person_changed_is_never_overwritten(course, no_kernel, how):
    by_hand(how)
    edit(SECTION.source, "Read on;", "Read;")
    before = SECTION.notebook.read_bytes(), SECTION.worked.read_bytes()
    with pytest.raises(RefractError, match=r"s1_sums\.ipynb has been changed by hand") as caught:
        build(say=lambda line: None)
    assert "python -m refract start s1_sums" in caught.value.remedy
    assert (SECTION.notebook.read_bytes(), SECTION.worked.read_bytes()) == before


def test_a_file_that_is_no_notebook_is_named(course, no_kernel):
    SECTION.worked.write_text("{", encoding="utf-8")
    with pytest.raises(RefractError, match=r"solutions/ch1_toy/s1_sums\.ipynb is no notebook"):
        build(say=lambda line: None)


# --- execution that goes wrong -----------------------------------------------------------------


def test_a_failing_cell_is_named_and_nothing_is_written(course):
    edit(SECTION.source, 'record("mean"', 'raise ValueError("a cell that fails")\nrecord("mean"')
    before = SECTION.worked.read_bytes(), SECTION.values.read_bytes()
    with pytest.raises(RefractError, match="Cell looking-code of the worked notebook failed: ValueError: a cell that"):
        build(say=lambda line: None)
    assert (SECTION.worked.read_bytes(), SECTION.values.read_bytes()) == before


def test_a_reference_that_does_not_pass_its_checks_is_not_built(course):
    edit(SECTION.reference, "return running_answer", "return running_answer + 1")
    before = SECTION.worked.read_bytes()
    with pytest.raises(RefractError, match=r"In the worked notebook, check\(total\) did not pass") as caught:
        build(say=lambda line: None)
    assert "1 + 2 + 3 is 6." in caught.value.problem
    assert SECTION.worked.read_bytes() == before


def test_verify_runs_again_and_compares_within_the_tolerance(course):
    recorded = {**values.load(SECTION), "grand_total": Recorded(45.4, 0.5), "mean": Recorded(4.6), "more": Recorded(1)}
    SECTION.values.write_text(values.dump(recorded), encoding="utf-8")
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    code, said = run(verify=True)
    assert code == 1
    assert said[0].startswith("ch1_toy/s1_sums: executed again in ")
    assert said[1:] == [
        "ch1_toy/s1_sums: mean was 4.6 ± 0.0; a second run gave 4.5.",
        "ch1_toy/s1_sums: the value more is recorded in only one of the two runs.",
        "Look into each line above.",
    ]
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture
def quick(monkeypatch):
    """A stand-in for the execution: no kernel, no browser, and whatever it is told to have made."""
    made = SimpleNamespace(seconds=1.0, figures=["growth", "odd"])

    def fake(notebook, folder):
        for cell in notebook.cells:
            if cell["cell_type"] == "code":
                cell.metadata["refract"] = {"seconds": made.seconds}
        return execute.Run(values.load(SECTION), dict.fromkeys(made.figures, "{}"), 3 * made.seconds)

    monkeypatch.setattr(execute, "execute", fake)
    monkeypatch.setattr(execute, "draw", lambda figures: dict.fromkeys(figures, PNG))
    return made


def test_verify_misses_a_figure(course, quick):
    quick.figures = ["growth"]
    code, said = run(verify=True)
    assert (code, said[1]) == (1, "ch1_toy/s1_sums: the figure odd was not made.")


def test_verify_passes_when_all_agrees(course, quick):
    code, said = run(verify=True)
    assert (code, said[1:]) == (0, ["Everything generated is in step with its source."])


def test_what_takes_too_long_is_said(course, quick):
    quick.seconds = 61.0
    _, said = run(execute=True)
    assert "ch1_toy/s1_sums: cell looking-code took 61 s; the limit is 60 s." in said
    assert "ch1_toy/s1_sums: the worked notebook took 183 s; the limit is 180 s." in said


def test_a_figure_that_is_no_longer_made_is_removed(course, quick):
    (SECTION.figures / "old.json").write_text("{}")
    run()
    assert sorted(path.name for path in SECTION.figures.iterdir()) == [
        "growth.json", "growth.png", "odd.json", "odd.png",
    ]  # fmt: skip
    assert run(check=True)[0] == 0


def test_without_a_browser_the_remedy_names_one(monkeypatch):
    import kaleido

    def fail(specs):
        raise RuntimeError("no browser")

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", fail)
    with pytest.raises(RefractError, match="RuntimeError: no browser") as caught:
        execute.draw({"line": '{"data": [], "layout": {}}'})
    assert "BROWSER_PATH" in caught.value.remedy


# --- the course's own sections -----------------------------------------------------------------


@pytest.fixture(params=[pytest.param(paths, id=paths.id) for paths in all_sections()])
def paths(request) -> SectionPaths:
    return request.param


def test_a_worked_notebook_is_small_enough(paths):
    assert paths.worked.stat().st_size < 2_000_000


def test_pictures_of_figures_have_a_palette(paths):
    from PIL import Image

    pictures = sorted(paths.figures.glob("*.png"))
    assert pictures
    assert {Image.open(picture).mode for picture in pictures} == {"P"}


def test_a_worked_notebook_keeps_to_the_compute_contract(paths):
    notebook = nbformat.read(paths.worked, as_version=4)
    seconds = {
        cell["id"]: cell.metadata["refract"]["seconds"] for cell in notebook.cells if cell["cell_type"] == "code"
    }
    assert {name: taken for name, taken in seconds.items() if taken > execute.CELL_SECONDS} == {}
    assert sum(seconds.values()) <= notebook.metadata["refract"]["seconds"] + 1 <= execute.NOTEBOOK_SECONDS


def test_a_worked_notebook_ran_from_top_to_bottom_without_error(paths):
    code = [cell for cell in nbformat.read(paths.worked, as_version=4).cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [cell["id"] for cell in code if any(output.output_type == "error" for output in cell["outputs"])] == []
    for exercise in source.load(paths).exercises:
        check = next(cell for cell in code if cell["id"] == f"exercise-{exercise.name}-check")
        assert "passed" in str(check["outputs"])


def test_every_figure_has_its_data_its_picture_and_its_words(paths):
    section = source.load(paths)
    assert section.figures
    names = {figure.name for figure in section.figures}
    assert {path.stem for path in paths.figures.iterdir()} == names
    outputs = [output for cell in nbformat.read(paths.worked, as_version=4).cells for output in cell.get("outputs", [])]
    pictures = {
        output["metadata"]["refract"]["figure"]: b64decode(output["data"]["image/png"])
        for output in outputs
        if "refract" in output.get("metadata", {})
    }
    assert pictures.keys() == names
    for figure in section.figures:
        assert len(figure.alt.split()) >= 5
        assert figure.caption
        assert json.loads((paths.figures / f"{figure.name}.json").read_text())["data"]
        picture = (paths.figures / f"{figure.name}.png").read_bytes()
        assert picture.startswith(PNG)
        assert pictures[figure.name] == picture


def test_claims_of_the_course_can_be_decided(paths):
    recorded = values.load(paths)
    for claim in source.load(paths).claims:
        assert values.verdict(claim, recorded) in ("replicated", "partly", "not replicated")
        assert values.evidence(claim, recorded)


def test_the_notebooks_say_which_section_they_are(paths):
    for file, kind in ((paths.notebook, "learner"), (paths.worked, "worked")):
        told = nbformat.read(file, as_version=4).metadata["refract"]
        assert (told["section"], told["kind"]) == (paths.id, kind)
    assert nbformat.read(paths.notebook, as_version=4).metadata["refract"]["digest"] == weave.digest(
        nbformat.read(paths.notebook, as_version=4)
    )


def test_the_toy_is_what_these_tests_think():
    for text, old in ((SOURCE, "Read on;"), (REFERENCE, "+= number"), (TOOLS, "START = ZERO"), (DEEPER, "ZERO = 0")):
        assert text.count(old) == 1


def test_a_picture_with_few_colours_looks_the_same():
    import io

    import numpy as np
    from PIL import Image

    from refract.authoring.execute import few_colours

    across, down = np.meshgrid(np.arange(300), np.arange(200))
    pixels = np.stack([across % 256, down, 0 * down, 255 + 0 * down], axis=-1).astype("uint8")
    pixels[:, :100] = (255, 255, 255, 255)
    before = io.BytesIO()
    Image.fromarray(pixels).save(before, "PNG")
    after = few_colours(before.getvalue())
    seen = np.asarray(Image.open(io.BytesIO(after)).convert("RGB"), dtype=float)
    assert seen.shape == (200, 300, 3)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) <= 256
    assert np.abs(seen - pixels[..., :3]).mean() < 6
    assert (seen[:, :100] == 255).all()
