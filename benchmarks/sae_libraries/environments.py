"""A virtual environment for each library, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = {
    "refract": "run_refract.py",
    "sae-lens": "run_sae_lens.py",
    "dictionary-learning": "run_dictionary_learning.py",
    "eai-sparsify": "run_sparsify.py",
}
# nnsight, which dictionary_learning needs, brings torchvision. Nothing here uses it, and a build of it that is not for
# this torch keeps transformers from loading.
UNWANTED = {"dictionary-learning": ["torchvision"]}


def python(library: str, folder: Path) -> Path:
    """The interpreter of a library's environment in ``folder``; the course's own runs where this runs."""
    if library == "refract":
        return Path(sys.executable)
    within = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    return folder / library / within


def make(library: str, folder: Path) -> None:
    """Make a library's environment, unless it is there. It is made anew when its requirements have changed."""
    if library == "refract":
        return
    files = [HERE / f"requirements-{library}.txt", HERE / "constraints.txt"]
    wanted = "".join(file.read_text(encoding="utf-8") for file in files)
    stamp = folder / library / "requirements.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"Making the environment of {library} in {folder / library}. This takes some minutes.", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / library)], check=True)
    pip = [str(python(library, folder)), "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "-r", str(files[0]), "-c", str(files[1])], check=True)
    for package in UNWANTED.get(library, []):
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", package], check=True)
    stamp.write_text(wanted, encoding="utf-8")
