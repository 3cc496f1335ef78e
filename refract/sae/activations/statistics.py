"""Mean and scale of all rows of a store, in float64 and in one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refract.errors import RefractError
from refract.sae.activations import files
from refract.sae.activations.manifest import MEAN, Manifest, OnProgress

ROWS = 4096  # at a time


class Moments:
    """The mean of rows that come in pieces, and their squared distances from it.

    Two groups are merged as in Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for
    computing sample variances": the squared distances add up, plus what the two means are apart. No large numbers are
    subtracted from each other, so that a mean far from zero costs no accuracy.
    """

    def __init__(self, d_in: int) -> None:
        self.rows = 0
        self.mean = np.zeros(d_in)
        self.squares = 0.0  # Σ over rows and dimensions of (x - mean)²

    def add(self, x: np.ndarray) -> None:
        """Merge some rows into what is there: [row d_in], of any type."""
        if len(x) == 0:
            return
        x = x.astype(np.float64)
        mean = x.mean(axis=0)
        x -= mean
        total = self.rows + len(x)
        apart = mean - self.mean
        self.squares += float(np.vdot(x, x)) + float(apart @ apart) * self.rows * len(x) / total
        self.mean += apart * (len(x) / total)
        self.rows = total

    @property
    def scale(self) -> float:
        """What the centred rows are multiplied with to have variance 1 per dimension, on average over dimensions."""
        return float((self.rows * len(self.mean) / self.squares) ** 0.5)


def add(folder: Path, manifest: Manifest, on_progress: OnProgress) -> None:
    """Write ``mean.npy`` and note the scales in ``manifest``.

    Raises ``RefractError`` where there is no variance: for fewer than two rows, and for rows that are all alike.
    """
    if manifest.rows < 2:
        raise RefractError(
            f"{manifest.rows} rows were harvested; two are the least.",
            "Delete the folder, and give more text, or leave out fewer positions of each context.",
        )
    total, done = manifest.rows * len(manifest.d_in), 0
    means, scales = [], []
    for place, hook in enumerate(manifest.settings.hooks):
        result = Moments(manifest.d_in[place])
        for shard in manifest.shards:
            name, shape, dtype = list(manifest.shapes(shard))[place]
            array = files.map_array(folder / name, shape, dtype)
            for begin in range(0, len(array), ROWS):
                result.add(array[begin : begin + ROWS])
            done += shard.rows
            on_progress("statistics", done, total)
        if result.squares == 0:
            raise RefractError(
                f"All rows at {hook!r} are alike: there is nothing to learn from them.", "Harvest another hook."
            )
        means.append(result.mean)
        scales.append(result.scale)
    manifest.mean = files.write_array(folder / MEAN, np.concatenate(means))
    manifest.scale = tuple(scales)
