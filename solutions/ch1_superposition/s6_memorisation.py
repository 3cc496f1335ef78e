"""Reference for "Memorisation and double descent".

Toy models trained on a finite set of data points: they memorise the points, or
represent the features, or do neither well.

The set-up is that of Henighan et al., 2023, *Superposition, Memorization, and Double
Descent*, https://transformer-circuits.pub/2023/toy-double-descent/index.html
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from solutions.ch1_superposition.s4_geometry import feature_dimensionality
from torch import Tensor


def sample_dataset(
    n_samples: int,
    feature_probability: Float[Tensor, "feature"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "data feature"]:
    """Draw a fixed set of sparse data points of length one.

    Each feature of a point is present with its own probability, and then uniform on
    [0, 1]. A point without any feature is thrown away and drawn anew. Then every point
    is divided by its length. All randomness comes from ``generator``, or from torch's
    own if there is none. The points have the dtype of ``feature_probability``.
    """
    chance = feature_probability.expand(n_samples, -1)
    points, missing = [], n_samples
    while missing:
        present = torch.empty_like(chance).uniform_(generator=generator) < chance
        drawn = present * torch.empty_like(chance).uniform_(generator=generator)
        drawn = drawn[drawn.any(dim=1)][:missing]
        points.append(drawn)
        missing -= len(drawn)
    x = torch.cat(points) if points else chance
    return x / x.norm(dim=1, keepdim=True)


def hidden_geometry(
    W: Float[Tensor, "instance hidden feature"],
    x: Float[Tensor, "data feature"],
) -> tuple[
    Float[Tensor, "instance hidden data"],
    Float[Tensor, "instance data"],
    Float[Tensor, "instance feature"],
]:
    """What lies in the hidden layer of every instance, and how much room it has.

    Returns the hidden vectors h = W x of the data points, as columns; the
    dimensionality of each data point, which is that of its hidden vector among the
    hidden vectors; and the dimensionality of each feature.
    """
    hidden = W @ x.T
    return hidden, feature_dimensionality(hidden), feature_dimensionality(W)


def memorising_weights(
    x: Float[Tensor, "data feature"],
) -> tuple[Float[Tensor, "hidden feature"], Float[Tensor, "feature"]]:
    """Weights ``W`` and ``b`` of a model with two hidden units that returns each x.

    The points have length one and no feature in common; there are at least two. Their
    hidden vectors form a regular polygon, and are as short as they can be. ``W`` and
    ``b`` have the dtype of ``x``.
    """
    T = len(x)
    angle = 2 * math.pi * torch.arange(T, dtype=x.dtype, device=x.device) / T
    square = 1 / (1 - math.cos(2 * math.pi / T))
    W = math.sqrt(square) * torch.stack([angle.cos(), angle.sin()]) @ x
    return W, (1 - square) * x.sum(dim=0)


def warm_up_cosine(step: int, n_steps: int, warm_up: int) -> float:
    """What the learning rate is multiplied by at ``step``, counted from 0.

    (step + 1) / warm_up in the first ``warm_up`` steps; then half a cosine wave, which
    starts at 1 and would reach 0 at step ``n_steps``. ``warm_up`` may be 0: then the
    cosine begins at once.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (n_steps - warm_up))


def keep_best(
    train_loss: Float[Tensor, "instance"],
    W: Float[Tensor, "instance hidden feature"],
    b: Float[Tensor, "instance feature"],
    runs: int,
) -> tuple[
    Float[Tensor, "group hidden feature"],
    Float[Tensor, "group feature"],
]:
    """Of each ``runs`` consecutive instances, the one with the lowest training loss.

    A run whose loss is not a number is never chosen, unless there is no other.
    """
    losses = torch.where(train_loss.isnan(), torch.inf, train_loss).view(-1, runs)
    start = runs * torch.arange(len(losses), device=losses.device)
    best = start + losses.argmin(dim=1)
    return W[best], b[best]


def participants(
    dimensionality: Float[Tensor, "instance vector"],
) -> Float[Tensor, "instance"]:
    """How many vectors take part in sharing the dimensions of each instance.

    (Σ D)² / Σ D²: k if k vectors have equal shares and the others none; 0 if none has.
    """
    total = dimensionality.sum(dim=-1).square()
    squares = dimensionality.square().sum(dim=-1)
    return torch.where(squares > 0, total / torch.where(squares > 0, squares, 1), 0)
