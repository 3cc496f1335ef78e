"""Drawings of geometry: polytopes with their dimensionalities, how dimensionality goes with sparsity, capacities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style

# Fractions at which polytopes sit, and what they are called.
FRACTIONS = {
    "1": 1.0,
    "3/4": 3 / 4,
    "2/3": 2 / 3,
    "1/2": 1 / 2,
    "2/5": 2 / 5,
    "3/8": 3 / 8,
}
_TILT, _TURN = math.radians(22), math.radians(28)  # from where a shape in space is seen


def flatten(
    W: Float[np.ndarray, "hidden feature"],
) -> tuple[Float[np.ndarray, "2 feature"], Float[np.ndarray, "feature"]]:
    """Columns as they are seen in the plane of the page, and how near each is (-1 far, 1 near for unit columns).

    One dimension lies across the page, two lie in it, and three are seen from a little above.
    """
    hidden, features = W.shape
    if hidden > 3:
        raise ValueError(f"a drawing has at most three dimensions; W has {hidden}")
    x, y, z = np.concatenate([W, np.zeros((3 - hidden, features))])
    if hidden < 3:
        return np.stack([x, y]), np.zeros(features)
    across = x * math.cos(_TURN) - y * math.sin(_TURN)
    away = x * math.sin(_TURN) + y * math.cos(_TURN)
    up = z * math.cos(_TILT) + away * math.sin(_TILT)
    return np.stack([across, up]), -away * math.cos(_TILT) + z * math.sin(_TILT)


def polytope_panels(
    shapes: Sequence[Float[Tensor, "hidden feature"]],
    labels: Sequence[Float[Tensor, "feature"]],
    titles: Sequence[str],
    *,
    columns: int = 3,
) -> go.Figure:
    """Each shape's columns as lines from the origin, with their numbers. One to three dimensions.

    A number stands next to its corner; where all of a shape are the same, it stands once, below the shape.
    """
    rows = -(-len(shapes) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(titles), horizontal_spacing=0.02, vertical_spacing=0.2 / rows
    )
    for index, (W, numbers) in enumerate(zip(shapes, labels, strict=True)):
        row, column = divmod(index, columns)
        place = {"row": row + 1, "col": column + 1}
        points, near = flatten(np.asarray(W, dtype=float))
        words = [f"{float(number):.3g}" for number in numbers]
        if len(set(words)) == 1:
            figure.add_scatter(
                x=[0], y=[-1.25], mode="text", text=[f"{words[0]} each"], textfont={"color": style.INK, "size": 13},
                hoverinfo="skip", showlegend=False, **place,
            )  # fmt: skip
        order = np.argsort(near)  # what is near is drawn last
        for i in order:
            u, v = points[:, i]
            length = math.hypot(u, v) or 1.0
            far = bool(near[i] < -0.05)
            colour = style.GREY if far else style.BLUE
            figure.add_scatter(
                x=[0, round(float(u), 4)], y=[0, round(float(v), 4)], mode="lines+markers",
                line={"color": colour, "width": 2 if far else 4}, marker={"size": [0, 8], "color": colour},
                hoverinfo="skip", showlegend=False, **place,
            )  # fmt: skip
            if len(set(words)) > 1:
                figure.add_scatter(
                    x=[round(float(u + 0.34 * u / length), 4)], y=[round(float(v + 0.2 * v / length), 4)], mode="text",
                    text=[words[i]], textfont={"color": style.INK, "size": 13},
                    hoverinfo="skip", showlegend=False, **place,
                )  # fmt: skip
    figure.update_xaxes(range=[-1.75, 1.75], visible=False, constrain="domain")
    figure.update_yaxes(range=[-1.4, 1.35], visible=False)
    for index in range(1, len(shapes) + 1):
        suffix = "" if index == 1 else str(index)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(width=250 * columns + 20, height=245 * rows + 40, margin={"l": 8, "r": 8, "t": 34, "b": 8})
    return figure


def curve(
    x: Sequence[float], y: Sequence[float], marks: Sequence[tuple[float, str]], *, xaxis: str, yaxis: str
) -> go.Figure:
    """A line, and vertical marks on it with a word each."""
    figure = go.Figure(go.Scatter(x=list(x), y=[round(float(value), 4) for value in y], line={"width": 3}))
    for place, word in marks:
        figure.add_vline(
            place,
            line={"color": style.GREY, "width": 1, "dash": "dash"},
            annotation_text=word,
            annotation_position="bottom right",
        )
    figure.update_layout(xaxis_title=xaxis, yaxis_title=yaxis, width=620, height=330, margin={"t": 24})
    return figure


def dimensionality_scatter(
    feature_probability: Float[Tensor, "instance"],
    dimensionality: Float[Tensor, "instance feature"],
    stored: Bool[Tensor, "instance feature"],
    per_model: Float[Tensor, "instance"],
    run: Sequence[int],
    *,
    lines: dict[str, float] | None = None,
) -> go.Figure:
    """Left, the dimensionality of every feature against 1 / p, and m / ‖W‖² as a curve per run. Right, how often.

    Features that are not stored are small and grey; those of one model are spread a little so that they show.
    """
    lines = FRACTIONS if lines is None else lines
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, column_widths=[0.76, 0.24], horizontal_spacing=0.02)
    inverse = 1 / feature_probability
    ordered = inverse.unique()
    gap = float((ordered[1:] / ordered[:-1]).min()) if len(ordered) > 1 else 1.1
    shift = np.random.default_rng(0).uniform(-0.35, 0.35, size=tuple(dimensionality.shape))
    x = (inverse[:, None].numpy() * gap**shift).round(3)
    y = dimensionality.numpy().round(4)
    for chosen, name, colour, size in (
        (~stored, "not stored", "#b4b9c0", 3),
        (stored, "stored feature", style.BLUE, 5),
    ):
        mask = chosen.numpy()
        figure.add_scatter(
            x=x[mask], y=y[mask], mode="markers", name=name, marker={"size": size, "color": colour, "opacity": 0.75},
            hovertemplate="1/p %{x:.2f}<br>dimensionality %{y:.3f}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    for number in sorted(set(run)):
        mine = [index for index, one in enumerate(run) if one == number]
        figure.add_scatter(
            x=inverse[mine].numpy().round(3), y=per_model[mine].numpy().round(4), mode="lines",
            line={"color": style.VERMILION, "width": 1.5}, name="m / ‖W‖² of each run",
            showlegend=number == min(run), legendgroup="per model", hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
    figure.add_histogram(
        y=y[stored.numpy()], ybins={"start": 0, "end": 1.05, "size": 0.01}, marker_color=style.BLUE, showlegend=False,
        hovertemplate="%{x} stored features<extra></extra>", row=1, col=2,
    )  # fmt: skip
    for name, height in lines.items():
        figure.add_hline(height, line={"color": style.GREY, "width": 1, "dash": "dot"}, row=1)
        figure.add_annotation(
            x=1, y=height, xref="paper", text=name, showarrow=False, xanchor="left", xshift=4, font={"size": 12},
            yshift=_apart(height, lines),
        )  # fmt: skip
    ticks = [
        tick for tick in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100) if tick <= float(inverse.max()) * 1.02
    ]
    figure.update_xaxes(type="log", title_text="1 / p (right: sparser)", tickvals=ticks, row=1, col=1)
    figure.update_xaxes(title_text="stored features", type="log", row=1, col=2)
    figure.update_yaxes(range=[0, 1.06], title_text="dimensions per feature", row=1, col=1)
    figure.update_layout(
        width=860, height=520, margin={"t": 52, "r": 44}, legend={"orientation": "h", "y": 1.1, "x": 0}
    )
    return figure


def _apart(height: float, lines: dict[str, float]) -> int:
    """How far a line's label is moved so that it does not touch another's."""
    close = [other for other in lines.values() if 0 < abs(other - height) < 0.04]
    return 0 if not close else 6 if height > close[0] else -6


def fraction_strips(groups: dict[str, Float[Tensor, "point"]], lines: dict[str, float]) -> go.Figure:
    """A strip of points for every group, over lines at the fractions."""
    figure = go.Figure()
    generator = np.random.default_rng(0)
    for place, points in enumerate(groups.values()):
        values = np.asarray(points, dtype=float).round(4)
        figure.add_scatter(
            x=place + generator.uniform(-0.25, 0.25, size=len(values)).round(3), y=values, mode="markers",
            marker={"size": 6, "opacity": 0.7, "color": style.BLUE}, showlegend=False,
            hovertemplate="%{y:.3f}<extra></extra>",
        )  # fmt: skip
    for name, height in lines.items():
        figure.add_hline(height, line={"color": style.GREY, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=1, y=height, xref="paper", text=name, showarrow=False, xanchor="left", xshift=4, font={"size": 12},
            yshift=_apart(height, lines),
        )  # fmt: skip
    figure.update_xaxes(tickvals=list(range(len(groups))), ticktext=list(groups))
    figure.update_yaxes(range=[0, 1.05], title_text="dimensionality")
    figure.update_layout(width=720, height=400, margin={"t": 24, "r": 48})
    return figure


def capacity_panels(
    trained: Float[Tensor, "panel run feature"],
    predicted: Float[Tensor, "panel feature"],
    prices: Float[Tensor, "panel run feature"],
    titles: Sequence[str],
) -> go.Figure:
    """Above, the capacities of trained models and the predicted ones; below, what a little more would save.

    Runs that agree to 0.02 share a dot. Where the capacities of a feature differ, a number says how many runs a dot
    stands for.
    """
    panels, _, features = trained.shape
    figure = make_subplots(
        rows=2, cols=panels, subplot_titles=list(titles), shared_xaxes=True, shared_yaxes="rows",
        horizontal_spacing=0.03, vertical_spacing=0.08,
    )  # fmt: skip
    x = list(range(features))
    for panel in range(panels):
        first = panel == 0
        for row, values, colour in ((1, trained, style.BLUE), (2, prices, style.GREEN)):
            dots = [
                (feature, place, count, len(together))
                for feature in x
                for together in [_together(values[panel, :, feature].tolist())]
                for place, count in together
            ]
            figure.add_scatter(
                x=[dot[0] for dot in dots], y=[round(dot[1], 4) for dot in dots], customdata=[dot[2] for dot in dots],
                mode="markers+text", text=[_count(*dot) if row == 1 and dot[3] > 1 else "" for dot in dots],
                textposition=["top center" if dot[1] < 0.5 else "bottom center" for dot in dots],
                textfont={"color": style.INK, "size": 11}, cliponaxis=False,
                marker={"size": 7, "color": colour}, showlegend=first,
                name="trained" if row == 1 else "marginal value, trained", row=row, col=panel + 1,
                hovertemplate="feature %{x}: %{y:.3f}, %{customdata} runs<extra></extra>",
            )  # fmt: skip
        figure.add_scatter(
            x=x, y=predicted[panel].numpy().round(4), mode="lines", line={"color": style.VERMILION, "width": 2},
            name="predicted", showlegend=first, row=1, col=panel + 1, hoverinfo="skip",
        )  # fmt: skip
    figure.update_yaxes(title_text="capacity", row=1, col=1)
    figure.update_yaxes(title_text="marginal value", row=2, col=1)
    figure.update_xaxes(title_text="feature", row=2)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=860, height=500, margin={"t": 40, "r": 16, "b": 96}, legend={"orientation": "h", "y": -0.16, "x": 0}
    )
    return figure


def _count(feature: int, place: float, count: int, _: int) -> str:
    """A dot's number; those of every other feature stand one line further off, so that neighbours do not touch."""
    if feature % 2 == 0:
        return str(count)
    return f"{count}<br>" if place < 0.5 else f"<br>{count}"


def _together(values: Sequence[float], apart: float = 0.02) -> list[tuple[float, int]]:
    """Values in heaps that lie ``apart`` or further from each other: the mean of each heap, and how many it holds."""
    heaps: list[list[float]] = []
    for value in sorted(values):
        if heaps and value - heaps[-1][-1] < apart:
            heaps[-1].append(value)
        else:
            heaps.append([value])
    return [(sum(heap) / len(heap), len(heap)) for heap in heaps]


def paired_bars(series: dict[str, Float[Tensor, "feature"]], *, xaxis: str, yaxis: str) -> go.Figure:
    """Bars side by side, a group for each feature."""
    figure = go.Figure()
    for name, values in series.items():
        figure.add_bar(x=list(range(len(values))), y=np.asarray(values, dtype=float).round(4), name=name)
    figure.update_layout(
        barmode="group", xaxis_title=xaxis, yaxis_title=yaxis, width=720, height=360, margin={"t": 24, "b": 90},
        legend={"orientation": "h", "y": -0.22, "x": 0},
    )  # fmt: skip
    return figure
