"""The site's pages, drawn by Streamlit's AppTest: what they show, what they hide, what they record."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from refract.paths import SectionPaths, all_sections
from refract.progress import Store, open_store
from tests.course import site_toy_course as toy

ROOT = Path(__file__).resolve().parents[2]
FIRST = SectionPaths(*toy.FIRST.split("/"))
SECOND = SectionPaths(*toy.SECOND.split("/"))


def _without_solutions() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "solutions"]:
        del sys.modules[name]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The small course, its reference modules importable in place of the real ones."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "solutions"}
    _without_solutions()
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(tmp_path / "course"))
    yield toy.build(tmp_path / "course")
    _without_solutions()
    sys.modules.update(kept)


@pytest.fixture
def store(root: Path) -> Store:
    return open_store()


def _section(section_id: str) -> None:
    from streamlit_app.render import section

    section.render(section_id)


def _view(name: str) -> None:
    import importlib

    importlib.import_module(f"streamlit_app.views.{name}").render()


def page(section_id: str = toy.FIRST, **query: str) -> AppTest:
    test = AppTest.from_function(_section, kwargs={"section_id": section_id}, default_timeout=60)
    for key, value in query.items():
        test.query_params[key] = value
    return healthy(test.run())


def view(name: str, **query: str) -> AppTest:
    test = AppTest.from_function(_view, kwargs={"name": name}, default_timeout=60)
    for key, value in query.items():
        test.query_params[key] = value
    return healthy(test.run())


def healthy(test: AppTest) -> AppTest:
    assert not test.exception, [entry.value for entry in test.exception]
    return test


def text(test: AppTest) -> str:
    """Everything in words on the page."""
    shown: list[str] = []
    for group in (
        *(test.title, test.header, test.subheader, test.markdown, test.caption, test.info),
        *(test.success, test.warning, test.error, test.code),
    ):
        shown += [str(entry.value) for entry in group]
    shown += [str(entry.proto.body) for entry in test.get("html")]
    return "\n".join(shown)


def press(test: AppTest, key: str) -> AppTest:
    return healthy(test.button(key=key).click().run())


def keys(test: AppTest) -> set[str]:
    return {button.key for button in test.button if button.key}


def charts(test: AppTest) -> str:
    return "\n".join(str(entry.proto.id) for entry in test.get("plotly_chart"))


# --- every page --------------------------------------------------------------------------------


@pytest.mark.parametrize("section_id", [toy.FIRST, toy.SECOND])
def test_sections_render_with_title_and_contents(root: Path, section_id: str) -> None:
    test = page(section_id)
    assert not test.error
    assert len(test.title) == 1
    assert "refract-toc" in text(test)


@pytest.mark.parametrize("name", ["home", "search", "progress"])
def test_the_other_pages_render(root: Path, name: str) -> None:
    test = view(name)
    assert not test.error
    assert len(test.title) == 1


def test_the_app_starts_at_home(root: Path) -> None:
    test = healthy(AppTest.from_file(str(ROOT / "streamlit_app" / "app.py"), default_timeout=60).run())
    assert test.title[0].value == "Refract"
    assert [entry.value for entry in test.subheader] == [
        "1. Superposition",
        "2. Polysemanticity",
        "3. Grokking",
        "4. Sparse autoencoders, where the truth is known",
        "5. Sparse autoencoders on language models",
        "6. Capstones",
    ]
    assert "3 sections with 3 exercises, about 30 minutes" in text(test)
    assert "You have passed 0 of 3" in str(test.get("progress")[0].proto)


@pytest.mark.parametrize("paths", all_sections(), ids=lambda paths: paths.id)
def test_every_section_of_the_course_renders(
    paths: SectionPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path))
    test = page(paths.id)
    assert not test.error, text(test)


def test_a_malformed_source_shows_file_line_and_remedy_on_its_own_page_only(root: Path) -> None:
    test = page(toy.BROKEN)
    assert "This section cannot be shown." in test.error[0].value
    assert "s1_broken.md:3" in text(test)
    assert "unknown directive {exercize}" in text(test)
    assert not page(toy.FIRST).error


def test_a_missing_figure_is_a_box_and_the_page_goes_on(root: Path) -> None:
    (FIRST.figures / "open_plot.json").unlink()
    test = page()
    assert [entry.value for entry in test.error] == ["This figure cannot be shown."]
    assert "open_plot.json does not exist" in text(test)
    assert "The kangaroo problem" in text(test)


def test_a_value_that_nothing_recorded_is_a_box_where_it_is_quoted(root: Path) -> None:
    FIRST.values.write_text('{"loss": {"value": 0.5, "within": 0}}', encoding="utf-8")
    test = page()
    assert "'stored', which was never recorded" in text(test)
    assert "The kangaroo problem" in text(test)


def test_an_unusable_progress_file_leaves_the_site_readable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a_file").write_text("", encoding="utf-8")
    monkeypatch.setenv("REFRACT_HOME", str(root / "a_file" / "below"))
    test = page()
    assert [entry.value for entry in test.warning] == ["Your progress cannot be read or kept at the moment."]
    assert "The kangaroo problem" in text(test)
    test = press(test, "next-hint-sample_things")
    assert "could not be kept" in test.toast[0].value


def test_what_is_written_in_a_source_is_shown_as_meant(root: Path) -> None:
    shown = text(page())
    assert r"Costs of \$5 and \$10 are no maths, but $p = \frac{1}{2}$ is." in shown
    assert "A value, 5 of five, and a loss of 0.012." in shown
    assert "[second look](ch1-second-look#tables)" in shown
    assert "$$\n\\mathbb{E}[x] = \\frac{p}{2}\n$$" in shown


def test_headings_carry_our_anchors(root: Path) -> None:
    test = page()
    anchors = [entry.proto.anchor for group in (test.title, test.header, test.subheader) for entry in group]
    assert {"first-light", "sparse-features", "sample_things", "double_it"} <= set(anchors)
    bare = "\n".join(str(entry.proto.body) for entry in test.get("html"))
    assert all(f'id="{name}"' in bare for name in ("survivors", "open_plot", "five_in_two", "the-kangaroo-problem"))


# --- exercises ---------------------------------------------------------------------------------


def test_hints_open_one_at_a_time_and_are_recorded(root: Path, store: Store) -> None:
    test = page()
    assert "quokka" not in text(test)
    test = press(test, "next-hint-sample_things")
    assert "quokka" in text(test)
    assert "wombat" not in text(test)
    test = press(press(test, "next-hint-sample_things"), "next-hint-sample_things")
    assert "numbat" in text(test)
    assert "next-hint-sample_things" not in keys(test)
    assert [event.data["step"] for event in store.events("hint", toy.FIRST, "sample_things")] == [1, 2, 3]
    assert store.hints_opened(toy.FIRST, "double_it") == 0


def test_opened_hints_are_open_on_return(root: Path, store: Store) -> None:
    store.add("hint", toy.FIRST, "sample_things", step=2)
    shown = text(page())
    assert "quokka" in shown
    assert "wombat" in shown
    assert "numbat" not in shown


def test_the_solution_is_hidden_until_asked_for_and_asking_is_recorded(root: Path, store: Store) -> None:
    test = page()
    assert "secret_numbers" not in text(test)
    test = press(test, "solution-sample_things")
    assert "secret_numbers" in text(test)
    assert store.solution_shown(toy.FIRST, "sample_things")
    assert not store.solution_shown(toy.FIRST, "double_it")
    assert "return 2 * x" not in text(test)


def test_a_pass_opens_the_solution_and_shows_in_the_chip(root: Path, store: Store) -> None:
    store.add("attempt", toy.FIRST, "double_it", status="failed")
    assert "attempted" in text(page())
    store.add("attempt", toy.FIRST, "double_it", status="passed")
    test = page()
    assert "return 2 * x" in text(test)
    assert "solution-double_it" not in keys(test)
    assert "solution-sample_things" in keys(test)
    assert "passed" in "\n".join(entry.value for entry in test.markdown)
    assert not store.solution_shown(toy.FIRST, "double_it")


def test_a_known_mistake_shows_only_while_the_last_attempt_made_it(root: Path, store: Store) -> None:
    assert "bilby" not in text(page())
    store.add("attempt", toy.FIRST, "sample_things", status="failed", mistake=None)
    assert "bilby" not in text(page())
    store.add("attempt", toy.FIRST, "sample_things", status="failed", mistake="shared_randomness")
    assert "bilby" in text(page())
    store.add("attempt", toy.FIRST, "sample_things", status="passed", mistake=None)
    assert "bilby" not in text(page())


def test_the_stub_is_shown(root: Path) -> None:
    stubs = [entry.value for entry in page().code if "def sample_things" in entry.value]
    assert len(stubs) == 1
    assert "NotImplementedError" in stubs[0]


# --- predictions -------------------------------------------------------------------------------


def test_a_prediction_hides_its_figure_until_it_is_answered(root: Path, store: Store) -> None:
    test = page()
    assert "survivors_plot" not in charts(test)
    assert "open_plot" in charts(test)
    assert "platypus" not in text(test)
    assert "echidna" not in text(test)
    test.radio(key="answer-survivors").set_value("c")
    test.slider(key="confidence-survivors").set_value(80)
    test = press(test, "submit-survivors")
    assert "survivors_plot" in charts(test)
    assert "platypus" in text(test)
    assert "echidna" in text(test)
    assert "You said c. All five (80% sure): that is not what happened." in text(test)
    (made,) = store.predictions(toy.FIRST)
    assert (made.answer, made.confidence, made.correct, made.truth) == ("c", 0.8, False, "b")


def test_an_answer_is_kept_and_cannot_be_given_twice(root: Path, store: Store) -> None:
    store.add("prediction", toy.FIRST, "survivors", answer="b", confidence=0.6)  # in a notebook, not yet revealed
    test = page()
    assert "You said b. Two (60% sure): that is right." in text(test)
    assert "survivors_plot" in charts(test)
    assert "submit-survivors" not in keys(test)


def test_an_answer_from_a_notebook_is_judged_where_it_is_revealed_first(root: Path, store: Store) -> None:
    store.add_prediction(toy.FIRST, "survivors", "c", confidence=0.6)
    assert store.calibration().count == 0
    page()
    page()
    (made,) = store.predictions(toy.FIRST)
    assert (made.answer, made.confidence, made.correct, made.truth) == ("c", 0.6, False, "b")
    assert len(store.events("prediction")) == 2


def test_an_empty_answer_is_asked_for_again_and_not_recorded(root: Path, store: Store) -> None:
    test = press(page(), "submit-survivors")
    assert "Choose an answer first." in [entry.value for entry in test.warning]
    assert store.events("prediction") == []
    assert "echidna" not in text(test)


@pytest.mark.parametrize("key", ["skip-survivors", "show-survivors_plot"])
def test_a_prediction_may_be_skipped_and_stays_skipped(root: Path, store: Store, key: str) -> None:
    test = press(page(), key)
    assert "survivors_plot" in charts(test)
    assert "Shown without a prediction." in text(test)
    assert store.predictions(toy.FIRST) == []
    assert "survivors_plot" in charts(page())
    assert store.section_summary(toy.FIRST).skipped == {"survivors"}
    store.add("reset", toy.FIRST, "")
    assert "survivors_plot" not in charts(page())


def test_a_skip_in_a_notebook_is_seen_here_and_a_prediction_after_it_does_not_count(root: Path, store: Store) -> None:
    store.add_skip(toy.FIRST, "survivors")
    test = page()
    assert "Shown without a prediction." in text(test)
    assert "survivors_plot" in charts(test)
    store.add_prediction(toy.FIRST, "survivors", "b", confidence=0.9)
    shown = text(page())
    assert "Predicted after the answer was shown: it does not count." in shown
    assert "You said b. Two.  \n**What happened:** b. Two" in shown
    assert store.calibration().count == 0
    assert "None yet." in text(view("progress"))


@pytest.mark.parametrize(("answer", "verdict"), [(5.4, "that is right"), (3.0, "that is not what happened")])
def test_a_number_is_judged_within_its_tolerance(root: Path, store: Store, answer: float, verdict: str) -> None:
    test = page()
    test.number_input(key="answer-how_many").set_value(answer)
    test = press(test, "submit-how_many")
    assert f"You said {answer:g} (50% sure): {verdict}." in text(test)
    assert "All 5 of them." in text(test)
    assert store.predictions(toy.FIRST)[0].correct == (verdict == "that is right")


def test_a_number_that_cannot_be_is_refused_and_nothing_is_kept(root: Path, store: Store) -> None:
    test = page()
    test.number_input(key="answer-how_many").set_value(-1)
    test = press(test, "submit-how_many")
    assert "It cannot be -1.\n  Answer with a number, 0 or more." in text(test)
    assert not store.predictions(toy.FIRST)


def test_given_code_shows_what_it_printed(root: Path) -> None:
    test = page()
    assert "A manatee,\non two lines." in [entry.value for entry in test.code]
    assert "It prints:" in text(test)
    assert "tapir" not in text(test)


@pytest.mark.parametrize("key", ["skip-survivors", "submit-survivors"])
def test_what_would_answer_a_prediction_is_not_printed_before(root: Path, store: Store, key: str) -> None:
    test = page()
    told = "Takes about 10 seconds on two cores. [Answer the prediction above](#survivors) to see what it prints."
    assert told in text(test)
    assert "dugong" not in text(test)
    test.radio(key="answer-survivors").set_value("b")
    test = press(test, key)
    assert "Takes about 10 seconds on two cores. It prints:" in text(test)
    assert "A dugong: two survive." in [entry.value for entry in test.code]


# --- claims, search, progress ------------------------------------------------------------------


def test_a_claim_shows_its_verdict_and_evidence(root: Path) -> None:
    shown = text(page())
    assert "replicated" in shown
    assert (
        "Measured: `loss = 0.0123` (under [A figure that nothing hides](#a-figure-that-nothing-hides)); "
        "`stored = 5` (under [Sparse features](#sparse-features)). "
        "Replicated if `stored >= 5 and loss < 0.1`, partly if `stored >= 3`." in shown
    )
    FIRST.values.write_text(
        '{"stored": {"value": 4, "within": 0}, "loss": {"value": 0.01, "within": 0}}', encoding="utf-8"
    )
    assert "partly replicated" in text(page())


def test_search_reads_its_query_from_the_address(root: Path) -> None:
    shown = text(view("search", q="zebra"))
    assert 'href="ch1-first-light#sample_things"' in shown
    assert "<mark>zebra</mark>" in shown
    assert "No passage found." in text(view("search", q="quokka"))
    assert "<b>" not in text(view("search", q="<b>bold</b>"))


def test_progress_shows_states_and_calibration(root: Path, store: Store) -> None:
    assert "None yet." in text(view("progress"))
    store.add("attempt", toy.FIRST, "double_it", status="passed")
    store.add("prediction", toy.FIRST, "survivors", answer="b", confidence=0.75, correct=True, truth="b")
    test = view("progress")
    assert "| [`double_it`](ch1-first-light#double_it) | passed | 1 |" in text(test)
    assert "on average 75% sure, and were right in 100% of them" in text(test)
    assert "1 of 2 exercises passed" in str(test.get("progress")[0].proto)
    store.add_solution(toy.FIRST, "sample_things")
    assert "| not started, solution shown | 0 |" in text(view("progress"))
    assert "Not counted" not in text(test)
    store.add_skip(toy.FIRST, "how_many")
    assert "Not counted: 1 shown without a prediction." in text(view("progress"))
    assert "calibration" in charts(test)


def test_home_counts_what_is_passed(root: Path, store: Store) -> None:
    store.add("attempt", toy.SECOND, "halve_it", status="passed")
    assert "You have passed 1 of 3" in str(view("home").get("progress")[0].proto)


# --- the lab -----------------------------------------------------------------------------------


def test_the_lab_trains_with_the_sections_code_and_says_what_is_seen(root: Path) -> None:
    test = page(toy.SECOND)
    assert "5 of 5 features stored" in text(test)
    assert all(f"toy-lab-{name}" in charts(test) for name in ("features", "gram", "norms", "loss"))


def test_the_lab_takes_its_settings_from_the_address_and_writes_them_back(root: Path) -> None:
    test = page(toy.SECOND, n="8", m="3", p="0.1", seed="4")
    assert (test.slider(key="toy-lab-n").value, test.slider(key="toy-lab-m").value) == (8, 3)
    assert test.select_slider(key="toy-lab-p").value == 0.1
    assert "of 8 features stored" in text(test)
    test = healthy(test.slider(key="toy-lab-n").set_value(6).run())
    assert test.query_params["n"] in ("6", ["6"])
    assert test.query_params["seed"] in ("4", ["4"])
    assert "of 6 features stored" in text(test)


def test_bad_settings_are_brought_into_limits_with_a_notice(root: Path) -> None:
    test = page(toy.SECOND, n="999", m="x", p="-1")
    assert (test.slider(key="toy-lab-n").value, test.slider(key="toy-lab-m").value) == (20, 2)
    notices = [entry.value for entry in test.warning]
    assert len(notices) == 3
    assert test.query_params["n"] in ("20", ["20"])
    test = healthy(test.slider(key="toy-lab-m").set_value(4).run())
    assert not test.warning
    assert "toy-lab-features" not in charts(test)


def test_a_lab_without_its_code_is_a_box(root: Path) -> None:
    source = SECOND.source.read_text(encoding="utf-8")
    SECOND.source.write_text(source.replace("```{lab} toy_models", "```{lab} no_such_lab"), encoding="utf-8")
    test = page(toy.SECOND)
    assert "This lab cannot be shown." in [entry.value for entry in test.error]
    assert "no lab called 'no_such_lab'" in text(test)


def test_a_course_without_sections_still_has_a_home(root: Path) -> None:
    shutil.rmtree(root / "chapters")
    assert "No section is written yet." in text(view("home"))
