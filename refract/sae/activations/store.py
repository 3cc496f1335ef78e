"""A folder of harvested activations, opened for reading: rows by their index, and where they come from."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

from refract.errors import RefractError
from refract.sae.activations import files
from refract.sae.activations.manifest import COLUMNS, MEAN, Manifest, OnProgress

if TYPE_CHECKING:
    from refract.models import Identity

AT_ONCE = 16_384  # rows; bounds the memory that is used beside the result
PIECE = 32_768  # numbers that PyTorch converts on the calling thread; more would wake its other threads


class Where(NamedTuple):
    """Where rows come from."""

    token: Int32[Tensor, "row"]
    document: Int32[Tensor, "row"]  # its number in the stream of documents
    start: Int32[Tensor, "row"]  # of the token, in characters of the document's text
    end: Int32[Tensor, "row"]
    position: Int32[Tensor, "row"]  # in the context
    context: Int32[Tensor, "row"]  # its number in the stream of contexts


class Store:
    """Activations in a folder, memory-mapped: opening is quick, and only what is asked for is read.

    Any number of processes and threads can read one folder at the same time.

    Attributes:
        folder: Where it lies.
        manifest: What it holds, from which model and text: ``manifest.settings`` and more.
        hooks: The hook points, in the order of the axis ``hook``.
        rows: How many rows there are.
        mean: For each hook, the mean of all its rows: float64 [d_in].
        scale: For each hook, the number that brings the centred variance to 1 per dimension on average:
            scale = 1 / √(mean over rows and dimensions of (x - mean)²).
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.hooks, self.rows = manifest.settings.hooks, manifest.rows
        self._ends = np.cumsum([shard.rows for shard in manifest.shards])
        self._starts = self._ends - [shard.rows for shard in manifest.shards]
        maps = [
            [files.map_array(folder / name, shape, dtype) for name, shape, dtype in manifest.shapes(shard)]
            for shard in manifest.shards
        ]
        *arrays, self._table = zip(*maps, strict=True)  # each: a map for every shard
        self._arrays = dict(zip(self.hooks, arrays, strict=True))
        means = files.map_array(folder / MEAN, (sum(manifest.d_in),), "float64").copy()
        split = torch.from_numpy(means).split(list(manifest.d_in))
        self.mean: dict[str, Float[Tensor, "d_in"]] = dict(zip(self.hooks, split, strict=True))
        self.scale: dict[str, float] = dict(zip(self.hooks, manifest.scale, strict=True))
        self._memory = threading.local()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Store:
        """Open a finished harvest, after a look at every file's header and size. ``verify`` looks at all the bytes.

        Raises ``RefractError`` for a folder that is none or not finished, and by its name for a file that is missing,
        cut short, or of another shape or type than the manifest says.
        """
        folder = Path(folder)
        manifest = Manifest.load(folder)
        if not manifest.complete:
            raise RefractError(
                f"The harvest in {folder} is not finished: it has {manifest.rows:,} rows so far.", f"Now {files.AGAIN}."
            )
        return cls(folder, manifest)

    @property
    def d_in(self) -> int:
        """The length of a row. Raises ``RefractError`` if the hooks differ in it."""
        widths = dict(zip(self.hooks, self.manifest.d_in, strict=True))
        if len(set(widths.values())) > 1:
            raise RefractError(f"The hooks differ in d_in: {widths}.", "Name one hook.")
        return self.manifest.d_in[0]

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of all settings and of every file's checksum: equal only for stores with the same content."""
        content = asdict(self.manifest)
        del content["versions"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return self.rows

    def verify(self, on_progress: OnProgress | None = None) -> None:
        """Compare every file with its checksum. Raises ``RefractError`` with the name of the first that differs."""
        verify(self.folder, self.manifest, on_progress)

    def require(self, *, identity: Identity | None = None, hooks: Sequence[str] = (), d_in: int | None = None) -> None:
        """Raise ``RefractError`` unless the activations are those of this model, hold these hooks, and are so wide."""
        settings = self.manifest.settings
        mine = (settings.model, settings.revision, settings.model_dtype)
        if identity is not None and (identity.name, identity.revision, identity.dtype) != mine:
            raise RefractError(
                f"{self.folder} holds activations of the model {' '.join(mine)}, "
                f"and not of {identity.name} {identity.revision} {identity.dtype}.",
                "Give that model, or harvest this one.",
            )
        for hook in hooks:
            self._check_hook(hook)
        for hook, width in zip(self.hooks, self.manifest.d_in, strict=True):
            if d_in is not None and width != d_in and (not hooks or hook in hooks):
                raise RefractError(
                    f"{self.folder} holds rows of length {width} at {hook!r}, and {d_in} is asked for.",
                    "Choose another hook or another harvest.",
                )

    def take(
        self,
        indices: Int64[Tensor, "row"] | Int64[np.ndarray, "row"] | Sequence[int],
        hook: str | None = None,
        *,
        out: Tensor | None = None,
    ) -> Float32[Tensor, "row d_in"] | Float32[Tensor, "row hook d_in"]:
        """The rows with these indices, in this order, as they were harvested: neither centred nor scaled.

        Args:
            indices: From 0 to ``rows`` - 1; an index may come more than once.
            hook: Which hook. Without it, the only one, or all of them with an axis of their own.
            out: A float32 tensor to write into; memory that is used again is much faster than new memory.
        """
        index = self._index(indices)
        hooks = self.hooks if hook is None else (self._check_hook(hook),)
        widths = {self._arrays[name][0].shape[1] for name in hooks}
        if len(widths) > 1:
            self.d_in  # noqa: B018  (raises, with the widths)
        shape = (len(index), *([len(hooks)] if len(hooks) > 1 else []), *widths)
        if out is None:
            out = torch.empty(shape)
        if out.shape != shape or out.dtype != torch.float32 or not out.is_contiguous():
            raise RefractError(
                f"`out` is {out.dtype} {list(out.shape)}.", f"Give a contiguous float32 tensor of shape {list(shape)}."
            )
        for begin in range(0, len(index), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            order, pieces = self._pieces(index[part])
            for place, name in enumerate(hooks):
                rows = self._gather(self._arrays[name], order, pieces)
                _convert(rows, out[part] if len(hooks) == 1 else out[part, place])
        return out

    def where(self, indices: Int64[Tensor, "row"] | Int64[np.ndarray, "row"] | Sequence[int]) -> Where:
        """Where the rows with these indices come from."""
        index = self._index(indices)
        order, pieces = self._pieces(index)
        table = torch.from_numpy(self._gather(self._table, order, pieces))
        return Where(**{name: table[:, column].clone() for column, name in enumerate(COLUMNS)})

    def _check_hook(self, hook: str) -> str:
        if hook not in self.hooks:
            raise RefractError(
                f"{self.folder} holds nothing from the hook {hook!r}.", f"It holds {', '.join(self.hooks)}."
            )
        return hook

    def _index(self, indices: Tensor | np.ndarray | Sequence[int]) -> np.ndarray:
        index = np.asarray(indices)
        if index.size == 0:
            index = index.astype(np.int64)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise RefractError(
                f"The indices are {index.dtype} {list(index.shape)}.", "Give a list or a tensor of whole numbers."
            )
        if index.size and (index.min() < 0 or index.max() >= self.rows):
            wrong = index[(index < 0) | (index >= self.rows)][0]
            raise RefractError(f"There is no row {wrong}.", f"Rows are numbered from 0 to {self.rows - 1}.")
        return index.astype(np.int64, copy=False)

    def _pieces(self, index: np.ndarray) -> tuple[np.ndarray | None, list[tuple[int, slice, np.ndarray]]]:
        """What to fetch from which shard: the shard, where the rows go, and which of its rows they are.

        The rows come out shard by shard; ``order`` is where to find each row that was asked for, or None: in place.
        """
        if len(self._starts) == 1:
            return None, [(0, slice(0, len(index)), index)]
        shard = np.searchsorted(self._ends, index, side="right")
        by_shard = np.argsort(shard, kind="stable")
        index = index[by_shard]
        bounds = np.searchsorted(shard[by_shard], np.arange(len(self._starts) + 1))
        pieces = [
            (number, slice(begin, end), index[begin:end] - self._starts[number])
            for number, (begin, end) in enumerate(itertools.pairwise(bounds))
            if end > begin
        ]
        order = np.empty_like(by_shard)
        order[by_shard] = np.arange(len(by_shard))
        return order, pieces

    def _gather(
        self, arrays: Sequence[np.ndarray], order: np.ndarray | None, pieces: list[tuple[int, slice, np.ndarray]]
    ) -> np.ndarray:
        """Copy rows out of the shards. The result lies in memory that this thread's next call uses again."""
        count = pieces[-1][1].stop if pieces else 0
        fetched = self._scratch("fetched", count, arrays[0])
        for number, part, index in pieces:
            np.take(arrays[number], index, axis=0, out=fetched[part], mode="clip")  # "clip" lets it write in place
        if order is None:
            return fetched
        return np.take(fetched, order, axis=0, out=self._scratch("ordered", count, arrays[0]), mode="clip")

    def _scratch(self, name: str, rows: int, like: np.ndarray) -> np.ndarray:
        key = (name, like.shape[1], like.dtype)
        known: dict = self._memory.__dict__
        if key not in known or len(known[key]) < rows:
            known[key] = np.empty((rows, like.shape[1]), like.dtype)
        return known[key][:rows]


def _convert(rows: np.ndarray, out: Tensor) -> None:
    """Copy rows into a float32 tensor on this thread alone, so that the trainer's threads are left in peace."""
    source = torch.from_numpy(rows)
    step = max(1, PIECE // max(1, rows.shape[1]))
    for part, into in zip(source.split(step), out.split(step), strict=True):
        into.copy_(part)


def verify(folder: Path, manifest: Manifest, on_progress: OnProgress | None = None, but: Collection[str] = ()) -> None:
    """Compare every file in ``manifest`` with its shape and checksum, ``but`` for some. See ``Store.verify``."""
    digests = {name: digest for shard in manifest.shards for name, digest in shard.files.items() if name not in but}
    for shard in manifest.shards:
        for name, shape, dtype in manifest.shapes(shard):
            if name not in but:
                files.map_array(folder / name, shape, dtype)
    if manifest.mean and MEAN not in but:
        digests[MEAN] = manifest.mean
        files.map_array(folder / MEAN, (sum(manifest.d_in),), "float64")
    total, done = sum((folder / name).stat().st_size for name in digests), 0

    def on_bytes(n: int) -> None:
        nonlocal done
        done += n
        if on_progress is not None:
            on_progress("verify", done, total)

    for name, digest in digests.items():
        if files.sha256(folder / name, on_bytes) != digest:
            raise RefractError(
                f"{folder / name} is damaged, or belongs to another harvest: its checksum differs.",
                f"Delete this file and {files.AGAIN}.",
            )
