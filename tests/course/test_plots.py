"""Figures: legible, told apart without full colour vision, and true to what they are given."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch
from plotly.colors import sample_colorscale

from refract.plots import style
from refract.plots.toys import feature_arrows, feature_colours, gram_heatmap, norm_bars, stacked_counts
from refract.toys.shapes import SHAPES, plane_shapes

# --- colour ------------------------------------------------------------------------------------


def rgb(colour: str) -> np.ndarray:
    """A colour's red, green and blue, from 0 to 1."""
    named = {"white": "#ffffff", "black": "#000000"}
    colour = named.get(colour, colour)
    if colour.startswith("rgb"):
        return np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    return np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255


def linear(colour: str) -> np.ndarray:
    """Linear light, from sRGB."""
    value = rgb(colour)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, two: str) -> float:
    """WCAG's contrast ratio, from 1 to 21."""
    light, dark = sorted((float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# Machado, Oliveira and Fernandes, 2009, severity 1, on linear light.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour: str, vision: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as somebody with this vision sees it."""
    seen = np.clip(VISION[vision] @ linear(colour), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, two: str, vision: str) -> float:
    """CIE76: about 2.3 is just noticeable side by side."""
    return float(np.linalg.norm(lab(one, vision) - lab(two, vision)))


def test_the_measures_themselves():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert lab("#ffffff", "normal") == pytest.approx([100, 0, 0], abs=0.1)
    assert distance("#ff0000", "#00ff00", "normal") > 3 * distance("#b05000", "#608000", "deuteranopia")
    assert distance("#000000", "#ffffff", "tritanopia") == pytest.approx(100, abs=0.5)


def test_text_is_legible_on_the_paper():
    layout = style.template().layout
    paper = layout.paper_bgcolor
    assert layout.plot_bgcolor == paper
    assert contrast(layout.font.color, paper) >= 7
    for axis in (layout.xaxis, layout.yaxis):
        assert contrast(axis.linecolor, paper) >= 3  # a line that carries meaning
        assert 1.05 < contrast(axis.gridcolor, paper) < 1.5  # and one that must recede


@pytest.mark.parametrize("background", ["white", "black"])
def test_grey_is_legible_on_white_and_on_black(background):
    assert contrast(style.GREY, background) >= 3


@pytest.mark.parametrize("vision", VISION)
def test_the_palette_can_be_told_apart(vision):
    closest = min(distance(one, two, vision) for one, two in itertools.combinations(style.PALETTE, 2))
    assert closest >= 10


@pytest.mark.parametrize("colour", style.PALETTE)
def test_each_colour_of_the_palette_shows_on_white_and_on_black(colour):
    assert contrast(colour, "white") >= 2
    assert contrast(colour, "black") >= 3


@pytest.mark.parametrize("vision", VISION)
def test_the_diverging_scale_tells_sign_and_recedes_at_zero(vision):
    low, middle, high = (str(colour) for _, colour in style.DIVERGING)
    assert [place for place, _ in style.DIVERGING] == [0.0, 0.5, 1.0]
    assert distance(low, high, vision) >= 40
    assert min(distance(low, middle, vision), distance(high, middle, vision)) >= 40
    assert contrast(middle, "white") < 1.2


@pytest.mark.parametrize("vision", VISION)
def test_the_sequential_scale_grows_lighter_throughout(vision):
    lightness = [lab(colour, vision)[0] for colour in sample_colorscale(style.SEQUENTIAL, list(np.linspace(0, 1, 11)))]
    assert all(two > one + 2 for one, two in itertools.pairwise(lightness))


def test_using_the_style_makes_it_the_default(monkeypatch):
    monkeypatch.setattr(pio.templates, "default", "plotly")
    style.use()
    assert pio.templates.default == "refract"
    assert go.Figure().layout.template.layout.font.color == style.INK


@pytest.mark.parametrize("features", [1, 5, 6])
def test_few_features_have_the_palette_s_colours(features):
    assert feature_colours(features) == style.PALETTE[:features]


@pytest.mark.parametrize("features", [7, 20])
def test_many_features_have_colours_of_their_own(features):
    colours = feature_colours(features)
    assert len(set(colours)) == features
    for colour in colours:
        assert contrast(colour, "white") >= 1.3
        assert contrast(colour, "black") >= 1.9


# --- drawings ----------------------------------------------------------------------------------


def polygon(count: int, length: float = 1.0, turn: float = 0.0) -> torch.Tensor:
    """``count`` columns at equal angles: (1, 2, count)."""
    angles = torch.arange(count) * 2 * math.pi / count + math.radians(turn)
    return length * torch.stack([angles.cos(), angles.sin()])[None]


def test_arrows_point_where_the_columns_do():
    W = torch.cat([polygon(5), polygon(5, 0.5, 10)])
    figure = feature_arrows(W, ["one", "two"])
    assert len(figure.data) == 10
    for index, trace in enumerate(figure.data):
        instance, feature = divmod(index, 5)
        assert (trace.x[0], trace.y[0]) == (0, 0)
        assert [trace.x[1], trace.y[1]] == pytest.approx(W[instance, :, feature].tolist(), abs=1e-4)
        assert trace.line.color == style.PALETTE[feature]
        assert trace.name == f"feature {feature}"
        assert trace.showlegend is (instance == 0)
        assert (trace.xaxis, trace.yaxis) == (("x", "y") if instance == 0 else ("x2", "y2"))
    assert [note.text for note in figure.layout.annotations] == ["one", "two"]


def test_arrows_fit_and_keep_their_angles():
    figure = feature_arrows(polygon(3, 4.0), ["long"])
    low, high = figure.layout.xaxis.range
    assert low == -high
    assert high > 4
    assert tuple(figure.layout.yaxis.range) == (low, high)
    assert (figure.layout.yaxis.scaleanchor, figure.layout.yaxis.scaleratio) == ("x", 1)


@pytest.mark.parametrize(("instances", "columns", "rows"), [(1, 5, 1), (5, 5, 1), (6, 5, 2), (10, 5, 2), (4, 2, 2)])
def test_arrows_are_laid_out_in_rows(instances, columns, rows):
    figure = feature_arrows(polygon(2).expand(instances, -1, -1), [str(i) for i in range(instances)], columns=columns)
    heights = {tuple(figure.layout[f"yaxis{index or ''}"].domain) for index in [0, *range(2, instances + 1)]}
    assert len(heights) == rows


def test_arrows_of_any_precision():
    assert feature_arrows(polygon(5).double(), ["one"]).data[0].x[1] == 1.0
    assert feature_arrows(polygon(5).half(), ["one"]).data[0].x[1] == 1.0


def test_arrows_need_two_hidden_units():
    with pytest.raises(ValueError, match="two hidden units; W has 3"):
        feature_arrows(torch.zeros(1, 3, 5), ["one"])


def test_bars_have_the_norms_height_and_the_superposition_s_colour():
    norms = torch.tensor([[1.0, 0.9, 0.0], [0.5, 1.5, 0.2]])
    shared = torch.tensor([[0.0, 0.25, 0.0], [1.75, 0.5, 9.0]])
    figure = norm_bars(norms, shared, ["dense", "sparse"])
    assert [list(bar.y) for bar in figure.data] == [[1.0, 0.9, 0.0], [0.5, 1.5, 0.2]]
    assert [list(bar.marker.color) for bar in figure.data] == [[0.0, 0.25, 0.0], [1.75, 0.5, 9.0]]
    assert [list(bar.x) for bar in figure.data] == [[0, 1, 2]] * 2
    assert [note.text for note in figure.layout.annotations] == ["dense", "sparse"]
    assert figure.layout.yaxis.range[1] > 1.5
    # what is not stored has no say in the colours' range: neither the 9 nor, at exactly one half, the 1.75
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1.0)


@pytest.mark.parametrize(("shared", "top"), [(0.3, 1.0), (1.26, 1.3), (2.26, 2.0)])
def test_the_colours_reach_to_the_most_superposed_stored_feature_and_no_further_than_two(shared, top):
    figure = norm_bars(torch.ones(1, 2), torch.tensor([[0.0, shared]]), ["one"])
    assert figure.layout.coloraxis.cmax == pytest.approx(top)
    assert ("ends at 2" in figure.layout.coloraxis.colorbar.title.text) == (shared > 2)


def test_bars_where_nothing_is_stored():
    figure = norm_bars(torch.zeros(1, 4), torch.zeros(1, 4), ["nothing"])
    assert figure.layout.coloraxis.cmax == 1.0
    assert list(figure.data[0].y) == [0.0] * 4


def test_the_heat_map_shows_the_matrix():
    W = polygon(5)
    figure = gram_heatmap(W.mT @ W, ["pentagon"])
    (trace,) = figure.data
    z = np.array(trace.z)
    for i, j in itertools.product(range(5), repeat=2):
        assert z[i, j] == pytest.approx(math.cos(2 * math.pi * (i - j) / 5), abs=1e-3)
    assert figure.layout.yaxis.autorange == "reversed"  # feature 0 in the upper left corner
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (-1, 1)
    assert [colour for _, colour in axis.colorscale] == [style.VERMILION, "#f4f1ea", style.BLUE]


def test_the_heat_map_reaches_as_far_as_the_matrix_does_with_zero_in_the_middle():
    axis = gram_heatmap(torch.tensor([[[0.5, -1.3], [0.2, 1.0]]]), ["one"]).layout.coloraxis
    assert (axis.cmin, axis.cmax) == (pytest.approx(-1.3), pytest.approx(1.3))


def test_a_single_panel_has_room_for_its_legend():
    assert feature_arrows(polygon(5), ["pentagon"]).layout.width >= 400


def test_the_heat_map_of_an_asymmetric_matrix_has_outputs_down_and_inputs_across():
    gram = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])
    (trace,) = gram_heatmap(gram, ["one"]).data
    assert np.array(trace.z).tolist() == [[0.0, 1.0], [-1.0, 0.0]]
    assert "output %{y}, input %{x}" in trace.hovertemplate


def test_several_heat_maps_share_one_scale():
    figure = gram_heatmap(torch.eye(3).expand(3, 3, 3), ["a", "b", "c"])
    assert [trace.coloraxis for trace in figure.data] == ["coloraxis"] * 3
    assert [note.text for note in figure.layout.annotations] == ["a", "b", "c"]


def test_stacked_counts_keep_every_count():
    counts = {shape: [index, 10 - index] for index, shape in enumerate(SHAPES)}
    figure = stacked_counts(counts, ["1.00", "0.05"])
    assert {trace.name: list(trace.y) for trace in figure.data} == counts
    assert [list(trace.x) for trace in figure.data] == [["1.00", "0.05"]] * len(SHAPES)
    assert figure.layout.barmode == "stack"
    assert figure.layout.xaxis.type == "category"


@pytest.mark.parametrize("vision", VISION)
def test_neighbouring_kinds_in_a_stack_can_be_told_apart(vision):
    figure = stacked_counts({shape: [1] for shape in SHAPES}, ["1.00"])
    colours = [trace.marker.color for trace in figure.data]
    assert None not in colours
    assert min(distance(one, two, vision) for one, two in itertools.pairwise(colours)) >= 10


def test_figures_are_plain_json():
    for figure in (
        feature_arrows(polygon(5), ["a"]),
        norm_bars(torch.ones(1, 3), torch.zeros(1, 3), ["a"]),
        gram_heatmap(torch.eye(3)[None], ["a"]),
    ):
        assert json.loads(figure.to_json())["data"]


# --- shapes ------------------------------------------------------------------------------------


def columns(*degrees: float, length: float = 1.0) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return length * torch.stack([angles.cos(), angles.sin()])[None]


@pytest.mark.parametrize(
    ("W", "shape"),
    [
        (polygon(5), "pentagon"),
        (polygon(4), "cross"),
        (polygon(6), "other"),
        (polygon(3), "other"),
        (columns(0, 90), "orthogonal pair"),
        (columns(0, 180), "other"),
        (columns(0, 180, 90), "pair and one"),
        (columns(0, 90, 190), "pair and one"),
        (columns(0, 120, 240), "other"),
        (columns(10), "other"),
        (torch.zeros(1, 2, 5), "other"),
        (columns(0, 0, 90), "other"),
    ],
)
@pytest.mark.parametrize("turn", [0.0, 33.0, 179.0, 271.0])
def test_a_shape_is_named_whichever_way_it_is_turned(W, shape, turn):
    angle = math.radians(turn)
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert plane_shapes(rotation @ W) == [shape]
    assert plane_shapes((rotation @ W).flip(-1)) == [shape]
    assert shape in SHAPES


def test_a_shape_counts_only_what_is_stored():
    faint = torch.cat([columns(0, 90), columns(45, 200, length=0.49)], dim=-1)
    assert plane_shapes(faint) == ["orthogonal pair"]
    assert plane_shapes(faint, stored_above=0.4) == ["other"]
    assert plane_shapes(polygon(5, 0.4)) == ["other"]
    assert plane_shapes(polygon(5, 0.4), stored_above=0.3) == ["pentagon"]


def test_a_shape_allows_some_slack_and_no_more():
    assert plane_shapes(columns(0, 104)) == ["orthogonal pair"]
    assert plane_shapes(columns(0, 106)) == ["other"]
    assert plane_shapes(columns(0, 106), slack=20) == ["orthogonal pair"]


def test_each_instance_has_its_own_shape():
    W = torch.cat([polygon(5), columns(0, 90, 180, 270, 270)])
    assert plane_shapes(W) == ["pentagon", "other"]


def test_shapes_need_two_hidden_units():
    with pytest.raises(ValueError, match="two hidden units; W has 3"):
        plane_shapes(torch.zeros(1, 3, 5))
