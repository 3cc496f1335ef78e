"""The largest pre-activations of every example, without an exact product of all of them.

A TopK coder's most expensive step is the encoder's product: thousands of numbers for each example, of which k are
kept. Which ones can be told from a rough product, if one asks it for more than k:

    1. round x and W_enc to 8-bit integers, for whose products CPUs have instructions several times as fast;
    2. of every example, put the 1.5 k latents that are largest in the rough product on a shortlist;
    3. compute exactly what is on the list, and keep the k largest of these.

So every value is exact, and every gradient. What can go wrong is the choice: a latent that is among the k largest by a
hair may be missed for one that is smaller by a hair. How rarely is in the tests, and in benchmarks/README.md for a
language model's activations. ``TopK(..., exact=True)`` does without.

Rounding errors matter where a few dimensions are much larger than the others, as in every language model. Dimensions
are therefore brought closer together first: x is divided, W_enc multiplied, by the root of the standard deviation of x
(half of the way, as in SmoothQuant: Xiao et al., 2022, arXiv:2211.10438). The bias is the weight of one more input.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from refract import hardware
from refract.sae.selection import top_k
from refract.sae.sparse import Active

MIN_LATENTS_PER_K = 64  # with fewer, the exact product costs less than what is done around the rough one
MIN_LATENTS = 1024
NUMBERS_AT_ONCE = 1 << 22  # rough products made at a time, so that they stay in the processor's cache
LATENTS_AT_ONCE = 512  # and rows of W_enc rounded at a time
LARGEST = 127


class Computed:
    """All pre-activations, as numbers."""

    def __init__(self, numbers: Float[Tensor, "batch latent"]) -> None:
        self.numbers = numbers

    def top_k(self, k: int) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k largest of every row and their places, in no particular order; without a gradient."""
        return top_k(self.numbers.detach(), k)

    def top_k_among(
        self, latents: Int[Tensor, "some"], k: int
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k largest of every row among some latents, and which latents they are."""
        values, place = top_k(self.numbers.detach()[:, latents], k)
        return values, latents[place]


def worthwhile(x: Tensor, n_latents: int, k: int) -> bool:
    """Whether a shortlist is faster than the exact product, for this machine, kind of numbers, and these sizes."""
    large = n_latents >= max(MIN_LATENTS, MIN_LATENTS_PER_K * k)
    return large and x.dtype == torch.float32 and hardware.int8(x.device).fast


class Shortlist:
    """The pre-activations x @ W_encᵀ + b_enc, of which the largest are computed when they are asked for."""

    def __init__(
        self, x: Float[Tensor, "batch d"], W_enc: Float[Tensor, "latent d"], b_enc: Float[Tensor, "latent"]
    ) -> None:
        self.x, self.W_enc, self.b_enc = x, W_enc, b_enc
        spread = x.square().mean(dim=0).pow_(0.25)
        # A dimension that does not vary may still be constant and large: it stays as it is.
        spread = torch.where(spread > 0, spread, 1)
        inputs = x / spread
        constant = inputs.abs().amax(dim=1).mean().clamp_min(1e-6)
        inputs = torch.cat([inputs, constant.expand(len(x), 1)], dim=1)
        self._rows, _ = _rounded(inputs)  # each row has a scale of its own, which changes nothing about its order
        self._weights, self._scales = _rounded_weights(W_enc, b_enc, spread, constant)

    def top_k(self, k: int) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k largest of every row, as far as the shortlist has them, and their places, in no particular order."""
        n_latents = len(self.W_enc)
        listed = min(k + max(k // 2, 8), n_latents)
        places = self._largest(listed)
        pre = Active.of(places, n_latents).products(self.x, self.W_enc).view_as(places) + self.b_enc[places]
        values, chosen = top_k(pre, k)
        return values, places.gather(1, chosen)

    def top_k_among(
        self, latents: Int[Tensor, "some"], k: int
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k largest of every row among some latents, and which latents they are; exact."""
        values, place = top_k(torch.addmm(self.b_enc[latents], self.x, self.W_enc[latents].mT), k)
        return values, latents[place]

    def _largest(self, count: int) -> Int[Tensor, "batch count"]:
        """Where the rough product is largest."""
        n_latents = len(self.W_enc)
        at_once = max(64, min(512, NUMBERS_AT_ONCE // n_latents))
        places = torch.empty(len(self.x), count, dtype=torch.long)
        rough = torch.empty(at_once, n_latents)
        blocks = list(
            zip(*(each.split(LATENTS_AT_ONCE) for each in (self._weights, self._scales, rough.T)), strict=True)
        )
        product = torch.empty(at_once, LATENTS_AT_ONCE, dtype=torch.int32)
        for rows, out in zip(self._rows.split(at_once), places.split(at_once), strict=True):
            for weights, scales, numbers in blocks:
                some = product.view(-1)[: len(rows) * len(scales)].view(len(rows), len(scales))
                torch._int_mm(rows, weights.mT, out=some)
                numbers.T[: len(rows)].copy_(some).mul_(scales)
            out.copy_(top_k(rough[: len(rows)], count, rough=True)[1])
        return places


def _rounded(x: Float[Tensor, "row d"]) -> tuple[Int8[Tensor, "row d"], Float[Tensor, "row"]]:
    """Rows as 8-bit integers, and what each has to be multiplied by to be itself again."""
    scale = (x.abs().amax(dim=1) / LARGEST).clamp_min(torch.finfo(x.dtype).tiny)
    return (x / scale[:, None]).round_().to(torch.int8), scale


def _rounded_weights(
    W_enc: Float[Tensor, "latent d"], b_enc: Float[Tensor, "latent"], spread: Float[Tensor, "d"], constant: Tensor
) -> tuple[Int8[Tensor, "latent d+1"], Float[Tensor, "latent"]]:
    n_latents, d = W_enc.shape
    rounded, scales = torch.empty(n_latents, d + 1, dtype=torch.int8), torch.empty(n_latents)
    weights = torch.empty(LATENTS_AT_ONCE, d + 1)
    for start in range(0, n_latents, LATENTS_AT_ONCE):
        part = slice(start, start + LATENTS_AT_ONCE)
        some = weights[: len(b_enc[part])]
        torch.mul(W_enc[part], spread, out=some[:, :d])
        torch.div(b_enc[part], constant, out=some[:, d])
        torch.div(some.abs().amax(dim=1).clamp_min_(1e-30), LARGEST, out=scales[part])
        rounded[part] = some.div_(scales[part, None]).round_()
    return rounded, scales
