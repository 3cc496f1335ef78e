"""Where a toy model's data come from: fresh sparse draws, a sampler of your own, or fixed points with weights.

Each gives batches of shape (instance, feature, batch); see ``refract.toys.models``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Data(Protocol):
    """Batches for a range of instances, and what each sample counts."""

    instances: int
    samples: int  # in a batch
    divisible: bool  # whether the instances' batches may be drawn a part at a time

    def draw(self, part: slice) -> Float[Tensor, "instance feature batch"]:
        """A batch for the instances in ``part``; one that serves them all may have a single instance."""

    def weight(self, part: slice) -> Float[Tensor, "instance batch"] | None:
        """What each sample of every batch counts; ``None``: all alike, and one together."""


class _Sparse:
    """Independent features, each present with its probability.

    One random number decides whether a feature is present and how large it is, without tying the two together:
    given that a uniform u is below p, u / p is uniform again.
    """

    divisible = True

    def __init__(self, feature_probability: Float[Tensor, "instance feature"], batch: int) -> None:
        if not bool(((feature_probability > 0) & (feature_probability <= 1)).all()):
            raise ValueError("a feature's probability lies above 0 and is at most 1")
        self.instances = len(feature_probability)
        self.samples = batch
        self._inverse = 1 / feature_probability[:, :, None]

    def _uniform(self, inverse: Tensor) -> Float[Tensor, "instance feature batch"]:
        return torch.rand(*inverse.shape[:2], self.samples, dtype=inverse.dtype, device=inverse.device)

    def weight(self, part: slice) -> None:
        """All alike."""


class SparseUniform(_Sparse):
    """Independent features: present with their probability, and then uniform on (0, 1]."""

    def draw(self, part: slice) -> Float[Tensor, "instance feature batch"]:
        """Fresh features: ReLU(1 - u / p) is 0 with probability 1 - p and otherwise uniform."""
        inverse = self._inverse[part]
        return self._uniform(inverse).mul_(-inverse).add_(1).relu_()


class SparseSigned(_Sparse):
    """Independent features: present with their probability, and then uniform on [-1, 1]."""

    def draw(self, part: slice) -> Float[Tensor, "instance feature batch"]:
        """Fresh features: with v uniform on [-1, 1), present if |v| <= p, and then v / p."""
        inverse = self._inverse[part]
        v = self._uniform(inverse).sub_(0.5).mul_(2 * inverse)
        return v.mul_(v.abs() <= 1)


class Sampled:
    """Any sampler that gives ``(batch, instance, feature)``, such as the ones you write in the exercises."""

    divisible = False

    def __init__(
        self, sample: Callable[[int], Float[Tensor, "batch instance feature"]], batch: int, instances: int
    ) -> None:
        self.sample, self.samples, self.instances = sample, batch, instances

    def draw(self, part: slice) -> Float[Tensor, "instance feature batch"]:
        """What the sampler gives, its axes in this package's order."""
        x = self.sample(self.samples)
        if x.ndim != 3 or x.shape[:2] != (self.samples, self.instances):
            raise ValueError(
                f"the sampler gave {tuple(x.shape)}; expected (batch, instance, feature) with "
                f"batch {self.samples} and instance {self.instances}"
            )
        return x.permute(1, 2, 0).contiguous()

    def weight(self, part: slice) -> None:
        """All alike."""


class Fixed:
    """The same samples at every step: a finite data set, or the nodes of an integral.

    ``x`` and ``weights`` may have one instance, shared by all. Without weights the samples count alike.
    """

    divisible = True

    def __init__(
        self,
        x: Float[Tensor, "instance feature batch"],
        instances: int,
        weights: Float[Tensor, "instance batch"] | None = None,
    ) -> None:
        self.x, self.instances, self.weights = x, instances, weights
        self.samples = x.shape[-1]

    def draw(self, part: slice) -> Float[Tensor, "instance feature batch"]:
        """The samples of these instances."""
        return self.x if len(self.x) == 1 else self.x[part]

    def weight(self, part: slice) -> Float[Tensor, "instance batch"] | None:
        """What each sample counts."""
        return self.weights if self.weights is None or len(self.weights) == 1 else self.weights[part]
