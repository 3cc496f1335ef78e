"""Two features alone, at a given angle: the least that they can cost when length and bias are free."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class PairLoss(NamedTuple):
    """The least expected loss at each angle, and the length and the bias that give it."""

    loss: Float[Tensor, "angle"]
    length: Float[Tensor, "angle"]
    bias: Float[Tensor, "angle"]


def best_pair_loss(
    cosine: Float[Tensor, "angle"], both: float, one: float, *, points: int = 30, n_steps: int = 250
) -> PairLoss:
    """Two features whose columns meet at a given cosine, with the best length and bias, the same for both.

    ``both`` is the probability that both features are present, ``one`` that exactly one is. Sizes are uniform on
    [0, 1] and run over a grid of ``points`` midpoints each; importance is 1. Adam starts from three biases, and the
    best end counts.
    """
    middle = (torch.arange(points, dtype=cosine.dtype) + 0.5) / points
    own, other = torch.cartesian_prod(middle, middle).T
    c = cosine[:, None]

    def loss(square: Tensor, bias: Tensor) -> Tensor:
        """``square`` is the squared length."""
        s, b = square[:, None], bias[:, None]
        together = 2 * (own - torch.relu(s * (own + c * other) + b)).square().mean(dim=1)
        present = (middle - torch.relu(s * middle + b)).square().mean(dim=1)
        absent = torch.relu(s * c * middle + b).square().mean(dim=1)
        neither = 2 * torch.relu(bias).square()
        return both * together + one * (present + absent) + (1 - both - one) * neither

    starts = torch.tensor([0.0, -0.15, 0.1], dtype=cosine.dtype)
    results = []
    for start in starts:
        square = torch.full_like(cosine, 0.9).requires_grad_()
        bias = torch.full_like(cosine, float(start)).requires_grad_()
        optimizer = torch.optim.Adam([square, bias], lr=0.02)
        for step in range(n_steps):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / n_steps)
            optimizer.zero_grad()
            loss(square, bias).sum().backward()
            optimizer.step()
        with torch.no_grad():
            results.append(torch.stack([loss(square, bias), square.clamp_min(0).sqrt(), bias]))
    table = torch.stack(results).detach()
    best = table[:, 0].argmin(dim=0)
    return PairLoss(*table.gather(0, best.expand(1, 3, -1))[0])
