"""Figures of a section, made by its worked notebook: read from disk, fitted to the page and its theme."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from refract.errors import RefractError
from refract.paths import SectionPaths

_REMEDY = "Run `python -m refract build`, which runs the worked notebook and saves its figures."


def load(paths: SectionPaths, name: str) -> dict[str, Any]:
    """The figure ``name`` as Plotly's JSON object.

    Raises:
        RefractError: there is no such figure, or the file holds no figure.
    """
    file = paths.figures / f"{name}.json"
    if not file.is_file():
        raise RefractError(f"The figure {file} does not exist.", _REMEDY)
    return _read(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _read(file: Path, stamp: int) -> dict[str, Any]:
    try:
        figure = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RefractError(f"The figure {file} is not JSON: {error}.", _REMEDY) from error
    if not isinstance(figure, dict) or not isinstance(figure.get("data"), list):
        raise RefractError(f"The file {file} holds no Plotly figure.", _REMEDY)
    return figure


def themed(figure: dict[str, Any]) -> dict[str, Any]:
    """The figure without a width, a font or a background of its own, so that the site's theme shows through."""
    layout = {key: value for key, value in figure.get("layout", {}).items() if key not in _OURS}
    return {**figure, "layout": layout}


def is_wide(figure: dict[str, Any]) -> bool:
    """Whether the figure was drawn wider than a phone can show legibly, so that it must scroll there."""
    return float(figure.get("layout", {}).get("width") or 0) >= WIDE


WIDE = 600  # pixels, also in site.css
_OURS = ("width", "autosize", "paper_bgcolor", "plot_bgcolor", "font")
