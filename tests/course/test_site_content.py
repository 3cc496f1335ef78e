"""The site without Streamlit: Markdown, anchors, addresses, documents, search, figures, the lab's state."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from refract.authoring.model import Exercise, Figure
from refract.authoring.slugs import Anchors, slug
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections
from refract.progress import Prediction, calibration
from streamlit_app.content import course, document, figures, pages, predictions, search, toy_lab
from streamlit_app.content.document import Box, Heading, Image
from streamlit_app.content.markdown import convert, to_text
from streamlit_app.views.progress import calibration_figure
from tests.course import site_toy_course as toy

FIRST = SectionPaths(*toy.FIRST.split("/"))
SECOND = SectionPaths(*toy.SECOND.split("/"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    return toy.build(tmp_path)


# --- Markdown ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("$x_i$ and $y$", "$x_i$ and $y$"),
        ("costs $5 and $10", r"costs \$5 and \$10"),
        (r"costs \$5, and $x$", r"costs \$5, and $x$"),
        ("a $5 note, then $x$", r"a \$5 note, then $x$"),
        ("`$x$ :red[y]` stays", "`$x$ :red[y]` stays"),
        ("``a ` $b$`` stays", "``a ` $b$`` stays"),
        ("dict[str:blue[1]]", r"dict[str\:blue[1]]"),
        ("at 3:40, a: b", "at 3:40, a: b"),
        ("$a\n\nb$", "\\$a\n\nb\\$"),
        ("[t](a.md) and [u](https://x.y/z_(w))", "[t](A.MD) and [u](<HTTPS://X.Y/Z_(W)>)"),
    ],
)
def test_inline_markdown(written: str, shown: str) -> None:
    assert convert(written, str.upper) == shown


def test_an_emoji_name_is_broken_and_still_reads_the_same() -> None:
    shown = convert("so :smile: it")
    assert ":smile:" not in shown
    assert shown.replace("\u2060", "") == "so :smile: it"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("$$y$$", "$$\ny\n$$"),
        ("a $$y$$ b", "a \n$$\ny\n$$\nb"),
        ("$$\na\n= b\n$$\n\nnext", "$$\na\n= b\n$$\n\nnext"),
        ("- item $$y$$", "- item \n  $$\n  y\n  $$"),
        ("> said $$y$$", "> said \n> $$\n> y\n> $$"),
    ],
)
def test_display_maths_stands_on_lines_of_its_own(written: str, shown: str) -> None:
    assert convert(written) == shown


def test_fenced_code_is_untouched() -> None:
    code = "```\n$5 and :red[x] and $$y$$\n```\n"
    assert convert(f"{code}costs $5\n{code}") == f"{code}costs \\$5\n{code}"


def test_bars_of_maths_do_not_end_a_cell() -> None:
    shown = convert("| a | b |\n| - | - |\n| $|x|$ | $\\|W\\|$ |\n\n$|x|$")
    cells = shown.split("\n")[2]
    assert cells.count("|") == 3
    assert r"$\vert x\vert$" in cells
    assert r"$\Vert W\Vert$" in cells
    assert shown.endswith("$|x|$")


def test_search_text_has_words_and_no_marks() -> None:
    text = to_text("**Bold** `code_x`, [link](a.md), $\\frac{p}{2}$\n\n$$\\int x$$\n\n- item \\$5")
    assert text == "Bold code_x, link, p/2 … item $5"


@pytest.mark.parametrize(
    ("maths", "read"),
    [
        (r"\hat{x} = \mathrm{ReLU}(W^\top W x + b)", "x̂ = ReLU(Wᵀ W x + b)"),
        (r"D^{1/2}P", "D^(1/2)P"),
        (r"\tfrac12 |x| \ne 2 \kappa", "1/2 ∣x∣ ≠ 2 κ"),
        (r"\mathbb{E}\,x_i^2", "E x_i^2"),
    ],
)
def test_maths_in_running_text_can_be_read(maths: str, read: str) -> None:
    assert to_text(f"so ${maths}$.") == f"so {read}."


# --- anchors and addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What we have shown, what we have not", "what-we-have-shown-what-we-have-not"),
        ("ReLU(x): why?", "relux-why"),
        ("The `W` of $W^T W$", "the-w-of-wt-w"),
        ("A & B", "a--b"),
        ("**Bold** [link](x.md) snake_case", "bold-link-snake_case"),
        ("第一章", "第一章"),
    ],
)
def test_slugs_are_those_of_github(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_anchors_are_unique() -> None:
    anchors = Anchors({"reconstruct"})
    assert [anchors.give(text) for text in ("Reconstruct", "Why", "Why", "Why")] == [
        "reconstruct-1",
        "why",
        "why-1",
        "why-2",
    ]


def test_addresses_are_ascii_unique_and_free_of_numbers_of_order(root: Path) -> None:
    found = [page.url_path for page in pages.all_pages()]
    assert found == ["ch1-first-light", "ch1-second-look", "ch2-broken"]


def test_two_sections_of_one_name_get_two_addresses(root: Path) -> None:
    source = root / "chapters/ch1_superposition/s3_first_light.md"
    source.write_text("# Again\n\ntext\n", encoding="utf-8")
    found = [page.url_path for page in pages.all_pages()]
    assert len(found) == len(set(found)) == 4


def test_neighbours_follow_the_course(root: Path) -> None:
    before, after = pages.neighbours(FIRST)
    assert before is None
    assert after is not None
    assert after.url_path == "ch1-second-look"


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("s2_second_look.md", "ch1-second-look"),
        ("s2_second_look.md#tables", "ch1-second-look#tables"),
        ("../ch1_superposition/s2_second_look.ipynb", "ch1-second-look"),
        ("#here", "#here"),
        ("https://example.org/a.md", "https://example.org/a.md"),
        ("mailto:a@b.c", "mailto:a@b.c"),
    ],
)
def test_links_between_sections_lead_to_pages(root: Path, target: str, address: str) -> None:
    assert pages.rewrite(FIRST, target) == address


def test_a_link_to_another_file_leads_to_the_repository(root: Path) -> None:
    address = pages.rewrite(FIRST, "../../README.md#begin")
    assert address.startswith("https://github.com/")
    assert address.endswith("/README.md#begin")


def test_colab_opens_the_notebook_at_the_revision() -> None:
    address = pages.colab(SectionPaths("ch1_superposition", "s1_toy_models"))
    assert address.startswith("https://colab.research.google.com/github/")
    assert address.endswith("/chapters/ch1_superposition/s1_toy_models.ipynb")
    assert "/blob/v" in address


def test_the_map_has_six_chapters_and_knows_sections_by_number() -> None:
    assert [chapter.number for chapter in course.chapters()] == [1, 2, 3, 4, 5, 6]
    assert all(chapter.question.endswith("?") and chapter.sections for chapter in course.chapters())
    assert course.planned_title(SectionPaths("ch3_grokking", "s2_any_name")) == "Reverse-engineer it"


# --- documents ---------------------------------------------------------------------------------


def test_a_document_has_headings_pictures_and_boxes_in_order(root: Path) -> None:
    doc = document.load(FIRST)
    headings = [(item.level, item.anchor) for item in doc.items if isinstance(item, Heading)]
    assert headings == [
        (1, "first-light"),
        (2, "sparse-features"),
        (2, "what-will-happen"),
        (3, "a-figure-that-nothing-hides"),
        (2, "what-is-shown"),
    ]
    pictures = [item for item in doc.items if isinstance(item, Image)]
    assert [(picture.path.is_file(), picture.alt) for picture in pictures] == [(True, "A red dot")]
    kinds = [type(item.block).__name__ for item in doc.items if isinstance(item, Box)]
    assert kinds == [
        *("Code", "Exercise", "Exercise", "Predict", "Code", "Figure"),
        *("Predict", "Code", "Figure", "Claim", "Aside", "Bonus"),
    ]


def test_every_anchor_of_a_page_is_unique_and_every_exercise_has_its_own(root: Path) -> None:
    doc = document.load(FIRST)
    given = [item.anchor for item in doc.items if isinstance(item, Heading | Box) and item.anchor]
    assert len(given) == len(set(given))
    assert {"sample_things", "survivors", "open_plot", "five_in_two"} <= doc.anchors


def test_the_contents_list_headings_exercises_and_labs(root: Path) -> None:
    entries = [(entry.level, entry.kind, entry.anchor) for entry in document.load(FIRST).toc]
    assert entries[:3] == [
        (2, "heading", "sparse-features"),
        (3, "exercise", "sample_things"),
        (3, "exercise", "double_it"),
    ]
    lab = document.load(SECOND).toc[1]
    assert (lab.level, lab.kind, lab.anchor, lab.text) == (3, "lab", "toy_models", "Lab: Toy models")
    assert all(anchor != "first-light" for _, _, anchor in entries)


def test_an_exercise_before_any_heading_does_not_skip_a_level(root: Path) -> None:
    text = "# T\n\n" + toy._FIRST[toy._FIRST.index("```{exercise} double_it") :].split("\n## ")[0]
    FIRST.source.write_text(text, encoding="utf-8")
    boxes = [item for item in document.load(FIRST).items if isinstance(item, Box)]
    assert isinstance(boxes[0].block, Exercise)
    assert boxes[0].level == 2


# --- figures, values, predictions --------------------------------------------------------------


def test_a_figure_gives_up_its_width_and_colours_of_paper(root: Path) -> None:
    figure = figures.themed(figures.load(FIRST, "open_plot"))
    assert "width" not in figure["layout"]
    assert figure["layout"]["title"]["text"] == "Rising"


def test_on_a_dark_page_dark_lines_are_lightened_and_bars_outlined() -> None:
    trace = {"type": "scatter", "line": {"color": "rgb(68, 1, 84)"}, "marker": {"color": "#00224e", "size": 4}}
    bars = {"type": "bar", "marker": {"color": [0.0, 1.0], "coloraxis": "coloraxis"}}
    figure = {"data": [trace, bars], "layout": {}}
    assert figures.themed(figure)["data"] == [trace, bars]
    line, bar = figures.themed(figure, dark=True)["data"]
    for colour in (line["line"]["color"], line["marker"]["color"]):
        assert figures.luminance([int(part) for part in colour[4:-1].split(",")]) >= figures.FAINTEST
    assert line["marker"]["size"] == 4
    assert bar["marker"]["color"] == [0.0, 1.0]
    assert bar["marker"]["line"]["width"] == 1
    assert trace["line"] == {"color": "rgb(68, 1, 84)"}


@pytest.mark.parametrize(
    ("colour", "shown"), [("#ffffff", "rgb(255, 255, 255)"), ("#E69F00", "rgb(230, 159, 0)"), ("teal", "teal")]
)
def test_colours_that_stand_out_on_dark_stay(colour: str, shown: str) -> None:
    assert figures.lightened(colour) == shown


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"data": 3}'])
def test_a_missing_or_malformed_figure_says_which_file_and_what_to_do(root: Path, content: str | None) -> None:
    file = FIRST.figures / "other.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(RefractError, match=r"other\.json") as caught:
        figures.load(FIRST, "other")
    assert "refract build" in caught.value.remedy


def test_a_malformed_values_file_is_named(root: Path) -> None:
    FIRST.values.write_text('{"stored": 5}', encoding="utf-8")
    with pytest.raises(RefractError, match=r"s1_first_light\.json"):
        document.recorded(FIRST)


def test_a_figure_is_hidden_until_its_question_is_settled() -> None:
    gated = Figure("plot", "caption", "alt", "question", 1)
    assert predictions.hides(gated, set())
    assert not predictions.hides(gated, {"question"})
    assert not predictions.hides(Figure("plot", "caption", "alt", None, 1), set())


def test_the_truth_of_a_prediction_comes_from_the_source_or_the_record(root: Path) -> None:
    first, second = document.load(FIRST).section.predictions
    recorded = document.recorded(FIRST)
    assert predictions.truth(first, recorded) == "b"
    assert predictions.truth(second, recorded) == 5.0
    with pytest.raises(RefractError, match="how_many"):
        predictions.truth(second, {})


# --- search ------------------------------------------------------------------------------------


def _found(query: str) -> list[str]:
    return [hit.href for hit in search.index().search(query)]


def test_search_finds_prose_exercises_and_headings(root: Path) -> None:
    assert _found("wombles")[0] == "ch1-second-look#sparse-features"
    assert _found("zebra") == ["ch1-first-light#sample_things"]
    assert _found("halve_it")[0] == "ch1-second-look#halve_it"
    assert _found("kangaroo")[0] == "ch1-first-light#the-kangaroo-problem"


def test_search_knows_parts_of_names_plurals_beginnings_and_given_code(root: Path) -> None:
    assert "ch1-first-light#sample_things" in _found("thing")
    assert _found("FEATURE") and set(_found("features")) == set(_found("feature"))
    assert "ch1-second-look#sparse-features" in _found("antip")
    assert "ch1-first-light#sparse-features" in _found("linspace")


@pytest.mark.parametrize("secret", ["quokka", "wombat", "numbat", "bilby", "echidna", "platypus", "secret_numbers"])
def test_search_reveals_nothing_that_is_folded_away(root: Path, secret: str) -> None:
    assert _found(secret) == []


def test_a_passage_with_all_words_comes_first(root: Path) -> None:
    assert _found("antipodal wombles feature")[0] == "ch1-second-look#sparse-features"


def test_snippets_are_escaped_and_marked(root: Path) -> None:
    hit = search.index().search("alert")[0]
    assert "<mark>alert</mark>" in hit.snippet
    assert "<script>" not in hit.snippet
    assert "&lt;script&gt;" in hit.snippet


@pytest.mark.parametrize("query", ["", "   ", "???", "$", "'; DROP", "\\", "(" * 50, "x" * 500])
def test_odd_queries_find_nothing_and_break_nothing(root: Path, query: str) -> None:
    assert search.index().search(query) == []


def test_values_are_searched_as_they_read(root: Path) -> None:
    assert "ch1-first-light#sparse-features" in _found("0.012")


def test_the_index_follows_the_source(root: Path) -> None:
    assert _found("wallaby") == []
    SECOND.source.write_text(SECOND.source.read_text(encoding="utf-8") + "\n\nA wallaby.\n", encoding="utf-8")
    assert _found("wallaby") == ["ch1-second-look#sparse-features"]


# --- the lab -----------------------------------------------------------------------------------


def test_a_state_survives_its_address() -> None:
    state = toy_lab.State(p=0.1, decay=0.75, n=12, m=3, seed=7)
    assert toy_lab.parse(state.to_query()) == (state, [])
    assert toy_lab.parse({}) == (toy_lab.State(), [])


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ({"n": "99"}, "n", 20),
        ({"n": "-3"}, "n", 2),
        ({"m": "0"}, "m", 1),
        ({"p": "5"}, "p", 1.0),
        ({"p": "0"}, "p", 0.01),
        ({"p": "nan"}, "p", 0.05),
        ({"p": "inf"}, "p", 1.0),
        ({"p": "0.052"}, "p", 0.05),
        ({"decay": "0.9001"}, "decay", 0.9),
        ({"seed": "<script>"}, "seed", 0),
        ({"m": "2.4"}, "m", 2),
    ],
)
def test_a_bad_address_is_brought_into_limits_with_a_notice(query: dict[str, str], name: str, value: float) -> None:
    state, notices = toy_lab.parse(query)
    assert getattr(state, name) == value
    assert len(notices) == 1
    assert notices[0].startswith(name)


def _model(W: list[list[float]]) -> toy_lab.Trained:
    columns = np.array(W, dtype=float)
    norms = np.linalg.norm(columns, axis=0)
    return toy_lab.Trained(columns, norms, np.arange(len(norms), dtype=float), [0, 1], [1.0, 0.5], 0.1)


def test_the_sentence_counts_stored_features_pairs_and_superposition() -> None:
    model = _model([[1, -1, 0, 0, 0.1], [0, 0, 1, -0.9, 0]])
    assert (model.stored, model.antipodal_pairs, model.superposition) == (4, 2, 6.0)
    sentence = toy_lab.describe(toy_lab.State(), model)
    assert "4 of 5 features stored" in sentence
    assert "2 antipodal pairs" in sentence
    assert "6.00" in sentence
    assert "More features than units" in sentence


def test_no_superposition_is_claimed_where_there_is_none() -> None:
    sentence = toy_lab.describe(toy_lab.State(n=3), _model([[1, 0, 0], [0, 1, 0]]))
    assert "More features" not in sentence
    assert "no antipodal pair" in sentence


@pytest.mark.parametrize(("m", "kind"), [(2, "scatter"), (3, "scatter3d")])
def test_arrows_are_drawn_in_two_and_three_dimensions(m: int, kind: str) -> None:
    W = np.eye(m, 4)
    figure = toy_lab.draw_features(toy_lab.State(n=4, m=m), _model(W.tolist()))
    assert figure is not None
    content = json.loads(figure.to_json() or "")
    assert {trace["type"] for trace in content["data"]} == {kind}
    assert content["data"][1]["text"] == ["0", "1", "2", "3"]


def test_other_dimensions_have_no_arrows() -> None:
    assert toy_lab.draw_features(toy_lab.State(m=4), _model(np.eye(4, 5).tolist())) is None


# --- the real course ---------------------------------------------------------------------------


@pytest.mark.parametrize("paths", all_sections(), ids=lambda paths: paths.id)
def test_every_section_of_the_course_makes_a_page(paths: SectionPaths) -> None:
    doc = document.load(paths)
    recorded = document.recorded(paths)
    for question in doc.section.predictions:
        predictions.truth(question, recorded)
    for block in doc.section.figures:
        assert figures.load(paths, block.name)["data"]
    assert not [item for item in doc.items if isinstance(item, Image) and not item.path.is_file()]


@pytest.mark.parametrize(
    ("losses", "ticks"),
    [
        ([0.014, 0.0009], [0.001, 0.002, 0.005, 0.01]),
        ([3.0, 0.0005], [0.001, 0.01, 0.1, 1.0]),  # powers of ten alone, over many of them
        ([0.0041, 0.0031], [0.0031, 0.0041]),  # nothing round lies between
        ([0.0, 0.0], None),
    ],
)
def test_the_loss_axis_has_few_ticks(losses: list[float], ticks: list[float] | None) -> None:
    figure = toy_lab.draw_loss(dataclasses.replace(_model([[1.0]]), losses=losses))
    assert figure.layout.yaxis.tickvals == (ticks and pytest.approx(ticks))


def test_the_axes_in_space_are_the_hidden_units() -> None:
    figure = toy_lab.draw_features(toy_lab.State(m=3), _model(np.eye(3, 5).tolist()))
    assert figure is not None
    scene = figure.layout.scene
    assert [axis.title.text for axis in (scene.xaxis, scene.yaxis, scene.zaxis)] == ["unit 0", "unit 1", "unit 2"]


# --- calibration -------------------------------------------------------------------------------


def test_the_calibration_figure_sets_the_share_right_against_the_confidence() -> None:
    when = datetime.now(UTC)
    pairs = [(0.1, False), (0.7, True), (0.7, False), (0.7, False), (0.7, False), (0.9, True)]
    made = [Prediction("s", str(place), when, "a", *pair) for place, pair in enumerate(pairs)]
    figure = calibration_figure(calibration(made))
    diagonal, points = figure.data
    assert (list(diagonal.x), list(diagonal.y)) == ([0, 1], [0, 1])
    assert list(points.x) == pytest.approx([0.1, 0.7, 0.9])
    assert list(points.y) == pytest.approx([0, 0.25, 1])
    assert list(points.text) == ["1 prediction", "4 predictions", "1 prediction"]
    assert points.marker.size[1] > points.marker.size[0] == points.marker.size[2]
