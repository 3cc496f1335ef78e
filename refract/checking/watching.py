"""Notice an answer that changes what it was given: tensors and arrays are compared before and after each call.

Looked at are tensors and numpy arrays among the arguments, in lists, tuples and dictionaries too. Modules,
optimizers and ``nn.Parameter`` are not: they are handed over to be changed. ``@may_change`` exempts an argument.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from refract.checking.expect import changed_input, differs
from refract.checking.packing import is_library_file

_DEEP, _LONG = 3, 1000  # how far lists and dictionaries are followed

Place = tuple[Any, ...]  # where an argument stands: its position or keyword, then indices into it


def allowed_by(item: pytest.Item, exercise: str) -> frozenset[str]:
    """The arguments that a test's ``@may_change`` marks let an exercise change."""
    marks = item.iter_markers("refract_may_change")
    return frozenset(name for mark in marks if mark.kwargs.get("exercise") in (None, exercise) for name in mark.args)


@contextlib.contextmanager
def watched(answer: Any, allowed: Collection[str] = ()) -> Iterator[Any]:
    """``answer``, watched: a call that changes an argument not in ``allowed`` fails with the mistake's name.

    A function is wrapped. A class is the same class, its methods wrapped until the end of the ``with`` block.
    """
    if isinstance(answer, type):
        with _watched_methods(answer, allowed):
            yield answer
    elif callable(answer):
        yield _Watch(allowed).wrap(answer)
    else:
        yield answer


class _Watch:
    """Compares arguments at the outermost call: what an answer's own methods do to each other is its own affair."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed, self._inside = allowed, False

    def wrap(self, function: Callable[..., Any], first: int = 0) -> Callable[..., Any]:
        """The function, watched from its argument number ``first`` on (a method's ``self`` may change)."""

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            if self._inside:
                return function(*args, **options)
            before = _copies(args[first:], options, first)
            self._inside = True
            try:
                result = function(*args, **options)
            finally:
                self._inside = False
            for place, value, copy in before:
                if differs(copy, value):
                    name = _argument(function, place)
                    if name.partition("[")[0] not in self._allowed:
                        raise changed_input(name, copy, value)
            return result

        return call


@contextlib.contextmanager
def _watched_methods(cls: type, allowed: Collection[str]) -> Iterator[None]:
    watch, originals = _Watch(allowed), []
    for owner in cls.__mro__:
        for name, value in list(vars(owner).items()):
            function = value.__func__ if isinstance(value, staticmethod) else value
            special = name.startswith("__") and name not in ("__init__", "__call__")
            if (
                special
                or not isinstance(function, types.FunctionType)
                or is_library_file(function.__code__.co_filename)
            ):
                continue
            static = isinstance(value, staticmethod)
            originals.append((owner, name, value))
            setattr(owner, name, staticmethod(watch.wrap(function)) if static else watch.wrap(function, first=1))
    try:
        yield
    finally:
        for owner, name, value in originals:
            setattr(owner, name, value)


def _copies(args: tuple[Any, ...], options: dict[str, Any], first: int) -> list[tuple[Place, Any, Any]]:
    found: list[tuple[Place, Any, Any]] = []
    for key, value in [*enumerate(args, first), *options.items()]:
        for place, each in _arrays(value, (key,)):
            with contextlib.suppress(Exception):  # a tensor that cannot be copied (a transform's, say) is let be
                found.append((place, each, each.detach().clone() if isinstance(each, torch.Tensor) else each.copy()))
    return found


def _arrays(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, torch.Tensor):
        if not isinstance(value, torch.nn.Parameter):
            yield place, value
    elif isinstance(value, np.ndarray):
        yield place, value
    elif isinstance(value, list | tuple | dict) and len(place) <= _DEEP and len(value) <= _LONG:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _arrays(each, (*place, key))


def _argument(function: Callable[..., Any], place: Place) -> str:
    """What the learner calls an argument: ``x``, or ``rows[2]``."""
    key, inside = place[0], list(place[1:])
    name = str(key) if isinstance(key, str) else f"argument {key + 1}"
    with contextlib.suppress(TypeError, ValueError):
        parameters = list(inspect.signature(function).parameters.values())
        if isinstance(key, int):
            starred = next(
                (i for i, each in enumerate(parameters) if each.kind is each.VAR_POSITIONAL), len(parameters)
            )
            name = parameters[min(key, starred)].name
            inside = [key - starred, *inside] if key >= starred else inside
    return name + "".join(f"[{index!r}]" for index in inside)
