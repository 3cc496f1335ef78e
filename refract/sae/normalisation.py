"""Activations in units in which every model is alike, and a trained coder put back into the model's own units.

A coder is trained on x' = (x - mean) · scale: without the mean, which can be most of a residual stream, and with a
variance of 1 per dimension on average, so that one learning rate and one penalty suit every model and layer. What is
used later is the **folded** coder: it takes and gives activations as the model has them, and nobody need know how they
were normalised.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from refract.errors import RefractError
from refract.sae.batch_topk import BatchTopK
from refract.sae.coder import SparseCoder
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU

Coder = TypeVar("Coder", bound=SparseCoder)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """x' = (x - mean) · scale, and back."""

    mean: Float[Tensor, "d"]
    scale: float | Float[Tensor, "d"]
    """One number; for a crosscoder, whose layers differ in size, a number for each dimension."""

    def __post_init__(self) -> None:
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        if self.mean.ndim != 1 or scale.shape not in ((), self.mean.shape):
            raise RefractError(
                f"A mean of shape {tuple(self.mean.shape)} and a scale of shape {tuple(scale.shape)} are no "
                "normalisation.",
                "Give a mean with a number for each dimension, and a scale that is one number or has as many.",
            )
        if not (bool(torch.isfinite(self.mean).all()) and bool((torch.isfinite(scale) & (scale > 0)).all())):
            raise RefractError(
                "The mean must be finite, and the scale finite and above 0.",
                "Measure them on activations that are finite and differ from each other.",
            )

    @classmethod
    def of(cls, x: Float[Tensor, "row d"]) -> Normalisation:
        """The one that brings these rows to a mean of 0 and a variance of 1 per dimension on average.

        Raises:
            RefractError: the rows do not differ, or are not finite.
        """
        mean = x.double().mean(dim=0)
        variance = float((x.double() - mean).square().mean())
        if not variance > 0:
            raise RefractError(
                f"These {len(x)} rows have a variance of {variance:g}, which cannot be made 1.",
                "Give rows that are finite and differ from each other.",
            )
        return cls(mean.to(x.dtype), 1 / math.sqrt(variance))

    @classmethod
    def joined(cls, parts: Sequence[Normalisation]) -> Normalisation:
        """That of activations which lie side by side, each with its own: what a crosscoder reads."""
        if len(parts) == 1:
            return parts[0]
        scales = [torch.as_tensor(part.scale, dtype=torch.float64).to(part.mean.device) for part in parts]
        scales = [scale.expand_as(part.mean) for scale, part in zip(scales, parts, strict=True)]
        return cls(torch.cat([part.mean for part in parts]), torch.cat(scales))

    def __call__(self, x: Float[Tensor, "*row d"]) -> Float[Tensor, "*row d"]:
        return (x - self._like(self.mean, x)) * self._like(self.scale, x)

    def undo(self, x: Float[Tensor, "*row d"]) -> Float[Tensor, "*row d"]:
        """Normalised activations in the model's units again."""
        return x / self._like(self.scale, x) + self._like(self.mean, x)

    @staticmethod
    def _like(value: float | Tensor, x: Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=x.dtype, device=x.device)


@torch.no_grad()
def fold(coder: Coder, normalisation: Normalisation, out: Normalisation | None = None) -> Coder:
    """The coder that does to x what ``coder`` does to normalised x: a new one, in the model's own units.

    ``folded(x) == out.undo(coder(normalisation(x)))``. ``out`` is the normalisation of what a transcoder predicts; an
    autoencoder has only one. Its scales s_in and s_out can go into the weights in many ways. Here decoder directions
    keep their unit length, so that latents carry the scale: they are divided by s_out, and say how far the model's
    activations move. Everything that a latent is compared with moves along:

        b_enc, b_mag, thresholds   / s_out           b_dec = mean_out + b_dec / s_out
        W_enc                      · s_in / s_out    (unchanged in an autoencoder)

    Which latents are active is unchanged, and so are all losses: ``variance`` is divided by s_out². A transcoder takes
    no bias from its input, so the input's mean goes into its encoder's biases.

    With a scale for each dimension (a crosscoder), no such choice keeps directions at unit length and leaves the k
    largest latents what they were. Then latents stay as they are, and each part of W_dec is divided by its scale.

    Raises:
        RefractError: ``out`` is missing or one too many, or a normalisation is of another size than the coder.
    """
    _check(coder, normalisation, out)
    folded = copy.deepcopy(coder)
    autoencoder = coder.d_out is None
    after = normalisation if out is None else out
    W_enc, s_in, s_out = coder.W_enc.double(), _scale(normalisation, coder), _scale(after, coder)
    latent_scale = s_out if s_out.ndim == 0 else torch.ones_like(s_out[0])

    # Transcoders: (x - mean) · s @ W_encᵀ. In an autoencoder the folded b_dec contains the mean.
    shift = torch.zeros_like(W_enc[:, 0]) if autoencoder else W_enc @ (normalisation.mean.to(W_enc) * s_in)
    folded.W_enc.copy_(W_enc * (s_in / latent_scale))
    folded.W_dec.copy_(coder.W_dec.double() / (s_out / latent_scale))
    folded.b_dec.copy_(after.mean.to(W_enc) + coder.b_dec.double() / s_out)
    folded.b_enc.copy_((coder.b_enc.double() - shift) / latent_scale)
    if isinstance(folded, Gated):
        folded.b_mag.copy_((folded.b_mag.double() - shift * folded.r_mag.double().exp()) / latent_scale)
    if isinstance(folded, JumpReLU):
        folded.log_threshold.copy_(folded.log_threshold.double() - latent_scale.log())
        folded.bandwidth /= float(latent_scale)
    if isinstance(folded, BatchTopK) and folded.threshold >= 0:  # below 0 it has not been set yet
        folded.threshold.copy_(folded.threshold.double() / latent_scale)
    folded.variance /= float(latent_scale) ** 2
    return folded


def _scale(normalisation: Normalisation, coder: SparseCoder) -> Tensor:
    return torch.as_tensor(normalisation.scale, dtype=torch.float64, device=coder.W_enc.device)


def _check(coder: SparseCoder, normalisation: Normalisation, out: Normalisation | None) -> None:
    if (coder.d_out is None) != (out is None):
        raise RefractError(
            "An autoencoder has one normalisation, a transcoder has two.",
            "Give `out`, the normalisation of what it predicts, for a transcoder and for no other coder.",
        )
    for given, d, name in ((normalisation, coder.d_in, "d_in"), (out, coder.d_out, "d_out")):
        if given is not None and len(given.mean) != d:
            raise RefractError(
                f"The normalisation has {len(given.mean)} dimensions, but the coder's {name} is {d}.",
                "Use the normalisation of the activations that the coder was trained on.",
            )
