"""Into which groups a model's stored features fall: features of different groups do not overlap."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Features and dimensions of a group, and the shape that its regular form would have.
NAMES = {
    (1, 1): "alone",
    (2, 1): "digon",
    (3, 2): "triangle",
    (4, 3): "tetrahedron",
    (5, 2): "pentagon",
    (8, 3): "square antiprism",
}


def blocks(
    W: Float[Tensor, "hidden feature"], *, stored_above: float = 0.5, touching: float = 0.1
) -> list[tuple[int, int]]:
    """The groups of one model, smallest first: how many features each has, and in how many dimensions they lie.

    A feature is stored if its column is longer than ``stored_above``. Two stored features touch if the cosine between
    them exceeds ``touching`` in size; a group is what touches, directly or through others. A direction counts as a
    dimension of the group if the group's unit columns reach at least 0.15 of their largest singular value in it.
    """
    unit = W[:, W.norm(dim=0) > stored_above]
    unit = unit / unit.norm(dim=0)
    touch = (unit.mT @ unit).abs() > touching
    left, found = set(range(unit.shape[1])), []
    while left:
        group, new = set(), {left.pop()}
        while new:
            group |= new
            new = {j for i in new for j in touch[i].nonzero().flatten().tolist()} - group
        left -= group
        strength = torch.linalg.svdvals(unit[:, sorted(group)])
        found.append((len(group), int((strength > 0.15 * strength[0]).sum())))
    return sorted(found)
