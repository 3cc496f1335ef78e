"""The tied toy model with a single hidden unit, for thousands of instances at once.

With one hidden unit every product of ``ToyModel`` is an outer product or a sum over features. Batched matrix products
spend a call on each instance for them; here they are sums and products of whole arrays. The numbers are the same.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from refract.toys.models import ToyModel


class OneUnit(ToyModel):
    """ReLU(wᵀ w x + b), where w is a single row: a ``ToyModel`` to give to ``train`` and ``evaluate``."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, d_hidden=1)

    def output(
        self, parameters: dict[str, Tensor], x: Float[Tensor, "instance feature batch"]
    ) -> Float[Tensor, "instance feature batch"]:
        """What every instance makes of ``x``."""
        return self._squeeze(parameters, x)[1]

    def gradient(
        self,
        parameters: dict[str, Tensor],
        x: Float[Tensor, "instance feature batch"],
        weight: Float[Tensor, "instance feature batch"],
        into: dict[str, Tensor],
        loss: Float[Tensor, "instance"] | None = None,
    ) -> None:
        """Write the gradient of every instance's loss Σ weight (output - x)² into ``into``, and the loss."""
        hidden, output = self._squeeze(parameters, x)
        error = output - x
        gradient = error * weight
        if loss is not None:
            torch.sum(gradient * error, dim=(1, 2), out=loss)
        gradient.mul_(2)
        gradient = torch.ops.aten.threshold_backward(gradient, output, 0.0)
        torch.sum(gradient, dim=2, out=into["b"])
        into["W"].copy_((gradient * hidden).sum(dim=2)[:, None])
        back = (parameters["W"].mT * gradient).sum(dim=1)  # (instance, batch)
        if len(x) == 1:
            into["W"].add_((back @ x[0].T)[:, None])
        else:
            into["W"].add_((back[:, None] * x).sum(dim=2)[:, None])

    def _squeeze(self, parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        W = parameters["W"]
        hidden = (W[:, 0] @ x[0])[:, None] if len(x) == 1 else (W.mT * x).sum(dim=1, keepdim=True)
        return hidden, (W.mT * hidden).add_(parameters["b"][:, :, None]).relu_()
