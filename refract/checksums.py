"""A folder's checksums, in a file that ``sha256sum -c SHA256SUMS`` reads too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from refract import atomic
from refract.errors import RefractError

NAME = "SHA256SUMS"


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def listing(files: Iterable[Path]) -> str:
    """A line for each file, in the order of their names: its SHA-256 and its name."""
    return "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(files, key=lambda file: file.name))


def write(folder: Path) -> None:
    """Write the checksums of all the files in the folder (not of those in folders below it)."""
    target = folder / NAME
    text = listing(file for file in folder.iterdir() if file.is_file() and file != target)
    atomic.write_text(target, text)


def verify(folder: Path) -> None:
    """Compare the folder's files with its ``SHA256SUMS``.

    Raises:
        RefractError: a file is missing or has changed, or the list itself cannot be read.
    """
    remedy = f"Fetch the folder again, or, if you changed it on purpose, delete {folder / NAME}."
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
        wanted = {name: digest for digest, name in (line.split("  ", maxsplit=1) for line in lines)}
    except (OSError, ValueError) as error:
        raise RefractError(f"{folder / NAME} cannot be read.", remedy) from error
    for name, digest in wanted.items():
        file = folder / name
        if not file.is_file():
            raise RefractError(f"{folder} is incomplete: {name} is missing.", remedy)
        if sha256(file) != digest:
            raise RefractError(f"{file} is damaged: its SHA-256 is not the one in {NAME}.", remedy)
