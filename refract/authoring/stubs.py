"""From the reference module to the exercise cell: source lines are sliced, never rewritten."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass

from refract.errors import RefractError
from refract.paths import SectionPaths

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
_STOP = 'raise NotImplementedError("your code here")'


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
    end = node.end_lineno or start
    limit = following.lineno - 1 if following is not None else len(lines)
    while end < limit and lines[end].startswith((" ", "\t")) and lines[end].strip().startswith("#"):
        end += 1
    return "\n".join(lines[start - 1 : end])


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
    compile(text, f"<stub of {name}>", "exec", dont_inherit=True)
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
    node = ast.parse(source).body[0]
    functions: list[ast.FunctionDef]
    if isinstance(node, ast.FunctionDef):
        functions = [node]
    else:
        assert isinstance(node, ast.ClassDef)
        functions = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    for function in reversed(functions):
        body = function.body
        has_docstring = isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant)
        # comments may stand between the signature and the first statement: they go too
        start = (body[0].end_lineno or body[0].lineno) if has_docstring else _signature_end(lines, function)
        indent = " " * body[0].col_offset
        lines[start : function.end_lineno] = [f"{indent}{_STOP}"]
    return "\n".join(lines)


def _signature_end(lines: list[str], function: ast.FunctionDef) -> int:
    """The line after which the body begins (the signature's colon ends it)."""
    line = function.body[0].lineno - 1
    while line > function.lineno and (not lines[line - 1].strip() or re.match(r"\s*#", lines[line - 1])):
        line -= 1
    return line
