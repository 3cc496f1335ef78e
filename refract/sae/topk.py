"""The TopK autoencoder, with AuxK and Multi-TopK (Gao et al., 2024, arXiv:2406.04093)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refract.errors import RefractError
from refract.sae import sparse
from refract.sae.coder import SparseCoder, Step
from refract.sae.rough import Product, best_product
from refract.sae.selection import top_k
from refract.sae.shortlist import Computed, Shortlist
from refract.sae.sparse import Active

AUX_COEFFICIENT = 1 / 32
MULTI_COEFFICIENT = 1 / 8


class TopK(SparseCoder):
    """The k largest pre-activations of every example are its latents, as far as they are above 0.

    There is no penalty, and so no shrinkage. **AuxK** keeps latents alive: those that have long been silent are asked
    to reconstruct what the others leave over. **Multi-TopK** (``multi=4``) asks the 4 k largest for a reconstruction as
    well, so that the code stays useful when it is read with another k.
    """

    architecture = "topk"

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        k: int = 32,
        multi: int = 0,
        aux_k: int | None = None,
        sparse: bool = True,
        exact: bool = False,
        **common: Any,
    ) -> None:
        """``aux_k``: how many silent latents take part in AuxK (half of d_in unless given; 0: none).

        ``sparse=False`` computes everything densely, by autograd alone: slower, the same numbers. ``exact=True``
        chooses from exact pre-activations also where a shortlist would be faster (see ``shortlist``).
        """
        super().__init__(d_in, n_latents, **common)
        if not 1 <= k <= n_latents:
            raise RefractError(f"k = {k} of {n_latents} latents cannot be active.", "Choose k from 1 to n_latents.")
        self.k, self.multi, self.sparse, self.exact = k, multi, sparse, exact
        self.aux_k = max(1, d_in // 2) if aux_k is None else aux_k
        self._memory: Tensor | None = None

    def encode(self, x: Tensor) -> Tensor:
        return dense(*top_k(self.pre_activations(x), self.k), self.n_latents)

    def choose(self, pre: Computed | Shortlist) -> tuple[Tensor, Active]:
        """The values of the active latents, and which they are."""
        values, indices = pre.top_k(self.k)
        return values.flatten(), Active.of(indices, self.n_latents)

    def step(self, x: Tensor, y: Tensor | None = None, dead: Tensor | None = None) -> Step:
        y = x if y is None else y
        pre = self._pre(x)
        latents, active = self._latents(x, pre, *self.choose(pre))
        y_hat = self._decode(latents, active) + self.b_dec
        reconstruction = self.squared_error(y, y_hat)
        losses = {"reconstruction": reconstruction}
        if self.multi:
            values, indices = pre.top_k(min(self.multi * self.k, self.n_latents))
            more = self._latents(x, pre, values.flatten(), Active.of(indices, self.n_latents))
            losses["multi"] = MULTI_COEFFICIENT * self.squared_error(y, self._decode(*more) + self.b_dec)
        if dead is not None and len(dead) and self.aux_k:
            losses["auxiliary"] = self._auxiliary(x, pre, (y - y_hat).detach(), dead)
        return Step(losses, reconstruction.detach() * self.variance, active.sum_by_latent((latents > 0).to(x.dtype)))

    def _auxiliary(self, x: Tensor, pre: Computed | Shortlist, left_over: Tensor, dead: Int[Tensor, "dead"]) -> Tensor:
        """How badly the largest of the silent latents reconstruct what is left over, relative to its variance."""
        values, indices = pre.top_k_among(dead, min(self.aux_k, len(dead)))
        guess = self._decode(*self._latents(x, pre, values.flatten(), Active.of(indices, self.n_latents)))
        variance = (left_over - left_over.mean(dim=0)).square().sum()
        something = variance > 0  # if nothing is left over there is nothing to learn, and nothing to divide by
        error = (guess - left_over).square().sum() / torch.where(something, variance, 1)
        return AUX_COEFFICIENT * torch.where(something, error, 0)

    def _rough_product(self, x: Tensor) -> Product | None:
        """What a shortlist of all that a step asks for would be made by."""
        return best_product(x, self.n_latents, self.k * max(1, self.multi))

    # --- the sparse path, and the dense one that it is held against ------------------------------

    def _pre(self, x: Tensor) -> Computed | Shortlist:
        if not self.sparse:
            return Computed(self.pre_activations(x))
        # Of thousands of numbers a few will have a gradient: `sparse.encode` adds it.
        with torch.no_grad():
            product = None if self.exact else self._rough_product(x)
            if product is not None:
                return Shortlist(x - self.b_pre, self.W_enc, self.b_enc, product)
            # The memory is used at every step.
            if self._memory is None or self._memory.shape[0] != len(x) or self._memory.dtype != x.dtype:
                self._memory = x.new_empty(len(x), self.n_latents)
            return Computed(torch.mm(x - self.b_pre, self.W_enc.mT, out=self._memory).add_(self.b_enc))

    def _latents(self, x: Tensor, pre: Computed | Shortlist, values: Tensor, active: Active) -> tuple[Tensor, Active]:
        if isinstance(pre, Computed) and not self.sparse:
            values = pre.numbers[active.rows, active.latents]
        else:
            values = sparse.encode(values, x, self.b_pre, self.W_enc, self.b_enc, active)
        return values.relu(), active

    def _decode(self, latents: Float[Tensor, "active"], active: Active) -> Tensor:
        if self.sparse:
            return sparse.decode(latents, self.W_dec, active)
        matrix = latents.new_zeros(active.shape).index_put((active.rows, active.latents), latents)
        return matrix @ self.W_dec


def dense(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], n_latents: int
) -> Float[Tensor, "batch latent"]:
    """Latents as a matrix, 0 where they are not active or not above 0."""
    return values.new_zeros(len(values), n_latents).scatter(1, indices, values.relu())
