"""Drawings of a phase diagram: which solution wins in each cell, how often training finds it, and how losses cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style

# Pale, so that dark lines drawn over them show; grey, blue, orange and green stay apart without full colour vision.
PHASES = ["#dfe2e6", "#f0b35a", "#6fb1dd", "#17876a"]
DASHES = ["solid", "dash", "dot", "dashdot"]

Line = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]  # relative importances and densities


def _log_axes(figure: go.Figure, density: Tensor, ratio: Tensor) -> None:
    """Relative importance to the right, density upwards, both logarithmic."""
    for axis, values in ((figure.update_xaxes, ratio), (figure.update_yaxes, density)):
        low, high = float(values.min()), float(values.max())
        ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if 0.99 * low <= tick <= 1.01 * high]
        axis(
            type="log",
            range=[np.log10(low), np.log10(high)],
            tickvals=ticks,
            ticktext=[f"{tick:g}" for tick in ticks],
            showgrid=False,
            zeroline=False,
        )
    figure.update_xaxes(title_text="relative importance r of the last feature")
    figure.update_yaxes(title_text="density p", col=1)


def _draw_lines(figure: go.Figure, lines: Mapping[str, Line], colour: str, column: int, *, legend: bool) -> None:
    for place, (name, (x, y)) in enumerate(lines.items()):
        figure.add_trace(
            go.Scatter(
                x=[float(value) for value in x],
                y=[float(value) for value in y],
                mode="lines",
                line={"color": colour, "width": 2.5, "dash": DASHES[place % len(DASHES)]},
                name=name,
                legendgroup=name,
                showlegend=legend,
                hoverinfo="skip",
            ),
            row=1,
            col=column,
        )


def phase_map(
    phases: Sequence[Int[Tensor, "density ratio"]],
    density: Float[Tensor, "density"],
    ratio: Float[Tensor, "ratio"],
    names: Sequence[str],
    titles: Sequence[str],
    *,
    lines: Mapping[str, Line] | None = None,
) -> go.Figure:
    """Colour each cell of the diagram by the number of its phase, a panel for each map; ``lines`` lie over them all."""
    if len(names) > len(PHASES):
        raise ValueError(f"there are colours for {len(PHASES)} phases; {len(names)} are named")
    figure = make_subplots(rows=1, cols=len(phases), subplot_titles=list(titles), horizontal_spacing=0.08)
    steps = [(step, colour) for i, colour in enumerate(PHASES) for step in (i / len(PHASES), (i + 1) / len(PHASES))]
    for column, cells in enumerate(phases, start=1):
        figure.add_trace(
            go.Heatmap(
                x=ratio.tolist(),
                y=density.tolist(),
                z=cells.tolist(),
                zmin=-0.5,
                zmax=len(PHASES) - 0.5,
                colorscale=steps,
                showscale=False,
                customdata=[[names[cell] for cell in row] for row in cells.tolist()],
                hovertemplate="r = %{x:.2f}, p = %{y:.2f}: %{customdata}<extra></extra>",
            ),
            row=1,
            col=column,
        )
        _draw_lines(figure, lines or {}, style.INK, column, legend=column == 1)
    for name, colour in zip(names, PHASES, strict=False):
        figure.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", name=name,
                marker={"symbol": "square", "size": 13, "color": colour, "line": {"width": 1, "color": style.GREY}},
            )
        )  # fmt: skip
    _log_axes(figure, density, ratio)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=420 * len(phases) + 60,
        height=480,
        margin={"t": 40, "b": 130},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
    )
    return figure


def share_map(
    share: Float[Tensor, "density ratio"],
    density: Float[Tensor, "density"],
    ratio: Float[Tensor, "ratio"],
    label: str,
    *,
    lines: Mapping[str, Line] | None = None,
) -> go.Figure:
    """A number from 0 to 1 in each cell of the diagram, as a colour."""
    figure = make_subplots(rows=1, cols=1)
    figure.add_trace(
        go.Heatmap(
            x=ratio.tolist(),
            y=density.tolist(),
            z=np.round(share.cpu().numpy(), 3),
            zmin=0,
            zmax=1,
            colorscale=style.SEQUENTIAL,
            colorbar={"title": {"text": label, "side": "right"}, "thickness": 14},
            hovertemplate="r = %{x:.2f}, p = %{y:.2f}: %{z:.2f}<extra></extra>",
        )
    )
    _draw_lines(figure, lines or {}, "white", 1, legend=False)
    _log_axes(figure, density, ratio)
    figure.update_layout(width=560, height=430, margin={"t": 24})
    return figure


def unit_square(values: Float[Tensor, "second first"], title: str) -> go.Figure:
    """A quantity over the sizes of two features, each from 0 to 1."""
    side = np.linspace(0, 1, len(values))
    figure = go.Figure(
        go.Heatmap(
            x=side,
            y=side,
            z=np.round(values.cpu().numpy(), 4),
            colorscale=style.SEQUENTIAL,
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 14},
            hovertemplate="x₁ = %{x:.2f}, x₂ = %{y:.2f}: %{z:.3f}<extra></extra>",
        )
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": "white", "dash": "dash"}, hoverinfo="skip", showlegend=False
    )
    figure.update_xaxes(title_text="size of feature 1", range=[0, 1], constrain="domain")
    figure.update_yaxes(title_text="size of feature 2", range=[0, 1], scaleanchor="x", constrain="domain")
    figure.update_layout(width=460, height=390, margin={"t": 24})
    return figure


def crossing_lines(
    x: Float[Tensor, "point"],
    curves: Mapping[str, Float[Tensor, "point"]],
    crossing: float,
    *,
    x_title: str,
    y_title: str,
) -> go.Figure:
    """Losses against one quantity, and the least of them drawn boldly: it has a corner where two cross."""
    figure = go.Figure()
    least = np.min([values.cpu().numpy() for values in curves.values()], axis=0)
    figure.add_scatter(
        x=x.tolist(), y=least.tolist(), mode="lines", line={"width": 9, "color": "#d0d4d9"}, name="the least of them"
    )
    colours = [style.VERMILION, style.BLUE, style.GREEN, style.PURPLE]
    for place, (name, values) in enumerate(curves.items()):
        figure.add_scatter(
            x=x.tolist(), y=values.tolist(), mode="lines", name=name,
            line={"width": 2.5, "color": colours[place], "dash": DASHES[place]},
        )  # fmt: skip
    figure.add_vline(x=crossing, line={"color": style.GREY, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=crossing, y=0, text=f"{crossing:.3f}", showarrow=False, xanchor="left", yanchor="bottom", xshift=4
    )
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    figure.update_layout(
        width=680, height=380, margin={"t": 24, "b": 100}, legend={"orientation": "h", "y": -0.22, "yanchor": "top"}
    )
    return figure


def onset_panels(
    ratios: Sequence[Float[Tensor, "point"]],
    lengths: Sequence[Float[Tensor, "point"]],
    gains: Sequence[Float[Tensor, "point"]],
    titles: Sequence[str],
) -> go.Figure:
    """Above, the length of the second feature's weight in the best model; below, what storing it saves."""
    panels = len(ratios)
    figure = make_subplots(
        rows=2, cols=panels, subplot_titles=list(titles), shared_xaxes=True, vertical_spacing=0.08,
        horizontal_spacing=0.1,
    )  # fmt: skip
    for column, (ratio, length, gain) in enumerate(zip(ratios, lengths, gains, strict=True), start=1):
        for row, values, colour in ((1, length, style.BLUE), (2, gain, style.VERMILION)):
            figure.add_trace(
                go.Scatter(
                    x=ratio.tolist(), y=[round(float(v), 5) for v in values], mode="lines+markers",
                    line={"color": colour, "width": 2}, marker={"size": 5}, showlegend=False,
                    hovertemplate="r = %{x:.3f}: %{y:.3f}<extra></extra>",
                ),
                row=row, col=column,
            )  # fmt: skip
    figure.update_yaxes(range=[-0.03, 1.03], row=1)
    figure.update_yaxes(title_text="|w₂| of the best", row=1, col=1)
    figure.update_yaxes(title_text="loss saved", rangemode="tozero", tickformat=".2~%", row=2)
    figure.update_xaxes(title_text="relative importance r", row=2)
    figure.update_annotations(font_size=13)
    figure.update_layout(width=380 * panels + 60, height=460, margin={"t": 40})
    return figure


def boundary_lines(curves: Mapping[str, Line], *, x_title: str, y_title: str) -> go.Figure:
    """Boundaries as lines over relative importance and density."""
    figure = make_subplots(rows=1, cols=1)
    colours = [style.GREY, style.BLUE, style.VERMILION]
    for place, (name, (x, y)) in enumerate(curves.items()):
        figure.add_scatter(
            x=[float(v) for v in x], y=[float(v) for v in y], name=name,
            mode="lines" if len(x) > 20 else "lines+markers",  # few points: show where they are
            line={"color": colours[place], "width": 2.5, "dash": DASHES[place]}, marker={"size": 8},
        )  # fmt: skip
    figure.update_xaxes(title_text=x_title, range=[0, 1.02])
    figure.update_yaxes(title_text=y_title, range=[0, 1.02])
    figure.update_layout(
        width=620, height=440, margin={"t": 24, "b": 110}, legend={"orientation": "h", "y": -0.2, "yanchor": "top"}
    )
    return figure
