"""Drawings of memorising models: every vector is there, in the right row, and axes say what they measure."""

from __future__ import annotations

import pytest
import torch

from refract.plots import style
from refract.plots.memorisation import FLOOR, data_and_columns, dimensionality_points, stacked_panels


def test_data_stand_above_columns():
    hidden, W = [torch.randn(2, 3), torch.randn(2, 5)], [torch.randn(2, 7), torch.zeros(2, 7)]
    figure = data_and_columns(hidden, W, ["a", "b"])
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.x) for trace in dots] == [3, 5, 7, 7]
    assert [trace.marker.color for trace in dots] == [style.BLUE] * 2 + [style.VERMILION] * 2
    longest = float(hidden[0].norm(dim=0).max())
    assert list(dots[0].y) == pytest.approx((hidden[0][1] / longest).tolist(), abs=1e-3)
    assert list(dots[0].customdata) == pytest.approx(hidden[0].norm(dim=0).tolist(), abs=6e-3)
    assert set(dots[3].x) == {0}, "vectors of length zero do not break the scale"
    assert (figure.layout.yaxis.title.text, figure.layout.yaxis3.title.text) == ("data points", "columns of W")


def test_panels_share_names_and_differ_in_more_than_colour():
    one, two = torch.tensor([1.0, 2.0, 3.0]), [3.0, 2.0, 1.0]
    figure = stacked_panels(
        [3, 10, 30],
        {"fresh loss": {"a": one, "b": two}, "training loss": {"b": one}},
        x_title="T",
        log_y=["fresh loss"],
        marks={"fresh loss": 1.0},
    )
    assert [trace.name for trace in figure.data if trace.showlegend] == ["a", "b"]
    first, second, again = figure.data
    assert list(first.y) == one.tolist()
    assert (second.line.color, second.marker.symbol) == (again.line.color, again.marker.symbol)
    assert first.line.dash != second.line.dash
    assert first.marker.symbol != second.marker.symbol
    assert (figure.layout.yaxis.type, figure.layout.yaxis2.type) == ("log", None)
    assert figure.layout.xaxis2.title.text == "T"
    assert figure.layout.shapes[0].y0 == 1.0


def test_panels_without_a_logarithm_have_a_place_for_zero():
    figure = stacked_panels([0, 0.01, 1], {"loss": {"a": [1, 2, 3]}}, x_title="weight decay", log_x=False)
    assert list(figure.data[0].x) == ["0", "0.01", "1"]
    assert figure.layout.xaxis.type == "category"


def test_a_panel_may_be_an_enlarged_one():
    panels = {"loss": {"a": [1, 9, 3]}, "near 1": {"a": [1, 9, 3]}}
    figure = stacked_panels([1, 2, 3], panels, x_title="T", limits={"near 1": (0.9, 1.1)})
    assert list(figure.layout.yaxis2.range) == [0.9, 1.1]
    assert figure.layout.yaxis.range is None


def test_dimensionalities_have_their_line():
    data = [torch.tensor([0.5, 0.5, 1e-9]), torch.tensor([0.25, 0.2])]
    figure = dimensionality_points([3, 10], data, [torch.tensor([0.4]), torch.tensor([0.4, 0.1])], 2)
    left, median, line, right, _, _ = figure.data
    assert list(zip(left.x, left.y, strict=True)) == [(3, FLOOR), (3, 0.5), (10, 0.2), (10, 0.25)]
    assert list(zip(line.x, line.y, strict=True)) == [(3, pytest.approx(2 / 3)), (10, pytest.approx(0.2))]
    assert list(zip(median.x, median.y, strict=True)) == [(3, 0.5), (10, 0.2)]
    assert (median.name, median.showlegend) == ("median", True)
    assert (line.name, line.showlegend) == ("2 / T", True)
    assert list(zip(right.x, right.y, strict=True)) == [(3, 0.4), (10, 0.1), (10, 0.4)]
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
