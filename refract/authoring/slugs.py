"""Anchors: one function for every heading, in notebooks and on the site, the same as GitHub's."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CODE_OR_MATHS = re.compile(r"`+|\$+")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_EMPHASIS = re.compile(r"(\*{1,3}|(?<!\w)_{1,3}|_{1,3}(?!\w))")


def plain(text: str) -> str:
    """A heading's Markdown as plain text: no links, emphasis, code or maths marks."""
    text = _LINK.sub(r"\1", text)
    text = _CODE_OR_MATHS.sub("", text)
    return re.sub(r"\s+", " ", _EMPHASIS.sub("", text)).strip()


def slug(text: str) -> str:
    """GitHub's anchor of a heading: lower case, punctuation dropped, blanks to hyphens."""
    kept = re.sub(r"[^\w\- ]", "", plain(text).lower())
    return kept.strip().replace(" ", "-") or "section"


class Anchors:
    """Hands out anchors that are unique on a page; repeats get ``-1``, ``-2``, … as on GitHub."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def give(self, text: str) -> str:
        base = slug(text)
        name, number = base, 0
        while name in self._taken:
            number += 1
            name = f"{base}-{number}"
        self._taken.add(name)
        return name
