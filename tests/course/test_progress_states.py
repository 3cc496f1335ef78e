"""What events add up to: states of exercises, first predictions, calibration."""

from __future__ import annotations

import pytest

from refract.errors import RefractError
from refract.progress import calibration, open_store
from refract.progress.states import Prediction

SECTION = "ch1_demo/s1_demo"


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "progress.db")


def attempt(store, name, status, section=SECTION, **more):
    outcomes = [{"name": "test_a", "status": "passed"}, {"name": "test_b", "status": status}]
    outcomes.append({"name": "test_c", "status": "skipped"})
    return store.add_attempt({"section": section, "exercise": name, "status": status, "tests": outcomes, **more})


def test_an_untouched_exercise_is_new(store):
    state = store.state(SECTION, "encode")
    assert (state.status, state.attempts, state.hints_opened) == ("new", 0, 0)
    assert (state.passed, state.without_solution, state.solution_shown) == (False, False, False)
    assert state.passed_at is state.last_message is state.last_at is None


def test_the_best_status_counts_and_the_last_message_shows(store):
    attempt(store, "encode", "not attempted")
    attempt(store, "encode", "failed", message="off by one", mistake="off_by_one")
    first = attempt(store, "encode", "passed")
    attempt(store, "encode", "passed")
    attempt(store, "encode", "failed", message="broke it again")
    state = store.state(SECTION, "encode")
    assert (state.status, state.attempts) == ("passed", 4)
    assert (state.last_status, state.last_message, state.last_mistake) == ("failed", "broke it again", None)
    assert state.passed_at == next(event.time for event in store.events() if event.id == first)
    assert state.last_at == store.last_activity()


def test_an_attempt_keeps_how_many_tests_passed(store):
    attempt(store, "encode", "failed", seconds=0.5)
    data = store.events()[0].data
    assert (data["passed"], data["total"], data["seconds"], data["via"]) == (1, 2, 0.5, "notebook")


def test_a_long_message_is_cut(store):
    attempt(store, "encode", "failed", message="x" * 3_000_000)
    assert len(store.state(SECTION, "encode").last_message or "") == 20_000


def test_code_is_kept_whole_or_not_at_all(store):
    result = {"section": SECTION, "exercise": "a", "status": "passed", "tests": []}
    store.add_attempt(result, source="x" * 200_000)
    store.add_attempt(result, source="y" * 3_000_000)
    assert store.last_source(SECTION, "a") == "x" * 200_000


def test_stopped_is_better_than_nothing_and_worse_than_failed(store):
    attempt(store, "encode", "stopped")
    attempt(store, "encode", "not attempted")
    assert store.state(SECTION, "encode").status == "stopped"
    attempt(store, "encode", "failed")
    assert store.state(SECTION, "encode").status == "failed"


def test_an_unknown_status_is_not_a_pass(store):
    attempt(store, "encode", "marvellous")
    assert store.state(SECTION, "encode").status == "failed"


def test_hints_count_by_the_furthest_step(store):
    for step in (1, 2, 1):
        store.add_hint(SECTION, "encode", step)
    assert store.hints_opened(SECTION, "encode") == 2
    with pytest.raises(RefractError):
        store.add_hint(SECTION, "encode", 0)


def test_without_solution_means_passed_before_the_solution_was_seen(store):
    attempt(store, "own", "passed")
    store.add_solution(SECTION, "own")
    store.add_solution(SECTION, "shown")
    attempt(store, "shown", "passed")
    assert store.state(SECTION, "own").without_solution
    assert not store.state(SECTION, "shown").without_solution
    assert store.solution_shown(SECTION, "own")
    assert store.solution_shown(SECTION, "shown")


def test_summary_lists_the_named_first_and_keeps_sections_apart(store):
    attempt(store, "old_name", "passed")
    attempt(store, "b", "failed")
    attempt(store, "a", "passed", section="ch2_other/s1_other")
    summary = store.section_summary(SECTION, ["a", "b"])
    assert list(summary.exercises) == ["a", "b", "old_name"]
    assert [state.status for state in summary.exercises.values()] == ["new", "failed", "passed"]
    assert (summary.total, summary.passed, summary.attempted, summary.next) == (3, 1, 2, "a")
    assert summary.exercises["b"].to_dict()["last_at"] == summary.exercises["b"].last_at.isoformat()


def test_reset_starts_afresh_and_keeps_the_history(store):
    attempt(store, "a", "passed")
    attempt(store, "b", "passed")
    attempt(store, "a", "passed", section="ch2_other/s1_other")
    store.add_hint(SECTION, "a", 2)
    store.add_prediction(SECTION, "q", "a", confidence=0.5, correct=True)
    store.reset(SECTION, "a")
    assert store.state(SECTION, "a").status == "new"
    assert store.state(SECTION, "a").hints_opened == 0
    assert store.state(SECTION, "b").passed
    store.reset(SECTION)
    attempt(store, "a", "failed")
    assert {name: state.status for name, state in store.summary(SECTION).items()} == {"a": "failed"}
    assert store.predictions() == []
    assert store.state("ch2_other/s1_other", "a").passed
    assert len(store.events("attempt")) == 4


def test_last_source_is_that_of_the_last_pass(store):
    assert store.last_source(SECTION, "a") is None
    result = {"section": SECTION, "exercise": "a", "tests": []}
    for status, source in (("passed", "one"), ("passed", "two"), ("failed", "three"), ("passed", None)):
        store.add_attempt({**result, "status": status}, source=source)
    assert store.last_source(SECTION, "a") == "two"


def test_the_first_prediction_counts(store):
    store.add_prediction(SECTION, "q", "b", confidence=0.9, correct=False, truth="a")
    store.add_prediction(SECTION, "q", "a", confidence=1.0, correct=True, truth="a")
    [prediction] = store.predictions(SECTION)
    assert (prediction.answer, prediction.confidence, prediction.correct, prediction.truth) == ("b", 0.9, False, "a")


def test_a_prediction_may_be_judged_later(store):
    store.add_prediction(SECTION, "q", 3, confidence=0.6)
    assert store.predictions()[0].correct is None
    store.add_prediction(SECTION, "q", 4, confidence=0.6, correct=True, truth=4)
    assert store.predictions()[0].correct is None  # another answer
    store.add_prediction(SECTION, "q", 3, correct=False, truth=4)
    [prediction] = store.predictions()
    assert (prediction.answer, prediction.confidence, prediction.correct, prediction.truth) == (3, 0.6, False, 4)


def test_a_prediction_after_a_skip_is_late_and_one_before_it_is_not(store):
    store.add_skip(SECTION, "late")
    store.add_skip(SECTION, "never")
    store.add_prediction(SECTION, "early", "a", confidence=0.5, correct=True)
    store.add_prediction(SECTION, "late", "a", confidence=0.5, correct=True)
    store.add_skip(SECTION, "early", via="site")
    store.add_skip("ch2_other/s1_other", "early")
    assert [(made.name, made.late) for made in store.predictions()] == [("early", False), ("late", True)]
    assert store.calibration().count == 1
    assert store.section_summary(SECTION).skipped == {"late", "never"}
    assert store.predictions()[1].to_dict()["late"] is True
    store.reset(SECTION, "late")
    assert store.section_summary(SECTION).skipped == {"never"}
    store.add_prediction(SECTION, "late", "b")
    assert not store.predictions()[1].late


@pytest.mark.parametrize("confidence", [-0.1, 1.01, 70, float("nan")])
def test_a_confidence_is_a_probability(store, confidence):
    with pytest.raises(RefractError, match="probability"):
        store.add_prediction(SECTION, "q", 3, confidence=confidence)


def answers(*pairs):
    from datetime import UTC, datetime

    return [Prediction("s", str(n), datetime.now(UTC), "a", *pair) for n, pair in enumerate(pairs)]


def test_calibration_by_hand():
    found = calibration(answers((0.6, True), (0.7, False), (0.0, False), (1.0, True), (None, True), (0.5, None)))
    assert [row.count for row in found.bins] == [1, 0, 0, 2, 1]
    assert found.bins[1].mean_confidence is None
    assert found.bins[3].mean_confidence == pytest.approx(0.65)
    assert found.bins[3].share_correct == 0.5
    assert (found.bins[0].low, found.bins[4].high) == (0.0, 1.0)
    assert (found.count, found.share_correct) == (4, 0.5)
    assert found.mean_confidence == pytest.approx(0.575)
    assert found.brier == pytest.approx((0.16 + 0.49 + 0 + 0) / 4)


@pytest.mark.parametrize("bins", [2, 5, 100])
def test_an_edge_belongs_to_the_bin_above(bins):
    for place in range(bins):
        rows = calibration(answers((place / bins, True)), bins).bins
        assert [row.count for row in rows] == [int(index == place) for index in range(bins)]


def test_calibration_of_nothing(store):
    found = store.calibration()
    assert (found.count, found.brier, found.mean_confidence) == (0, None, None)
    assert all(row.share_correct is None for row in found.bins)
