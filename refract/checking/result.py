"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED, NOT_ATTEMPTED, STOPPED = "passed", "failed", "not attempted", "stopped"
UNTOUCHED = "Not attempted yet."  # the message where every test met the stub
CHANGES_INPUT = "changes_input"  # the mistake that the machinery itself names, in every exercise


@dataclass(frozen=True)
class TestOutcome:
    """One test. ``status`` is passed, failed, not attempted, stopped, skipped or "not run"."""

    __test__ = False  # pytest: not a test class

    name: str
    title: str
    status: str
    message: str = ""


@dataclass(frozen=True)
class CheckResult:
    """One answer, judged.

    ``status`` is ``"passed"``, ``"failed"``, ``"not attempted"`` (the stub still raises) or ``"stopped"`` (the
    answer could not be judged to the end: it never returned, ended the process, could not be handed over).
    ``message`` is for the learner; where a known ``mistake`` was made, its text comes first. A mistake is one of
    the section's, or ``CHANGES_INPUT``.
    """

    section: str
    exercise: str
    status: str
    tests: tuple[TestOutcome, ...] = ()
    message: str = ""
    mistake: str | None = None
    seconds: float = 0.0
    output: str = ""
    traceback: str = ""

    @property
    def passed(self) -> bool:
        return self.status == PASSED

    @property
    def failing(self) -> tuple[TestOutcome, ...]:
        """The tests that failed or were stopped."""
        return tuple(test for test in self.tests if test.status in (FAILED, STOPPED))

    @property
    def count(self) -> tuple[int, int]:
        """How many tests passed, of how many."""
        counted = [test for test in self.tests if test.status != "skipped"]
        return sum(test.status == PASSED for test in counted), len(counted)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self) | {"tests": [asdict(test) for test in self.tests]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CheckResult:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**data, "tests": tuple(TestOutcome(**test) for test in data["tests"])})

    def __repr__(self) -> str:
        from refract.checking.display import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from refract.checking.display import as_html

        return as_html(self)
