"""Reference for "Geometry and capacity".

How much of a dimension a feature gets, and what training spends it on.

Dimensionality is that of Elhage et al., 2022, *Toy Models of Superposition*; capacity
is that of Scherlis et al., 2022, *Polysemanticity and Capacity in Neural Networks*.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from solutions.ch1_superposition.s1_toy_models import reconstruct
from torch import Tensor


def feature_dimensionality(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """The share of a dimension that each feature has to itself.

    The squared length of Wᵢ over the sum over all j, i included, of (Ŵᵢ·Wⱼ)². A feature
    with Wᵢ = 0 has none: 0.
    """
    length = W.norm(dim=-2, keepdim=True)
    direction = torch.where(
        length > 0, W / length.clamp_min(torch.finfo(W.dtype).tiny), 0
    )
    crowd = (direction.mT @ W).square().sum(dim=-1)
    own = length.squeeze(-2).square()
    return torch.where(own > 0, own / torch.where(own > 0, crowd, 1), 0)


def polytope_vectors(name: str) -> Float[Tensor, "hidden feature"]:
    """The corners of a shape, as unit columns, in as few hidden dimensions as it needs.

    ``name`` is "digon", "triangle", "tetrahedron", "pentagon" or "square antiprism".
    The antiprism has the height at which its corners fill the three dimensions evenly.
    """

    def ring(corners: int, turn: float = 0.0) -> Float[Tensor, "2 feature"]:
        angle = 2 * math.pi * (torch.arange(corners) + turn) / corners
        return torch.stack([angle.cos(), angle.sin()])

    if name == "digon":
        return torch.tensor([[1.0, -1.0]])
    if name == "triangle":
        return ring(3)
    if name == "pentagon":
        return ring(5)
    if name == "tetrahedron":
        signs = [[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]
        return torch.tensor(signs) / 3**0.5
    if name == "square antiprism":
        height = torch.full((1, 4), (1 / 3) ** 0.5)
        upper = torch.cat([(2 / 3) ** 0.5 * ring(4), height])
        lower = torch.cat([(2 / 3) ** 0.5 * ring(4, turn=0.5), -height])
        return torch.cat([upper, lower], dim=1)
    raise ValueError(f"no polytope is called {name!r} here")


def tegum_product(
    first: Float[Tensor, "hidden1 feature1"], second: Float[Tensor, "hidden2 feature2"]
) -> Float[Tensor, "hidden feature"]:
    """Two sets of features side by side, each in dimensions of its own.

    The columns of ``first`` come first. They do not overlap.
    """
    return torch.block_diag(first, second)


def capacity(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """The capacity that a model spends on each feature.

    (Wᵢ·Wᵢ)² over the sum over all j of (Wᵢ·Wⱼ)²; 0 for a feature with Wᵢ = 0.
    """
    gram = W.mT @ W
    own = torch.diagonal(gram, dim1=-2, dim2=-1)
    everything = gram.square().sum(dim=-1)
    stored = everything > 0
    return torch.where(stored, own.square() / torch.where(stored, everything, 1), 0)


def readout_ceiling(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """The share of each feature's variance that the best linear readout explains.

    It reads the hidden layer h = Wx. The features are white: of mean 0 and variance 1,
    and uncorrelated. Some hidden units may be idle, or copies of others.
    """
    projection = torch.linalg.pinv(W) @ W
    return torch.diagonal(projection, dim1=-2, dim2=-1)


def loss_saved(
    W: Float[Tensor, "instance hidden feature"],
    b: Float[Tensor, "instance feature"],
    x: Float[Tensor, "batch instance feature"],
    importance: Float[Tensor, "feature"],
) -> Float[Tensor, "instance feature"]:
    """What each feature saves when it is there.

    The rise of an example's loss (importance-weighted, summed over all features) when
    column i of ``W`` is set to zero, averaged over the examples in which feature i is
    present. 0 for a feature that is present in none.
    """

    def losses(W: Tensor) -> Float[Tensor, "batch instance"]:
        return (importance * (x - reconstruct(W, b, x)).square()).sum(dim=-1)

    with_all, saved = losses(W), []
    for i in range(W.shape[-1]):
        without = W.clone()
        without[..., i] = 0
        present = x[..., i] > 0
        rise = (losses(without) - with_all) * present
        saved.append(rise.sum(dim=0) / present.sum(dim=0).clamp_min(1))
    return torch.stack(saved, dim=-1)


def marginal_value(
    capacity: Float[Tensor, "instance feature"],
    worth: Float[Tensor, "feature"],
    kurtosis: float,
) -> Float[Tensor, "instance feature"]:
    """What a little more capacity saves: -∂L/∂C of every feature in a model of squares.

    With capacity C and squared length g, a feature's share of the loss is
    (kurtosis - 1) (worth - g)² + 2 g² (1 / C - 1), and g is the best for its C.
    ``capacity`` lies in [0, 1]; at 0 the limit is returned.
    """
    g_over_c = worth * (kurtosis - 1) / ((kurtosis - 1) * capacity + 2 * (1 - capacity))
    return 2 * g_over_c.square()
