"""Drawings of pairs: each shows what it is given, names its traces, and leaves nothing out."""

import pytest
import torch

from refract.plots import pairs, style


def test_arrangements_have_the_edges_that_the_text_names():
    angles = torch.tensor([[0.0, 14.9, 15.1, 79.9], [80.1, 99.9, 100.1, 164.9], [165.1, 180.0, 90.0, torch.nan]])
    assert pairs.arrangement(angles) == [
        ["merged", "merged", "side by side", "side by side"],
        ["orthogonal", "orthogonal", "apart", "apart"],
        ["antipodal", "antipodal", "orthogonal", "not stored"],
    ]


def test_partners_share_a_colour_and_both_can_be_seen_when_merged():
    W = torch.tensor([[[0.7, 0.7, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]]).expand(2, 2, 4)
    figure = pairs.pair_arrows(W, ["one", "two"])
    assert len(figure.data) == 8
    colours = [trace.line.color for trace in figure.data[:4]]
    assert colours == [style.PALETTE[0]] * 2 + [style.PALETTE[1]] * 2
    assert figure.data[0].line.width > figure.data[1].line.width
    legend = [trace.name for trace in figure.data if trace.showlegend]
    assert legend == [f"feature {feature}" for feature in range(4)]
    assert figure.layout.legend.itemsizing == "trace"


def test_bars_count_every_arrangement_that_occurs():
    figure = pairs.arrangement_bars({"a": {"merged": 3, "apart": 1}, "b": {"not stored": 4}})
    drawn = {bar.name: list(bar.y) for bar in figure.data}
    assert drawn == {"merged": [3, 0], "apart": [1, 0], "not stored": [0, 4]}


def test_curves_stand_in_panels_with_one_legend():
    degrees = torch.linspace(0, 180, 5)
    curves = {"one": degrees / 180, "two": 1 - degrees / 180}
    figure = pairs.angle_curves(degrees, {"left": curves, "right": curves}, ylabel="loss")
    assert len(figure.data) == 4
    assert [trace.name for trace in figure.data if trace.showlegend] == ["one", "two"]
    assert figure.layout.yaxis.title.text == "loss"


def test_every_run_is_a_dot_and_bars_show_the_mean_and_the_lowest():
    figure = pairs.loss_strip({"a": torch.tensor([0.3, 0.1, 0.2]), "b": torch.tensor([0.4])})
    assert list(figure.data[0].y) == pytest.approx([0.3, 0.1, 0.2])
    assert list(figure.data[1].y) == pytest.approx([0.2, 0.2])
    assert list(figure.data[2].y) == pytest.approx([0.1, 0.1])
    assert len(figure.data) == 6
    assert [trace.name for trace in figure.data if trace.showlegend] == ["the mean", "the lowest"]


def test_rival_curves_dots_and_their_crossing():
    x = torch.linspace(0, 1, 3)
    dots = torch.tensor([0.5, 0.5]), torch.tensor([0.7, 0.7])
    figure = pairs.crossing_curves(x, {"a": x, "b": 1 - x}, dots, 0.5, xlabel="x", notes=[(0.5, 0.7, "here")])
    assert [trace.name for trace in figure.data] == ["a", "b", "a run from random weights", "where the curves cross"]
    assert list(figure.data[3].x) == [0.5, 0.5]
    assert figure.layout.annotations[0].text == "here"
    assert len(set(figure.data[2].x)) == 2
    assert list(figure.data[2].y) == pytest.approx([0.7, 0.7])


def test_dots_are_moved_aside_only_where_they_would_hide_each_other():
    x, y = [0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.52, 0.9, 0.5]
    moved = pairs.side_by_side(x, y, step=0.1, height=0.05)
    assert moved[:3].sort().values.tolist() == pytest.approx([-0.1, 0.0, 0.1])
    assert moved[3:].tolist() == [0.0, 1.0]


def test_aligning_turns_and_flips_but_keeps_every_product():
    torch.manual_seed(0)
    W = torch.randn(6, 2, 5, dtype=torch.float64)
    for anchor in (0, 3):
        turned = pairs.aligned(W, anchor)
        assert torch.allclose(turned.mT @ turned, W.mT @ W)
        assert torch.allclose(turned[:, 0, anchor], torch.zeros(6, dtype=torch.float64), atol=1e-12)
        assert bool((turned[:, 1, anchor] > 0).all())
        assert bool((turned[:, 0, (anchor + 1) % 5] < 0).all())
