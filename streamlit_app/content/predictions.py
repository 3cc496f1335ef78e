"""What a prediction keeps hidden. How an answer is judged is the notebook's business too: see ``refract.session``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from refract import session
from refract.authoring.model import Figure, Predict
from refract.authoring.values import Recorded
from refract.errors import RefractError
from streamlit_app.content.document import Box, Item


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


def spoilt_by_printing(items: Sequence[Item], place: int, settled: Collection[str]) -> str | None:
    """The open question that the output of the code at ``place`` may answer: asked above it, its figure still below."""
    asked = [item.block.name for item in items[:place] if isinstance(item, Box) and isinstance(item.block, Predict)]
    awaited = {item.block.after for item in items[place:] if isinstance(item, Box) and isinstance(item.block, Figure)}
    return next((name for name in reversed(asked) if name in awaited and name not in settled), None)
