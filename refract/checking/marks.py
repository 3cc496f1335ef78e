"""Marks on a checker: what it is called, and which known mistake it catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def mistake(name: str) -> Callable[[Any], Any]:
    """When this test fails on a value, the answer has made the section's mistake ``name``.

    It does not apply where the test failed for a plainer reason: an exception in the answer, a wrong type,
    shape or dtype, NaN. For those the test's own message is shown.
    """
    return pytest.mark.refract_mistake(name)


def title(text: str) -> Callable[[Any], Any]:
    """What the learner reads in place of the test's name. Without it, the docstring's first line is taken."""
    return pytest.mark.refract_title(text)


def title_of(item: pytest.Item) -> str:
    """The title of a test: ``@title``, else its docstring's first line, else its name in words."""
    function = getattr(item, "function", None)
    mark = item.get_closest_marker("refract_title")
    if mark is not None:
        text = str(mark.args[0])
    elif function is not None and function.__doc__:
        text = function.__doc__.strip().splitlines()[0].rstrip(".")
    else:
        text = item.name.split("[")[0].removeprefix("test_").replace("_", " ").capitalize()
    callspec = getattr(item, "callspec", None)
    return f"{text} [{callspec.id}]" if callspec is not None else text


def mistake_of(item: pytest.Item) -> str | None:
    """The mistake that a test catches, if it is marked with one."""
    mark = item.get_closest_marker("refract_mistake")
    return None if mark is None else str(mark.args[0])
