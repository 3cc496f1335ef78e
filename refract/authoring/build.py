"""``python -m refract build``: write what is generated, or with ``--check`` say what has drifted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from refract.authoring import provenance, source, timings, values, weave
from refract.authoring.model import Section
from refract.authoring.validate import validate
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections, root

Say = Callable[[str], None]


def build(
    sections: list[str] | None = None,
    *,
    check: bool = False,
    execute: bool | None = None,
    verify: bool = False,
    say: Say = print,
) -> int:
    """Build sections (all of them by default). Returns an exit code: 0, or 1 when something has drifted.

    ``check`` writes nothing. ``execute`` runs a worked notebook even if it is fresh; ``verify`` runs it in a
    scratch place and compares what it records with what is committed, each value within its own tolerance.
    """
    drift: list[str] = []
    for paths in [SectionPaths.parse(name) for name in sections] if sections else all_sections():
        section = source.load(paths)
        validate(section)
        if verify:
            drift += _verify(section, say)
        elif check:
            drift += _check(section)
        else:
            _build(section, execute=bool(execute), say=say)
    for line in drift:
        say(line)
    if drift:
        say("Run `python -m refract build` and commit what it writes." if check else "Look into each line above.")
    elif check or verify:
        say("Everything generated is in step with its source.")
    return 1 if drift else 0


def _name(path: Path) -> str:
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)


# --- building ----------------------------------------------------------------------------------


def _build(section: Section, *, execute: bool, say: Say) -> None:
    paths = section.paths
    _refuse_changed(paths)
    fresh = weave.worked(section, None)
    if execute or _stale(paths, fresh):
        say(f"{paths.id}: executing the worked notebook …")
        recorded, executed = _execute(section, fresh, say), fresh
    else:
        recorded, executed = values.load(paths), _read(paths.worked)
    final = weave.worked(section, recorded)
    _carry(executed, final)
    final.metadata["refract"]["made"] = provenance.made(paths, final)
    _write(paths.worked, nbformat.writes(final) + "\n", say)
    learner = weave.learner(section, recorded, timings.cells(paths))
    _write(paths.notebook, nbformat.writes(learner) + "\n", say)


def _execute(section: Section, notebook: NotebookNode, say: Say) -> dict[str, Recorded]:
    from refract.authoring import execute as execution

    paths = section.paths
    made_by = provenance.made_by(notebook)
    run = execution.execute(notebook, root())
    drawn = execution.draw(run.figures)
    execution.attach(notebook, drawn)
    for cell in notebook.cells:
        seconds = cell.metadata.get("refract", {}).get("seconds", 0)
        if seconds > execution.CELL_SECONDS:
            say(f"{paths.id}: cell {cell['id']} took {seconds:.0f} s; the limit is {execution.CELL_SECONDS} s.")
    if run.seconds > execution.NOTEBOOK_SECONDS:
        say(f"{paths.id}: the worked notebook took {run.seconds:.0f} s; the limit is {execution.NOTEBOOK_SECONDS} s.")
    for name, text in run.figures.items():
        _write(paths.figures / f"{name}.json", execution.thin(text), say)
        _write(paths.figures / f"{name}.png", drawn[name], say)
    for stale in set(paths.figures.glob("*.*")) - {
        paths.figures / f"{name}{kind}" for name in run.figures for kind in (".json", ".png")
    }:
        stale.unlink()
    _write(paths.values, values.dump(run.values), say)
    notebook.metadata["refract"].update(made_by=made_by, seconds=round(run.seconds, 1))
    return run.values


def _stale(paths: SectionPaths, fresh: NotebookNode) -> list[str]:
    """Why the committed worked notebook must be executed again; empty if today's code made it and it is whole."""
    if not paths.worked.is_file():
        return [f"{_name(paths.worked)} is missing."]
    committed = _read(paths.worked)
    told = committed.metadata.get("refract", {})
    if told.get("made_by") != provenance.made_by(fresh):
        return [f"{_name(paths.worked)} is stale: its code, its reference or what they import has changed."]
    made, found = told.get("made", {}), provenance.made(paths, committed)
    lines = [f"{name} is missing." for name in sorted(made.keys() - found.keys())]
    lines += [f"{name} was not made by the worked notebook." for name in sorted(found.keys() - made.keys())]
    changed = sorted(name for name in made.keys() & found.keys() if made[name] != found[name])
    return lines + [f"{name} was changed after the worked notebook made it." for name in changed]


def _carry(source_notebook: NotebookNode, target: NotebookNode) -> None:
    """Move outputs, timings and provenance to the notebook whose prose is filled in: the same code, cell by cell."""
    old_cells, new_cells = _code(source_notebook), _code(target)
    for old, cell in zip(old_cells, new_cells, strict=True):
        cell["outputs"], cell["execution_count"] = old["outputs"], old["execution_count"]
        cell.metadata.update(old.metadata)
        cell.metadata.pop("execution", None)
    target.metadata["refract"].update(source_notebook.metadata["refract"])


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell["cell_type"] == "code"]


def _read(path: Path) -> NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise RefractError(f"{_name(path)} is no notebook: {error}", "Delete it; the build makes it anew.") from error


def _refuse_changed(paths: SectionPaths) -> None:
    """A generated notebook that a person has worked in is theirs: never overwrite it."""
    if not paths.notebook.is_file():
        return
    notebook = _read(paths.notebook)
    told = notebook.metadata.get("refract", {}).get("digest")
    if told != weave.digest(notebook) or any(cell.get("outputs") for cell in notebook.cells):
        raise RefractError(
            f"{_name(paths.notebook)} has been changed by hand; building would lose that.",
            f"Move it into work/ (or delete it if it holds nothing of yours), and build again. "
            f"To work on a section, use `python -m refract start {paths.section}`.",
        )


def _write(path: Path, new: str | bytes, say: Say) -> None:
    """Write what is new, whole or not at all, and say so."""
    content = new.encode("utf-8") if isinstance(new, str) else new
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)  # noqa: PTH105  (atomic on every platform)
    say(f"wrote {_name(path)}")


# --- checking ----------------------------------------------------------------------------------


def _check(section: Section) -> list[str]:
    paths = section.paths
    recorded = values.load(paths)
    drift = _stale(paths, weave.worked(section, None))
    if drift:
        return drift
    committed = _read(paths.worked)
    final = weave.worked(section, recorded)
    if [(cell["id"], cell["source"]) for cell in final.cells] != [
        (cell["id"], cell["source"]) for cell in committed.cells
    ]:
        drift.append(f"{_name(paths.worked)} differs from its source.")
    expected = nbformat.writes(weave.learner(section, recorded, timings.cells(paths))) + "\n"
    if not paths.notebook.is_file() or paths.notebook.read_text(encoding="utf-8") != expected:
        drift.append(f"{_name(paths.notebook)} differs from its source.")
    return drift


def _verify(section: Section, say: Say) -> list[str]:
    from refract.authoring import execute as execution

    paths = section.paths
    committed = values.load(paths)
    run = execution.execute(weave.worked(section, None), root())
    say(f"{paths.id}: executed again in {run.seconds:.0f} s")
    lines = []
    for name in sorted(committed.keys() | run.values.keys()):
        old, new = committed.get(name), run.values.get(name)
        if old is None or new is None:
            lines.append(f"{paths.id}: the value {name} is recorded in only one of the two runs.")
        elif not old.agrees(new):
            lines.append(f"{paths.id}: {name} was {old.value} ± {old.within}; a second run gave {new.value}.")
    missing = {figure.name for figure in section.figures} - run.figures.keys()
    lines += [f"{paths.id}: the figure {name} was not made." for name in sorted(missing)]
    return lines
