"""What can be fetched or computed again: a folder of the user's, filled by one process at a time, never by halves."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from refract.errors import RefractError

PATIENCE = 900.0  # seconds to wait for another process that is filling the same place


def folder() -> Path:
    """The cache: ``REFRACT_CACHE``, or the user's cache folder of the operating system. It may be deleted."""
    override = os.environ.get("REFRACT_CACHE")
    if override:
        return Path(override).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("refract", appauthor=False)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock of this name. The system lets go of it when the process ends, however it ends.

    Raises:
        RefractError: the cache cannot be written, or another process holds the lock for ``PATIENCE`` seconds.
    """
    from filelock import FileLock, Timeout

    path = folder() / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise trouble(error, path.parent) from error
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is preparing {name}. Waiting for it.", flush=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise RefractError(
                f"Another process has been preparing {name} for {PATIENCE / 60:.0f} minutes.",
                f"Stop it if it hangs, then try again. It holds {path}.",
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def whole(target: Path, needs: int = 0) -> Iterator[Path]:
    """A new folder to fill, which becomes ``target`` when the block ends well and vanishes when it does not.

    Hold ``locked`` around it: what an earlier, killed process left half-done is removed first. ``needs`` is the room
    in bytes that the block will take.

    Raises:
        RefractError: the disk is full, now or on the way, or the cache cannot be written.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        free = shutil.disk_usage(partial).free
        if free < needs:
            raise OSError(errno.ENOSPC, f"{free / 1e6:.0f} MB are free and {needs / 1e6:.0f} MB are needed")
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    except OSError as error:
        raise trouble(error, target.parent) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def trouble(error: OSError, where: Path) -> RefractError:
    """What an error of the file system means to the reader."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefractError(
            f"The disk that holds {where} is full: {error.strerror}.",
            "Free some space, or set REFRACT_CACHE to a folder on another disk, then try again.",
        )
    return RefractError(
        f"{where} cannot be used as a cache: {error}.",
        "Set REFRACT_CACHE to a folder that you can write, and try again.",
    )
