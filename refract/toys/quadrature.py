"""The expected loss of independent sparse features as a weighted sum over fixed points, free of a batch's noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refract.toys.data import Fixed

POINTS = (1, 32, 12, 6, 3, 2)


def sparse_uniform_nodes(
    feature_probability: Float[Tensor, "instance feature"], points: Sequence[int] = POINTS
) -> Fixed:
    """Nodes for features that are present with their own probability, and then uniform on [0, 1].

    Every set of present features has a grid of midpoints of its own, with ``points[k]`` along each axis for a set of k
    features. The weights of a set's nodes sum to the probability that exactly these features are present.
    """
    instances, features = feature_probability.shape
    if len(points) <= features:
        raise ValueError(f"{features} features need {features + 1} numbers of points; got {len(points)}")
    dtype, device = feature_probability.dtype, feature_probability.device
    nodes, weights = [], []
    for present in range(features + 1):
        middle = (torch.arange(points[present], dtype=dtype, device=device) + 0.5) / points[present]
        grid = torch.cartesian_prod(*[middle] * present).reshape(-1, present) if present else middle.new_zeros(1, 0)
        for chosen in itertools.combinations(range(features), present):
            x = torch.zeros(len(grid), features, dtype=dtype, device=device)
            x[:, list(chosen)] = grid
            on = torch.zeros(features, dtype=torch.bool, device=device)
            on[list(chosen)] = True
            chance = torch.where(on, feature_probability, 1 - feature_probability).prod(dim=1)
            nodes.append(x)
            weights.append((chance / len(grid))[:, None].expand(-1, len(grid)))
    return Fixed(torch.cat(nodes).T[None].contiguous(), instances, torch.cat(weights, dim=1).contiguous())
