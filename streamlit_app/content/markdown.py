"""From the sources' Markdown to the dialect that Streamlit renders as meant.

The sources follow MyST and GitHub: ``$x$`` and ``$$x$$`` are maths, everything else is text. Streamlit adds rules
of its own: display maths needs its ``$$`` on lines of their own, a lone dollar pairs up with a distant one,
``:name[`` starts a colour and ``:name:`` an emoji, and a bar inside maths ends a table's cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pylatexenc.latex2text import LatexNodes2Text

Link = Callable[[str], str]

_FENCE = re.compile(r"^(?P<indent>[ >]*)(?P<mark>`{3,}|~{3,})")
_TARGET = re.compile(
    r"\]\((?P<target><[^>\n]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?P<title>\s+(?:\"[^\"]*\"|'[^']*'))?\)"
)
_EMOJI = re.compile(r":[\w+-]+:")


def convert(text: str, link: Link | None = None) -> str:
    """The Markdown to hand to ``st.markdown``.

    Args:
        text: Markdown of a source, its ``{value}`` roles filled.
        link: rewrites the target of a link; targets stay as they are without it.
    """
    return "".join(
        chunk if is_code else _Inline(chunk, link or (lambda target: target)).run() for is_code, chunk in _chunks(text)
    )


def _chunks(text: str) -> Iterator[tuple[bool, str]]:
    """Fenced code, which stays as it is, and everything between."""
    kept: list[str] = []
    fence: str | None = None
    for line in text.splitlines(keepends=True):
        match = _FENCE.match(line)
        if fence is None and match:
            yield False, "".join(kept)
            kept, fence = [line], match["mark"]
        elif fence is not None and match and match["mark"].startswith(fence) and not line[match.end() :].strip():
            yield True, "".join([*kept, line])
            kept, fence = [], None
        else:
            kept.append(line)
    yield fence is not None, "".join(kept)


class _Inline:
    """One pass over text without fences; code spans are copied, maths and links rewritten, the rest escaped."""

    def __init__(self, text: str, link: Link) -> None:
        self.text = text
        self.link = link
        self.out: list[str] = []
        self.at = 0

    def run(self) -> str:
        while self.at < len(self.text):
            self._step(self.text[self.at])
        return "".join(self.out)

    def _step(self, character: str) -> None:
        text, at = self.text, self.at
        if character == "\\" and at + 1 < len(text):
            self._emit(text[at : at + 2], 2)
        elif character == "`":
            self._code()
        elif text.startswith("$$", at) and (close := text.find("$$", at + 2)) > 0:
            self._display(text[at + 2 : close].strip(), close + 2)
        elif character == "$":
            end = self._closing_dollar()
            if end is None:
                self._emit("\\$", 1)
            else:
                self._emit("$" + self._cell_safe(text[at + 1 : end]) + "$", end + 1 - at)
        elif character == "]" and (match := _TARGET.match(text, at)):
            target = self.link(match["target"].strip("<>"))
            self._emit(f"]({_quoted(target)}{match['title'] or ''})", match.end() - at)
        elif character == ":" and _EMOJI.match(text, at):
            self._emit(":\u2060", 1)  # a word joiner, which shows nothing: escaped or not, :name: becomes an emoji
        elif character == ":" and text[at + 1 : at + 2].isalpha():
            self._emit("\\:", 1)  # not the beginning of a colour, :name[text]
        else:
            self._emit(character, 1)

    def _emit(self, text: str, used: int) -> None:
        self.out.append(text)
        self.at += used

    def _code(self) -> None:
        run = re.match(r"`+", self.text[self.at :])
        assert run is not None
        mark = run.group()
        closing = re.compile(rf"(?<!`){mark}(?!`)").search(self.text, self.at + len(mark))
        end = closing.end() if closing else self.at + len(mark)
        self._emit(self.text[self.at : end], end - self.at)

    def _closing_dollar(self) -> int | None:
        """Where inline maths that opens here ends, by the rules of MyST; ``None`` if the dollar is a dollar."""
        text, at = self.text, self.at
        if at + 1 >= len(text) or text[at + 1].isspace():
            return None
        for match in re.compile(r"\\.|\$|\n[ \t]*\n", re.DOTALL).finditer(text, at + 1):
            if match.group() == "$":
                after = text[match.end() : match.end() + 1]
                if text[match.start() - 1].isspace() or after.isdigit():
                    return None
                return match.start()
            if match.group().startswith("\n"):
                return None
        return None

    def _cell_safe(self, maths: str) -> str:
        """Inside a table, a bar would end the cell."""
        if not self._line_start().lstrip().startswith("|"):
            return maths
        return re.sub(r"\\\|", r"\\Vert ", maths).replace("|", r"\vert ").rstrip()  # "$x $" would be no maths

    def _line_start(self) -> str:
        begin = self.text.rfind("\n", 0, self.at) + 1
        return self.text[begin : self.at]

    def _display(self, maths: str, end: int) -> None:
        """Display maths, on lines of its own at the indent of its list or quotation."""
        before = self._line_start()
        if before.lstrip().startswith("|"):  # a table's cell has no lines
            self._emit("$" + self._cell_safe(maths) + "$", end - self.at)
            return
        match = re.match(r"[ >]*(?:(?:[-*+]|\d+[.)])\s+)?", before)
        marker = match.group() if match else ""
        indent = marker if set(marker) <= set(" >") else " " * len(marker)
        opening = "" if before.strip(" >") == "" else f"\n{indent}"
        rows = [f"{indent}{row.strip(' >') if '>' in indent else row.strip()}" for row in maths.split("\n")]
        rest = re.compile(r"[^\S\n]*").match(self.text, end)
        after = rest.end() if rest else end
        closing = "" if self.text[after : after + 1] in ("\n", "") else f"\n{indent}"
        body = "\n".join(rows)
        self._emit(f"{opening}$$\n{body}\n{indent}$${closing}", after - self.at)


def _quoted(target: str) -> str:
    return f"<{target}>" if re.search(r"[\s()]", target) else target


_MARKS = re.compile(r"(\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|~~|^#+\s*|^>\s?|^\|?[\s:|-]{4,}\|?$)", re.MULTILINE)


def to_text(text: str) -> str:
    """Markdown as running text, for search: code and inline maths keep their words; marks and displays go."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^[ >]*(`{3,}|~{3,}).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$", " … ", text, flags=re.DOTALL)
    text = re.sub(r"(?<!\\)\$([^$\n]+)(?<!\\)\$", lambda match: _spoken(match[1]), text)
    text = _MARKS.sub("", re.sub(r"^(\s*)[-*+] ", r"\1", text, flags=re.MULTILINE).replace("`", ""))
    text = re.sub(r"\\([^\w\s])", r"\1", text)
    return re.sub(r"\s+", " ", text.replace("|", " ")).strip()


_PLAIN = LatexNodes2Text(math_mode="text", strict_latex_spaces="based-on-source")


def _spoken(maths: str) -> str:
    """Inline maths in one line of plain characters, near enough to be recognised."""
    maths = re.sub(r"\\[td]frac\s*(?=[\w{\\])", r"\\frac ", maths)
    maths = re.sub(r"\\ne\b", r"\\neq ", re.sub(r"\\mathbb\b", "", maths))
    maths = re.sub(r"([_^])\{([^{}]*[-+/ ][^{}]*)\}", r"\1{(\2)}", maths)  # or D^{1/2}P would read D^1/2P
    words = _PLAIN.latex_to_text(maths).replace("^⊤", "ᵀ").replace("|", "∣")  # a bar of maths, not of a table
    return re.sub(r"\s+", " ", words).strip()
