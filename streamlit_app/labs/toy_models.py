"""The toy-model lab: drag sparsity, importance, n and m, and watch the section's own code train the model."""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st
import torch

from refract import reference
from refract.paths import SectionPaths
from streamlit_app.content import toy_lab
from streamlit_app.content.toy_lab import PROBABILITIES, State, Trained
from streamlit_app.render import lab

STEPS = 2000
BATCH = 256
LEARNING_RATE = 1e-2
SMOOTHED = 50  # steps to a point of the loss curve
_LAB = lab.Controls("toy-lab", State, tuple(toy_lab.LIMITS), toy_lab.parse)
_KEPT: lab.Kept[Trained] = lab.Kept()


@st.fragment
def render(paths: SectionPaths) -> None:
    """Draw the lab. A fragment: moving a control runs this and nothing else."""
    _LAB.read_address()
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
    lab.figures(_LAB.key, [(name, figure, alt) for name, figure, alt in figures if figure is not None])
    if arrows is None:
        st.caption("Features can be drawn as arrows for two or three hidden units.")
    st.caption(
        f"{STEPS} steps of {BATCH} examples with the section's own code, {model.seconds:.1f} s. "
        "The address of this page holds these settings: copy it to share them."
    )


def _controls() -> State:
    left, right = st.columns(2)
    with left:
        st.select_slider(
            "Feature probability $p$ (left: dense, right: sparse)",
            PROBABILITIES,
            key=_LAB.name("p"),
            on_change=_LAB.write_address,
        )
        st.slider(
            "Importance decay (feature $i$ weighs decay$^i$)",
            0.5, 1.0, step=0.05, key=_LAB.name("decay"), on_change=_LAB.write_address,
        )  # fmt: skip
        st.number_input("Seed", 0, 9999, step=1, key=_LAB.name("seed"), on_change=_LAB.write_address)
    with right:
        st.slider("Features $n$", 2, 20, key=_LAB.name("n"), on_change=_LAB.write_address)
        st.slider("Hidden units $m$", 1, 5, key=_LAB.name("m"), on_change=_LAB.write_address)
    return _LAB.state()


def _trained(paths: SectionPaths, state: State) -> Trained:
    """The trained model for these settings, from memory if they were asked for before."""

    def make() -> Trained:
        bar = st.progress(0.0, text="Training")
        model = train(paths, state, lambda done, loss: bar.progress(done, text=f"Training: loss {loss:.4f}"))
        bar.empty()
        return model

    return _KEPT.get((paths.id, state), make)


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
    with torch.random.fork_rng(devices=[]):  # the seed is the process's, and so is its state
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
