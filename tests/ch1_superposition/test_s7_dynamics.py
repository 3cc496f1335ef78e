"""Checkers of "Dynamics, stability and attack": one fixture per exercise, named like it.

Expected values are worked by hand, by slow loops, by a search, or follow from an invariance; never from the reference.
Statistical bounds are at least six standard errors wide: a false alarm has a probability below 1e-8 a check.
"""

import math

import pytest
import torch
from torch import Tensor

from refract.checking.expect import count, expect, expect_close, expect_dtype, expect_tensor, expect_type, show
from refract.checking.marks import mistake, title

# --- level_hops --------------------------------------------------------------------------------


def _one(values: list[float]) -> Tensor:
    """A history of one feature in one instance."""
    return torch.tensor(values)[:, None, None]


def _arrivals(answer: object, D: Tensor, levels: list[float], given: str, **options: float) -> list[int]:
    """The snapshots that an answer marks, for one feature."""
    marked = expect_tensor(answer(D, levels, **options), what="the hops", given=given, shape=D.shape, dtype=torch.bool)  # type: ignore[operator]
    return marked[:, 0, 0].nonzero().flatten().tolist()


@title("An arrival that stays is marked once, where it begins")
def test_hops_arrival(level_hops):
    D = _one([0.2, 0.3, 0.4, 0.5, 0.5, 0.51, 0.5, 0.49, 0.5])
    given = "D = 0.2, 0.3, 0.4, 0.5, 0.5, 0.51, 0.5, 0.49, 0.5, levels [0.5], hold = 3"
    got = _arrivals(level_hops, D, [0.5], given, hold=3)
    name = "every_snapshot" if len(got) > 1 and set(got) <= set(range(3, 9)) else None
    expect(got == [3], f"The feature arrives at snapshot 3; marked were {got}, for {given}.", mistake=name)


@title("A feature that only passes through has not arrived")
def test_hops_pass_through(level_hops):
    D = _one([0.2, 0.5, 0.5, 0.8, 0.8, 0.8, 0.8])
    given = "D = 0.2, 0.5, 0.5, 0.8, 0.8, …, levels [0.5], hold = 3"
    got = _arrivals(level_hops, D, [0.5], given, hold=3)
    message = f"Nothing stays at 1/2 for three snapshots; marked were {got}, for {given}."
    expect(got == [], message, mistake="no_hold" if got == [1] else None)


@title("Nothing is marked at snapshot 0")
def test_hops_start(level_hops):
    D = _one([0.5] * 6)
    got = _arrivals(level_hops, D, [0.5], "D = 0.5 throughout", hold=2)
    message = f"A feature that was on its level from the start did not arrive; marked were {got}."
    expect(got == [], message, mistake="start_counts" if got == [0] else None)


@title("From one level straight to another is an arrival")
def test_hops_between_levels(level_hops):
    D = _one([0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5])
    given = "D = 0, 0, 0, 0.5, 0.5, …, levels [0, 0.5], hold = 2"
    got = _arrivals(level_hops, D, [0.0, 0.5], given, hold=2)
    other_way = _arrivals(level_hops, D, [0.5, 0.0], "the same, levels [0.5, 0]", hold=2)
    name = "levels_joined" if got == [] and other_way == [] else None
    message = f"The feature arrives at 1/2 at snapshot 3; marked were {got}, for {given}."
    expect(got == [3], message, mistake=name)
    expect(other_way == [3], f"With levels [0.5, 0] the marks should be the same; they are {other_way}.")


@title("Flipping between two levels is no stay")
def test_hops_flipping(level_hops):
    D = _one([0.2, 0.4, 0.5, 0.4, 0.5, 0.4, 0.5, 0.2, 0.2, 0.2])
    given = "D = 0.2, 0.4, 0.5, 0.4, 0.5, 0.4, 0.5, 0.2, 0.2, 0.2, levels [0.4, 0.5], hold = 3"
    got = _arrivals(level_hops, D, [0.4, 0.5], given, hold=3)
    expect(got == [], f"No level is held for three snapshots; marked were {got}, for {given}.")


@title("Near the end, an arrival counts if `hold` snapshots are left, and else not")
def test_hops_end(level_hops):
    given = "hold = 3, levels [0.5]"
    late = _arrivals(level_hops, _one([0.1, 0.1, 0.1, 0.5, 0.5]), [0.5], given, hold=3)
    message = (
        f"With two snapshots left nobody knows whether it stays; marked were {late}, "
        f"for D = 0.1, 0.1, 0.1, 0.5, 0.5 and {given}."
    )
    expect(late == [], message, mistake="runs_off_the_end" if late == [3] else None)
    just = _arrivals(level_hops, _one([0.1, 0.1, 0.5, 0.5, 0.5]), [0.5], given, hold=3)
    expect(just == [2], f"The last three snapshots are at 1/2: an arrival at 2. Marked were {just}, for {given}.")
    short = _arrivals(level_hops, _one([0.1, 0.5]), [0.5], given, hold=3)
    expect(short == [], f"With fewer than `hold` snapshots there are no arrivals; marked were {short}.")


@title("A feature that leaves and comes back arrives twice")
def test_hops_twice(level_hops):
    D = _one([0.1, 0.5, 0.5, 0.1, 0.5, 0.5, 0.5])
    got = _arrivals(level_hops, D, [0.5], "D that leaves 1/2 and comes back", hold=2)
    expect(got == [1, 4], f"Arrivals at 1 and 4 were expected; marked were {got}.")


@title("`slack` and `hold` are used, and have their defaults")
def test_hops_options(level_hops):
    D = _one([0.2, 0.45, 0.45, 0.45, 0.45, 0.45, 0.45])
    expect(_arrivals(level_hops, D, [0.5], "0.45, slack 0.02", slack=0.02, hold=3) == [], "0.45 is not near 0.5.")
    wide = _arrivals(level_hops, D, [0.5], "0.45, slack 0.1", slack=0.1, hold=3)
    expect(wide == [1], f"With slack = 0.1, 0.45 is near 0.5: an arrival at 1. Marked were {wide}.")
    five = _arrivals(level_hops, _one([0.2] + [0.515] * 5), [0.5], "five snapshots at 0.515")
    expect(five == [1], "By default five snapshots are enough, and 0.515 is near.")
    four = _arrivals(level_hops, _one([0.2] + [0.515] * 4), [0.5], "four snapshots at 0.515")
    expect(four == [], "By default four snapshots are not enough.")


def _slow_hops(D: Tensor, levels: list[float], slack: float, hold: int) -> Tensor:
    hops = torch.zeros(D.shape, dtype=torch.bool)
    snapshots, instances, features = D.shape
    for n in range(instances):
        for i in range(features):
            line = D[:, n, i].tolist()
            for level in levels:
                near = [abs(value - level) <= slack for value in line]
                for t in range(1, snapshots):
                    stays = t + hold <= snapshots and all(near[t : t + hold])
                    if stays and not near[t - 1]:
                        hops[t, n, i] = True
    return hops


@title("Right for random walks of many features and instances")
@pytest.mark.parametrize("hold", [1, 2, 4])
def test_hops_random(level_hops, hold):
    walk = (torch.rand(40, 3, 4, dtype=torch.float64) - 0.5).cumsum(dim=0).mul(4).round() / 10
    levels = [0.0, 0.5, 0.7]
    got = expect_tensor(
        level_hops(walk, levels, slack=0.12, hold=hold), what="the hops", given=f"a random walk, hold = {hold}",
        shape=walk.shape, dtype=torch.bool,
    )  # fmt: skip
    wrong = (got.cpu() != _slow_hops(walk, levels, 0.12, hold)).nonzero().tolist()
    message = (
        f"For a random walk with hold = {hold}, these entries (snapshot, instance, feature) are wrong: {wrong[:5]}."
    )
    expect(not wrong, message)


# --- shift_test --------------------------------------------------------------------------------


def _slow_correlation(first: list[float], second: list[float]) -> float:
    count = len(first)
    a, b = [v - sum(first) / count for v in first], [v - sum(second) / count for v in second]
    scale = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
    return 0.0 if scale == 0 else sum(v * w for v, w in zip(a, b, strict=True)) / scale


def _slow_shift(moves: Tensor, falls: Tensor) -> tuple[Tensor, float]:
    count, instances = moves.shape
    found = []
    for s in range(count):
        each = [
            _slow_correlation([float(moves[(t - s) % count, n]) for t in range(count)], falls[:, n].tolist())
            for n in range(instances)
        ]
        found.append(sum(each) / instances)
    return torch.tensor(found), sum(value >= found[0] - 1e-12 for value in found) / count


def _pair(got: object, count: int, given: str) -> tuple[Tensor, float]:
    """What came: the correlations and the p-value."""
    both = expect_type(got, tuple, what="the result", given=given)
    expect(len(both) == 2, f"Return two things, the correlations and the p-value; {len(both)} came.")
    value = both[1].item() if isinstance(both[1], Tensor) and both[1].ndim == 0 else both[1]
    p = float(expect_type(value, (float, int), what="the p-value", given=given))
    return expect_tensor(both[0], what="the correlations", given=given, shape=(count,), finite=False), p


@title("A peak that comes at the same time, by hand")
def test_shift_by_hand(shift_test):
    moves = torch.tensor([[0.0], [0.0], [1.0], [0.0]])
    given = "moves = falls = 0, 0, 1, 0"
    correlation, p = _pair(shift_test(moves, moves.clone()), 4, given)
    # at shift 0 they are one and the same: 1; at any other the two peaks miss each other: -1/3
    expect_close(correlation, torch.tensor([1.0, -1 / 3, -1 / 3, -1 / 3]), what="the correlations", given=given)
    name = "p_can_be_zero" if p < 0.01 or abs(p) < 1e-9 else None
    message = f"One of four shifts does as well as shift 0 (itself): p = 0.25. It is {p:.4g}, for {given}."
    expect(abs(p - 0.25) < 1e-6, message, mistake=name)


@title("The shift moves the first series, later by one each time")
def test_shift_direction(shift_test):
    moves, falls = torch.tensor([[1.0], [0], [0], [0], [0]]), torch.tensor([[3.0], [1], [10], [2], [0]])
    given = "moves = 1, 0, 0, 0, 0 and falls = 3, 1, 10, 2, 0"
    correlation, p = _pair(shift_test(moves, falls), 5, given)
    # Shift s brings the peak to interval s: what is left of the sum is the s-th fall above the mean of all, 3.2. No
    # two are alike, so that rounding decides nothing.
    above = torch.tensor([-0.2, -2.2, 6.8, -1.2, -3.2])
    right = above / math.sqrt(0.8 * 62.8)
    expect_close(correlation, right, what="the correlations", given=given)
    message = f"Shifts 0 and 2 do at least as well as shift 0: p = 2/5. It is {p:.4g}, for {given}."
    expect(abs(p - 0.4) < 1e-6, message)


@title("What does worse than all others is not significant")
def test_shift_one_sided(shift_test):
    line = torch.tensor([[0.0], [1], [5], [2], [0], [1]])
    _, p = _pair(shift_test(line, -line), 6, "falls = -moves")
    # shift 0 has a correlation of -1, and no other one is as large in size: two-sided, p would be 1/6
    _, high = _pair(shift_test(line, line.clone()), 6, "falls = moves")
    both_low = abs(p - 1 / 6) < 1e-6 and abs(high - 1 / 6) < 1e-6
    message = f"With falls = -moves, shift 0 has the lowest correlation of all: p = 1. It is {p:.4g}."
    expect(abs(p - 1) < 1e-6, message, mistake="two_sided" if both_low else None)


@title("A correlation does not depend on scale or on a constant")
@mistake("no_correlation")
def test_shift_invariance(shift_test):
    moves, falls = torch.rand(12, 1, dtype=torch.float64), torch.rand(12, 1, dtype=torch.float64)
    first, _ = _pair(shift_test(moves, falls), 12, "random series")
    scaled, _ = _pair(shift_test(10 * moves, falls), 12, "moves times 10")
    moved, _ = _pair(shift_test(moves, falls + 3), 12, "falls plus 3")
    expect_close(scaled, first, what="the correlations", given="moves times 10")
    expect_close(moved, first, what="the correlations", given="falls plus 3")


@title("Each instance counts alike, however large its moves")
def test_shift_instances(shift_test):
    moves, falls = torch.rand(9, 3, dtype=torch.float64), torch.rand(9, 3, dtype=torch.float64)
    moves[:, 1] *= 1000
    falls[:, 1] *= 1000
    correlation, _ = _pair(shift_test(moves, falls), 9, "three instances, one of them 1000 times larger")
    right, _ = _slow_shift(moves, falls)
    near_second = (correlation.double() - _slow_shift(moves[:, 1:2], falls[:, 1:2])[0]).abs().max() < 0.02
    expect_close(
        correlation, right, what="the correlations", given="three instances, one of them 1000 times larger",
        mistake="pooled" if bool(near_second) else None,
    )  # fmt: skip


@title("An instance in which nothing moves correlates with nothing")
def test_shift_constant(shift_test):
    moves = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    falls = torch.tensor([[1.0, 0.0, 1.0], [2.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    given = "three instances: in the first nothing moves, in the last nothing moves and the loss falls evenly"
    correlation, _ = _pair(shift_test(moves, falls), 4, given)
    message = f"For {given}, the correlations are {show(correlation)}."
    expect(bool(correlation.isfinite().all()), message, mistake="constant_is_nan")
    expect_close(correlation, _slow_shift(moves, falls)[0], what="the correlations", given=given)


@title("Right for random series")
@pytest.mark.parametrize("shape", [(5, 1), (16, 4), (31, 2)])
def test_shift_random(shift_test, shape):
    moves, falls = torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    given = f"random series of shape {shape}"
    correlation, p = _pair(shift_test(moves, falls), shape[0], given)
    right, right_p = _slow_shift(moves, falls)
    expect_close(correlation, right, what="the correlations", given=given, rtol=1e-5)
    without = (right_p * shape[0] - 1) / shape[0], (right_p * shape[0] - 1) / (shape[0] - 1)
    name = "p_can_be_zero" if min(abs(p - value) for value in without) < 1e-6 else None
    expect(abs(p - right_p) < 1e-6, f"The p-value should be {right_p:.4f}; it is {p:.4f}, for {given}.", mistake=name)


# --- adversarial_direction ---------------------------------------------------------------------


@title("Two features that share one unit, by hand")
def test_direction_by_hand(adversarial_direction):
    W = torch.tensor([[[1.0, -1.0]]])
    given = "W = [1, -1], one hidden unit"
    got = expect_tensor(adversarial_direction(W), what="the directions", given=given, shape=(1, 2, 2), finite=False)
    r = 0.5**0.5
    right = torch.tensor([[[r, -r], [-r, r]]])
    itself = torch.allclose(got, torch.eye(2)[None].to(got))
    downhill = torch.allclose(got, -right.to(got), atol=1e-4)
    name = "wrong_side" if downhill else "only_the_feature_itself" if itself else None
    expect_close(got, right, what="the directions", given=given, mistake=name)


@title("Every direction has length one")
@mistake("not_unit")
def test_direction_unit(adversarial_direction):
    W = 3 * torch.randn(2, 3, 5, dtype=torch.float64)
    got = expect_tensor(adversarial_direction(W), what="the directions", given="a random W", shape=(2, 5, 5))
    expect_close(got.norm(dim=-1), torch.ones(2, 5), what="the lengths", given="a random W")


@title("A feature with a dimension of its own is pushed by itself, however long its column")
def test_direction_alone(adversarial_direction):
    W = torch.diag(torch.tensor([0.3, 4.0]))[None]
    expect_close(adversarial_direction(W), torch.eye(2)[None], what="the directions", given="W = diag(0.3, 4)")


@title("Longer columns count for more")
def test_direction_weights(adversarial_direction):
    W = torch.tensor([[[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]])
    given = "columns [1, 0], [2, 0] and [0, 1]"
    r = 5**-0.5
    right = torch.tensor([[[r, 2 * r, 0], [r, 2 * r, 0], [0, 0, 1]]])
    got = expect_tensor(adversarial_direction(W), what="the directions", given=given, shape=(1, 3, 3))
    same_size = bool((got[0, 0, :2].abs() - got[0, 0, 0].abs()).abs().max() < 1e-4)
    expect_close(got, right, what="the directions", given=given, mistake="sign_only" if same_size else None)


@title("An output that no input reaches has direction 0")
@mistake("dead_is_nan")
def test_direction_dead(adversarial_direction):
    W = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    given = "columns [1, 0] and [0, 0]"
    got = expect_tensor(adversarial_direction(W), what="the directions", given=given, shape=(1, 2, 2), finite=False)
    expect(bool(got.isfinite().all()), f"For {given}, the answer holds nan or infinity.")
    expect_close(got, torch.tensor([[[1.0, 0], [0, 0]]]), what="the directions", given=given)


@title("No random push of the same length moves a pre-activation further")
@pytest.mark.parametrize("shape", [(1, 2, 5), (2, 3, 4), (1, 1, 3)])
def test_direction_search(adversarial_direction, shape):
    W = torch.randn(shape, dtype=torch.float64)
    given = f"a random W of shape {shape}"
    square = (shape[0], shape[2], shape[2])
    got = expect_tensor(adversarial_direction(W), what="the directions", given=given, shape=square)
    gram = W.mT @ W
    reached = (gram * got).sum(dim=-1)
    tries = torch.randn(2000, shape[2], dtype=torch.float64)
    tries = tries / tries.norm(dim=-1, keepdim=True)
    searched = torch.einsum("nij,tj->nit", gram, tries).amax(dim=-1)
    expect(
        bool((reached >= searched * (1 - 1e-6)).all()),
        f"A random push moves an output by {(searched - reached).max():.4f} more than yours, for {given}.",
    )
    expect(bool((got.norm(dim=-1) < 1 + 1e-5).all()), "A push is longer than one.", mistake="not_unit")


@title("Faint columns have directions too")
def test_direction_faint(adversarial_direction):
    W = torch.tensor([[[1e-3, 0.0], [0.0, 1.0]]])
    given = "columns [0.001, 0] and [0, 1]"
    expect_close(adversarial_direction(W), torch.eye(2)[None], what="the directions", given=given, rtol=1e-3)


@title("float64 stays float64")
def test_direction_dtype(adversarial_direction):
    got = adversarial_direction(torch.randn(1, 2, 3, dtype=torch.float64))
    expect_dtype(got, torch.float64, what="the directions", given="W in float64")


# --- vulnerability -----------------------------------------------------------------------------


def _slow_vulnerability(W: Tensor, b: Tensor, x: Tensor, importance: Tensor, epsilon: Tensor) -> Tensor:
    """One example, one push at a time."""
    batch, instances, features = x.shape
    risen = torch.zeros(instances, dtype=x.dtype)
    for k in range(instances):
        gram = W[k].T @ W[k]

        def loss(pushed: Tensor, clean: Tensor, k: int = k, gram: Tensor = gram) -> float:
            output = torch.clamp(gram @ pushed + b[k], min=0)
            return float((importance * (clean - output) ** 2).sum())

        for n in range(batch):
            clean = loss(x[n, k], x[n, k])
            best = -math.inf
            for i in range(features):
                length = float(gram[i].norm())
                push = epsilon[k] * gram[i] / length if length > 0 else 0 * gram[i]
                best = max(best, loss(x[n, k] + push, x[n, k]), loss(x[n, k] - push, x[n, k]))
            risen[k] += (best - clean) / batch
    return risen


def _attacked(instances: int = 2, features: int = 4, hidden: int = 2, batch: int = 6) -> tuple[Tensor, ...]:
    W = torch.randn(instances, hidden, features, dtype=torch.float64)
    b = 0.3 * torch.randn(instances, features, dtype=torch.float64)
    x = torch.rand(batch, instances, features, dtype=torch.float64) * (torch.rand(batch, instances, features) < 0.5)
    epsilon = 0.1 + 0.3 * torch.rand(instances, dtype=torch.float64)
    return W, b, x, torch.ones(features, dtype=torch.float64), epsilon


@title("One feature alone: an error of ε, so a rise of ε²")
def test_vulnerability_by_hand(vulnerability):
    W, b, x = torch.ones(1, 1, 1), torch.zeros(1, 1), torch.full((1, 1, 1), 0.5)
    given = "W = 1, b = 0, x = 0.5, epsilon = 0.1"
    found = vulnerability(W, b, x, torch.ones(1), torch.tensor([0.1]))
    got = expect_tensor(found, what="the rise", given=given, shape=(1,))
    name = "moved_target" if abs(float(got)) < 1e-6 else None
    expect_close(got, torch.tensor([0.01]), what="the rise", given=given, mistake=name)


@title("The error before the attack does not count")
def test_vulnerability_rise(vulnerability):
    # the output is 0 before and after: pushing by 0.1 does not reach the ReLU's corner, and the error stays 0.25
    W, b, x = torch.ones(1, 1, 1), torch.full((1, 1), -5.0), torch.full((1, 1, 1), 0.5)
    got = vulnerability(W, b, x, torch.ones(1), torch.tensor([0.1]))
    given = "an output that no push of this size can switch on"
    got = expect_tensor(got, what="the rise", given=given, shape=(1,))
    name = "clean_left_in" if abs(float(got) - 0.25) < 1e-6 else None
    expect_close(got, torch.tensor([0.0]), what="the rise", given=given, mistake=name)


@title("On some examples it is worse to lower an output")
def test_vulnerability_both_ways(vulnerability):
    # output 2x: for x = 0.5 it is 1, too large by 0.5; up is worse: 0.7² - 0.5² = 0.24
    # output x / 2: too small by 0.25; down is worse: 0.3² - 0.25² = 0.0275
    ones, eps = torch.ones(1, dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)
    x, b = torch.full((1, 1, 1), 0.5, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    up = vulnerability(torch.full((1, 1, 1), 2**0.5, dtype=torch.float64), b, x, ones, eps)
    down = vulnerability(torch.full((1, 1, 1), 0.5**0.5, dtype=torch.float64), b, x, ones, eps)
    expect_close(up, torch.tensor([0.24]), what="the rise", given="an output twice as large as it should be")
    down = expect_tensor(down, what="the rise", shape=(1,))
    # upwards: 0.2² - 0.25² = -0.0225
    only_up = abs(float(down) + 0.0225) < 1e-6 or abs(float(down)) < 1e-9
    expect_close(
        down, torch.tensor([0.0275]), what="the rise", given="an output half as large as it should be",
        mistake="one_way_only" if only_up else None,
    )  # fmt: skip


@title("Each example gets its own worst push")
def test_vulnerability_per_example(vulnerability):
    # two features alone, outputs twice too large: with x = (1, 0) the worst push is on the first, with (0, 1) the other
    W, x = torch.diag(torch.tensor([2**0.5, 2**0.5]))[None], torch.eye(2)[:, None]
    got = vulnerability(W, torch.zeros(1, 2), x, torch.ones(2), torch.tensor([0.1]))
    # for each: (1 + 0.2)² - 1 = 0.44; with one push for both, the other example gains only 0.2² = 0.04
    given = "x = (1, 0) and (0, 1), outputs twice too large"
    got = expect_tensor(got, what="the rise", given=given, shape=(1,))
    name = "one_push_for_all" if abs(float(got) - 0.24) < 1e-5 else None
    expect_close(got, torch.tensor([0.44]), what="the rise", given=given, mistake=name)


@title("The push moves the other outputs as well")
def test_vulnerability_neighbours(vulnerability):
    # three equal columns, x = 0: a push of 0.1 along (1, 1, 1)/√3 raises all outputs by 0.1 √3, each error 0.03
    got = vulnerability(
        torch.ones(1, 1, 3), torch.zeros(1, 3), torch.zeros(1, 1, 3), torch.ones(3), torch.tensor([0.1])
    )
    given = "three equal columns, x = 0, epsilon = 0.1"
    got = expect_tensor(got, what="the rise", given=given, shape=(1,))
    name = "one_output_only" if abs(float(got) - 0.03) < 1e-6 else None
    expect_close(got, torch.tensor([0.09]), what="the rise", given=given, mistake=name)


@title("The importance weighs the errors")
def test_vulnerability_importance(vulnerability):
    W, b, x, _, epsilon = _attacked()
    importance = torch.tensor([1.0, 0.1, 3.0, 0.5], dtype=torch.float64)
    right = _slow_vulnerability(W, b, x, importance, epsilon)
    got = expect_tensor(vulnerability(W, b, x, importance, epsilon), what="the rise", shape=(2,))
    alike = _slow_vulnerability(W, b, x, torch.ones_like(importance), epsilon)
    name = "importance_left_out" if torch.allclose(got.double(), alike, rtol=1e-4) else None
    expect_close(got, right, what="the rise", given="unequal importances", rtol=1e-5, mistake=name)


@title("Right for random models, each instance with its own epsilon")
@pytest.mark.parametrize("shape", [(1, 3, 2, 5), (3, 4, 2, 4), (2, 2, 3, 3)])
def test_vulnerability_random(vulnerability, shape):
    W, b, x, importance, epsilon = _attacked(*shape)
    given = f"(instance, feature, hidden, batch) = {shape}"
    got = expect_tensor(vulnerability(W, b, x, importance, epsilon), what="the rise", given=given, shape=(shape[0],))
    expect_close(got, _slow_vulnerability(W, b, x, importance, epsilon), what="the rise", given=given, rtol=1e-5)


@title("A feature that is not stored gives no nan")
def test_vulnerability_dead(vulnerability):
    W, b, x, importance, epsilon = _attacked()
    W[:, :, 1] = 0
    right = _slow_vulnerability(W, b, x, importance, epsilon)
    expect_close(
        vulnerability(W, b, x, importance, epsilon), right, what="the rise", given="a column of zeros", rtol=1e-5
    )


# --- gibbs_estimate ----------------------------------------------------------------------------

GRID = torch.linspace(-4, 4, 16_001, dtype=torch.float64)


def _number(got: object, given: str) -> float:
    value = got.item() if isinstance(got, Tensor) and got.numel() == 1 else got
    return float(expect_type(value, (float, int), what="the estimate", given=given))


@title("Without a spring, w² has 1/2, w⁴ has 1/4 and w⁶ has 1/6")
@pytest.mark.parametrize("power", [2, 4, 6])
def test_gibbs_powers(gibbs_estimate, power):
    given = f"L = w^{power}, n_beta = 50, no spring"
    got = _number(gibbs_estimate(GRID, GRID**power, 50.0, 0.0), given)
    name = "n_beta_left_out" if abs(got * 50 - 1 / power) < 1e-3 else None
    message = f"For {given}, the estimate should be 1/{power} = {1 / power:.4f}; it is {got:.4f}."
    expect(abs(got - 1 / power) < 1e-4, message, mistake=name)


@title("A spring makes a bowl's estimate smaller, by the factor a / (a + γ)")
def test_gibbs_spring(gibbs_estimate):
    given = "L = w²/2, n_beta = 20, localization = 20"
    got = _number(gibbs_estimate(GRID, GRID**2 / 2, 20.0, 20.0), given)
    # the density is normal with precision 20 + 20: 20 * 1/2 * 1/40
    weak, strong = (_number(gibbs_estimate(GRID, GRID**4, 5.0, spring), "L = w⁴") for spring in (1.0, 10.0))
    name = "spring_without_half" if abs(got - 0.5 * 20 / 60) < 1e-3 else None
    if abs(got - 0.5) < 1e-3 and abs(weak - strong) < 1e-6:
        name = "no_localization"
    expect(abs(got - 0.25) < 1e-4, f"For {given}, the estimate should be 0.25; it is {got:.4f}.", mistake=name)


@title("A constant added to the loss changes nothing")
def test_gibbs_constant(gibbs_estimate):
    got = _number(gibbs_estimate(GRID, GRID**4 + 7, 30.0, 1.0), "L = w⁴ + 7")
    plain = _number(gibbs_estimate(GRID, GRID**4, 30.0, 1.0), "L = w⁴")
    message = f"For w⁴ the estimate is {plain:.4f}, for w⁴ + 7 it is {got:.4f}."
    expect(abs(got - plain) < 1e-6, message, mistake="not_relative" if abs(got - plain - 210) < 1 else None)


@title("Large exponents do not overflow")
def test_gibbs_overflow(gibbs_estimate):
    got = _number(gibbs_estimate(GRID, GRID**2 + 3, 1e4, 1.0), "L = w² + 3, n_beta = 10,000")
    expect(math.isfinite(got), f"For L = w² + 3 and n_beta = 10,000 the estimate is {got}.", mistake="overflow")
    expect(abs(got - 0.5) < 1e-3, f"For L = w² + 3 and n_beta = 10,000 the estimate should be 0.5; it is {got:.4f}.")
    below = _number(gibbs_estimate(GRID, GRID**2 - 3, 1e4, 1.0), "L = w² - 3, n_beta = 10,000")
    message = f"For L = w² - 3 and n_beta = 10,000 the estimate should be 0.5; it is {below}."
    expect(abs(below - 0.5) < 1e-3, message, mistake=None if math.isfinite(below) else "overflow")


@title("The minimum need not be in the middle of the points")
def test_gibbs_off_centre(gibbs_estimate):
    w = torch.linspace(-1, 3, 8001, dtype=torch.float64)
    got = _number(gibbs_estimate(w, w**2, 100.0, 0.0), "points from -1 to 3")
    expect(abs(got - 0.5) < 1e-3, f"For points from -1 to 3 and L = w², the estimate should be 0.5; it is {got:.4f}.")


@title("What counts is the loss above L(w*), even where it dips below")
def test_gibbs_dips(gibbs_estimate):
    w = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    loss = -(w**2) / 2
    got = _number(gibbs_estimate(w, loss, 2.0, 0.0), "L = -w²/2 on [-1, 1]")
    weights = [math.exp(float(value)) for value in w**2]
    right = -sum(a * float(value) for a, value in zip(weights, w**2, strict=True)) / sum(weights)
    expect(abs(got - right) < 5e-3, f"For L = -w²/2 the estimate should be {right:.4f}, below 0; it is {got:.4f}.")


@title("Right with a spring, by a slow sum")
@pytest.mark.parametrize(("n_beta", "localization"), [(5.0, 0.5), (40.0, 3.0), (200.0, 0.0)])
def test_gibbs_slow(gibbs_estimate, n_beta, localization):
    w = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    loss = w**4 + 0.3 * w**2
    top = bottom = 0.0
    for at, value in zip(w.tolist(), loss.tolist(), strict=True):
        density = math.exp(-n_beta * value - localization * at * at / 2)
        top, bottom = top + density * value, bottom + density
    given = f"L = w⁴ + 0.3 w², n_beta = {n_beta}, localization = {localization}"
    got = _number(gibbs_estimate(w, loss, n_beta, localization), given)
    right = n_beta * top / bottom
    expect(abs(got - right) < 1e-4, f"For {given}, the estimate should be {right:.4f}; it is {got:.4f}.")


# --- sgld_step ---------------------------------------------------------------------------------


def _drift(sgld_step: object, w: Tensor, gradient: Tensor, w_star: Tensor, **options: object) -> Tensor:
    """The step without its noise: an average over many chains."""
    many = 4096
    stepped = sgld_step(  # type: ignore[operator]
        w.expand(many, -1).clone(), gradient.expand(many, -1).clone(), w_star.expand(many, -1).clone(),
        generator=torch.Generator().manual_seed(1), **options,
    )  # fmt: skip
    return expect_tensor(stepped, what="the step", shape=(many, w.shape[-1])).double().mean(dim=0) - w


@title("The drift, by hand")
def test_sgld_drift(sgld_step):
    # -n_beta * gradient = (-60, 60); spring 5 * (w* - w) = (10, 0); times ε/2 = 0.005
    w, gradient, w_star = torch.tensor([1.0, 2.0]), torch.tensor([2.0, -2.0]), torch.tensor([3.0, 2.0])
    got = _drift(sgld_step, w, gradient, w_star, epsilon=0.01, n_beta=30.0, localization=5.0)
    given = "w = (1, 2), gradient (2, -2), w* = (3, 2), epsilon = 0.01, n_beta = 30, localization = 5"
    right = torch.tensor([-0.25, 0.3])
    known = {
        "uphill": torch.tensor([0.35, -0.3]),
        "spring_pushes_away": torch.tensor([-0.35, 0.3]),
        "half_left_out": torch.tensor([-0.5, 0.6]),
        "n_beta_on_spring": torch.tensor([1.2, 0.3]),
    }
    # noise of variance 0.01 over 4096 draws: a standard error of 0.0016
    name = next((each for each, value in known.items() if bool((got - value).abs().max() < 0.012)), None)
    message = f"For {given}, w should move by (-0.25, 0.3) apart from noise; it moved by {show(got)} on average."
    expect(bool((got - right).abs().max() < 0.012), message, mistake=name)


@title("Noise has variance ε, in every entry")
@pytest.mark.parametrize("epsilon", [0.04, 1e-4, 4.0])
def test_sgld_noise(sgld_step, epsilon):
    zero = torch.zeros(3000, 2, dtype=torch.float64)
    stepped = expect_tensor(
        sgld_step(
            zero, zero, zero, epsilon=epsilon, n_beta=10.0, localization=1.0,
            generator=torch.Generator().manual_seed(2),
        ),
        what="the step", given=f"no gradient, w = w*, epsilon = {epsilon}", shape=(3000, 2),
    )  # fmt: skip
    variance = stepped.var(dim=0)
    # a variance from 3000 draws has a relative standard error of sqrt(2/3000) = 0.026
    squared = bool(((variance / epsilon**2 - 1).abs() < 0.2).all())
    expect(
        bool(((variance / epsilon - 1).abs() < 0.17).all()),
        f"With epsilon = {epsilon} the noise should have variance {epsilon}; it has {show(variance)}.",
        mistake="noise_by_epsilon" if squared and not bool((stepped == 0).all()) else None,
    )
    mean = stepped.mean(dim=0).abs() / epsilon**0.5
    expect(bool((mean < 6 / 3000**0.5).all()), "The noise is not zero on average.")
    # a normal has a fourth moment of 3 (standard error sqrt(96/6000) = 0.13); a uniform one has 1.8, a sign 1
    fourth = (stepped.flatten() / stepped.std()).pow(4).mean()
    expect(bool((fourth - 3).abs() < 0.9), f"The noise should be normal: a fourth moment of 3, not {fourth:.2f}.")


@title("Every chain and every parameter has its own noise")
def test_sgld_own_noise(sgld_step):
    zero = torch.zeros(5, 4)
    stepped = expect_tensor(
        sgld_step(
            zero, zero, zero, epsilon=0.1, n_beta=1.0, localization=1.0, generator=torch.Generator().manual_seed(3)
        ),
        what="the step", shape=(5, 4),
    )  # fmt: skip
    different = len(stepped.flatten().unique())
    expect(different > 1, "Without a gradient nothing moved, or all moved alike: is there noise?")
    expect(different == 20, f"Of 20 noise values only {different} are different.", mistake="shared_noise")


@title("The generator decides the noise, and nothing else does")
def test_sgld_generator(sgld_step):
    w = torch.randn(3, 4)
    options = {"epsilon": 0.1, "n_beta": 2.0, "localization": 1.0}
    first = sgld_step(w, w, 0 * w, generator=torch.Generator().manual_seed(4), **options)
    torch.rand(7)
    again = sgld_step(w, w, 0 * w, generator=torch.Generator().manual_seed(4), **options)
    expect_tensor(first, what="the step", shape=(3, 4))
    expect_tensor(again, what="the step", shape=(3, 4))
    message = "Two generators with the same seed gave two different steps."
    expect(torch.equal(first, again), message, mistake="ignores_generator")
    one = torch.Generator().manual_seed(4)
    two = [sgld_step(w, w, 0 * w, generator=one, **options) for _ in range(2)]
    free = [sgld_step(w, w, 0 * w, **options) for _ in range(2)]
    silent = torch.equal(free[0], free[1])
    message = (
        "There is no noise." if silent else "One generator gave the same noise twice: it was copied or seeded anew."
    )
    expect(not torch.equal(two[0], two[1]), message, mistake=None if silent else "ignores_generator")


@title("It works without a generator, and then no two steps are alike")
def test_sgld_without_generator(sgld_step):
    zero = torch.zeros(2, 3)
    steps = [sgld_step(zero, zero, zero, epsilon=0.1, n_beta=1.0, localization=1.0) for _ in range(2)]
    expect_tensor(steps[0], what="the step", given="no generator", shape=(2, 3))
    expect(not torch.equal(*steps), "Without a generator, two steps had the same noise.")


@title("Each chain may have its own epsilon")
def test_sgld_epsilon_per_chain(sgld_step):
    gradient, zero = torch.full((2, 500), -1.0), torch.zeros(2, 500)
    epsilon = torch.tensor([[1e-8], [0.5]])
    stepped = expect_tensor(
        sgld_step(
            zero, gradient, zero, epsilon=epsilon, n_beta=4.0, localization=0.0,
            generator=torch.Generator().manual_seed(5),
        ),
        what="the step", given="epsilon of shape (2, 1)", shape=(2, 500),
    )  # fmt: skip
    expect(bool(stepped[0].abs().max() < 1e-3), "The chain with epsilon = 1e-8 moved as far as the other.")
    # drift 0.25 * 4 * 1 = 1, noise 0.71 / sqrt(500) = 0.032
    moved = stepped[1].mean()
    message = f"The chain with epsilon = 0.5 should move by 1 on average; it moved by {moved:.2f}."
    expect(bool((moved - 1).abs() < 0.2), message)


@title("dtype is kept")
def test_sgld_dtype(sgld_step):
    for dtype in (torch.float64, torch.float32):
        w = torch.zeros(2, 3, dtype=dtype)
        got = sgld_step(w, w, w, epsilon=0.1, n_beta=1.0, localization=1.0, generator=torch.Generator().manual_seed(6))
        expect_dtype(got, dtype, what="the step", given=f"w in {str(dtype).removeprefix('torch.')}")


# --- estimate_llc ------------------------------------------------------------------------------


def _bowl(w: Tensor) -> tuple[Tensor, Tensor]:
    return w.square().sum(dim=1) / 2, w


def _estimate(answer: object, chains: int, d: int, function: object = _bowl, **options: object) -> Tensor:
    settings: dict[str, object] = {"epsilon": 0.02, "n_beta": 20.0, "localization": 1.0, "n_steps": 400, "burn_in": 100}
    settings.update(options)
    w_star = settings.pop("w_star", torch.zeros(chains, d, dtype=torch.float64))
    got = answer(function, w_star, generator=torch.Generator().manual_seed(7), **settings)  # type: ignore[operator]
    return expect_tensor(got, what="the estimates", given=f"{chains} chains", shape=(chains,)).double()


def _bowl_value(d: int, epsilon: float, n_beta: float, localization: float, steps: range | None = None) -> float:
    """What chains in a bowl should report, with the bias of the step; over some of the steps, if given."""
    pull = n_beta + localization
    shrink = (1 - epsilon * pull / 2) ** 2
    settled = epsilon / (1 - shrink)
    if steps is None:
        return n_beta * d * settled / 2
    variances = [settled * (1 - shrink**step) for step in steps]
    return n_beta * d * sum(variances) / len(variances) / 2


@title("A bowl in d dimensions: d/2, with the bias of the step and the spring")
@pytest.mark.parametrize("d", [1, 6])
def test_llc_bowl(estimate_llc, d):
    chains = 256
    got = _estimate(estimate_llc, chains, d)
    right = _bowl_value(d, 0.02, 20.0, 1.0)
    given = f"a bowl in {count(d, 'dimension')}"
    # each chain holds more than 30 independent draws of a gamma variable with mean and variance d/2; six errors
    bound = 6 * math.sqrt(d / 2 * 1.5 / (chains * 30)) + 0.01
    name = "n_beta_left_out" if abs(float(got.mean()) * 20 - right) < 0.2 * right else None
    if name is None and float(got.mean().abs()) < 0.15 * right:
        name = "no_noise_in_chain"
    message = f"For {given} the mean estimate should be {right:.3f} (± {bound:.3f}); it is {got.mean():.3f}."
    expect(abs(float(got.mean()) - right) < bound, message, mistake=name)


@title("Every chain has its own estimate")
@mistake("chains_averaged")
def test_llc_own(estimate_llc):
    got = _estimate(estimate_llc, 8, 2, n_steps=60, burn_in=20)
    expect(len(got.unique()) == 8, f"Eight chains gave {len(got.unique())} different estimates: {show(got)}.")


@title("A constant added to the loss changes nothing")
def test_llc_constant(estimate_llc):
    plain = _estimate(estimate_llc, 4, 2, n_steps=60, burn_in=20)
    lifted = _estimate(estimate_llc, 4, 2, lambda w: (w.square().sum(dim=1) / 2 + 5, w), n_steps=60, burn_in=20)
    # what is not subtracted comes to 20 * 5 = 100
    name = "start_not_subtracted" if abs(float((lifted - plain).mean()) - 100) < 20 else None
    message = f"With the loss as it is the estimates are {show(plain)}; with 5 added, they are {show(lifted)}."
    expect(bool((lifted - plain).abs().max() < 20), message, mistake=name)


@title("The burn-in does not count")
def test_llc_burn_in(estimate_llc):
    chains = 3000
    options = {"epsilon": 0.004, "n_steps": 60, "burn_in": 50}
    got = _estimate(estimate_llc, chains, 2, **options)
    lowest, highest = (_bowl_value(2, 0.004, 20.0, 1.0, range(first, first + 10)) for first in (50, 51))
    # in so short a window a chain is one draw of a variable with mean and standard deviation near 1
    bound = 6 * 1.05 / chains**0.5
    message = (
        f"After a burn-in of 50 of 60 slow steps the mean estimate should be {lowest:.3f} (± {bound:.3f}); "
        f"it is {got.mean():.3f}."
    )
    ignored, dropped = (_bowl_value(2, 0.004, 20.0, 1.0, steps) for steps in (range(60), range(10)))
    shared = lowest * 10 / 60
    near = min(abs(float(got.mean()) - value) for value in (ignored, dropped, shared)) < bound
    right = lowest - bound < float(got.mean()) < highest + bound
    expect(right, message, mistake="burn_in_counts" if near else None)


@title("The loss is measured at every step after the burn-in, and nothing is left out")
def test_llc_every_step(estimate_llc):
    seen = []

    def counting(w: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(w.clone())
        return _bowl(w)

    _estimate(estimate_llc, 2, 2, counting, n_steps=30, burn_in=10)
    different = len({tuple(each.flatten().tolist()) for each in seen})
    message = f"In 30 steps the chain should be in 30 places; the loss was asked for in {different}."
    expect(30 <= different <= 32, message, mistake="no_noise_in_chain" if different < 5 else None)


@title("Chains start at w*, each at its own, and the spring stays tied to it")
def test_llc_start(estimate_llc):
    w_star = torch.tensor([[0.0, 0.0], [50.0, -20.0], [-7.0, 7.0]], dtype=torch.float64)
    chains = 240
    rows = w_star.repeat_interleave(chains, dim=0)
    centre = rows.clone()

    def shallow(w: Tensor) -> tuple[Tensor, Tensor]:
        return (w - centre).square().sum(dim=1) / 2, w - centre

    got = _estimate(
        estimate_llc, 3 * chains, 2, shallow, w_star=rows, epsilon=0.1, n_beta=1.0, localization=3.0, n_steps=250,
        burn_in=100,
    ).view(3, chains).mean(dim=1)  # fmt: skip
    right = _bowl_value(2, 0.1, 1.0, 3.0)
    # more than 12 independent draws a chain, of a variable with mean and deviation 1/4
    bound = 6 * 0.27 / math.sqrt(chains * 12) + 0.005
    free = bool((got / _bowl_value(2, 0.1, 1.0, 0.0) - 1).abs().max() < 0.15)
    message = f"Three bowls with a strong spring should all give {right:.3f} (± {bound:.3f}); they give {show(got)}."
    expect(bool(((got - right).abs() < bound).all()), message, mistake="home_moves" if free else None)


@title("w* is left as it was, and each chain has its own epsilon if so asked")
def test_llc_epsilon_per_chain(estimate_llc):
    epsilon = torch.tensor([[1e-9]] * 50 + [[0.02]] * 50, dtype=torch.float64)
    got = _estimate(estimate_llc, 100, 2, epsilon=epsilon, n_steps=200, burn_in=50)
    expect(bool(got[:50].abs().max() < 1e-3), "Chains with epsilon = 1e-9 hardly move, so they should report 0.")
    rest = got[50:].mean()
    expect(
        bool((rest - 1.06).abs() < 0.3), f"Chains with epsilon = 0.02 should report about 1; they report {rest:.2f}."
    )


@title("The same generator gives the same estimates; on_step is told of every step")
def test_llc_generator_and_on_step(estimate_llc):
    told: list[tuple[int, tuple[int, ...]]] = []

    def on_step(step: int, loss: Tensor) -> None:
        told.append((step, tuple(loss.shape)))

    first = _estimate(estimate_llc, 3, 2, n_steps=12, burn_in=2, on_step=on_step)
    second = _estimate(estimate_llc, 3, 2, n_steps=12, burn_in=2)
    same = torch.equal(first, second)
    expect(same, "Two runs with generators of the same seed gave different estimates: is the generator passed on?")
    message = f"on_step should be called with 0, 1, …, 11 and the losses; it was called with {told[:3]} …"
    expect(told == [(step, (3,)) for step in range(12)], message)


@title("A loss that is the same everywhere gives exactly 0")
def test_llc_flat(estimate_llc):
    def flat(w: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((len(w),), 5.0, dtype=w.dtype), torch.zeros_like(w)

    got = _estimate(estimate_llc, 3, 2, flat, n_steps=60, burn_in=50)
    message = (
        f"The loss is 5 everywhere, so its mean is 5 and the estimate 0, with 60 steps and a burn-in of 50; "
        f"it is {show(got)}."
    )
    # a sum of nine or eleven losses over ten of them, or of ten over nine or eleven: 20 times 5 times a tenth, about
    slip = bool(((got.abs() > 9) & (got.abs() < 11.5)).all())
    expect(bool((got.abs() < 1e-6).all()), message, mistake="off_by_one" if slip else None)


@title("The mean holds every step after the burn-in, and no other")
def test_llc_window(estimate_llc):
    places: dict[tuple[float, ...], Tensor] = {}

    def watched(w: Tensor) -> tuple[Tensor, Tensor]:
        places.setdefault(tuple(w.flatten().tolist()), w.square().sum(dim=1) / 2)
        return _bowl(w)

    n_steps, burn_in = 12, 8
    got = _estimate(estimate_llc, 3, 2, watched, n_steps=n_steps, burn_in=burn_in)
    losses = torch.stack(list(places.values()))  # in the order in which the places were reached; the first is w*

    def over(first: int, last: int) -> bool:
        return last <= len(losses) and bool((20 * losses[first:last].mean(dim=0) - got).abs().max() < 1e-6)

    # The loss may be taken before each step or after it: then all four steps are one place further on.
    right = over(burn_in, n_steps) or over(burn_in + 1, n_steps + 1)
    lengths = [(first, last) for first in range(burn_in - 1, burn_in + 3) for last in range(n_steps - 1, n_steps + 2)]
    slip = any(last - first in (3, 5) and over(first, last) for first, last in lengths)
    message = (
        f"Of 12 steps with a burn-in of 8 the last 4 count. The estimates are {show(got)}, and n_beta times the mean "
        f"over these 4 is {show(20 * losses[burn_in:n_steps].mean(dim=0))}."
    )
    expect(right, message, mistake="off_by_one" if slip else None)
