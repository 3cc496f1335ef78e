"""The toy models of this course as one family, with the gradient written out.

Every one of them squeezes features into hidden units and unfolds them again:

    hidden = f(encoder @ x)            f: nothing, or a ReLU
    output = g(decoder @ hidden + b)   g: nothing, or a ReLU; the decoder may be the encoder's transpose

With the gradient written out a step is a dozen operations, where autograd needs about forty. The tests hold it against
autograd.

Inside this package an instance's data lie as (instance, feature, batch): the batch is the long axis, and lies in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ToyModel:
    """Which toy model: its sizes, whether the decoder is tied to the encoder, and where a ReLU stands.

    ``absolute=True`` asks the model for |x| instead of x.
    """

    n_features: int
    d_hidden: int
    tied: bool = True
    rectify_hidden: bool = False
    rectify_output: bool = True
    absolute: bool = False

    def __post_init__(self) -> None:
        if self.n_features < 1 or self.d_hidden < 1:
            raise ValueError(f"a toy model needs a feature and a hidden unit; got {self.n_features}, {self.d_hidden}")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of one instance: name and shape. A tied model's only matrix is called ``W``."""
        matrix = (self.d_hidden, self.n_features)
        if self.tied:
            return {"W": matrix, "b": (self.n_features,)}
        return {"W_enc": matrix, "W_dec": matrix[::-1], "b": (self.n_features,)}

    def output(
        self, parameters: dict[str, Tensor], x: Float[Tensor, "instance feature batch"]
    ) -> Float[Tensor, "instance feature batch"]:
        """What every instance makes of ``x``."""
        return self._forward(*self._matrices(parameters), parameters["b"], x)[1]

    def gradient(
        self,
        parameters: dict[str, Tensor],
        x: Float[Tensor, "instance feature batch"],
        weight: Float[Tensor, "instance feature batch"],
        into: dict[str, Tensor],
        loss: Float[Tensor, "instance"] | None = None,
    ) -> None:
        """Write the gradient of every instance's loss Σ weight (target - output)² into ``into``, and the loss.

        ``weight`` holds importance and the weight of each sample; its feature and batch axes may have length one.
        """
        encoder, decoder = self._matrices(parameters)
        hidden, output = self._forward(encoder, decoder, parameters["b"], x)
        error = output - (x.abs() if self.absolute else x)
        gradient = error * weight
        if loss is not None:
            torch.sum(gradient * error, dim=(1, 2), out=loss)
        gradient.mul_(2)
        if self.rectify_output:
            gradient = _through_relu(gradient, output)
        torch.sum(gradient, dim=2, out=into["b"])
        back = _times(decoder.mT, gradient)
        if self.rectify_hidden:
            back = _through_relu(back, hidden)
        if self.tied:
            _outer(hidden, gradient, into["W"])
            _outer(back, x, into["W"], add=True)
        else:
            _outer(gradient, hidden, into["W_dec"])
            _outer(back, x, into["W_enc"])

    def _matrices(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.tied:
            return parameters["W"], parameters["W"].mT
        return parameters["W_enc"], parameters["W_dec"]

    def _forward(self, encoder: Tensor, decoder: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = _times(encoder, x)
        if self.rectify_hidden:
            hidden.relu_()
        output = _times(decoder, hidden).add_(b[:, :, None])
        return hidden, output.relu_() if self.rectify_output else output


def _through_relu(gradient: Tensor, rectified: Tensor) -> Tensor:
    # In place: fresh memory for every step costs a tenth of the step.
    return torch.ops.aten.threshold_backward.grad_input(gradient, rectified, 0.0, grad_input=gradient)


# A batched matrix product spends a call on each instance. Where a matrix has one row or one column, thousands of
# instances are served at once by a product and a sum of whole arrays, or by one plain product with shared data.


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """The product matrix @ x of every instance; ``x`` may have one instance, shared by all."""
    if matrix.shape[2] == 1:
        return matrix * x
    if matrix.shape[1] == 1:
        return (matrix[:, 0] @ x[0])[:, None] if len(x) == 1 else (matrix.mT * x).sum(dim=1, keepdim=True)
    return torch.bmm(matrix, x.expand(len(matrix), -1, -1))


def _outer(left: Tensor, right: Tensor, into: Tensor, *, add: bool = False) -> None:
    """Sum left @ rightᵀ over the batch; ``right`` may have one instance, shared by all."""
    if left.shape[1] == 1 and len(right) == 1:
        product = (left[:, 0] @ right[0].mT)[:, None]
    elif left.shape[1] == 1:
        product = (left * right).sum(dim=2)[:, None]
    elif right.shape[1] == 1:
        product = (left * right).sum(dim=2)[:, :, None]
    elif add:
        into.baddbmm_(left, right.expand(len(left), -1, -1).mT)
        return
    else:
        torch.bmm(left, right.expand(len(left), -1, -1).mT, out=into)
        return
    into.add_(product) if add else into.copy_(product)


def slices(instances: int, per_instance: int, *, at_once: int = 1 << 19) -> Iterator[slice]:
    """Cut the instances so that one cut's numbers fit into a core's cache."""
    step = max(1, at_once // max(1, per_instance))
    for start in range(0, instances, step):
        yield slice(start, min(start + step, instances))
