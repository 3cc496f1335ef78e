"""Choosing which latents are active: the k largest of every row, or the k · batch largest of a batch.

``torch.topk`` sorts its way through rows of thousands. Most numbers can be ruled out before that, exactly: cut a row
into groups, and its k largest numbers lie in the k groups with the largest maxima. (If one lay in another group, each
of those k groups would hold a number at least as large.) Maxima cost one pass at the speed of memory, and what is
left to sort is a small part of the row.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

_GROUP = 16  # latents in a group


def top_k(pre: Float[Tensor, "batch latent"], k: int) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """The k largest numbers of every row and their places, in no particular order; ties are broken arbitrarily."""
    batch, latents = pre.shape
    n_groups = latents // _GROUP
    if pre.is_cuda or latents % _GROUP or n_groups < 4 * k:
        return pre.topk(k, dim=-1, sorted=False)
    # Group j holds the latents j, j + n_groups, ...: its maximum is then taken over whole stretches of memory.
    groups = pre.view(batch, _GROUP, n_groups)
    best = groups.amax(dim=1).topk(k, dim=-1, sorted=False).indices
    candidates = groups.gather(2, best[:, None].expand(-1, _GROUP, -1)).flatten(1)
    values, place = candidates.topk(k, dim=-1, sorted=False)
    return values, (place // k) * n_groups + best.gather(1, place % k)


def batch_top_k(
    pre: Float[Tensor, "batch latent"], k: int
) -> tuple[Float[Tensor, "active"], Int[Tensor, "active"], Int[Tensor, "active"]]:
    """The k · batch largest numbers of a whole batch: values, rows (ascending) and latents.

    First the 4 k largest of every row, then the k · batch largest of these. That is exact unless all 4 k of some row
    are chosen and it might have had more: then it is done again with rows twice as wide.
    """
    batch, latents = pre.shape
    width = min(4 * k, latents)
    while True:
        values, places = top_k(pre, width)
        chosen, order = values.flatten().topk(k * batch, sorted=False)
        if width == latents or bool((values.amin(dim=1) < chosen.amin()).all()):
            order, by_row = order.sort()
            return chosen[by_row], order // width, places.flatten()[order]
        width = min(2 * width, latents)
