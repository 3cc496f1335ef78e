"""What the committed worked notebook measured and printed, cell by cell."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from refract.paths import SectionPaths


@dataclass(frozen=True)
class WorkedCell:
    """A code cell as it ran."""

    name: str  # its id
    seconds: float | None
    printed: str


def cells(paths: SectionPaths) -> tuple[WorkedCell, ...]:
    """The code cells, in order; none before the first build."""
    if not paths.worked.is_file():
        return ()
    return _cells(paths.worked, paths.worked.stat().st_mtime_ns)


def given(paths: SectionPaths) -> tuple[WorkedCell, ...]:
    """The cells of the section's given code, fence by fence."""
    return tuple(cell for cell in cells(paths) if re.search(r"-code(-\d+)?$", cell.name))


@functools.lru_cache(maxsize=128)
def _cells(path: Path, stamp: int) -> tuple[WorkedCell, ...]:
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            streams = [output.text for output in cell.outputs if output.output_type == "stream"]
            seconds = cell.metadata.get("refract", {}).get("seconds")
            found.append(WorkedCell(cell["id"], seconds, "".join(streams).strip("\n")))
    return tuple(found)
