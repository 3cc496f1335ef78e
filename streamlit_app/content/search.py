"""Full-text search over the sections: a small BM25 index, built in memory from the same sources as the pages.

What a learner has not opened is not searched: hints, known mistakes, solutions, what a prediction reveals, and the
captions of figures that wait for a prediction.
"""

from __future__ import annotations

import functools
import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refract.authoring import values
from refract.authoring.model import Aside, Bonus, Claim, Code, Exercise, Figure, Lab, Predict
from refract.authoring.slugs import plain
from refract.errors import RefractError
from streamlit_app.content import document, pages
from streamlit_app.content.document import Box, Heading, Text
from streamlit_app.content.markdown import to_text
from streamlit_app.content.pages import PageInfo

K1, B = 1.2, 0.6
_TITLE_WEIGHT = 4
_WORD = re.compile(r"[^\W_]+(?:_[^\W_]+)*_?")


@dataclass(frozen=True)
class Passage:
    """What one anchor leads to."""

    page: PageInfo
    anchor: str
    title: str
    text: str
    names: str = ""  # identifiers of given code: searched, not shown


@dataclass(frozen=True)
class Hit:
    """A passage that matches, with a snippet in which ``<mark>`` marks the words (safe HTML)."""

    passage: Passage
    score: float
    snippet: str

    @property
    def href(self) -> str:
        return self.passage.page.url_path + (f"#{self.passage.anchor}" if self.passage.anchor else "")


def words(text: str) -> list[str]:
    """The search terms of a text: lower case, plural s dropped, an identifier also by its parts."""
    found: list[str] = []
    for match in _WORD.finditer(text.lower()):
        word = match.group()
        found.append(_stem(word))
        if "_" in word:
            found.extend(_stem(part) for part in word.split("_") if part)
    return found


def _stem(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def passages(page: PageInfo) -> list[Passage]:
    """A section's page, cut at its headings and exercises."""
    doc = document.load(page.paths)
    recorded = document.recorded(page.paths)
    found: list[Passage] = []
    anchor, title, texts, names = "", doc.title, [""], [""]

    def flush() -> None:
        if title:
            found.append(Passage(page, anchor, title, " ".join(filter(None, texts)), " ".join(filter(None, names))))

    for item in doc.items:
        if isinstance(item, Heading) and item.level > 1:
            flush()
            anchor, title, texts, names = item.anchor, plain(item.text), [], []
        elif isinstance(item, Text):
            texts.append(_text(item.markdown, recorded))
        elif isinstance(item, Box) and isinstance(item.block, Code):
            names.append(" ".join(sorted(set(re.findall(r"[A-Za-z_]\w{2,}", item.block.source)))))
        elif isinstance(item, Box):
            entry = _box(item)
            if entry is not None:
                found.append(Passage(page, item.anchor, entry[0], _text(entry[1], recorded)))
    flush()
    return found


def _box(item: Box) -> tuple[str, str] | None:
    match item.block:
        case Exercise(name=name, text=text):
            return name, text
        case Predict(question=question, options=options):
            return "Prediction", "\n".join([question, *options])
        case Figure(caption=caption, after=None):
            return "Figure", caption
        case Claim(statement=statement, source=source):
            return "Claim", f"{statement}\n{source}"
        case Lab(name=name, text=text):
            return f"Lab: {document.lab_title(name)}", text
        case Aside(title=title, text=text) | Bonus(title=title, text=text):
            return plain(title), text
    return None


def _text(markdown: str, recorded: dict[str, values.Recorded]) -> str:
    try:
        return to_text(values.fill(markdown, recorded))
    except RefractError:  # the page itself says so
        return to_text(values.ROLE.sub("", markdown))


class Index:
    """An inverted index with BM25 scores; titles count several times."""

    def __init__(self, found: Iterable[Passage]) -> None:
        self.passages = list(found)
        self._counts = [
            Counter(words(passage.title) * _TITLE_WEIGHT + words(passage.text) + words(passage.names))
            for passage in self.passages
        ]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(1, len(self._lengths))
        self._where: dict[str, list[int]] = {}
        for place, counts in enumerate(self._counts):
            for word in counts:
                self._where.setdefault(word, []).append(place)

    def search(self, query: str, most: int = 20) -> list[Hit]:
        """The best passages for a query. A word also finds the longer words that it begins, at a lower score."""
        asked = list(dict.fromkeys(_stem(match.group()) for match in _WORD.finditer(query.lower())))
        scores: Counter[int] = Counter()
        covered: Counter[int] = Counter()
        matched: set[str] = set()
        for word in asked:
            best: dict[int, float] = {}
            for term, weight in self._expand(word):
                matched.add(term)
                for place in self._where[term]:
                    best[place] = max(best.get(place, 0.0), weight * self._score(term, place))
            for place, score in best.items():
                scores[place] += score  # type: ignore[assignment]
                covered[place] += 1
        ranked = sorted(scores, key=lambda place: (-covered[place], -scores[place], place))
        return [
            Hit(self.passages[place], float(scores[place]), snippet(self.passages[place].text, matched))
            for place in ranked[:most]
        ]

    def _expand(self, word: str) -> list[tuple[str, float]]:
        exact = [(word, 1.0)] if word in self._where else []
        if len(word) < 2:
            return exact
        return exact + [(term, 0.5) for term in self._where if term != word and term.startswith(word)]

    def _score(self, term: str, place: int) -> float:
        documents = len(self._where[term])
        rarity = math.log(1 + (len(self.passages) - documents + 0.5) / (documents + 0.5))
        count = self._counts[place][term]
        return rarity * count * (K1 + 1) / (count + K1 * (1 - B + B * self._lengths[place] / self._mean))


def snippet(text: str, terms: set[str], length: int = 220) -> str:
    """The stretch of ``text`` with most of the terms, escaped, the terms in ``<mark>``."""
    spans = [(m.start(), m.end()) for m in _WORD.finditer(text) if terms & set(words(m.group()))]
    start = 0
    if spans:
        first = max(spans, key=lambda span: sum(span[0] <= s < span[0] + length for s, _ in spans))[0]
        start = 0 if first < length // 2 else text.rfind(" ", 0, first - length // 4) + 1
    end = len(text) if len(text) <= start + length else text.rfind(" ", start, start + length)
    end = end if end > start else start + length
    pieces, at = [], start
    for low, high in spans:
        if low >= start and high <= end:
            pieces += [html.escape(text[at:low]), "<mark>", html.escape(text[low:high]), "</mark>"]
            at = high
    pieces.append(html.escape(text[at:end]))
    return ("… " if start else "") + "".join(pieces) + (" …" if end < len(text) else "")


def index() -> Index:
    """The index of the whole course; built again when a source or a recorded value has changed."""
    found: Sequence[PageInfo] = pages.all_pages()
    stamps = tuple(
        (file, file.stat().st_mtime_ns)
        for page in found
        for file in (page.paths.source, page.paths.values)
        if file.is_file()
    )
    return _index(tuple(found), stamps)


@functools.lru_cache(maxsize=4)
def _index(found: tuple[PageInfo, ...], stamps: tuple) -> Index:
    collected: list[Passage] = []
    for page in found:
        try:
            collected += passages(page)
        except RefractError:
            continue  # a malformed source shows its error on its own page
    return Index(collected)
