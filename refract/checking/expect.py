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
from refract.checking.result import CHANGES_INPUT

_FULL, _FULL_DEEP = 24, 12  # tensors with at most this many entries are printed in full; with three axes or more


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
            f"{_upper(what)} should be {_article(' or '.join(names))}{_for(given)}; what came is {describe(actual)}."
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
        raise Malformed(f"{_upper(what)} should be a tensor{_for(given)}; what came is {describe(actual)}.")
    if shape is not None:
        expect_shape(actual, shape, what, given)
    if dtype is not None:
        expect_dtype(actual, dtype, what, given)
    if finite and actual.is_floating_point() and not bool(torch.isfinite(actual).all()):
        raise Malformed(f"{_not_finite(actual)} in {what}{_for(given)}.\n  came: {show(actual)}")
    return actual


def expect_shape(actual: Any, shape: Sequence[int], what: str = "the result", given: str | None = None) -> None:
    """``actual`` has this shape. What has none is named as what it is."""
    if not isinstance(actual, Tensor | np.ndarray):
        raise Malformed(
            f"{_upper(what)} should be a tensor of shape {_shape(shape)}{_for(given)}; what came is {describe(actual)}."
        )
    if tuple(actual.shape) != tuple(shape):
        came = _shape(actual.shape)
        raise Malformed(f"{_upper(what)} should have shape {_shape(shape)}{_for(given)}; what came has shape {came}.")


def expect_dtype(actual: Any, dtype: torch.dtype, what: str = "the result", given: str | None = None) -> None:
    """``actual`` is a tensor of this dtype."""
    expect_tensor(actual, what, given, finite=False)
    if actual.dtype != dtype:
        came = _plain(actual.dtype)
        raise Malformed(f"{_upper(what)} should have dtype {_plain(dtype)}{_for(given)}; what came has dtype {came}.")


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
            raise Malformed(f"{_upper(what)} should be {number}{_for(given)}; what came is {describe(actual)}.")
        came = expect_tensor(actual, what, given, shape=target.shape, dtype=dtype, finite=False).detach().cpu()
    if came.is_complex() != target.is_complex() or (came.dtype == torch.bool) != (target.dtype == torch.bool):
        raise Malformed(
            f"{_upper(what)} should hold {_entries(target)}{_for(given)}; what came holds {_entries(came)}."
        )
    if target.is_complex():
        came, target = came.to(torch.complex128), target.to(torch.complex128)
    else:
        came, target = came.to(torch.float64), target.to(torch.float64)
    if bool((~torch.isfinite(came) & torch.isfinite(target)).any()):
        raise Malformed(_comparison(f"{_not_finite(came)} in {what}{_for(given)}.", came, target), mistake)
    close = torch.isclose(came, target, rtol=rtol, atol=atol, equal_nan=True)
    if bool(close.all()):
        return
    raise CheckFailure(_comparison(f"{_upper(what)} came out wrong{_for(given)}.", came, target, close), mistake)


def unchanged(before: Any, after: Any, name: str) -> None:
    """An input is as it was: ``before`` is a copy that was made before the call.

    Of tensors and arrays the machinery sees to this itself, at every call of an answer: see ``@may_change``.
    """
    if differs(before, after):
        raise changed_input(name, before, after)


def differs(before: Any, after: Any) -> bool:
    """Whether a value is not what its copy says. NaN equals NaN; what cannot be compared counts as equal."""
    if isinstance(before, Tensor):
        if not isinstance(after, Tensor) or before.shape != after.shape or before.dtype != after.dtype:
            return True
        try:
            return not _same(before, after.detach())
        except (RuntimeError, NotImplementedError):  # no numbers to compare: on the device `meta`, or in a transform
            return False
    if isinstance(before, np.ndarray):
        if not isinstance(after, np.ndarray) or before.shape != after.shape or before.dtype != after.dtype:
            return True
        return not bool(np.array_equal(before, after, equal_nan=before.dtype.kind in "fc"))
    return bool(before != after)


_equal = torch.equal  # as it is now: an answer may replace it


def _same(before: Tensor, after: Tensor) -> bool:
    with torch.no_grad():
        return _equal(before, after) or bool(((before == after) | (torch.isnan(before) & torch.isnan(after))).all())


def changed_input(name: str, before: Any, after: Any) -> CheckFailure:
    """The failure of an answer that changed what it was given."""
    return CheckFailure(
        f"Your answer changed its input `{name}`, which its caller still needs. Make a new tensor instead: "
        f"`{name} += 1`, `{name}[...] = 1` and operations whose name ends in _ write into the old one.\n"
        f"  before: {show(before)}\n  after:  {show(after)}",
        CHANGES_INPUT,
    )


def count(number: int, noun: str) -> str:
    """``1 instance``, ``3 instances``: for what a checker says of its input."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
    if _is_small(value):
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
    if _is_small(target):
        return f"{first}\n  expected: {_numbers(target.tolist())}\n  came:     {_numbers(came.tolist())}"
    distance = torch.nan_to_num((came - target).abs(), nan=float("inf"), posinf=float("inf"))
    worst = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), target.shape))
    off = 0 if close is None else int((~close).sum())
    wrong = f"{off:,} of {target.numel():,} entries {'is' if off == 1 else 'are'} off; " if off else ""
    return (
        f"{first}\n  {wrong}the worst is at index {worst}: "
        f"expected {_number(target[worst].item())}, came {_number(came[worst].item())}"
    )


def _is_small(value: Tensor) -> bool:
    """Whether its numbers can be taken in at a glance."""
    return value.numel() <= (_FULL if value.ndim <= 2 else _FULL_DEEP)


def _not_finite(value: Tensor) -> str:
    nan, infinite = bool(torch.isnan(value).any()), bool(torch.isinf(value).any())
    return "There are NaN and infinity" if nan and infinite else "There is NaN" if nan else "There is infinity"


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
    """A sentence's first letter: "the batch" becomes "The batch"; an identifier (``b``, ``w_norm``) keeps its case."""
    first, _, rest = text.partition(" ")
    word = first.isalpha() and first.islower() and (len(first) > 1 or first == "a")
    return text[:1].upper() + text[1:] if word and rest else text
