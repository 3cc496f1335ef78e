"""The ReLU autoencoder with an L1 penalty (Bricken et al., 2023; Cunningham et al., 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refract.sae.coder import SparseCoder, Step


class ReLU(SparseCoder):
    """f = ReLU(pre), and ‖y - y_hat‖² + λ ‖f‖₁ is minimised.

    The penalty pays for every active latent in proportion to its size, so all of them come out too small: with one
    feature of size 1, (1 - a)² + λ a is least at a = 1 - λ/2 (**shrinkage**).
    """

    architecture = "relu"

    def __init__(self, d_in: int, n_latents: int, *, sparsity: float = 0.2, **common: Any) -> None:
        """``sparsity`` is λ."""
        super().__init__(d_in, n_latents, **common)
        self.begin_with_all_latents()
        self.sparsity = sparsity

    def encode(self, x: Tensor) -> Tensor:
        return self.pre_activations(x).relu()

    def step(self, x: Tensor, y: Tensor | None = None, dead: Tensor | None = None) -> Step:
        y = x if y is None else y
        latents = self.encode(x)
        reconstruction = self.squared_error(y, self.decode(latents))
        l1 = latents.sum() / (len(x) * self.variance**0.5)
        return Step(
            losses={"reconstruction": reconstruction, "sparsity": self.penalty_share * self.sparsity * l1},
            error=reconstruction.detach() * self.variance,
            fired=(latents.detach() > 0).sum(dim=0, dtype=torch.float32),
        )
