"""``start`` and ``reset``: the learner's own copies of the notebooks. Nothing of theirs is ever deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from refract.cli.common import COMMAND, find_section, shown, store, work_file
from refract.errors import RefractError
from refract.paths import SectionPaths
from refract.progress.store import dated

SectionArgument = Annotated[
    str | None,
    typer.Argument(help="s1_toy_models, or ch1_superposition/s1_toy_models.", metavar="SECTION"),
]


def start(
    section: SectionArgument = None,
    again: Annotated[
        bool, typer.Option("--again", help="Begin afresh; your notebook is kept under a dated name.")
    ] = False,
) -> None:
    """Copy a section's notebook into work/, where you work on it."""
    paths = find_section(section)
    file = work_file(paths)
    if not file.exists():
        _copy(paths, file)
        typer.echo(f"Your notebook is {shown(file)}.")
    elif again:
        aside = put_aside(paths, file)
        typer.echo(f"Your notebook is {shown(file)}, afresh. The old one is kept as {shown(aside)}.")
    else:
        typer.echo(f"You have begun this section: {shown(file)} is left as it is.")
        typer.echo(
            f"  To begin afresh, and keep the old one under a dated name: {COMMAND} start {paths.section} --again"
        )
    typer.echo(f"Open it:             jupyter lab {shown(file)}")
    typer.echo(f"Check as you save:   {COMMAND} watch {paths.section}")


def reset(
    section: SectionArgument = None,
    notebook: Annotated[bool, typer.Option("--notebook", help="Only the notebook.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Only the progress.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Begin a section anew: your notebook is put aside, your progress counts from now. Nothing is deleted."""
    paths = find_section(section)
    both = notebook == progress
    file = work_file(paths)
    if both or notebook:
        _source(paths)
        typer.echo(
            f"{shown(file)} will be kept under a dated name, and a fresh one put in its place."
            if file.exists()
            else f"A fresh notebook will be put at {shown(file)}."
        )
    if both or progress:
        typer.echo(
            f"The exercises and predictions of {paths.id} will count as new; the history stays in your progress file."
        )
    if not yes:
        typer.confirm("Go on?", abort=True)
    if both or progress:
        store().reset(paths.id)
        typer.echo("Progress: counts from now.")
    if both or notebook:
        if file.exists():
            typer.echo(f"The old notebook: {shown(put_aside(paths, file))}")
        else:
            _copy(paths, file)
        typer.echo(f"The fresh notebook: {shown(file)}")


def put_aside(paths: SectionPaths, file: Path) -> Path:
    """Rename the learner's notebook to a dated name, and put a fresh copy in its place."""
    _source(paths)  # before the old one moves
    aside = dated(file)
    file.rename(aside)
    _copy(paths, file)
    return aside


def _copy(paths: SectionPaths, file: Path) -> None:
    """A copy that is whole or not there, and never replaces anything."""
    source = _source(paths)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        if file.exists():
            raise FileExistsError(f"{file} has just appeared")
        temporary.rename(file)
    except OSError as error:
        raise RefractError(f"The notebook could not be copied: {error}.", f"Make {file.parent} writable.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _source(paths: SectionPaths) -> Path:
    if not paths.notebook.is_file():
        raise RefractError(
            f"The notebook {shown(paths.notebook)} has not been built.", f"Build it: {COMMAND} build {paths.section}"
        )
    return paths.notebook
