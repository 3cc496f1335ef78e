"""The phase-diagram lab: walk over the diagram, and see what ten models trained at each point become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from refract import reference
from refract.paths import SectionPaths
from streamlit_app.content import phase_lab
from streamlit_app.content.phase_lab import DENSITIES, RATIOS, State, Trained
from streamlit_app.render import lab

_LAB = lab.Controls("phase-lab", State, tuple(phase_lab.LIMITS), phase_lab.parse)
_KEPT: lab.Kept[Trained] = lab.Kept()
_FUNCTIONS = (
    "expected_loss_dropped",
    "expected_loss_antipodal",
    "exact_batch",
    "blind_direction",
    "empirical_phase_diagram",
)


@st.fragment
def render(paths: SectionPaths) -> None:
    """Draw the lab. A fragment: moving a control runs this and nothing else."""
    _LAB.read_address()
    state = _controls()
    functions = {name: reference.get(paths, name) for name in _FUNCTIONS}
    model = _trained(paths, functions, state)
    st.markdown(f"**{phase_lab.describe(state, model)}**")
    figures = [
        ("diagram", phase_lab.draw_diagram(functions, state), "Theory's phase diagram, and the point on it."),
        ("losses", phase_lab.draw_losses(state, model), "Losses of the candidates and of the best trained model."),
        ("runs", phase_lab.draw_runs(state, model), "Losses of ten runs, coloured by their nearest candidate."),
        ("weights", phase_lab.draw_weights(state, model), "Heatmap of W transposed times W of the best model."),
    ]
    lab.figures(_LAB.key, figures)
    st.caption(
        f"Ten models, {phase_lab.STEPS} steps each on the section's exact batch, {model.seconds:.1f} s. "
        "The address of this page holds these settings: copy it to share them."
    )


def _controls() -> State:
    left, right = st.columns(2)
    with left:
        st.select_slider(
            "Density $p$ (left: dense, right: sparse)", DENSITIES, key=_LAB.name("p"), on_change=_LAB.write_address
        )
        st.select_slider(
            "Relative importance $r$ of the last feature", RATIOS, key=_LAB.name("r"), on_change=_LAB.write_address
        )
    with right:
        st.radio(
            "Features and hidden units", (2, 3), key=_LAB.name("n"), on_change=_LAB.write_address, horizontal=True,
            format_func=lambda n: f"{n} in {n - 1}",
        )  # fmt: skip
        st.number_input("Seed", 0, 9999, step=1, key=_LAB.name("seed"), on_change=_LAB.write_address)
    return _LAB.state()


def _trained(paths: SectionPaths, functions: dict[str, Callable[..., Any]], state: State) -> Trained:
    """The trained models of this point, from memory if they were asked for before."""

    def make() -> Trained:
        with st.spinner("Training ten models"):
            return phase_lab.train_point(functions, state)

    return _KEPT.get((paths.id, state), make)
