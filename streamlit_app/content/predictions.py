"""What a prediction keeps hidden. How an answer is judged is the notebook's business too: see ``refract.session``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from refract import session
from refract.authoring.model import Figure, Predict
from refract.authoring.values import Recorded
from refract.errors import RefractError


def truth(question: Predict, recorded: Mapping[str, Recorded]) -> str | float:
    """What happened: a letter or a number.

    Raises:
        RefractError: it is to be read from a value that nothing recorded, or one of the wrong kind.
    """
    try:
        right = session.truth(question, dict(recorded))
        return session.parse_answer(question, right)
    except RefractError as error:
        raise RefractError(
            f"The prediction {question.name!r} is judged by {question.answer!r}: {error.problem}",
            "Record that value in a code cell, record(name, value, within=…), and run `python -m refract build`.",
        ) from error


def hides(figure: Figure, settled: Collection[str]) -> bool:
    """Whether a figure would give away a question that is neither answered nor skipped."""
    return figure.after is not None and figure.after not in settled
