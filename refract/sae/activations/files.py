"""npy files that are whole or not there, and maps of them into memory."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from refract.errors import RefractError

PARTIAL = ".partial"  # the ending of a file that is still being written
AGAIN = "call harvest again with the same settings: it makes again what is missing, and nothing else"


def write(path: Path, content: Callable[[BinaryIO], object]) -> str:
    """Write a file under another name, rename it, and return its SHA-256.

    Raises ``RefractError`` where it cannot be written, such as on a full disk; then nothing is left of it.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        digest = sha256(partial)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "The disk is full" if full else f"It failed with {error.strerror or error}"
        raise RefractError(
            f"{path} cannot be written. {problem}.",
            f"{'Free some space' if full else 'Mend that'}, and {AGAIN}.",
        ) from error
    return digest


def write_array(path: Path, array: np.ndarray) -> str:
    """Write ``array`` as an npy file and return the file's SHA-256. See ``write``."""
    array = np.ascontiguousarray(array)

    def content(file: BinaryIO) -> None:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)  # numpy's own writer does not say when the disk is full

    return write(path, content)


def sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file. ``on_bytes`` hears of every piece that has been read."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(piece):
            digest.update(piece[:n])
            if on_bytes is not None:
                on_bytes(n)
    return digest.hexdigest()


def map_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Map an npy file into memory, after a look at its header and its size. Raises ``RefractError``, by name.

    numpy's own memmap keeps a file descriptor open for each map, and a long harvest has more shards than a process
    may have open files. PyTorch's map keeps none.
    """
    remedy = f"Delete this file and {AGAIN}."
    if not path.is_file():
        raise RefractError(f"{path} is missing.", f"Put it back, or {AGAIN}.")
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            has_shape, has_fortran, has_dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
    except ValueError as error:
        raise RefractError(f"{path} is damaged: it has no header of an npy file.", remedy) from error
    if (has_shape, has_dtype, has_fortran) != (shape, np.dtype(dtype), False):
        raise RefractError(
            f"{path} does not belong here: it holds {has_dtype} {list(has_shape)}, "
            f"and the manifest says {dtype} {list(shape)}.",
            remedy,
        )
    size, expected = path.stat().st_size, offset + int(np.prod(shape)) * has_dtype.itemsize
    if size != expected:
        how = "cut short" if size < expected else "too long"
        raise RefractError(f"{path} is {how}: it has {size:,} bytes, and should have {expected:,}.", remedy)
    items = size // has_dtype.itemsize
    whole = torch.from_file(str(path), shared=False, size=items, dtype=getattr(torch, dtype)).numpy()
    return whole[offset // has_dtype.itemsize :].reshape(shape)
