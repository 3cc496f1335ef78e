"""Drawings of toy models: features as arrows, their norms as bars, WᵀW as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style


def feature_arrows(
    W: Float[Tensor, "instance hidden feature"],
    titles: Sequence[str],
    *,
    importance: Float[Tensor, "feature"] | None = None,
    columns: int = 5,
    title: str = "",
) -> go.Figure:
    """Draw each feature's column of ``W`` as an arrow in the plane, a panel per instance.

    Brighter is more important. ``W`` must have two hidden units.
    """
    if W.shape[-2] != 2:
        raise ValueError(f"arrows need two hidden units; W has {W.shape[-2]}")
    instances, _, features = W.shape
    columns = min(columns, instances)
    rows = -(-instances // columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(titles), horizontal_spacing=0.02, vertical_spacing=0.16 / rows
    )
    weight = np.ones(features) if importance is None else (importance / importance.max()).cpu().numpy()
    ranks = np.argsort(np.argsort(-weight, kind="stable"))
    colours = sample_colorscale("Viridis", list(0.85 * ranks / max(features - 1, 1)))
    reach = 1.15 * max(1.0, float(W.norm(dim=-2).max()))
    for instance in range(instances):
        row, column = divmod(instance, columns)
        place = {"row": row + 1, "col": column + 1}
        for feature in range(features):
            u, v = (round(float(value), 4) for value in W[instance, :, feature])
            figure.add_trace(
                go.Scatter(
                    x=[0, u],
                    y=[0, v],
                    mode="lines+markers",
                    line={"width": 3, "color": colours[feature]},
                    marker={"size": [0, 8], "color": colours[feature]},
                    name=f"feature {feature}",
                    legendgroup=str(feature),
                    showlegend=instance == 0,
                    hovertemplate=f"feature {feature}: (%{{x:.2f}}, %{{y:.2f}})<extra></extra>",
                ),
                **place,
            )
    figure.update_xaxes(range=[-reach, reach], showticklabels=False, ticks="", constrain="domain")
    figure.update_yaxes(range=[-reach, reach], showticklabels=False, ticks="")
    for index in range(1, instances + 1):
        suffix = "" if index == 1 else str(index)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        title=title,
        width=190 * columns + 40,
        height=215 * rows + 100,
        margin={"l": 20, "r": 20, "t": 80 if title else 44, "b": 40},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0},
    )
    return figure


def norm_bars(
    norms: Float[Tensor, "instance feature"],
    superposition: Float[Tensor, "instance feature"],
    titles: Sequence[str],
    *,
    title: str = "",
) -> go.Figure:
    """A row of bars per instance: a bar's height is a feature's norm, its colour its superposition."""
    instances, features = norms.shape
    figure = make_subplots(rows=instances, cols=1, shared_xaxes=True, vertical_spacing=0.018, row_titles=list(titles))
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
    top = max(1.2, 1.05 * float(norms.max()))
    figure.update_yaxes(range=[0, top], tickvals=[0, 1])
    figure.update_xaxes(title_text="feature, most important first", row=instances, col=1)
    figure.update_annotations(textangle=0, xanchor="left", font_size=12)
    figure.update_layout(
        title=title,
        bargap=0.15,
        width=860,
        height=78 * instances + 130,
        margin={"r": 190, "l": 50},
        coloraxis={
            "colorscale": style.SEQUENTIAL,
            "cmin": 0,
            "cmax": max(1.0, round(float(torch.quantile(superposition, 0.98)), 2)),
            "colorbar": {"title": {"text": "superposition"}, "x": 1.13, "thickness": 14},
        },
    )
    return figure


def gram_heatmap(gram: Float[Tensor, "instance feature feature"], titles: Sequence[str], *, title: str = "") -> go.Figure:
    """WᵀW, a panel per instance: what each input feature adds to each output, before bias and ReLU."""
    instances = len(gram)
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
    figure.update_xaxes(showticklabels=False, ticks="", constrain="domain")
    for index in range(1, instances + 1):
        suffix = "" if index == 1 else str(index)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        title=title,
        width=220 * instances + 120,
        height=320,
        coloraxis={"colorscale": style.DIVERGING, "cmid": 0, "cmin": -1, "cmax": 1, "colorbar": {"thickness": 14}},
    )
    return figure
