"""A section as the list of things that its page shows, in order, with their anchors."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it.token import Token

from refract.authoring import source, values
from refract.authoring.model import Aside, Bonus, Claim, Code, Exercise, Figure, Lab, Predict, Prose, Section
from refract.authoring.slugs import Anchors, plain
from refract.errors import RefractError
from refract.paths import SectionPaths


@dataclass(frozen=True)
class Heading:
    """A heading; ``level`` counts from 1."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Text:
    """A run of Markdown, as the source has it."""

    markdown: str


@dataclass(frozen=True)
class Image:
    """A picture that stands alone in a paragraph."""

    path: Path
    alt: str


@dataclass(frozen=True)
class Box:
    """A block of the source that is more than prose, under its anchor; ``level`` is that of its heading, if any."""

    block: Code | Exercise | Predict | Figure | Claim | Lab | Aside | Bonus
    anchor: str
    level: int


Item = Heading | Text | Image | Box


@dataclass(frozen=True)
class TocEntry:
    """A line of the table of contents."""

    level: int
    text: str
    anchor: str
    kind: str  # "heading", "exercise" or "lab"


@dataclass(frozen=True)
class Document:
    """A section's page."""

    section: Section
    items: tuple[Item, ...]

    @property
    def title(self) -> str:
        return self.section.title

    @property
    def toc(self) -> tuple[TocEntry, ...]:
        """Headings below the title, exercises and labs."""
        entries = []
        for item in self.items:
            if isinstance(item, Heading) and item.level > 1:
                entries.append(TocEntry(min(item.level, 3), plain(item.text), item.anchor, "heading"))
            elif isinstance(item, Box) and isinstance(item.block, Exercise | Lab):
                kind = "exercise" if isinstance(item.block, Exercise) else "lab"
                text = item.block.name if kind == "exercise" else f"Lab: {lab_title(item.block.name)}"
                entries.append(TocEntry(3, text, item.anchor, kind))
        return tuple(entries)

    @property
    def anchors(self) -> set[str]:
        return {item.anchor for item in self.items if isinstance(item, Heading | Box)} - {""}


def lab_title(name: str) -> str:
    """``toy_models`` as a title."""
    return name.replace("_", " ").capitalize()


def load(paths: SectionPaths) -> Document:
    """The section's page. Raises ``RefractError`` for a malformed source. Cached by the source's content."""
    return _document(source.load(paths))


@functools.lru_cache(maxsize=128)
def _document(section: Section) -> Document:
    named = [block.name for block in section.blocks if isinstance(block, Exercise | Predict | Figure | Claim | Lab)]
    anchors = Anchors(named)
    items: list[Item] = []
    level = 1
    for block in section.blocks:
        if isinstance(block, Prose):
            for item in _split(block, section.paths, anchors):
                items.append(item)
                level = item.level if isinstance(item, Heading) else level
            continue
        anchor = block.name if isinstance(block, Exercise | Predict | Figure | Claim | Lab) else ""
        if isinstance(block, Aside | Bonus):
            anchor = anchors.give(block.title)
        items.append(Box(block, anchor, 2 if level == 1 else 3))
    return Document(section, tuple(items))


def _split(prose: Prose, paths: SectionPaths, anchors: Anchors) -> list[Item]:
    """A run of prose at its headings and its pictures; everything else stays as it was written."""
    lines = prose.text.split("\n")
    items: list[Item] = []
    begin = 0

    def text_until(end: int) -> None:
        text = "\n".join(lines[begin:end]).strip("\n")
        if text.strip():
            items.append(Text(text))

    for token, inline in _top_level(prose.text):
        assert token.map is not None
        start, end = token.map
        if token.type == "heading_open":
            text_until(start)
            level = int(token.tag[1:])
            items.append(Heading(level, inline.content, anchors.give(inline.content)))
            begin = end
        elif (picture := _only_image(inline)) is not None:
            text_until(start)
            target = str(picture.attrs.get("src", ""))
            items.append(Image(paths.source.parent / target, picture.content))
            begin = end
    text_until(len(lines))
    return items


def _top_level(text: str) -> list[tuple[Token, Token]]:
    tokens = source.tokenizer().parse(text)
    return [
        (token, tokens[place + 1])
        for place, token in enumerate(tokens)
        if token.level == 0 and token.type in ("heading_open", "paragraph_open")
    ]


def _only_image(inline: Token) -> Token | None:
    children = inline.children or []
    if len(children) == 1 and children[0].type == "image" and not re.match(r"[a-z]+:", str(children[0].attrs["src"])):
        return children[0]
    return None


def recorded(paths: SectionPaths) -> dict[str, values.Recorded]:
    """The section's recorded values. Raises ``RefractError`` for a file that holds none."""
    try:
        return values.load(paths)
    except (ValueError, TypeError, AttributeError) as error:
        raise RefractError(
            f"The file {paths.values} holds no recorded values: {error}", "Run `python -m refract build`."
        ) from error
