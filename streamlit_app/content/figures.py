"""Figures of a section, made by its worked notebook: read from disk, fitted to the page and its theme."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refract.errors import RefractError
from refract.paths import SectionPaths
from refract.plots.style import GREY

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


def themed(figure: dict[str, Any], dark: bool = False) -> dict[str, Any]:
    """The figure without a width, a font or a background of its own, so that the site's theme shows through.

    Figures are drawn for white paper. On a ``dark`` page, lines and markers too dark to see are lightened, and bars
    that are coloured by a value get an outline: their colours keep their meaning.
    """
    layout = {key: value for key, value in figure.get("layout", {}).items() if key not in _OURS}
    data = [_on_dark(trace) for trace in figure["data"]] if dark else figure["data"]
    return {**figure, "data": data, "layout": layout}


def _on_dark(trace: dict[str, Any]) -> dict[str, Any]:
    marker, line = dict(trace.get("marker") or {}), dict(trace.get("line") or {})
    for part in (marker, line):
        if isinstance(part.get("color"), str):
            part["color"] = lightened(part["color"])
    if trace.get("type") == "bar" and "color" in marker and not isinstance(marker["color"], str):
        marker["line"] = {"color": GREY, "width": 1}
    return {**trace, **({"marker": marker} if marker else {}), **({"line": line} if line else {})}


def lightened(colour: str) -> str:
    """``#rrggbb`` or ``rgb(…)`` mixed with white until it stands out on the dark page; other forms stay."""
    if match := re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", colour):
        parts = [int(part, 16) for part in match.groups()]
    elif match := re.fullmatch(r"rgb\((\d+), ?(\d+), ?(\d+)\)", colour):
        parts = [int(part) for part in match.groups()]
    else:
        return colour
    for share in range(0, 100, 5):
        mixed = [round(part + (255 - part) * share / 100) for part in parts]
        if luminance(mixed) >= FAINTEST:
            break
    return f"rgb({mixed[0]}, {mixed[1]}, {mixed[2]})"


def luminance(parts: Sequence[int]) -> float:
    """Relative luminance of red, green and blue from 0 to 255, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in parts)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


FAINTEST = 0.13  # three times as bright as the dark page, #14181d, as WCAG counts: (0.13 + 0.05) / (0.009 + 0.05)


def is_wide(figure: dict[str, Any]) -> bool:
    """Whether the figure was drawn wider than a phone can show legibly, so that it must scroll there."""
    return float(figure.get("layout", {}).get("width") or 0) >= WIDE


WIDE = 600  # pixels, also in site.css
_OURS = ("width", "autosize", "paper_bgcolor", "plot_bgcolor", "font")
