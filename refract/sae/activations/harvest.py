"""Harvest activations into a folder, a shard at a time; what was harvested once is never harvested again.

A shard is made of a fixed number of contexts, so what it holds follows from the settings and the text alone. Which
rows it has follows from the text without the model. Going on after an interruption is then simple: read the text
again, and run the model for the shards that are not there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refract.errors import RefractError
from refract.sae.activations import files, forward, shards, statistics
from refract.sae.activations.manifest import LARGEST, MEAN, NAME, Manifest, OnProgress, Settings
from refract.sae.activations.store import Store, verify

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from refract.data import Contexts
    from refract.models import Identity

LOCK = ".lock"


def harvest(
    model: TransformerBridge,
    contexts: Iterable[Contexts],
    hooks: str | Sequence[str],
    folder: str | os.PathLike[str],
    *,
    source: str,
    rows: int | None = None,
    skip_first: int = 0,
    batch: int = 32,
    shard_rows: int = 65_536,
    dtype: str = "float16",
    identity: Identity | None = None,
    on_progress: OnProgress | None = None,
) -> Store:
    """Run ``model`` on ``contexts`` and keep what the hooks see at every position that is not a separator.

    Args:
        model: A bridge. It runs in evaluation mode, without gradients, and only as far as the last hook.
        contexts: The text as tokens, from ``refract.data.pack``; from its beginning also when a harvest goes on.
        hooks: One or several hook points; with several, row i of each is the same position of the same context.
        folder: A new or empty folder, or one with a harvest of the same settings: that one is gone on with.
        source: The text and its settings, in words. To go on with another source is refused.
        rows: How many rows to harvest at most; all, if not given. A text that ends before is told by a warning.
        skip_first: How many positions at the beginning of every context are left out.
        batch: Contexts in a forward pass.
        shard_rows: About how many rows a file has. A shard is held in memory while it is made.
        dtype: Of the files, "float16" or "float32".
        identity: The model's name, revision and dtype; ``refract.models.identity(model)`` if not given.
        on_progress: Called with a stage ("verify", "harvest", "statistics"), how much is done, and of how much if
            that is known; ``bars()`` makes one that shows bars.

    Returns:
        The store. A harvest that was complete is verified and opened: the model does not run, and of ``contexts``
        only the first is looked at.

    Raises:
        RefractError: for a folder with something else in it, settings or a text other than at the beginning, a
            damaged shard, activations that are not finite or too large for float16, and a disk that is full.
    """
    folder, on_progress = Path(folder), on_progress or (lambda stage, done, total: None)
    names = forward.check_hooks(model, hooks)
    _check_numbers(rows, skip_first, batch, shard_rows, dtype)
    if identity is None:
        from refract import models

        identity = models.identity(model)
    contexts, n_ctx = _length(contexts)
    settings = Settings(
        model=identity.name,
        revision=identity.revision,
        model_dtype=identity.dtype,
        hooks=names,
        source=source,
        n_ctx=n_ctx,
        skip_first=skip_first,
        rows=rows,
        batch=batch,
        shard_rows=shard_rows,
        dtype=dtype,
    )
    with _alone(folder):
        manifest = _begin(folder, settings)
        missing = _missing(folder, manifest)
        verify(folder, manifest, on_progress, but=missing)
        if missing or not manifest.complete:
            manifest.complete = False
            manifest.note_versions()
            shards.make(model, contexts, folder, manifest, missing=missing, on_progress=on_progress)
            statistics.add(folder, manifest, on_progress)
            manifest.complete = True
            manifest.save(folder)
        return Store.open(folder)


def _check_numbers(rows: int | None, skip_first: int, batch: int, shard_rows: int, dtype: str) -> None:
    for name, value, least in (("rows", rows, 2), ("skip_first", skip_first, 0), ("batch", batch, 1)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise RefractError(f"{name} is {value!r}.", f"Give a whole number, {least} or more.")
    if not isinstance(shard_rows, int) or shard_rows < 1:
        raise RefractError(f"shard_rows is {shard_rows!r}.", "Give a whole number, such as 65536.")
    if dtype not in LARGEST:
        raise RefractError(f"dtype is {dtype!r}.", f"Choose one of {', '.join(map(repr, LARGEST))}.")


def _length(contexts: Iterable[Contexts]) -> tuple[Iterator[Contexts], int]:
    """The contexts, all of them still, and how long they are."""
    rest = iter(contexts)
    for first in rest:
        if len(first.tokens):
            return itertools.chain([first], rest), first.tokens.shape[-1]
    raise RefractError(
        "There are no contexts to harvest.",
        "Give more text: what does not fill a context is dropped. A generator can be read only once; make a new one.",
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and work in it alone. A killed process holds no lock."""
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise RefractError(f"{folder} is a file.", "Give a folder to harvest into.")
    held = folder.is_dir() and not (folder / NAME).exists()
    others = [path.name for path in folder.iterdir() if not _ours(path)] if held else []
    if others:
        raise RefractError(
            f"{folder} holds something else: {', '.join(sorted(others)[:3])}.",
            "Harvest into a new or an empty folder. Nothing was changed.",
        )
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RefractError(
            f"Another process harvests into {folder}.", "Wait for it to end, or harvest into another folder."
        ) from error
    except OSError as error:
        raise RefractError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Harvest into a folder that is yours. To read a finished harvest, `Store.open` is enough.",
        ) from error
    with lock:
        yield  # what a killed process was writing has the name under which it is written again


def _ours(path: Path) -> bool:
    return path.name == LOCK or path.name.endswith(files.PARTIAL)


def _begin(folder: Path, settings: Settings) -> Manifest:
    """The manifest of the harvest that was begun here with these settings, or a new one."""
    if (folder / NAME).exists():
        manifest = Manifest.load(folder)
        manifest.settings.check(settings, folder)
        return manifest
    manifest = Manifest(settings)
    manifest.save(folder)
    return manifest


def _missing(folder: Path, manifest: Manifest) -> set[str]:
    """The files that the manifest lists and that are not there."""
    listed = {name for shard in manifest.shards for name in shard.files} | ({MEAN} if manifest.mean else set())
    return {name for name in listed if not (folder / name).exists()}
