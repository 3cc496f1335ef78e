"""What all sparse coders have in common: an encoder, a decoder of unit directions, and named losses.

    pre  = (x - b_pre) @ W_encᵀ + b_enc          one number for each latent
    f    = activation(pre)                       most of them 0: this is where architectures differ
    y_hat = f @ W_dec + b_dec

A **sparse autoencoder** gives back its own input: y = x, and b_pre = b_dec. A **transcoder** (``d_out`` given)
predicts another layer's activations: b_pre = 0. A **crosscoder** reads and writes several layers at once: it is an
autoencoder of their concatenation.

Losses are in the papers' units, in which the data have a mean squared length of one: squared errors are divided by
``variance``, the mean squared length of y, and latents by its root. With the default, 1, they are the textbook's.
"""

from __future__ import annotations

import abc
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refract.errors import RefractError


@dataclass
class Step:
    """What one batch gives: the losses to add up, and what the curves are made of."""

    losses: dict[str, Float[Tensor, ""]]
    """By name; their sum is minimised."""
    error: Float[Tensor, ""]
    """The mean of ‖y - y_hat‖², without a gradient."""
    fired: Float[Tensor, "latent"]
    """In how many examples each latent was active."""

    @property
    def loss(self) -> Float[Tensor, ""]:
        return torch.stack(list(self.losses.values())).sum()


class SparseCoder(nn.Module, abc.ABC):
    """The shared part. An architecture says what its latents are (``encode``) and what it minimises (``step``)."""

    architecture: str
    penalty_share: float = 1.0
    """How much of its penalty, if it has one, counts: a trainer lets it rise (``Config.penalty_warm_up``)."""

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        d_out: int | None = None,
        variance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Decoder directions are random and of unit length; an autoencoder's encoder begins as their transpose."""
        super().__init__()
        if min(d_in, n_latents, d_out or 1) < 1 or variance <= 0:
            raise RefractError(
                f"A sparse coder cannot have d_in = {d_in}, n_latents = {n_latents}, d_out = {d_out}, variance = "
                f"{variance}.",
                "All of them must be above 0.",
            )
        self.d_in, self.n_latents, self.d_out, self.variance = d_in, n_latents, d_out, variance
        W_dec = torch.randn(n_latents, d_out or d_in, generator=generator)
        W_dec /= W_dec.norm(dim=1, keepdim=True)
        if d_out is None:
            W_enc = W_dec.clone()
        else:
            W_enc = torch.randn(n_latents, d_in, generator=generator)
            W_enc /= W_enc.norm(dim=1, keepdim=True)
        self.W_enc, self.W_dec = nn.Parameter(W_enc), nn.Parameter(W_dec)
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(n_latents)), nn.Parameter(torch.zeros(d_out or d_in))

    @torch.no_grad()
    def begin_with_all_latents(self) -> None:
        """Shrink the encoder, for an architecture in which half of all latents are active at first.

        With n directions at random, Σ relu(w·x) w is about n / 2d times x: many times too much in a wide dictionary.
        """
        self.W_enc.mul_(min(1.0, 2 * self.d_in / self.n_latents))

    @property
    def settings(self) -> dict[str, Any]:
        """What this coder was made with: ``type(coder)(**coder.settings)`` makes another of its kind."""
        names = [name for cls in type(self).__mro__ if cls is not nn.Module for name in _arguments(cls)]
        return {name: getattr(self, name) for name in dict.fromkeys(names) if hasattr(self, name)}

    @property
    def b_pre(self) -> Float[Tensor, "d_in"]:
        """What is taken from x before the encoder sees it."""
        return self.b_dec if self.d_out is None else torch.zeros_like(self.W_enc[0])

    def pre_activations(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch latent"]:
        return self.projections(x) + self.b_enc

    def projections(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch latent"]:
        """The pre-activations without their bias; in x's precision also where autocast makes the product in bf16."""
        return ((x - self.b_pre) @ self.W_enc.mT).to(x.dtype)

    @abc.abstractmethod
    def encode(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch latent"]:
        """The latents, 0 where they are not active."""

    def decode(self, latents: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch d_out"]:
        return torch.addmm(self.b_dec, latents, self.W_dec)

    def forward(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_out"]:
        return self.decode(self.encode(x))

    @abc.abstractmethod
    def step(
        self,
        x: Float[Tensor, "batch d_in"],
        y: Float[Tensor, "batch d_out"] | None = None,
        dead: Int[Tensor, "dead"] | None = None,
    ) -> Step:
        """The losses on a batch. ``y`` is x unless given; ``dead`` lists the latents that have long been silent."""

    def squared_error(self, y: Float[Tensor, "batch d_out"], y_hat: Float[Tensor, "batch d_out"]) -> Float[Tensor, ""]:
        """The mean of ‖y - y_hat‖², relative to the variance: the fraction of variance that is not explained."""
        return (y_hat - y).square().sum() / (len(y) * self.variance)

    # --- the decoder's constraint: rows of unit length -------------------------------------------

    @torch.no_grad()
    def project_out_parallel_gradient(self) -> None:
        """Take from each direction's gradient what would only change its length."""
        if self.W_dec.grad is None:
            return
        # A few rows at a time, which stay in the processor's cache between the two passes.
        for gradient, direction in zip(self.W_dec.grad.split(256), self.W_dec.split(256), strict=True):
            along = (gradient * direction).sum(dim=1, keepdim=True)
            gradient.addcmul_(direction, along, value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Give every direction unit length."""
        self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True).clamp_min_(1e-12))


def _arguments(cls: type) -> list[str]:
    if "__init__" not in vars(cls):
        return []
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "generator"]
