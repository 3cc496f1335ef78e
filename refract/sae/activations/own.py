"""Activations that you have already: written as a store, so that everything that works on a harvest works on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refract.errors import RefractError
from refract.sae.activations import files, statistics
from refract.sae.activations.manifest import COLUMNS, Manifest, Settings, Shard, file_names
from refract.sae.activations.store import Store


def write(
    folder: str | os.PathLike[str],
    activations: Mapping[str, Float[Tensor, "row d_in"]],
    *,
    source: str = "given as tensors",
    dtype: str = "float32",
    shard_rows: int = 65_536,
) -> Store:
    """Write rows, by a name for each hook, into a new folder.

    Where they come from is not known: ``Store.where`` gives each row its own number as a context, and -1 else.

    Raises:
        RefractError: for a folder that exists, hooks with different numbers of rows, and numbers that are not finite.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise RefractError(f"{folder} holds something already.", "Give a new or an empty folder.")
    rows = {hook: len(values) for hook, values in activations.items()}
    if len(set(rows.values())) != 1 or any(values.ndim != 2 for values in activations.values()):
        raise RefractError(
            f"The activations have {rows} rows.", "Give tensors (row, d_in) with the same rows for every hook."
        )
    count, hooks = next(iter(rows.values())), tuple(activations)
    settings = Settings("given", "", "", hooks, source, 1, 0, count, 1, shard_rows, dtype)
    manifest = Manifest(settings, d_in=tuple(values.shape[1] for values in activations.values()))
    folder.mkdir(parents=True, exist_ok=True)
    for begin in range(0, count, shard_rows):
        part = slice(begin, min(begin + shard_rows, count))
        arrays = [np.asarray(values[part].to(getattr(torch, dtype)).cpu()) for values in activations.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            raise RefractError(
                f"Among the rows from {begin:,} on, some numbers are not finite in {dtype}.",
                "Leave these rows out; if they are only large, give dtype='float32'.",
            )
        table = np.full((part.stop - begin, len(COLUMNS)), -1, np.int32)
        table[:, COLUMNS.index("context")] = np.arange(begin, part.stop)
        names = file_names(len(manifest.shards), hooks)
        digests = {
            name: files.write_array(folder / name, array) for name, array in zip(names, [*arrays, table], strict=True)
        }
        manifest.shards.append(Shard(len(table), "", digests))
    statistics.add(folder, manifest, lambda stage, done, total: None)
    manifest.note_versions()
    manifest.complete = True
    manifest.save(folder)
    return Store.open(folder)
