"""Drawings of toy models: features as arrows, their norms as bars, WᵀW as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style

DOT = 0.25  # a shorter column is drawn as a dot: a head would hide it


def _square_panels(figure: go.Figure, panels: int) -> None:
    """One unit is as long on both axes of every panel."""
    for index in range(1, panels + 1):
        suffix = "" if index == 1 else str(index)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)


def feature_arrows(
    W: Float[Tensor, "instance hidden feature"],
    titles: Sequence[str],
    *,
    columns: int = 5,
) -> go.Figure:
    """Draw each feature's column of ``W`` as an arrow in the plane, a panel per instance. Two hidden units.

    A column shorter than ``DOT`` is a dot.
    """
    if W.shape[-2] != 2:
        raise ValueError(f"arrows need two hidden units; W has {W.shape[-2]}")
    instances, _, features = W.shape
    columns = min(columns, instances)
    rows = -(-instances // columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(titles), horizontal_spacing=0.02, vertical_spacing=0.16 / rows
    )
    colours = feature_colours(features)
    reach = 1.15 * max(1.0, float(W.norm(dim=-2).max()))
    for instance in range(instances):
        row, column = divmod(instance, columns)
        place = {"row": row + 1, "col": column + 1}
        for feature in range(features):
            u, v = (round(float(value), 4) for value in W[instance, :, feature])
            long = math.hypot(u, v) > DOT
            figure.add_trace(
                go.Scatter(
                    x=[0, u],
                    y=[0, v],
                    mode="lines+markers",
                    line={"width": 3, "color": colours[feature]},
                    marker={
                        "size": [0, 14 if long else 8],
                        "symbol": ["circle", "arrow" if long else "circle"],
                        "angleref": "previous",
                        "line": {"width": 0},
                        "color": colours[feature],
                        "opacity": 1,
                    },
                    name=f"feature {feature}",
                    legendgroup=str(feature),
                    showlegend=instance == 0,
                    hovertemplate=f"feature {feature}: (%{{x:.2f}}, %{{y:.2f}})<extra></extra>",
                ),
                **place,
            )
    figure.update_xaxes(range=[-reach, reach], showticklabels=False, ticks="", constrain="domain")
    figure.update_yaxes(range=[-reach, reach], showticklabels=False, ticks="")
    _square_panels(figure, instances)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=max(190 * columns + 40, 420),  # a single panel still needs room for its legend
        height=(200 if columns > 1 else 320) * rows + 90,
        margin={"l": 16, "r": 16, "t": 44, "b": 40},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0, "itemsizing": "constant"},
    )
    return figure


def feature_colours(features: int) -> list[str]:
    """One colour a feature: the palette while it lasts, else a scale whose ends show on white and on black."""
    if features <= len(style.PALETTE):
        return style.PALETTE[:features]
    return sample_colorscale("Viridis", list(np.linspace(0.25, 0.9, features)))


def norm_bars(
    norms: Float[Tensor, "instance feature"],
    superposition: Float[Tensor, "instance feature"],
    titles: Sequence[str],
) -> go.Figure:
    """A row of bars per instance: a bar's height is a feature's norm, its colour its superposition."""
    instances, features = norms.shape
    figure = make_subplots(
        rows=instances, cols=1, shared_xaxes=True, vertical_spacing=0.34 / instances, subplot_titles=list(titles)
    )
    for instance in range(instances):
        figure.add_trace(
            go.Bar(
                x=list(range(features)),
                y=[round(float(value), 3) for value in norms[instance]],
                marker={
                    "color": [round(float(value), 3) for value in superposition[instance]],
                    "coloraxis": "coloraxis",
                    "line": {"width": 0},
                },
                hovertemplate="feature %{x}<br>norm %{y:.2f}<br>superposition %{marker.color:.2f}<extra></extra>",
                showlegend=False,
            ),
            row=instance + 1,
            col=1,
        )
    stored = superposition[norms > 0.5]
    # 0 and 1 must be told apart at a glance; above 2 a difference says little
    top = min(2.0, max(1.0, round(float(stored.max()), 1))) if len(stored) else 1.0
    figure.update_yaxes(range=[0, max(1.2, 1.05 * float(norms.max()))], tickvals=[0, 1])
    figure.update_yaxes(title_text="length", row=(instances + 1) // 2, col=1)
    figure.update_xaxes(title_text="feature, most important first", row=instances, col=1)
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    figure.update_layout(
        bargap=0.15,
        width=800,
        height=88 * instances + 170,
        margin={"l": 44, "r": 16, "t": 36, "b": 120},
        coloraxis={
            "colorscale": style.SEQUENTIAL,
            "cmin": 0,
            "cmax": top,
            "colorbar": {
                "title": {
                    "text": "superposition (the scale ends at 2)" if top == 2 else "superposition",
                    "side": "top",
                },
                "orientation": "h",
                "thickness": 12,
                "y": -62 / (88 * instances + 14),  # 62 pixels below the lowest axis, however many rows
                "yanchor": "top",
            },
        },
    )
    return figure


def gram_heatmap(
    gram: Float[Tensor, "instance feature feature"], titles: Sequence[str], *, title: str = ""
) -> go.Figure:
    """WᵀW, a panel per instance: what each input feature adds to each output, before bias and ReLU."""
    instances = len(gram)
    reach = max(1.0, round(float(gram.abs().max()), 1))
    figure = make_subplots(rows=1, cols=instances, subplot_titles=list(titles), horizontal_spacing=0.04)
    for instance in range(instances):
        figure.add_trace(
            go.Heatmap(
                z=np.round(gram[instance].cpu().numpy(), 3),
                coloraxis="coloraxis",
                hovertemplate="output %{y}, input %{x}: %{z:.2f}<extra></extra>",
            ),
            row=1,
            col=instance + 1,
        )
    figure.update_yaxes(autorange="reversed", showticklabels=False, ticks="", constrain="domain")
    figure.update_xaxes(title_text="input", showticklabels=False, ticks="", constrain="domain")
    figure.update_yaxes(title_text="output", col=1)
    _square_panels(figure, instances)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=220 * instances + 120,
        height=310,
        margin={"l": 30, "r": 16, "t": 44, "b": 30},
        coloraxis={
            "colorscale": style.DIVERGING,
            "cmin": -reach,
            "cmax": reach,
            "colorbar": {"thickness": 14},
        },
    )
    return figure


def stacked_counts(counts: dict[str, list[int]], positions: Sequence[str]) -> go.Figure:
    """How many runs became which shape, a bar for each feature probability."""
    colours = [style.GREY, style.SKY, style.BLUE, style.VERMILION, "#d0d4d9"]
    figure = go.Figure()
    for (shape, numbers), colour in zip(counts.items(), colours, strict=True):
        figure.add_bar(x=list(positions), y=numbers, name=shape, marker_color=colour)
    figure.update_xaxes(type="category")
    figure.update_layout(
        barmode="stack",
        xaxis_title="feature probability p",
        yaxis_title="runs",
        width=760,
        height=380,
        margin={"t": 24},
    )
    return figure
