"""Parse a section's MyST Markdown into a :class:`~refract.authoring.model.Section`.

markdown-it-py finds the fences; what is ours is the table of directives and the errors. Every error names
file and line, and says what to do.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.colon_fence import colon_fence_plugin

from refract.authoring.directives import DIRECTIVES, Spec
from refract.authoring.model import (
    Aside,
    Block,
    Bonus,
    Claim,
    Code,
    Exercise,
    Figure,
    Lab,
    Mistake,
    Predict,
    Prose,
    Section,
)
from refract.errors import RefractError
from refract.paths import SectionPaths

CODE_WIDTH = 88  # what fits the site's column without scrolling

_DIRECTIVE = re.compile(r"\{(?P<name>[^}]*)\}\s*(?P<argument>.*)", re.DOTALL)
_OPTION = re.compile(r":(?P<key>[A-Za-z_][\w-]*):\s*(?P<value>.*)")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # an exercise may be a class
_OPENING = re.compile(r"(:{3,}|`{3,})\s*\{")
_LETTERS = "abcdefgh"
_CHOICE = re.compile(r"- (?P<letter>[a-z])\. (?P<text>.+)")


class SourceError(RefractError):
    """A malformed source: file, line, and what to do about it."""

    def __init__(self, path: Path, line: int, problem: str, remedy: str) -> None:
        super().__init__(f"{path}:{line}: {problem}", remedy)
        self.path = path
        self.line = line


class _Options(dict[str, str]):
    """A directive's options, and the line of each."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


@dataclass(frozen=True)
class _Piece:
    """A stretch of source: prose, a plain fence, or a directive with its parts."""

    kind: str  # "prose", "fence" or "directive"
    line: int
    text: str
    info: str = ""
    name: str = ""
    argument: str = ""

    def line_of(self, text: str) -> int:
        """The line of the file on which a line of a directive's text stands."""
        return self.line + 1 + self.text.split("\n").index(text)


def load(paths: SectionPaths) -> Section:
    """The parsed section. Cached by the source's content, so it is cheap to call often.

    Raises:
        SourceError: the source is malformed.
        RefractError: there is no such source.
    """
    if not paths.source.is_file():
        raise RefractError(f"{paths.source} does not exist.", "Check the section's name, or write its source there.")
    return _parse(paths, paths.source, paths.source.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=128)
def _parse(paths: SectionPaths, path: Path, text: str) -> Section:
    return parse(paths, text, path)


def parse(paths: SectionPaths, text: str, path: Path | None = None) -> Section:
    """Parse ``text`` as the source of the section ``paths``; errors name ``path``."""
    reader = _Reader(path or paths.source)
    blocks: list[Block] = []
    for piece in reader.pieces(text, first_line=1):
        if piece.kind == "prose":
            blocks.append(Prose(piece.text, piece.line))
        elif piece.kind == "fence":
            blocks.append(reader.fence(piece))
        else:
            blocks.append(reader.block(piece))
    reader.check_ids(blocks)
    return Section(paths, reader.title(blocks), tuple(_join_prose(blocks)))


def _join_prose(blocks: list[Block]) -> Iterator[Block]:
    """Merge neighbouring runs of prose (a fence that is not Python is prose too)."""
    pending: Prose | None = None
    for block in blocks:
        if isinstance(block, Prose):
            pending = block if pending is None else Prose(f"{pending.text}\n\n{block.text}", pending.line)
            continue
        if pending is not None:
            yield pending
            pending = None
        yield block
    if pending is not None:
        yield pending


def tokenizer() -> MarkdownIt:
    """The Markdown dialect of the sources."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).use(colon_fence_plugin)


class _Reader:
    """Turns one file's text into blocks; holds the path for the errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.options: dict[int, _Options] = {}  # by the line of their directive

    def fail(self, line: int, problem: str, remedy: str) -> SourceError:
        return SourceError(self.path, line, problem, remedy)

    # --- splitting -----------------------------------------------------------------------------

    def pieces(self, text: str, first_line: int) -> Iterator[_Piece]:
        """Split Markdown into prose, fences and directives, in order, with line numbers in the file."""
        lines = text.split("\n")
        start = 0
        for token in tokenizer().parse(text):
            if token.map is None:
                continue
            begin, end = token.map
            self._check_margin(token, lines, first_line)
            if token.level != 0 or token.type not in ("fence", "colon_fence"):
                continue
            self._check_closed(token, lines, begin, end, first_line)
            directive = self._directive(token, first_line + begin)
            if directive is None and token.type == "fence" and token.info.strip() != "python":
                continue  # an example in some other language: part of the prose
            yield from self._prose(lines, start, begin, first_line)
            start = end
            line = first_line + begin
            if directive is None:
                if token.type == "colon_fence":
                    raise self.fail(line, "a ::: fence without a directive.", "Write :::{name}, or remove it.")
                yield _Piece("fence", line, token.content.rstrip("\n"), info=token.info.strip())
            else:
                yield _Piece(
                    "directive",
                    line,
                    token.content.rstrip("\n"),
                    name=directive["name"].strip(),
                    argument=directive["argument"].strip(),
                )
        yield from self._prose(lines, start, len(lines), first_line)

    def _prose(self, lines: list[str], begin: int, end: int, first_line: int) -> Iterator[_Piece]:
        while begin < end and not lines[begin].strip():
            begin += 1
        text = "\n".join(lines[begin:end]).rstrip()
        if text:
            yield _Piece("prose", first_line + begin, text)

    def _directive(self, token: Token, line: int) -> re.Match[str] | None:
        """What a fence's opening line says if it is a directive; None for a plain fence."""
        info = token.info.strip()
        directive = _DIRECTIVE.fullmatch(info)
        if directive is None and info.startswith("{"):
            raise self.fail(line, f"{info!r} is no directive.", "Write {name}, then its argument.")
        if directive is None and info != "python" and info.split(" ")[0].lower() in ("py", "python", "python3"):
            raise self.fail(line, f"a code fence called {info!r} is not run.", "Call it python, and nothing else.")
        return directive

    def _check_margin(self, token: Token, lines: list[str], first_line: int) -> None:
        """Markdown would take an indented directive for text, for code, or for a part of a list."""
        begin, end = token.map or (0, 0)
        if token.type == "code_block":
            found = [place for place in range(begin, end) if _OPENING.match(lines[place].lstrip())]
        elif token.type in ("fence", "colon_fence") and token.info.strip().startswith("{"):
            found = [begin] if token.level or lines[begin][:1].isspace() else []
        else:
            return
        if found:
            problem = "a directive that is not at the left margin of the page."
            raise self.fail(first_line + found[0], problem, "Unindent it; to show one, put it in a longer fence.")

    def _check_closed(self, token: Token, lines: list[str], begin: int, end: int, first_line: int) -> None:
        marker = token.markup[0]
        again = re.compile(rf"{re.escape(token.markup)}+ *[^\s{marker}]")
        for place in range(begin + 1, end):
            if again.match(lines[place]):
                raise self.fail(
                    first_line + begin,
                    f"the fence opened with {token.markup} is not closed before line {first_line + place}.",
                    f"Close it with {token.markup}, or open it with more of them than the fences inside it.",
                )
        last = lines[end - 1].strip() if end - 1 > begin else ""
        if not (last.startswith(token.markup) and set(last) == {marker}):
            raise self.fail(
                first_line + begin,
                f"a fence opened with {token.markup} is never closed.",
                f"Close it with {token.markup} on a line of its own.",
            )

    # --- blocks --------------------------------------------------------------------------------

    def fence(self, piece: _Piece) -> Code:
        if not piece.text.strip():
            raise self.fail(piece.line, "a code fence with nothing in it.", "Write its code, or remove it.")
        try:
            compile(piece.text, str(self.path), "exec")
        except SyntaxError as error:
            line = piece.line + (error.lineno or 1)
            raise self.fail(line, f"this code does not compile: {error.msg}.", "Mend the code fence.") from error
        for offset, text in enumerate(piece.text.split("\n"), start=1):
            if len(text) > CODE_WIDTH:
                problem = f"this line of code has {len(text)} columns; the page shows {CODE_WIDTH}."
                raise self.fail(piece.line + offset, problem, "Break it.")
        return Code(piece.text, piece.line)

    def spec(self, piece: _Piece, allowed: tuple[str, ...] | None) -> Spec:
        """The directive's specification, or an error that lists what is known here."""
        spec = DIRECTIVES.get(piece.name)
        if spec is None:
            known = ", ".join(sorted(DIRECTIVES))
            raise self.fail(piece.line, f"unknown directive {{{piece.name}}}.", f"The directives are: {known}.")
        if allowed is None and not spec.top_level:
            parents = ", ".join(name for name, parent in DIRECTIVES.items() if piece.name in parent.children)
            raise self.fail(piece.line, f"{{{piece.name}}} stands alone.", f"Put it inside: {parents}.")
        if allowed is not None and piece.name not in allowed:
            here = ", ".join(allowed) or "none"
            raise self.fail(piece.line, f"{{{piece.name}}} may not stand here.", f"Directives allowed here: {here}.")
        pattern = _SYMBOL if piece.name == "exercise" else _IDENTIFIER
        if spec.identifier and not pattern.fullmatch(piece.argument):
            raise self.fail(
                piece.line,
                f"{{{piece.name}}} needs {spec.argument}; found {piece.argument!r}.",
                "Use letters, digits and underscores (lower case, but for a class).",
            )
        if spec.argument and not spec.identifier and not piece.argument and piece.name not in ("hint",):
            raise self.fail(piece.line, f"{{{piece.name}}} needs {spec.argument}.", "Write it after the directive.")
        if not spec.argument and piece.argument:
            raise self.fail(piece.line, f"{{{piece.name}}} takes no argument.", f"Remove {piece.argument!r}.")
        return spec

    def parts(self, piece: _Piece, spec: Spec) -> tuple[_Options, str, list[_Piece]]:
        """A directive's options, its own text, and its child directives."""
        options = _Options()
        self.options[piece.line] = options
        lines = piece.text.split("\n")
        used = 0
        for line in lines:
            option = _OPTION.fullmatch(line)
            if option is None:
                break
            key, where = option["key"], piece.line + 1 + used
            if key not in spec.options:
                known = ", ".join(spec.options) or "none"
                raise self.fail(where, f"{{{piece.name}}} has no option :{key}:.", f"Its options: {known}.")
            if key in options:
                raise self.fail(where, f"option :{key}: is given twice.", "Keep one of them.")
            options[key], options.lines[key] = option["value"].strip(), where
            used += 1
        for key, kind in spec.required:
            if not options.get(key):
                where = options.lines.get(key, piece.line)
                raise self.fail(
                    where, f"{{{piece.name}}} {piece.argument} lacks the option :{key}:.", f"Add it: {kind}."
                )
        own: list[str] = []
        children: list[_Piece] = []
        body = "\n".join(lines[used:])
        for child in self.pieces(body, piece.line + 1 + used):
            if child.kind == "directive":
                self.parts(child, self.spec(child, spec.children))
                children.append(child)
            elif child.kind == "fence":
                own.append(f"```python\n{child.text}\n```")
            else:
                own.append(child.text)
        return options, "\n\n".join(own).strip(), children

    def block(self, piece: _Piece) -> Block:
        spec = self.spec(piece, None)
        options, text, children = self.parts(piece, spec)
        make = getattr(self, f"_{piece.name}")
        return make(piece, options, text, children)

    def _number(self, piece: _Piece, options: _Options, key: str, low: int, high: int) -> int:
        value = options[key]
        if not value.isdigit() or not low <= int(value) <= high:
            raise self.fail(options.lines[key], f":{key}: is {value!r}.", f"It is a whole number from {low} to {high}.")
        return int(value)

    def _need_text(self, piece: _Piece, text: str) -> str:
        if not text:
            raise self.fail(piece.line, f"{{{piece.name}}} {piece.argument} has no text.", "Write its text.")
        return text

    def _exercise(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Exercise:
        hints: list[str] = []
        mistakes: list[Mistake] = []
        for child in children:
            if child.name == "hint":
                hint = "\n\n".join(part for part in (child.argument, child.text.strip("\n")) if part)
                hints.append(self._need_text(child, hint))
            else:
                if not _IDENTIFIER.fullmatch(child.argument):
                    raise self.fail(
                        child.line, f"{{mistake}} needs a name; found {child.argument!r}.", "Use snake_case."
                    )
                if any(mistake.name == child.argument for mistake in mistakes):
                    raise self.fail(child.line, f"mistake {child.argument} is described twice.", "Keep one.")
                mistakes.append(Mistake(child.argument, self._need_text(child, child.text.strip()), child.line))
        if not hints:
            raise self.fail(
                piece.line, f"exercise {piece.argument} has no hint.", "Add four: question, idea, shapes, a line."
            )
        return Exercise(
            piece.argument,
            self._number(piece, options, "difficulty", 1, 5),
            self._number(piece, options, "importance", 1, 5),
            self._number(piece, options, "minutes", 1, 120),
            self._need_text(piece, text),
            tuple(hints),
            tuple(mistakes),
            piece.line,
        )

    def _predict(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Predict:
        kind = options["kind"]
        if kind not in ("choice", "number"):
            raise self.fail(options.lines["kind"], f":kind: is {kind!r}.", "It is choice or number.")
        question: list[str] = []
        choices: list[str] = []
        for line in self._need_text(piece, text).split("\n"):
            choice = _CHOICE.fullmatch(line) if kind == "choice" else None
            if choice is None and choices and line.startswith("  "):
                choices[-1] += f" {line.strip()}"  # a choice that runs on
            elif choice is None:
                question.append(line)
            elif choice["letter"] != _LETTERS[len(choices) : len(choices) + 1]:
                problem = f"the choices are not lettered a, b, c, … in order, up to {_LETTERS[-1]}."
                raise self.fail(piece.line_of(line), problem, "Letter them so.")
            else:
                choices.append(choice["text"])
        answer = options["answer"]
        if kind == "choice" and len(choices) < 2:
            raise self.fail(piece.line, "a choice needs at least two choices.", "Write lines like '- a. text'.")
        if kind == "choice" and len(answer) == 1 and answer not in _LETTERS[: len(choices)]:
            raise self.fail(
                options.lines["answer"], f":answer: {answer} is none of the choices.", "Name one of their letters."
            )
        if len(children) != 1:
            where = children[1].line if children else piece.line
            raise self.fail(where, "a prediction needs one {reveal}.", "Say what happened, and why.")
        tolerance = options.get("tolerance", "0")
        try:
            slack = float(tolerance)
        except ValueError:
            slack = math.nan
        if not 0 <= slack < math.inf:
            raise self.fail(options.lines["tolerance"], f":tolerance: is {tolerance!r}.", "It is a number, 0 or more.")
        return Predict(
            piece.argument,
            kind,
            self._need_text(piece, "\n".join(question).strip()),
            tuple(choices),
            answer,
            slack,
            self._need_text(children[0], children[0].text.strip("\n")),
            piece.line,
            *self._range(kind, options),
        )

    def _range(self, kind: str, options: _Options) -> tuple[float, float]:
        """What a prediction's number can be at all."""
        text = options.get("range")
        if text is None:
            return -math.inf, math.inf
        where = options.lines["range"]
        if kind == "choice":
            raise self.fail(where, ":range: is for numbers, and this is a choice.", "Leave it out.")
        try:
            least, most = (float(number) for number in text.split(" to "))
        except ValueError:
            least = most = math.nan
        if not least < most:
            raise self.fail(where, f":range: is {text!r}.", "Write the least and the most, like 0 to 5.")
        return least, most

    def _figure(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Figure:
        caption = self._need_text(piece, text)
        return Figure(piece.argument, caption, options["alt"], options.get("after"), piece.line)

    def _claim(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Claim:
        statement = self._need_text(piece, text)
        return Claim(
            piece.argument, statement, options["source"], options["replicated"], options.get("partly"), piece.line
        )

    def _lab(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Lab:
        return Lab(piece.argument, self._need_text(piece, text), piece.line)

    def _aside(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Aside:
        return Aside(piece.argument, self._need_text(piece, text), piece.line)

    def _bonus(self, piece: _Piece, options: _Options, text: str, children: list[_Piece]) -> Bonus:
        return Bonus(piece.argument, self._need_text(piece, text), piece.line)

    # --- the whole -----------------------------------------------------------------------------

    def title(self, blocks: list[Block]) -> str:
        first = blocks[0] if blocks else None
        if isinstance(first, Prose) and first.text.startswith("# "):
            return first.text.split("\n", 1)[0][2:].strip()
        raise self.fail(1, "the section has no title.", "Begin the file with '# Title'.")

    def check_ids(self, blocks: list[Block]) -> None:
        """Ids are unique, and a figure's ``:after:`` names an earlier prediction."""
        seen: dict[str, int] = {}
        predictions: set[str] = set()
        for block in blocks:
            name = getattr(block, "name", None)
            if name is not None:
                if name in seen:
                    raise self.fail(
                        block.line, f"the id {name!r} is used twice (first on line {seen[name]}).", "Rename one."
                    )
                seen[name] = block.line
            if isinstance(block, Predict):
                predictions.add(block.name)
            if isinstance(block, Figure) and block.after is not None and block.after not in predictions:
                raise self.fail(
                    self.options[block.line].lines["after"],
                    f"figure {block.name} comes after {block.after!r}, which is no earlier prediction.",
                    "Name a {predict} that stands above it.",
                )
