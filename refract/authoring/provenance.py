"""What made a worked notebook: a hash over its code and over every course module that the code reaches."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

from nbformat import NotebookNode

from refract.paths import root

_PACKAGES = ("refract", "solutions")
# The set-up cell is the same everywhere; what it imports (checker, progress) makes no figure and no number.
_IGNORED_CELLS = ("top-setup",)


def made_by(notebook: NotebookNode) -> str:
    """A hash of the notebook's code cells and of the course modules that they import, directly or not."""
    code = [
        cell["source"] for cell in notebook.cells if cell["cell_type"] == "code" and cell["id"] not in _IGNORED_CELLS
    ]
    seen: dict[str, str] = {}
    for source in code:
        _follow(source, seen)
    digest = hashlib.sha256()
    for text in (*code, *(f"{name}\0{seen[name]}" for name in sorted(seen))):
        digest.update(text.encode() + b"\0\0")
    return digest.hexdigest()[:32]


def _follow(source: str, seen: dict[str, str]) -> None:
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            file = _file(name)
            if file is None or name in seen:
                continue
            seen[name] = file.read_text(encoding="utf-8")
            _follow(seen[name], seen)


def _file(module: str) -> Path | None:
    if module.split(".", maxsplit=1)[0] not in _PACKAGES or module == "refract":
        return None
    path = root().joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
