"""Reference for "Features, importance and sparsity".

A linear bottleneck with a ReLU on its output.

The set-up is that of Elhage et al., 2022, *Toy Models of Superposition*,
https://transformer-circuits.pub/2022/toy_model/index.html
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor


def sample_features(
    batch: int, feature_probability: Float[Tensor, "instance feature"]
) -> Float[Tensor, "batch instance feature"]:
    """Draw a batch of sparse features for every instance.

    Each entry is present with its own ``feature_probability``, independently of all
    others. A present entry is uniform on [0, 1]; an absent one is 0. Device and dtype
    are those of ``feature_probability``.
    """
    chance = feature_probability.expand(batch, *feature_probability.shape)
    present = torch.rand_like(chance) < chance
    size = torch.rand_like(chance)
    return present * size


def reconstruct(
    W: Float[Tensor, "instance hidden feature"],
    b: Float[Tensor, "instance feature"],
    x: Float[Tensor, "batch instance feature"],
) -> Float[Tensor, "batch instance feature"]:
    """Squeeze ``x`` through the bottleneck and unfold it again, for every instance.

    The output is ReLU(Wᵀ W x + b).
    """
    hidden = einsum(
        W, x, "instance hidden feature, batch instance feature -> batch instance hidden"
    )
    output = einsum(
        W,
        hidden,
        "instance hidden feature, batch instance hidden -> batch instance feature",
    )
    return torch.relu(output + b)


def importance_weighted_mse(
    x: Float[Tensor, "batch instance feature"],
    x_hat: Float[Tensor, "batch instance feature"],
    importance: Float[Tensor, "feature"],
) -> Float[Tensor, "instance"]:
    """The loss of every instance.

    Squared errors times importance, summed over features, averaged over the batch.
    """
    return (importance * (x - x_hat).square()).sum(dim=-1).mean(dim=0)


def train_toy_models(
    feature_probability: Float[Tensor, "instance feature"],
    importance: Float[Tensor, "feature"],
    d_hidden: int,
    *,
    n_steps: int = 3000,
    batch: int = 256,
    learning_rate: float = 1e-2,
    model: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> tuple[Float[Tensor, "instance hidden feature"], Float[Tensor, "instance feature"]]:
    """Train one toy model per instance, all at once, each as if it were alone.

    ``model(W, b, x)`` is ``reconstruct`` unless you pass another. After every step
    ``on_step(step, loss)`` is called with the loss of each instance. Adam; the learning
    rate falls linearly to zero. Returns the trained ``W`` and ``b``, detached.
    """
    model = model or reconstruct
    instance, feature = feature_probability.shape
    dtype, device = feature_probability.dtype, feature_probability.device
    spread = (
        2 / (feature + d_hidden)
    ) ** 0.5  # Xavier's: the hidden layer starts neither too loud nor too quiet
    W = (
        spread * torch.randn(instance, d_hidden, feature, dtype=dtype, device=device)
    ).requires_grad_()
    b = torch.zeros(instance, feature, dtype=dtype, device=device).requires_grad_()
    optimizer = torch.optim.Adam([W, b], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1.0, 0.0, total_iters=n_steps
    )
    for step in range(n_steps):
        # Draw a fresh batch, find the loss of every instance (a tensor `loss` with one
        # entry each), and take one step of the optimizer.
        # BEGIN SOLUTION
        x = sample_features(batch, feature_probability)
        loss = importance_weighted_mse(x, model(W, b, x), importance)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        # END SOLUTION
        schedule.step()
        if on_step is not None:
            on_step(step, loss.detach())
    return W.detach(), b.detach()


def representation_norms(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """How far each feature reaches into the hidden space: its column's length."""
    return W.norm(dim=-2)


def superposition_index(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """How much the other features overlap with each one.

    The sum over j ≠ i of (Ŵᵢ·Wⱼ)², where Ŵᵢ is the direction of feature i. A feature
    that is not stored at all has no direction; its index is 0.
    """
    norms = W.norm(dim=-2, keepdim=True)
    directions = torch.where(
        norms > 0, W / norms.clamp_min(torch.finfo(W.dtype).tiny), 0
    )
    overlap = einsum(
        directions, W, "instance hidden i, instance hidden j -> instance i j"
    ).square()
    return overlap.sum(dim=-1) - torch.diagonal(overlap, dim1=-2, dim2=-1)


def linear_optimum(
    importance: Float[Tensor, "feature"], d_hidden: int
) -> Float[Tensor, "feature feature"]:
    """The matrix WᵀW of the best *linear* model, x̂ = WᵀWx + b.

    The features are independent and of equal variance. Where importances tie at the
    boundary, any choice among the tied features is optimal. The dtype is importance's.
    """
    kept = importance.topk(min(d_hidden, len(importance))).indices
    stored = torch.zeros_like(importance)
    stored[kept] = 1
    return torch.diag(stored)
