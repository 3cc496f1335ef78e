"""Drawings of models that were trained on a few data points: what lies in the plane, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from refract.plots import style

DASHES = ["solid", "dash", "dot", "dashdot"]
MARKS = ["circle", "square", "diamond", "triangle-up"]
LOG_TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
FLOOR = 1e-3  # where a logarithmic axis of dimensionalities ends; what lies below is drawn there


def data_and_columns(
    hidden: Sequence[Float[Tensor, "2 data"]],
    W: Sequence[Float[Tensor, "2 feature"]],
    titles: Sequence[str],
) -> go.Figure:
    """A column of two panels for each model: hidden vectors of the data points above, columns of ``W`` below.

    Each panel is scaled to its longest vector.
    """
    models = len(hidden)
    figure = make_subplots(
        rows=2, cols=models, subplot_titles=list(titles), horizontal_spacing=0.012, vertical_spacing=0.05
    )
    rows = (("data point", hidden, style.BLUE), ("feature", W, style.VERMILION))
    for row, (kind, vectors, colour) in enumerate(rows, start=1):
        for column, matrix in enumerate(vectors, start=1):
            unit = matrix / matrix.norm(dim=0).max().clamp_min(1e-9)
            u, v = ([round(float(value), 3) for value in axis] for axis in unit)
            spokes_u = [each for value in u for each in (0, value, None)]
            spokes_v = [each for value in v for each in (0, value, None)]
            place = {"row": row, "col": column}
            figure.add_scatter(
                x=spokes_u,
                y=spokes_v,
                mode="lines",
                line={"width": 1, "color": colour},
                opacity=0.45,
                hoverinfo="skip",
                showlegend=False,
                **place,
            )
            figure.add_scatter(
                x=u,
                y=v,
                mode="markers",
                marker={"size": 5, "color": colour, "line": {"width": 0}},
                customdata=[round(float(length), 2) for length in matrix.norm(dim=0)],
                hovertemplate=f"{kind} %{{pointNumber}}: length %{{customdata}}<extra></extra>",
                showlegend=False,
                **place,
            )
    quiet = {"range": [-1.15, 1.15], "showticklabels": False, "ticks": "", "showgrid": False}
    figure.update_xaxes(**quiet, constrain="domain")
    figure.update_yaxes(**quiet, constrain="domain")
    for index in range(1, 2 * models + 1):
        suffix = "" if index == 1 else str(index)
        figure.layout[f"yaxis{suffix}"].update(scaleanchor=f"x{suffix}", scaleratio=1)
    figure.update_yaxes(title_text="data points", row=1, col=1)
    figure.update_yaxes(title_text="columns of W", row=2, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(width=148 * models + 50, height=366, margin={"l": 40, "r": 8, "t": 34, "b": 12})
    return figure


def stacked_panels(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float] | Tensor]],
    *,
    x_title: str,
    log_x: bool = True,
    log_y: Sequence[str] = (),
    marks: Mapping[str, float] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> go.Figure:
    """Panels above each other over one axis. Each has its title on its own axis, and named curves with markers.

    A name has the same colour, dash and marker in every panel. Without ``log_x`` the positions are evenly spaced
    labels. ``log_y`` names panels whose axis is logarithmic; ``marks`` draws a grey line in a panel at a height;
    ``limits`` says from where to where a panel's axis (not a logarithmic one) goes.
    """
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.07)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    positions = [float(value) for value in x] if log_x else [f"{value:g}" for value in x]
    shown: set[str] = set()
    for row, (title, curves) in enumerate(panels.items(), start=1):
        for name, values in curves.items():
            index = names.index(name)
            colour = style.PALETTE[index % len(style.PALETTE)]
            figure.add_scatter(
                x=positions,
                y=[float(f"{float(value):.5g}") for value in values],
                mode="lines+markers",
                name=name,
                legendgroup=name,
                showlegend=name not in shown,
                line={"color": colour, "width": 2, "dash": DASHES[index % len(DASHES)]},
                marker={"color": colour, "size": 7, "symbol": MARKS[index % len(MARKS)]},
                row=row,
                col=1,
            )
            shown.add(name)
        figure.update_yaxes(title_text=title, row=row, col=1)
        if title in log_y:
            figure.update_yaxes(type="log", row=row, col=1, tickvals=LOG_TICKS, ticktext=[f"{v:g}" for v in LOG_TICKS])
        if limits and title in limits:
            figure.update_yaxes(range=list(limits[title]), row=row, col=1)
        if marks and title in marks:
            figure.add_hline(y=marks[title], line={"color": style.GREY, "width": 1.5}, row=row, col=1)
    if log_x:
        figure.update_xaxes(type="log", tickvals=positions, ticktext=[f"{value:g}" for value in x], tickangle=0)
    else:
        figure.update_xaxes(type="category")
    figure.update_xaxes(title_text=x_title, row=len(panels), col=1)
    figure.update_layout(
        width=720,
        height=230 * len(panels) + 120,
        margin={"l": 70, "r": 16, "t": 20, "b": 96},
        legend={"orientation": "h", "y": -60 / (230 * len(panels)), "yanchor": "top", "x": 0},
    )
    return figure


def dimensionality_points(
    sizes: Sequence[int],
    data: Sequence[Float[Tensor, "data"]],
    features: Sequence[Float[Tensor, "feature"]],
    d_hidden: int,
) -> go.Figure:
    """The dimensionality of every data point (left) and feature (right), over the number of data points.

    The dashed line is ``d_hidden`` / T: equal shares for all data points. The other is the median. Below ``FLOOR`` a
    point is drawn there.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["data points", "features"], shared_yaxes=True, horizontal_spacing=0.05
    )
    for column, (values, colour) in enumerate(((data, style.BLUE), (features, style.VERMILION)), start=1):
        # a column of points on the same spot is one point
        points = sorted(
            {
                (int(size), float(f"{max(FLOOR, float(d)):.2g}"))
                for size, each in zip(sizes, values, strict=True)
                for d in each
            }
        )
        figure.add_scatter(
            x=[size for size, _ in points],
            y=[d for _, d in points],
            mode="markers",
            marker={"color": colour, "size": 5, "opacity": 0.4, "line": {"width": 0}},
            hovertemplate="T = %{x}<br>D = %{y}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=list(sizes),
            y=[float(f"{max(FLOOR, float(each.median())):.3g}") for each in values],
            mode="lines",
            line={"color": style.INK, "width": 2.5},
            name="median",
            showlegend=column == 1,
            hovertemplate="T = %{x}<br>median %{y}<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=[min(sizes), max(sizes)],
            y=[d_hidden / min(sizes), d_hidden / max(sizes)],
            mode="lines",
            line={"color": style.INK, "width": 1.5, "dash": "dash"},
            name=f"{d_hidden} / T",
            showlegend=column == 1,
            hoverinfo="skip",
            row=1,
            col=column,
        )
    figure.update_xaxes(type="log", dtick=1, title_text="number T of data points")
    figure.update_yaxes(type="log", dtick=1, range=[-3.1, 0.1])
    figure.update_yaxes(title_text="dimensionality", col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        width=760,
        height=400,
        margin={"l": 70, "r": 16, "t": 34, "b": 90},
        legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0},
    )
    return figure
