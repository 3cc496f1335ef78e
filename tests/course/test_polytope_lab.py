"""The polytope lab: its address, its shapes and their deformations, and the whole of it as Streamlit runs it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from refract.paths import SectionPaths
from streamlit_app.content import polytope_lab
from streamlit_app.content.polytope_lab import SHAPES, State
from streamlit_app.labs.polytopes import measure

SECTION = SectionPaths("ch1_superposition", "s4_geometry")


def test_a_state_survives_its_address() -> None:
    state = State("square antiprism", length=0.85, turn=-15.0, height=0.4)
    assert polytope_lab.parse(state.to_query()) == (state, [])
    assert polytope_lab.parse({}) == (State(), [])


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ({"shape": "cube"}, "shape", State.shape),
        ({"shape": "<script>"}, "shape", State.shape),
        ({"length": "9"}, "length", 2.0),
        ({"length": "-1"}, "length", 0.0),
        ({"length": "nan"}, "length", 1.0),
        ({"length": "0.52"}, "length", 0.5),
        ({"turn": "inf"}, "turn", 90.0),
        ({"turn": "half"}, "turn", 0.0),
        ({"height": "1"}, "height", 0.95),
    ],
)
def test_a_bad_address_is_brought_into_limits_with_a_notice(query: dict[str, str], name: str, value: object) -> None:
    state, notices = polytope_lab.parse(query)
    assert getattr(state, name) == value
    assert len(notices) == 1
    assert notices[0].startswith(name)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_every_shape_has_its_fractions(shape: str) -> None:
    fractions = {"digon": [1 / 2] * 2, "triangle": [2 / 3] * 3, "tetrahedron": [3 / 4] * 4, "pentagon": [2 / 5] * 5}
    fractions["square antiprism"] = [3 / 8] * 8
    W, D = measure(SECTION, State(shape))
    right = [fraction for part in SHAPES[shape] for fraction in fractions[part]]
    assert D.tolist() == pytest.approx(right, abs=1e-3)
    assert W.shape[0] <= 3
    assert D.sum() == pytest.approx(len(W), abs=1e-3)  # all of these are tight within each part


def test_a_faint_vector_leaves_room_to_its_neighbour() -> None:
    W, D = measure(SECTION, State("digon", length=0.5))
    assert W.tolist() == [[0.5, -1.0]]
    assert D.tolist() == pytest.approx([0.2, 0.8])
    _, D = measure(SECTION, State("digon", length=0.0))
    assert D.tolist() == pytest.approx([0.0, 1.0])


def test_a_turned_vector_of_one_shape_leaves_the_other_alone() -> None:
    _, D = measure(SECTION, State("triangle and digon", turn=40.0))
    assert D[3:].tolist() == pytest.approx([0.5, 0.5])
    assert len(set(np.round(D[:3], 3))) > 1


@pytest.mark.parametrize("height", [0.0, 0.3, 0.8])
def test_the_antiprism_at_another_height(height: float) -> None:
    W, D = measure(SECTION, State("square antiprism", height=height))
    assert np.linalg.norm(W, axis=0) == pytest.approx(np.ones(8))
    assert np.abs(W[2]) == pytest.approx(np.full(8, height))
    assert D.max() < 0.37
    low, high = polytope_lab.frame_bounds(W)
    assert sorted([low, high]) == pytest.approx(sorted([8 * height**2, 4 * (1 - height**2)]), abs=1e-5)


def test_the_sentence_says_how_even_the_frame_is() -> None:
    W, D = measure(SECTION, State("pentagon"))
    assert "a tight frame" in polytope_lab.describe(W, D)
    assert "5 features in 2 dimensions. ΣD = 2.00, at most 2" in polytope_lab.describe(W, D)
    W, D = measure(SECTION, State("digon", length=0.5))
    assert "in 1 dimension." in polytope_lab.describe(W, D)
    W, D = measure(SECTION, State("triangle and digon"))
    assert "not a tight frame: directions get between 1.50 and 2.00" in polytope_lab.describe(W, D)


@pytest.mark.parametrize(
    ("shape", "kind"), [("digon", "scatter"), ("pentagon", "scatter"), ("tetrahedron", "scatter3d")]
)
def test_shapes_are_drawn_with_their_numbers(shape: str, kind: str) -> None:
    W, D = measure(SECTION, State(shape))
    content = json.loads(polytope_lab.draw(W, D).to_json() or "")
    assert {trace["type"] for trace in content["data"]} == {kind}
    assert content["data"][-1]["text"] == [f"{value:.3f}" for value in D]
    assert len(content["data"]) == W.shape[1] + 1


def test_the_bars_have_the_even_share_as_a_line() -> None:
    W, D = measure(SECTION, State("square antiprism"))
    figure = polytope_lab.draw_bars(W, D)
    assert list(figure.data[0].y) == pytest.approx(D.tolist())
    assert figure.layout.shapes[0].y0 == pytest.approx(3 / 8)


def _lab(section: str) -> None:
    from refract.paths import SectionPaths
    from streamlit_app.labs import polytopes

    polytopes.render(SectionPaths.parse(section))


def test_the_lab_follows_its_controls_and_writes_its_address() -> None:
    app = AppTest.from_function(_lab, args=(SECTION.id,), default_timeout=30)
    app.query_params["shape"] = "pentagon"
    app.run()
    assert not app.exception
    assert "5 features in 2 dimensions" in app.markdown[0].value
    app.selectbox[0].select("square antiprism").run()
    assert "8 features in 3 dimensions" in app.markdown[0].value
    assert app.query_params["shape"] in ("square-antiprism", ["square-antiprism"])
    height = next(slider for slider in app.slider if "antiprism" in slider.label)
    assert not height.disabled
    height.set_value(0.3).run()
    assert not app.exception
    assert "not a tight frame" in app.markdown[0].value
    assert math.isclose(float(np.ravel(app.query_params["height"])[0]), 0.3)


def test_a_bad_address_is_told() -> None:
    app = AppTest.from_function(_lab, args=(SECTION.id,), default_timeout=30)
    app.query_params["shape"] = "sphere"
    app.run()
    assert not app.exception
    assert "not on offer" in app.warning[0].value
