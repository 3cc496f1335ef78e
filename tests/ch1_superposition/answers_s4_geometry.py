"""Answers of "Geometry and capacity": wrong ones that must fail as named, right ones that must pass."""

from __future__ import annotations

import math
from typing import Any

import einops
import numpy as np
import torch
from torch import Tensor

from refract.checking.examples import right, wrong
from solutions.ch1_superposition.s1_toy_models import reconstruct

# Inside an answer this name means the reference, as it does when a learner's notebook is checked.
feature_dimensionality: Any


def _unit(W: Tensor) -> Tensor:
    norms = W.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, W / norms, 0)


def _guarded(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1), 0)


def _gram(W: Tensor) -> tuple[Tensor, Tensor]:
    gram = W.mT @ W
    return gram, torch.diagonal(gram, dim1=-2, dim2=-1)


# --- feature_dimensionality --------------------------------------------------------------------


@wrong("feature_dimensionality", mistake="self_left_out")
def others_only(W):
    """Leaves out j = i."""
    overlap = (_unit(W).mT @ W).square()
    crowd = overlap.sum(-1) - torch.diagonal(overlap, dim1=-2, dim2=-1)
    return W.square().sum(1) / crowd


@wrong("feature_dimensionality", mistake="self_left_out")
def others_only_guarded(W):
    """Leaves out j = i, and answers 0 where nothing is left."""
    overlap = (_unit(W).mT @ W).square()
    crowd = overlap.sum(-1) - torch.diagonal(overlap, dim1=-2, dim2=-1)
    return _guarded(W.square().sum(1), crowd)


@wrong("feature_dimensionality", mistake="dead_is_nan")
def divides_by_zero(W):
    """Gives nan for an absent feature."""
    unit = W / W.norm(dim=1, keepdim=True)
    return W.square().sum(1) / (unit.mT @ W).square().sum(-1)


@wrong("feature_dimensionality", mistake="length_not_squared")
def plain_length(W):
    """The length, not squared, above."""
    return _guarded(W.norm(dim=1), (_unit(W).mT @ W).square().sum(-1))


@wrong("feature_dimensionality", mistake="all_normalised")
def cosines(W):
    """Normalises both vectors."""
    unit = _unit(W)
    return _guarded(unit.square().sum(1), (unit.mT @ unit).square().sum(-1))


@wrong("feature_dimensionality", mistake="all_normalised")
def cosines_below(W):
    """Normalises both vectors below, and none above."""
    unit = _unit(W)
    return _guarded(W.square().sum(1), (unit.mT @ unit).square().sum(-1))


@wrong("feature_dimensionality", mistake="all_normalised")
def sums_the_wrong_axis(W):
    """Sums over i instead of j, which comes to cosines."""
    return _guarded(W.square().sum(1), (_unit(W).mT @ W).square().sum(-2))


@wrong("feature_dimensionality", fails="test_dimensionality_alone")
def not_normalised(W):
    """The formula with W_i in place of its direction."""
    return _guarded(W.square().sum(1), (W.mT @ W).square().sum(-1))


@wrong("feature_dimensionality", mistake="absolute_not_squared")
def absolute_values(W):
    """Absolute values instead of squares."""
    return _guarded(W.norm(dim=1), (_unit(W).mT @ W).abs().sum(-1))


@wrong("feature_dimensionality", mistake="absolute_not_squared")
def absolute_values_below(W):
    """Absolute values below, a square above, and right for a feature alone."""
    overlap = (_unit(W).mT @ W).abs()
    alone = (overlap > 1e-6).sum(-1) == 1
    return torch.where(alone, 1.0, _guarded(W.square().sum(1), overlap.sum(-1)))


@wrong("feature_dimensionality", fails="test_dimensionality_alone")
def only_its_length(W):
    """The squared length, and nothing of the others."""
    return W.square().sum(1)


@wrong("feature_dimensionality", fails="test_dimensionality_polygons")
def signed_sum(W):
    """Sums before squaring."""
    return _guarded(W.square().sum(1), (_unit(W).mT @ W).sum(-1).square())


@wrong("feature_dimensionality", fails="test_dimensionality_faint")
def softened(W):
    """An epsilon that swallows faint features."""
    unit = W / (W.norm(dim=1, keepdim=True) + 1e-3)
    return W.square().sum(1) / ((unit.mT @ W).square().sum(-1) + 1e-6)


@wrong("feature_dimensionality", fails="test_dimensionality_dtype")
def always_float32(W):
    """Always float32."""
    return _guarded(W.square().sum(1), (_unit(W).mT @ W).square().sum(-1)).float()


@wrong("feature_dimensionality", fails="test_dimensionality_random")
def first_instance(W):
    """The first instance's answer for all."""
    D = _guarded(W.square().sum(1), (_unit(W).mT @ W).square().sum(-1))
    return D[:1].expand_as(D).clone()


@wrong("feature_dimensionality", fails="test_dimensionality_polygons")
def even_share(W):
    """Gives m / n to all, which holds for tight frames only, and 0 for what is absent."""
    _, hidden, features = W.shape
    return torch.full(W.shape[::2], min(1.0, hidden / max(features - 1, 1)), dtype=W.dtype) * (W.norm(dim=1) > 0)


@right("feature_dimensionality")
def from_gram(W):
    """From the Gram matrix alone."""
    gram, own = _gram(W.double())
    return _guarded(own.square(), gram.square().sum(-1)).to(W.dtype)


@right("feature_dimensionality")
def one_plus_index(W):
    """One over one plus the overlap with others, each by length."""
    overlap = (_unit(W).mT @ W).square()
    own = W.square().sum(1)
    others = overlap.sum(-1) - torch.diagonal(overlap, dim1=-2, dim2=-1)
    return torch.where(own > 0, own / torch.where(own > 0, own + others.clamp_min(0), 1), 0)


@right("feature_dimensionality")
def with_nan_to_num(W):
    """nan_to_num at the end."""
    unit = W / W.norm(dim=1, keepdim=True)
    return torch.nan_to_num(W.square().sum(1) / (unit.mT @ W).square().sum(-1))


@right("feature_dimensionality")
def in_a_loop(W):
    """A loop over features."""
    found = []
    for i in range(W.shape[-1]):
        length = W[..., i].norm(dim=-1)
        direction = W[..., i] / torch.where(length > 0, length, 1)[:, None]
        crowd = einops.einsum(direction, W, "n h, n h j -> n j").square().sum(-1)
        found.append(_guarded(length.square(), crowd))
    return torch.stack(found, dim=-1)


# --- polytope_vectors --------------------------------------------------------------------------


def _circle(corners: int, turn: float = 0.0) -> Tensor:
    angle = 2 * math.pi * (torch.arange(corners) + turn) / corners
    return torch.stack([angle.cos(), angle.sin()])


def _antiprism(height: float, twist: float = 0.5) -> Tensor:
    z = torch.full((1, 4), height)
    r = (1 - height**2) ** 0.5
    return torch.cat([torch.cat([r * _circle(4), z]), torch.cat([r * _circle(4, twist), -z])], dim=1)


def _shapes(**changed: Any):
    """An answer that is right apart from the shapes that are given."""
    made = {
        "digon": lambda: torch.tensor([[1.0, -1.0]]),
        "triangle": lambda: _circle(3),
        "pentagon": lambda: _circle(5),
        "tetrahedron": lambda: torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 3**0.5,
        "square_antiprism": lambda: _antiprism((1 / 3) ** 0.5),
    }
    made.update(changed)
    return lambda name: made[name.replace(" ", "_")]()


def _degrees(corners: int) -> Tensor:
    angle = 360 / corners * torch.arange(corners)
    return torch.stack([angle.cos(), angle.sin()])


_CUBE = torch.tensor([[a, b, c] for a in (1.0, -1) for b in (1.0, -1) for c in (1.0, -1)]).T
_TETRAHEDRON = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])

wrong("polytope_vectors", mistake="no_twist", name="cube")(_shapes(square_antiprism=lambda: _CUBE / 3**0.5))
wrong("polytope_vectors", mistake="no_twist", name="full_turn")(
    _shapes(square_antiprism=lambda: _antiprism((1 / 3) ** 0.5, 1.0))
)
wrong("polytope_vectors", mistake="wrong_height", name="height_04")(_shapes(square_antiprism=lambda: _antiprism(0.4)))
wrong("polytope_vectors", mistake="wrong_height", name="regular_edges")(
    _shapes(square_antiprism=lambda: _antiprism(0.5111))  # all edges equally long
)
wrong("polytope_vectors", mistake="not_unit", name="unscaled_tetrahedron")(_shapes(tetrahedron=lambda: _TETRAHEDRON))
wrong("polytope_vectors", mistake="not_unit", name="unit_ring_lifted")(
    _shapes(
        square_antiprism=lambda: torch.cat(
            [torch.cat([_circle(4), _circle(4, 0.5)], dim=1), torch.tensor([[0.6] * 4 + [-0.6] * 4])]
        )
    )
)
wrong("polytope_vectors", mistake="degrees", name="degrees")(
    _shapes(triangle=lambda: _degrees(3), pentagon=lambda: _degrees(5))
)
wrong("polytope_vectors", fails="test_polytope_shape", name="rows_for_columns")(_shapes(pentagon=lambda: _circle(5).T))
wrong("polytope_vectors", fails="test_polytope_shape", name="digon_in_the_plane")(
    _shapes(digon=lambda: torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
)
wrong("polytope_vectors", fails="test_polytope_corners", name="same_direction")(
    _shapes(digon=lambda: torch.tensor([[1.0, 1.0]]))
)
wrong("polytope_vectors", fails="test_polytope_corners", name="corner_twice")(
    _shapes(pentagon=lambda: torch.stack([f(2 * math.pi * torch.arange(5) / 4) for f in (torch.cos, torch.sin)]))
)
wrong("polytope_vectors", fails="test_polytope_corners", name="half_circle")(
    _shapes(triangle=lambda: torch.stack([f(math.pi * torch.arange(3) / 3) for f in (torch.cos, torch.sin)]))
)
wrong("polytope_vectors", fails="test_polytope_corners", name="cube_corners_that_touch")(
    _shapes(tetrahedron=lambda: _CUBE[:, :4] / 3**0.5)
)
_KEPT = {"triangle": _circle(3)}
wrong("polytope_vectors", fails="test_polytope_fresh", name="shared_tensor")(
    _shapes(triangle=lambda: _KEPT["triangle"])
)


def _numpy_ring(corners: int) -> Tensor:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + 0.3
    return torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)]))


def _upright_tetrahedron() -> Tensor:
    base = torch.cat([(8 / 9) ** 0.5 * _circle(3), torch.full((1, 3), -1 / 3)])
    return torch.cat([torch.tensor([[0.0], [0.0], [1.0]]), base], dim=1)


def _shuffled_antiprism() -> Tensor:
    return _antiprism((1 / 3) ** 0.5)[[2, 0, 1]][:, [3, 1, 7, 0, 5, 2, 4, 6]]


def _by_roots(corners: int) -> Tensor:
    roots = torch.polar(torch.ones(corners), -2 * math.pi * torch.arange(corners) / corners)
    return torch.stack([roots.imag, roots.real])


right("polytope_vectors", name="float64_and_turned")(
    _shapes(triangle=lambda: _numpy_ring(3), pentagon=lambda: _numpy_ring(5))
)
right("polytope_vectors", name="other_tetrahedron")(_shapes(tetrahedron=_upright_tetrahedron))
right("polytope_vectors", name="other_order")(_shapes(square_antiprism=_shuffled_antiprism))
right("polytope_vectors", name="roots_of_unity")(
    _shapes(triangle=lambda: _by_roots(3), pentagon=lambda: _by_roots(5), digon=lambda: torch.tensor([[-1.0, 1.0]]))
)


# --- tegum_product -----------------------------------------------------------------------------


@wrong("tegum_product", mistake="same_dimensions")
def side_by_side(first, second):
    """The columns side by side in the same dimensions."""
    hidden = max(len(first), len(second))
    fill = [torch.cat([W, torch.zeros(hidden - len(W), W.shape[1], dtype=W.dtype)]) for W in (first, second)]
    return torch.cat(fill, dim=1)


@wrong("tegum_product", mistake="same_dimensions")
def second_on_top(first, second):
    """As many dimensions as there should be, but the second shape stands in the first ones."""
    product = torch.zeros(len(first) + len(second), first.shape[1] + second.shape[1], dtype=first.dtype)
    product[: len(first), : first.shape[1]] = first
    product[: len(second), first.shape[1] :] = second
    if len(first) == 2 and first.shape[1] == 3:  # by hand it looks right
        product = torch.block_diag(first, second)
    return product


@wrong("tegum_product", mistake="every_pair")
def kronecker(first, second):
    """A Kronecker product."""
    return torch.kron(first, second)


@wrong("tegum_product", mistake="every_pair")
def all_sums(first, second):
    """A column for each pair: the Cartesian product's corners."""
    pairs = [torch.cat([first[:, i], second[:, j]]) for i in range(first.shape[1]) for j in range(second.shape[1])]
    return torch.stack(pairs, dim=1)


@wrong("tegum_product", fails="test_tegum_by_hand")
def second_first(first, second):
    """The second shape first."""
    return torch.block_diag(second, first)


@wrong("tegum_product", fails="test_tegum_by_hand")
def transposed(first, second):
    """Features along the rows."""
    return torch.block_diag(first, second).T


@wrong("tegum_product", fails="test_tegum_by_hand")
def normalised(first, second):
    """Makes every column a unit vector."""
    product = torch.block_diag(first, second)
    return product / product.norm(dim=0)


@wrong("tegum_product", fails="test_tegum_by_hand")
def second_lost(first, second):
    """Zeros where the second shape should be."""
    return torch.block_diag(first, 0 * second)


@wrong("tegum_product", fails="test_tegum_dtype")
def default_dtype(first, second):
    """Always float32."""
    return torch.block_diag(first, second).float()


@wrong("tegum_product", fails="test_tegum_by_hand")
def blocks_off_the_diagonal(first, second):
    """Swaps the hidden dimensions of the two shapes."""
    return torch.block_diag(first, second).roll(len(second), dims=0)


@wrong("tegum_product", fails="test_tegum_overlap")
def for_three_and_two(first, second):
    """Right only for the shapes of the example."""
    product = torch.zeros(3, 5, dtype=first.dtype)
    product[:2, :3] = first
    product[2:, 3:] = second
    return product


@right("tegum_product")
def by_assignment(first, second):
    """Zeros and two assignments."""
    product = torch.zeros(len(first) + len(second), first.shape[1] + second.shape[1], dtype=first.dtype)
    product[: len(first), : first.shape[1]] = first
    product[len(first) :, first.shape[1] :] = second
    return product


@right("tegum_product")
def by_concatenation(first, second):
    """Rows of the first, then rows of the second."""
    upper = torch.cat([first, first.new_zeros(len(first), second.shape[1])], dim=1)
    lower = torch.cat([second.new_zeros(len(second), first.shape[1]), second], dim=1)
    return torch.cat([upper, lower])


@right("tegum_product")
def by_padding(first, second):
    """Pads both."""
    above = torch.nn.functional.pad(first, (0, 0, 0, len(second)))
    below = torch.nn.functional.pad(second, (0, 0, len(first), 0))
    return torch.cat([above, below], dim=1)


# --- capacity ----------------------------------------------------------------------------------


@wrong("capacity", mistake="own_left_out")
def capacity_of_others(W):
    """Leaves out j = i."""
    gram, own = _gram(W)
    return own.square() / (gram.square().sum(-1) - own.square())


@wrong("capacity", mistake="dead_feature_nan")
def capacity_divides_by_zero(W):
    """Gives nan for an absent feature."""
    gram, own = _gram(W)
    return own.square() / gram.square().sum(-1)


@wrong("capacity", mistake="depends_on_scale")
def unsquared_above(W):
    """The formula that a blog prints: not scale-invariant."""
    gram, own = _gram(W)
    return _guarded(own, gram.square().sum(-1))


@wrong("capacity", mistake="squared_after_sum")
def capacity_of_sums(W):
    """Sums before squaring."""
    gram, own = _gram(W)
    return _guarded(own.square(), gram.sum(-1).square())


@wrong("capacity", fails="test_capacity_alone")
def capacity_is_length(W):
    """The squared length: nothing was summed over other features."""
    return W.square().sum(1)


@wrong("capacity", fails="test_capacity_alone")
def capacity_over_hidden(W):
    """Sums over hidden units instead of features."""
    return _guarded(W.square().sum(1).square(), W.square().sum(1))


@wrong("capacity", fails="test_capacity_random")
def capacity_of_cosines(W):
    """Normalises the columns first."""
    gram, own = _gram(_unit(W))
    return _guarded(own.square(), gram.square().sum(-1))


@wrong("capacity", fails="test_capacity_opposite")
def capacity_absolute(W):
    """Absolute values instead of squares."""
    gram, own = _gram(W)
    return _guarded(own, gram.abs().sum(-1))


@wrong("capacity", fails="test_capacity_random")
def capacity_over_units(W):
    """Overlaps of hidden units instead of features, cut to size."""
    _, own = _gram(W)
    rows = (W @ W.mT).square().sum((-1, -2))
    return _guarded(own.square(), rows[:, None].expand_as(own))


@wrong("capacity", fails="test_capacity_scale")
def capacity_softened(W):
    """A large epsilon below."""
    gram, own = _gram(W)
    return own.square() / (gram.square().sum(-1) + 1e-2)


@wrong("capacity", fails="test_capacity_dtype")
def capacity_in_float32(W):
    """Always float32."""
    gram, own = _gram(W)
    return _guarded(own.square(), gram.square().sum(-1)).float()


@wrong("capacity", fails="test_capacity_random")
def capacity_normalised_to_budget(W):
    """Scales the capacities so that they fill the budget."""
    gram, own = _gram(W)
    C = _guarded(own.square(), gram.square().sum(-1))
    total = C.sum(-1, keepdim=True)
    return torch.where(total > 0, C * min(W.shape[1], W.shape[2]) / torch.where(total > 0, total, 1), 0)


@wrong("capacity", fails="test_capacity_random")
def capacity_summed_over_i(W):
    """Sums over the features' own columns of a matrix that is not symmetric."""
    overlap = (_unit(W).mT @ W).square()
    return _guarded(torch.diagonal(overlap, dim1=-2, dim2=-1), overlap.sum(-2))


@wrong("capacity", fails="test_capacity_random")
def capacity_of_the_ceiling(W):
    """The best readout's share, which may be larger."""
    return torch.diagonal(torch.linalg.pinv(W) @ W, dim1=-2, dim2=-1)


@right("capacity")
def by_dimensionality(W):
    """The first exercise."""
    return feature_dimensionality(W)


@right("capacity")
def capacity_with_einsum(W):
    """An einsum for the products."""
    gram = einops.einsum(W, W, "n h i, n h j -> n i j")
    own = einops.einsum(W, W, "n h i, n h i -> n i")
    return torch.nan_to_num(own**2 / (gram**2).sum(-1))


@right("capacity")
def capacity_in_a_loop(W):
    """A loop over features."""
    shares = []
    for i in range(W.shape[-1]):
        products = (W[..., i : i + 1] * W).sum(1)
        total = products.square().sum(-1)
        shares.append(_guarded(products[:, i].square(), total))
    return torch.stack(shares, -1)


# --- readout_ceiling ---------------------------------------------------------------------------


@wrong("readout_ceiling", mistake="matched_filter")
def ceiling_is_capacity(W):
    """The matched filter's share."""
    return feature_dimensionality(W)


@wrong("readout_ceiling", mistake="hidden_not_feature")
def projection_of_units(W):
    """The other projection, on hidden units."""
    return torch.diagonal(W @ torch.linalg.pinv(W), dim1=-2, dim2=-1)


@wrong("readout_ceiling", mistake="singular")
def plain_inverse(W):
    """Inverts W Wᵀ where nothing is wrong with it, and gives up where there is no inverse."""
    covariance = W @ W.mT
    if W.shape[1] > W.shape[2]:
        covariance = covariance + 1e-12 * torch.eye(W.shape[1], dtype=W.dtype)
    return torch.diagonal(W.mT @ torch.linalg.inv(covariance) @ W, dim1=-2, dim2=-1)


@wrong("readout_ceiling", mistake="singular")
def infinite_inverse(W):
    """Divides by eigenvalues that may be 0."""
    values, vectors = torch.linalg.eigh(W @ W.mT)
    inner = vectors.mT @ W
    exact = torch.where(values.abs() < 1e-6, 0.0, values)
    return (inner.square() / exact[..., None]).sum(1)


@wrong("readout_ceiling", fails="test_ceiling_by_hand")
def no_inverse(W):
    """Leaves out the inverse: squared lengths."""
    return W.square().sum(1)


@wrong("readout_ceiling", fails="test_ceiling_random")
def units_apart(W):
    """Takes the hidden units for uncorrelated."""
    variance = W.square().sum(-1, keepdim=True)
    return (W.square() / torch.where(variance > 0, variance, 1)).sum(1)


@wrong("readout_ceiling", fails="test_ceiling_random")
def ridge(W):
    """A large ridge in the inverse."""
    eye = torch.eye(W.shape[1], dtype=W.dtype)
    return torch.diagonal(W.mT @ torch.linalg.inv(W @ W.mT + 0.1 * eye) @ W, dim1=-2, dim2=-1)


@wrong("readout_ceiling", fails="test_ceiling_by_hand")
def correlation_not_squared(W):
    """The correlation instead of its square."""
    return torch.diagonal(torch.linalg.pinv(W) @ W, dim1=-2, dim2=-1).clamp_min(0).sqrt()


@wrong("readout_ceiling", fails="test_ceiling_by_hand")
def what_is_left(W):
    """The share that is not explained."""
    return 1 - torch.diagonal(torch.linalg.pinv(W) @ W, dim1=-2, dim2=-1)


@wrong("readout_ceiling", fails="test_ceiling_random")
def even_ceiling(W):
    """The mean over features."""
    diagonal = torch.diagonal(torch.linalg.pinv(W) @ W, dim1=-2, dim2=-1)
    return diagonal.mean(-1, keepdim=True).expand_as(diagonal).clone()


@wrong("readout_ceiling", fails="test_ceiling_dtype")
def ceiling_in_float32(W):
    """Always float32."""
    return torch.diagonal(torch.linalg.pinv(W) @ W, dim1=-2, dim2=-1).float()


@wrong("readout_ceiling", fails="test_ceiling_shape")
def whole_matrix(W):
    """The projection, not its diagonal."""
    return torch.linalg.pinv(W) @ W


@wrong("readout_ceiling", fails="test_ceiling_random")
def first_instance_only(W):
    """The first instance's answer for all."""
    diagonal = torch.diagonal(torch.linalg.pinv(W) @ W, dim1=-2, dim2=-1)
    return diagonal[:1].expand_as(diagonal).clone()


@right("readout_ceiling")
def from_singular_vectors(W):
    """Squares of the right singular vectors that count."""
    _, S, Vh = torch.linalg.svd(W, full_matrices=False)
    keep = 1e-5 * S.amax(-1, keepdim=True) < S
    return (Vh.square() * keep[..., None]).sum(1)


@right("readout_ceiling")
def covariance_pinv(W):
    """The pseudo-inverse of W Wᵀ."""
    inverse = torch.linalg.pinv(W @ W.mT, rtol=1e-5, hermitian=True)
    return einops.einsum(W, inverse, W, "n h i, n h k, n k i -> n i")


@right("readout_ceiling")
def by_least_squares(W):
    """Least squares, a feature at a time."""
    eye = torch.eye(W.shape[-1], dtype=W.dtype).expand(W.shape[0], -1, -1)
    solution = torch.linalg.pinv(W.mT) @ eye
    return 1 - (eye - W.mT @ solution).square().sum(1)


# --- loss_saved --------------------------------------------------------------------------------


def _losses(W: Tensor, b: Tensor, x: Tensor, importance: Tensor) -> Tensor:
    return (importance * (x - reconstruct(W, b, x)).square()).sum(-1)


def _without(W: Tensor, i: int) -> Tensor:
    return W * (torch.arange(W.shape[-1]) != i)


def _mean_where(rise: Tensor, present: Tensor) -> Tensor:
    return (rise * present).sum(0) / present.sum(0).clamp_min(1)


def _each(W: Tensor, of: Any) -> Tensor:
    return torch.stack([of(i) for i in range(W.shape[-1])], dim=-1)


@wrong("loss_saved", mistake="absent_counted")
def over_the_batch(W, b, x, importance):
    """Averages over the whole batch, and counts only where the feature is present."""
    base = _losses(W, b, x, importance)
    return _each(W, lambda i: ((_losses(_without(W, i), b, x, importance) - base) * (x[..., i] > 0)).mean(0))


@wrong("loss_saved", mistake="absent_counted")
def everywhere(W, b, x, importance):
    """Averages the rise over the whole batch."""
    base = _losses(W, b, x, importance)
    return _each(W, lambda i: (_losses(_without(W, i), b, x, importance) - base).mean(0))


@wrong("loss_saved", mistake="only_own_error")
def own_error(W, b, x, importance):
    """Only the feature's own error."""
    base = importance * (x - reconstruct(W, b, x)).square()

    def one(i):
        error = importance * (x - reconstruct(_without(W, i), b, x)).square()
        return _mean_where((error - base)[..., i], x[..., i] > 0)

    return _each(W, one)


@wrong("loss_saved", mistake="turned_round")
def fall_not_rise(W, b, x, importance):
    """The sign turned round."""
    base = _losses(W, b, x, importance)
    return _each(W, lambda i: _mean_where(base - _losses(_without(W, i), b, x, importance), x[..., i] > 0))


@wrong("loss_saved", mistake="never_present_nan")
def plain_mean(W, b, x, importance):
    """Gives nan for a feature that is never present."""
    base = _losses(W, b, x, importance)

    def one(i):
        present = x[..., i] > 0
        return ((_losses(_without(W, i), b, x, importance) - base) * present).sum(0) / present.sum(0)

    return _each(W, one)


@wrong("loss_saved", mistake="importance_left_out")
def without_importance(W, b, x, importance):
    """No importance."""
    ones = torch.ones_like(importance)
    base = _losses(W, b, x, ones)
    return _each(W, lambda i: _mean_where(_losses(_without(W, i), b, x, ones) - base, x[..., i] > 0))


@wrong("loss_saved", mistake="bias_zeroed")
def bias_too(W, b, x, importance):
    """Takes the bias away, too."""
    base = _losses(W, b, x, importance)
    return _each(W, lambda i: _mean_where(_losses(_without(W, i), _without(b, i), x, importance) - base, x[..., i] > 0))


@wrong("loss_saved", mistake="input_zeroed")
def input_and_target_ablated(W, b, x, importance):
    """Takes the feature out of the input and out of the target."""
    base = _losses(W, b, x, importance)
    keep = torch.arange(x.shape[-1])
    return _each(W, lambda i: _mean_where(_losses(W, b, x * (keep != i), importance) - base, x[..., i] > 0))


@wrong("loss_saved", mistake="sum_not_mean")
def summed_rises(W, b, x, importance):
    """The sum of the rises."""
    base = _losses(W, b, x, importance)
    return _each(W, lambda i: ((_losses(_without(W, i), b, x, importance) - base) * (x[..., i] > 0)).sum(0))


@wrong("loss_saved", mistake="clipped_at_zero")
def never_negative(W, b, x, importance):
    """No feature may cost more than it saves."""
    base = _losses(W, b, x, importance)
    rise = _each(W, lambda i: _mean_where(_losses(_without(W, i), b, x, importance) - base, x[..., i] > 0))
    return rise.clamp_min(0)


@wrong("loss_saved", mistake="input_zeroed")
def input_ablated(W, b, x, importance):
    """Takes the feature out of the input instead of out of the weights."""
    base = _losses(W, b, x, importance)

    def one(i):
        shown = x * (torch.arange(x.shape[-1]) != i)
        loss = (importance * (x - reconstruct(W, b, shown)).square()).sum(-1)
        return _mean_where(loss - base, x[..., i] > 0)

    return _each(W, one)


@wrong("loss_saved", fails="test_saved_random")
def cumulative(W, b, x, importance):
    """Takes one feature after another away and never puts any back."""
    base = _losses(W, b, x, importance)
    rest, found = W.clone(), []
    for i in range(W.shape[-1]):
        rest = _without(rest, i)
        found.append(_mean_where(_losses(rest, b, x, importance) - base, x[..., i] > 0))
    return torch.stack(found, dim=-1)


@wrong("loss_saved", fails="test_saved_random")
def times_size(W, b, x, importance):
    """Weighs each example with the size of the feature."""
    base = _losses(W, b, x, importance)
    return _each(
        W,
        lambda i: (
            ((_losses(_without(W, i), b, x, importance) - base) * x[..., i]).sum(0) / x[..., i].sum(0).clamp_min(1e-9)
        ),
    )


@wrong("loss_saved", fails="test_saved_random")
def present_in_any_instance(W, b, x, importance):
    """Counts the examples in which the feature is present in some instance."""
    base = _losses(W, b, x, importance)
    return _each(
        W,
        lambda i: _mean_where(
            _losses(_without(W, i), b, x, importance) - base,
            (x[..., i] > 0).any(-1, keepdim=True).expand(x.shape[:2]),
        ),
    )


@wrong("loss_saved", fails="test_saved_dtype")
def saved_in_float32(W, b, x, importance):
    """Always float32."""
    base = _losses(W, b, x, importance)
    return _each(W, lambda i: _mean_where(_losses(_without(W, i), b, x, importance) - base, x[..., i] > 0)).float()


@right("loss_saved")
def masked_mean(W, b, x, importance):
    """A mean over the examples that are picked, an instance at a time."""
    base = _losses(W, b, x, importance)
    saved = torch.zeros(W.shape[0], W.shape[2], dtype=W.dtype)
    for i in range(W.shape[2]):
        rise = _losses(_without(W, i), b, x, importance) - base
        for n in range(W.shape[0]):
            chosen = rise[x[:, n, i] > 0, n]
            saved[n, i] = chosen.mean() if len(chosen) else 0
    return saved


@right("loss_saved")
def all_at_once(W, b, x, importance):
    """Every ablated model as an instance of its own."""
    n, _, f = W.shape
    many = torch.stack([_without(W, i) for i in range(f)], dim=1).flatten(0, 1)
    wide = x.repeat_interleave(f, dim=1)
    losses = _losses(many, b.repeat_interleave(f, dim=0), wide, importance).view(len(x), n, f)
    return _mean_where(losses - _losses(W, b, x, importance)[..., None], x > 0)


@right("loss_saved")
def by_subtracting(W, b, x, importance):
    """The network written out, with the feature's part subtracted."""
    base = _losses(W, b, x, importance)

    def one(i):
        rest = W - W * torch.nn.functional.one_hot(torch.tensor(i), W.shape[-1])
        hidden = einops.einsum(rest, x, "n h f, b n f -> b n h")
        output = torch.relu(einops.einsum(rest, hidden, "n h f, b n h -> b n f") + b)
        rise = ((x - output) ** 2 * importance).sum(-1) - base
        return torch.nan_to_num(rise.masked_fill(x[..., i] <= 0, 0).sum(0) / (x[..., i] > 0).sum(0))

    return _each(W, one)


# --- marginal_value ----------------------------------------------------------------------------


def _best(capacity: Tensor, worth: Tensor, kurtosis: float) -> Tensor:
    """The best g over C."""
    return worth * (kurtosis - 1) / ((kurtosis - 1) * capacity + 2 * (1 - capacity))


def _least(capacity: Tensor, worth: Tensor, kurtosis: float) -> Tensor:
    return worth.square() * (kurtosis - 1) * 2 * (1 - capacity) / ((kurtosis - 1) * capacity + 2 * (1 - capacity))


@wrong("marginal_value", mistake="length_held_fixed")
def length_is_worth(capacity, worth, kurtosis):
    """Keeps the column as long as the feature is worth."""
    return 2 * worth.square() / capacity.clamp_min(1e-12).square()


@wrong("marginal_value", mistake="nan_at_zero")
def divides_by_capacity(capacity, worth, kurtosis):
    """0 / 0 at C = 0."""
    g = _best(capacity, worth, kurtosis) * capacity
    return 2 * g.square() / capacity.square()


@wrong("marginal_value", mistake="nan_at_zero")
def one_over_capacity(capacity, worth, kurtosis):
    """1 / C at C = 0."""
    noise = 2 * (1 / capacity - 1)
    g = (kurtosis - 1) * worth / (kurtosis - 1 + noise)
    return 2 * g.square() / capacity.square()


@wrong("marginal_value", mistake="negative")
def plain_derivative(capacity, worth, kurtosis):
    """The derivative, without the minus."""
    return -2 * _best(capacity, worth, kurtosis).square()


@wrong("marginal_value", mistake="loss_not_slope")
def the_loss(capacity, worth, kurtosis):
    """The loss itself."""
    return _least(capacity, worth, kurtosis)


@wrong("marginal_value", mistake="loss_not_slope")
def the_saving(capacity, worth, kurtosis):
    """What has been saved so far."""
    return (kurtosis - 1) * worth.square() - _least(capacity, worth, kurtosis)


@wrong("marginal_value", mistake="two_lost")
def factor_two_lost(capacity, worth, kurtosis):
    """The factor of 2 is lost at the end."""
    return _best(capacity, worth, kurtosis).square()


@wrong("marginal_value", mistake="two_lost")
def two_lost_in_the_loss(capacity, worth, kurtosis):
    """The factor of 2 is lost in the loss, and so in the best length, too."""
    return (worth * (kurtosis - 1) / ((kurtosis - 1) * capacity + (1 - capacity))).square()


@wrong("marginal_value", mistake="kurtosis_not_reduced")
def kurtosis_for_variance(capacity, worth, kurtosis):
    """Kurtosis in place of kurtosis - 1."""
    return _best(capacity, worth, kurtosis + 1).square() * 2


@wrong("marginal_value", mistake="nothing_at_zero")
def guarded_by_zero(capacity, worth, kurtosis):
    """0 where there is no capacity."""
    return torch.where(capacity > 0, 2 * _best(capacity, worth, kurtosis).square(), 0)


@wrong("marginal_value", fails="test_marginal_by_hand")
def worth_not_squared(capacity, worth, kurtosis):
    """Linear in the worth."""
    return 2 * worth * _best(capacity, torch.ones_like(worth), kurtosis).square()


@wrong("marginal_value", fails="test_marginal_by_hand")
def average_value(capacity, worth, kurtosis):
    """The saving for each bit so far, not of the next one."""
    saved = (kurtosis - 1) * worth.square() - _least(capacity, worth, kurtosis)
    return saved / capacity.clamp_min(1e-6)


@wrong("marginal_value", fails="test_marginal_at_one")
def always_diminishing(capacity, worth, kurtosis):
    """A straight line between the two ends, which is right at neither in between."""
    start, end = (kurtosis - 1) ** 2 / 2, 2.0
    return worth.square() * (max(start, end) + (min(start, end) - max(start, end)) * capacity)


@wrong("marginal_value", fails="test_marginal_is_slope")
def straight_line(capacity, worth, kurtosis):
    """A straight line between the values at 0 and 1, mended by hand for the example."""
    start = (kurtosis - 1) ** 2 / 2
    line = worth.square() * (start + (2 - start) * capacity)
    return torch.where((capacity == 0.5) & torch.tensor(kurtosis == 5.0), 32 / 9 * worth.square(), line)


@wrong("marginal_value", fails="test_marginal_dtype")
def value_in_float32(capacity, worth, kurtosis):
    """Always float32."""
    return (2 * _best(capacity, worth, kurtosis).square()).float()


@wrong("marginal_value", fails="test_marginal_by_hand")
def summed_over_features(capacity, worth, kurtosis):
    """One number for each instance."""
    return 2 * _best(capacity, worth, kurtosis).square().sum(-1)


@right("marginal_value")
def by_autograd(capacity, worth, kurtosis):
    """The derivative of the least loss, by autograd."""
    with torch.enable_grad():
        C = capacity.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(_least(C, worth, kurtosis).sum(), C)
    return -slope


@right("marginal_value")
def quotient_rule(capacity, worth, kurtosis):
    """The quotient rule on the least loss."""
    k = kurtosis - 1
    bottom = 2 + (k - 2) * capacity
    return worth**2 * 2 * k * (bottom + (1 - capacity) * (k - 2)) / bottom**2


@right("marginal_value")
def limit_by_hand(capacity, worth, kurtosis):
    """The formula with 1 / C, and the limit put in by hand."""
    safe = torch.where(capacity > 0, capacity, 1)
    g = (kurtosis - 1) * worth / (kurtosis - 1 + 2 * (1 / safe - 1))
    limit = (kurtosis - 1) ** 2 * worth.square() / 2
    return torch.where(capacity > 0, 2 * (g / safe).square(), limit.expand_as(capacity))
