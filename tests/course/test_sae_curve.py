"""What a run says of itself: the line of its bar, the remarks at its end, and the figure of its curve."""

import pytest

from refract.sae import curve

POINT = {"step": 25, "tokens": 100, "loss": 0.7, "loss/reconstruction": 0.7, "fve": 0.4, "l0": 500.0, "dead": 0.0}
LATER = POINT | {"step": 50, "tokens": 200, "loss": 0.3, "fve": 0.8, "l0": 16.0}
TESTED = LATER | {"held_out_fve": 0.75, "held_out_l0": 15.5}


def test_the_line_of_a_point():
    assert curve.line(POINT) == "FVE 0.400, L0 500.0, dead 0.0%"
    assert curve.line(TESTED).endswith("; held out: FVE 0.750, L0 15.5")


@pytest.mark.parametrize(
    ("changed", "target", "words"),
    [
        ({}, None, []),
        ({}, 16, []),
        ({}, 12, ["target for L0 was 12, and it is 15.5"]),
        ({}, 20.5, ["target for L0 was 20.5"]),
        ({"held_out_l0": 4.7}, None, ["L0 is 4.7 on held-out text, and was 16.0 in training"]),
        ({"dead": 0.25}, None, ["25% of the latents are dead"]),
        ({"held_out_l0": 4.7, "dead": 0.25}, 16, ["target", "training", "dead"]),
    ],
)
def test_what_is_not_usual_is_remarked(changed, target, words):
    found = curve.remarks(TESTED | changed, target)
    assert len(found) == len(words)
    for word, remark in zip(words, found, strict=True):
        assert word in remark


def test_without_held_out_text_the_remark_is_about_training():
    assert curve.remarks(LATER, 16) == []
    assert "it is 16.0" in curve.remarks(LATER, 20)[0]


def test_the_figure_has_a_panel_for_each_quantity_and_a_legend_where_there_is_a_choice():
    points = [each | {"loss/sparsity": 0.1, "loss/reconstruction": each["loss"]} for each in (POINT, LATER, TESTED)]
    drawn = curve.figure(points)
    lines = {(line.yaxis, line.name): line for line in drawn.data}
    assert set(lines) == {
        *(("y", name) for name in ("reconstruction", "sparsity")),
        *((axis, name) for axis in ("y2", "y3") for name in ("training", "held out")),
        ("y4", "training"),
    }
    assert list(lines["y2", "training"].y) == [0.4, 0.8, 0.8] and list(lines["y2", "held out"].y) == [0.75]
    assert list(lines["y3", "training"].x) == [100, 200, 200]
    assert {line.legend for line in drawn.data if line.showlegend} == {"legend", "legend2", "legend3"}
    assert not lines["y4", "training"].showlegend
    titles = [drawn.layout[axis].title.text for axis in ("xaxis", "xaxis2", "xaxis3", "xaxis4")]
    assert len(set(titles)) == 1 and titles[0]
    # Every value is in sight, also on the axis of powers of ten.
    low, high = drawn.layout.yaxis3.range
    assert 10**low < 15.5 and 10**high > 500
    assert drawn.layout.yaxis4.range == (0, 0.01)


def test_one_loss_is_one_line_and_no_legend():
    drawn = curve.figure([POINT, LATER])
    assert [line.name for line in drawn.data if line.yaxis == "y"] == ["loss"]
    assert not any(line.showlegend for line in drawn.data)
    assert drawn.layout.yaxis4.range == (0, 0.01)
    assert curve.figure([POINT | {"l0": 0.0}]).data  # nothing to place an axis of powers of ten by
    assert curve.figure([POINT | {"dead": 0.5}]).layout.yaxis4.range[1] > 0.5


def test_the_page_opens_without_a_network(tmp_path):
    curve.write_figure([POINT, TESTED], tmp_path / "curve.html")
    page = (tmp_path / "curve.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page and "<script src=" not in page and len(page) > 1_000_000
