"""What a checker says when an answer is wrong: words first, then the numbers.

Each function raises :class:`CheckFailure` with a message that says what was expected, what came, and on which
input. Anything may come from an answer, so each takes any object and meets it with a plain sentence.
``given`` describes the input, to be read after "for": ``given="p = 0.1"``.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refract.checking import guard

_FULL = 24  # tensors with at most this many entries are printed in full


class CheckFailure(AssertionError):
    """The answer is wrong, and this says how. ``mistake`` names a known mistake of the section."""

    def __init__(self, message: str, mistake: str | None = None) -> None:
        super().__init__(message)
        self.mistake = mistake


class Malformed(CheckFailure):
    """The answer is not even of the right kind (type, shape, dtype, NaN), so no mistake can be read from it."""


def expect(condition: Any, message: str, mistake: str | None = None) -> None:
    """Fail with ``message`` unless ``condition`` holds. A one-element tensor will do."""
    if isinstance(condition, Tensor | np.ndarray) and np.prod(condition.shape) != 1:
        raise TypeError("expect() takes one truth value: say .all() or .any()")
    if not bool(condition):
        raise CheckFailure(message, mistake)


def expect_type(actual: Any, kind: type | tuple[type, ...], what: str = "the result", given: str | None = None) -> Any:
    """``actual`` is of type ``kind``; it is returned."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(actual, kinds) or (isinstance(actual, bool) and bool not in kinds):
        names = [_type_name(each) for each in kinds]
        raise Malformed(
            f"{_upper(what)} should be {_article(' or '.join(names))}{_for(given)}; it is {describe(actual)}."
        )
    return actual


def expect_tensor(
    actual: Any,
    what: str = "the result",
    given: str | None = None,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    finite: bool = True,
) -> Tensor:
    """``actual`` is a tensor, of this shape and dtype if given, without NaN or infinity; it is returned."""
    if not isinstance(actual, Tensor):
        raise Malformed(f"{_upper(what)} should be a tensor{_for(given)}; it is {describe(actual)}.")
    if shape is not None:
        expect_shape(actual, shape, what, given)
    if dtype is not None:
        expect_dtype(actual, dtype, what, given)
    if finite and actual.is_floating_point() and not bool(torch.isfinite(actual).all()):
        raise Malformed(f"{_upper(what)} holds {_not_finite(actual)}{_for(given)}.\n  it is {show(actual)}")
    return actual


def expect_shape(actual: Any, shape: Sequence[int], what: str = "the result", given: str | None = None) -> None:
    """``actual`` has this shape. What has none is named as what it is."""
    if not isinstance(actual, Tensor | np.ndarray):
        raise Malformed(
            f"{_upper(what)} should be a tensor of shape {_shape(shape)}{_for(given)}; it is {describe(actual)}."
        )
    if tuple(actual.shape) != tuple(shape):
        raise Malformed(
            f"{_upper(what)} should have shape {_shape(shape)}{_for(given)}; its shape is {_shape(actual.shape)}."
        )


def expect_dtype(actual: Any, dtype: torch.dtype, what: str = "the result", given: str | None = None) -> None:
    """``actual`` is a tensor of this dtype."""
    expect_tensor(actual, what, given, finite=False)
    if actual.dtype != dtype:
        raise Malformed(
            f"{_upper(what)} should have dtype {_plain(dtype)}{_for(given)}; its dtype is {_plain(actual.dtype)}."
        )


def expect_close(
    actual: Any,
    expected: Any,
    what: str = "the result",
    given: str | None = None,
    *,
    rtol: float = 1e-4,
    atol: float = 1e-6,
    mistake: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """``actual`` equals ``expected`` up to ``atol + rtol * |expected|``: type, shape, NaN and infinity, then values.

    ``expected`` is a number, a nested list or a tensor. Device and precision may differ unless ``dtype`` is given.
    A number and a tensor without dimensions stand for each other.
    """
    target = torch.as_tensor(expected).detach().cpu()
    if isinstance(actual, numbers.Number | np.generic) and not isinstance(actual, bool) and target.ndim == 0:
        came = torch.as_tensor(actual)
    else:
        if target.ndim == 0 and not isinstance(actual, Tensor):
            number = "a number or a tensor without dimensions"
            raise Malformed(f"{_upper(what)} should be {number}{_for(given)}; it is {describe(actual)}.")
        came = expect_tensor(actual, what, given, shape=target.shape, dtype=dtype, finite=False).detach().cpu()
    if came.is_complex() != target.is_complex() or (came.dtype == torch.bool) != (target.dtype == torch.bool):
        raise Malformed(f"{_upper(what)} should hold {_entries(target)}{_for(given)}; it holds {_entries(came)}.")
    if target.is_complex():
        came, target = came.to(torch.complex128), target.to(torch.complex128)
    else:
        came, target = came.to(torch.float64), target.to(torch.float64)
    if bool((~torch.isfinite(came) & torch.isfinite(target)).any()):
        raise Malformed(_comparison(f"{_upper(what)} holds {_not_finite(came)}{_for(given)}.", came, target), mistake)
    close = torch.isclose(came, target, rtol=rtol, atol=atol, equal_nan=True)
    if bool(close.all()):
        return
    raise CheckFailure(_comparison(f"{_upper(what)} is not right{_for(given)}.", came, target, close), mistake)


def unchanged(before: Any, after: Any, name: str) -> None:
    """An input is as it was: ``before`` is a copy that was made before the call."""
    same = (
        isinstance(after, Tensor)
        and before.shape == after.shape
        and before.dtype == after.dtype
        and torch.equal(torch.nan_to_num(before.detach()), torch.nan_to_num(after.detach()))
        if isinstance(before, Tensor)
        else bool(np.array_equal(before, after))
        if isinstance(before, np.ndarray)
        else before == after
    )
    if not same:
        raise CheckFailure(
            f"Your answer changed its input `{name}`. Whoever called it still needs the old values: "
            f"work on a copy (an operation whose name ends in _ writes in place).\n"
            f"  before: {show(before)}\n  after:  {show(after)}"
        )


def reseed(seed: int) -> None:
    """Seed torch, numpy and random from within a test.

    A test must not call ``torch.manual_seed``: a seed that changed without this is taken for the answer's doing.
    """
    guard.seed_everything(seed)


def show(value: Any) -> str:
    """A value in few words: small tensors in full, with few digits; large ones by shape and range."""
    if isinstance(value, np.ndarray | np.generic):
        value = torch.as_tensor(value) if value.dtype.kind in "biufc" else value.tolist()
    if not isinstance(value, Tensor):
        text = repr(value)
        return text if len(text) <= 300 else text[:300] + "…"
    value = value.detach().cpu()
    if value.numel() <= _FULL:
        return _numbers(value.tolist())
    if value.is_complex():
        return f"a complex tensor of shape {_shape(value.shape)}"
    wide = value.to(torch.float64)
    return (
        f"a tensor of shape {_shape(value.shape)}, mean {wide.mean():.4g}, "
        f"smallest {wide.min():.4g}, largest {wide.max():.4g}"
    )


def describe(value: Any) -> str:
    """What kind of thing this is, with an article: "None", "a list of 3", "a tensor of shape (2, 3)"."""
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {_shape(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a numpy array of shape {_shape(value.shape)}, not a torch tensor"
    if isinstance(value, list | tuple | set | dict):
        return f"{_article(type(value).__name__)} of {len(value)}"
    if isinstance(value, bool | int | float | complex | str):
        text = repr(value)
        return f"the {type(value).__name__} {text if len(text) <= 60 else text[:60] + '…'}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return _article(type(value).__name__)


def _comparison(first: str, came: Tensor, target: Tensor, close: Tensor | None = None) -> str:
    if target.ndim == 0:
        return f"{first}\n  expected: {_number(target.item())}\n  came:     {_number(came.item())}"
    if target.numel() <= _FULL:
        return f"{first}\n  expected: {_numbers(target.tolist())}\n  came:     {_numbers(came.tolist())}"
    distance = torch.nan_to_num((came - target).abs(), nan=float("inf"), posinf=float("inf"))
    worst = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), target.shape))
    wrong = "" if close is None else f"{int((~close).sum()):,} of {target.numel():,} entries are off; "
    return (
        f"{first}\n  {wrong}the worst is at index {worst}: "
        f"expected {_number(target[worst].item())}, came {_number(came[worst].item())}"
    )


def _not_finite(value: Tensor) -> str:
    nan, infinite = bool(torch.isnan(value).any()), bool(torch.isinf(value).any())
    return "NaN and infinity" if nan and infinite else "NaN" if nan else "infinity"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | complex) else str(value)


def _numbers(value: Any) -> str:
    return "[" + ", ".join(map(_numbers, value)) + "]" if isinstance(value, list) else _number(value)


def _entries(value: Tensor) -> str:
    if value.is_complex():
        return "complex numbers"
    return "true and false" if value.dtype == torch.bool else "real numbers"


def _type_name(kind: type) -> str:
    return "tensor" if kind is Tensor else kind.__name__


def _shape(shape: Sequence[int]) -> str:
    return str(tuple(int(size) for size in shape))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def _for(given: str | None) -> str:
    return f" for {given}" if given else ""


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
