"""The polytope lab: choose a shape, deform it, and see every feature's dimensionality, by the section's own code."""

from __future__ import annotations

import numpy as np
import streamlit as st
import torch

from refract import reference
from refract.paths import SectionPaths
from streamlit_app.content import polytope_lab
from streamlit_app.content.polytope_lab import ANTIPRISM, LIMITS, SHAPES, STEPS, State
from streamlit_app.render import lab

_LAB = lab.Controls("polytope-lab", State, ("shape", *LIMITS), polytope_lab.parse)


@st.fragment
def render(paths: SectionPaths) -> None:
    """Draw the lab. A fragment: moving a control runs this and nothing else."""
    _LAB.read_address()
    state = _controls()
    W, dimensionality = measure(paths, state)
    st.markdown(f"**{polytope_lab.describe(W, dimensionality)}**")
    figures = [
        ("vectors", polytope_lab.draw(W, dimensionality), "The features as lines from the origin, D beside each."),
        ("bars", polytope_lab.draw_bars(W, dimensionality), "The dimensionality of each feature as a bar."),
    ]
    lab.figures(_LAB.key, figures)
    st.caption(
        "Computed with the section's own code. The address of this page holds these settings: copy it to share them."
    )


def measure(paths: SectionPaths, state: State) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the state and their dimensionalities, with the reference's functions."""
    polytope = reference.get(paths, "polytope_vectors")
    product = reference.get(paths, "tegum_product")
    W = polytope_lab.vectors(
        state,
        lambda name: polytope(name).numpy(),
        lambda first, second: product(torch.from_numpy(first), torch.from_numpy(second)).numpy(),
    )
    return W, reference.get(paths, "feature_dimensionality")(torch.from_numpy(W)[None])[0].numpy()


def _controls() -> State:
    left, right = st.columns(2)
    with left:
        shape = st.selectbox("Shape", list(SHAPES), key=_LAB.name("shape"), on_change=_LAB.write_address)
        _slider("height", "Height $z$ of the antiprism's squares", disabled=shape != ANTIPRISM)
    with right:
        _slider("length", "Length of feature 0 (orange)")
        _slider("turn", "Turn of feature 0, in degrees", disabled=shape == "digon")
    return _LAB.state()


def _slider(name: str, label: str, *, disabled: bool = False) -> None:
    low, high = LIMITS[name]
    st.slider(
        label, low, high, step=STEPS[name], key=_LAB.name(name), on_change=_LAB.write_address, disabled=disabled
    )  # fmt: skip
