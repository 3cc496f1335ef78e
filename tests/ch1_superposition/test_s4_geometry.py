"""Checkers of "Geometry and capacity": one fixture per exercise, named like it.

Expected values are worked by hand, by slow loops, or follow from an invariance; never from the reference. Nothing here
is statistical: random inputs are compared with slow loops on the same inputs, so there are no false alarms.
"""

import math

import pytest
import torch
from torch import Tensor

from refract.checking.expect import expect, expect_close, expect_dtype, expect_tensor, show
from refract.checking.marks import mistake, title

SHAPES = [(1, 1, 1), (3, 2, 5), (2, 5, 3), (3, 3, 3)]


def _ring(corners: int) -> Tensor:
    angle = 2 * math.pi * torch.arange(corners, dtype=torch.float64) / corners
    return torch.stack([angle.cos(), angle.sin()])[None]


def _slow_shares(W: Tensor) -> Tensor:
    """(W_i . W_i)^2 over the sum of (W_i . W_j)^2, one number at a time."""
    instances, _, features = W.shape
    shares = torch.zeros(instances, features, dtype=W.dtype)
    for n in range(instances):
        for i in range(features):
            total = sum(float(W[n, :, i] @ W[n, :, j]) ** 2 for j in range(features))
            if total > 0:
                shares[n, i] = float(W[n, :, i] @ W[n, :, i]) ** 2 / total
    return shares


def _like(got: Tensor, value: Tensor, atol: float = 1e-4) -> bool:
    """Whether an answer looks like this, of whatever precision."""
    return got.shape == value.shape and torch.allclose(got.double(), value.double(), rtol=1e-3, atol=atol)


def _not_nan(got: object, given: str, name: str) -> None:
    bad = isinstance(got, Tensor) and bool((~got.isfinite()).any())
    expect(not bad, f"For {given}, the answer holds nan or infinity.", mistake=name)


# --- feature_dimensionality --------------------------------------------------------------------


@title("A feature alone in its direction has a whole dimension")
def test_dimensionality_alone(feature_dimensionality):
    W = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    got = feature_dimensionality(W)
    given = "columns [2, 0] and [0, 3]"
    name = None
    if isinstance(got, Tensor) and got.shape == (1, 2):
        left_out = bool((~got.isfinite()).all()) or bool((got == 0).all()) or bool((got > 1e3).all())
        unsquared = _like(got, torch.tensor([[1 / 2, 1 / 3]]))
        name = "self_left_out" if left_out else "length_not_squared" if unsquared else None
    message = f"For {given} both features have a direction to themselves, so both should be 1; they are {show(got)}."
    if name is not None:
        expect(False, message, mistake=name)
    expect_close(got, torch.ones(1, 2), what="the dimensionality", given=given)


@title("A feature with no direction has 0")
def test_dimensionality_zero_column(feature_dimensionality):
    W = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    given = "the columns [1, 0], [0, 0] and [1, 1]"
    got = feature_dimensionality(W)
    _not_nan(got, given, "dead_is_nan")
    # 1 / (1 + 1);  0;  2 / (2 + 1/2)
    expect_close(got, torch.tensor([[0.5, 0.0, 0.8]]), what="the dimensionality", given=given)


@title("With nothing stored, all are 0")
def test_dimensionality_all_zero(feature_dimensionality):
    got = feature_dimensionality(torch.zeros(2, 2, 3))
    _not_nan(got, "W = 0", "dead_is_nan")
    expect_close(got, torch.zeros(2, 3), what="the dimensionality", given="W = 0")


@title("A neighbour counts by its length")
def test_dimensionality_lengths(feature_dimensionality):
    W = torch.tensor([[[1.0, 3.0]]])
    given = "one hidden unit, W = [1, 3]"
    got = expect_tensor(feature_dimensionality(W), what="the dimensionality", given=given, shape=(1, 2))
    looks = {
        (0.5, 0.5): "all_normalised",  # or a sum over i: 9 / (9 + 9)
        (0.5, 4.5): "all_normalised",
        (0.25, 0.75): "absolute_not_squared",  # 1 / (1 + 3)
        (0.25, 2.25): "absolute_not_squared",
    }
    name = next((what for value, what in looks.items() if _like(got, torch.tensor([value]))), None)
    # 1 / (1 + 9) and 9 / (9 + 1)
    expect_close(got, torch.tensor([[0.1, 0.9]]), what="the dimensionality", given=given, mistake=name)


@title("Regular polygons: two features in one dimension have 1/2, n in the plane have 2/n")
@pytest.mark.parametrize("corners", [2, 3, 5, 8])
def test_dimensionality_polygons(feature_dimensionality, corners):
    W = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64) if corners == 2 else _ring(corners)
    right = torch.full((1, corners), W.shape[1] / corners, dtype=torch.float64)
    expect_close(
        feature_dimensionality(W), right, what="the dimensionality", given=f"{corners} regular corners", rtol=1e-6
    )


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", SHAPES)
def test_dimensionality_random(feature_dimensionality, shape):
    W = torch.randn(shape, dtype=torch.float64)
    given = f"W of shape {shape}"
    expect_close(feature_dimensionality(W), _slow_shares(W), what="the dimensionality", given=given, rtol=1e-6)


@title("A faint feature counts as it is; instances do not see each other")
def test_dimensionality_faint(feature_dimensionality):
    W = torch.stack([torch.tensor([[1e-4, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])])
    given = "columns [0.0001, 0] and [0, 1] in instance 0, twice [1, 0] in instance 1"
    expect_close(
        feature_dimensionality(W), torch.tensor([[1.0, 1.0], [0.5, 0.5]]), what="the dimensionality", given=given,
        rtol=1e-3,
    )  # fmt: skip


@title("float64 stays float64, and gradients are finite where something is stored")
def test_dimensionality_dtype(feature_dimensionality):
    W = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    got = feature_dimensionality(W)
    expect_dtype(got, torch.float64, what="the dimensionality", given="W in float64")
    if got.requires_grad:
        (gradient,) = torch.autograd.grad(got.sum(), W)
        expect(bool(gradient.isfinite().all()), "The gradient for W holds nan or infinity.")


# --- polytope_vectors --------------------------------------------------------------------------

# Shape, and the cosines of every corner with the others, sorted.
_PENTAGON = sorted([math.cos(math.radians(72))] * 2 + [math.cos(math.radians(144))] * 2)
_ACROSS = [2 / 3 * math.cos(math.radians(turn)) - 1 / 3 for turn in (45, 135)]
POLYTOPES = {
    "digon": ((1, 2), [-1.0]),
    "triangle": ((2, 3), [-0.5, -0.5]),
    "tetrahedron": ((3, 4), [-1 / 3] * 3),
    "pentagon": ((2, 5), _PENTAGON),
    "square antiprism": ((3, 8), sorted([-1 / 3, 1 / 3, 1 / 3, *_ACROSS, *_ACROSS])),
}


@title("As many hidden dimensions as the shape needs, and a column for each corner")
@pytest.mark.parametrize("name", list(POLYTOPES))
def test_polytope_shape(polytope_vectors, name):
    expect_tensor(polytope_vectors(name), what="W", given=f'"{name}"', shape=POLYTOPES[name][0])


@title("Every corner is one unit from the origin")
@pytest.mark.parametrize("name", list(POLYTOPES))
@mistake("not_unit")
def test_polytope_unit(polytope_vectors, name):
    shape, _ = POLYTOPES[name]
    W = expect_tensor(polytope_vectors(name), what="W", given=f'"{name}"', shape=shape).double()
    expect_close(W.norm(dim=0), torch.ones(shape[1]), what="the length of the columns", given=f'"{name}"')


@title("The corners stand where they should")
@pytest.mark.parametrize("name", list(POLYTOPES))
def test_polytope_corners(polytope_vectors, name):
    shape, cosines = POLYTOPES[name]
    W = expect_tensor(polytope_vectors(name), what="W", given=f'"{name}"', shape=shape).double()
    W = W / W.norm(dim=0)
    gram = W.mT @ W
    others = gram[~torch.eye(shape[1], dtype=torch.bool)].view(shape[1], -1).sort(dim=1).values
    known = None
    if name in ("triangle", "pentagon"):
        angle = 360 / shape[1] * torch.arange(shape[1], dtype=torch.float64)
        as_radians = torch.stack([angle.cos(), angle.sin()])
        known = "degrees" if torch.allclose(gram, as_radians.mT @ as_radians, atol=1e-3) else None
    elif name == "square antiprism":
        uneven = bool(((W @ W.mT) - 8 / 3 * torch.eye(3)).abs().max() > 0.02)
        boxed = bool((others[:, 0] < -0.999).all())
        known = "no_twist" if boxed else "wrong_height" if uneven else None
    expect_close(
        others, torch.tensor(cosines, dtype=torch.float64).expand(shape[1], -1),
        what="the sorted cosines of each corner with the others", given=f'"{name}"', atol=1e-4, mistake=known,
    )  # fmt: skip


@title("Two calls give the same corners, and the second is no part of the first")
def test_polytope_fresh(polytope_vectors):
    first = expect_tensor(polytope_vectors("triangle"), what="W", given='"triangle"', shape=(2, 3)).clone()
    polytope_vectors("triangle").mul_(2)
    expect_close(polytope_vectors("triangle"), first, what="W", given='"triangle" once more, after W was changed')


# --- tegum_product -----------------------------------------------------------------------------


@title("A triangle's and a digon's columns, by hand")
def test_tegum_by_hand(tegum_product):
    first, second = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([[7.0, 8.0]])
    right = torch.tensor([[1.0, 2, 3, 0, 0], [4, 5, 6, 0, 0], [0, 0, 0, 7, 8]])
    given = "W of shape (2, 3) and (1, 2)"
    got = expect_tensor(tegum_product(first, second), what="the product", given=given)
    if tuple(got.shape) == (2, 5):
        expect(False, "The product has 2 hidden dimensions; the two shapes need 2 and 1.", mistake="same_dimensions")
    if got.ndim == 2 and got.shape[1] == 6:
        expect(False, "The product of 3 and 2 features has 6 columns.", mistake="every_pair")
    expect_close(got, right, what="the product", given=given)


@title("Features of one shape do not overlap with those of the other")
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 5, 1, 2), (3, 4, 3, 8), (1, 2, 2, 3)])
def test_tegum_overlap(tegum_product, sizes):
    h1, f1, h2, f2 = sizes
    first, second = torch.randn(h1, f1), torch.randn(h2, f2)
    given = f"W of shape {(h1, f1)} and {(h2, f2)}"
    got = expect_tensor(tegum_product(first, second), what="the product", given=given)
    name = "same_dimensions" if tuple(got.shape) == (max(h1, h2), f1 + f2) else None
    expect(
        tuple(got.shape) == (h1 + h2, f1 + f2),
        f"For {given} the product should have shape {(h1 + h2, f1 + f2)}; it has {tuple(got.shape)}.",
        mistake=name,
    )
    gram = got.mT @ got
    overlap = gram[:f1, f1:].abs().max()
    in_place = torch.allclose(got[:h1, :f1], first)  # else the columns are in another order, say
    expect(
        bool(overlap < 1e-6),
        f"The first {f1} columns of the product and the others overlap, by {overlap:.3g}.",
        mistake="same_dimensions" if in_place else None,
    )
    expect_close(gram[:f1, :f1], first.mT @ first, what="WᵀW among the first shape's columns", given=given, rtol=1e-3)
    expect_close(gram[f1:, f1:], second.mT @ second, what="WᵀW among the second's columns", given=given, rtol=1e-3)


@title("float64 stays float64, and the product is no part of its inputs")
def test_tegum_dtype(tegum_product):
    first, second = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    got = tegum_product(first, second)
    expect_dtype(got, torch.float64, what="the product", given="float64 columns")
    got.mul_(3)
    expect(
        bool((first == 1).all() and (second == 1).all()), "A change of the product changed the shapes it was made of."
    )


# --- capacity ----------------------------------------------------------------------------------


@title("A feature alone in its direction has all of it")
def test_capacity_alone(capacity):
    W = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    got = capacity(W)
    given = "columns [2, 0] and [0, 3]"
    name = None
    if isinstance(got, Tensor) and got.shape == (1, 2):
        left_out = bool((~got.isfinite()).all()) or bool((got == 0).all()) or bool((got > 1e3).all())
        unsquared = _like(got, torch.tensor([[1 / 4, 1 / 9]]))
        name = "own_left_out" if left_out else "depends_on_scale" if unsquared else None
    message = f"For {given} both features have a direction to themselves, so both should be 1; they are {show(got)}."
    if name is not None:
        expect(False, message, mistake=name)
    expect_close(got, torch.ones(1, 2), what="the capacity", given=given)


@title("A feature that is not there has none")
@pytest.mark.parametrize("which", ["one column is 0", "all are 0"])
def test_capacity_zero(capacity, which):
    all_zero = which == "all are 0"
    W = torch.zeros(1, 2, 3) if all_zero else torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    given = "W = 0" if all_zero else "the columns [1, 0], [0, 0] and [1, 1]"
    got = capacity(W)
    _not_nan(got, given, "dead_feature_nan")
    # 1 / (1 + 1);  0;  4 / (4 + 1)
    right = torch.zeros(1, 3) if all_zero else torch.tensor([[0.5, 0.0, 0.8]])
    expect_close(got, right, what="the capacity", given=given)


@title("Neighbours on opposite sides do not cancel")
def test_capacity_opposite(capacity):
    W = torch.tensor([[[1.0, 0.5, -0.25]]])
    given = "one hidden unit, W = [1, 0.5, -0.25]"
    got = expect_tensor(capacity(W), what="the capacity", given=given, shape=(1, 3))
    cancelled = _like(got, torch.tensor([[0.64, 0.16, 0.04]]))  # 1 / (1 + 1/2 - 1/4)^2, and so on
    # 1 / (1 + 1/4 + 1/16); (1/16) / (1/4 + 1/16 + 1/64)
    expect_close(
        got, torch.tensor([[16 / 21, 4 / 21, 1 / 21]]), what="the capacity", given=given,
        mistake="squared_after_sum" if cancelled else None,
    )  # fmt: skip


@title("Twice W, the same capacities")
def test_capacity_scale(capacity):
    W = torch.randn(2, 3, 5, dtype=torch.float64)
    right = _slow_shares(W)
    for factor in (2.0, 0.1):
        given = f"{factor:g} W"
        got = expect_tensor(capacity(factor * W), what="the capacity", given=given, shape=(2, 5))
        off = (got - right).abs().max() > 1e-6
        moved = off and _like(got * factor**2, capacity(W), atol=1e-8)
        expect_close(
            got, right, what="the capacity", given=given, rtol=1e-6, mistake="depends_on_scale" if moved else None
        )


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", SHAPES)
def test_capacity_random(capacity, shape):
    W = torch.randn(shape, dtype=torch.float64)
    expect_close(capacity(W), _slow_shares(W), what="the capacity", given=f"W of shape {shape}", rtol=1e-6)


@title("Capacities lie between 0 and 1, and sum to at most the number of hidden units")
def test_capacity_budget(capacity):
    W = torch.randn(50, 3, 9)
    got = expect_tensor(capacity(W), what="the capacity", given="random W of shape (50, 3, 9)", shape=(50, 9))
    expect(bool((got >= 0).all() and (got <= 1 + 1e-5).all()), f"A capacity lies outside [0, 1]: {show(got)}.")
    expect(bool((got.sum(dim=1) <= 3 + 1e-4).all()), f"In 3 hidden units capacities sum to {got.sum(dim=1).max():.3f}.")


@title("float64 stays float64")
def test_capacity_dtype(capacity):
    got = capacity(torch.randn(2, 2, 3, dtype=torch.float64))
    expect_dtype(got, torch.float64, what="the capacity", given="W in float64")


# --- readout_ceiling ---------------------------------------------------------------------------


@title("Room for all: everything can be read, however the features overlap")
def test_ceiling_square(readout_ceiling):
    W = torch.tensor([[[1.0, 1.0], [0.0, 0.5]]])
    given = "the columns [1, 0] and [1, 0.5]"
    got = expect_tensor(readout_ceiling(W), what="the ceiling", given=given)
    shares = _slow_shares(W)
    name = "matched_filter" if _like(got, shares) else None
    expect_close(got, torch.ones(1, 2), what="the ceiling", given=given, rtol=1e-3, mistake=name)


@title("One entry for each feature")
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4, 2), (3, 1, 4)])
def test_ceiling_shape(readout_ceiling, shape):
    instance, hidden, feature = shape
    given = f"W of shape {shape}"
    got = expect_tensor(readout_ceiling(torch.randn(shape)), what="the ceiling", given=given, finite=False)
    name = "hidden_not_feature" if tuple(got.shape) == (instance, hidden) else None
    expect(
        tuple(got.shape) == (instance, feature),
        f"For {given} the ceiling should have shape {(instance, feature)}; it has {tuple(got.shape)}.",
        mistake=name,
    )


@title("Two features in one hidden unit, by hand")
def test_ceiling_by_hand(readout_ceiling):
    given = "one hidden unit, W = [1, 3]"
    # the only readout of x_0 explains 1^2 / (1 + 9) of it
    right = torch.tensor([[0.1, 0.9]])
    expect_close(readout_ceiling(torch.tensor([[[1.0, 3.0]]])), right, what="the ceiling", given=given, rtol=1e-3)


@title("An idle hidden unit, or a copy of another, changes nothing")
@pytest.mark.parametrize("extra", ["an idle unit", "a copy of the first unit"])
def test_ceiling_singular(readout_ceiling, extra):
    W = torch.tensor([[[1.0, 0.5, -1.0], [0.0, 1.0, 2.0]]])
    idle = extra == "an idle unit"
    more = torch.cat([W, torch.zeros(1, 1, 3) if idle else W[:, :1]], dim=1)
    given = f"W with {extra}"
    plain = readout_ceiling(W)
    works = isinstance(plain, Tensor) and _like(plain, _slow_ceiling(W))  # without the extra unit
    try:
        got = readout_ceiling(more)
    except torch.linalg.LinAlgError as error:
        first = str(error).split("\n")[0]
        expect(False, f"For {given} there was no inverse: {first}", mistake="singular")
    if works and isinstance(got, Tensor) and not _like(got, _slow_ceiling(W)):
        expect(False, f"For {given} the answer is {show(got)}; without it, it is right.", mistake="singular")
    expect_close(got, _slow_ceiling(W), what="the ceiling", given=given, rtol=1e-3)


def _slow_ceiling(W: Tensor) -> Tensor:
    """What least squares explains of each feature: 1 less the least squared distance of e_i from the rows' span."""
    result = torch.zeros(W.shape[0], W.shape[2], dtype=torch.float64)
    for n, each in enumerate(W.double()):
        span: list[Tensor] = []
        for row in each:  # Gram and Schmidt
            rest = row - sum((row @ known) * known for known in span) if span else row
            if rest.norm() > 1e-6 * max(1.0, float(row.norm())):
                span.append(rest / rest.norm())
        result[n] = sum((known.square() for known in span), torch.zeros(W.shape[2], dtype=torch.float64))
    return result.to(W.dtype)


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (2, 5, 3), (2, 3, 3), (1, 4, 9)])
def test_ceiling_random(readout_ceiling, shape):
    W = torch.randn(shape, dtype=torch.float64)
    given = f"W of shape {shape}"
    got = expect_tensor(readout_ceiling(W), what="the ceiling", given=given, shape=(shape[0], shape[2]))
    shares = _slow_shares(W)
    name = "matched_filter" if shape[1] > 1 and _like(got, shares) else None
    expect_close(got, _slow_ceiling(W), what="the ceiling", given=given, rtol=1e-5, atol=1e-7, mistake=name)


@title("The ceilings sum to the rank of W")
def test_ceiling_sum(readout_ceiling):
    got = expect_tensor(readout_ceiling(torch.randn(4, 3, 8)), what="the ceiling", given="W of shape (4, 3, 8)")
    expect_close(
        got.sum(dim=-1), torch.full((4,), 3.0), what="their sum", given="random W of shape (4, 3, 8)", rtol=1e-3
    )


@title("float64 stays float64")
def test_ceiling_dtype(readout_ceiling):
    got = readout_ceiling(torch.randn(2, 2, 3, dtype=torch.float64))
    expect_dtype(got, torch.float64, what="the ceiling", given="W in float64")


# --- loss_saved --------------------------------------------------------------------------------


def _slow_losses(W: Tensor, b: Tensor, x: Tensor, importance: Tensor) -> Tensor:
    losses = torch.zeros(x.shape[:2], dtype=x.dtype)
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            output = torch.clamp(W[i].T @ (W[i] @ x[n, i]) + b[i], min=0)
            losses[n, i] = (importance * (x[n, i] - output) ** 2).sum()
    return losses


def _slow_saved(W: Tensor, b: Tensor, x: Tensor, importance: Tensor, how: str = "") -> Tensor:
    """What each feature saves; ``how`` names a mistake to make."""
    base = _slow_losses(W, b, x, importance)
    saved = torch.zeros(W.shape[0], W.shape[2], dtype=W.dtype)
    for f in range(W.shape[2]):
        fewer_W, fewer_b, fewer_x = W.clone(), b.clone(), x.clone()
        if not how.startswith("input_zeroed"):
            fewer_W[:, :, f] = 0
        if how == "bias_zeroed":
            fewer_b[:, f] = 0
        if how.startswith("input_zeroed"):
            fewer_x[:, :, f] = 0
        rise = _slow_losses(fewer_W, fewer_b, fewer_x, importance) - base
        if how == "input_zeroed":  # the target stays
            hidden = torch.einsum("nhf,bnf->bnh", W, fewer_x)
            output = (torch.einsum("nhf,bnh->bnf", W, hidden) + b).clamp_min(0)
            rise = (importance * (x - output) ** 2).sum(dim=-1) - base
        for i in range(W.shape[0]):
            chosen = [float(rise[n, i]) for n in range(len(x)) if x[n, i, f] > 0]
            total = sum(chosen)
            if chosen:
                saved[i, f] = total if how == "sum_not_mean" else total / len(chosen)
    return saved.clamp_min(0) if how == "clipped_at_zero" else saved


_SLIPS = ("input_zeroed", "input_zeroed, target too", "bias_zeroed", "sum_not_mean", "clipped_at_zero")


def _some(instance: int, hidden: int, feature: int, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    W = torch.randn(instance, hidden, feature, dtype=torch.float64)
    b = 0.3 * torch.randn(instance, feature, dtype=torch.float64)
    x = torch.rand(batch, instance, feature, dtype=torch.float64)
    x = x * (torch.rand(batch, instance, feature) < 0.6)
    return W, b, x, torch.rand(feature, dtype=torch.float64) + 0.2


@title("One feature, there in one example of four")
def test_saved_by_hand(loss_saved):
    W, b, x = torch.ones(1, 1, 1), torch.zeros(1, 1), torch.tensor([0.5, 0.0, 0.0, 0.0]).view(4, 1, 1)
    given = "W = 1, b = 0, importance = 3 and x = 0.5, 0, 0, 0"
    got = expect_tensor(loss_saved(W, b, x, torch.tensor([3.0])), what="the loss saved", given=given, shape=(1, 1))
    # with the column the loss is 0; without it, 3 * 0.25 in the one example in which the feature is there
    known = {0.1875: "absent_counted", -0.75: "turned_round", 0.25: "importance_left_out"}
    name = next((what for value, what in known.items() if abs(float(got) - value) < 1e-4), None)
    expect_close(got, torch.tensor([[0.75]]), what="the loss saved", given=given, mistake=name)


@title("What a feature does to others is part of its balance")
def test_saved_whole_loss(loss_saved):
    W, b, x = torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 2), torch.tensor([[[0.5, 0.25]]])
    given = "a digon, W = [1, -1], both features present with sizes 0.5 and 0.25"
    got = expect_tensor(loss_saved(W, b, x, torch.ones(2)), what="the loss saved", given=given, shape=(1, 2))
    # with both: errors 0.25 and 0.25, loss 0.125; without 0: errors 0.5 and 0; without 1: errors 0 and 0.25
    looks = {(0.1875, 0.0): "only_own_error", (0.125, 0.0): "clipped_at_zero"}
    name = next((what for value, what in looks.items() if _like(got, torch.tensor([value]))), None)
    expect_close(got, torch.tensor([[0.125, -0.0625]]), what="the loss saved", given=given, mistake=name)


@title("A feature that is never present saves 0")
def test_saved_never_present(loss_saved):
    W, b, x, importance = _some(2, 2, 3, 6)
    x[:, 0, 1] = 0
    given = "a batch in which feature 1 of instance 0 is never present"
    got = loss_saved(W, b, x, importance)
    _not_nan(got, given, "never_present_nan")
    got = expect_tensor(got, what="the loss saved", given=given, shape=(2, 3))
    expect_close(got[0, 1], 0.0, what="what feature 1 of instance 0 saves", given=given)


@title("A feature that is not stored saves nothing")
def test_saved_not_stored(loss_saved):
    W, b, x, importance = _some(1, 2, 3, 6)
    W[:, :, 2] = 0
    got = expect_tensor(loss_saved(W, b, x, importance), what="the loss saved", shape=(1, 3))
    expect_close(got[0, 2], 0.0, what="what feature 2 saves", given="W with a column of zeros", atol=1e-9)


@title("Right for random models, in several shapes")
@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 2, 4, 7), (3, 4, 2, 6), (1, 3, 5, 1)])
def test_saved_random(loss_saved, shape):
    W, b, x, importance = _some(*shape)
    given = f"(instance, hidden, feature, batch) = {shape}"
    got = expect_tensor(loss_saved(W, b, x, importance), what="the loss saved", given=given, shape=(shape[0], shape[2]))
    right = _slow_saved(W, b, x, importance)
    plain = _slow_saved(W, b, x, torch.ones_like(importance))
    name = None
    if _like(got, -right) and not _like(right, 0 * right):
        name = "turned_round"
    elif _like(got, plain) and not _like(plain, right):
        name = "importance_left_out"
    elif not _like(got, right):
        slips = ((each, _slow_saved(W, b, x, importance, how=each)) for each in _SLIPS)
        name = next((each.split(",")[0] for each, value in slips if _like(got, value)), None)
    expect_close(got, right, what="the loss saved", given=given, rtol=1e-5, atol=1e-7, mistake=name)


@title("Instances do not see each other")
def test_saved_instances(loss_saved):
    W, b, x, importance = _some(3, 2, 4, 8)
    before = expect_tensor(loss_saved(W, b, x, importance), what="the loss saved", shape=(3, 4)).clone()
    other = W.clone()
    other[1] += 1
    after = loss_saved(other, b, x, importance)
    expect(
        isinstance(after, Tensor) and torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-6),
        "The weights of instance 1 changed, and with them what the features of instances 0 and 2 save.",
    )


@title("float64 stays float64")
def test_saved_dtype(loss_saved):
    got = loss_saved(*_some(1, 2, 3, 4))
    expect_dtype(got, torch.float64, what="the loss saved", given="a float64 model")


# --- marginal_value ----------------------------------------------------------------------------


def _slow_loss(capacity: float, worth: float, kurtosis: float) -> float:
    """The least loss of a feature at this capacity, by searching for the best squared length."""
    low, high = 0.0, 2 * abs(worth) + 1

    def loss(g: float) -> float:
        return (kurtosis - 1) * (worth - g) ** 2 + 2 * g**2 * (1 / capacity - 1)

    for _ in range(200):  # thirds: the loss is a parabola
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return loss((low + high) / 2)


def _known(got: Tensor, capacity: Tensor, worth: Tensor, kurtosis: float) -> str | None:
    """The known mistake that an answer looks like."""

    def g_over_c(k: float, two: float) -> Tensor:
        return worth * k / (k * capacity + two * (1 - capacity))

    k = kurtosis - 1
    loss = worth**2 * k * 2 * (1 - capacity) / (k * capacity + 2 * (1 - capacity))
    right = 2 * g_over_c(k, 2) ** 2
    looks = [
        ("length_held_fixed", 2 * worth**2 / capacity**2),
        ("negative", -right),
        ("loss_not_slope", loss),
        ("loss_not_slope", k * worth**2 - loss),
        ("kurtosis_not_reduced", 2 * g_over_c(kurtosis, 2) ** 2),
        ("two_lost", right / 2),
        ("two_lost", g_over_c(k, 1) ** 2),
        ("two_lost", 2 * g_over_c(k, 1) ** 2),
    ]
    return next((name for name, value in looks if _like(got, value)), None)


@title("Half a dimension, by hand")
def test_marginal_by_hand(marginal_value):
    C, worth = torch.full((1, 2), 0.5), torch.tensor([1.0, 3.0])
    given = "C = 0.5, worth 1 and 3, kurtosis 5"
    got = expect_tensor(marginal_value(C, worth, 5.0), what="the marginal value", given=given, shape=(1, 2))
    # the loss is 4 (v - g)^2 + 2 g^2, least at g = 2 v / 3; the slope there is 2 g^2 / C^2 = 32 v^2 / 9
    expect_close(
        got, torch.tensor([[32 / 9, 32.0]]), what="the marginal value", given=given, mistake=_known(got, C, worth, 5.0)
    )


@title("No capacity yet: the value is finite")
def test_marginal_at_zero(marginal_value):
    given = "C = 0, worth 1 and 2, kurtosis 4"
    got = marginal_value(torch.zeros(1, 2), torch.tensor([1.0, 2.0]), 4.0)
    _not_nan(got, given, "nan_at_zero")
    name = "nothing_at_zero" if isinstance(got, Tensor) and _like(got, torch.zeros(1, 2)) else None
    # the loss is 3 v^2 at C = 0 and falls by (kurtosis - 1)^2 v^2 / 2 for each C
    expect_close(got, torch.tensor([[4.5, 18.0]]), what="the marginal value", given=given, mistake=name)


@title("A whole dimension: 2 v², whatever the kurtosis")
@pytest.mark.parametrize("kurtosis", [1.5, 3.0, 20.0])
def test_marginal_at_one(marginal_value, kurtosis):
    got = marginal_value(torch.ones(2, 3), torch.tensor([1.0, 0.5, 2.0]), kurtosis)
    right = torch.tensor([2.0, 0.5, 8.0]).expand(2, -1)
    expect_close(got, right, what="the marginal value", given=f"C = 1, worth 1, 0.5 and 2, kurtosis {kurtosis:g}")


@title("At kurtosis 3 every bit of capacity saves the same")
def test_marginal_at_three(marginal_value):
    C = torch.tensor([[0.0, 0.3, 1.0]])
    given = "C = 0, 0.3 and 1, worth 1, kurtosis 3"
    expect_close(marginal_value(C, torch.ones(3), 3.0), torch.full((1, 3), 2.0), what="the marginal value", given=given)


@title("It is the slope of the least loss")
@pytest.mark.parametrize("kurtosis", [1.5, 4.0, 12.0])
def test_marginal_is_slope(marginal_value, kurtosis):
    C = torch.tensor([[0.1, 0.4, 0.8], [0.6, 0.2, 0.9]], dtype=torch.float64)
    worth = torch.tensor([1.0, 0.7, 1.6], dtype=torch.float64)
    step, right = 1e-4, torch.zeros_like(C)
    for i in range(2):
        for j in range(3):
            c, v = float(C[i, j]), float(worth[j])
            right[i, j] = (_slow_loss(c - step, v, kurtosis) - _slow_loss(c + step, v, kurtosis)) / (2 * step)
    given = f"several capacities and worths, kurtosis {kurtosis:g}"
    got = expect_tensor(marginal_value(C, worth, kurtosis), what="the marginal value", given=given, shape=(2, 3))
    expect_close(got, right, what="the marginal value", given=given, rtol=1e-4, mistake=_known(got, C, worth, kurtosis))


@title("float64 stays float64, and many instances are as good as one")
def test_marginal_dtype(marginal_value):
    C, worth = torch.rand(40, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    got = marginal_value(C, worth, 6.0)
    expect_dtype(got, torch.float64, what="the marginal value", given="float64 capacities")
    got = expect_tensor(got, what="the marginal value", given="40 instances", shape=(40, 3))
    expect_close(got[7:8], marginal_value(C[7:8], worth, 6.0), what="the row of instance 7", given="40 instances")
