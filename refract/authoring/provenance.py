"""What made a worked notebook, and what it made: hashes, so that drift is found without running anything."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

from nbformat import NotebookNode

from refract.paths import SectionPaths, root

_PACKAGES = ("refract", "solutions")
# The machinery makes no figure and no number: a change in it makes no worked notebook stale.
_MACHINERY = {"authoring", "bootstrap", "checking", "cli", "errors", "paths", "progress", "reference", "session"}
_STYLE = "import refract.plots.style"  # every notebook's set-up turns it on
# The set-up cell is the same everywhere; what it imports (checker, progress) makes no figure and no number.
_IGNORED_CELLS = ("top-setup",)


def made_by(notebook: NotebookNode) -> str:
    """A hash of the notebook's code cells and of the course modules that they import, directly or not."""
    code = [
        cell["source"] for cell in notebook.cells if cell["cell_type"] == "code" and cell["id"] not in _IGNORED_CELLS
    ]
    seen: dict[str, str] = {}
    for source in (_STYLE, *code):
        _follow(source, seen)
    digest = hashlib.sha256()
    for text in (*code, *(f"{name}\0{seen[name]}" for name in sorted(seen))):
        digest.update(text.encode() + b"\0\0")
    return digest.hexdigest()[:32]


def made(paths: SectionPaths, notebook: NotebookNode) -> dict[str, str]:
    """A hash of each thing that the execution left: the outputs in the notebook, figures, values."""
    outputs = [cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"]
    found = {f"{_name(paths.worked)} (its outputs)": _hash(json.dumps(outputs, sort_keys=True).encode())}
    for file in (paths.values, *sorted(paths.figures.glob("*.*"))):
        if file.is_file():
            found[_name(file)] = _hash(file.read_bytes())
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _name(path: Path) -> str:
    return path.relative_to(root()).as_posix()


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
    package, _, rest = module.partition(".")
    if package not in _PACKAGES or not rest or (package == "refract" and rest.split(".")[0] in _MACHINERY):
        return None
    path = root().joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
