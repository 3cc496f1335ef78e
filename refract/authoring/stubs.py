"""From the reference module to the exercise cell: source lines are sliced, never rewritten."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from refract.errors import RefractError
from refract.paths import SectionPaths

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
UNWRITTEN = "your code here"
_STOP = f'raise NotImplementedError("{UNWRITTEN}")'


@dataclass(frozen=True)
class Reference:
    """A reference module, read as text."""

    text: str
    imports: str
    symbols: dict[str, str]  # public top-level functions and classes, by name: their source, markers included
    lines: dict[str, int]


def read(paths: SectionPaths) -> Reference:
    """The section's reference module. Cached by content."""
    if not paths.reference.is_file():
        raise RefractError(f"{paths.reference} does not exist.", "Write the section's reference module there.")
    return _read(str(paths.reference), paths.reference.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=128)
def _read(path: str, text: str) -> Reference:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise RefractError(f"{path}:{error.lineno}: {error.msg}.", "Mend the reference module.") from error
    lines = text.split("\n")
    imports: list[str] = []
    symbols: dict[str, str] = {}
    where: dict[str, int] = {}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
                imports.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            symbols[node.name] = _slice(lines, start, node, following)
            where[node.name] = node.lineno
    return Reference(text, "\n".join(imports), symbols, where)


def _slice(lines: list[str], start: int, node: ast.stmt, following: ast.stmt | None) -> str:
    """The node's lines, with the indented comments that follow its last statement (a closing marker, say)."""
    limit = following.lineno - 1 if following is not None else len(lines)
    return "\n".join(lines[start - 1 : _with_comments(lines, node.end_lineno or start, limit, 0)])


def _with_comments(lines: list[str], end: int, limit: int, indent: int) -> int:
    """``end``, moved past the comments below it that are indented by more than ``indent``."""
    for place in range(end, limit):
        text = lines[place].lstrip()
        if text.startswith("#") and len(lines[place]) - len(text) > indent:
            end = place + 1
        elif text:
            break
    return end


def solution_source(paths: SectionPaths, name: str) -> str:
    """The reference's source of one exercise, without the markers."""
    lines = _symbol(paths, name).split("\n")
    return "\n".join(line for line in lines if line.strip() not in (BEGIN, END))


def stub(paths: SectionPaths, name: str) -> str:
    """The exercise cell: the reference with its answer taken out.

    With ``# BEGIN SOLUTION`` / ``# END SOLUTION`` only the marked regions go. Without them the whole body goes
    and decorators, signature and docstring stay; in a class, every method's body goes.
    """
    source = _symbol(paths, name)
    text = _cut_regions(source, paths, name) if BEGIN in source or END in source else _cut_bodies(source)
    where = f"{paths.reference}: the stub of {name}"
    if _STOP not in text:
        raise RefractError(f"{where} is its answer: nothing was taken out.", f"Mark the answer: {BEGIN} and {END}.")
    try:
        compile(text, f"<stub of {name}>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise RefractError(f"{where} does not compile: {error.msg}.", "Begin its body on a line of its own.") from error
    return text


def _symbol(paths: SectionPaths, name: str) -> str:
    reference = read(paths)
    if name not in reference.symbols:
        raise RefractError(
            f"{paths.reference} has no function or class {name!r}.", "Write it there, or rename the exercise."
        )
    return reference.symbols[name]


def _cut_regions(source: str, paths: SectionPaths, name: str) -> str:
    kept: list[str] = []
    inside = False
    for line in source.split("\n"):
        marker = line.strip()
        if marker in (BEGIN, END):
            if (marker == BEGIN) == inside:
                raise RefractError(
                    f"{paths.reference}: the solution markers of {name} are unbalanced.",
                    f"Pair every {BEGIN} with one {END}.",
                )
            inside = marker == BEGIN
            if inside:
                kept.append(line[: len(line) - len(line.lstrip())] + _STOP)
        elif not inside:
            kept.append(line)
    if inside:
        raise RefractError(f"{paths.reference}: a solution region of {name} is never closed.", f"Close it with {END}.")
    return "\n".join(kept)


def _cut_bodies(source: str) -> str:
    lines = source.split("\n")
    for function in reversed(list(_functions(ast.parse(source).body))):
        body = function.body
        # comments may stand between the signature and the first statement, and after the last: they go too
        start = body[0].end_lineno or 0 if ast.get_docstring(function) is not None else _signature_end(lines, function)
        end = _with_comments(lines, function.end_lineno or start, len(lines), function.col_offset)
        lines[start:end] = [f"{' ' * body[0].col_offset}{_STOP}"]
    return "\n".join(lines)


def _functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a module or class and of the classes in it, in order; not those within functions."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _signature_end(lines: list[str], function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The line after which the body begins (the signature's colon ends it)."""
    first = function.body[0]
    line = min([first.lineno, *(decorator.lineno for decorator in getattr(first, "decorator_list", []))]) - 1
    while line > function.lineno and (not lines[line - 1].strip() or re.match(r"\s*#", lines[line - 1])):
        line -= 1
    return line
