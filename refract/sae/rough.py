"""Rough encoder products: pre-activations in few digits, several times as fast as in fp32 where the hardware helps.

They are good for one thing: to tell which pre-activations can be among the largest (see ``shortlist``). The scale of a
row is left out of the 8-bit ones, so numbers of different rows cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from refract import hardware

MIN_LATENTS_PER_K = 64  # with fewer, the exact product costs less than what is done around the rough one
MIN_LATENTS = 1024
NUMBERS_AT_ONCE = 1 << 24  # at most 64 MB of products, whatever the batch
LATENTS_AT_ONCE = 512  # rows of W_enc that stay in the cache of one core
LARGEST = 127

Product = Callable[[Tensor, Tensor, Tensor], Iterator[Float[Tensor, "rows latent"]]]


def best_product(x: Float[Tensor, "batch d"], n_latents: int, k: int) -> Product | None:
    """The fastest rough product for these sizes on this device; None where the exact one is as good."""
    if n_latents < max(MIN_LATENTS, MIN_LATENTS_PER_K * k) or x.dtype != torch.float32:
        return None
    if hardware.int8(x.device).fast:
        return integers
    if hardware.bf16(x.device).fast:
        return bfloat16
    return None


def bfloat16(
    x: Float[Tensor, "batch d"], W_enc: Float[Tensor, "latent d"], b_enc: Float[Tensor, "latent"]
) -> Iterator[Float[Tensor, "rows latent"]]:
    """X @ W_encᵀ + b_enc in bf16, some rows at a time."""
    W_enc, b_enc = W_enc.bfloat16(), b_enc.bfloat16()
    for rows in x.bfloat16().split(_rows_at_once(W_enc)):
        yield torch.addmm(b_enc, rows, W_enc.mT).float()


def integers(
    x: Float[Tensor, "batch d"], W_enc: Float[Tensor, "latent d"], b_enc: Float[Tensor, "latent"]
) -> Iterator[Float[Tensor, "rows latent"]]:
    """(x @ W_encᵀ + b_enc), but for a factor for each row, in 8-bit integers; some rows at a time, in the same memory.

    A row is divided by its largest number. What is left of the others are few digits where a few dimensions are much
    larger than the rest, as in every language model. Dimensions are therefore brought closer together first: x is
    divided, W_enc multiplied, by the root of the size of x (half of the way, as in SmoothQuant: Xiao et al., 2022,
    arXiv:2211.10438). The bias is the weight of one more input, which is always the same.
    """
    size = x.square().mean(dim=0).sqrt()
    root = torch.where(size > 0, size, 1).sqrt()
    inputs = x / root
    constant = inputs.abs().amax(dim=1).mean().clamp_min(1e-6)
    inputs = torch.cat([inputs, constant.expand(len(x), 1)], dim=1)
    scale = inputs.abs().amax(dim=1, keepdim=True) / LARGEST
    rounded = (inputs / scale).round_().to(torch.int8)
    weights, scales = _rounded_weights(W_enc, b_enc, root, constant)

    at_once = _rows_at_once(W_enc)
    rough = torch.empty(at_once, len(W_enc))
    product = torch.empty(at_once * LATENTS_AT_ONCE, dtype=torch.int32)
    for rows in rounded.split(at_once):
        for start, some, factors in zip(
            count(step=LATENTS_AT_ONCE),
            weights.split(LATENTS_AT_ONCE),
            scales.split(LATENTS_AT_ONCE),
            strict=False,
        ):
            part = product[: len(rows) * len(some)].view(len(rows), len(some))
            torch._int_mm(rows, some.mT, out=part)
            rough[: len(rows), start : start + len(some)].copy_(part).mul_(factors)
        yield rough[: len(rows)]


def _rows_at_once(W_enc: Float[Tensor, "latent d"]) -> int:
    return max(64, min(512, NUMBERS_AT_ONCE // len(W_enc)))


def _rounded_weights(
    W_enc: Float[Tensor, "latent d"], b_enc: Float[Tensor, "latent"], root: Float[Tensor, "d"], constant: Tensor
) -> tuple[Int8[Tensor, "latent d+1"], Float[Tensor, "latent"]]:
    """Weights and biases as 8-bit integers, and what each latent's have to be multiplied by to be themselves again."""
    n_latents, d = W_enc.shape
    rounded, scales = torch.empty(n_latents, d + 1, dtype=torch.int8), torch.empty(n_latents)
    weights = torch.empty(LATENTS_AT_ONCE, d + 1)
    for start in range(0, n_latents, LATENTS_AT_ONCE):
        part = slice(start, start + LATENTS_AT_ONCE)
        some = weights[: len(b_enc[part])]
        torch.mul(W_enc[part], root, out=some[:, :d])
        torch.div(b_enc[part], constant, out=some[:, d])
        torch.div(some.abs().amax(dim=1).clamp_min_(1e-30), LARGEST, out=scales[part])
        rounded[part] = some.div_(scales[part, None]).round_()
    return rounded, scales
