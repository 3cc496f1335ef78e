"""The JumpReLU autoencoder (Rajamanoharan et al., 2024b, arXiv:2407.14435).

Its threshold enters the loss through a step, whose gradient is zero almost everywhere. What counts is the gradient of
the *expected* loss, and that can be estimated: with a density p of pre-activations, d/dθ E[1(z > θ)] = -p(θ), and the
share of examples within half a bandwidth ε of θ, divided by ε, estimates p(θ). Both functions below put that estimate
into their backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from refract.sae.coder import SparseCoder, Step


def _near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """The rectangular kernel over ε: 1/ε within half a bandwidth of the threshold, else 0."""
    return ((pre - threshold).abs() < bandwidth / 2) / bandwidth


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre, threshold, bandwidth):
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        pre, threshold = ctx.saved_tensors
        return None, -(grad * _near(pre, threshold, ctx.bandwidth)).sum(dim=0), None


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre, threshold, bandwidth):
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        pre, threshold = ctx.saved_tensors
        dthreshold = -(grad * threshold * _near(pre, threshold, ctx.bandwidth)).sum(dim=0)
        return grad * (pre > threshold), dthreshold, None


def heaviside(
    pre: Float[Tensor, "batch latent"], threshold: Float[Tensor, "latent"], bandwidth: float
) -> Float[Tensor, "batch latent"]:
    """1 where pre > θ; the backward pass gives -(1/ε) K((pre - θ)/ε) to θ, and nothing to pre."""
    return _Heaviside.apply(pre, threshold, bandwidth)


def jump_relu(
    pre: Float[Tensor, "batch latent"], threshold: Float[Tensor, "latent"], bandwidth: float
) -> Float[Tensor, "batch latent"]:
    """``pre`` where pre > θ, else 0; the backward pass gives -(θ/ε) K((pre - θ)/ε) to θ, and 1(pre > θ) to pre."""
    return _JumpReLU.apply(pre, threshold, bandwidth)


class JumpReLU(SparseCoder):
    """f = pre where it exceeds a threshold of the latent's own, and ‖y - y_hat‖² + λ ‖f‖₀ is minimised.

    With ``target_l0`` the penalty is λ (L0 / target - 1)² instead, which needs no search for λ.
    """

    architecture = "jumprelu"

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        sparsity: float | None = None,
        target_l0: float | None = None,
        bandwidth: float | None = None,
        **common: Any,
    ) -> None:
        """``sparsity`` is λ: 0.003 unless given, 1 with a target.

        ``bandwidth`` is ε, and what the thresholds begin with: 0.03 √variance unless given. The paper has 0.001, in far
        longer runs; in one of some hundred steps, thresholds that begin there hardly move (benchmarks/README.md).
        """
        super().__init__(d_in, n_latents, **common)
        self.begin_with_all_latents()
        self.target_l0 = target_l0
        self.sparsity = sparsity if sparsity is not None else 0.003 if target_l0 is None else 1.0
        self.bandwidth = 0.03 * self.variance**0.5 if bandwidth is None else bandwidth
        # Its logarithm is what learns, so that a threshold stays above 0.
        self.log_threshold = nn.Parameter(torch.full((n_latents,), self.bandwidth).log())

    @property
    def threshold(self) -> Float[Tensor, "latent"]:
        return self.log_threshold.exp()

    def encode(self, x: Tensor) -> Tensor:
        return jump_relu(self.pre_activations(x), self.threshold, self.bandwidth)

    def step(self, x: Tensor, y: Tensor | None = None, dead: Tensor | None = None) -> Step:
        y = x if y is None else y
        pre, threshold = self.pre_activations(x), self.threshold
        latents = jump_relu(pre, threshold, self.bandwidth)
        reconstruction = self.squared_error(y, self.decode(latents))
        active = heaviside(pre, threshold, self.bandwidth)
        l0 = active.sum() / len(x)
        penalty = l0 if self.target_l0 is None else (l0 / self.target_l0 - 1).square()
        return Step(
            losses={"reconstruction": reconstruction, "sparsity": self.penalty_share * self.sparsity * penalty},
            error=reconstruction.detach() * self.variance,
            fired=active.detach().sum(dim=0),
        )
