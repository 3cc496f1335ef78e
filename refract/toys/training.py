"""Train many toy models at once, on a CPU or a GPU: no loop over models, and no wait for a number in the middle.

``train`` is the course's fast form of the loop that you write in the first section. What differs is only speed:
the gradient is written out, the data lie in memory in the order in which they are used, and one fused Adam steps
all parameters. ``benchmarks/toy_models.py`` measures what that is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from refract.errors import RefractError
from refract.toys.data import Data
from refract.toys.models import ToyModel, slices


@dataclass
class Trained:
    """Trained parameters, the losses on the way, and snapshots of the parameters where asked for."""

    parameters: dict[str, Tensor]
    loss_steps: list[int]
    losses: Float[Tensor, "log instance"]
    snapshot_steps: list[int] = field(default_factory=list)
    snapshots: list[dict[str, Tensor]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Tensor:
        return self.parameters[name]

    def choose(self, index: Tensor) -> dict[str, Tensor]:
        """The parameters of some of the instances."""
        return {name: value[index] for name, value in self.parameters.items()}


def falling(step: int, n_steps: int) -> float:
    """A learning rate that falls in a straight line to zero."""
    return 1 - step / n_steps


def constant(step: int, n_steps: int) -> float:
    """A learning rate that stays as it is."""
    return 1.0


def cosine_after(warm_up: int) -> Callable[[int, int], float]:
    """A learning rate that rises for ``warm_up`` steps and then falls to zero along a cosine."""

    def shape(step: int, n_steps: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))

    return shape


def initial(
    model: ToyModel, instances: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Draw matrices from Xavier's normal distribution, of variance 2 / (rows + columns); biases are zero."""
    parameters = {}
    for name, shape in model.shapes.items():
        value = torch.zeros(instances, *shape, dtype=dtype, device=device)
        if len(shape) == 2:
            value.normal_(0, (2 / sum(shape)) ** 0.5)
        parameters[name] = value
    return parameters


def train(
    model: ToyModel,
    data: Data,
    importance: Float[Tensor, "feature"] | Float[Tensor, "instance feature"],
    *,
    n_steps: int,
    learning_rate: float = 1e-2,
    schedule: Callable[[int, int], float] = falling,
    weight_decay: float = 0.0,
    start: dict[str, Tensor] | None = None,
    log_every: int = 0,
    snapshot_at: Sequence[int] = (),
    on_step: Callable[[int, Tensor | None], None] | None = None,
) -> Trained:
    """Train every instance as if it were alone, on Σ importance (target - output)², averaged over the samples.

    AdamW (Adam, while ``weight_decay`` is 0). ``start`` gives the first parameters, else ``initial`` draws them; it is
    not changed. Every ``log_every`` steps, and at the last, the loss of each instance is kept: that of the step's
    batch, before the step. The parameters are copied before the steps in ``snapshot_at`` (``n_steps``: at the end).
    ``on_step(step, None)`` is called after each step. Raises ``RefractError`` if a loss is not finite at the end.
    """
    importance = importance.expand(data.instances, model.n_features)
    dtype, device = importance.dtype, importance.device
    start = initial(model, data.instances, dtype=dtype, device=device) if start is None else start
    flat, gradient_of_all, parameters = _flat(model, start, data.instances, dtype, device)
    optimizer = _adam(flat, learning_rate, weight_decay)
    gradients = _views(model, gradient_of_all, data.instances)

    pieces = [
        (part, _cut(parameters, part), _cut(gradients, part), _weight(importance[part], data, part))
        for part in _parts(model, data)
    ]
    logged = [s for s in range(n_steps) if (log_every and s % log_every == 0) or s == n_steps - 1]
    losses = torch.zeros(len(logged), data.instances, dtype=dtype, device=device)
    where = {s: row for row, s in enumerate(logged)}
    wanted, snapshots = set(snapshot_at), []

    for step in range(n_steps):
        if step in wanted:
            snapshots.append({name: value.clone() for name, value in parameters.items()})
        loss = losses[where[step]] if step in where else None
        for part, own, gradient, weight in pieces:
            x = data.draw(part)
            model.gradient(own, x, weight, gradient, None if loss is None else loss[part])
        optimizer.param_groups[0]["lr"] = learning_rate * schedule(step, n_steps)
        optimizer.step()
        if on_step is not None:
            on_step(step, None)
    if n_steps in wanted:
        snapshots.append({name: value.clone() for name, value in parameters.items()})
    if n_steps and not bool(losses[-1].isfinite().all()):
        raise RefractError("The loss is no longer a finite number.", "Lower the learning rate.")
    return Trained(
        {name: value.clone() for name, value in parameters.items()}, logged, losses, sorted(wanted), snapshots
    )


def evaluate(
    model: ToyModel, parameters: dict[str, Tensor], data: Data, importance: Tensor, *, batches: int = 1
) -> Float[Tensor, "instance"]:
    """The loss of every instance on ``batches`` batches of ``data``."""
    importance = importance.expand(data.instances, model.n_features)
    total = torch.zeros(data.instances, dtype=importance.dtype, device=importance.device)
    for _ in range(batches):
        for part in _parts(model, data):
            x = data.draw(part)
            error = model.output(_cut(parameters, part), x) - (x.abs() if model.absolute else x)
            total[part] += (_weight(importance[part], data, part) * error.square()).sum(dim=(1, 2))
    return total / batches


def best_of(losses: Float[Tensor, "instance"], runs: int) -> Tensor:
    """The index of the best of each ``runs`` consecutive instances, by loss."""
    if len(losses) % runs:
        raise ValueError(f"{len(losses)} instances do not divide into groups of {runs}")
    groups = losses.view(-1, runs)
    return groups.argmin(dim=1) + runs * torch.arange(len(groups), device=losses.device)


def _parts(model: ToyModel, data: Data) -> list[slice]:
    """Ranges of instances that are worked on together."""
    if not data.divisible:
        return [slice(0, data.instances)]
    return list(slices(data.instances, data.samples * (model.n_features + model.d_hidden)))


def _weight(importance: Tensor, data: Data, part: slice) -> Float[Tensor, "instance feature batch"]:
    """What each squared error counts: the feature's importance times the sample's weight."""
    weight = data.weight(part)
    return importance[:, :, None] / data.samples if weight is None else importance[:, :, None] * weight[:, None]


def _cut(tensors: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    return {name: value[part] for name, value in tensors.items()}


def _flat(
    model: ToyModel, start: dict[str, Tensor], instances: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.nn.Parameter, Tensor, dict[str, Tensor]]:
    """One flat parameter with a gradient, and named views of it: one update of the optimizer serves all."""
    size = sum(math.prod(shape) for shape in model.shapes.values()) * instances
    flat = torch.nn.Parameter(torch.zeros(size, dtype=dtype, device=device))
    flat.grad = gradient = torch.zeros(size, dtype=dtype, device=device)
    parameters = _views(model, flat.data, instances)
    for name, view in parameters.items():
        view.copy_(start[name])
    return flat, gradient, parameters


def _views(model: ToyModel, flat: Tensor, instances: int) -> dict[str, Tensor]:
    views, begin = {}, 0
    for name, shape in model.shapes.items():
        end = begin + instances * math.prod(shape)
        views[name] = flat[begin:end].view(instances, *shape)
        begin = end
    return views


def _adam(flat: Tensor, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    fused = flat.device.type in ("cpu", "cuda")
    return torch.optim.AdamW([flat], lr=learning_rate, weight_decay=weight_decay, fused=fused)
