"""Sparse features that may be negative: the data of models that compute |x|."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class SparseSigned:
    """Independent features: present with their probability, and then uniform on [-1, 1].

    One random number decides both without tying them together. With v uniform on [-1, 1), the feature is present if
    |v| <= p, and v / p is then uniform on [-1, 1].
    """

    divisible = True

    def __init__(self, feature_probability: Float[Tensor, "instance feature"], batch: int) -> None:
        if not bool(((feature_probability > 0) & (feature_probability <= 1)).all()):
            raise ValueError("a feature's probability lies above 0 and is at most 1")
        self.instances = len(feature_probability)
        self.samples = batch
        self._scale = 2 / feature_probability[:, :, None]

    def draw(self, part: slice) -> Float[Tensor, "instance feature batch"]:
        """Fresh features."""
        scale = self._scale[part]
        v = torch.rand(*scale.shape[:2], self.samples, dtype=scale.dtype, device=scale.device)
        v.sub_(0.5).mul_(scale)
        return v.mul_(v.abs() <= 1)

    def weight(self, part: slice) -> None:
        """All alike."""
