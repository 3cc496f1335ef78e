"""The order in which a store's rows are trained on, and batches in that order.

Reading rows one by one all over a large folder is slow where it does not fit into memory. So the order has two
levels: runs of neighbouring rows are permuted over the whole store, and then the rows within a window of many runs.
While a window lasts, only its part of the folder is read. A window as large as the store is a complete shuffle.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from refract.errors import RefractError
from refract.sae.activations.prefetch import prefetch
from refract.sae.activations.store import Store

WINDOW = 1 << 18
RUN = 32


class Order:
    """Permutations of a store's rows, one for each epoch. Any part of any epoch can be had, without what is before.

    How well it mixes: the rows of one run come into the same window always, and others no more often than by chance.
    So of the other rows of its context, a row meets in its batch on average at most
    (run - 1) (batch - 1) / (window - 1) + (n_ctx - run) batch / rows, where a complete shuffle has
    (n_ctx - 1) (batch - 1) / (rows - 1). With the usual window and run, a batch of 2,048, n_ctx 128 and many rows
    the first term is 0.24: at most one row in four has one of its neighbours in its batch.
    """

    def __init__(self, rows: int, seed: int, window: int = WINDOW, run: int = RUN) -> None:
        if min(rows, window, run) < 1:
            raise RefractError(f"rows={rows}, window={window}, run={run}.", "Each is a whole number, 1 or more.")
        self.rows, self.seed = rows, seed
        self.run = min(run, rows)
        self.window = min(-(-window // self.run) * self.run, rows)  # whole runs
        self._known: dict[tuple[int, ...], np.ndarray] = {}  # permutations of the epoch and the window in use

    def part(self, epoch: int, begin: int, end: int) -> Int64[np.ndarray, "row"]:
        """The rows at the places from ``begin`` to ``end`` of an epoch."""
        pieces = []
        while begin < end:
            number, first = divmod(begin, self.window)
            last = min(self.window, first + end - begin)
            pieces.append(self._window(epoch, number)[first:last])
            begin += last - first
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def _window(self, epoch: int, number: int) -> np.ndarray:
        """All rows of a window in their order."""
        key = (epoch, number)
        if key not in self._known:
            begin = number * self.window
            places = np.arange(begin, min(begin + self.window, self.rows))
            runs, shift = self._runs(epoch)
            run, within = np.divmod(places, self.run)
            # Runs are counted from another row in every epoch, so that neighbours do not always stay together.
            rows = (runs[run] * self.run + within + shift) % self.rows
            self._known = {(epoch,): runs, key: self._random(epoch, number).permutation(rows)}
        return self._known[key]

    def _runs(self, epoch: int) -> tuple[np.ndarray, int]:
        """The order of the runs, the incomplete one last, and the row at which the first run begins."""
        random = self._random(epoch)
        shift = int(random.integers(self.rows))
        if (epoch,) in self._known:
            return self._known[(epoch,)], shift
        whole = self.rows // self.run
        return np.append(random.permutation(whole), whole), shift

    def _random(self, *what: int) -> np.random.Generator:
        """A generator for an epoch's runs, or for a window of an epoch: nothing depends on what was drawn before."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=what))


def steps_per_epoch(rows: int, batch: int) -> int:
    """How many batches an epoch has: the last incomplete one is dropped. Raises ``RefractError`` if there is none."""
    if not 1 <= batch <= rows:
        raise RefractError(
            f"A batch of {batch:,} from {rows:,} rows.", f"Choose a batch from 1 to {rows:,}, or harvest more rows."
        )
    return rows // batch


def batches(
    store: Store,
    batch: int,
    *,
    seed: int,
    window: int = WINDOW,
    run: int = RUN,
    start: int = 0,
    steps: int | None = None,
    rank: int = 0,
    world: int = 1,
    hook: str | None = None,
    ahead: int = 2,
    pin: bool = False,
) -> Generator[Float32[Tensor, "batch d_in"] | Float32[Tensor, "batch hook d_in"], None, None]:
    """Shuffled batches of a store's rows, epoch after epoch, each epoch in another order.

    The order follows from ``seed`` and the epoch alone, on every machine and for every ``ahead``. In each epoch, a row
    comes once or, with fewer than ``batch`` others, not at all: the last incomplete batch of an epoch is dropped.

    **A batch lasts until the next one is asked for**: its memory is then used again. Clone what you want to keep; to
    change a batch in place is fine.

    Args:
        store: The rows.
        batch: Rows in a batch, over all processes.
        seed: Of the order.
        window: Rows that are shuffled completely; see ``Order``. A window of float16 rows of length 576 is 300 MB.
        run: Neighbouring rows that are moved together where the window is smaller than the store.
        start: The step to begin with, counted over the epochs, such as that of a checkpoint: what is before it is not
            read.
        steps: How many batches; no end, if not given.
        rank: Which process this is. It gets its part of each batch: ``batch`` / ``world`` rows.
        world: How many processes there are. Their parts, one after another, are the batch of one process alone.
        hook: One of several hooks; without it, all of them with an axis of their own.
        ahead: How many batches a thread in the background fetches in advance; 0: no thread.
        pin: Each batch in page-locked memory of its own, from which a GPU can copy while the host goes on.

    Raises:
        RefractError: for a batch larger than the store, or one that ``world`` does not divide, before the first batch.
    """
    per_epoch = steps_per_epoch(store.rows, batch)
    if not 0 <= rank < world or batch % world:
        raise RefractError(
            f"A batch of {batch} for process {rank} of {world}.",
            "The processes are numbered from 0, and the batch is a multiple of their number.",
        )
    if start < 0 or ahead < 0 or (steps is not None and steps < 0):
        raise RefractError(f"start={start}, steps={steps}, ahead={ahead}.", "None of them is below 0.")
    order = Order(store.rows, seed, window, run)
    mine = batch // world
    shape = store.take([], hook).shape[1:]  # and an error now for a hook that is not there

    def fetch() -> Generator[Tensor, None, None]:
        # One with the trainer, one being filled, and those that wait in between.
        memory = itertools.cycle([torch.empty(mine, *shape) for _ in range(ahead + 2 if ahead else 1)])
        for step in itertools.count(start) if steps is None else range(start, start + steps):
            epoch, place = divmod(step, per_epoch)
            begin = place * batch + rank * mine
            rows = store.take(order.part(epoch, begin, begin + mine), hook, out=next(memory))
            yield rows.pin_memory() if pin else rows

    return prefetch(fetch(), ahead) if ahead else fetch()
