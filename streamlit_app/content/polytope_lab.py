"""The polytope lab without its widgets: its state in an address, its deformed shapes, figures and sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from refract.plots.style import BLUE, GREY, VERMILION
from streamlit_app.content import lab_state

# Every shape as the parts of its product, by the names that the exercise gives them.
SHAPES: dict[str, tuple[str, ...]] = {
    "digon": ("digon",),
    "triangle": ("triangle",),
    "two digons": ("digon", "digon"),
    "pentagon": ("pentagon",),
    "tetrahedron": ("tetrahedron",),
    "triangle and digon": ("triangle", "digon"),
    "three digons": ("digon", "digon", "digon"),
    "pentagon and digon": ("pentagon", "digon"),
    "square antiprism": ("square antiprism",),
}
ANTIPRISM = "square antiprism"
EVEN = 0.58  # the height on offer that is nearest to the tight frame's, the root of 1/3
LIMITS: dict[str, tuple[float, float]] = {"length": (0.0, 2.0), "turn": (-90.0, 90.0), "height": (0.0, 0.95)}
STEPS = {"length": 0.05, "turn": 5.0, "height": 0.01}


@dataclass(frozen=True)
class State:
    """What the lab's controls say. The defaults show two shapes that keep their fractions."""

    shape: str = "triangle and digon"
    length: float = 1.0  # of the first vector
    turn: float = 0.0  # of the first vector, in degrees, in the plane of the first two dimensions
    height: float = EVEN  # of the antiprism's squares

    def to_query(self) -> dict[str, str]:
        """As the parameters of an address; ``parse`` reads them back."""
        return {"shape": self.shape.replace(" ", "-"), **{name: f"{getattr(self, name):g}" for name in LIMITS}}


def parse(query: Mapping[str, str]) -> tuple[State, list[str]]:
    """The state that an address asks for, brought into its limits, and a notice for each thing that was changed."""
    notices: list[str] = []
    shape = query.get("shape", "").replace("-", " ")
    if "shape" in query and shape not in SHAPES:
        notices.append(f"shape = {query['shape'][:30]!r} is not on offer; {State.shape} is used.")
    values = {
        name: lab_state.number(
            query,
            name,
            default=getattr(State, name),
            limits=limits,
            offered=lab_state.whole_steps(STEPS[name]),
            notices=notices,
        )
        for name, limits in LIMITS.items()
    }
    return State(shape if shape in SHAPES else State.shape, **values), notices


def vectors(
    state: State,
    part: Callable[[str], np.ndarray],
    product: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """The columns that the state describes; ``part`` gives a polytope and ``product`` puts two side by side."""
    names = SHAPES[state.shape]
    W = np.array(part(names[0]), dtype=float)
    if state.shape == ANTIPRISM:
        ring = W[:2] / np.linalg.norm(W[:2], axis=0)
        W = np.concatenate([math.sqrt(1 - state.height**2) * ring, state.height * np.sign(W[2:])])
    for name in names[1:]:
        W = np.array(product(W, np.array(part(name), dtype=float)), dtype=float)
    if len(W) > 1:
        angle = math.radians(state.turn)
        turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        W[:2, 0] = turned @ W[:2, 0]
    W[:, 0] *= state.length
    return W


def frame_bounds(W: np.ndarray) -> tuple[float, float]:
    """The least and the most squared length that the columns have along any direction: equal for a tight frame."""
    eigenvalues = np.linalg.eigvalsh(W @ W.T)
    return float(max(eigenvalues[0], 0.0)), float(eigenvalues[-1])


def describe(W: np.ndarray, dimensionality: np.ndarray) -> str:
    """What is seen, in numbers."""
    hidden, features = W.shape
    low, high = frame_bounds(W)
    dimensions = "1 dimension" if hidden == 1 else f"{hidden} dimensions"
    frame = (
        f"a tight frame: every direction gets {high:.2f}"
        if high - low < 0.005
        else f"not a tight frame: directions get between {low:.2f} and {high:.2f}"
    )
    total = f"{dimensionality.sum():.2f}"
    return f"{features} features in {dimensions}. ΣD = {total}, at most {hidden}; {frame} of squared length."


def _labels(dimensionality: np.ndarray) -> list[str]:
    return [f"{value:.3f}" for value in dimensionality]


def draw(W: np.ndarray, dimensionality: np.ndarray) -> go.Figure:
    """The columns as lines from the origin with D next to each, in the plane or in space; the first one stands out."""
    hidden, features = W.shape
    colours = [VERMILION] + [BLUE] * (features - 1)
    reach = max(1.35, float(np.abs(W).max()) * 1.3)
    figure = go.Figure()
    hover = "feature %{customdata}: D = %{text}<extra></extra>"
    text, numbers = _labels(dimensionality), list(range(features))
    if hidden < 3:
        x, y = np.concatenate([W, np.zeros((2 - hidden, features))])
        for i in range(features):
            figure.add_scatter(
                x=[0, x[i]], y=[0, y[i]], mode="lines", line={"color": colours[i], "width": 3}, hoverinfo="skip"
            )
        places = ["top center" if b >= -1e-9 else "bottom center" for b in y]
        figure.add_scatter(
            x=x, y=y, mode="markers+text", text=text, customdata=numbers, textposition=places,
            marker={"size": 9, "color": colours}, hovertemplate=hover,
        )  # fmt: skip
        figure.update_xaxes(range=[-reach, reach], title="dimension 0")
        figure.update_yaxes(range=[-reach, reach], scaleanchor="x", title="dimension 1", visible=hidden == 2)
    else:
        for i in range(features):
            end = {axis: [0, W[k, i]] for k, axis in enumerate("xyz")}
            figure.add_scatter3d(**end, mode="lines", line={"color": colours[i], "width": 6}, hoverinfo="skip")
        x, y, z = W
        figure.add_scatter3d(
            x=x, y=y, z=z, mode="markers+text", text=text, customdata=numbers,
            marker={"size": 5, "color": colours}, hovertemplate=hover,
        )  # fmt: skip
        axes = {f"{name}axis": {"range": [-reach, reach], "title": f"dim {i}"} for i, name in enumerate("xyz")}
        figure.update_layout(scene={**axes, "aspectmode": "cube"})
    figure.update_layout(
        height=420, showlegend=False, margin={"l": 10, "r": 10, "t": 36, "b": 10}, title="The features and their D"
    )
    return figure


def draw_bars(W: np.ndarray, dimensionality: np.ndarray) -> go.Figure:
    """Each feature's dimensionality, and m / n, which an equal-norm tight frame gives to all."""
    hidden, features = W.shape
    even = hidden / features
    figure = go.Figure(
        go.Bar(
            x=list(range(features)), y=dimensionality, text=_labels(dimensionality),
            textposition="inside", insidetextanchor="start", textangle=0,
            marker={"color": [VERMILION] + [BLUE] * (features - 1)},
            hovertemplate="feature %{x}: D = %{y:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_hline(even, line={"color": GREY, "width": 2, "dash": "dash"})
    figure.update_xaxes(title="feature (0 is the one you deform)", dtick=1)
    figure.update_yaxes(title="D", range=[0, max(1.0, even) * 1.12])
    figure.update_layout(
        height=420, margin={"l": 10, "r": 10, "t": 36, "b": 10}, title=f"Dimensionality (dashed: m / n = {even:.3f})"
    )
    return figure
