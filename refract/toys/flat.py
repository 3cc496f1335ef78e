"""A toy model's loss and gradient as a function of one row of numbers per chain, for samplers such as SGLD."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from refract.toys.data import Fixed
from refract.toys.models import ToyModel


def one_at_a_time(n_features: int, points: int = 64) -> Float[Tensor, "1 feature sample"]:
    """Features that come alone, every one as often, with sizes at the midpoints of ``points`` cells of [0, 1].

    This is what is left of sparse uniform features as the probability goes to zero, once empty rows are left out.
    Too few points are seen by a sampler: an output's ReLU makes the sum over sizes bend at each of them.
    """
    size = (torch.arange(points) + 0.5) / points
    x = torch.eye(n_features)[:, :, None] * size
    return x.transpose(0, 1).reshape(1, n_features, -1).contiguous()


def flatten(parameters: dict[str, Tensor], model: ToyModel) -> Float[Tensor, "chain parameter"]:
    """The parameters of every instance in one row, in the order of ``model.shapes``."""
    return torch.cat([parameters[name].flatten(start_dim=1) for name in model.shapes], dim=1)


def unflatten(w: Float[Tensor, "chain parameter"], model: ToyModel) -> dict[str, Tensor]:
    """The parameters by name again, as views of the rows."""
    sizes = [math.prod(shape) for shape in model.shapes.values()]
    pieces = w.split(sizes, dim=1)
    return {
        name: piece.unflatten(1, shape)
        for piece, (name, shape) in zip(pieces, model.shapes.items(), strict=True)
    }  # fmt: skip


def loss_and_gradient(
    model: ToyModel, x: Float[Tensor, "1 feature sample"]
) -> Callable[[Float[Tensor, "chain parameter"]], tuple[Float[Tensor, "chain"], Float[Tensor, "chain parameter"]]]:
    """A function of rows of parameters that gives each row's loss on ``x`` (importance 1) and its gradient."""

    def at(w: Float[Tensor, "chain parameter"]) -> tuple[Float[Tensor, "chain"], Float[Tensor, "chain parameter"]]:
        data = Fixed(x.to(w), len(w))
        weight = torch.full((1, 1, 1), 1 / data.samples, dtype=w.dtype, device=w.device)
        parameters = unflatten(w, model)
        into = {
            name: torch.zeros_like(value, memory_format=torch.contiguous_format) for name, value in parameters.items()
        }
        loss = torch.zeros(len(w), dtype=w.dtype, device=w.device)
        model.gradient(parameters, data.draw(slice(0, len(w))), weight, into, loss)
        return loss, flatten(into, model)

    return at
