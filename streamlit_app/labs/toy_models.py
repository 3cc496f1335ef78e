"""The toy-model lab: drag sparsity, importance, n and m, and watch the section's own code train the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import streamlit as st
import torch

from refract import reference
from refract.paths import SectionPaths
from streamlit_app.content import toy_lab
from streamlit_app.content.toy_lab import PROBABILITIES, State, Trained

STEPS = 2000
BATCH = 256
LEARNING_RATE = 1e-2
SMOOTHED = 50  # steps to a point of the loss curve
_KEY = "toy-lab"
_KEPT: dict[tuple[str, State], Trained] = {}  # the last few, shared by all sessions
_MOST_KEPT = 64
_ONE_AT_A_TIME = threading.Lock()


@st.fragment
def render(paths: SectionPaths) -> None:
    """Draw the lab. A fragment: moving a control runs this and nothing else."""
    _read_address()
    state = _controls()
    model = _trained(paths, state)
    st.markdown(f"**{toy_lab.describe(state, model)}**")
    arrows = toy_lab.draw_features(state, model)
    figures = [
        ("features", arrows, "The columns of W as arrows from the origin."),
        ("gram", toy_lab.draw_gram(model), "Heatmap of W transposed times W."),
        ("norms", toy_lab.draw_norms(model), "Norm of each feature, coloured by its superposition."),
        ("loss", toy_lab.draw_loss(model), "Training loss against the step."),
    ]
    columns = st.columns(2)
    shown = [entry for entry in figures if entry[1] is not None]
    for place, (name, figure, alt) in enumerate(shown):
        with columns[place % 2]:
            st.plotly_chart(figure, key=f"{_KEY}-{name}", alt=alt, theme="streamlit", config={"displayModeBar": False})
    if arrows is None:
        st.caption("Features can be drawn as arrows for two or three hidden units.")
    st.caption(
        f"{STEPS} steps of {BATCH} examples with the section's own code, {model.seconds:.1f} s. "
        "The address of this page holds these settings: copy it to share them."
    )


def _read_address() -> None:
    """Once per visit: the controls take the address's settings."""
    if f"{_KEY}-p" in st.session_state:
        return
    state, notices = toy_lab.parse(st.query_params.to_dict())
    for name in toy_lab.LIMITS:
        st.session_state[f"{_KEY}-{name}"] = getattr(state, name)
    st.session_state[f"{_KEY}-notices"] = notices
    if notices:
        st.query_params.from_dict({**st.query_params.to_dict(), **state.to_query()})


def _write_address() -> None:
    st.session_state[f"{_KEY}-notices"] = []
    st.query_params.from_dict({**st.query_params.to_dict(), **_state().to_query()})


def _state() -> State:
    return State(**{name: st.session_state[f"{_KEY}-{name}"] for name in toy_lab.LIMITS})


def _controls() -> State:
    for notice in st.session_state.get(f"{_KEY}-notices", []):
        st.warning(notice, icon=":material/warning:")
    left, right = st.columns(2)
    with left:
        st.select_slider(
            "Feature probability $p$ (left: dense, right: sparse)",
            PROBABILITIES,
            key=f"{_KEY}-p",
            on_change=_write_address,
        )
        st.slider(
            "Importance decay (feature $i$ weighs decay$^i$)",
            0.5, 1.0, step=0.05, key=f"{_KEY}-decay", on_change=_write_address,
        )  # fmt: skip
        st.number_input("Seed", 0, 9999, step=1, key=f"{_KEY}-seed", on_change=_write_address)
    with right:
        st.slider("Features $n$", 2, 20, key=f"{_KEY}-n", on_change=_write_address)
        st.slider("Hidden units $m$", 1, 5, key=f"{_KEY}-m", on_change=_write_address)
    return _state()


def _trained(paths: SectionPaths, state: State) -> Trained:
    """The trained model for these settings, from memory if they were asked for before."""
    key = (paths.id, state)
    if key not in _KEPT:
        bar = st.progress(0.0, text="Training")
        model = train(paths, state, lambda done, loss: bar.progress(done, text=f"Training: loss {loss:.4f}"))
        bar.empty()
        while len(_KEPT) >= _MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[key] = model
    return _KEPT[key]


def train(paths: SectionPaths, state: State, progress: Callable[[float, float], object]) -> Trained:
    """Train one model with the reference's ``train_toy_models``, which ``progress`` follows."""
    steps: list[int] = []
    losses: list[float] = []
    recent: list[torch.Tensor] = []

    def on_step(step: int, loss: torch.Tensor) -> None:
        recent.append(loss.sum())
        if len(recent) == SMOOTHED:  # one batch is noisy; the mean of a few shows the trend
            steps.append(step)
            losses.append(torch.stack(recent).mean().item())
            recent.clear()
            progress((step + 1) / STEPS, losses[-1])

    began = time.perf_counter()
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):  # the seed is the process's, and so is its state
        torch.manual_seed(state.seed)
        W, _ = reference.get(paths, "train_toy_models")(
            torch.full((1, state.n), state.p),
            state.decay ** torch.arange(state.n),
            state.m,
            n_steps=STEPS,
            batch=BATCH,
            learning_rate=LEARNING_RATE,
            on_step=on_step,
        )
    seconds = time.perf_counter() - began
    norms = reference.get(paths, "representation_norms")(W)[0]
    overlap = reference.get(paths, "superposition_index")(W)[0]
    return Trained(W[0].numpy(), norms.numpy(), overlap.numpy(), steps, losses, seconds)
