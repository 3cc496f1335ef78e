"""Find the reference of a section: the importable module under ``solutions/``."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from refract.errors import RefractError
from refract.paths import SectionPaths, root


def module(paths: SectionPaths) -> ModuleType:
    """Import ``solutions.<chapter>.<section>``, from the course's folder."""
    folder = str(root())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(paths.reference_module)


def get(paths: SectionPaths, name: str) -> Any:
    """One symbol of the reference."""
    try:
        return getattr(module(paths), name)
    except AttributeError:
        raise RefractError(
            f"{paths.reference} has no {name!r}.", "Use the name of one of the section's exercises."
        ) from None
