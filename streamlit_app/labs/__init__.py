"""The labs, found by name. A lab is a module here with ``render(paths)``, which draws it where it is called."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from refract.errors import RefractError
from refract.paths import SectionPaths


class Lab(Protocol):
    """What a lab's module offers."""

    def render(self, paths: SectionPaths) -> None:
        """Draw the lab; ``paths`` is the section whose reference code it runs."""


def names() -> list[str]:
    """The labs that exist."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Lab:
    """A lab by name. Raises ``RefractError`` if there is none."""
    if name not in names():
        raise RefractError(
            f"There is no lab called {name!r}.",
            f"Write streamlit_app/labs/{name}.py, or name one of: {', '.join(names()) or 'none'}.",
        )
    return cast(Lab, importlib.import_module(f"{__name__}.{name}"))
