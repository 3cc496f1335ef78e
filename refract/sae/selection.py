"""Choosing which latents are active: the k largest of every row, or the k · batch largest of a batch.

On a GPU ``torch.topk`` does it. On a CPU it is the slowest step after the encoder's product, and can be made several
times as fast without an approximation. Cut a row into groups: its k largest numbers lie in the k groups with the
largest maxima. (If one lay in another group, each of those k groups would hold a number at least as large.) The maxima
cost one pass at the speed of memory; what is left is partitioned by NumPy, which has vector instructions for that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

OfBatch = tuple[Float[Tensor, "active"], Int[Tensor, "active"], Int[Tensor, "active"]]
"""The largest numbers of a whole batch: values, rows (ascending) and latents."""

WIDER = 4
"""How many times k of a row's largest are looked at first when a batch shares its k."""


def top_k(
    pre: Float[Tensor, "batch latent"], k: int, *, rough: bool = False
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """The k largest numbers of every row and their places, in no particular order; ties are broken arbitrarily.

    ``rough``: for numbers above 0 in fp32 whose last few digits mean nothing, twice as fast.
    """
    batch, latents = pre.shape
    if pre.device.type != "cpu" or pre.dtype not in (torch.float32, torch.float64):
        return pre.topk(k, dim=-1, sorted=False)
    places_of_largest = _places_of_roughly_largest if rough else _places_of_largest
    # Small groups have many maxima, large ones leave many numbers to choose from: about √(latents / k) is best.
    group = 1 << int(math.log2(latents / k) / 2)
    n_groups = latents // group
    if group == 1 or latents % group or n_groups < 2 * k:
        place = places_of_largest(pre, k)
        return pre.gather(1, place), place
    # Group j holds the latents j, j + n_groups, ...: its maximum is then taken over whole stretches of memory.
    groups = pre.view(batch, group, n_groups)
    best = places_of_largest(groups.amax(dim=1), k)
    candidates = groups.gather(2, best[:, None].expand(-1, group, -1)).flatten(1)
    place = places_of_largest(candidates, k)
    return candidates.gather(1, place), (place // k) * n_groups + best.gather(1, place % k)


def batch_top_k(
    largest: Callable[[int], tuple[Float[Tensor, "batch width"], Int[Tensor, "batch width"]]], k: int, n_latents: int
) -> OfBatch:
    """The k · batch largest numbers of a whole batch: values, rows (ascending) and latents.

    ``largest(width)`` gives the largest of every row and their places, as ``top_k`` does. First the 4 k largest of
    every row, then the k · batch largest of these. That is exact unless all 4 k of some row are chosen and it might
    have had more: then it is done again with rows twice as wide.
    """
    width = min(WIDER * k, n_latents)
    while True:
        values, places = largest(width)
        chosen, order = top_k(values.flatten()[None], k * len(values))
        if width == n_latents or bool((values.amin(dim=1) < chosen.amin()).all()):
            order, by_row = order[0].sort()
            return chosen[0, by_row], order // width, places.flatten()[order]
        width = min(2 * width, n_latents)


def batch_top_k_at_once(pre: Float[Tensor, "batch latent"], k: int) -> OfBatch:
    """The same from all numbers at once, which a GPU does without telling the host anything."""
    places = pre.flatten().topk(k * len(pre), sorted=False).indices.sort().values
    return pre.flatten()[places], places // pre.shape[1], places % pre.shape[1]


def _places_of_largest(x: Float[Tensor, "row n"], k: int) -> Int[Tensor, "row k"]:
    """Where the k largest of every row are; rows are shared out to as many threads as torch uses."""
    threads = torch.get_num_threads()
    array = x.detach().numpy()
    if threads == 1 or array.size < 1 << 18:  # below a millisecond a second thread is not worth its while
        return torch.from_numpy(_largest(array, k))
    return torch.from_numpy(
        np.concatenate(list(_pool(threads).map(_largest, np.array_split(array, threads), [k] * threads)))
    )


def _places_of_roughly_largest(x: Float[Tensor, "row n"], k: int) -> Int[Tensor, "row k"]:
    """Each number's place is written over its last binary digits: what is sorted then is one array and not two.

    Numbers below 0 come after those above, in the wrong order. A latent with such a number is not active.
    """
    n = x.shape[1]
    places = (1 << (n - 1).bit_length()) - 1
    marked = (x.contiguous().view(torch.int32) & ~places).bitwise_or_(torch.arange(n, dtype=torch.int32))
    marked.numpy().partition(n - k, axis=-1)
    return (marked[:, n - k :] & places).long()


def _largest(array: np.ndarray, k: int) -> np.ndarray:
    n = array.shape[1]
    return np.argpartition(array, n - k, axis=-1)[:, n - k :]


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="selection")
