"""Numbers that the worked notebook recorded, and the prose that quotes them.

``{value}`name``` in a source becomes the recorded number; ``{value}`name:.2f``` says how it is written.
"""

from __future__ import annotations

import ast
import functools
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refract.authoring.model import Claim
from refract.errors import RefractError
from refract.paths import SectionPaths

ROLE = re.compile(r"\{value\}`(?P<name>[a-z][a-z0-9_]*)(?::(?P<format>[^`]+))?`")


@dataclass(frozen=True)
class Recorded:
    """A recorded value and how far a second run may differ from it (absolute)."""

    value: float | int | str
    within: float = 0.0

    def agrees(self, other: Recorded) -> bool:
        """Whether ``other``, from another run, is the same to within this value's tolerance."""
        if isinstance(self.value, str) or isinstance(other.value, str):
            return self.value == other.value
        rounding = 1e-9 * max(1.0, abs(self.value))  # 1.0 and 0.7 are 0.3 apart, whatever floats say
        return abs(self.value - other.value) <= self.within + rounding


def load(paths: SectionPaths) -> dict[str, Recorded]:
    """The values that the section's worked notebook recorded; empty before its first run."""
    return load_recorded(paths.values)


def load_recorded(file: Path) -> dict[str, Recorded]:
    """The values in a file; empty if there is none."""
    return dict(_read(file, file.stat().st_mtime_ns)) if file.is_file() else {}


@functools.lru_cache(maxsize=128)
def _read(path: Path, stamp: int) -> dict[str, Recorded]:
    return {name: Recorded(**entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}


def dump(recorded: Mapping[str, Recorded]) -> str:
    """The text of a values file."""
    entries = {name: {"value": item.value, "within": item.within} for name, item in sorted(recorded.items())}
    return json.dumps(entries, indent=1) + "\n"


def write(value: float | int | str, form: str | None) -> str:
    """One value as it stands in prose; floats default to three significant digits.

    Raises:
        RefractError: ``form`` does not suit the value.
    """
    if isinstance(value, str):
        return value
    try:
        text = format(value, form or ("d" if isinstance(value, int) else ".3g"))
    except ValueError as error:
        raise RefractError(f"{value!r} cannot be written as {form!r}: {error}.", "Use another format.") from error
    return text.replace("-", "\N{MINUS SIGN}")


def fill(text: str, recorded: Mapping[str, Recorded]) -> str:
    """Replace every ``{value}`` role in Markdown.

    Raises:
        RefractError: a value that nothing recorded.
    """

    def one(match: re.Match[str]) -> str:
        item = recorded.get(match["name"])
        if item is None:
            raise RefractError(
                f"The prose quotes {match['name']!r}, which was never recorded.",
                "Record it in a code cell, record(name, value, within=…), and run `python -m refract build`.",
            )
        return write(item.value, match["format"])

    return ROLE.sub(one, text)


def quoted(text: str) -> set[str]:
    """The names of the values that a text quotes."""
    return {match["name"] for match in ROLE.finditer(text)}


_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def condition_names(condition: str) -> set[str]:
    """The values that a claim's condition reads.

    Raises:
        ValueError: it is no arithmetic comparison of recorded values.
    """
    try:
        tree = ast.parse(condition, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{condition!r} is not an expression") from error
    allowed = (
        ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.USub, ast.Not, ast.BinOp, ast.Compare,
        ast.Name, ast.Load, ast.Constant, ast.Call, *_OPERATORS,
    )  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, allowed) or (isinstance(node, ast.Call) and not _is_abs(node)):
            raise ValueError(f"{condition!r} is more than arithmetic, comparisons, and/or/not and abs()")
    if not _is_statement(tree.body):
        raise ValueError(f"{condition!r} compares nothing, so it is neither true nor false")
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"abs"}


def _is_statement(node: ast.expr) -> bool:
    match node:
        case ast.BoolOp(values=parts):
            return all(map(_is_statement, parts))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _is_statement(operand)
    return isinstance(node, ast.Compare)


def _is_abs(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "abs" and len(node.args) == 1 and not node.keywords


def holds(condition: str, recorded: Mapping[str, Recorded]) -> bool:
    """Whether a claim's condition is true of the recorded values.

    Raises:
        RefractError: it reads what nothing recorded, divides by zero, or compares text with numbers.
    """
    missing = condition_names(condition) - recorded.keys()
    if missing:
        raise RefractError(
            f"The condition {condition!r} reads {', '.join(sorted(missing))}, which was never recorded.",
            "Record it in a code cell and run `python -m refract build`.",
        )
    try:
        return bool(_evaluate(ast.parse(condition, mode="eval").body, recorded))
    except (ArithmeticError, TypeError) as error:
        found = ", ".join(f"{name} = {recorded[name].value!r}" for name in sorted(condition_names(condition)))
        raise RefractError(
            f"The condition {condition!r} cannot be decided with {found}: {error}.", "Mend the condition."
        ) from error


def _evaluate(node: ast.AST, recorded: Mapping[str, Recorded]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return recorded[name].value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate(operand, recorded)
        case ast.UnaryOp(operand=operand):
            return -_evaluate(operand, recorded)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluate(left, recorded), _evaluate(right, recorded))
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_evaluate(value, recorded) for value in values)
        case ast.BoolOp(values=values):
            return any(_evaluate(value, recorded) for value in values)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [_evaluate(side, recorded) for side in (left, *comparators)]
            pairs = zip(ops, sides[:-1], sides[1:], strict=True)
            return all(_OPERATORS[type(op)](one, two) for op, one, two in pairs)
        case ast.Call(args=[argument]):
            return abs(_evaluate(argument, recorded))
    raise ValueError(f"cannot evaluate {ast.dump(node)}")  # condition_names() has refused it already


def verdict(claim: Claim, recorded: Mapping[str, Recorded]) -> str:
    """``"replicated"``, ``"partly"`` or ``"not replicated"``, from the recorded values alone."""
    if holds(claim.replicated, recorded):
        return "replicated"
    if claim.partly is not None and holds(claim.partly, recorded):
        return "partly"
    return "not replicated"


def evidence(claim: Claim, recorded: Mapping[str, Recorded]) -> dict[str, float | int | str]:
    """The recorded values on which a claim's verdict rests."""
    names = condition_names(claim.replicated) | (condition_names(claim.partly) if claim.partly else set())
    return {name: recorded[name].value for name in sorted(names)}
