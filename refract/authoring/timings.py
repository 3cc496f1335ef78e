"""How long the code of a section took, as the worked notebook measured it."""

from __future__ import annotations

from refract.authoring import worked
from refract.paths import SectionPaths

SHOWN_FROM = 2.0  # seconds: shorter cells need no warning
_STEPS = (2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300)


def cells(paths: SectionPaths) -> dict[str, float]:
    """Seconds of each code cell of the committed worked notebook, by the cell's id; empty before the first build."""
    return {cell.name: cell.seconds for cell in worked.cells(paths) if cell.seconds is not None}


def total(paths: SectionPaths) -> float:
    """Seconds of all cells of the worked notebook together."""
    return sum(cells(paths).values())


def about(seconds: float) -> str:
    """A duration in round words, never shorter than measured, so that a second run seldom changes them."""
    nearest = next((step for step in _STEPS if step >= seconds), _STEPS[-1])
    if nearest < 90:
        return f"about {nearest} seconds"
    return f"about {nearest / 60:g} minutes"


def note(seconds: float) -> str | None:
    """What a reader is told of a cell's duration; nothing if it is short."""
    return f"Takes {about(seconds)} on two cores." if seconds >= SHOWN_FROM else None
