"""What a section's source says, as plain data: the builder, the site and the checkers read only this."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from refract.paths import SectionPaths


@dataclass(frozen=True)
class Prose:
    """A run of Markdown between directives. May hold ``{value}`` roles."""

    text: str
    line: int


@dataclass(frozen=True)
class Code:
    """Given code: a ``python`` fence, run in order by the notebook."""

    source: str
    line: int


@dataclass(frozen=True)
class Mistake:
    """A known wrong turn: what was seen in the answer. Tests name it by ``name``."""

    name: str
    text: str
    line: int


@dataclass(frozen=True)
class Exercise:
    """One symbol of the reference module, to be written by the learner."""

    name: str
    difficulty: int  # 1 to 5
    importance: int  # 1 to 5
    minutes: int
    text: str
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    line: int

    def mistake(self, name: str) -> Mistake | None:
        return next((mistake for mistake in self.mistakes if mistake.name == name), None)


@dataclass(frozen=True)
class Predict:
    """A question to answer before a figure.

    ``kind`` is ``"choice"`` or ``"number"``. ``answer`` is a letter (choice), a number, or the name of a
    recorded value. ``options`` are the choices' texts, lettered a, b, c, … in order. ``reveal`` is the
    explanation that is shown after the learner has answered. A number below ``least`` or above ``most`` is
    no answer to the question.
    """

    name: str
    kind: str
    question: str
    options: tuple[str, ...]
    answer: str
    tolerance: float
    reveal: str
    line: int
    least: float = -math.inf
    most: float = math.inf


@dataclass(frozen=True)
class Figure:
    """A figure saved by the worked notebook. ``after`` names the prediction it would give away."""

    name: str
    caption: str
    alt: str
    after: str | None
    line: int


@dataclass(frozen=True)
class Claim:
    """A statement, its source, and the conditions on recorded values that replicate it, wholly or partly."""

    name: str
    statement: str
    source: str
    replicated: str
    partly: str | None
    line: int


@dataclass(frozen=True)
class Lab:
    """An interactive on the site (``streamlit_app/labs/<name>.py``)."""

    name: str
    text: str
    line: int


@dataclass(frozen=True)
class Aside:
    """A "why", to fold away."""

    title: str
    text: str
    line: int


@dataclass(frozen=True)
class Bonus:
    """An open problem."""

    title: str
    text: str
    line: int


Block = Prose | Code | Exercise | Predict | Figure | Claim | Lab | Aside | Bonus


@dataclass(frozen=True)
class Section:
    """One section, parsed."""

    paths: SectionPaths
    title: str
    blocks: tuple[Block, ...] = field(repr=False)

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Exercise))

    @property
    def predictions(self) -> tuple[Predict, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Predict))

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Figure))

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Claim))

    @property
    def minutes(self) -> int:
        """Minutes of exercises alone, as their boxes say."""
        return sum(exercise.minutes for exercise in self.exercises)

    def exercise(self, name: str) -> Exercise | None:
        return next((exercise for exercise in self.exercises if exercise.name == name), None)
