"""Pre-activations of which only the largest are wanted: all computed, or a shortlist of them.

A TopK coder's most expensive step is the encoder's product: thousands of numbers for each example, of which k are
kept. Which ones can be told from a rough product, if one asks it for more than k:

    1. compute all pre-activations roughly, in 8-bit integers or bf16, for which there are fast instructions;
    2. of every example, put the 1.5 k latents that are largest there on a shortlist;
    3. compute what is on the list exactly, and keep the k largest of these.

So every value is exact, and every gradient. What can go wrong is the choice: a latent that is among the k largest by a
hair may be missed for one that is smaller by a hair. The tests say how rarely, and benchmarks/README.md for a language
model's activations. ``TopK(..., exact=True)`` does without.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refract.sae.rough import Product
from refract.sae.selection import OfBatch, batch_top_k, batch_top_k_at_once, top_k
from refract.sae.sparse import Active

Largest = tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]
"""The largest pre-activations of every example, and which latents they are, in no particular order."""


class Computed:
    """All pre-activations, as numbers."""

    def __init__(self, numbers: Float[Tensor, "batch latent"]) -> None:
        self.numbers = numbers

    def top_k(self, k: int) -> Largest:
        """The k largest of every example; without a gradient."""
        return top_k(self.numbers.detach(), k)

    def batch_top_k(self, k: int) -> OfBatch:
        """The k · batch largest of the batch; without a gradient."""
        if self.numbers.device.type == "cpu":
            return batch_top_k(self.top_k, k, self.numbers.shape[1])
        return batch_top_k_at_once(self.numbers.detach(), k)

    def top_k_among(self, latents: Int[Tensor, "some"], k: int) -> Largest:
        """The k largest of every example among some latents; without a gradient."""
        values, place = top_k(self.numbers.detach()[:, latents], k)
        return values, latents[place]


class Shortlist:
    """The pre-activations x @ W_encᵀ + b_enc, of which the largest are computed when they are asked for."""

    def __init__(
        self,
        x: Float[Tensor, "batch d"],
        W_enc: Float[Tensor, "latent d"],
        b_enc: Float[Tensor, "latent"],
        product: Product,
    ) -> None:
        self.x, self.W_enc, self.b_enc, self.product = x, W_enc, b_enc, product

    @torch.no_grad()
    def top_k(self, k: int) -> Largest:
        """The k largest of every example that are on its shortlist."""
        n_latents = len(self.W_enc)
        listed = min(k + max(k // 2, 8), n_latents)
        rough = self.product(self.x, self.W_enc, self.b_enc)
        latents = torch.cat([top_k(some, listed, rough=True)[1] for some in rough])
        pre = Active.of(latents, n_latents).products(self.x, self.W_enc).view_as(latents) + self.b_enc[latents]
        values, chosen = top_k(pre, k)
        return values, latents.gather(1, chosen)

    def batch_top_k(self, k: int) -> OfBatch:
        """The k · batch largest of the batch that are on the shortlists."""
        return batch_top_k(self.top_k, k, len(self.W_enc))

    @torch.no_grad()
    def top_k_among(self, latents: Int[Tensor, "some"], k: int) -> Largest:
        """The k largest of every example among some latents: there are few, and all are computed exactly."""
        values, place = top_k(torch.addmm(self.b_enc[latents], self.x, self.W_enc[latents].mT), k)
        return values, latents[place]
