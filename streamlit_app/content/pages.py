"""Addresses: which page a section has, where a link leads, what comes before and after."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from refract.authoring import source
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections, repository, revision
from streamlit_app.content import course

HOME, SEARCH, PROGRESS = "", "search", "progress"


@dataclass(frozen=True)
class PageInfo:
    """One section's page."""

    paths: SectionPaths
    url_path: str  # "ch1-toy-models"
    title: str
    chapter_title: str


def url_path(paths: SectionPaths) -> str:
    """``ch1_superposition/s1_toy_models`` is at ``ch1-toy-models``: no number that a new section would shift."""
    chapter = paths.chapter.split("_")[0]
    section = re.sub(r"^s\d+_", "", paths.section)
    return re.sub(r"[^a-z0-9]+", "-", f"{chapter}-{section}".lower()).strip("-")


def claims_path(chapter: str) -> str:
    """The chapter's claims are at ``ch1-claims``."""
    return f"{chapter.split('_', maxsplit=1)[0]}-claims"


def all_pages() -> list[PageInfo]:
    """Every section's page, in the order of the course. A malformed source still has one, under its planned title."""
    found: list[PageInfo] = []
    for paths in all_sections():
        address = url_path(paths)
        if any(page.url_path == address for page in found):  # two sections of one name in one chapter
            address = f"{address}-{paths.section.split('_')[0]}"
        try:
            title = source.load(paths).title
        except RefractError:
            title = course.planned_title(paths) or paths.section
        found.append(PageInfo(paths, address, title, course.chapter_title(paths.chapter)))
    return found


def page_of(paths: SectionPaths) -> PageInfo | None:
    return next((page for page in all_pages() if page.paths == paths), None)


def neighbours(paths: SectionPaths) -> tuple[PageInfo | None, PageInfo | None]:
    """The pages before and after a section's."""
    pages = all_pages()
    places = [page.paths for page in pages]
    if paths not in places:
        return None, None
    at = places.index(paths)
    return (pages[at - 1] if at else None), (pages[at + 1] if at + 1 < len(pages) else None)


def colab(paths: SectionPaths) -> str:
    """Where Colab opens the learner's notebook, at the revision that the course states."""
    owner = repository().removeprefix("https://github.com/")
    name = quote(f"chapters/{paths.chapter}/{paths.section}.ipynb")
    return f"https://colab.research.google.com/github/{owner}/blob/{quote(revision())}/{name}"


def rewrite(paths: SectionPaths, target: str) -> str:
    """A link of a section's source, as it must stand on the site.

    A link to another section's source leads to its page; one to another file of the course leads to the repository.
    """
    if re.match(r"[a-z][a-z0-9+.-]*:|#|/", target, flags=re.IGNORECASE) or not target:
        return target
    file, _, anchor = target.partition("#")
    place = Path(os.path.normpath(paths.source.parent / file))
    for page in all_pages():
        if place in (page.paths.source, page.paths.notebook):
            return page.url_path + (f"#{anchor}" if anchor else "")
    base = paths.source.parents[2]
    inside = place.relative_to(base).as_posix() if place.is_relative_to(base) else file
    return f"{repository()}/blob/{quote(revision())}/{quote(inside)}" + (f"#{anchor}" if anchor else "")
