"""Rows to train on: those of a store of activations, or made ones whose spectrum is like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PIECE = 16_384
HELD_OUT = 16_384
ACTIVE = 20
DENSE = 2 * ACTIVE / 10  # the variance of a size is 1 and its mean 1: a feature's part of ‖x‖² is 2


def from_store(store_folder: Path, held_out_folder: Path | None, folder: Path, rows: int) -> tuple[Path, Path]:
    """Write ``rows`` rows of a store, and some to score on, as float16 npy files: centred, of variance 1 on average.

    Without a second store, the rows to score on are the last of the first, and none of them is trained on.
    """
    from refract.sae.activations import Store

    store = Store.open(store_folder)
    if len(store.hooks) > 1:
        raise SystemExit(f"{store_folder} has {len(store.hooks)} hooks; this benchmark wants one.")
    held_out = store if held_out_folder is None else Store.open(held_out_folder)
    first = store.rows - HELD_OUT if held_out is store else 0
    (hook,) = store.hooks
    mean, scale = store.mean[hook].numpy(), store.scale[hook]
    available = first if held_out is store else store.rows
    sources = {
        "train": (store, np.sort(np.random.default_rng(0).permutation(available)[:rows])),
        "held_out": (held_out, np.linspace(first, held_out.rows - 1, min(HELD_OUT, held_out.rows)).astype(np.int64)),
    }
    for name, (source, places) in sources.items():
        out = np.empty((len(places), store.d_in), np.float16)
        for begin in range(0, len(places), PIECE):
            part = slice(begin, begin + PIECE)
            out[part] = (source.take(places[part]).numpy() - mean) * scale
        if not np.isfinite(out).all():
            raise SystemExit("Some activations do not fit into float16.")
        np.save(folder / f"{name}.npy", out)
    return folder / "train.npy", folder / "held_out.npy"


def made(folder: Path, rows: int, d: int, seed: int = 0) -> tuple[Path, Path]:
    """Rows in the manner of a residual stream: sparse features, more of them than dimensions, and a dense rest.

    Each of 8 d features has a random direction, is active with a frequency that falls as 1 / rank (up to 20 are active
    in a row on average), and then has an exponentially distributed size. The dense rest has about a tenth of the
    variance, with a spectrum that falls as 1 / rank.
    """
    random = np.random.default_rng(seed)
    features, held_out = 8 * d, min(HELD_OUT, rows // 4)
    directions = random.standard_normal((features, d), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequency = np.minimum(ACTIVE * _share(features), 0.5).astype(np.float32)
    dense = random.standard_normal((d, d), np.float32) / d**0.5 * np.sqrt(DENSE * _share(d)).astype(np.float32)[:, None]
    count = rows + held_out
    x = np.empty((count, d), np.float32)
    for begin in range(0, count, 2048):
        n = min(2048, count - begin)
        active = random.random((n, features), np.float32) < frequency
        sizes = random.standard_exponential((n, features), np.float32) * active
        x[begin : begin + n] = sizes @ directions + random.standard_normal((n, d), np.float32) @ dense
    x -= x.mean(axis=0)
    x /= x.std()
    np.save(folder / "train.npy", x[:rows].astype(np.float16))
    np.save(folder / "held_out.npy", x[rows:].astype(np.float16))
    return folder / "train.npy", folder / "held_out.npy"


def _share(count: int) -> NDArray[np.float64]:
    """1 / rank, of sum 1."""
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()
