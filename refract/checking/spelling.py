"""Misspelt names: which name was meant, and which function has an exercise's name but for a slip."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_NEAR = 0.75  # of difflib's ratio: "nrom" is near "norm", "name" is not
_SLIP = 0.8  # stricter: a function of another name may well be another function


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be. Case and underscores count for little: ``w`` is ``W``."""
    folded: dict[str, str] = {}
    for each in known:
        if each != name:
            folded.setdefault(_fold(each), each)
    found = difflib.get_close_matches(_fold(name), folded, 1, cutoff=_NEAR)
    return folded[found[0]] if found else None


def slip_for(exercise: str, defined: Iterable[str]) -> str | None:
    """The defined name that was probably meant to be the exercise's, and is not."""
    due = _fold(exercise)
    for name in defined:
        came = _fold(name)
        close = abs(len(due) - len(came)) <= 2 and difflib.SequenceMatcher(None, due, came).ratio() >= _SLIP
        if name != exercise and close:
            return name
    return None


def _fold(name: str) -> str:
    return name.replace("_", "").casefold()
