"""Figures of the phase diagram: what is drawn is what was given, in colours that can be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from refract.plots import style
from refract.plots.phases import (
    PHASES,
    boundary_lines,
    crossing_lines,
    onset_panels,
    phase_map,
    share_map,
    unit_square,
)
from tests.course.test_plots import VISION, contrast, distance

DENSITY, RATIO = torch.logspace(0, -2, 3), torch.logspace(-1, 1, 4)
CELLS = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [2, 2, 2, 2]])


@pytest.mark.parametrize("vision", VISION)
def test_phases_can_be_told_apart(vision):
    assert min(distance(one, two, vision) for one, two in itertools.combinations(PHASES, 2)) >= 20


@pytest.mark.parametrize("colour", PHASES)
def test_a_line_shows_on_every_phase(colour):
    assert contrast(style.INK, colour) >= 3


def test_a_map_holds_each_cell_in_its_colour_and_with_its_name():
    names = ["a", "b", "c"]
    line = (RATIO, DENSITY.mean().expand(4))
    figure = phase_map([CELLS, CELLS.flip(0)], DENSITY, RATIO, names, ["one", "two"], lines={"theory": line})
    heats = [trace for trace in figure.data if trace.type == "heatmap"]
    assert np.array_equal(heats[0].z, CELLS) and np.array_equal(heats[1].z, CELLS.flip(0))
    heat = heats[0]
    assert list(heat.x) == RATIO.tolist() and list(heat.y) == DENSITY.tolist()
    assert heat.customdata[1][1] == "c"
    for cell in range(3):  # the colour in the middle of a number's band is that of the legend
        place = (cell - heat.zmin) / (heat.zmax - heat.zmin)
        below = [colour for step, colour in heat.colorscale if step <= place]
        assert below[-1] == PHASES[cell]
    legend = [trace for trace in figure.data if trace.type == "scatter" and trace.showlegend is not False]
    assert [trace.name for trace in legend] == ["theory", *names]
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_more_phases_than_colours_are_refused():
    with pytest.raises(ValueError, match="colours for 4"):
        phase_map([CELLS], DENSITY, RATIO, list("abcde"), ["one"])


def test_shares_run_from_none_to_all():
    share = torch.rand(3, 4)
    heat = share_map(share, DENSITY, RATIO, "share").data[0]
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert np.allclose(heat.z, share, atol=1e-3)


def test_the_square_has_feature_one_to_the_right():
    first = torch.linspace(0, 1, 5).expand(5, 5)  # grows to the right
    heat = unit_square(first, "size").data[0]
    assert heat.z[0][-1] == 1 and heat.z[-1][0] == 0


def test_the_least_of_the_curves_is_drawn():
    x = torch.linspace(0, 1, 5)
    figure = crossing_lines(x, {"up": x, "down": 1 - x}, 0.5, x_title="x", y_title="y")
    assert list(figure.data[0].y) == pytest.approx([0, 0.25, 0.5, 0.25, 0])
    assert [trace.name for trace in figure.data[1:]] == ["up", "down"]


def test_an_onset_has_its_length_above_and_its_gain_below():
    ratio, length, gain = torch.linspace(0, 1, 4), torch.tensor([0, 0, 0.7, 0.8]), torch.tensor([0, 0, 0.1, 0.2])
    figure = onset_panels([ratio, ratio], [length, length], [gain, gain], ["p", "q"])
    assert len(figure.data) == 4
    assert list(figure.data[0].y) == pytest.approx(length.tolist())
    assert list(figure.data[1].y) == pytest.approx(gain.tolist())


def test_boundaries_keep_their_points():
    figure = boundary_lines({"one": (RATIO / 10, DENSITY[:1].expand(4))}, x_title="r", y_title="p")
    assert list(figure.data[0].x) == pytest.approx((RATIO / 10).tolist())
