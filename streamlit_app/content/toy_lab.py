"""The toy-model lab without its widgets: its state in an address, what it measures, its figures, its sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import plotly.graph_objects as go

from refract.plots.style import BLUE, DIVERGING, GREY, SEQUENTIAL
from streamlit_app.content import lab_state

PROBABILITIES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
STORED = 0.5  # a feature counts as stored if its column of W is longer than this
OPPOSITE = -0.9  # cosine below which two stored features are an antipodal pair


@dataclass(frozen=True)
class State:
    """What the lab's controls say. The defaults show the pentagon."""

    p: float = 0.05  # probability that a feature is present
    decay: float = 0.9  # importance of feature i is decay**i
    n: int = 5  # features
    m: int = 2  # hidden units
    seed: int = 0

    def to_query(self) -> dict[str, str]:
        """As the parameters of an address; ``parse`` reads them back."""
        return {field.name: f"{getattr(self, field.name):g}" for field in fields(self)}


LIMITS: dict[str, tuple[float, float]] = {
    "p": (0.01, 1.0),
    "decay": (0.5, 1.0),
    "n": (2, 20),
    "m": (1, 5),
    "seed": (0, 9999),
}


def parse(query: Mapping[str, str]) -> tuple[State, list[str]]:
    """The state that an address asks for, brought into its limits, and a notice for each thing that was changed."""
    notices: list[str] = []
    offered = {"p": lab_state.nearest_ratio(PROBABILITIES), "decay": lab_state.whole_steps(0.05)}
    values = {
        name: lab_state.number(
            query, name, default=getattr(State, name), limits=limits, offered=offered.get(name, round), notices=notices
        )
        for name, limits in LIMITS.items()
    }
    state = State(values["p"], values["decay"], int(values["n"]), int(values["m"]), int(values["seed"]))
    return state, notices


@dataclass(frozen=True)
class Trained:
    """A trained model and what was measured on the way."""

    W: np.ndarray  # (hidden, feature)
    norms: np.ndarray  # (feature,): the length of each column of W
    overlap: np.ndarray  # (feature,): the superposition index
    steps: list[int]
    losses: list[float]
    seconds: float

    @property
    def stored(self) -> int:
        return int((self.norms > STORED).sum())

    @property
    def superposition(self) -> float:
        """Summed over the stored features; the others have a direction, too, but stand for nothing."""
        return float(self.overlap[self.norms > STORED].sum())

    @property
    def antipodal_pairs(self) -> int:
        """Pairs of stored features that point in opposite directions."""
        kept = self.W[:, self.norms > STORED]
        unit = kept / np.linalg.norm(kept, axis=0)
        return int((np.triu(unit.T @ unit, k=1) < OPPOSITE).sum())


def describe(state: State, model: Trained) -> str:
    """What is seen, in numbers."""
    stored, pairs = model.stored, model.antipodal_pairs
    units = f"{state.m} hidden unit{'' if state.m == 1 else 's'}"
    paired = {0: "no antipodal pair", 1: "1 antipodal pair"}.get(pairs, f"{pairs} antipodal pairs")
    more = " More features than units: superposition." if stored > state.m else ""
    return (
        f"{stored} of {state.n} features stored (norm above {STORED:g}) in {units}, {paired}, "
        f"superposition of the stored features {model.superposition:.2f} in all.{more}"
    )


def _by_overlap(model: Trained) -> dict:
    """One scale for both figures; an outline keeps its dark end visible on a dark page."""
    most = max([1.0, *model.overlap[model.norms > STORED].tolist()])  # a dropped feature overlaps with everything
    line = {"color": GREY, "width": 1}
    return {"color": model.overlap, "colorscale": SEQUENTIAL, "cmin": 0, "cmax": most, "line": line}


_MARGIN = {"l": 10, "r": 10, "t": 36, "b": 10}


def draw_features(state: State, model: Trained) -> go.Figure | None:
    """The columns of W as arrows in the plane (m = 2) or in space (m = 3); ``None`` for other m."""
    if state.m not in (2, 3):
        return None
    figure = go.Figure()
    names = [str(i) for i in range(state.n)]
    rays = np.zeros((state.m, 3 * state.n))
    rays[:, 1::3] = model.W
    rays[:, 2::3] = np.nan  # lifts the pen between two arrows
    reach = max(1.1, float(np.abs(model.W).max()) * 1.15)
    marker = {"size": 9, **_by_overlap(model)}
    hover = "feature %{text}<extra></extra>"
    if state.m == 2:
        figure.add_scatter(x=rays[0], y=rays[1], mode="lines", line={"color": GREY, "width": 2}, hoverinfo="skip")
        figure.add_scatter(
            x=model.W[0], y=model.W[1], mode="markers+text", text=names, textposition="top center",
            marker=marker, hovertemplate=hover,
        )  # fmt: skip
        figure.update_xaxes(range=[-reach, reach], zeroline=True, title="hidden unit 0")
        figure.update_yaxes(range=[-reach, reach], zeroline=True, title="hidden unit 1", scaleanchor="x")
    else:
        x, y, z = rays
        figure.add_scatter3d(x=x, y=y, z=z, mode="lines", line={"color": GREY, "width": 4}, hoverinfo="skip")
        x, y, z = model.W
        figure.add_scatter3d(
            x=x, y=y, z=z, mode="markers+text", text=names, marker={**marker, "size": 5}, hovertemplate=hover
        )
        axes = {f"{name}axis": {"range": [-reach, reach], "title": f"unit {i}"} for i, name in enumerate("xyz")}
        camera = {"eye": {"x": 1.5, "y": 1.5, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.15}}  # room for the titles
        figure.update_layout(scene={**axes, "aspectmode": "cube", "camera": camera})
    figure.update_layout(height=340, showlegend=False, margin=_MARGIN, title="Features: the columns of W")
    return figure


def draw_gram(model: Trained) -> go.Figure:
    """W^T W: lengths on the diagonal, interference off it."""
    gram = model.W.T @ model.W
    figure = go.Figure(
        go.Heatmap(
            z=gram, zmin=-1, zmax=1, colorscale=DIVERGING,
            hovertemplate="features %{y} and %{x}: %{z:.2f}<extra></extra>", colorbar={"thickness": 10},
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain", title="feature")
    figure.update_xaxes(constrain="domain", title="feature")
    figure.update_layout(height=340, margin=_MARGIN, title="WᵀW: interference off the diagonal")
    return figure


def draw_norms(model: Trained) -> go.Figure:
    """The length of every feature, coloured by how much the others overlap with it."""
    figure = go.Figure(
        go.Bar(
            x=list(range(len(model.norms))), y=model.norms, customdata=model.overlap,
            marker={
                **_by_overlap(model), "colorbar": {"title": "superposition", "thickness": 10},
            },
            hovertemplate="feature %{x}<br>norm %{y:.2f}<br>superposition %{customdata:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(height=300, margin=_MARGIN, title="Norms, coloured by superposition")
    figure.update_xaxes(title="feature, by importance", dtick=1 if len(model.norms) < 12 else 5)
    figure.update_yaxes(title="norm", range=[0, max(1.2, float(model.norms.max()) * 1.05)])
    return figure


def _ticks(values: Sequence[float]) -> list[float] | None:
    """1, 2 and 5 times powers of ten within the values' range; Plotly labels every digit, one over the other."""
    positive = [value for value in values if value > 0]
    if not positive:
        return None
    low, high = min(positive), max(positive)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    digits = (1, 2, 5) if len(powers) < 4 else (1,)
    inside = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
    return inside if len(inside) > 1 else [low, high]


def draw_loss(model: Trained) -> go.Figure:
    """The loss over training, both axes as they are read best: steps linear, loss logarithmic."""
    figure = go.Figure(go.Scatter(x=model.steps, y=model.losses, mode="lines", line={"color": BLUE, "width": 2}))
    figure.update_yaxes(type="log", title="loss (mean of 50 steps)", tickformat=".2~g", tickvals=_ticks(model.losses))
    figure.update_xaxes(title="step")
    figure.update_layout(height=300, margin=_MARGIN, title="Loss")
    return figure
