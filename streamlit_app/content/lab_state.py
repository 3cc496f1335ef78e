"""A number that a lab's address asks for, brought to what the lab offers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def number(
    query: Mapping[str, str],
    name: str,
    *,
    default: float,
    limits: tuple[float, float],
    offered: Callable[[float], float],
    notices: list[str],
) -> float:
    """The value on offer for the parameter ``name`` of an address; what had to be changed is added to ``notices``.

    ``offered`` takes a number within ``limits`` to the nearest one on offer.
    """
    asked = query.get(name)
    if asked is None:
        return default
    try:
        wanted = float(asked)
    except ValueError:
        wanted = math.nan
    if math.isnan(wanted):
        notices.append(f"{name} = {asked[:20]!r} is no number; {default:g} is used.")
        return default
    low, high = limits
    value = offered(min(max(wanted, low), high))
    if not math.isclose(value, wanted, abs_tol=1e-9):
        notices.append(f"{name} = {asked[:20]} is not on offer; {value:g} is used (from {low:g} to {high:g}).")
    return value


def nearest_ratio(choices: tuple[float, ...] | list[float]) -> Callable[[float], float]:
    """To the choice that is nearest on a logarithmic scale."""
    return lambda value: min(choices, key=lambda choice: abs(math.log(choice / value)))


def whole_steps(step: float) -> Callable[[float], float]:
    """To the nearest multiple of ``step``."""
    return lambda value: round(round(value / step) * step, 4) + 0.0
