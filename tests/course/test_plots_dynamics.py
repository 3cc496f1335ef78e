"""Drawings of training, attacks and estimates are true to their input."""

from __future__ import annotations

import pytest
import torch

from refract.plots import style
from refract.plots.dynamics import (
    aligned,
    chain_losses,
    estimates,
    in_space,
    null_histogram,
    over_steps,
    polygon_ladder,
)


def test_every_run_has_its_loss_its_features_and_its_hops():
    steps = torch.tensor([10, 100, 1000])
    loss = torch.tensor([[1.0, 2.0], [0.5, 1.0], [0.25, 0.5]])
    levels = torch.rand(3, 2, 4)
    hops = torch.zeros(3, 2, 4, dtype=torch.bool)
    hops[1, 0, 2] = hops[2, 0, 3] = True
    figure = over_steps(steps, loss, levels, ["a", "b"], hops=hops, groups=[0, 0, 1, 1])
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert sum(trace.line.color == style.PALETTE[1] for trace in lines) == 4  # two features, two runs
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert list(dots[0].x) == [100, 1000]
    assert list(dots[0].y) == pytest.approx([float(levels[1, 0, 2]), float(levels[2, 0, 3])], abs=1e-3)
    assert len(dots[1].x) == 0
    assert {shape.x0 for shape in figure.layout.shapes} == {100, 1000}
    assert list(figure.data[0].y) == [1.0, 0.5, 0.25]


def test_hops_may_be_left_out():
    figure = over_steps(torch.tensor([1, 10]), torch.ones(2, 1), torch.ones(2, 1, 3), ["one"])
    assert not [trace for trace in figure.data if trace.mode == "markers"]


def test_columns_in_space_have_their_sets_colour():
    figure = in_space([torch.eye(3), -torch.eye(3)], [0, 1, 1], ["first", "second"])
    colours = [trace.line.color for trace in figure.data]
    assert len(colours) == 6
    assert colours.count(style.PALETTE[0]) == 2


def test_the_null_and_the_observed_value():
    figure = null_histogram([torch.zeros(5), torch.ones(3)], ["one", "other"], 0.4, xaxis="r")
    assert [len(trace.x) for trace in figure.data] == [5, 3]
    assert figure.layout.shapes[0].x0 == 0.4


def test_panels_share_their_axis():
    x = torch.tensor([1.0, 10.0, 100.0])
    figure = aligned(x, {"a": torch.ones(2, 3), "b": torch.rand(4, 3)}, xaxis="1 / p")
    assert [len(trace.x) for trace in figure.data] == [3, 6, 3, 12]
    plain = aligned(torch.tensor([0.0, 1.0]), {"a": torch.ones(1, 2)}, xaxis="size", logarithmic=False)
    assert plain.layout.xaxis.type != "log"
    assert list(figure.layout.xaxis2.tickvals) == [1, 2, 5, 10, 20, 50, 100]
    low = aligned(x, {"a": torch.ones(2, 3), "b": torch.rand(4, 3)}, xaxis="1 / p", panel=150)
    assert figure.layout.height - low.layout.height == 2 * 50


def test_estimates_leave_out_what_is_off_the_scale():
    values = torch.tensor([[0.4, 0.6], [0.5, 0.5], [9.0, 9.0], [float("nan")] * 2])
    figure = estimates(torch.tensor([1e-4, 1e-3, 1e-2, 1e-1]), {"w²": values}, {"w²": 0.5}, {"w²": 0.49})
    assert list(figure.data[0].y) == pytest.approx([0.5, 0.5])
    assert figure.data[0].error_y.array[0] == pytest.approx(0.1, abs=1e-3)
    assert {shape.y0 for shape in figure.layout.shapes} == {0.5, 0.49}


def test_polygons_and_their_estimates():
    W = torch.zeros(2, 3)
    W[0, 0] = 1.0
    b = torch.tensor([0.0, -1.0, 0.1])
    numbers = torch.tensor([7.0, 8.0])
    figure = polygon_ladder([W, W], [b, b], torch.tensor([0.1, 0.05]), {"n": (numbers, numbers / 10)}, ["a", "b"])
    assert [trace.marker.color for trace in figure.data[:3]] == [style.BLUE, style.VERMILION, style.GREEN]
    assert list(figure.data[-1].x) == [7.0, 8.0]
    assert list(figure.data[-1].y) == pytest.approx([0.1, 0.05])
    assert list(figure.data[-1].error_x.array) == pytest.approx([0.7, 0.8])
    assert not figure.layout.shapes


def test_the_largest_coefficient_is_a_line():
    W, b, numbers = torch.eye(2), torch.zeros(2), torch.tensor([1.0])
    figure = polygon_ladder([W], [b], torch.tensor([0.1]), {"n": (numbers, numbers)}, ["a"], most=3.0)
    assert [shape.x0 for shape in figure.layout.shapes] == [3.0]


def test_chains_are_drawn_over_the_levels():
    figure = chain_losses(5, torch.tensor([[0.1, 0.2], [0.3, 0.4]]), {"a": 0.15})
    assert [list(trace.y) for trace in figure.data] == [pytest.approx([0.1, 0.3]), pytest.approx([0.2, 0.4])]
    assert list(figure.data[0].x) == [0, 5]
    assert figure.layout.shapes[0].y0 == 0.15
