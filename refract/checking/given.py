"""What a section hands the learner: the statements of its own notebook, and the names that they define."""

from __future__ import annotations

import ast
import functools
import json
from pathlib import Path

from refract.paths import SectionPaths


def statements(paths: SectionPaths) -> frozenset[str]:
    """The course's own statements, each as :func:`fingerprint` writes it. Empty where no notebook has been built."""
    return frozenset(map(fingerprint, _parsed(paths)))


def names(paths: SectionPaths) -> frozenset[str]:
    """What an answer may use of them: imports, functions and classes. An experiment's variables are no part of it."""
    from refract.checking.definitions import assigned

    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return frozenset(name for each in _parsed(paths) if isinstance(each, kinds) for name in assigned(each))


def fingerprint(statement: ast.stmt) -> str:
    """A statement without its place, comments and spacing: equal if nobody has changed what it says."""
    return ast.dump(statement)


def _parsed(paths: SectionPaths) -> tuple[ast.stmt, ...]:
    try:
        return _read(str(paths.notebook), paths.notebook.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        return ()


@functools.lru_cache(maxsize=16)
def _read(file: str, _changed: int) -> tuple[ast.stmt, ...]:
    cells = json.loads(Path(file).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return tuple(statement for source in sources for statement in ast.parse(source).body)
