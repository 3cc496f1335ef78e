"""Bring a bare notebook kernel (Colab's, say) up to what the course needs, and touch nothing else.

Only the standard library is imported here: the rest may not be there yet.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from refract.errors import RefractError
from refract.paths import project

# A kernel that already runs must not see these change under it: that would need a restart.
UNTOUCHED = ("torch", "numpy")


def missing(*extras: str) -> list[str]:
    """The course's requirements (as in ``pyproject.toml``), and those of these extras, that are not installed here."""
    declared = project()["project"]
    wanted = [
        *declared["dependencies"],
        *(text for extra in extras for text in declared["optional-dependencies"][extra]),
    ]
    absent = []
    for requirement in wanted:
        name = re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(requirement)
    return absent


def install_missing(*extras: str) -> list[str]:
    """Install what is missing, with torch and numpy held at the versions that are here. Returns what it installed.

    A notebook that loads a language model asks for the extra ``"models"``.

    Raises:
        RefractError: torch or numpy themselves are missing, or pip failed.
    """
    absent = missing(*extras)
    names = [re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0] for requirement in absent]
    lacking = [name for name in names if name in UNTOUCHED]
    if lacking:
        raise RefractError(
            f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not installed here.",
            "Install it first (pytorch.org says how for your machine), then run this cell again.",
        )
    if not absent:
        return []
    print(f"Installing {', '.join(names)}. It takes about half a minute.", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        held = [f"{name}=={importlib.metadata.version(name)}" for name in UNTOUCHED]
        constraints.write_text("\n".join(held) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "--constraint", str(constraints), *absent]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "pip gave no reason").splitlines()[-1]
        raise RefractError(
            f"Installing {', '.join(names)} failed: {reason}",
            "Check the connection and run this cell again.",
        )
    importlib.invalidate_caches()
    return names
