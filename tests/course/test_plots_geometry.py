"""Drawings of geometry are true to their input, and groups of features are found as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from refract.plots.geometry import (
    FRACTIONS,
    capacity_panels,
    curve,
    dimensionality_scatter,
    flatten,
    fraction_strips,
    paired_bars,
    polytope_panels,
)
from refract.toys.blocks import NAMES, blocks, groups, same_cosines


def ring(count: int) -> torch.Tensor:
    angle = 2 * math.pi * torch.arange(count) / count
    return torch.stack([angle.cos(), angle.sin()])


# --- groups of features ------------------------------------------------------------------------


def test_shapes_in_their_own_dimensions_are_groups_of_their_own():
    W = torch.block_diag(torch.tensor([[1.0, -1.0]]), ring(5), ring(3), torch.ones(1, 1))
    assert blocks(W) == [(1, 1), (2, 1), (3, 2), (5, 2)]
    assert [NAMES[group] for group in blocks(W)] == ["alone", "digon", "triangle", "pentagon"]


def test_groups_are_found_however_the_hidden_layer_is_turned_and_the_features_are_ordered():
    W = torch.block_diag(ring(5), torch.tensor([[1.0, -1.0]]))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q
    assert blocks((turn @ W)[:, torch.tensor([6, 3, 1, 0, 5, 2, 4])]) == [(2, 1), (5, 2)]


def test_features_touch_through_others():
    chain = torch.tensor([[1.0, 0.7, 0.0], [0.0, 0.7, 1.0]])  # the first and the last are at a right angle
    assert blocks(chain) == [(3, 2)]


def test_faint_features_are_in_no_group():
    assert blocks(torch.tensor([[1.0, -0.4], [0.0, 0.0]])) == [(1, 1)]
    assert blocks(torch.zeros(3, 4)) == []


def test_a_small_overlap_is_no_touch():
    W = torch.tensor([[1.0, 0.05], [0.0, 1.0]])
    assert blocks(W) == [(1, 1), (1, 1)]
    assert blocks(W, touching=0.01) == [(2, 2)]


def test_groups_name_their_features_in_the_order_of_the_model():
    W = torch.block_diag(ring(5), torch.tensor([[1.0, -1.0]]), torch.tensor([[0.1]]))
    order = torch.tensor([6, 3, 7, 1, 0, 5, 2, 4])
    assert groups(W[:, order]) == [([0, 5], 1), ([1, 3, 4, 6, 7], 2)]


def test_a_shape_is_known_by_its_cosines_however_it_is_turned_ordered_and_stretched():
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0))).Q
    found = (turn @ ring(5))[:, torch.tensor([3, 0, 4, 1, 2])] * torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    assert bool(same_cosines(found, ring(5), slack=1e-3))


def test_a_column_that_is_turned_round_makes_another_shape():
    tetrahedron = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    turned = tetrahedron * torch.tensor([1, 1, -1, -1])
    both = torch.stack([tetrahedron, turned])
    assert same_cosines(both, tetrahedron).tolist() == [True, False]


# --- drawings ----------------------------------------------------------------------------------


def test_the_plane_is_drawn_as_it_is():
    points, near = flatten(ring(5).numpy())
    assert np.allclose(points, ring(5).numpy())
    assert not near.any()
    points, _ = flatten(np.array([[1.0, -1.0]]))
    assert np.allclose(points, [[1, -1], [0, 0]])


def test_space_is_seen_from_one_side_without_stretching():
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    points, near = flatten(directions)
    # across, up and near are three directions at right angles: lengths are kept
    assert np.allclose(np.square(points).sum(axis=0) + np.square(near), 1)
    up, _ = flatten(np.array([[0.0], [0.0], [1.0]]))
    assert up[1, 0] > 0.5
    assert abs(up[0, 0]) < 1e-9


def test_four_dimensions_cannot_be_drawn():
    with pytest.raises(ValueError, match="three dimensions"):
        flatten(np.eye(4))


def test_every_corner_has_its_line_and_each_shape_its_numbers():
    both = torch.block_diag(ring(3), torch.tensor([[1.0, -1.0]]))
    numbers = torch.tensor([2 / 3, 2 / 3, 2 / 3, 0.5, 0.5])
    figure = polytope_panels([ring(3), both], [torch.full((3,), 2 / 3), numbers], ["three", "five"])
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    words = [trace.text[0] for trace in figure.data if trace.mode == "text"]
    assert len(lines) == 8
    assert words[0] == "0.667 each"  # the same for all corners: once
    assert sorted(words[1:]) == ["0.5"] * 2 + ["0.667"] * 3
    ends = np.array([[trace.x[1], trace.y[1]] for trace in lines[:3]])
    assert np.allclose(np.sort(ends, axis=0), np.sort(ring(3).numpy().T, axis=0), atol=1e-3)
    assert figure.layout.yaxis2.scaleanchor == "x2"


def test_a_curve_has_its_points_and_its_marks():
    figure = curve([0, 1, 2], [3, 4, 5], [(1, "here")], xaxis="a", yaxis="b")
    assert list(figure.data[0].y) == [3, 4, 5]
    assert figure.layout.shapes[0].x0 == 1
    assert figure.layout.annotations[0].text == "here"


def test_the_scatter_has_every_feature_once_and_the_curves_their_runs():
    p = torch.tensor([1.0, 0.5, 1.0, 0.5])
    D = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.2, 0.8], [0.5, 0.4]])
    stored = D > 0.3
    figure = dimensionality_scatter(p, D, stored, torch.tensor([1.0, 0.5, 0.9, 0.6]), [0, 0, 1, 1])
    absent, present, first, second, histogram = figure.data
    assert sorted(absent.y) == pytest.approx([0.1, 0.2])
    assert sorted(present.y) == pytest.approx([0.4, 0.5, 0.5, 0.5, 0.8, 0.9])
    assert list(histogram.y) == list(present.y)
    assert (list(first.y), list(second.y)) == ([1.0, 0.5], pytest.approx([0.9, 0.6]))
    assert list(first.x) == [1, 2]
    # dots are spread, but never as far as half-way to the next density
    assert all(2 / 2**0.5 < x < 2 * 2**0.5 for x, y in zip(present.x, present.y, strict=True) if y < 0.6)
    assert [text.text for text in figure.layout.annotations] == list(FRACTIONS)


def test_strips_keep_their_points_over_their_own_names():
    figure = fraction_strips({"a": torch.tensor([0.5, 0.6]), "b": torch.tensor([0.7])}, {"2/5": 0.4, "3/8": 0.375})
    assert [list(trace.y) for trace in figure.data] == [pytest.approx([0.5, 0.6]), pytest.approx([0.7])]
    assert all(abs(x - 1) < 0.5 for x in figure.data[1].x)
    assert list(figure.layout.xaxis.ticktext) == ["a", "b"]
    upper, lower = figure.layout.annotations
    assert upper.yshift > 0 > lower.yshift  # their labels would touch


def test_capacity_panels_show_where_runs_are_and_how_many_where_they_differ():
    trained = torch.tensor([[[1.0, 0.6], [1.0, 0.6], [0.999, 0.0]], [[0.2, 0.1], [0.2, 0.1], [0.2, 0.1]]])
    figure = capacity_panels(trained, torch.rand(2, 2), 2 * trained, ["one", "two"])
    first, first_prices, second, _ = (trace for trace in figure.data if trace.mode == "markers+text")
    assert list(first.x) == [0, 1, 1]
    assert list(first.y) == pytest.approx([0.9997, 0.0, 0.6])
    # runs that agree need no number; the numbers of every other feature stand a line further off
    assert list(first.text) == ["", "1<br>", "<br>2"]
    assert list(first.customdata) == [3, 1, 2]
    assert list(first_prices.y) == pytest.approx([1.9993, 0.0, 1.2])
    assert not any(first_prices.text)
    assert (list(second.x), list(second.text)) == ([0, 1], ["", ""])
    assert sum(trace.mode == "lines" for trace in figure.data) == 2


def test_paired_bars_keep_their_names_and_heights():
    figure = paired_bars({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, xaxis="x", yaxis="y")
    assert [(bar.name, list(bar.y)) for bar in figure.data] == [("a", [1, 2]), ("b", [3, 4])]
