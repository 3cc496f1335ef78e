"""Refract: from superposition to sparse autoencoders. Everything a notebook needs is importable from here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refract.checking import check
    from refract.session import hint, predict, record, reveal, setup, show, solution

__all__ = ["check", "hint", "predict", "record", "reveal", "setup", "show", "solution"]

_HOMES = {
    "check": "refract.checking",
    **dict.fromkeys(("hint", "predict", "record", "reveal", "setup", "show", "solution"), "refract.session"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import refract`` stays instant, and loads neither torch nor plotly."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'refract' has no attribute {name!r}")
