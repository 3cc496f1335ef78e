"""The gated autoencoder (Rajamanoharan et al., 2024a, arXiv:2404.16014)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from refract.sae.coder import SparseCoder, Step


class Gated(SparseCoder):
    """Whether a latent is active, and how large it is, are two questions with one set of directions.

        gate       π = (x - b_pre) @ W_encᵀ + b_enc                active where π > 0
        magnitude  ReLU(exp(r_mag) ⊙ ((x - b_pre) @ W_encᵀ) + b_mag)

    The penalty λ ‖ReLU(π)‖₁ shrinks the gate alone. A step function has no gradient, so the gate learns from a second
    reconstruction, made of ReLU(π) by a copy of the decoder that is *frozen*: it must not learn to serve shrunken
    latents.
    """

    architecture = "gated"

    def __init__(self, d_in: int, n_latents: int, *, sparsity: float = 0.2, **common: Any) -> None:
        """``sparsity`` is λ."""
        super().__init__(d_in, n_latents, **common)
        self.begin_with_all_latents()
        self.sparsity = sparsity
        self.r_mag, self.b_mag = nn.Parameter(torch.zeros(n_latents)), nn.Parameter(torch.zeros(n_latents))

    def _gate_and_latents(self, x: Tensor) -> tuple[Tensor, Tensor]:
        projection = self.projections(x)
        gate = projection + self.b_enc
        return gate, (gate > 0) * torch.addcmul(self.b_mag, projection, self.r_mag.exp()).relu()

    def encode(self, x: Tensor) -> Tensor:
        return self._gate_and_latents(x)[1]

    def step(self, x: Tensor, y: Tensor | None = None, dead: Tensor | None = None) -> Step:
        y = x if y is None else y
        gate, latents = self._gate_and_latents(x)
        gate = gate.relu()
        reconstruction = self.squared_error(y, self.decode(latents))
        frozen = torch.addmm(self.b_dec.detach(), gate, self.W_dec.detach())
        l1 = gate.sum() / (len(x) * self.variance**0.5)
        return Step(
            losses={
                "reconstruction": reconstruction,
                "sparsity": self.penalty_share * self.sparsity * l1,
                "auxiliary": self.squared_error(y, frozen),
            },
            error=reconstruction.detach() * self.variance,
            fired=(latents.detach() > 0).sum(dim=0, dtype=torch.float32),
        )
