"""How long the code of a section took, as the worked notebook measured it."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import nbformat

from refract.paths import SectionPaths

SHOWN_FROM = 2.0  # seconds: shorter cells need no warning
_STEPS = (2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300)


def cells(paths: SectionPaths) -> dict[str, float]:
    """Seconds of each code cell of the committed worked notebook, by the cell's id; empty before the first build."""
    if not paths.worked.is_file():
        return {}
    return dict(_cells(paths.worked, paths.worked.stat().st_mtime_ns))


def of_given_code(paths: SectionPaths) -> list[float]:
    """Seconds of the section's given code, fence by fence, in order; empty before the first build."""
    return [seconds for name, seconds in cells(paths).items() if re.search(r"-code(-\d+)?$", name)]


def total(paths: SectionPaths) -> float:
    """Seconds of all cells of the worked notebook together."""
    return sum(cells(paths).values())


@functools.lru_cache(maxsize=128)
def _cells(path: Path, stamp: int) -> dict[str, float]:
    notebook = nbformat.read(path, as_version=4)
    found = {cell["id"]: cell.metadata.get("refract", {}).get("seconds") for cell in notebook.cells}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def about(seconds: float) -> str:
    """A duration in round words, never shorter than measured, so that a second run seldom changes them."""
    nearest = next((step for step in _STEPS if step >= seconds), _STEPS[-1])
    if nearest < 90:
        return f"about {nearest} seconds"
    return f"about {nearest / 60:g} minutes"


def note(seconds: float) -> str | None:
    """What a reader is told of a cell's duration; nothing if it is short."""
    return f"Takes {about(seconds)} on two cores." if seconds >= SHOWN_FROM else None
