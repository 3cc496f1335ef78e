"""A run's curve: on one line while it runs, as a figure in a file at the end, and as text for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from refract import atomic

Point = dict[str, float]
_BARS = " ▁▂▃▄▅▆▇█"


def line(point: Point) -> str:
    """What a progress bar shows of a point: fraction of variance explained, L0, and the share of dead latents."""
    text = f"FVE {point['fve']:.3f}, L0 {point['l0']:.1f}, dead {point['dead']:.1%}"
    if "held_out_fve" not in point:
        return text
    return f"{text}; held out: FVE {point['held_out_fve']:.3f}, L0 {point['held_out_l0']:.1f}"


def text(curve: Sequence[Point], name: str = "fve", width: int = 72) -> str:
    """The curve as a row of bars: the mean of as many equal stretches of steps as there are columns."""
    values = [point[name] for point in curve if name in point]
    if not values:
        return ""
    width = min(width, len(values))
    bounds = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    heights = [round((mean - low) / (high - low or 1) * (len(_BARS) - 2)) + 1 for mean in means]
    return f"{name} from {low:.3f} (low) to {high:.3f} (high)\n" + "".join(_BARS[height] for height in heights)


def write_figure(curve: Sequence[Point], path: Path) -> None:
    """Losses, variance explained, L0 and dead latents over tokens, as a page that opens without a network."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    losses = sorted({name for point in curve for name in point if name.startswith("loss/")})
    panels = {
        "loss": losses if len(losses) > 1 else ["loss"],
        "fraction of variance explained": ["fve", "held_out_fve"],
        "L0": ["l0", "held_out_l0"],
        "share of dead latents": ["dead"],
    }
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, subplot_titles=list(panels))
    for row, names in enumerate(panels.values(), start=1):
        for name in names:
            points = [point for point in curve if name in point]
            if points:
                x, y = [point["tokens"] for point in points], [point[name] for point in points]
                mode = "lines+markers" if name.startswith("held_out") else "lines"
                label = name.replace("_", " ").removeprefix("loss/")
                figure.add_scatter(x=x, y=y, name=label, mode=mode, row=row, col=1)
    figure.update_xaxes(title_text="tokens", row=len(panels), col=1)
    figure.update_layout(height=220 * len(panels), template="plotly_white", hovermode="x unified")
    atomic.write_text(path, go.Figure(figure).to_html(include_plotlyjs=True))
