"""Where everything lives: one place that knows the layout of the course."""

from __future__ import annotations

import functools
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from refract.errors import RefractError


def root() -> Path:
    """The course's folder: the one that holds ``refract/``, ``chapters/``, ``solutions/`` and ``tests/``.

    ``REFRACT_ROOT`` overrides it, so that tests can build a small course of their own.
    """
    override = os.environ.get("REFRACT_ROOT")
    return Path(override).resolve() if override else Path(__file__).resolve().parent.parent


@functools.cache
def project() -> dict:
    """``pyproject.toml`` of the course, parsed."""
    with (Path(__file__).resolve().parent.parent / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def repository() -> str:
    """The address of the repository; it is written in ``pyproject.toml`` and nowhere else."""
    return project()["project"]["urls"]["Repository"].removesuffix(".git")


def revision() -> str:
    """The tag that notebooks on Colab fetch: the version in ``pyproject.toml``."""
    return "v" + project()["project"]["version"]


@dataclass(frozen=True, order=True)
class SectionPaths:
    """The files of one section. Whoever knows one of them knows all."""

    chapter: str  # "ch1_superposition"
    section: str  # "s1_toy_models"

    @classmethod
    def parse(cls, name: str) -> SectionPaths:
        """From ``"ch1_superposition/s1_toy_models"``, or from the section's name alone if it is unique."""
        known = all_sections()
        for paths in known:
            if name in (paths.id, paths.section):
                return paths
        choices = ", ".join(paths.id for paths in known) or "none"
        raise RefractError(f"There is no section called {name!r}.", f"Sections of this course: {choices}.")

    @property
    def id(self) -> str:
        return f"{self.chapter}/{self.section}"

    @property
    def source(self) -> Path:
        return root() / "chapters" / self.chapter / f"{self.section}.md"

    @property
    def notebook(self) -> Path:
        return root() / "chapters" / self.chapter / f"{self.section}.ipynb"

    @property
    def reference(self) -> Path:
        return root() / "solutions" / self.chapter / f"{self.section}.py"

    @property
    def reference_module(self) -> str:
        return f"solutions.{self.chapter}.{self.section}"

    @property
    def worked(self) -> Path:
        return root() / "solutions" / self.chapter / f"{self.section}.ipynb"

    @property
    def tests(self) -> Path:
        return root() / "tests" / self.chapter / f"test_{self.section}.py"

    @property
    def answers(self) -> Path:
        return root() / "tests" / self.chapter / f"answers_{self.section}.py"

    @property
    def figures(self) -> Path:
        return root() / "assets" / "figures" / self.chapter / self.section

    @property
    def values(self) -> Path:
        return root() / "assets" / "values" / self.chapter / f"{self.section}.json"


def all_sections() -> list[SectionPaths]:
    """Every section that has a source, in the order of the course."""
    sources = sorted(
        (root() / "chapters").glob("ch*/s*.md"), key=lambda path: (_natural(path.parent.name), _natural(path.stem))
    )
    return [SectionPaths(path.parent.name, path.stem) for path in sources]


def _natural(name: str) -> tuple[int, str]:
    """Sort ``s10_x`` after ``s9_x``."""
    digits = "".join(character for character in name.split("_", maxsplit=1)[0] if character.isdigit())
    return int(digits or 0), name
