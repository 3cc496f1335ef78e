"""What the events add up to: pure functions from a list of events to states, predictions and a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from refract.progress.events import Event

# From worst to best. "new" is an exercise that no check has seen.
STATUSES = ("new", "not attempted", "stopped", "failed", "passed")


@dataclass(frozen=True)
class ExerciseState:
    """Where the learner stands with one exercise, since its last reset."""

    section: str
    name: str
    status: str = "new"  # the best so far, one of STATUSES
    attempts: int = 0  # checks of something written; an untouched stub does not count
    hints_opened: int = 0  # the furthest step
    solution_shown: bool = False
    passed_at: datetime | None = None  # the first time
    without_solution: bool = False  # passed before any look at the solution
    last_status: str | None = None
    last_message: str | None = None
    last_mistake: str | None = None
    last_at: datetime | None = None  # of any event

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Prediction:
    """The learner's first answer to one question; what they answer after the reveal does not count."""

    section: str
    name: str
    time: datetime
    answer: Any
    confidence: float | None  # a probability, in [0, 1]
    correct: bool | None  # None until it is revealed
    truth: Any = None
    late: bool = False  # made after the answer was shown without a prediction: kept, but it does not count

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class SectionSummary:
    """One section in numbers."""

    section: str
    exercises: dict[str, ExerciseState] = field(repr=False)
    predictions: list[Prediction] = field(repr=False)
    last_activity: datetime | None
    skipped: frozenset[str] = frozenset()  # the questions whose answer was shown before any prediction

    @property
    def total(self) -> int:
        return len(self.exercises)

    @property
    def passed(self) -> int:
        return sum(state.passed for state in self.exercises.values())

    @property
    def attempted(self) -> int:
        return sum(state.attempts > 0 for state in self.exercises.values())

    @property
    def next(self) -> str | None:
        """The first exercise that is not passed yet."""
        return next((state.name for state in self.exercises.values() if not state.passed), None)


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose confidence lies in ``[low, high)``; the last bin holds 1 as well."""

    low: float
    high: float
    count: int
    mean_confidence: float | None  # None in an empty bin
    share_correct: float | None


@dataclass(frozen=True)
class Calibration:
    """How well confidence matched success. A calibrated learner's ``share_correct`` equals ``mean_confidence``."""

    bins: list[CalibrationBin]
    count: int
    mean_confidence: float | None
    share_correct: float | None
    brier: float | None  # mean squared difference of confidence and outcome; 0.25 for always saying one half

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def since_reset(events: Iterable[Event]) -> list[Event]:
    """The events in order, without the resets and without what came before a reset of their section or exercise."""
    ordered = sorted(events, key=lambda event: (event.time, event.id))
    kept: list[Event] = []
    for event in ordered:
        if event.kind != "reset":
            kept.append(event)
        else:
            kept = [old for old in kept if old.section != event.section or event.name not in ("", old.name)]
    return kept


def exercise_states(events: Iterable[Event], section: str, names: Iterable[str] = ()) -> dict[str, ExerciseState]:
    """The state of every exercise in ``names``, in that order, then of any other that has events."""
    by_name: dict[str, list[Event]] = {name: [] for name in names}
    for event in since_reset(events):
        if event.section == section and event.kind in ("attempt", "hint", "solution"):
            by_name.setdefault(event.name, []).append(event)
    return {name: _state(section, name, own) for name, own in by_name.items()}


def _state(section: str, name: str, events: Sequence[Event]) -> ExerciseState:
    tries = [event for event in events if event.kind == "attempt"]
    statuses = [_status(event) for event in tries]
    passed_at = next((event.time for event, status in zip(tries, statuses, strict=True) if status == "passed"), None)
    solution_at = next((event.time for event in events if event.kind == "solution"), None)
    steps = [step for event in events if event.kind == "hint" and isinstance(step := event.data.get("step"), int)]
    last = tries[-1].data if tries else {}
    return ExerciseState(
        section=section,
        name=name,
        status=max(statuses, key=STATUSES.index, default="new"),
        attempts=sum(status not in ("new", "not attempted") for status in statuses),
        hints_opened=max(steps, default=0),
        solution_shown=solution_at is not None,
        passed_at=passed_at,
        without_solution=passed_at is not None and (solution_at is None or passed_at < solution_at),
        last_status=statuses[-1] if statuses else None,
        last_message=last.get("message"),
        last_mistake=last.get("mistake"),
        last_at=events[-1].time if events else None,
    )


def _status(event: Event) -> str:
    status = event.data.get("status")
    return status if status in STATUSES else "failed"  # a status of some later version counts as not passed


def predictions(events: Iterable[Event], section: str | None = None) -> list[Prediction]:
    """The first answer to each question since the last reset, in the order of answering.

    A question may be answered first and judged later: whether it was right, and the truth, come from the first
    event that has them and repeats the first answer. An answer after a skip is ``late``.
    """
    found = []
    for (where, name), events_of_it in _by_question(events, section).items():
        own = [event for event in events_of_it if event.kind == "prediction"]
        if not own:
            continue
        first, late = own[0], events_of_it[0].kind == "skip"
        answer = first.data.get("answer")
        judged = next((e.data for e in own if e.data.get("correct") is not None and e.data.get("answer") == answer), {})
        sure, right, truth = first.data.get("confidence"), judged.get("correct"), judged.get("truth")
        found.append(Prediction(where, name, first.time, answer, sure, right, truth, late))
    return sorted(found, key=lambda prediction: prediction.time)


def skipped(events: Iterable[Event], section: str | None = None) -> frozenset[tuple[str, str]]:
    """The questions, as ``(section, name)``, whose answer was shown before any prediction, since the last reset."""
    return frozenset(place for place, own in _by_question(events, section).items() if own[0].kind == "skip")


def _by_question(events: Iterable[Event], section: str | None) -> dict[tuple[str, str], list[Event]]:
    """Predictions and skips since the last reset, in order, by section and question."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in since_reset(events):
        if event.kind in ("prediction", "skip") and section in (None, event.section):
            found.setdefault((event.section, event.name), []).append(event)
    return found


def calibration(answers: Iterable[Prediction], bins: int = 5) -> Calibration:
    """Confidences in ``bins`` bins of equal width over ``[0, 1]``, with the share that was right in each.

    Predictions without a confidence, not yet judged, or made after the answer was shown are left out.
    """
    pairs = [
        (answer.confidence, bool(answer.correct))
        for answer in answers
        if answer.confidence is not None and answer.correct is not None and not answer.late
    ]
    # Rounded before the floor: 0.6 * 5 must not land in the bin below because of binary fractions.
    places = [min(int(round(confidence * bins, 9)), bins - 1) for confidence, _ in pairs]
    rows = []
    for index in range(bins):
        own = [pair for pair, place in zip(pairs, places, strict=True) if place == index]
        mean, share = _means(own)
        rows.append(CalibrationBin(index / bins, (index + 1) / bins, len(own), mean, share))
    mean, share = _means(pairs)
    brier = sum((confidence - right) ** 2 for confidence, right in pairs) / len(pairs) if pairs else None
    return Calibration(rows, len(pairs), mean, share, brier)


def _means(pairs: Sequence[tuple[float, bool]]) -> tuple[float | None, float | None]:
    if not pairs:
        return None, None
    return sum(confidence for confidence, _ in pairs) / len(pairs), sum(right for _, right in pairs) / len(pairs)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
