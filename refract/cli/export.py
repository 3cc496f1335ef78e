"""``export``: answers, figures and results in one zip, whole or not at all."""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from refract.cli.common import COMMAND, count, find_section, shown, store, work_file
from refract.cli.progress import as_json
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections
from refract.progress import Store, home

_IMAGES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def export(
    section: Annotated[
        str | None, typer.Argument(help="Only this section; else all that you have begun.", metavar="SECTION")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip to write.")] = Path("refract_export.zip"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Pack your answers, figures and results into one zip."""
    progress = store()
    chosen = [find_section(section)] if section else _begun(progress)
    if output.exists() and not force:
        raise RefractError(f"{output} exists already.", "Name another file with -o, or add --force to replace it.")
    if output.is_dir():
        raise RefractError(f"{output} is a folder.", "Name a file with -o.")
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            write(archive, progress, chosen)
            number = len(archive.namelist())
        temporary.replace(output)
    except OSError as error:
        raise RefractError(
            f"{output} could not be written: {error}.", "Name a file in a writable folder with -o."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    typer.echo(f"Wrote {shown(output)}: {count(number, 'file')} of {', '.join(paths.id for paths in chosen)}.")


def _begun(progress: Store) -> list[SectionPaths]:
    active = set(progress.sections())
    begun = [paths for paths in all_sections() if work_file(paths).exists() or paths.id in active]
    if not begun:
        raise RefractError("You have not begun a section yet.", f"Begin: {COMMAND} start")
    return begun


def write(archive: zipfile.ZipFile, progress: Store, chosen: list[SectionPaths]) -> None:
    """Fill the zip."""
    notes: list[str] = []
    for paths in chosen:
        _write_answers(archive, progress, paths)
        _write_figures(archive, paths, notes)
    archive.writestr("results/progress.json", as_json(progress, chosen))
    with tempfile.TemporaryDirectory(prefix="refract-") as folder:
        copy = Path(folder) / "progress.db"
        progress.backup(copy)
        archive.write(copy, "results/progress.db")
    archive.writestr("README.txt", _readme(archive.namelist(), notes))


_WHOSE = {"notebook": "pictures in your notebook", "yours": "your figures, as Plotly JSON"}


def _readme(names: list[str], notes: list[str]) -> str:
    """What is in the zip: a line for each answer and result, one for each folder of figures."""
    rows = []
    for name in names:
        if name.startswith("answers/"):
            rows.append((name, "your notebook" if name.endswith(".ipynb") else "your last answer that passed"))
    folders = Counter(name.rpartition("/")[0] for name in names if name.startswith("figures/"))
    for folder, number in sorted(folders.items()):
        whose = _WHOSE.get(folder.rpartition("/")[2], "the course's figures")
        rows.append((f"{folder}/", f"{whose}, {count(number, 'file')}"))
    rows.append(("results/progress.json", "your progress, to read"))
    rows.append(("results/progress.db", f"your progress in all sections: {COMMAND} progress import THIS.zip adds it"))
    width = max(len(name) for name, _ in rows)
    listed = [f"{name.ljust(width)}  {what}" for name, what in rows]
    return "\n".join([f"Work on the course Refract, exported by `{COMMAND} export`.", "", *listed, "", *notes])


def _write_answers(archive: zipfile.ZipFile, progress: Store, paths: SectionPaths) -> None:
    if work_file(paths).is_file():
        archive.write(work_file(paths), f"answers/{paths.id}/{paths.section}.ipynb")
    for name in progress.summary(paths.id):
        source = progress.last_source(paths.id, name)
        if source and name.isidentifier():
            archive.writestr(f"answers/{paths.id}/{name}.py", source.rstrip() + "\n")


def _write_figures(archive: zipfile.ZipFile, paths: SectionPaths, notes: list[str]) -> None:
    if paths.figures.is_dir():
        for file in sorted(paths.figures.rglob("*")):
            if file.is_file():
                archive.write(file, f"figures/{paths.id}/{file.relative_to(paths.figures).as_posix()}")
    for file in sorted((home() / "figures" / paths.id).glob("*.json")):
        archive.write(file, f"figures/{paths.id}/yours/{file.name}")
    if work_file(paths).is_file():
        try:
            for name, image in _images(work_file(paths)):
                archive.writestr(f"figures/{paths.id}/notebook/{name}", image)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            notes.append(
                f"The notebook of {paths.id} could not be read for its figures ({error}); it is in answers/ as it is."
            )


def _images(notebook: Path) -> Iterator[tuple[str, bytes]]:
    """The images in a notebook's outputs, named by the number of their cell."""
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"], start=1):
        for place, output in enumerate(cell.get("outputs", []), start=1):
            for mime, suffix in _IMAGES.items():
                content = output.get("data", {}).get(mime)
                if content is None:
                    continue
                text = content if isinstance(content, str) else "".join(content)
                try:
                    image = text.encode() if suffix == "svg" else base64.b64decode(text)
                except binascii.Error:
                    continue  # one spoilt image must not cost the others
                yield f"cell{number:03}-{place}.{suffix}", image
