"""The map of the course: six chapters, their questions and sections, from ``course_map.toml``."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

from refract.paths import SectionPaths

_FILE = Path(__file__).resolve().parent.parent / "course_map.toml"


@dataclass(frozen=True)
class PlannedSection:
    """A section as the curriculum has it, written or not."""

    id: str  # "ch1_superposition/s1_toy_models"
    title: str


@dataclass(frozen=True)
class Chapter:
    """One chapter of the map."""

    name: str  # "ch1_superposition"
    title: str
    question: str
    sections: tuple[PlannedSection, ...]

    @property
    def number(self) -> int:
        return int(self.name.split("_")[0].removeprefix("ch"))


@functools.cache
def chapters() -> tuple[Chapter, ...]:
    """The chapters in order."""
    with _FILE.open("rb") as file:
        data = tomllib.load(file)
    return tuple(
        Chapter(
            entry["name"],
            entry["title"],
            entry["question"],
            tuple(PlannedSection(f"{entry['name']}/{name}", title) for name, title in entry["sections"].items()),
        )
        for entry in data["chapter"]
    )


def chapter_title(name: str) -> str:
    """``Chapter 1: Superposition``; the folder's name if the map does not know it."""
    for chapter in chapters():
        if chapter.name == name:
            return f"Chapter {chapter.number}: {chapter.title}"
    return name


def planned_title(paths: SectionPaths) -> str | None:
    """A section's title as planned; what ties a file to the plan is its chapter and its number."""
    planned = (section for chapter in chapters() for section in chapter.sections)
    return next((section.title for section in planned if place(section.id) == place(paths.id)), None)


def place(identity: str) -> tuple[str, str]:
    """``("ch1_superposition", "s1")``: a section's place, whatever it is called."""
    chapter, _, section = identity.partition("/")
    return chapter, section.split("_")[0]
