"""Drawings of features that come in pairs, and of two arrangements whose losses cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style
from refract.plots.toys import feature_arrows

ARRANGEMENTS = ("merged", "side by side", "orthogonal", "apart", "antipodal", "not stored")
_EDGES = (15.0, 80.0, 100.0, 165.0)
_COLOURS = (style.VERMILION, style.ORANGE, style.BLUE, style.SKY, style.GREEN, "#d0d4d9")


def arrangement(angles: Float[Tensor, "instance pair"]) -> list[list[str]]:
    """Name the angle between two partners, in degrees; ``nan``: not both are stored.

    Below 15° merged, to 80° side by side, to 100° orthogonal, to 165° apart, else antipodal.
    """
    rank = torch.bucketize(torch.nan_to_num(angles), torch.tensor(_EDGES, dtype=angles.dtype))
    rank = torch.where(angles.isnan(), len(ARRANGEMENTS) - 1, rank)
    return [[ARRANGEMENTS[int(each)] for each in row] for row in rank]


def pair_arrows(
    W: Float[Tensor, "instance hidden feature"], titles: Sequence[str], *, columns: int = 5, set_size: int = 2
) -> go.Figure:
    """Draw each feature's column as an arrow; the features of a set share a colour. Two hidden units.

    The first of a set is a broad pale arrow, so that it shows where another lies on top of it. The legend has an entry
    for each feature.
    """
    figure = feature_arrows(W, titles, columns=columns)
    features = W.shape[-1]
    for index, trace in enumerate(figure.data):
        feature = index % features
        group, place = divmod(feature, set_size)
        colour = style.PALETTE[group % len(style.PALETTE)]
        first = place == 0
        trace.line.update(color=colour, width=8 if first else 2.5)
        broad, thin = (20, 12) if trace.marker.symbol[1] == "arrow" else (12, 6)  # a dot: not stored
        trace.marker.update(color=colour, size=[0, broad if first else thin])
        trace.update(
            opacity=0.45 if first else 1.0,
            name=f"feature {feature}",
            legendgroup=f"feature {feature}",
            showlegend=index < features,
        )
    figure.update_layout(legend_itemsizing="trace")  # broad and thin in the legend too
    return figure


def arrangement_bars(counts: Mapping[str, Mapping[str, int]], *, xlabel: str = "") -> go.Figure:
    """How many pairs lie how, a bar for each group of runs: ``{group: {arrangement: pairs}}``."""
    figure = go.Figure()
    for name, colour in zip(ARRANGEMENTS, _COLOURS, strict=True):
        numbers = [group.get(name, 0) for group in counts.values()]
        if any(numbers):
            figure.add_bar(x=list(counts), y=numbers, name=name, marker_color=colour)
    figure.update_xaxes(type="category")
    figure.update_layout(
        barmode="stack", xaxis_title=xlabel or None, yaxis_title="pairs", width=760, height=380, margin={"t": 24}
    )
    return figure


def angle_curves(
    degrees: Float[Tensor, "angle"], panels: Mapping[str, Mapping[str, Float[Tensor, "angle"]]], *, ylabel: str
) -> go.Figure:
    """Curves over the angle between two features, a panel for each group of curves, on one scale."""
    figure = make_subplots(
        rows=1, cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.05
    )
    dashes = ("solid", "dash", "dot")
    for column, curves in enumerate(panels.values()):
        for index, (name, values) in enumerate(curves.items()):
            figure.add_trace(
                go.Scatter(
                    x=degrees.tolist(),
                    y=[round(float(value), 5) for value in values],
                    mode="lines",
                    line={"width": 3, "color": style.PALETTE[index], "dash": dashes[index % len(dashes)]},
                    name=name,
                    legendgroup=name,
                    showlegend=column == 0,
                    hovertemplate=f"{name}, %{{x:.0f}}°: %{{y:.3f}}<extra></extra>",
                ),
                row=1,
                col=column + 1,
            )
    figure.update_xaxes(title_text="angle between the two, degrees", tickvals=[0, 45, 90, 135, 180])
    figure.update_yaxes(title_text=ylabel, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=380 * len(panels) + 60,
        height=380,
        margin={"t": 44, "b": 110},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0},
    )
    return figure


def loss_strip(groups: Mapping[str, Float[Tensor, "run"]], *, ylabel: str = "loss") -> go.Figure:
    """The loss of every run as a dot, a column for each group, a bar at the lowest and a dotted one at the mean."""
    figure = go.Figure()
    for index, (name, losses) in enumerate(groups.items()):
        values = [round(float(value), 6) for value in losses]
        shift = [index + 0.24 * (2 * (place + 0.5) / len(values) - 1) for place in range(len(values))]
        figure.add_scatter(
            x=shift,
            y=values,
            mode="markers",
            marker={"size": 9, "color": style.PALETTE[index % len(style.PALETTE)]},
            name=name,
            showlegend=False,
            hovertemplate=f"{name.replace('<br>', ' ')}: %{{y:.4f}}<extra></extra>",
        )
        bars = {"the mean": (sum(values) / len(values), "dot"), "the lowest": (min(values), "solid")}
        for words, (value, dash) in bars.items():
            figure.add_scatter(
                x=[index - 0.32, index + 0.32],
                y=[value, value],
                mode="lines",
                line={"width": 2, "color": style.INK, "dash": dash},
                name=words,
                legendgroup=words,
                showlegend=index == 0,
                hovertemplate=f"{words}: {value:.4f}<extra></extra>",
            )
    figure.update_xaxes(tickvals=list(range(len(groups))), ticktext=list(groups), range=[-0.6, len(groups) - 0.4])
    figure.update_yaxes(title_text=ylabel, rangemode="tozero")
    figure.update_layout(
        width=max(640, 180 * len(groups)),
        height=420,
        margin={"t": 24, "b": 110},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0},
    )
    return figure


def side_by_side(x: Sequence[float], y: Sequence[float], *, step: float, height: float) -> Float[Tensor, "dot"]:
    """Move dots aside by whole multiples of ``step``, so that none lies on another; returns their places along ``x``.

    Two dots lie on each other if they are less than ``height`` apart in ``y`` and less than ``step`` in ``x``.
    """
    placed: list[tuple[float, float]] = []
    moved = torch.tensor(x, dtype=torch.float64)
    for dot in sorted(range(len(x)), key=lambda each: y[each]):
        for turn in range(2 * len(x)):
            place = x[dot] + step * ((turn + 1) // 2) * (1 if turn % 2 else -1)
            if all(abs(place - u) > 0.99 * step or abs(y[dot] - v) >= height for u, v in placed):
                break
        placed.append((place, y[dot]))
        moved[dot] = place
    return moved


def crossing_curves(
    x: Float[Tensor, "point"],
    curves: Mapping[str, Float[Tensor, "point"]],
    dots: tuple[Float[Tensor, "run"], Float[Tensor, "run"]],
    crossing: float,
    *,
    xlabel: str,
    notes: Sequence[tuple[float, float, str]] = (),
) -> go.Figure:
    """The losses of rival arrangements as curves, those of single runs as dots, and where the curves cross.

    Dots of one place are moved aside until none lies on another, so that they can be counted. ``notes`` are words
    beside a point: ``(x, y, text)``.
    """
    figure = go.Figure()
    width, height = 860, 560
    places, losses = [float(value) for value in dots[0]], [float(value) for value in dots[1]]
    top = max(losses + [float(values.max()) for values in curves.values()])
    reach = float(x.max() - x.min())
    # a dot is 5 pixels wide; the axes are about 760 by 420
    apart = side_by_side(places, losses, step=5.2 * 1.12 * reach / 760, height=5.5 * 1.08 * top / 420)
    for index, (name, values) in enumerate(curves.items()):
        figure.add_scatter(
            x=x.tolist(),
            y=[round(float(value), 6) for value in values],
            mode="lines",
            line={"width": 3, "color": style.PALETTE[index], "dash": ("solid", "dash")[index % 2]},
            name=name,
            hovertemplate=f"{name}, %{{x:.2f}}: %{{y:.5f}}<extra></extra>",
        )
    figure.add_scatter(
        x=[round(float(value), 4) for value in apart],
        y=[round(value, 6) for value in losses],
        mode="markers",
        marker={"size": 5, "color": style.INK},
        customdata=places,
        name="a run from random weights",
        hovertemplate="%{customdata:.2f}: %{y:.5f}<extra></extra>",
    )
    figure.add_scatter(
        x=[crossing, crossing],
        y=[0, 1.05 * top],
        mode="lines",
        line={"width": 1.5, "dash": "dot", "color": style.INK},
        name="where the curves cross",
        hovertemplate=f"the curves cross at {crossing:.3f}<extra></extra>",
    )
    for u, v, text in notes:
        figure.add_annotation(x=u, y=v, text=text, showarrow=False, xanchor="left", xshift=8, bgcolor="white")
    figure.update_xaxes(title_text=xlabel, range=[float(x.min()) - 0.06 * reach, float(x.max()) + 0.06 * reach])
    figure.update_yaxes(title_text="loss", range=[0, 1.08 * top])
    figure.update_layout(
        width=width,
        height=height,
        margin={"t": 24, "b": 110},
        legend={"orientation": "h", "y": -0.15, "yanchor": "top", "x": 0},
    )
    return figure


def aligned(W: Float[Tensor, "instance 2 feature"], anchor: int = 0) -> Float[Tensor, "instance 2 feature"]:
    """Turn every instance so that feature ``anchor`` points up, and flip it so that the next feature lies to the left.

    Neither changes WᵀW, so neither changes what the model does.
    """
    direction = W[:, :, anchor] / W[:, :, anchor].norm(dim=1, keepdim=True).clamp_min(torch.finfo(W.dtype).tiny)
    across = torch.stack([direction[:, 1], -direction[:, 0]], dim=1)
    turned = torch.stack([across, direction], dim=1) @ W
    following = turned[:, 0, (anchor + 1) % W.shape[-1]]
    turned[:, 0] *= torch.where(following > 0, -1.0, 1.0).to(W.dtype)[:, None]
    return turned
