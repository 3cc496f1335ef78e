"""Marks on a checker: what it is called, which known mistake it catches, which inputs an answer may change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

_LONGEST = 60  # letters of a case


def mistake(name: str) -> Callable[[Any], Any]:
    """When this test fails on a value, the answer has made the section's mistake ``name``.

    It does not apply where the test failed for a plainer reason: an exception in the answer, a wrong type,
    shape or dtype, NaN. For those the test's own message is shown.
    """
    return pytest.mark.refract_mistake(name)


def title(text: str) -> Callable[[Any], Any]:
    """What the learner reads in place of the test's name. Without it, the docstring's first line is taken."""
    return pytest.mark.refract_title(text)


def may_change(*names: str, exercise: str | None = None) -> Any:
    """In this test an answer may change the arguments ``names`` in place; every other change of an input fails.

    For an exercise whose job it is, say so once for the whole test file:
    ``pytestmark = may_change("W", exercise="normalise_decoder")``.
    """
    return pytest.mark.refract_may_change(*names, exercise=exercise)


def title_of(item: pytest.Item) -> str:
    """The title of a test: ``@title``, else its docstring's first line, else its name in words.

    A parametrised test has its case behind it: ``[shape = (3, 4)]``, or the id that it was given.
    """
    function = getattr(item, "function", None)
    mark = item.get_closest_marker("refract_title")
    if mark is not None:
        text = str(mark.args[0])
    elif function is not None and function.__doc__:
        text = function.__doc__.strip().splitlines()[0].rstrip(".")
    else:
        text = item.name.split("[")[0].removeprefix("test_").replace("_", " ").capitalize()
    callspec = getattr(item, "callspec", None)
    case = "" if callspec is None else _case(callspec.id, callspec.params)
    return f"{text} [{case}]" if case else text


def _case(own: str, params: Mapping[str, Any]) -> str:
    """A case in words. An id that pytest made up for an object ("shape0") says nothing, so it is left off."""
    if not re.fullmatch("-".join(f"(?:{_automatic(name, value)})" for name, value in params.items()), own):
        return own  # somebody chose it
    words = {name: _words(value) for name, value in params.items()}
    return ", ".join(f"{name} = {text}" for name, text in words.items() if text)


def _automatic(name: str, value: Any) -> str:
    """A pattern of the ids that pytest makes up."""
    made = getattr(value, "__name__", value if isinstance(value, str | int | float | complex | None) else None)
    return f"{re.escape(name)}\\d+|{re.escape(str(made))}"


def _words(value: Any) -> str:
    """A value as a learner would write it, or nothing for an object that has no short form."""
    if isinstance(value, tuple | list):
        parts = [_words(each) for each in value]
        inside = ", ".join(parts) + ("," if len(parts) == 1 and isinstance(value, tuple) else "")
        text = f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
        return text if all(parts) and len(text) <= _LONGEST else ""
    if value is None or isinstance(value, str | int | float | complex):
        return str(value)[:_LONGEST]
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "device"):
        return str(value).removeprefix("torch.")
    return str(getattr(value, "__name__", ""))


def mistake_of(item: pytest.Item) -> str | None:
    """The mistake that a test catches, if it is marked with one."""
    mark = item.get_closest_marker("refract_mistake")
    return None if mark is None else str(mark.args[0])
