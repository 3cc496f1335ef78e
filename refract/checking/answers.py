"""``load_answers``: the answers in a notebook or module, without running its code in this process."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refract.authoring.source import load
from refract.checking import client
from refract.checking.packing import PackedAnswer
from refract.checking.running import request_for
from refract.checking.supervision import DONE, LATE
from refract.errors import RefractError
from refract.paths import SectionPaths


@dataclass(frozen=True)
class LoadedAnswers:
    """What a file holds. ``answers`` are packed: hand them to ``run_checks`` as they are.

    An exercise that the file does not define is not among them. One whose definition fails is, and its check
    says why. ``shown`` are the exercises answered by ``solution("…")``.
    """

    answers: dict[str, PackedAnswer]
    notes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()


def load_answers(file: Path, paths: SectionPaths) -> LoadedAnswers:
    """Load the answers to a section's exercises from a notebook (``.ipynb``) or module (``.py``).

    The file is executed only as far as its definitions (:mod:`refract.checking.definitions`), in the worker.
    Raises RefractError if it cannot be read, or does not come to its end.
    """
    file = Path(file)
    cells = _read(file)
    seconds = float(os.environ.get("REFRACT_LOAD_SECONDS", "30"))
    request = request_for(paths, "load", seconds)
    folder = str(file.resolve().parent)
    request |= {
        "exercises": [exercise.name for exercise in load(paths).exercises],
        "cells": cells,
        "notebook": file.suffix == ".ipynb",
        "path": [folder, *(each for each in request["path"] if each != folder)],
    }
    report = client.pool().ask(request)
    loaded = report.of("loaded")
    if report.ending != DONE or not loaded:
        cell = next((str(event["name"]) for event in reversed(report.of("test"))), file.name)
        why = f"took more than {seconds:g} s" if report.ending == LATE else "ended the process it ran in"
        why = next((str(event["message"]) for event in [*report.of("stop"), *report.of("broken")]), why)
        raise RefractError(f"{file} could not be loaded: {cell}: {why}.", "Mend that part of the file.")
    return _unpack(loaded[0])


def _unpack(message: dict[str, Any]) -> LoadedAnswers:
    answers = {name: PackedAnswer.from_message(packed) for name, packed in message["answers"].items()}
    answers |= {name: PackedAnswer(b"", problem=problem) for name, problem in message["problems"].items()}
    return LoadedAnswers(answers, message["notes"], message["sources"], frozenset(message["shown"]))


def section_in(file: Path) -> SectionPaths | None:
    """The section that a notebook's metadata name."""
    if file.suffix != ".ipynb":
        return None
    section = _notebook(file).get("metadata", {}).get("refract", {}).get("section")
    return SectionPaths.parse(section) if isinstance(section, str) else None


def _read(file: Path) -> list[tuple[str, str]]:
    """The code cells of a file, each with a label that stands for it in messages."""
    if file.suffix == ".py":
        return [(file.name, _text(file))]
    if file.suffix != ".ipynb":
        raise RefractError(f"{file} is neither a notebook nor a module.", "Name a file that ends in .ipynb or .py.")
    cells = _notebook(file)["cells"]
    return [
        (f"{file.name}, cell {number}", source if isinstance(source, str) else "".join(source))
        for number, cell in enumerate(cells, 1)
        if cell.get("cell_type") == "code" and (source := cell.get("source", ""))
    ]


def _notebook(file: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(_text(file))
    except ValueError as error:
        raise RefractError(
            f"{file} is not a notebook: its JSON is broken ({error}).", "Save it again in Jupyter."
        ) from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise RefractError(f"{file} is not a notebook: it has no cells.", "Save it in Jupyter, in format 4 or later.")
    return notebook


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RefractError(f"{file} cannot be read: {reason}.", "Check the file's name.") from None
