"""Answers of "The phase change": wrong ones that must fail as named, right ones that must pass."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from refract.checking.examples import right, wrong

# --- expected_loss_dropped ---------------------------------------------------------------------


@wrong("expected_loss_dropped", mistake="no_bias")
def output_zero(feature_probability, importance):
    """The output is 0, not the mean."""
    return importance * feature_probability / 3


@wrong("expected_loss_dropped", mistake="bias_of_present")
def constant_one_half(feature_probability, importance):
    """The output is the mean of a present feature."""
    return importance * (feature_probability / 3 - feature_probability / 2 + 0.25)


@wrong("expected_loss_dropped", mistake="absent_forgotten")
def variance_of_present(feature_probability, importance):
    """The variance of a present feature, times the chance that it is there."""
    return importance * feature_probability / 12


@wrong("expected_loss_dropped", mistake="importance_left_out")
def without_importance(feature_probability, importance):
    """No importance."""
    return feature_probability / 3 - feature_probability**2 / 4 + 0 * importance


@wrong("expected_loss_dropped", fails="test_dropped_by_hand")
def importance_squared(feature_probability, importance):
    """Importance squared."""
    return importance**2 * (feature_probability / 3 - feature_probability**2 / 4)


@wrong("expected_loss_dropped", fails="test_dropped_by_hand")
def mean_not_squared(feature_probability, importance):
    """p²/2 for the square of the mean."""
    return importance * (feature_probability / 3 - feature_probability**2 / 2)


@wrong("expected_loss_dropped", fails="test_dropped_by_hand")
def p_on_the_mean_only(feature_probability, importance):
    """The mean square does not know of p."""
    return importance * (1 / 3 - feature_probability**2 / 4) * feature_probability


@wrong("expected_loss_dropped", fails="test_dropped_by_hand")
def standard_deviation(feature_probability, importance):
    """The root of the variance."""
    return importance * (feature_probability / 3 - feature_probability**2 / 4).clamp_min(0).sqrt()


@wrong("expected_loss_dropped", fails="test_dropped_by_hand")
def bernoulli(feature_probability, importance):
    """The variance of presence, as if every size were 1."""
    return importance * feature_probability * (1 - feature_probability)


@wrong("expected_loss_dropped", fails="test_dropped_dtype")
def dropped_in_float32(feature_probability, importance):
    """Always float32."""
    return (importance * (feature_probability / 3 - feature_probability**2 / 4)).float()


@wrong("expected_loss_dropped", fails="test_dropped_broadcasts")
def one_number(feature_probability, importance):
    """Summed to one number where the shapes differ."""
    loss = importance * (feature_probability / 3 - feature_probability**2 / 4)
    return loss if loss.shape == importance.shape else loss.sum()


@wrong("expected_loss_dropped", mistake="changes_input")
def importance_multiplied_in_place(feature_probability, importance):
    """Writes the loss into the importance."""
    importance *= feature_probability / 3 - feature_probability**2 / 4
    return importance


@right("expected_loss_dropped")
def factored(feature_probability, importance):
    """Factored: p (4 - 3p) / 12."""
    return importance * feature_probability * (4 - 3 * feature_probability) / 12


@right("expected_loss_dropped")
def by_cases(feature_probability, importance):
    """Absent and present apart."""
    p, bias = feature_probability, feature_probability / 2
    absent, present = bias**2, 1 / 3 - bias + bias**2
    return importance * ((1 - p) * absent + p * present)


@right("expected_loss_dropped")
def total_variance(feature_probability, importance):
    """The variance within, and the variance of the mean between absent and present."""
    p = feature_probability
    return (p / 12 + p * (1 - p) / 4) * importance


# --- expected_loss_antipodal -------------------------------------------------------------------


@wrong("expected_loss_antipodal", mistake="presence_of_one")
def p_once(feature_probability, importance, other_importance):
    """One feature's presence, where both must be there."""
    return (importance + other_importance) * feature_probability / 6


@wrong("expected_loss_antipodal", mistake="no_relu")
def linear_interference(feature_probability, importance, other_importance):
    """Interference without the ReLU: the other's size, whenever it is there."""
    return (importance + other_importance) * feature_probability / 3


@wrong("expected_loss_antipodal", mistake="one_feature_only")
def first_only(feature_probability, importance, other_importance):
    """Counts the error of the first feature only."""
    return importance * feature_probability**2 / 6 + 0 * other_importance


@wrong("expected_loss_antipodal", mistake="one_feature_only")
def second_only(feature_probability, importance, other_importance):
    """Counts the error of the second feature only."""
    return other_importance * feature_probability**2 / 6 + 0 * importance


@wrong("expected_loss_antipodal", mistake="twice_too_much")
def mean_of_the_minimum(feature_probability, importance, other_importance):
    """The mean of min(x, y), which is 1/3, without the square."""
    return (importance + other_importance) * feature_probability**2 / 3


@wrong("expected_loss_antipodal", mistake="square_of_the_mean")
def minimum_squared_after(feature_probability, importance, other_importance):
    """The square of the mean of min(x, y)."""
    return (importance + other_importance) * feature_probability**2 / 9


@wrong("expected_loss_antipodal", fails="test_antipodal_importances")
def importances_multiplied(feature_probability, importance, other_importance):
    """The product of the importances."""
    return 2 * importance * other_importance * feature_probability**2 / 6


@wrong("expected_loss_antipodal", mistake="mean_for_sum")
def mean_importance(feature_probability, importance, other_importance):
    """The mean of the importances."""
    return (importance + other_importance) / 2 * feature_probability**2 / 6


@wrong("expected_loss_antipodal", fails="test_antipodal_dense")
def maximum_instead(feature_probability, importance, other_importance):
    """The mean of max(x, y)², which is 1/2."""
    return (importance + other_importance) * feature_probability**2 / 2


@wrong("expected_loss_antipodal", fails="test_antipodal_is_the_models_loss")
def exactly_one_present(feature_probability, importance, other_importance):
    """Pays when exactly one is present."""
    p = feature_probability
    return (importance + other_importance) * (p * p + p * (1 - p) / 2) / 6


@wrong("expected_loss_antipodal", fails="test_antipodal_dtype")
def antipodal_in_float32(feature_probability, importance, other_importance):
    """Always float32."""
    return ((importance + other_importance) * feature_probability**2 / 6).float()


@wrong("expected_loss_antipodal", fails="test_antipodal_is_symmetric")
def second_pays_half(feature_probability, importance, other_importance):
    """Only the larger of the two is disturbed."""
    return (importance + 2 * other_importance) * feature_probability**2 / 9


@wrong("expected_loss_antipodal", mistake="changes_input")
def importances_added_in_place(feature_probability, importance, other_importance):
    """Adds the other importance into the first."""
    importance += other_importance
    return importance * feature_probability**2 / 6


@wrong("expected_loss_antipodal", fails="test_antipodal_dense")
def by_simulation(feature_probability, importance, other_importance):
    """An average over ten thousand random pairs: close, and not exact."""
    dice = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 10_000, generator=dice, dtype=torch.float64)
    mean_square = float(torch.minimum(x, y).square().mean())
    return (importance + other_importance) * feature_probability**2 * mean_square


@right("expected_loss_antipodal")
def from_the_integral(feature_probability, importance, other_importance):
    """The integral of t² against the density 2 (1 - t) of the smaller one."""
    mean_square = 2 * (1 / 3 - 1 / 4)
    both = feature_probability.square()
    return both * importance * mean_square + both * other_importance * mean_square


@right("expected_loss_antipodal")
def with_torch_pow(feature_probability, importance, other_importance):
    """Functions of torch throughout."""
    return torch.add(importance, other_importance).mul(torch.pow(feature_probability, 2)).div(6)


@right("expected_loss_antipodal")
def by_a_fine_sum(feature_probability, importance, other_importance):
    """Simpson's rule for the mean of min(x, y)²: exact for cubics."""
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    simpson = torch.tensor([1 / 6, 4 / 6, 1 / 6], dtype=torch.float64)
    mean_square = float((simpson * 2 * t**2 * (1 - t)).sum())
    return feature_probability * feature_probability * (importance + other_importance) * mean_square


# --- phase_boundary ----------------------------------------------------------------------------


@wrong("phase_boundary", mistake="one_rival")
def against_second_only(relative_importance):
    """Only against dropping the second feature."""
    return 4 * relative_importance / (2 + 5 * relative_importance)


@wrong("phase_boundary", mistake="one_rival")
def against_first_only(relative_importance):
    """Only against dropping the first feature."""
    return 4 / (5 + 2 * relative_importance)


@wrong("phase_boundary", mistake="either_rival")
def maximum_of_both(relative_importance):
    """Better than either rival, where it must beat both."""
    r = relative_importance
    return torch.maximum(4 * r / (2 + 5 * r), 4 / (5 + 2 * r))


@wrong("phase_boundary", mistake="no_bias")
def rivals_without_bias(relative_importance):
    """The dropped feature's output is 0."""
    r = relative_importance
    return torch.minimum(2 * r / (1 + r), 2 / (1 + r))


@wrong("phase_boundary", fails="test_boundary_equal")
def always_one_half(relative_importance):
    """One half at equal importance."""
    r = torch.minimum(relative_importance, 1 / relative_importance)
    return r / (1 + r)


@wrong("phase_boundary", fails="test_boundary_by_hand")
def constant(relative_importance):
    """The value at equal importance, everywhere."""
    return torch.full_like(relative_importance, 4 / 7)


@wrong("phase_boundary", fails="test_boundary_equal")
def one_sided_cost(relative_importance):
    """The pair's loss counts one feature only."""
    r = torch.minimum(relative_importance, 1 / relative_importance)
    return 4 * r / (2 + 3 * r)


@wrong("phase_boundary", fails="test_boundary_by_hand")
def sparsity_not_density(relative_importance):
    """1 - p instead of p."""
    r = torch.minimum(relative_importance, 1 / relative_importance)
    return 1 - 4 * r / (2 + 5 * r)


@wrong("phase_boundary", fails="test_boundary_by_hand")
def linear_in_r(relative_importance):
    """A straight line through the value at equal importance."""
    return 4 / 7 * torch.minimum(relative_importance, 1 / relative_importance)


@wrong("phase_boundary", fails="test_boundary_shape")
def as_a_list(relative_importance):
    """A list of numbers."""
    return [min(4 * r / (2 + 5 * r), 4 / (5 + 2 * r)) for r in relative_importance.tolist()]


@wrong("phase_boundary", fails="test_boundary_shape")
def boundary_in_float32(relative_importance):
    """Always float32."""
    r = relative_importance.float()
    return torch.minimum(4 * r / (2 + 5 * r), 4 / (5 + 2 * r))


@right("phase_boundary")
def by_symmetry(relative_importance):
    """Folds r above 1 onto 1/r."""
    r = torch.where(relative_importance > 1, 1 / relative_importance, relative_importance)
    return 4 / (2 / r + 5)


@right("phase_boundary")
def better_rival_first(relative_importance):
    """The better rival weighs min(r, 1)."""
    r = relative_importance
    rival = r.clamp(max=1)
    return 4 * rival / (2 * (1 + r) + 3 * rival)


@right("phase_boundary")
def by_bisection(relative_importance):
    """Halves an interval, forty times."""
    r = relative_importance
    low, high = torch.zeros_like(r), torch.ones_like(r)
    for _ in range(50):
        p = (low + high) / 2
        gain = r.clamp(max=1) * (1 / 3 - p / 4) - (1 + r) * p / 6
        low, high = torch.where(gain > 0, p, low), torch.where(gain > 0, high, p)
    return (low + high) / 2


# --- exact_batch -------------------------------------------------------------------------------


def _rule(n_nodes, p):
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return torch.as_tensor((nodes + 1) / 2).to(p), torch.as_tensor(weights / 2).to(p)


def _product(values, one_feature, n_features):
    rows = list(itertools.product(range(len(values)), repeat=n_features))
    which = torch.tensor(rows)
    return values[which], one_feature[:, which].prod(-1)


def _with(values, one_feature):
    """An exact batch whose values and weights of one feature are made by these two."""

    def answer(feature_probability, n_features, n_nodes):
        p = feature_probability[:, None]
        sizes, shares = _rule(n_nodes, p)
        return _product(values(sizes, p), one_feature(p, shares), n_features)

    return answer


def _zero_first(sizes, p):
    return torch.cat([torch.zeros(1).to(p), sizes])


_weights = {
    "weights_not_halved": (_zero_first, lambda p, s: torch.cat([1 - p, 2 * p * s], 1)),
    "nodes_not_moved": (lambda z, p: _zero_first(2 * z - 1, p), lambda p, s: torch.cat([1 - p, p * s], 1)),
    "absent_with_p": (_zero_first, lambda p, s: torch.cat([p, (1 - p) * s], 1)),
}
for _name, (_values, _one) in _weights.items():
    wrong("exact_batch", mistake=_name, name=_name)(_with(_values, _one))


@wrong("exact_batch", mistake="absent_left_out")
def smallest_size_for_absent(feature_probability, n_features, n_nodes):
    """A tiny size stands for absence, and comes back as present."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    values = torch.cat([torch.full((1,), 1e-3).to(p), sizes])
    return _product(values, torch.cat([1 - p, p * shares], 1), n_features)


@wrong("exact_batch", mistake="combinations_missing")
def side_by_side(feature_probability, n_features, n_nodes):
    """All features take the same value at the same time."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    x = _zero_first(sizes, p)[:, None].expand(-1, n_features)
    return x, torch.cat([1 - p, p * shares], 1)


@wrong("exact_batch", mistake="absent_left_out")
def nodes_only(feature_probability, n_features, n_nodes):
    """Every combination of nodes, and no 0 among them."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    return _product(sizes, p * shares, n_features)


@wrong("exact_batch", mistake="combinations_missing")
def one_feature_at_a_time(feature_probability, n_features, n_nodes):
    """Each feature takes its values while the others are absent."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    x = torch.kron(torch.eye(n_features).to(p), _zero_first(sizes, p)[:, None])
    return x, torch.cat([1 - p, p * shares], 1).repeat(1, n_features) / n_features


@wrong("exact_batch", mistake="weights_added")
def weights_summed(feature_probability, n_features, n_nodes):
    """The weights of a combination are added, not multiplied."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    which = torch.cartesian_prod(*[torch.arange(n_nodes + 1)] * n_features).view(-1, n_features)
    return _zero_first(sizes, p)[which], torch.cat([1 - p, p * shares], 1)[:, which].sum(-1)


@wrong("exact_batch", fails="test_exact_shapes")
def one_feature_loses_its_axis(feature_probability, n_features, n_nodes):
    """With one feature cartesian_prod gives a flat list."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    which = torch.cartesian_prod(*[torch.arange(n_nodes + 1)] * n_features)
    return _zero_first(sizes, p)[which], torch.cat([1 - p, p * shares], 1)[:, which].prod(-1)


@wrong("exact_batch", mistake="features_together")
def presence_shared(feature_probability, n_features, n_nodes):
    """The features are present together or not at all."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    x, weight = _product(
        _zero_first(sizes, p), torch.cat([torch.zeros_like(p), shares.expand(len(p), -1)], 1), n_features
    )
    weight = p * weight
    weight[:, (x == 0).all(1)] = 1 - p
    return x, weight


@wrong("exact_batch", fails="test_exact_moments")
def weights_all_alike(feature_probability, n_features, n_nodes):
    """Every node counts the same, as on an even grid."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    even = torch.full_like(shares, 1 / n_nodes).expand(len(p), -1)
    return _product(_zero_first(sizes, p), torch.cat([1 - p, p * even], 1), n_features)


@wrong("exact_batch", fails="test_exact_polynomials")
def even_grid(feature_probability, n_features, n_nodes):
    """Midpoints instead of Gauss and Legendre's nodes."""
    p = feature_probability[:, None]
    sizes = (torch.arange(n_nodes).to(p) + 0.5) / n_nodes
    even = torch.full((1, n_nodes), 1 / n_nodes).to(p)
    return _product(_zero_first(sizes, p), torch.cat([1 - p, p * even], 1), n_features)


@wrong("exact_batch", fails="test_exact_nothing")
def first_probability_for_all(feature_probability, n_features, n_nodes):
    """The first instance's probability for all."""
    p = feature_probability[:1, None].expand(len(feature_probability), 1)
    sizes, shares = _rule(n_nodes, p)
    return _product(_zero_first(sizes, p), torch.cat([1 - p, p * shares], 1), n_features)


@wrong("exact_batch", fails="test_exact_three")
def two_at_most(feature_probability, n_features, n_nodes):
    """Leaves out that all three may be present."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    x, weight = _product(_zero_first(sizes, p), torch.cat([1 - p, p * shares], 1), n_features)
    if n_features > 2:
        weight[:, (x > 0).all(1)] = 0
        weight = weight / weight.sum(1, keepdim=True)
    return x, weight


@wrong("exact_batch", fails="test_exact_dtype")
def numpys_dtype(feature_probability, n_features, n_nodes):
    """float64, whatever came in."""
    p = feature_probability.double()[:, None]
    sizes, shares = _rule(n_nodes, p)
    return _product(_zero_first(sizes, p), torch.cat([1 - p, p * shares], 1), n_features)


@wrong("exact_batch", fails="test_exact_shapes")
def batch_first(feature_probability, n_features, n_nodes):
    """Weights of shape (batch, instance)."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    x, weight = _product(_zero_first(sizes, p), torch.cat([1 - p, p * shares], 1), n_features)
    return x, weight.T


@right("exact_batch")
def zero_last(feature_probability, n_features, n_nodes):
    """Absence as the last value, rows from itertools."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    values = torch.cat([sizes, torch.zeros(1).to(p)])
    return _product(values, torch.cat([p * shares, 1 - p], 1), n_features)


@right("exact_batch")
def with_meshgrid(feature_probability, n_features, n_nodes):
    """A meshgrid for the values, and a loop over features for the weights."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    values = _zero_first(sizes, p)
    x = torch.stack(torch.meshgrid(*[values] * n_features, indexing="ij"), -1).reshape(-1, n_features)
    one = torch.cat([1 - p, p * shares], 1)
    weight = torch.ones(len(p), 1).to(p)
    for _ in range(n_features):
        weight = (weight[:, :, None] * one[:, None]).flatten(1)
    return x, weight


@right("exact_batch")
def one_feature_after_another(feature_probability, n_features, n_nodes):
    """Adds a column at a time."""
    p = feature_probability[:, None]
    sizes, shares = _rule(n_nodes, p)
    x, weight = torch.zeros(1, 0).to(p), torch.ones(len(p), 1).to(p)
    for _ in range(n_features):
        parts = [(torch.zeros(1).to(p), 1 - p)]
        parts += [(size[None], p * share) for size, share in zip(sizes, shares, strict=True)]
        x = torch.cat([torch.cat([x, value.expand(len(x), 1)], 1) for value, _ in parts if True])
        weight = torch.cat([weight * chance for _, chance in parts], 1)
    return x, weight


# --- blind_direction ---------------------------------------------------------------------------


@wrong("blind_direction", mistake="direction_seen")
def first_singular_vector(W):
    """The direction that the hidden layer sees best."""
    return torch.linalg.svd(W).Vh[:, 0]


@wrong("blind_direction", mistake="direction_seen")
def reduced_svd(W):
    """The last of the directions that it does see: the SVD was reduced."""
    return torch.linalg.svd(W, full_matrices=False).Vh[:, -1]


@wrong("blind_direction", mistake="not_unit")
def longer(W):
    """The right line, not of length 1."""
    d = torch.linalg.svd(W).Vh[:, -1]
    return d / d.abs().amax(dim=1, keepdim=True)


@wrong("blind_direction", mistake="not_unit")
def right_line_twice_as_long(W):
    """Twice the unit vector."""
    return 2 * torch.linalg.svd(W).Vh[:, -1]


@wrong("blind_direction", mistake="column_for_row")
def column_of_vh(W):
    """The last column of Vh instead of its last row."""
    return torch.linalg.svd(W).Vh[:, :, -1]


@wrong("blind_direction", mistake="signs_lost")
def absolute_values(W):
    """The absolute values of the right direction."""
    return torch.linalg.svd(W, full_matrices=True).Vh[..., -1, :].abs()


@wrong("blind_direction", fails="test_blind_unseen")
def nothing_at_all(W):
    """Zero: W d = 0, but there is no direction."""
    return torch.zeros_like(W[:, 0])


@wrong("blind_direction", fails="test_blind_pair")
def sign_lost(W):
    """Swaps the two entries without a change of sign."""
    d = W[:, 0].flip(-1)
    return d / d.norm(dim=-1, keepdim=True)


@wrong("blind_direction", fails="test_blind_cross")
def inverse_lengths(W):
    """Puts the weight on the features with the shortest columns."""
    d = 1 / W.norm(dim=1).clamp_min(1e-6)
    return d / d.norm(dim=1, keepdim=True)


@wrong("blind_direction", fails="test_blind_unequal")
def shortest_column(W):
    """The axis of the feature with the shortest column."""
    return torch.nn.functional.one_hot(W.norm(dim=1).argmin(dim=1), W.shape[2]).to(W.dtype)


@wrong("blind_direction", fails="test_blind_axes")
def in_hidden_space(W):
    """A direction in hidden space."""
    return torch.linalg.svd(W).U[:, :, -1]


@wrong("blind_direction", fails="test_blind_unseen")
def first_instance_for_all(W):
    """The first instance's direction for all."""
    return torch.linalg.svd(W[:1]).Vh[:, -1].expand(len(W), -1).clone()


@wrong("blind_direction", fails="test_blind_dtype")
def direction_in_float32(W):
    """Always float32."""
    return torch.linalg.svd(W.float()).Vh[:, -1]


@wrong("blind_direction", fails="test_blind_axes")
def keeps_an_axis(W):
    """Shape (instance, 1, feature)."""
    return torch.linalg.svd(W).Vh[:, -1:]


@right("blind_direction")
def from_the_gram_matrix(W):
    """The eigenvector of WᵀW for the eigenvalue 0."""
    scaled = W / W.norm(dim=(1, 2), keepdim=True)
    return torch.linalg.eigh((scaled.mT @ scaled).double()).eigenvectors[:, :, 0].to(W.dtype)


@right("blind_direction")
def by_minors(W):
    """The generalised cross product: signed minors."""
    features = W.shape[2]
    minors = []
    for i in range(features):
        rest = torch.cat([W[:, :, :i], W[:, :, i + 1 :]], dim=2)
        minors.append((-1) ** i * torch.linalg.det(rest))
    d = torch.stack(minors, dim=1)
    return d / d.norm(dim=1, keepdim=True)


@right("blind_direction")
def by_projection(W):
    """What is left of the identity when the seen directions are taken out: its longest column, normalised."""
    n = W.shape[2]
    left = torch.eye(n, dtype=W.dtype) - torch.linalg.pinv(W) @ W
    best = left.norm(dim=1).argmax(dim=1)
    d = left[torch.arange(len(W)), :, best]
    return d / d.norm(dim=1, keepdim=True)


@right("blind_direction")
def by_qr(W):
    """The last column of a complete QR of the transpose."""
    return torch.linalg.qr(W.mT, mode="complete").Q[:, :, -1]


# --- empirical_phase_diagram -------------------------------------------------------------------


def _layout(density, relative_importance, n_features, runs):
    """Density and importance of every model: cells in order, the runs of a cell side by side."""
    rows, columns = len(density), len(relative_importance)
    p = density[:, None, None].expand(rows, columns, runs).flatten()
    importance = torch.ones(rows, columns, runs, n_features, dtype=relative_importance.dtype)
    importance[..., -1] = relative_importance[None, :, None]
    return p, importance.view(-1, n_features), (rows, columns, runs)


def _sorted(trained, shape, descending=False):
    W, loss = trained
    loss, order = loss.view(shape).sort(dim=-1, descending=descending)
    W = W.view(*shape, *W.shape[1:])
    return W.gather(2, order[..., None, None].expand_as(W)), loss


@wrong("empirical_phase_diagram", mistake="many_calls")
def a_call_for_each_run(density, relative_importance, n_features, runs, train):
    """Calls train once for each run."""
    p, importance, (rows, columns, _) = _layout(density, relative_importance, n_features, 1)
    parts = [train(p, importance) for _ in range(runs)]
    W = torch.stack([part[0] for part in parts], 1).flatten(0, 1)
    loss = torch.stack([part[1] for part in parts], 1).flatten()
    return _sorted((W, loss), (rows, columns, runs))


@wrong("empirical_phase_diagram", mistake="many_calls")
def a_call_for_each_cell(density, relative_importance, n_features, runs, train):
    """Calls train once for each cell."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    parts = [train(p[i : i + runs], importance[i : i + runs]) for i in range(0, len(p), runs)]
    return _sorted((torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])), shape)


@wrong("empirical_phase_diagram", mistake="axes_swapped")
def importance_first(density, relative_importance, n_features, runs, train):
    """Lays out importance along the rows; gives it back as if it were density."""
    rows, columns = len(density), len(relative_importance)
    p = density.repeat(columns).repeat_interleave(runs)
    importance = torch.ones(len(p), n_features, dtype=density.dtype)
    importance[:, -1] = relative_importance.repeat_interleave(rows * runs)
    W, loss = train(p, importance)
    return _sorted((W, loss), (rows, columns, runs))


@wrong("empirical_phase_diagram", mistake="runs_scattered")
def repeat_for_interleave(density, relative_importance, n_features, runs, train):
    """Repeats the whole list of cells, and reads it as if runs lay side by side."""
    p, importance, (rows, columns, _) = _layout(density, relative_importance, n_features, 1)
    W, loss = train(p.repeat(runs), importance.repeat(runs, 1))
    return _sorted((W, loss), (rows, columns, runs))


@wrong("empirical_phase_diagram", mistake="not_sorted")
def as_they_came(density, relative_importance, n_features, runs, train):
    """Does not sort."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    W, loss = train(p, importance)
    return W.view(*shape, *W.shape[1:]), loss.view(shape)


@wrong("empirical_phase_diagram", mistake="worst_first")
def descending(density, relative_importance, n_features, runs, train):
    """Sorts from worst to best."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    return _sorted(train(p, importance), shape, descending=True)


@wrong("empirical_phase_diagram", mistake="weights_left_behind")
def only_losses_sorted(density, relative_importance, n_features, runs, train):
    """Sorts the losses and forgets the weights."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    W, loss = train(p, importance)
    return W.view(*shape, *W.shape[1:]), loss.view(shape).sort(-1).values


@wrong("empirical_phase_diagram", mistake="first_feature_varied")
def first_feature(density, relative_importance, n_features, runs, train):
    """Gives the relative importance to the first feature."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    return _sorted(train(p, importance.flip(1)), shape)


@wrong("empirical_phase_diagram", mistake="all_features_varied")
def every_feature(density, relative_importance, n_features, runs, train):
    """Gives it to every feature."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    return _sorted(train(p, importance[:, -1:].expand(-1, n_features)), shape)


@wrong("empirical_phase_diagram", fails="test_diagram_all_models")
def only_the_best(density, relative_importance, n_features, runs, train):
    """Repeats the best model."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    W, loss = _sorted(train(p, importance), shape)
    return W[:, :, :1].expand_as(W), loss[:, :, :1].expand_as(loss)


@wrong("empirical_phase_diagram", fails="test_diagram_sorted")
def best_without_the_others(density, relative_importance, n_features, runs, train):
    """Drops the run axis."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    W, loss = _sorted(train(p, importance), shape)
    return W[:, :, 0], loss[:, :, 0]


@wrong("empirical_phase_diagram", fails="test_diagram_dtype")
def always_float32(density, relative_importance, n_features, runs, train):
    """float32 for train, whatever came in."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    return _sorted(train(p.float(), importance.float()), shape)


@wrong("empirical_phase_diagram", mistake="runs_scattered")
def read_as_if_runs_were_outside(density, relative_importance, n_features, runs, train):
    """Lays the runs side by side, and reads them as if the list of cells came again and again."""
    p, importance, (rows, columns, _) = _layout(density, relative_importance, n_features, runs)
    W, loss = train(p, importance)
    W = W.unflatten(0, (runs, rows * columns)).transpose(0, 1).flatten(0, 1)
    loss = loss.unflatten(0, (runs, rows * columns)).transpose(0, 1).flatten()
    return _sorted((W, loss), (rows, columns, runs))


@wrong("empirical_phase_diagram", mistake="all_sorted_together")
def one_order_for_all(density, relative_importance, n_features, runs, train):
    """Sorts all models together, the best first."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    W, loss = train(p, importance)
    order = loss.argsort()
    return W[order].view(*shape, *W.shape[1:]), loss[order].view(shape)


@wrong("empirical_phase_diagram", mistake="all_sorted_together")
def losses_of_another_cell(density, relative_importance, n_features, runs, train):
    """Sorts all models together, the worst first."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    W, loss = train(p, importance)
    order = loss.argsort(descending=True)
    return W[order].view(*shape, *W.shape[1:]), loss[order].view(shape)


@right("empirical_phase_diagram")
def with_gather(density, relative_importance, n_features, runs, train):
    """One expanded grid, and gather."""
    p, importance, shape = _layout(density, relative_importance, n_features, runs)
    return _sorted(train(p, importance), shape)


@right("empirical_phase_diagram")
def in_a_loop_over_cells(density, relative_importance, n_features, runs, train):
    """Lists of models in, and a loop over cells on the way out."""
    models = [(p, r) for p in density for r in relative_importance for _ in range(runs)]
    p = torch.stack([each[0] for each in models])
    importance = torch.stack([torch.stack([torch.ones_like(r)] * (n_features - 1) + [r]) for _, r in models])
    W, loss = train(p, importance)
    cells = []
    for start in range(0, len(models), runs):
        order = loss[start : start + runs].argsort() + start
        cells.append((W[order], loss[order]))
    rows, columns = len(density), len(relative_importance)
    W = torch.stack([cell[0] for cell in cells])
    loss = torch.stack([cell[1] for cell in cells])
    return W.unflatten(0, (rows, columns)), loss.unflatten(0, (rows, columns))


@right("empirical_phase_diagram")
def runs_outside(density, relative_importance, n_features, runs, train):
    """The run axis outermost for train, moved where it belongs afterwards."""
    rows, columns = len(density), len(relative_importance)
    p = density[None, :, None].expand(runs, rows, columns).flatten()
    last = relative_importance[None, None].expand(runs, rows, columns).flatten()
    importance = torch.cat([torch.ones(len(p), n_features - 1).to(last), last[:, None]], dim=1)
    W, loss = train(p, importance)
    W = W.unflatten(0, (runs, rows, columns)).movedim(0, 2)
    loss = loss.unflatten(0, (runs, rows, columns)).movedim(0, 2)
    order = loss.argsort(dim=2)
    return torch.take_along_dim(W, order[..., None, None], 2), torch.take_along_dim(loss, order, 2)
