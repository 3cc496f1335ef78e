"""Drawings of neurons: what each of them reads and writes, as stacked bars, and curves that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style

_HATCHES = ["", "/", "x", "."]  # a turn through the palette each
_LABELLED = 0.09  # the part of an axis that a piece must cover to carry its feature's number


def feature_marker(feature: int) -> dict[str, Any]:
    """How a bar's pieces look that belong to a feature: a colour of the palette, and from the seventh on hatched."""
    turn, colour = divmod(feature, len(style.PALETTE))
    return {
        "color": style.PALETTE[colour],
        "line": {"width": 0.6, "color": "white"},
        "pattern": {
            "shape": _HATCHES[turn % len(_HATCHES)],
            "fillmode": "overlay",
            "fgcolor": "white",
            "fgopacity": 0.6,
            "size": 7,
            "solidity": 0.16,
        },
    }


def neuron_stacks(
    weights: Float[Tensor, "instance hidden feature"],
    titles: Sequence[str],
    *,
    columns: int = 3,
    label: str = "weight",
    unit: str = "neuron",
) -> go.Figure:
    """A panel for each instance, a bar for each hidden unit: its weights stacked, a colour for each feature.

    Positive weights are stacked upwards from zero, negative ones downwards. A piece that is large enough carries the
    number of its feature, for colours alone cannot tell ten features apart.
    """
    instances, hidden, features = weights.shape
    columns = min(columns, instances)
    rows = -(-instances // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=list(titles),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.3 / rows,
    )
    up, down = weights.clamp_min(0).sum(-1).amax(-1), weights.clamp_max(0).sum(-1).amin(-1)
    for instance in range(instances):
        row, column = divmod(instance, columns)
        in_row = slice(row * columns, (row + 1) * columns)  # panels of a row share their axis
        labelled = _LABELLED * float(up[in_row].max() - down[in_row].min())
        for feature in range(features):
            figure.add_trace(
                go.Bar(
                    x=list(range(hidden)),
                    y=[round(float(value), 3) for value in weights[instance, :, feature]],
                    marker=feature_marker(feature),
                    text=[
                        str(feature) if abs(float(value)) >= labelled else "" for value in weights[instance, :, feature]
                    ],
                    textposition="inside",
                    insidetextanchor="middle",
                    textangle=0,
                    textfont={"size": 12, "color": "black"},
                    name=f"feature {feature}",
                    legendgroup=str(feature),
                    showlegend=instance == 0,
                    hovertemplate=f"{unit} %{{x}}, feature {feature}: %{{y:.2f}}<extra></extra>",
                ),
                row=row + 1,
                col=column + 1,
            )
    figure.update_xaxes(tickvals=list(range(hidden)), zeroline=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=style.GREY)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text=unit, row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text=label, row=row, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        uniformtext={"minsize": 10, "mode": "show"},
        barmode="relative",
        bargap=0.25,
        width=max(240 * columns + 60, 420),
        height=250 * rows + 150,
        margin={"l": 56, "r": 16, "t": 40, "b": 110},
        legend={"orientation": "h", "y": -0.36 / rows, "yanchor": "top", "x": 0, "itemsizing": "constant"},
    )
    return figure


def named_curves(
    x: Float[Tensor, "point"],
    curves: Mapping[str, Float[Tensor, "point"]],
    *,
    x_title: str,
    y_title: str,
) -> go.Figure:
    """Curves over one axis, each in its colour and with its own dash; the first is the widest."""
    figure = go.Figure()
    dashes = ["solid", "dash", "dot", "dashdot", "longdash"]
    for index, (name, y) in enumerate(curves.items()):
        figure.add_trace(
            go.Scatter(
                x=[round(float(value), 4) for value in x],
                y=[round(float(value), 5) for value in y],
                mode="lines",
                name=name,
                line={
                    "color": style.PALETTE[index % len(style.PALETTE)],
                    "dash": dashes[index % len(dashes)],
                    "width": 4 if index == 0 else 2.5,
                },
            )
        )
    figure.update_layout(
        width=560,
        height=380,
        xaxis_title=x_title,
        yaxis_title=y_title,
        margin={"l": 60, "r": 16, "t": 24, "b": 100},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0},
    )
    return figure


def motif_panels(
    read: Float[Tensor, "case neuron feature"],
    write: Float[Tensor, "case neuron feature"],
    titles: Sequence[str],
    features: Sequence[str],
    neurons: Sequence[str],
) -> go.Figure:
    """For each case two panels: what a few neurons read of a few features, above, and what they write, below."""
    cases = len(read)
    figure = make_subplots(
        rows=2,
        cols=cases,
        subplot_titles=list(titles),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.1,
    )
    for case in range(cases):
        for row, weights in ((1, read), (2, write)):
            for index, feature in enumerate(features):
                figure.add_trace(
                    go.Bar(
                        x=list(neurons),
                        y=[round(float(value), 3) for value in weights[case, :, index]],
                        marker={"color": style.PALETTE[index]},
                        name=feature,
                        legendgroup=feature,
                        showlegend=case == 0 and row == 1,
                        hovertemplate=f"%{{x}}, {feature}: %{{y:.2f}}<extra></extra>",
                    ),
                    row=row,
                    col=case + 1,
                )
    figure.update_xaxes(showticklabels=False, row=1)
    figure.update_yaxes(zeroline=True, zerolinecolor=style.GREY)
    figure.update_yaxes(title_text="reads", row=1, col=1)
    figure.update_yaxes(title_text="writes", row=2, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        barmode="group",
        width=max(230 * cases + 60, 420),
        height=460,
        margin={"l": 56, "r": 16, "t": 40, "b": 90},
        legend={"orientation": "h", "y": -0.14, "yanchor": "top", "x": 0},
    )
    return figure
