"""Checkers of "The phase change": one fixture per exercise, named like it.

Expected values are worked by hand, found by slow sums or by bisection, or follow from an invariance; never from the
reference. Nothing here is random but the inputs, and every bound is one of rounding or of a fine sum: no false alarms.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from refract.checking.expect import expect, expect_close, expect_dtype, expect_tensor, expect_type, show
from refract.checking.marks import title

PROBABILITIES = torch.tensor([0.05, 0.3, 0.75, 1.0], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 0.2, 3.0, 7.0], dtype=torch.float64)

# --- expected_loss_dropped ---------------------------------------------------------------------


def _known_dropped(got: Tensor, p: Tensor, importance: Tensor) -> str | None:
    """Which of the section's mistakes gives these numbers."""
    wrong = {
        "no_bias": importance * p / 3,
        "bias_of_present": importance * (p / 3 - p / 2 + 0.25),
        "absent_forgotten": importance * p / 12,
        "importance_left_out": p / 3 - p**2 / 4,
    }
    return _named(got, wrong)


def _named(got: object, wrong: dict[str, Tensor]) -> str | None:
    if not isinstance(got, Tensor):
        return None
    for name, values in wrong.items():
        if got.shape == values.shape and torch.allclose(got.double(), values.double(), rtol=1e-4, atol=1e-7):
            return name
    return None


@title("Always present, importance 1: the variance of a uniform number, 1/12")
def test_dropped_dense(expected_loss_dropped):
    one = torch.ones(1, dtype=torch.float64)
    got = expected_loss_dropped(one, one.clone())  # a tensor each: a change of one is not a change of the other
    name = "no_bias" if _named(got, {"no_bias": one / 3}) else None
    expect_close(got, one / 12, what="the loss", given="p = 1 and importance 1", mistake=name)


@title("By hand: p = 0.4 and importance 2")
def test_dropped_by_hand(expected_loss_dropped):
    p, importance = torch.tensor([0.4], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    got = expected_loss_dropped(p, importance)
    # E x^2 = 2/15, E x = 1/5: 2 (2/15 - 1/25) = 14/75
    right = torch.tensor([14 / 75], dtype=torch.float64)
    name = _known_dropped(got, p, importance)
    expect_close(got, right, what="the loss", given="p = 0.4 and importance 2", mistake=name)


@title("No constant output does better, and one does as well")
def test_dropped_is_the_best_constant(expected_loss_dropped):
    constants = torch.linspace(0, 1, 2001, dtype=torch.float64)
    sizes = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    moments = (sizes.mean(), sizes.square().mean())
    got = expected_loss_dropped(PROBABILITIES, WEIGHTS)
    present = moments[1] - 2 * constants * moments[0] + constants**2
    loss = (1 - PROBABILITIES[:, None]) * constants**2 + PROBABILITIES[:, None] * present
    best = WEIGHTS * loss.min(dim=1).values
    name = _known_dropped(got, PROBABILITIES, WEIGHTS)
    given = f"p = {show(PROBABILITIES)} and importance {show(WEIGHTS)}"
    expect_close(got, best, what="the loss", given=given, rtol=1e-4, atol=1e-6, mistake=name)


@title("A feature that is never there costs nothing; twice the importance costs twice as much")
def test_dropped_limits(expected_loss_dropped):
    zero, one = torch.zeros(1), torch.ones(1)
    expect_close(expected_loss_dropped(zero, one), zero, what="the loss", given="p = 0")
    p = torch.tensor([0.4])
    once, twice = expected_loss_dropped(p, one), expected_loss_dropped(p, 2 * one)
    once = expect_tensor(once, what="the loss", given="p = 0.4")
    expect_close(twice, 2 * once, what="the loss", given="twice the importance", mistake=None)


@title("The arguments broadcast")
def test_dropped_broadcasts(expected_loss_dropped):
    p, importance = PROBABILITIES[:, None], WEIGHTS[None, :3]
    got = expected_loss_dropped(p, importance)
    given = "feature_probability of shape (4, 1) and importance of shape (1, 3)"
    expect_tensor(got, what="the loss", given=given, shape=(4, 3))
    right = torch.tensor([[float(w) * (float(q) / 3 - float(q) ** 2 / 4) for w in WEIGHTS[:3]] for q in PROBABILITIES])
    expect_close(got, right, what="the loss", given=given, rtol=1e-5)


@title("float64 stays float64")
def test_dropped_dtype(expected_loss_dropped):
    got = expected_loss_dropped(PROBABILITIES, WEIGHTS)
    expect_dtype(got, torch.float64, what="the loss", given="arguments in float64")


# --- expected_loss_antipodal -------------------------------------------------------------------


def _known_antipodal(got: object, p: Tensor, first: Tensor, second: Tensor) -> str | None:
    both = first + second
    wrong = {
        "presence_of_one": both * p / 6,
        "no_relu": both * p / 3,
        "one_feature_only": first * p**2 / 6,
        "mean_for_sum": both * p**2 / 12,
        "twice_too_much": both * p**2 / 3,
        "square_of_the_mean": both * p**2 / 9,
    }
    return _named(got, wrong) or _named(got, {"one_feature_only": second * p**2 / 6})


@title("Both always present: the mean of min(x, y)², which is 1/6, times the sum of the importances")
def test_antipodal_dense(expected_loss_antipodal):
    p, first, second = (torch.tensor([value], dtype=torch.float64) for value in (1.0, 1.0, 4.0))
    got = expected_loss_antipodal(p, first, second)
    # at p = 1 a missing ReLU and a missing square give the same number, so neither is named here
    known = {"square_of_the_mean": 5 * p / 9, "one_feature_only": p / 6, "mean_for_sum": 5 * p / 12}
    name = _named(got, known) or _named(got, {"one_feature_only": 4 * p / 6})
    expect_close(got, 5 * p / 6, what="the loss", given="p = 1 and importances 1 and 4", mistake=name)


@title("Both features count, each with its importance")
def test_antipodal_importances(expected_loss_antipodal):
    p, first, second = (torch.tensor([value], dtype=torch.float64) for value in (0.6, 2.0, 5.0))
    got = expected_loss_antipodal(p, first, second)
    # 0.36 * 7 / 6
    name = _known_antipodal(got, p, first, second)
    right = torch.tensor([0.42], dtype=torch.float64)
    expect_close(got, right, what="the loss", given="p = 0.6 and importances 2 and 5", mistake=name)


@title("It is what the model itself loses, summed over a fine grid of sizes")
def test_antipodal_is_the_models_loss(expected_loss_antipodal):
    sizes = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    x, y = sizes[:, None], sizes[None, :]
    zero = torch.zeros(1, 1, dtype=torch.float64)

    def error(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([(x - torch.relu(x - y)).square().mean(), (y - torch.relu(y - x)).square().mean()])

    both, first_alone, second_alone = error(x, y), error(x, zero), error(zero, y)
    for q, one, other in ((0.05, 1.0, 0.2), (0.3, 3.0, 1.0), (1.0, 1.0, 7.0)):
        weights = torch.tensor([one, other], dtype=torch.float64)
        alone = q * (1 - q) * (first_alone + second_alone)
        right = (weights * (q * q * both + alone)).sum()[None]
        p, first, second = (torch.tensor([value], dtype=torch.float64) for value in (q, one, other))
        got = expected_loss_antipodal(p, first, second)
        name = _known_antipodal(got, p, first, second)
        given = f"p = {q} and importances {one:g} and {other:g}"
        expect_close(got, right, what="the loss", given=given, rtol=1e-3, mistake=name)


@title("Half as dense: a quarter of the loss, for both must be there")
def test_antipodal_falls_with_the_square(expected_loss_antipodal):
    one = torch.ones(1, dtype=torch.float64)
    dense = expect_tensor(expected_loss_antipodal(0.8 * one, one, one.clone()), what="the loss", given="p = 0.8")
    got = expected_loss_antipodal(0.4 * one, one, one.clone())
    name = _named(got, {"presence_of_one": dense / 2})
    expect_close(got, dense / 4, what="the loss", given="p = 0.4, not 0.8", mistake=name)


@title("Which of the two comes first makes no difference")
def test_antipodal_is_symmetric(expected_loss_antipodal):
    p, one, five = torch.tensor([0.3]), torch.tensor([1.0]), torch.tensor([5.0])
    swapped = expect_tensor(expected_loss_antipodal(p, five, one), what="the loss")
    got = expected_loss_antipodal(p, one, five)
    name = _known_antipodal(got, p, one, five)
    expect_close(got, swapped, what="the loss", given="importances 1 and 5, not 5 and 1", mistake=name)


@title("The arguments broadcast")
def test_antipodal_broadcasts(expected_loss_antipodal):
    one = torch.ones(1, 1, dtype=torch.float64)
    got = expected_loss_antipodal(PROBABILITIES[:, None], one, WEIGHTS[None, :3])
    given = "p of shape (4, 1) and the last importance of shape (1, 3)"
    expect_tensor(got, what="the loss", given=given, shape=(4, 3))
    right = torch.tensor([[(1 + float(w)) * float(q) * float(q) / 6 for w in WEIGHTS[:3]] for q in PROBABILITIES])
    expect_close(got, right, what="the loss", given=given, rtol=1e-5)


@title("float64 stays float64")
def test_antipodal_dtype(expected_loss_antipodal):
    got = expected_loss_antipodal(PROBABILITIES, WEIGHTS, WEIGHTS.flip(0))
    expect_dtype(got, torch.float64, what="the loss", given="arguments in float64")


# --- phase_boundary ----------------------------------------------------------------------------


def _known_boundary(got: object, r: Tensor) -> str | None:
    against_second, against_first = 4 * r / (2 + 5 * r), 4 / (5 + 2 * r)
    wrong = {
        "one_rival": against_second,
        "either_rival": torch.maximum(against_second, against_first),
        "no_bias": torch.minimum(2 * r / (1 + r), 2 / (1 + r)),
    }
    return _named(got, wrong) or _named(got, {"one_rival": against_first})


@title("Equal importance: 4/7")
def test_boundary_equal(phase_boundary):
    one = torch.ones(1, dtype=torch.float64)
    got = phase_boundary(one)
    name = "no_bias" if _named(got, {"no_bias": one}) else None
    expect_close(got, 4 * one / 7, what="the boundary", given="equal importance", mistake=name)


@title("By hand: half, and twice as important")
def test_boundary_by_hand(phase_boundary):
    r = torch.tensor([0.5, 2.0], dtype=torch.float64)
    got = phase_boundary(r)
    # half: 2 / 4.5; twice: 4 / 9
    right = torch.tensor([4 / 9, 4 / 9], dtype=torch.float64)
    given = "relative importance 0.5 and 2"
    expect_close(got, right, what="the boundary", given=given, mistake=_known_boundary(got, r))


def _by_bisection(r: float) -> float:
    """Where an antipodal pair and the better of the other two lose the same, by halving an interval."""

    def gain(p: float) -> float:
        variance = p / 3 - p * p / 4
        return min(r, 1.0) * variance - (1 + r) * p * p / 6

    low, high = 1e-9, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if gain(middle) > 0 else (low, middle)
    return low


@title("The pair and its better rival lose the same there")
def test_boundary_is_the_crossing(phase_boundary):
    r = torch.tensor([0.1, 0.3, 0.7, 1.5, 4.0, 10.0], dtype=torch.float64)
    right = torch.tensor([_by_bisection(float(value)) for value in r], dtype=torch.float64)
    got = phase_boundary(r)
    name = _known_boundary(got, r)
    given = f"relative importance {show(r)}"
    expect_close(got, right, what="the boundary", given=given, rtol=1e-5, mistake=name)


@title("Exchanging the features changes nothing: r and 1/r have the same boundary")
def test_boundary_is_symmetric(phase_boundary):
    r = torch.tensor([0.2, 0.5, 3.0], dtype=torch.float64)
    mirrored = expect_tensor(phase_boundary(1 / r), what="the boundary", shape=(3,))
    got = phase_boundary(r)
    name = _known_boundary(got, r)
    given = "relative importance r, not 1/r"
    expect_close(got, mirrored, what="the boundary", given=given, rtol=1e-6, mistake=name)


@title("A feature of hardly any importance is stored only if it is very rare")
def test_boundary_small(phase_boundary):
    r = torch.tensor([1e-4], dtype=torch.float64)
    expect_close(phase_boundary(r), 2 * r, what="the boundary", given="relative importance 0.0001", rtol=1e-3)


@title("One boundary for each importance, in their dtype")
@pytest.mark.parametrize("size", [1, 3, 17])
def test_boundary_shape(phase_boundary, size):
    r = torch.linspace(0.1, 10, size, dtype=torch.float64)
    got = phase_boundary(r)
    expect_tensor(got, what="the boundary", given=f"relative importance of shape ({size},)", shape=(size,))
    expect_dtype(got, torch.float64, what="the boundary", given="relative_importance in float64")


# --- exact_batch -------------------------------------------------------------------------------

HALF = torch.tensor([0.5], dtype=torch.float64)


def _batch(answer: Any, p: Tensor, n_features: int, n_nodes: int) -> tuple[Tensor, Tensor]:
    """The two parts of an answer, of the shapes that are due."""
    given = f"n_features = {n_features}, n_nodes = {n_nodes} and {len(p)} instance{'' if len(p) == 1 else 's'}"
    expect_type(answer, (tuple, list), what="the result", given=given)
    expect(len(answer) == 2, f"The result should be two tensors, the batch and the weights; it holds {len(answer)}.")
    rows = (n_nodes + 1) ** n_features
    x, weight = answer
    x = expect_tensor(x, what="the batch", given=given)
    if n_features > 1 and x.ndim == 2 and x.shape[0] < rows:
        came = x.shape[0]
        names = {n_nodes**n_features: "absent_left_out", n_nodes + 1: "combinations_missing"}
        names[n_features * (n_nodes + 1)] = names[n_nodes + 1]
        text = f"there are {n_nodes + 1} values for each feature, so {rows} combinations; the batch has {came}"
        expect(False, f"For {given} {text} row{'' if came == 1 else 's'}.", mistake=names.get(came))
    x = expect_tensor(x, what="the batch", given=given, shape=(rows, n_features))
    return x.double(), expect_tensor(weight, what="the weights", given=given, shape=(len(p), rows)).double()


def _mean(answer: object, p: Tensor, n_features: int, n_nodes: int, f) -> Tensor:
    x, weight = _batch(answer, p, n_features, n_nodes)
    return (weight * f(x)).sum(dim=-1)


@title("The batch holds each combination once, and its weights have a row for each instance")
@pytest.mark.parametrize("sizes", [(1, 2), (1, 6), (2, 4), (3, 2)])
def test_exact_shapes(exact_batch, sizes):
    n_features, n_nodes = sizes
    p = torch.tensor([0.2, 0.9], dtype=torch.float64)
    x, _ = _batch(exact_batch(p, n_features, n_nodes), p, n_features, n_nodes)
    different = len(x.unique(dim=0))
    expect(different == len(x), f"Of the {len(x)} rows only {different} are different.")


@title("Sizes lie between 0 and 1, and absent is one of them")
def test_exact_range(exact_batch):
    x, _ = _batch(exact_batch(HALF, 2, 4), HALF, 2, 4)
    low, high = float(x.min()), float(x.max())
    expect(low >= 0, f"A size cannot be negative; the smallest is {low:.3f}.", mistake="nodes_not_moved")
    expect(high <= 1, f"A size cannot exceed 1; the largest is {high:.3f}.")
    none = int((x == 0).all(dim=1).sum())
    name = None if none else "absent_left_out"
    expect(none == 1, f"One row should have no feature at all; {none} have.", mistake=name)


@title("The weights of an instance sum to 1")
def test_exact_weights_sum(exact_batch):
    p = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    for n_features in (1, 2):
        total = _mean(exact_batch(p, n_features, 5), p, n_features, 5, lambda x: torch.ones(len(x)).double())
        wrong = {
            "weights_not_halved": (1 + p) ** n_features,
            # each value of a feature comes 6 ** (n_features - 1) times, and the weights of its values sum to 1
            "weights_added": torch.full_like(p, n_features * 6 ** (n_features - 1)),
        }
        given = f"p = {show(p)} and {n_features} feature{'' if n_features == 1 else 's'}"
        name = _named(total, wrong)
        expect_close(total, torch.ones(3), what="the sum of the weights", given=given, mistake=name)


@title("No feature is present with probability (1 - p)²")
def test_exact_nothing(exact_batch):
    p = torch.tensor([0.2, 0.9], dtype=torch.float64)
    got = _mean(exact_batch(p, 2, 3), p, 2, 3, lambda x: (x == 0).all(dim=1).double())
    upside_down = torch.allclose(got, p**2)
    expect_close(
        got,
        (1 - p) ** 2,
        what="the weight of the row without features",
        given=f"p = {show(p)}",
        mistake="absent_with_p" if upside_down else None,
    )


@title("Means: p/2 for a size, p/3 for its square, p²/4 for a product of two")
def test_exact_moments(exact_batch):
    p = torch.tensor([0.1, 0.6, 1.0], dtype=torch.float64)
    answer = exact_batch(p, 2, 4)
    given = f"p = {show(p)}"
    for feature in (0, 1):
        mean = _mean(answer, p, 2, 4, lambda x, f=feature: x[:, f])
        expect_close(mean, p / 2, what=f"the mean of feature {feature}", given=given)
        square = _mean(answer, p, 2, 4, lambda x, f=feature: x[:, f] ** 2)
        expect_close(square, p / 3, what=f"the mean square of feature {feature}", given=given)
    product = _mean(answer, p, 2, 4, lambda x: x[:, 0] * x[:, 1])
    together = torch.allclose(product, p / 4) or torch.allclose(product, p / 3)
    expect_close(
        product,
        p**2 / 4,
        what="the mean product of the two",
        given=given,
        mistake="features_together" if together else None,
    )


@title("Polynomials are integrated exactly, up to degree 2 n_nodes - 1")
@pytest.mark.parametrize("n_nodes", [1, 2, 6])
def test_exact_polynomials(exact_batch, n_nodes):
    answer = exact_batch(HALF, 1, n_nodes)
    for degree in range(1, 2 * n_nodes):
        got = _mean(answer, HALF, 1, n_nodes, lambda x, d=degree: x[:, 0] ** d)
        expect_close(
            got,
            HALF / (degree + 1),
            what=f"the mean of x to the power {degree}",
            given=f"p = 0.5 and n_nodes = {n_nodes}",
            rtol=1e-5,
        )


@title("Three features: all present with probability p³")
def test_exact_three(exact_batch):
    p = torch.tensor([0.3, 0.8], dtype=torch.float64)
    answer = exact_batch(p, 3, 2)
    got = _mean(answer, p, 3, 2, lambda x: (x > 0).all(dim=1).double())
    expect_close(got, p**3, what="the weight of the rows with all three", given=f"p = {show(p)}")
    got = _mean(answer, p, 3, 2, lambda x: x[:, 0] * x[:, 1] * x[:, 2] ** 2)
    expect_close(got, p**3 / 12, what="the mean of x y z²", given=f"p = {show(p)}")


@title("dtype follows feature_probability")
def test_exact_dtype(exact_batch):
    for dtype in (torch.float32, torch.float64):
        p = torch.tensor([0.3], dtype=dtype)
        answer = exact_batch(p, 2, 3)
        _batch(answer, p, 2, 3)
        for what, tensor in zip(("the batch", "the weights"), answer, strict=True):
            expect_dtype(tensor, dtype, what=what, given=f"feature_probability in {str(dtype).removeprefix('torch.')}")


# --- blind_direction ---------------------------------------------------------------------------


def _aligned(got: object, right: Tensor, given: str, name: str | None = None) -> None:
    """A line has two unit vectors; either is right."""
    got = expect_tensor(got, what="the direction", given=given, shape=right.shape)
    same = (got.double() * right.double()).sum(dim=-1, keepdim=True)
    expect_close(torch.where(same < 0, -got, got), right, what="the direction", given=given, atol=1e-5, mistake=name)


def _known_direction(got: object, W: Tensor) -> str | None:
    if not isinstance(got, Tensor) or got.shape != W[:, 0].shape:
        return None
    d, W = got.double(), W.double()
    if not bool(torch.isfinite(d).all()):
        return None
    length = d.norm(dim=1)
    if bool((length < 1e-6).any()):
        return None
    if torch.einsum("ihf,if->ih", W, d).abs().amax() < 1e-5:
        return "not_unit" if bool(((length - 1).abs() > 1e-3).any()) else None
    projected = torch.linalg.pinv(W) @ (W @ d[:, :, None])
    if torch.allclose(projected[:, :, 0], d, atol=1e-5):
        return "direction_seen"
    V = torch.linalg.svd(W, full_matrices=True).Vh.abs()  # signs are free, row by row
    if torch.allclose(d.abs(), V[:, -1], atol=1e-5):
        return "signs_lost"
    # of two features, row and column differ in signs at most
    return "column_for_row" if d.shape[1] > 2 and torch.allclose(d.abs(), V[:, :, -1], atol=1e-5) else None


@title("One hidden unit that reads the first feature is blind to the second")
def test_blind_axes(blind_direction):
    W = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    got = blind_direction(W)
    right = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    _aligned(got, right, "W = [1, 0] and W = [0, 2]", _known_direction(got, W))


@title("An antipodal pair is blind to both together: W = [1, -1] gives [1, 1] / √2")
def test_blind_pair(blind_direction):
    W = torch.tensor([[[1.0, -1.0]]])
    got = blind_direction(W)
    right = torch.full((1, 2), 0.5**0.5)
    _aligned(got, right, "W = [1, -1]", _known_direction(got, W))


@title("Unequal columns: W = [3, -4] gives [4, 3] / 5")
def test_blind_unequal(blind_direction):
    W = torch.tensor([[[3.0, -4.0]]])
    got = blind_direction(W)
    _aligned(got, torch.tensor([[0.8, 0.6]]), "W = [3, -4]", _known_direction(got, W))


@title("Three features in two hidden units: the direction across both rows")
def test_blind_cross(blind_direction):
    W = torch.randn(5, 2, 3, dtype=torch.float64)
    u, v = W[:, 0], W[:, 1]
    cross = torch.stack(
        [
            u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1],
            u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2],
            u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0],
        ],
        dim=1,
    )
    right = cross / cross.square().sum(dim=1, keepdim=True).sqrt()
    got = blind_direction(W)
    _aligned(got, right, "random W of shape (5, 2, 3)", _known_direction(got, W))


@title("The hidden layer sees nothing of it, and its length is 1")
@pytest.mark.parametrize("features", [2, 3, 4, 6])
def test_blind_unseen(blind_direction, features):
    W = torch.randn(4, features - 1, features, dtype=torch.float64)
    given = f"random W of shape (4, {features - 1}, {features})"
    got = expect_tensor(blind_direction(W), what="the direction", given=given, shape=(4, features)).double()
    hidden = torch.einsum("ihf,if->ih", W, got)
    expect(
        bool(hidden.abs().max() < 1e-6),
        f"W d should be 0; for {given} it reaches {hidden.abs().max():.3f}.",
        mistake=_known_direction(got, W),
    )
    length = got.norm(dim=1)
    name = "not_unit" if bool((length > 1e-6).all()) else None
    expect_close(length, torch.ones(4), what="the length", given=given, mistake=name)


@title("Scale and rotation of the hidden layer change nothing, nor do the other instances")
def test_blind_invariance(blind_direction):
    W = torch.randn(3, 2, 3, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
    first = expect_tensor(blind_direction(W), what="the direction", shape=(3, 3))
    _aligned(blind_direction(rotation @ W * 1e-3), first, "W rotated and a thousand times smaller")
    alone = torch.cat([expect_tensor(blind_direction(W[[i]]), what="the direction", shape=(1, 3)) for i in range(3)])
    _aligned(alone, first, "one instance at a time")


@title("float64 stays float64")
def test_blind_dtype(blind_direction):
    W = torch.randn(2, 1, 2, dtype=torch.float64)
    expect_dtype(blind_direction(W), torch.float64, what="the direction", given="W in float64")


# --- empirical_phase_diagram -------------------------------------------------------------------

DENSITY = torch.tensor([1.0, 0.25, 0.04])
RATIO = torch.tensor([0.5, 3.0])


class _Trainer:
    """In place of training: writes into ``W`` what each instance was given, and losses in no order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.models = 0

    def __call__(self, feature_probability: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
        expect_tensor(feature_probability, what="feature_probability", given="the call of train")
        instances = feature_probability.numel()
        expect(
            feature_probability.ndim == 1,
            f"train should get feature_probability of shape (instance,); it got {tuple(feature_probability.shape)}.",
        )
        expect_tensor(importance, what="importance", given="the call of train")
        expect(
            importance.ndim == 2 and len(importance) == instances,
            f"train should get importance of shape (instance, feature), with {instances} instances as in "
            f"feature_probability; it got {tuple(importance.shape)}.",
        )
        self.calls.append((feature_probability.clone(), importance.clone()))
        number = self.models + torch.arange(instances, dtype=torch.float32)
        self.models += instances
        loss = (number * 0.37 + 0.11).frac() + 0.001 * len(self.calls)  # no order
        W = torch.zeros(instances, 2, importance.shape[1])
        W[:, 0, 0], W[:, 0, 1] = feature_probability.float(), importance[:, -1].float()
        W[:, 1, 0], W[:, 1, 1] = loss, number
        return W, loss


def _diagram(answer: Any, shape: tuple[int, int, int], n_features: int) -> tuple[Tensor, Tensor]:
    rows, columns, runs = shape
    given = f"{rows} densities, {columns} importances, {n_features} features and {runs} run{'' if runs == 1 else 's'}"
    expect_type(answer, (tuple, list), what="the result", given=given)
    expect(len(answer) == 2, f"The result should be two tensors, the weights and the losses; it holds {len(answer)}.")
    W = expect_tensor(answer[0], what="the weights", given=given, shape=(*shape, 2, n_features))
    return W, expect_tensor(answer[1], what="the losses", given=given, shape=shape)


@title("train is called once, with all models")
def test_diagram_one_call(empirical_phase_diagram):
    train = _Trainer()
    empirical_phase_diagram(DENSITY, RATIO, 2, 4, train)
    calls = len(train.calls)
    expect(calls > 0, "train was never called.")
    expect(calls == 1, f"train was called {calls} times.", mistake="many_calls")
    instances = len(train.calls[0][0])
    expect(instances == 24, f"3 × 2 cells of 4 runs are 24 models; train was given {instances}.")


@title("Only the last feature has the relative importance; the others have 1")
@pytest.mark.parametrize("n_features", [2, 3])
def test_diagram_importance(empirical_phase_diagram, n_features):
    train = _Trainer()
    empirical_phase_diagram(DENSITY, RATIO, n_features, 4, train)
    expect(len(train.calls) > 0, "train was never called.")
    importance = torch.cat([call[1] for call in train.calls])
    expect(
        importance.shape[1] == n_features,
        f"train should get an importance for each of {n_features} features; it got {importance.shape[1]}.",
    )
    ones = (importance == 1).all(dim=0)
    first = bool(ones[1:].all()) and not bool(ones[0])
    everywhere = not bool(ones.any())
    name = "first_feature_varied" if first else "all_features_varied" if everywhere else None
    expect(
        bool(ones[:-1].all()),
        f"All features but the last should have importance 1; the first model was given {show(importance[0])}.",
        mistake=name,
    )
    different = importance[:, -1].unique()
    expect_close(
        different, RATIO, what="the importances of the last feature", given=f"relative_importance {show(RATIO)}"
    )


def _scattered(W: Tensor, loss: Tensor) -> str | None:
    """How models of different densities or importances came into one cell."""
    p, r = W[..., 0, 0], W[..., 0, 1]
    if bool((p == p[..., :1]).all()) and bool((r == r[..., :1]).all()):
        return None
    if _sorted_together(loss):
        return "all_sorted_together"
    cells, runs = loss.shape[0] * loss.shape[1], loss.shape[2]
    number = W[..., 1, 1].reshape(cells, runs).sort(dim=1).values
    every = torch.arange(cells * runs, dtype=number.dtype)
    side_by_side, strided = every.view(cells, runs), every.view(runs, cells).T
    return "runs_scattered" if torch.equal(number, side_by_side) or torch.equal(number, strided) else None


def _sorted_together(loss: Tensor) -> bool:
    """Whether one order runs through all cells: the losses that the trainer gives have none."""
    steps = loss.flatten().diff()
    return bool((steps >= 0).all()) or bool((steps <= 0).all())


@title("Each cell holds models of its own density and importance")
@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 2, 2), (1, 3, 2), (3, 1, 3)])
def test_diagram_cells(empirical_phase_diagram, shape):
    rows, columns, runs = shape
    density, ratio = torch.linspace(1, 0.1, rows), torch.linspace(0.2, 5, columns)
    W, loss = _diagram(empirical_phase_diagram(density, ratio, 3, runs, _Trainer()), shape, 3)
    p, r = W[..., 0, 0], W[..., 0, 1]
    right_p = density[:, None, None].expand(shape)
    right_r = ratio[None, :, None].expand(shape)
    swapped = rows == columns and torch.equal(p, right_p.transpose(0, 1)) and torch.equal(r, right_r.transpose(0, 1))
    name = "axes_swapped" if swapped else _scattered(W, loss)
    given = f"{rows} densities, {columns} importances and {runs} runs"
    expect_close(p, right_p, what="the density of the models in each cell", given=given, mistake=name)
    expect_close(r, right_r, what="the importance of the models in each cell", given=given, mistake=name)


@title("The best run of each cell comes first")
def test_diagram_sorted(empirical_phase_diagram):
    _, loss = _diagram(empirical_phase_diagram(DENSITY, RATIO, 2, 5, _Trainer()), (3, 2, 5), 2)
    steps = loss.diff(dim=-1)
    order = "worst_first" if bool((steps <= 0).all()) else "not_sorted"
    name = "all_sorted_together" if _sorted_together(loss) else order
    expect(
        bool((steps >= 0).all()),
        f"A cell's losses should rise from the best run to the worst; in the first cell they are {show(loss[0, 0])}.",
        mistake=name,
    )


@title("Each model keeps its own loss")
def test_diagram_weights_follow(empirical_phase_diagram):
    W, loss = _diagram(empirical_phase_diagram(DENSITY, RATIO, 2, 5, _Trainer()), (3, 2, 5), 2)
    own = W[..., 1, 0]
    came = own.flatten().sort().values
    wanted = loss.flatten().sort().values
    expect(torch.allclose(came, wanted), "The weights are not those of the models whose losses you return.")
    expect(
        torch.allclose(own, loss),
        f"In the first cell the losses are {show(loss[0, 0])}, but the weights are those of models with the losses "
        f"{show(own[0, 0])}.",
        mistake="weights_left_behind",
    )


@title("No model is lost, and none comes twice")
def test_diagram_all_models(empirical_phase_diagram):
    W, _ = _diagram(empirical_phase_diagram(DENSITY, RATIO, 2, 4, _Trainer()), (3, 2, 4), 2)
    different = len(W[..., 1, 1].unique())
    expect(different == 24, f"24 models were trained; {different} different ones came back.")


@title("A single run is a diagram, too")
def test_diagram_one_run(empirical_phase_diagram):
    W, loss = _diagram(empirical_phase_diagram(DENSITY, RATIO, 2, 1, _Trainer()), (3, 2, 1), 2)
    expect_close(W[..., 0, 0, 0], DENSITY[:, None].expand(3, 2), what="the density of each cell", given="one run")
    expect_close(loss[..., 0], W[..., 0, 1, 0], what="the loss of each cell", given="one run")


@title("float64 reaches train as float64")
def test_diagram_dtype(empirical_phase_diagram):
    train = _Trainer()
    empirical_phase_diagram(DENSITY.double(), RATIO.double(), 2, 2, train)
    expect(len(train.calls) > 0, "train was never called.")
    for name, tensor in zip(("feature_probability", "importance"), train.calls[0], strict=True):
        expect_dtype(tensor, torch.float64, what=name, given="density and relative_importance in float64")
    exact = math.isclose(float(train.calls[0][0].min()), float(DENSITY.min()), rel_tol=1e-7)
    expect(exact, "The densities that train was given are not those of the grid.")
