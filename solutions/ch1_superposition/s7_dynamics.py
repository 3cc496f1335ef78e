"""Reference for "Dynamics, stability and attack".

How a toy model learns, what an attacker can do to it, and how degenerate it is.

The first two follow Elhage et al., 2022, *Toy Models of Superposition*. The local
learning coefficient is that of Lau et al., 2023, arXiv 2308.12108; its use on k-gons
is that of Chen et al., 2023, arXiv 2310.06301.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from solutions.ch1_superposition.s1_toy_models import reconstruct
from torch import Tensor


def level_hops(
    D: Float[Tensor, "snapshot instance feature"],
    levels: list[float],
    slack: float = 0.02,
    hold: int = 5,
) -> Bool[Tensor, "snapshot instance feature"]:
    """Where a feature's dimensionality arrives at one of the levels, to stay a while.

    A feature arrives at snapshot t if it is within ``slack`` of a level at all ``hold``
    snapshots from t on, and was not within ``slack`` of that level at t - 1. There is
    no arrival at snapshot 0, nor where fewer than ``hold`` snapshots are left.
    """
    hops = torch.zeros_like(D, dtype=torch.bool)
    for level in levels:
        near = (D - level).abs() <= slack
        for t in range(1, len(D) - hold + 1):
            hops[t] |= near[t : t + hold].all(dim=0) & ~near[t - 1]
    return hops


def shift_test(
    moves: Float[Tensor, "interval instance"],
    falls: Float[Tensor, "interval instance"],
) -> tuple[Float[Tensor, "interval"], float]:
    """Do two things happen at the same time? A test against circular shifts.

    For every shift s = 0, 1, …, the correlation over intervals between ``moves``,
    shifted by s, and ``falls``, averaged over instances; a series that never varies
    correlates with nothing: 0. Also the share of all shifts, 0 included, whose
    average is at least that of shift 0.
    """

    def standard(series: Tensor) -> Tensor:
        centred = series - series.mean(dim=0)
        length = centred.norm(dim=0)
        return torch.where(length > 0, centred / torch.where(length > 0, length, 1), 0)

    first, second = standard(moves), standard(falls)
    shifted = [
        (first.roll(s, dims=0) * second).sum(dim=0).mean() for s in range(len(moves))
    ]
    correlation = torch.stack(shifted)
    return correlation, (correlation >= correlation[0]).double().mean().item()


def adversarial_direction(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance target feature"]:
    """For every output, the direction in input space that raises it fastest.

    Row i has length one. An output that no input reaches has no such direction: 0.
    """
    gram = W.mT @ W
    length = gram.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, gram / torch.where(length > 0, length, 1), 0)


def vulnerability(
    W: Float[Tensor, "instance hidden feature"],
    b: Float[Tensor, "instance feature"],
    x: Float[Tensor, "batch instance feature"],
    importance: Float[Tensor, "feature"],
    epsilon: Float[Tensor, "instance"],
) -> Float[Tensor, "instance"]:
    """How much an attacker can raise the loss by a push of length ``epsilon``.

    Every example is pushed along each adversarial direction, both ways. The attacker
    takes, for every example on its own, the push after which that example's loss is
    highest (importance-weighted, summed over features, against the clean ``x``).
    Returns that loss minus the loss without a push, averaged over the batch.
    """

    def losses(pushed: Tensor) -> Float[Tensor, "batch instance"]:
        return (importance * (x - reconstruct(W, b, pushed)).square()).sum(dim=-1)

    clean = losses(x)
    worst = torch.full_like(clean, -torch.inf)
    pushes = epsilon[:, None, None] * adversarial_direction(W)
    for target in range(W.shape[-1]):
        for sign in (1, -1):
            worst = torch.maximum(worst, losses(x + sign * pushes[:, target]))
    return (worst - clean).mean(dim=0)


def gibbs_estimate(
    w: Float[Tensor, "point"],
    loss: Float[Tensor, "point"],
    n_beta: float,
    localization: float,
) -> float:
    """What a perfect sampler would report for a loss of one parameter, at w* = 0.

    ``w`` are evenly spaced points and ``loss`` is the loss there; the point nearest to
    0 stands for w*, exactly 0 or not. The density is proportional to
    exp(-n_beta * loss - localization * w² / 2). Returns n_beta times the difference
    between the mean loss under it and the loss at w*.
    """
    exponent = -n_beta * loss - localization * w.square() / 2
    density = torch.softmax(exponent, dim=0)
    at_zero = loss[w.abs().argmin()]
    return (n_beta * (density * (loss - at_zero)).sum()).item()


def sgld_step(
    w: Float[Tensor, "chain parameter"],
    gradient: Float[Tensor, "chain parameter"],
    w_star: Float[Tensor, "chain parameter"],
    *,
    epsilon: float | Float[Tensor, "chain 1"],
    n_beta: float,
    localization: float,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "chain parameter"]:
    """One step of stochastic gradient Langevin dynamics near ``w_star``, per chain.

    w + ε/2 · (-n_beta · gradient + localization · (w_star - w)) + noise, where every
    entry of the noise is normal with variance ε, drawn from ``generator``. ``epsilon``
    is a number, or a tensor with one for each chain. Dtype and device are those of w.
    """
    drift = -n_beta * gradient + localization * (w_star - w)
    noise = torch.randn(w.shape, generator=generator, dtype=w.dtype, device=w.device)
    return w + epsilon / 2 * drift + epsilon**0.5 * noise


def estimate_llc(
    loss_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    w_star: Float[Tensor, "chain parameter"],
    *,
    epsilon: float | Float[Tensor, "chain 1"],
    n_beta: float,
    localization: float,
    n_steps: int,
    burn_in: int,
    generator: torch.Generator | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Float[Tensor, "chain"]:
    """The estimated local learning coefficient at ``w_star``, one for every chain.

    Every chain starts at its own row of ``w_star`` and takes ``n_steps`` SGLD steps.
    ``loss_and_gradient(w)`` gives the loss of every chain, ``(chain,)``, and its
    gradient, ``(chain, parameter)``. Returns n_beta times the difference between the
    mean of the loss, over the steps after the first ``burn_in``, and the loss at
    ``w_star``. ``on_step(step, loss)`` is called at every step.
    """
    start, _ = loss_and_gradient(w_star)
    start = start.clone()
    w, total = w_star.clone(), torch.zeros_like(start)
    for step in range(n_steps):
        # Find loss and gradient at w; after the burn-in add the loss to `total`; then
        # move w by one SGLD step. `loss` is needed below.
        # BEGIN SOLUTION
        loss, gradient = loss_and_gradient(w)
        if step >= burn_in:
            total = total + loss
        w = sgld_step(
            w,
            gradient,
            w_star,
            epsilon=epsilon,
            n_beta=n_beta,
            localization=localization,
            generator=generator,
        )
        # END SOLUTION
        if on_step is not None:
            on_step(step, loss)
    # `total` holds the sum of the losses after the burn-in. Return the estimate.
    # BEGIN SOLUTION
    return n_beta * (total / (n_steps - burn_in) - start)
    # END SOLUTION
