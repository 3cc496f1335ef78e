"""Name the arrangement of features in a plane of two hidden units."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SHAPES = ("orthogonal pair", "pair and one", "cross", "pentagon", "other")

# Angles, in degrees, between neighbours around the circle, sorted.
_GAPS = {
    "orthogonal pair": (90.0, 270.0),
    "pair and one": (90.0, 90.0, 180.0),
    "cross": (90.0, 90.0, 90.0, 90.0),
    "pentagon": (72.0, 72.0, 72.0, 72.0, 72.0),
}


def plane_shapes(
    W: Float[Tensor, "instance 2 feature"], *, stored_above: float = 0.5, slack: float = 15.0
) -> list[str]:
    """The shape that each instance's stored features make.

    A feature is stored if its column is longer than ``stored_above``. A shape is named if every angle between
    neighbours is within ``slack`` degrees of the ideal; anything else is ``"other"``.
    """
    if W.shape[-2] != 2:
        raise ValueError(f"shapes in the plane need two hidden units; W has {W.shape[-2]}")
    return [_shape(instance[:, instance.norm(dim=0) > stored_above], slack) for instance in W]


def _shape(stored: Float[Tensor, "2 feature"], slack: float) -> str:
    angles = torch.atan2(stored[1], stored[0]).rad2deg().sort().values
    if len(angles) < 2:
        return "other"
    gaps = torch.cat([angles.diff(), angles[:1] + 360 - angles[-1:]]).sort().values.tolist()
    for name, ideal in _GAPS.items():
        if len(ideal) == len(gaps) and all(abs(gap - right) <= slack for gap, right in zip(gaps, ideal, strict=True)):
            return name
    return "other"
