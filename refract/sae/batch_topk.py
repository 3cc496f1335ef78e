"""BatchTopK (Bussmann et al., 2024, arXiv:2412.06410), and its Matryoshka form (2025, arXiv:2503.17547)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refract.errors import RefractError
from refract.sae.coder import Step
from refract.sae.rough import Product, best_product
from refract.sae.selection import WIDER
from refract.sae.shortlist import Computed, Shortlist
from refract.sae.sparse import Active
from refract.sae.topk import TopK


class BatchTopK(TopK):
    """The k · batch largest pre-activations of a batch: k on average, more for an example that needs more.

    An example's latents then depend on its neighbours. In use they must not, so a **threshold** takes the place of the
    choice: a running mean of the smallest pre-activation that was chosen in training.
    """

    architecture = "batch_topk"
    threshold: Tensor

    def __init__(self, d_in: int, n_latents: int, *, threshold_decay: float = 0.99, **top_k: Any) -> None:
        super().__init__(d_in, n_latents, **top_k)
        self.threshold_decay = threshold_decay
        self.register_buffer("threshold", torch.tensor(-1.0))  # below 0: there was no batch yet

    def encode(self, x: Tensor) -> Tensor:
        pre = self.pre_activations(x)
        return pre * (pre > self.threshold.clamp_min(0))

    def choose(self, pre: Computed | Shortlist) -> tuple[Tensor, Active]:
        values, rows, latents = pre.batch_top_k(self.k)
        if self.training:
            smallest = torch.where(values > 0, values, torch.inf).amin()
            decay = torch.where(self.threshold < 0, 0, self.threshold_decay)
            moved = decay * self.threshold + (1 - decay) * smallest
            self.threshold.copy_(torch.where(smallest.isfinite(), moved, self.threshold))
        return values, Active(rows, latents, (len(values) // self.k, self.n_latents))

    def _rough_product(self, x: Tensor) -> Product | None:
        # A GPU has all numbers of the batch before it: with a shortlist the host would have to ask if it was enough.
        return best_product(x, self.n_latents, WIDER * self.k) if x.device.type == "cpu" else None


class Matryoshka(BatchTopK):
    """A BatchTopK autoencoder whose first latents must do well alone.

    The dictionary is cut into nested prefixes. Each prefix reconstructs with its own latents only, and the mean of
    these errors is minimised (the paper has the sum; an Adam optimizer cannot tell). So the general stays in the first
    latents, and is not absorbed by the specific ones that come later.
    """

    architecture = "matryoshka"

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        prefixes: Sequence[float] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0),
        **top_k: Any,
    ) -> None:
        """``prefixes``: their ends, as shares of the dictionary, ascending, the last one 1."""
        super().__init__(d_in, n_latents, **top_k)
        if self.multi:
            raise RefractError("Matryoshka has no Multi-TopK.", "Leave `multi` out; its prefixes serve the same end.")
        self.prefixes = tuple(prefixes)
        self.ends = [round(share * n_latents) for share in self.prefixes]
        if not self.ends or sorted(set(self.ends)) != self.ends or self.ends[0] < 1 or self.ends[-1] != n_latents:
            raise RefractError(
                f"The prefixes {self.prefixes} do not cut {n_latents} latents into nested dictionaries.",
                "Give ascending shares above 0, each of at least one latent more than the last, that end with 1.",
            )

    def step(self, x: Tensor, y: Tensor | None = None, dead: Tensor | None = None) -> Step:
        y = x if y is None else y
        pre = self._pre(x)
        latents, active = self._latents(x, pre, *self.choose(pre))
        y_hat: Tensor = self.b_dec
        start = 0
        errors = []
        for end in self.ends:
            in_group = (active.latents >= start) & (active.latents < end)
            y_hat = y_hat + self._decode(latents * in_group, active)
            errors.append(self.squared_error(y, y_hat))
            start = end
        losses = {"reconstruction": torch.stack(errors).mean()}
        if dead is not None and len(dead) and self.aux_k:
            losses["auxiliary"] = self._auxiliary(x, pre, (y - y_hat).detach(), dead)
        return Step(losses, errors[-1].detach() * self.variance, active.sum_by_latent((latents > 0).to(x.dtype)))
