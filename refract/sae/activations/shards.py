"""Make the shards of a harvest that are not there yet."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from refract.errors import RefractError
from refract.sae.activations import files, forward
from refract.sae.activations.manifest import COLUMNS, LARGEST, Manifest, OnProgress, Shard, file_names

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from refract.data import Contexts


def make(
    model: TransformerBridge,
    contexts: Iterable[Contexts],
    folder: Path,
    manifest: Manifest,
    *,
    missing: set[str],
    on_progress: OnProgress,
) -> None:
    """Read all the text, and run the model for each shard that is not in ``manifest`` or has a file in ``missing``.

    After each shard the manifest is saved. Raises ``RefractError`` for another text than at the beginning.
    """
    settings = manifest.settings
    rows = first_context = number = 0
    for number, group in enumerate(forward.regroup(contexts, settings.shard_contexts, settings.n_ctx), start=1):
        keep = forward.kept(group, settings.skip_first)
        if settings.rows is not None:
            keep = forward.at_most(keep, settings.rows - rows)
        text = _fingerprint(group)
        known = manifest.shards[number - 1] if number <= len(manifest.shards) else None
        if known is not None and known.contexts != text:
            raise _other_text(folder, number - 1)
        if known is None or not missing.isdisjoint(known.files):
            harvested = forward.harvested(
                model, _batches(group, keep, settings.batch), settings.hooks, first_context=first_context
            )
            values = _collect(harvested, manifest, int(keep.sum()), rows, on_progress)
            if not manifest.d_in:
                manifest.d_in = tuple(value.shape[1] for value in values)
                _check_space(folder, manifest)
            table = _provenance(group, keep, first_context)
            names = file_names(number - 1, settings.hooks)
            digests = {
                name: files.write_array(folder / name, array)
                for name, array in zip(names, [*values, table], strict=True)
            }
            manifest.shards[number - 1 : number] = [Shard(len(table), text, digests)]
            manifest.save(folder)
        rows += int(keep.sum())
        first_context += len(keep)
        on_progress("harvest", rows, settings.rows)
        if rows == settings.rows:
            break
    if number < len(manifest.shards):
        raise _other_text(folder, number)
    if settings.rows is None:
        on_progress("harvest", rows, rows)
    elif rows < settings.rows:
        warnings.warn(f"The text ended after {rows:,} of {settings.rows:,} rows.", stacklevel=3)


def _fingerprint(group: Contexts) -> str:
    """The SHA-256 of a group of contexts."""
    digest = hashlib.sha256()
    for column in group:
        digest.update(np.ascontiguousarray(column.numpy(), dtype="<i8").data)
    return digest.hexdigest()


def _other_text(folder: Path, number: int) -> RefractError:
    return RefractError(
        f"{folder} was begun with another text: the contexts of shard {number} are not the ones that it was made from.",
        "Give the same documents, tokenizer and n_ctx from the beginning, or harvest into another folder.",
    )


def _batches(group: Contexts, keep: Tensor, size: int) -> Iterator[tuple[Contexts, Tensor]]:
    """What the model runs on at a time, as far as there is something to keep."""
    for begin in range(0, len(keep), size):
        if begin == 0 or keep[begin:].any():  # the first always: it tells d_in
            part = slice(begin, begin + size)
            yield type(group)(*(column[part] for column in group)), keep[part]


def _collect(
    harvested: Iterable[forward.Harvested], manifest: Manifest, rows: int, before: int, on_progress: OnProgress
) -> list[np.ndarray]:
    """All of a shard's rows, an array for each hook. Raises ``RefractError`` for a number too large for the files."""
    settings, arrays, at = manifest.settings, list[np.ndarray](), 0
    for _, _, activations in harvested:
        if not arrays:
            arrays = [np.empty((rows, value.shape[1]), settings.dtype) for value in activations]
        for hook, array, value in zip(settings.hooks, arrays, activations, strict=True):
            array[at : at + len(value)] = _cast(value, hook, settings.dtype).cpu().numpy()
        at += len(activations[0])
        on_progress("harvest", before + at, settings.rows)
    widths = tuple(array.shape[1] for array in arrays)
    if manifest.d_in and widths != manifest.d_in:
        raise RefractError(
            f"The harvest was begun with d_in {list(manifest.d_in)}, and the model now gives {list(widths)}.",
            "Give the model that it was begun with, or harvest into another folder.",
        )
    return arrays


def _cast(value: Tensor, hook: str, dtype: str) -> Tensor:
    cast = value.to(getattr(torch, dtype))
    if not bool(cast.isfinite().all()):
        raise RefractError(
            f"An activation at {hook!r} is {float(value.abs().max()):.3g}; {dtype} ends at {LARGEST[dtype]:.3g}.",
            'Harvest into a new folder with dtype="float32".',
        )
    return cast


def _provenance(group: Contexts, keep: Tensor, first_context: int) -> np.ndarray:
    """Where each row comes from: int32 [row column]."""
    context, position = keep.nonzero(as_tuple=True)
    columns = {
        "token": group.tokens[keep],
        "document": group.document[keep],
        "start": group.start[keep],
        "end": group.end[keep],
        "position": position,
        "context": context + first_context,
    }
    return torch.stack([columns[name] for name in COLUMNS], dim=1).to(torch.int32).numpy()


def _check_space(folder: Path, manifest: Manifest) -> None:
    """Refuse to begin what will not fit on the disk."""
    if manifest.settings.rows is None:
        return
    row = sum(manifest.d_in) * np.dtype(manifest.settings.dtype).itemsize + 4 * len(COLUMNS)
    needed, free = manifest.settings.rows * row, shutil.disk_usage(folder).free
    if needed > free:
        raise RefractError(
            f"{manifest.settings.rows:,} rows take {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free.",
            "Free some space, harvest fewer rows, or harvest into a folder on another disk.",
        )
