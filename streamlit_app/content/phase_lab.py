"""The phase-diagram lab without its widgets: its state in an address, what it trains, its figures, its sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from refract.plots.phases import PHASES
from refract.plots.style import DIVERGING, GREY, INK
from refract.toys.data import Fixed
from refract.toys.models import ToyModel
from refract.toys.training import train
from streamlit_app.content import lab_state

DENSITIES = (
    1.0,
    0.9,
    0.8,
    0.7,
    0.6,
    0.55,
    0.5,
    0.45,
    0.4,
    0.35,
    0.3,
    0.25,
    0.2,
    0.15,
    0.1,
    0.07,
    0.05,
    0.03,
    0.02,
    0.01,
)
RATIOS = (
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    1.0,
    1.1,
    1.25,
    1.4,
    1.7,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    7.0,
    10.0,
)
RUNS, STEPS, LEARNING_RATE = 10, 600, 0.03
NODES = {2: 10, 3: 5}
NAMES = {
    2: ("feature 2 dropped", "feature 1 dropped", "antipodal pair"),
    3: ("third dropped", "another dropped", "third in a pair", "the others a pair"),
}
_BLIND = {
    2: ([[0, 1], [1, 0], [1, 1]], [0, 1, 2]),
    3: ([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], [0, 1, 1, 2, 2, 3]),
}


@dataclass(frozen=True)
class State:
    """A point of the diagram. The defaults lie just under the arch."""

    n: int = 2  # features; one hidden unit less
    p: float = 0.2  # density
    r: float = 0.5  # relative importance of the last feature
    seed: int = 0

    def to_query(self) -> dict[str, str]:
        """As the parameters of an address; ``parse`` reads them back."""
        return {field.name: f"{getattr(self, field.name):g}" for field in fields(self)}


LIMITS: dict[str, tuple[float, float]] = {"n": (2, 3), "p": (0.01, 1.0), "r": (0.1, 10.0), "seed": (0, 9999)}


def parse(query: Mapping[str, str]) -> tuple[State, list[str]]:
    """The state that an address asks for, brought to what is on offer, and a notice for each thing that was changed."""
    notices: list[str] = []
    offered = {"p": lab_state.nearest_ratio(DENSITIES), "r": lab_state.nearest_ratio(RATIOS)}
    values = {
        name: lab_state.number(
            query, name, default=getattr(State, name), limits=limits, offered=offered.get(name, round), notices=notices
        )
        for name, limits in LIMITS.items()
    }
    return State(int(values["n"]), values["p"], values["r"], int(values["seed"])), notices


@dataclass(frozen=True)
class Trained:
    """Ten trained models of a point, the best one first, and what the candidates lose there."""

    W: np.ndarray  # (run, hidden, feature)
    losses: np.ndarray  # (run,)
    phases: np.ndarray  # (run,): the number of the nearest candidate
    candidates: np.ndarray  # (candidate,): expected losses with unit weights
    seconds: float


def candidate_losses(functions: Mapping[str, Callable[..., Tensor]], n: int, p: Tensor, r: Tensor) -> Tensor:
    """What each candidate loses, by the section's own formulas; the candidates are the first axis."""
    dropped, pair = functions["expected_loss_dropped"], functions["expected_loss_antipodal"]
    p, r = torch.broadcast_tensors(p, r)
    one = torch.ones_like(r)
    losses = [dropped(p, r), dropped(p, one), pair(p, one, r)]
    return torch.stack(losses if n == 2 else [*losses, pair(p, one, one)])


def train_point(functions: Mapping[str, Callable[..., Any]], state: State) -> Trained:
    """Train ten models at this point with the section's exact batch, and name them."""
    began = time.perf_counter()
    n = state.n
    p, r = torch.tensor([state.p]), torch.tensor([state.r])

    def train_all(feature_probability: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = functions["exact_batch"](feature_probability, n, NODES[n])
        data = Fixed(x.T[None].contiguous(), len(feature_probability), weight)
        model = ToyModel(n, n - 1)
        trained = train(model, data, importance, n_steps=STEPS, learning_rate=LEARNING_RATE)
        return trained["W"], trained.losses[-1]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state.seed)
        W, losses = functions["empirical_phase_diagram"](p, r, n, RUNS, train_all)
    W, losses = W[0, 0], losses[0, 0]
    blind, group = _BLIND[n]
    lines = torch.nn.functional.normalize(torch.tensor(blind, dtype=W.dtype))
    nearest = (functions["blind_direction"](W) @ lines.T).abs().argmax(dim=1)
    candidates = candidate_losses(functions, n, p, r)[:, 0]
    return Trained(
        W.numpy(), losses.numpy(), np.array(group)[nearest.numpy()], candidates.numpy(), time.perf_counter() - began
    )


def describe(state: State, model: Trained) -> str:
    """What is seen, in words and numbers."""
    names = NAMES[state.n]
    best, theory = int(model.phases[0]), int(model.candidates.argmin())
    as_best = int((model.phases == best).sum())
    gap = model.losses[0] / model.candidates[theory] - 1
    says = "Theory agrees" if best == theory else f"Theory says: {names[theory]}"
    return (
        f"Best of ten: {names[best]} ({as_best} of {len(model.phases)} runs end there). {says}. "
        f"Its loss is {abs(gap):.1%} {'below' if gap < 0 else 'above'} that of the best candidate."
    )


_MARGIN = {"l": 10, "r": 10, "t": 36, "b": 10}


def draw_diagram(functions: Mapping[str, Callable[..., Tensor]], state: State) -> go.Figure:
    """The diagram that theory predicts, and the point."""
    density, ratio = torch.logspace(0, -2, 60), torch.logspace(-1, 1, 61)
    best = candidate_losses(functions, state.n, density[:, None], ratio[None]).argmin(dim=0)
    steps = [(step, colour) for i, colour in enumerate(PHASES) for step in (i / len(PHASES), (i + 1) / len(PHASES))]
    names = NAMES[state.n]
    figure = go.Figure(
        go.Heatmap(
            x=ratio.tolist(), y=density.tolist(), z=best.tolist(), zmin=-0.5, zmax=len(PHASES) - 0.5,
            colorscale=steps, showscale=False, customdata=[[names[cell] for cell in row] for row in best.tolist()],
            hovertemplate="r = %{x:.2f}, p = %{y:.2f}: %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    for name, colour in zip(names, PHASES, strict=False):
        marker = {"symbol": "square", "size": 12, "color": colour, "line": {"width": 1, "color": GREY}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)
    here = {"symbol": "circle", "size": 15, "color": INK, "line": {"width": 3, "color": "white"}}
    figure.add_scatter(x=[state.r], y=[state.p], mode="markers", name="you are here", marker=here)
    for axis, title, ticks, low in (
        (figure.update_xaxes, "relative importance r", (0.1, 0.2, 0.5, 1, 2, 5, 10), -1.03),
        (figure.update_yaxes, "density p", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1), -2.03),
    ):
        axis(type="log", title=title, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], showgrid=False)
        axis(range=[low, low + 2.06])
    legend = {"orientation": "h", "y": -0.28, "yanchor": "top", "x": 0}
    figure.update_layout(height=440, margin=_MARGIN, title="Theory's diagram", legend=legend)
    return figure


def draw_losses(state: State, model: Trained) -> go.Figure:
    """What the candidates lose, and the best trained model."""
    names = [*NAMES[state.n], "best of ten, trained"]
    values = [*model.candidates.tolist(), float(model.losses[0])]
    colours = [*PHASES[: len(names) - 1], INK]
    figure = go.Figure(
        go.Bar(
            x=values, y=names, orientation="h", text=[f"{value:.4g}" for value in values],
            marker={"color": colours, "line": {"color": GREY, "width": 1}},
            hovertemplate="%{y}: %{x:.5f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="expected loss", rangemode="tozero", nticks=5)
    figure.update_layout(height=300, margin=_MARGIN, title="Candidates with unit weights, and what was trained")
    return figure


def draw_weights(state: State, model: Trained) -> go.Figure:
    """WᵀW of the best model."""
    gram = model.W[0].T @ model.W[0]
    labels = [f"feature {i + 1}" for i in range(state.n)]
    figure = go.Figure(
        go.Heatmap(
            z=gram, x=labels, y=labels, zmin=-1, zmax=1, colorscale=DIVERGING, colorbar={"thickness": 10},
            texttemplate="%{z:.2f}", hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain")
    figure.update_xaxes(constrain="domain")
    figure.update_layout(height=300, margin=_MARGIN, title="WᵀW of the best of ten")
    return figure


def draw_runs(state: State, model: Trained) -> go.Figure:
    """The losses of the ten runs, each in the colour of its nearest candidate."""
    names = NAMES[state.n]
    figure = go.Figure()
    for phase, (name, colour) in enumerate(zip(names, PHASES, strict=False)):
        runs = np.flatnonzero(model.phases == phase)
        if len(runs):
            marker = {"color": colour, "line": {"color": GREY, "width": 1}}
            figure.add_bar(x=(runs + 1).tolist(), y=model.losses[runs].tolist(), name=name, marker=marker)
    figure.update_xaxes(title="run, the best one first", dtick=1, range=[0.4, RUNS + 0.6])
    figure.update_yaxes(title="loss", rangemode="tozero", nticks=5)
    legend = {"orientation": "h", "y": -0.35, "yanchor": "top", "x": 0}
    figure.update_layout(height=320, margin=_MARGIN, title="Ten runs", legend=legend, showlegend=True)
    return figure
