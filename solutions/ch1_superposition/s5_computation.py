"""Reference for "Privileged bases and computation in superposition".

A ReLU on the hidden layer: of a bottleneck that stores features, then of a network
that computes |x|.

The set-up is that of Elhage et al., 2022, *Toy Models of Superposition*,
https://transformer-circuits.pub/2022/toy_model/index.html
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor


def neuron_model(
    W: Float[Tensor, "instance hidden feature"],
    b: Float[Tensor, "instance feature"],
    x: Float[Tensor, "batch instance feature"],
) -> Float[Tensor, "batch instance feature"]:
    """Squeeze ``x`` into neurons and unfold it again, for every instance.

    The neurons are h = ReLU(W x), and the output is ReLU(Wᵀ h + b).
    """
    hidden = torch.relu(
        einsum(
            W,
            x,
            "instance hidden feature, batch instance feature -> batch instance hidden",
        )
    )
    output = einsum(
        W,
        hidden,
        "instance hidden feature, batch instance hidden -> batch instance feature",
    )
    return torch.relu(output + b)


def features_served(
    W_in: Float[Tensor, "instance hidden feature"],
    W_out: Float[Tensor, "instance feature hidden"],
    threshold: float = 0.25,
) -> Int[Tensor, "instance hidden"]:
    """For every neuron, the number of features that it serves.

    Neuron k serves feature i if |W_in[k, i]| · W_out[i, k] is above ``threshold``.
    """
    return ((W_in.abs() * W_out.mT) > threshold).sum(-1)


def absolute_value_model(
    W_in: Float[Tensor, "instance hidden feature"],
    W_out: Float[Tensor, "instance feature hidden"],
    b: Float[Tensor, "instance feature"],
    x: Float[Tensor, "batch instance feature"],
) -> Float[Tensor, "batch instance feature"]:
    """What a layer of neurons makes of ``x``, for every instance.

    The neurons are h = ReLU(W_in x), and the output is ReLU(W_out h + b).
    """
    hidden = torch.relu(
        einsum(
            W_in,
            x,
            "instance hidden feature, batch instance feature -> batch instance hidden",
        )
    )
    output = einsum(
        W_out,
        hidden,
        "instance feature hidden, batch instance hidden -> batch instance feature",
    )
    return torch.relu(output + b)


def exact_absolute_value(
    n_features: int,
) -> tuple[
    Float[Tensor, "hidden feature"],
    Float[Tensor, "feature hidden"],
    Float[Tensor, "feature"],
]:
    """Weights ``W_in``, ``W_out`` and ``b`` of one model that computes |x| exactly.

    It has two neurons for each feature, so ``2 * n_features`` of them.
    """
    identity = torch.eye(n_features)
    W_in = torch.cat([identity, -identity])
    W_out = torch.cat([identity, identity], dim=1)
    return W_in, W_out, torch.zeros(n_features)


def find_asymmetric_pairs(
    W_in: Float[Tensor, "instance hidden feature"],
    W_out: Float[Tensor, "instance feature hidden"],
    ratio: float = 2.0,
    threshold: float = 0.25,
) -> Bool[Tensor, "instance hidden strong weak"]:
    """Where a neuron reads i strongly and j weakly, and writes them the other way.

    Entry (k, i, j) of an instance is true if neuron k

    - serves both: |W_in[k, i]| · W_out[i, k] is above ``threshold``, and so for j,
    - reads them with opposite signs,
    - reads i at least ``ratio`` times as strongly as j,
    - writes j at least ``ratio`` times as strongly as i.
    """
    read, write = W_in.abs(), W_out.mT
    serves = read * write > threshold
    both = serves[..., :, None] & serves[..., None, :]
    opposite = W_in[..., :, None] * W_in[..., None, :] < 0
    reads = read[..., :, None] >= ratio * read[..., None, :]
    writes = write[..., None, :] >= ratio * write[..., :, None]
    return both & opposite & reads & writes


def find_inhibited(
    W_in: Float[Tensor, "instance hidden feature"],
    W_out: Float[Tensor, "instance feature hidden"],
) -> Bool[Tensor, "instance hidden strong weak"]:
    """Where one other neuron takes back half or more of a neuron's interference.

    Let feature i alone be present, with the sign that drives neuron k. Then neuron k
    adds |W_in[k, i]| · W_out[j, k] to output j. Entry (k, i, j) is true if that exceeds
    zero, i and j differ, and some other neuron that i drives at the same time takes at
    least half of it away again.
    """
    away = torch.zeros(
        *W_in.shape, W_in.shape[-1], dtype=W_in.dtype, device=W_in.device
    )
    own = W_in.abs()[..., :, None] * W_out.mT[..., None, :]
    for sign in (1, -1):
        driven = torch.relu(sign * W_in)
        strongest = (driven[..., :, None] * W_out.mT[..., None, :]).amin(dim=1)
        away = torch.where((sign * W_in > 0)[..., None], strongest[:, None], away)
    others = ~torch.eye(W_in.shape[-1], dtype=torch.bool, device=W_in.device)
    return (own > 0) & (away <= -own / 2) & others
