"""The phase-diagram lab: walk over the diagram, and see what ten models trained at each point become."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import streamlit as st

from refract import reference
from refract.paths import SectionPaths
from streamlit_app.content import phase_lab
from streamlit_app.content.phase_lab import DENSITIES, RATIOS, State, Trained

_KEY = "phase-lab"
_FUNCTIONS = (
    "expected_loss_dropped",
    "expected_loss_antipodal",
    "exact_batch",
    "blind_direction",
    "empirical_phase_diagram",
)
_KEPT: dict[tuple[str, State], Trained] = {}  # the last few, shared by all sessions
_MOST_KEPT = 64
_ONE_AT_A_TIME = threading.Lock()


@st.fragment
def render(paths: SectionPaths) -> None:
    """Draw the lab. A fragment: moving a control runs this and nothing else."""
    _read_address()
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
    columns = st.columns(2)
    for place, (name, figure, alt) in enumerate(figures):
        with columns[place % 2]:
            st.plotly_chart(figure, key=f"{_KEY}-{name}", alt=alt, theme="streamlit", config={"displayModeBar": False})
    st.caption(
        f"Ten models, {phase_lab.STEPS} steps each on the section's exact batch, {model.seconds:.1f} s. "
        "The address of this page holds these settings: copy it to share them."
    )


def _read_address() -> None:
    """Once per visit: the controls take the address's settings."""
    if f"{_KEY}-p" in st.session_state:
        return
    state, notices = phase_lab.parse(st.query_params.to_dict())
    for name in phase_lab.LIMITS:
        st.session_state[f"{_KEY}-{name}"] = getattr(state, name)
    st.session_state[f"{_KEY}-notices"] = notices
    if notices:
        st.query_params.from_dict({**st.query_params.to_dict(), **state.to_query()})


def _write_address() -> None:
    st.session_state[f"{_KEY}-notices"] = []
    st.query_params.from_dict({**st.query_params.to_dict(), **_state().to_query()})


def _state() -> State:
    return State(**{name: st.session_state[f"{_KEY}-{name}"] for name in phase_lab.LIMITS})


def _controls() -> State:
    for notice in st.session_state.get(f"{_KEY}-notices", []):
        st.warning(notice, icon=":material/warning:")
    left, right = st.columns(2)
    with left:
        st.select_slider(
            "Density $p$ (left: dense, right: sparse)", DENSITIES, key=f"{_KEY}-p", on_change=_write_address
        )
        st.select_slider(
            "Relative importance $r$ of the last feature", RATIOS, key=f"{_KEY}-r", on_change=_write_address
        )
    with right:
        st.radio(
            "Features and hidden units", (2, 3), key=f"{_KEY}-n", on_change=_write_address, horizontal=True,
            format_func=lambda n: f"{n} in {n - 1}",
        )  # fmt: skip
        st.number_input("Seed", 0, 9999, step=1, key=f"{_KEY}-seed", on_change=_write_address)
    return _state()


def _trained(paths: SectionPaths, functions: dict[str, Callable[..., Any]], state: State) -> Trained:
    """The trained models of this point, from memory if they were asked for before."""
    key = (paths.id, state)
    if key not in _KEPT:
        with st.spinner("Training ten models"), _ONE_AT_A_TIME:
            model = phase_lab.train_point(functions, state)
        while len(_KEPT) >= _MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[key] = model
    return _KEPT[key]
