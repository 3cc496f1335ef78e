"""The phase-diagram lab: its address, what it trains, its sentence, and the page's part that shows it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from refract import reference
from refract.paths import SectionPaths
from streamlit_app.content import phase_lab
from streamlit_app.content.phase_lab import State
from streamlit_app.labs.phase_diagram import _FUNCTIONS

PATHS = SectionPaths("ch1_superposition", "s2_phase_change")


@pytest.fixture(scope="module")
def functions():
    return {name: reference.get(PATHS, name) for name in _FUNCTIONS}


def test_the_address_is_read_back():
    state = State(n=3, p=0.07, r=2.5, seed=7)
    assert phase_lab.parse(state.to_query()) == (state, [])
    assert phase_lab.parse({}) == (State(), [])


@pytest.mark.parametrize(
    ("query", "state", "notices"),
    [
        ({"p": "7"}, State(p=1.0), 1),
        ({"p": "0.031"}, State(p=0.03), 1),
        ({"r": "x", "n": "9"}, State(n=3), 2),
        ({"r": "-1"}, State(r=0.1), 1),
        ({"seed": "1e9"}, State(seed=9999), 1),
        ({"other": "1"}, State(), 0),
    ],
)
def test_what_is_not_on_offer_is_said(query, state, notices):
    came, said = phase_lab.parse(query)
    assert came == state
    assert len(said) == notices


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (State(p=0.05, r=1.0), "antipodal pair"),
        (State(p=0.9, r=0.2), "feature 2 dropped"),
        (State(p=0.9, r=5.0), "feature 1 dropped"),
        (State(n=3, p=0.05, r=0.5), "third in a pair"),
        (State(n=3, p=0.05, r=3.0), "the others a pair"),
    ],
)
def test_training_finds_what_theory_says(functions, state, name):
    began = time.process_time()  # of the processor: how busy the machine is with other things says nothing
    model = phase_lab.train_point(functions, state)
    assert time.process_time() - began < 3 * 3  # three seconds on an idle machine
    assert model.W.shape == (10, state.n - 1, state.n)
    assert np.all(np.diff(model.losses) >= 0)
    sentence = phase_lab.describe(state, model)
    assert sentence.startswith(f"Best of ten: {name} ") and "Theory agrees" in sentence
    assert phase_lab.train_point(functions, state).losses == pytest.approx(model.losses)  # the seed decides


def test_where_training_knows_better_the_sentence_says_so(functions):
    state = State(p=0.7, r=1.0)
    sentence = phase_lab.describe(state, phase_lab.train_point(functions, state))
    assert "Best of ten: antipodal pair" in sentence and "Theory says:" in sentence and "below" in sentence


def test_the_figures_show_the_model_and_the_point(functions):
    state = State(p=0.2, r=0.5)
    model = phase_lab.train_point(functions, state)
    diagram = phase_lab.draw_diagram(functions, state)
    assert (diagram.data[-1].x[0], diagram.data[-1].y[0]) == (0.5, 0.2)
    losses = phase_lab.draw_losses(state, model)
    assert len(losses.data[0].x) == 4 and losses.data[0].x[-1] == pytest.approx(model.losses[0])
    shown = sorted(value for trace in phase_lab.draw_runs(state, model).data for value in trace.y)
    assert shown == pytest.approx(sorted(model.losses.tolist()))
    assert np.allclose(phase_lab.draw_weights(state, model).data[0].z, model.W[0].T @ model.W[0])


def _lab() -> None:
    from refract.paths import SectionPaths
    from streamlit_app.labs import phase_diagram

    phase_diagram.render(SectionPaths("ch1_superposition", "s2_phase_change"))


def test_the_lab_keeps_its_point_in_the_address():
    test = AppTest.from_function(_lab, default_timeout=60)
    test.query_params["p"], test.query_params["r"] = "0.1", "2"
    test.run()
    assert not test.exception
    assert test.select_slider(key="phase-lab-p").value == 0.1
    assert test.select_slider(key="phase-lab-r").value == 2
    assert "antipodal pair" in " ".join(entry.value for entry in test.markdown)
    test.radio(key="phase-lab-n").set_value(3).run()
    assert not test.exception
    assert test.query_params["n"] in ("3", ["3"])
    assert "the others a pair" in " ".join(entry.value for entry in test.markdown)


def test_a_bad_address_is_mended_with_a_notice():
    test = AppTest.from_function(_lab, default_timeout=60)
    test.query_params["p"] = "seven"
    test.run()
    assert len(test.warning) == 1
    assert test.query_params["p"] in ("0.2", ["0.2"])
