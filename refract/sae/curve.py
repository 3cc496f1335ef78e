"""A run's curve: on one line while it runs, as a figure in a file at the end, and as text for a terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refract import atomic

if TYPE_CHECKING:
    import plotly.graph_objects as go

Point = dict[str, float]
FAR = 0.1
"""As a share: a difference that a finished run is told about."""
_BARS = " ▁▂▃▄▅▆▇█"


def line(point: Point) -> str:
    """What a progress bar shows of a point: fraction of variance explained, L0, and the share of dead latents."""
    text = f"FVE {point['fve']:.3f}, L0 {point['l0']:.1f}, dead {point['dead']:.1%}"
    if "held_out_fve" not in point:
        return text
    return f"{text}; held out: FVE {point['held_out_fve']:.3f}, L0 {point['held_out_l0']:.1f}"


def remarks(last: Point, target_l0: float | None = None) -> list[str]:
    """What a person should know of a finished run before using its coder: what its last point has that is not usual."""
    found = []
    in_use = last.get("held_out_l0", last["l0"])
    if target_l0 is not None and abs(in_use / target_l0 - 1) > FAR:
        found.append(
            f"The target for L0 was {target_l0:g}, and it is {in_use:.1f}. A longer run gets nearer, or another "
            "--sparsity."
        )
    if abs(in_use / last["l0"] - 1) > FAR:
        found.append(
            f"L0 is {in_use:.1f} on held-out text, and was {last['l0']:.1f} in training. A threshold that is still on "
            "its way can do this; a longer run lets it arrive."
        )
    if last["dead"] > FAR:
        found.append(f"{last['dead']:.0%} of the latents are dead. A lower --learning-rate keeps more of them alive.")
    return found


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
    atomic.write_text(path, figure(curve).to_html(include_plotlyjs=True))


def figure(curve: Sequence[Point]) -> go.Figure:
    """A panel for each quantity, with a legend of its own where it has more than one line."""
    from plotly.subplots import make_subplots

    from refract.plots import style

    losses = sorted({name for point in curve for name in point if name.startswith("loss/")})
    both = {"": "training", "held_out_": "held out"}
    panels = {
        "loss": {name: name.removeprefix("loss/") for name in losses} if len(losses) > 1 else {"loss": "loss"},
        "fraction of variance explained": {f"{where}fve": label for where, label in both.items()},
        "L0, active latents on a token": {f"{where}l0": label for where, label in both.items()},
        "share of dead latents": {"dead": "training"},
    }
    drawn = make_subplots(rows=len(panels), cols=1, subplot_titles=list(panels), vertical_spacing=0.08)
    for row, lines in enumerate(panels.values(), start=1):
        known = {name: label for name, label in lines.items() if any(name in point for point in curve)}
        legend = "legend" if row == 1 else f"legend{row}"
        for colour, (name, label) in zip(itertools.cycle(style.PALETTE), known.items(), strict=False):
            points = [point for point in curve if name in point]
            drawn.add_scatter(
                x=[point["tokens"] for point in points],
                y=[point[name] for point in points],
                name=label,
                mode="lines+markers" if name.startswith("held_out") else "lines",
                line={"color": colour},
                legend=legend,
                showlegend=len(known) > 1,
                row=row,
                col=1,
            )
        top = drawn.get_subplot(row, 1).yaxis.domain[1]
        drawn.update_layout({legend: {"y": top, "yanchor": "top"}})
        drawn.update_xaxes(title_text="activations trained on", matches="x", row=row, col=1)
    # From all latents to a few: powers of ten. Room around, so that what is level does not look wild.
    l0 = [point[name] for point in curve for name in ("l0", "held_out_l0") if point.get(name)] or [1]
    drawn.update_yaxes(type="log", range=[math.log10(min(l0) / 2), math.log10(2 * max(l0))], row=3, col=1)
    most = max((point["dead"] for point in curve), default=0.0)
    drawn.update_yaxes(tickformat=".2~%", range=[0, max(0.01, 1.1 * most)], row=4, col=1)
    drawn.update_layout(height=260 * len(panels), template=style.template(), hovermode="x")
    return drawn
