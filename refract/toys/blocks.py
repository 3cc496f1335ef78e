"""Into which groups a model's stored features fall: features of different groups do not overlap."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
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


def groups(
    W: Float[Tensor, "hidden feature"], *, stored_above: float = 0.5, touching: float = 0.1
) -> list[tuple[list[int], int]]:
    """The groups of one model, smallest first: which features each has, and in how many dimensions they lie.

    A feature is stored if its column is longer than ``stored_above``. Two stored features touch if the cosine between
    them exceeds ``touching`` in size; a group is what touches, directly or through others. A direction counts as a
    dimension of the group if the group's unit columns reach at least 0.15 of their largest singular value in it.
    """
    stored = (W.norm(dim=0) > stored_above).nonzero().flatten()
    unit = W[:, stored] / W[:, stored].norm(dim=0)
    touch = (unit.mT @ unit).abs() > touching
    left, found = set(range(len(stored))), []
    while left:
        group, new = set(), {min(left)}
        while new:
            group |= new
            new = {j for i in new for j in touch[i].nonzero().flatten().tolist()} - group
        left -= group
        strength = torch.linalg.svdvals(unit[:, sorted(group)])
        found.append((stored[sorted(group)].tolist(), int((strength > 0.15 * strength[0]).sum())))
    return sorted(found, key=lambda each: (len(each[0]), each[1], each[0]))


def blocks(
    W: Float[Tensor, "hidden feature"], *, stored_above: float = 0.5, touching: float = 0.1
) -> list[tuple[int, int]]:
    """How many features each of the ``groups`` of one model has, and in how many dimensions they lie."""
    found = groups(W, stored_above=stored_above, touching=touching)
    return [(len(features), dimensions) for features, dimensions in found]


def same_cosines(
    W: Float[Tensor, "*instance hidden feature"], corners: Float[Tensor, "dimension feature"], *, slack: float = 0.15
) -> Bool[Tensor, "*instance"]:
    """Whether the columns stand to each other as a shape's corners do, turned or in another order as they may be.

    The cosines between the columns, sorted, are all within ``slack`` of those between the corners. Lengths play no
    part. A column that is turned round changes its cosines, though it changes no dimensionality.
    """
    return (_cosines(W) - _cosines(corners)).abs().amax(dim=-1) < slack


def _cosines(W: Float[Tensor, "*instance hidden feature"]) -> Float[Tensor, "*instance pair"]:
    """The cosine of every pair of columns, sorted."""
    unit = W / W.norm(dim=-2, keepdim=True)
    first, second = torch.triu_indices(W.shape[-1], W.shape[-1], offset=1)
    return (unit.mT @ unit)[..., first, second].sort(dim=-1).values
