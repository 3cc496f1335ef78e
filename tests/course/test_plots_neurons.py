"""Drawings of neurons: every weight is drawn once, in its feature's colour, and a sign is a side of zero."""

from __future__ import annotations

import pytest
import torch

from refract.plots import style
from refract.plots.neurons import feature_marker, motif_panels, named_curves, neuron_stacks


def test_stacks_draw_every_weight():
    W = torch.randn(3, 2, 4)
    figure = neuron_stacks(W, ["a", "b", "c"], columns=2)
    assert len(figure.data) == 3 * 4
    for index, bars in enumerate(figure.data):
        instance, feature = divmod(index, 4)
        assert list(bars.y) == pytest.approx(W[instance, :, feature].tolist(), abs=5e-4)
        assert bars.marker.color == style.PALETTE[feature]
    assert figure.layout.barmode == "relative", "positive weights go up, negative ones down"


def test_stacks_name_each_feature_once():
    figure = neuron_stacks(torch.randn(3, 2, 4), ["a", "b", "c"])
    assert [bars.name for bars in figure.data if bars.showlegend] == [f"feature {i}" for i in range(4)]


def test_ten_features_look_different():
    looks = {(marker["color"], marker["pattern"]["shape"]) for marker in map(feature_marker, range(10))}
    assert len(looks) == 10
    assert [feature_marker(i)["pattern"]["shape"] for i in range(6)] == [""] * 6, (
        "hatched only once the colours are out"
    )


def test_large_pieces_carry_their_number():
    figure = neuron_stacks(torch.tensor([[[2.0, 0.01], [0.02, -1.0]]]), ["a"])
    assert [list(bars.text) for bars in figure.data] == [["0", ""], ["", "1"]]


def test_stacks_name_their_units():
    W = torch.randn(2, 2, 3)
    assert neuron_stacks(W, ["a", "b"]).layout.xaxis.title.text == "neuron"
    figure = neuron_stacks(W, ["a", "b"], unit="hidden unit")
    assert figure.layout.xaxis.title.text == "hidden unit"
    assert figure.data[0].hovertemplate.startswith("hidden unit")


def test_stacks_of_one_model_have_room_for_the_legend():
    assert neuron_stacks(torch.randn(1, 2, 4), ["alone"]).layout.width >= 400


def test_stacks_say_what_the_weights_are():
    figure = neuron_stacks(torch.randn(2, 2, 3), ["a", "b"], label="reads")
    assert figure.layout.yaxis.title.text == "reads"


def test_curves_differ_in_more_than_colour():
    x = torch.linspace(0, 1, 5)
    figure = named_curves(x, {"one": x, "two": 2 * x, "three": 3 * x}, x_title="x", y_title="y")
    assert [line.name for line in figure.data] == ["one", "two", "three"]
    assert len({line.line.dash for line in figure.data}) == 3
    assert list(figure.data[1].y) == pytest.approx((2 * x).tolist())
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("x", "y")


def test_motifs_read_above_and_write_below():
    read, write = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    figure = motif_panels(read, write, ["a", "b", "c"], ["strong", "weak"], ["neuron", "inhibitor"])
    assert len(figure.data) == 3 * 2 * 2
    first, second, third = figure.data[:3]
    assert list(first.y) == pytest.approx(read[0, :, 0].tolist(), abs=5e-4)
    assert list(second.y) == pytest.approx(read[0, :, 1].tolist(), abs=5e-4)
    assert list(third.y) == pytest.approx(write[0, :, 0].tolist(), abs=5e-4)
    assert list(first.x) == ["neuron", "inhibitor"]
    assert [bars.name for bars in figure.data if bars.showlegend] == ["strong", "weak"]
