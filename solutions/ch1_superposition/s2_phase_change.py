"""Reference for "The phase change".

Two features in one hidden unit, three in two: exact losses, and a diagram of trained
models.

The diagram is that of Elhage et al., 2022, *Toy Models of Superposition*,
https://transformer-circuits.pub/2022/toy_model/index.html
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def expected_loss_dropped(
    feature_probability: Float[Tensor, "..."], importance: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The expected loss of a feature whose column of ``W`` is zero.

    Its output is then a constant, and the best constant is meant. A present feature is
    uniform on [0, 1]. The arguments broadcast against each other; the result has their
    dtype.
    """
    mean, mean_square = feature_probability / 2, feature_probability / 3
    return importance * (mean_square - mean**2)


def expected_loss_antipodal(
    feature_probability: Float[Tensor, "..."],
    importance: Float[Tensor, "..."],
    other_importance: Float[Tensor, "..."],
) -> Float[Tensor, "..."]:
    """The expected loss of two features that share one hidden unit: W = [1, -1], b = 0.

    Each is present with ``feature_probability``, independently of the other;
    ``importance`` and ``other_importance`` are what they weigh, and their losses add.
    The arguments broadcast; the result has their dtype.
    """
    return (importance + other_importance) * feature_probability**2 / 6


def phase_boundary(
    relative_importance: Float[Tensor, "ratio"],
) -> Float[Tensor, "ratio"]:
    """The density below which an antipodal pair loses less than dropping either one.

    The first feature's importance is 1, the second's is ``relative_importance``. The
    result has its dtype.
    """
    beats_dropping_second = 4 * relative_importance / (2 + 5 * relative_importance)
    beats_dropping_first = 4 / (5 + 2 * relative_importance)
    return torch.minimum(beats_dropping_second, beats_dropping_first)


def exact_batch(
    feature_probability: Float[Tensor, "instance"], n_features: int, n_nodes: int
) -> tuple[Float[Tensor, "batch feature"], Float[Tensor, "instance batch"]]:
    """A batch with weights that stands for all sparse features there could be.

    One feature takes ``n_nodes + 1`` values: 0, and Gauss and Legendre's nodes on
    [0, 1]. The batch holds every combination of them, one a row: (n_nodes + 1) to the
    power n_features rows. ``weight[i, k]`` is what row k counts for instance i, so that
    ``(weight * f(x)).sum(-1)`` is the mean of f over the features of each instance.
    Any number of features will do, one included. Batch and weights have the dtype of
    ``feature_probability``.
    """
    # Gauss and Legendre's rule on [-1, 1]
    nodes, node_weights = np.polynomial.legendre.leggauss(n_nodes)
    # BEGIN SOLUTION
    p = feature_probability[:, None]
    sizes = torch.as_tensor((nodes + 1) / 2).to(p)
    shares = torch.as_tensor(node_weights / 2).to(p)
    values = torch.cat([torch.zeros(1).to(p), sizes])
    one_feature = torch.cat([1 - p, p * shares], dim=1)
    which = torch.cartesian_prod(*[torch.arange(n_nodes + 1)] * n_features)
    which = which.view(-1, n_features)
    return values[which], one_feature[:, which].prod(dim=-1)
    # END SOLUTION


def blind_direction(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """The direction in feature space that the hidden layer does not see.

    There is one hidden unit less than there are features, and W has full rank: W d = 0
    for a single line of d. Returns a unit vector on it, in the dtype of W; its sign is
    free.
    """
    return torch.linalg.svd(W, full_matrices=True).Vh[..., -1, :]


def empirical_phase_diagram(
    density: Float[Tensor, "density"],
    relative_importance: Float[Tensor, "ratio"],
    n_features: int,
    runs: int,
    train: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> tuple[
    Float[Tensor, "density ratio run hidden feature"],
    Float[Tensor, "density ratio run"],
]:
    """Train ``runs`` models in each cell of a grid, in one call of ``train``.

    A cell has one density and one relative importance. The last feature's importance is
    the relative importance, that of all others is 1.
    ``train(feature_probability, importance)`` takes shapes ``(instance,)`` and
    ``(instance, feature)`` and returns the trained ``W`` of shape ``(instance, hidden,
    feature)`` and the losses, ``(instance,)``. What it is given has the dtype of
    ``density`` and ``relative_importance``. Returns weights and losses cell by cell,
    each cell's runs sorted by their loss, the best one first.
    """
    rows, columns = len(density), len(relative_importance)
    # BEGIN SOLUTION
    cells = rows * columns
    p = density[:, None].expand(rows, columns).reshape(cells)
    importance = torch.ones(cells, n_features).to(relative_importance)
    importance[:, -1] = relative_importance.repeat(rows)
    W, loss = train(
        p.repeat_interleave(runs), importance.repeat_interleave(runs, dim=0)
    )
    loss, order = loss.view(cells, runs).sort(dim=1)
    W = W.view(cells, runs, *W.shape[1:])[torch.arange(cells)[:, None], order]
    return W.view(rows, columns, *W.shape[1:]), loss.view(rows, columns, runs)
    # END SOLUTION
