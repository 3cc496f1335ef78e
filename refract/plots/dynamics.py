"""Drawings of training as it goes, of attacks, and of estimated learning coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style
from refract.plots.geometry import flatten

_TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000]


def _numbers(values: Tensor | Sequence[float], digits: int = 5) -> list[float]:
    """Few significant digits, so that the figures' files stay small."""
    return [float(f"{float(value):.{digits}g}") for value in values]


def over_steps(
    steps: Float[Tensor, "snapshot"],
    loss: Float[Tensor, "snapshot run"],
    levels: Float[Tensor, "snapshot run feature"],
    titles: Sequence[str],
    *,
    hops: Bool[Tensor, "snapshot run feature"] | None = None,
    groups: Sequence[int] | None = None,
    yaxis: str = "dimensions per feature",
) -> go.Figure:
    """Above, each run's loss; below, a line for every feature. Hops are dots, with a thin line through both panels.

    Both axes of the loss are logarithmic. Features of one of the ``groups`` have one colour.
    """
    runs = len(titles)
    figure = make_subplots(
        rows=2, cols=runs, shared_xaxes=True, shared_yaxes="rows", subplot_titles=list(titles),
        vertical_spacing=0.06, horizontal_spacing=0.03, row_heights=[0.42, 0.58],
    )  # fmt: skip
    x = steps.tolist()
    groups = [0] * levels.shape[-1] if groups is None else groups
    for run in range(runs):
        place = {"col": run + 1}
        figure.add_scatter(
            x=x, y=_numbers(loss[:, run]), line={"color": style.INK, "width": 2}, showlegend=False,
            hovertemplate="step %{x}: loss %{y}<extra></extra>", row=1, **place,
        )  # fmt: skip
        for feature in range(levels.shape[-1]):
            figure.add_scatter(
                x=x, y=_numbers(levels[:, run, feature], 4), mode="lines", showlegend=False,
                line={"color": style.PALETTE[groups[feature]], "width": 1.5},
                hovertemplate=f"feature {feature}, step %{{x}}: %{{y:.2f}}<extra></extra>", row=2, **place,
            )  # fmt: skip
        if hops is None:
            continue
        when, which = hops[:, run].nonzero().T.tolist()
        for step in sorted({x[t] for t in when}):
            figure.add_vline(step, line={"color": style.GREY, "width": 0.6, "dash": "dot"}, **place)
        figure.add_scatter(
            x=[x[t] for t in when], y=_numbers(levels[when, run, which], 4),
            mode="markers", marker={"size": 7, "color": style.VERMILION}, name="hop", showlegend=run == 0,
            hovertemplate="step %{x}<extra></extra>", row=2, **place,
        )  # fmt: skip
    ticks = [tick for tick in _TICKS if x[0] <= tick <= x[-1] and str(tick)[0] == "1"]
    figure.update_xaxes(type="log", tickvals=ticks)
    figure.update_xaxes(title_text="step", row=2)
    figure.update_yaxes(type="log", row=1)
    figure.update_yaxes(title_text="loss", row=1, col=1)
    figure.update_yaxes(title_text=yaxis, row=2, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(width=880, height=520, margin={"t": 40, "b": 60}, legend={"orientation": "h", "y": -0.14})
    return figure


def in_space(
    shapes: Sequence[Float[Tensor, "hidden feature"]], groups: Sequence[int], titles: Sequence[str]
) -> go.Figure:
    """Columns of three hidden units as lines from the origin, all seen from one place; a colour for each group."""
    figure = make_subplots(rows=1, cols=len(shapes), subplot_titles=list(titles), horizontal_spacing=0.01)
    for column, W in enumerate(shapes, start=1):
        points, near = flatten(np.asarray(W, dtype=float))
        for i in np.argsort(near):  # what is near is drawn last
            colour = style.PALETTE[groups[i]]
            figure.add_scatter(
                x=[0, round(float(points[0, i]), 4)], y=[0, round(float(points[1, i]), 4)], mode="lines+markers",
                line={"color": colour, "width": 4 if near[i] > 0 else 2},
                marker={"size": [0, 9], "color": colour, "symbol": "circle" if groups[i] == 0 else "square"},
                hovertemplate=f"feature {i}<extra></extra>", showlegend=False, row=1, col=column,
            )  # fmt: skip
        suffix = "" if column == 1 else str(column)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)
    figure.update_xaxes(range=[-1.25, 1.25], visible=False, constrain="domain")
    figure.update_yaxes(range=[-1.25, 1.25], visible=False)
    figure.update_annotations(font_size=12)
    figure.update_layout(width=176 * len(shapes) + 16, height=230, margin={"l": 8, "r": 8, "t": 44, "b": 8})
    return figure


def null_histogram(
    null: Sequence[Float[Tensor, "draw"]], names: Sequence[str], observed: float, *, xaxis: str
) -> go.Figure:
    """What chance gives, in one or more ways, as histograms; what was observed, as a line."""
    figure = go.Figure()
    for draws, name, colour in zip(null, names, (style.GREY, style.SKY, style.ORANGE), strict=False):
        figure.add_histogram(
            x=_numbers(draws, 4), name=name, marker_color=colour, opacity=0.75, histnorm="percent",
            xbins={"start": -1, "end": 1, "size": 0.04},
        )  # fmt: skip
    figure.add_vline(
        observed, line={"color": style.VERMILION, "width": 3}, annotation_text="observed",
        annotation_position="top right",
    )  # fmt: skip
    figure.update_layout(
        barmode="overlay", xaxis_title=xaxis, yaxis_title="per cent", width=640, height=340,
        margin={"t": 40, "b": 96}, legend={"orientation": "h", "y": -0.26, "x": 0},
    )  # fmt: skip
    return figure


def aligned(
    x: Float[Tensor, "point"],
    series: dict[str, Float[Tensor, "run point"]],
    *,
    xaxis: str,
    logarithmic: bool = True,
    panel: int = 200,
) -> go.Figure:
    """Panels above each other with one horizontal axis: a dot for every run, a line through the means.

    Each panel is ``panel`` pixels high.
    """
    figure = make_subplots(rows=len(series), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    for row, (name, values) in enumerate(series.items(), start=1):
        colour = style.PALETTE[row - 1]
        figure.add_scatter(
            x=_numbers(x), y=_numbers(values.mean(dim=0)), mode="lines", line={"color": colour, "width": 2.5},
            hoverinfo="skip", showlegend=False, row=row, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=_numbers(x.repeat(len(values))), y=_numbers(values.flatten()), mode="markers", showlegend=False,
            marker={"color": colour, "size": 6, "opacity": 0.65}, hovertemplate="%{x}: %{y:.3g}<extra></extra>",
            row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title_text=name, rangemode="tozero", row=row, col=1)
    if logarithmic:
        figure.update_xaxes(type="log", tickvals=[tick for tick in _TICKS if tick <= float(x.max()) * 1.01])
    figure.update_xaxes(title_text=xaxis, row=len(series), col=1)
    figure.update_layout(width=680, height=panel * len(series) + 90, margin={"t": 24, "l": 80})
    return figure


def estimates(
    epsilon: Float[Tensor, "size"],
    by_loss: dict[str, Float[Tensor, "size chain"]],
    known: dict[str, float],
    exact: dict[str, float] | None = None,
    *,
    columns: int = 3,
    top: float | None = None,
) -> go.Figure:
    """Estimates against step size, mean and standard error over chains; the true value as a line.

    ``exact`` is what a perfect sampler would report. What is off the scale, or not finite, is not drawn.
    """
    rows = math.ceil(len(by_loss) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(by_loss), vertical_spacing=0.24 / rows, horizontal_spacing=0.08
    )
    for index, (name, values) in enumerate(by_loss.items()):
        row, column = divmod(index, columns)
        place = {"row": row + 1, "col": column + 1}
        mean, error = values.mean(dim=1), values.std(dim=1) / values.shape[1] ** 0.5
        limit = 2.2 * known[name] if top is None else top
        shown = mean.isfinite() & (mean.abs() < limit)
        figure.add_scatter(
            x=_numbers(epsilon[shown]), y=_numbers(mean[shown]), mode="lines+markers", showlegend=False,
            error_y={"array": _numbers(error[shown]), "thickness": 1.5},
            line={"color": style.BLUE, "width": 1.5}, hovertemplate="ε %{x}: %{y:.3f}<extra></extra>", **place,
        )  # fmt: skip
        figure.add_hline(known[name], line={"color": style.VERMILION, "width": 2}, **place)
        if exact is not None and name in exact:
            figure.add_hline(exact[name], line={"color": style.GREEN, "width": 2, "dash": "dash"}, **place)
        low = min(0.0, float((mean - error)[shown].min())) if bool(shown.any()) else 0.0
        figure.update_yaxes(range=[1.1 * low, limit], **place)
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_xaxes(title_text="step size ε", row=rows)
    figure.update_yaxes(title_text="estimate", col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(width=860, height=230 * rows + 70, margin={"t": 40})
    return figure


def polygon_ladder(
    shapes: Sequence[Float[Tensor, "2 feature"]],
    biases: Sequence[Float[Tensor, "feature"]],
    loss: Float[Tensor, "point"],
    estimate: dict[str, tuple[Float[Tensor, "point"], Float[Tensor, "point"]]],
    names: Sequence[str],
    *,
    most: float | None = None,
) -> go.Figure:
    """Above, the polygons with their names; below, loss against estimate, with error bars, one colour a setting.

    A dashed line stands at ``most``, the largest coefficient that is possible.
    """
    count = len(shapes)
    figure = make_subplots(
        rows=2, cols=count, specs=[[{}] * count, [{"colspan": count}, *[None] * (count - 1)]],
        subplot_titles=list(names), row_heights=[0.3, 0.7], vertical_spacing=0.1, horizontal_spacing=0.01,
    )  # fmt: skip
    for column, (W, b) in enumerate(zip(shapes, biases, strict=True), start=1):
        for i in range(W.shape[1]):
            stored = bool(W[:, i].norm() > 0.1)
            figure.add_scatter(
                x=[0, round(float(W[0, i]), 4)], y=[0, round(float(W[1, i]), 4)], mode="lines+markers",
                line={"color": style.BLUE, "width": 3},
                marker={
                    "size": [0, 8] if stored else [11, 0],
                    "color": style.BLUE if stored else style.VERMILION if b[i] < 0 else style.GREEN,
                    "symbol": "circle" if stored else "x",
                },
                hovertemplate=f"feature {i}, bias {float(b[i]):.2f}<extra></extra>",
                showlegend=False, row=1, col=column,
            )  # fmt: skip
        suffix = "" if column == 1 else str(column)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)
    figure.update_xaxes(range=[-1.5, 1.5], visible=False, constrain="domain", row=1)
    figure.update_yaxes(range=[-1.5, 1.5], visible=False, row=1)
    for index, (label, (mean, error)) in enumerate(estimate.items()):
        figure.add_scatter(
            x=_numbers(mean), y=_numbers(loss), mode="markers+text", name=label, text=list(names),
            textposition=["top center", "bottom center"][index % 2], textfont={"size": 11},
            error_x={"array": _numbers(error), "thickness": 1.5},
            marker={"size": 9, "color": style.PALETTE[index], "symbol": ["circle", "square", "diamond"][index % 3]},
            hovertemplate="%{text}: estimate %{x:.2f}, loss %{y:.4f}<extra></extra>", row=2, col=1,
        )  # fmt: skip
    if most is not None:
        figure.add_vline(most, line={"color": style.GREY, "width": 2, "dash": "dash"}, row=2, col=1)
    figure.update_xaxes(title_text="estimated local learning coefficient", row=2, col=1)
    figure.update_yaxes(title_text="loss", row=2, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=760, height=600, margin={"t": 40, "b": 96}, legend={"orientation": "h", "y": -0.16, "x": 0}
    )
    return figure


def chain_losses(every: int, losses: Float[Tensor, "row chain"], marks: dict[str, float]) -> go.Figure:
    """The loss of every chain, kept at every so many steps, over lines at the losses in ``marks``."""
    figure = go.Figure()
    x = [every * row for row in range(len(losses))]
    for chain in losses.T:
        figure.add_scatter(
            x=x, y=_numbers(chain, 4), mode="lines", line={"color": style.BLUE, "width": 1}, opacity=0.55,
            showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    for name, height in marks.items():
        figure.add_hline(
            height, line={"color": style.VERMILION, "width": 2, "dash": "dash"}, annotation_text=name,
            annotation_position="right",
        )  # fmt: skip
    figure.update_layout(
        xaxis_title="step of the sampler", yaxis_title="loss", width=680, height=340, margin={"t": 24, "r": 48}
    )
    return figure
