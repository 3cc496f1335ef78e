"""Checkers of "Correlation": one fixture per exercise, named like it.

Expected values are worked by hand, by slow loops, by a grid, or follow from an invariance; never from the reference.
Statistical bounds are six standard errors wide: a false alarm has a probability below 1e-7 a check.
"""

import math

import pytest
import torch
from torch import Tensor

from refract.checking.expect import expect, expect_close, expect_dtype, expect_tensor, show
from refract.checking.marks import mistake, title

DRAWS = 20_000
DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


def _draw(sampler, p, set_size: int, draws: int = DRAWS) -> Tensor:
    p = torch.as_tensor(p)
    given = f"feature_probability of shape {tuple(p.shape)}, set_size = {set_size}"
    return expect_tensor(sampler(draws, p, set_size), what="the batch", given=given, shape=(draws, *p.shape))


def _correlation(values: Tensor) -> Tensor:
    """The correlation matrix of columns; 0 where a column does not vary."""
    centred = (values - values.mean(dim=0)).double()
    scale = centred.square().mean(dim=0).sqrt().clamp_min(1e-12)
    return centred.T @ centred / len(values) / scale[:, None] / scale[None]


def _uniform(x: Tensor) -> float:
    """The largest distance of the distribution function from that of a uniform variable."""
    ordered = x.double().flatten().sort().values
    return float((ordered - (torch.arange(len(ordered)) + 0.5) / len(ordered)).abs().max())


def _expect_fresh_rows(x: Tensor) -> None:
    """Sizes lie between 0 and 1, and neither rows nor the sets of what is present are all alike."""
    rows = x.flatten(start_dim=1)
    expect(bool(x.min() >= 0) and bool(x.max() <= 1), f"The entries run from {x.min():.3f} to {x.max():.3f}.")
    different = len(rows.unique(dim=0))
    expect(different == len(rows), f"Of {len(rows)} rows only {different} are different.")
    expect(len((rows > 0).unique(dim=0)) > 1, f"In all {len(rows)} rows the very same features are present.")


# --- sample_correlated -------------------------------------------------------------------------


@title("The shape is (batch, instance, feature)")
@pytest.mark.parametrize(("shape", "set_size"), [((1, 2), 2), ((3, 6), 2), ((2, 6), 3), ((2, 4), 1)])
def test_correlated_shape(sample_correlated, shape, set_size):
    _draw(sample_correlated, torch.full(shape, 0.5), set_size, draws=5)


@title("Sizes lie between 0 and 1, and every row is drawn afresh")
def test_correlated_rows(sample_correlated):
    _expect_fresh_rows(_draw(sample_correlated, torch.full((1, 40), 0.5), 2, draws=64))


@title("Features of a set are present together")
@pytest.mark.parametrize("set_size", [2, 3])
def test_correlated_together(sample_correlated, set_size):
    present = _draw(sample_correlated, torch.full((2, 6), 0.5), set_size, draws=2000) > 0
    sets = present.reshape(2000, 2, 6 // set_size, set_size)
    # a uniform draw in float32 is exactly 0 about once in 2**24
    split = int((sets.any(dim=-1) & ~sets.all(dim=-1)).sum())
    other = present.reshape(2000, 2, set_size, 6 // set_size)
    crosswise = int((other.any(dim=2) & ~other.all(dim=2)).sum()) <= 3
    between = _correlation(sets.double().flatten(0, 2)).fill_diagonal_(0).abs().max()
    expect(
        split <= 3,
        f"With set_size = {set_size}, a set was present in part in {split:,} of {sets[..., 0].numel():,} cases.",
        mistake="interleaved_sets" if crosswise else "independent_presence" if between < 0.2 else None,
    )


@title("Each feature is present with probability p, each set with its own")
def test_correlated_probability(sample_correlated):
    p = torch.tensor([[0.1, 0.1, 0.9, 0.9], [0.25, 0.25, 0.5, 0.5]])
    share = (_draw(sample_correlated, p, 2) > 0).double().mean(dim=0)
    bound = 6 * 0.5 / DRAWS**0.5
    product = bool(((share - p.square()).abs() < bound).all())
    expect_close(
        share,
        p.double(),
        what="the share of entries above zero",
        given=f"feature_probability = {show(p)}, set_size = 2",
        rtol=0,
        atol=bound,
        mistake="whole_set_only_with_product" if product else None,
    )


@title("Partners have sizes of their own")
@mistake("sizes_shared")
def test_correlated_sizes_differ(sample_correlated):
    x = _draw(sample_correlated, torch.ones(1, 4), 2, draws=200)[:, 0]
    same = int(((x[:, 0] == x[:, 1]) & (x[:, 0] > 0)).sum())
    expect(same < 10, f"In {same} of 200 rows features 0 and 1 had exactly the same size.")


@title("Sizes are uniform on [0, 1], whatever p is")
@pytest.mark.parametrize("p", [1.0, 0.3])
def test_correlated_uniform(sample_correlated, p):
    x = _draw(sample_correlated, torch.full((1, 2), p), 2)
    sizes = x[x > 0]
    expect(len(sizes) > 1000, f"With p = {p}, only {len(sizes)} of {x.numel():,} entries are above 0.")
    # Kolmogorov and Smirnov: P(distance > 3 / sqrt(N)) = 3e-8; partners are independent of each other
    distance = _uniform(sizes)
    expect(
        distance < 3 / len(sizes) ** 0.5,
        f"With p = {p}, the sizes of present features are not uniform: their mean is {sizes.mean():.3f}, "
        f"and the distribution function is off by {distance:.3f} somewhere.",
    )


@title("Different sets, and different instances, have nothing to do with each other")
def test_correlated_sets_apart(sample_correlated):
    present = (_draw(sample_correlated, torch.full((2, 4), 0.5), 2) > 0)[:, :, ::2].double().reshape(DRAWS, 4)
    worst = _correlation(present).fill_diagonal_(0).abs().max()
    expect(
        bool(worst < 6 / DRAWS**0.5),
        f"The presence of one set tells about that of another (correlation {worst:.2f}).",
        mistake="all_sets_together" if worst > 0.5 else None,
    )


@title("Sizes have nothing to do with each other")
def test_correlated_sizes_apart(sample_correlated):
    x = _draw(sample_correlated, torch.ones(2, 4), 2).reshape(DRAWS, 8)
    worst = _correlation(x).fill_diagonal_(0).abs().max()
    expect(bool(worst < 6 / DRAWS**0.5), f"The size of one feature tells about another's (correlation {worst:.2f}).")


@title("p = 0 is never, p = 1 is always")
def test_correlated_extremes(sample_correlated):
    x = _draw(sample_correlated, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 2, draws=2000)
    expect(bool((x[..., :2] == 0).all()), "A feature with p = 0 was present.")
    expect(int((x[..., 2:] == 0).sum()) <= 3, "A feature with p = 1 was absent.")


@title("A set of one feature is an independent feature")
def test_correlated_set_of_one(sample_correlated):
    present = (_draw(sample_correlated, torch.full((1, 4), 0.5), 1) > 0).double().reshape(DRAWS, 4)
    worst = _correlation(present).fill_diagonal_(0).abs().max()
    expect(bool(worst < 6 / DRAWS**0.5), "With set_size = 1, two features go together.")


@title("Device and dtype are those of feature_probability; two calls differ")
@pytest.mark.parametrize("device", DEVICES)
def test_correlated_device(sample_correlated, device):
    p = torch.full((2, 4), 0.5, device=device)
    x, again = sample_correlated(50, p, 2), sample_correlated(50, p, 2)
    expect_tensor(x, what="the batch", shape=(50, 2, 4))
    expect(x.device.type == device, f"With feature_probability on {device}, the batch is on {x.device.type}.")
    expect(not torch.equal(x, again), "Two calls gave the same batch.")
    if device == "cpu":
        double = sample_correlated(4, p.double(), 2)
        expect_dtype(double, torch.float64, what="the batch", given="feature_probability in float64")


# --- sample_anticorrelated ---------------------------------------------------------------------


@title("The shape is (batch, instance, feature)")
@pytest.mark.parametrize(("shape", "set_size"), [((1, 2), 2), ((3, 6), 2), ((2, 6), 3), ((2, 4), 1)])
def test_anti_shape(sample_anticorrelated, shape, set_size):
    _draw(sample_anticorrelated, torch.full(shape, 0.3), set_size, draws=5)


@title("Sizes lie between 0 and 1, and every row is drawn afresh")
def test_anti_rows(sample_anticorrelated):
    _expect_fresh_rows(_draw(sample_anticorrelated, torch.full((1, 80), 0.5), 2, draws=64))


@title("Never two of a set")
@mistake("sometimes_together")
@pytest.mark.parametrize(("set_size", "p"), [(2, 0.25), (3, 0.3)])
def test_anti_never_together(sample_anticorrelated, set_size, p):
    present = _draw(sample_anticorrelated, torch.full((2, 6), p), set_size, draws=5000) > 0
    number = present.reshape(5000, 2, 6 // set_size, set_size).sum(dim=-1)
    several = int((number > 1).sum())
    expect(several == 0, f"In {several:,} of {number.numel():,} sets of {set_size} more than one feature was present.")


@title("Each feature is present with probability p")
@pytest.mark.parametrize("set_size", [2, 3])
def test_anti_probability(sample_anticorrelated, set_size):
    p = torch.tensor([[0.1, 0.3], [0.25, 0.05]]).repeat_interleave(set_size, dim=1)
    share = (_draw(sample_anticorrelated, p, set_size) > 0).double().mean(dim=0)
    bound = 6 * 0.5 / DRAWS**0.5
    per_set = share.reshape(2, 2, set_size)
    name = None
    if bool((per_set.sum(dim=-1) - 1).abs().max() < 0.02):
        name = "always_one"
    elif bool((per_set.amax(dim=-1) - per_set.amin(dim=-1)).max() > 2 * bound):
        name = "first_of_set_favoured"
    elif bool(((share - p / set_size).abs() < bound).all()):
        name = "p_of_the_set"
    expect_close(
        share,
        p.double(),
        what="the share of entries above zero",
        given=f"feature_probability = {show(p)}, set_size = {set_size}",
        rtol=0,
        atol=bound,
        mistake=name,
    )


@title("At p = 1 / set_size there is always exactly one; at p = 0 none")
def test_anti_extremes(sample_anticorrelated):
    present = _draw(sample_anticorrelated, torch.tensor([[0.5, 0.5, 0.0, 0.0]]), 2, draws=2000) > 0
    full, empty = present[:, 0, :2].sum(dim=-1), present[:, 0, 2:].sum(dim=-1)
    expect(int((full != 1).sum()) <= 3, "With p = 0.5 and set_size = 2, some rows did not have exactly one of the two.")
    expect(int(empty.sum()) == 0, "A feature with p = 0 was present.")


@title("Every set makes its own choice")
def test_anti_choices_apart(sample_anticorrelated):
    present = _draw(sample_anticorrelated, torch.full((2, 4), 0.5), 2) > 0
    second = present[:, :, 1::2].double().reshape(DRAWS, 4)
    worst = _correlation(second).fill_diagonal_(0).abs().max()
    expect(
        bool(worst < 6 / DRAWS**0.5),
        f"Which feature one set chose tells which one another chose (correlation {worst:.2f}).",
        mistake="one_choice_for_all_sets",
    )


@title("Different sets, and different instances, are on independently")
def test_anti_sets_apart(sample_anticorrelated):
    present = _draw(sample_anticorrelated, torch.full((2, 4), 0.25), 2) > 0
    on = present.reshape(DRAWS, 4, 2).any(dim=-1).double()
    worst = _correlation(on).fill_diagonal_(0).abs().max()
    expect(bool(worst < 6 / DRAWS**0.5), f"That one set is on tells about another (correlation {worst:.2f}).")


@title("Sizes are uniform on [0, 1], whatever p is")
@pytest.mark.parametrize("p", [0.5, 0.15])
def test_anti_uniform(sample_anticorrelated, p):
    x = _draw(sample_anticorrelated, torch.full((1, 4), p), 2)
    for place in (0, 1):
        sizes = x[..., place::2]
        sizes = sizes[sizes > 0]
        expect(len(sizes) > 1000, f"With p = {p}, only {len(sizes)} of {2 * DRAWS:,} entries are above 0.")
        distance = _uniform(sizes)
        expect(
            distance < 3 / len(sizes) ** 0.5,
            f"With p = {p}, the sizes of present features are not uniform: their mean is {sizes.mean():.3f}, "
            f"and the distribution function is off by {distance:.3f} somewhere.",
        )


@title("Sizes of different sets have nothing to do with each other")
def test_anti_sizes_apart(sample_anticorrelated):
    x = _draw(sample_anticorrelated, torch.full((2, 4), 0.5), 2).reshape(DRAWS, 4, 2).sum(dim=-1)
    worst = _correlation(x).fill_diagonal_(0).abs().max()
    expect(bool(worst < 6 / DRAWS**0.5), f"The size in one set tells about another's (correlation {worst:.2f}).")


@title("A set of one feature is an independent feature")
def test_anti_set_of_one(sample_anticorrelated):
    present = (_draw(sample_anticorrelated, torch.tensor([[0.2, 0.7, 0.7, 1.0]]), 1) > 0)[:, 0].double()
    right = torch.tensor([0.2, 0.7, 0.7, 1.0], dtype=torch.float64)
    expect_close(
        present.mean(dim=0),
        right,
        what="the share of entries above zero",
        given="feature_probability = [[0.2, 0.7, 0.7, 1]], set_size = 1",
        rtol=0,
        atol=6 * 0.5 / DRAWS**0.5,
    )
    worst = _correlation(present).fill_diagonal_(0).abs().max()
    expect(bool(worst < 6 / DRAWS**0.5), "With set_size = 1, two features go together.")


@title("Device and dtype are those of feature_probability; two calls differ")
@pytest.mark.parametrize("device", DEVICES)
def test_anti_device(sample_anticorrelated, device):
    p = torch.full((2, 4), 0.5, device=device)
    x, again = sample_anticorrelated(50, p, 2), sample_anticorrelated(50, p, 2)
    expect_tensor(x, what="the batch", shape=(50, 2, 4))
    expect(x.device.type == device, f"With feature_probability on {device}, the batch is on {x.device.type}.")
    expect(not torch.equal(x, again), "Two calls gave the same batch.")
    if device == "cpu":
        double = sample_anticorrelated(4, p.double(), 2)
        expect_dtype(double, torch.float64, what="the batch", given="feature_probability in float64")


# --- presence_correlation ----------------------------------------------------------------------


def _slow_presence(x: Tensor, *, centre: bool = True, scale: bool = True, sizes: bool = False) -> Tensor:
    """The definition, one pair at a time."""
    batch, instances, features = x.shape
    result = torch.zeros(instances, features, features, dtype=torch.float64)
    for n in range(instances):
        values = x[:, n].double() if sizes else (x[:, n] > 0).double()
        for i in range(features):
            for j in range(features):
                a, b = values[:, i].tolist(), values[:, j].tolist()
                mean_a, mean_b = (sum(a) / batch, sum(b) / batch) if centre else (0.0, 0.0)
                product = sum((s - mean_a) * (t - mean_b) for s, t in zip(a, b, strict=True)) / batch
                spread = math.sqrt(
                    sum((s - mean_a) ** 2 for s in a) / batch * (sum((t - mean_b) ** 2 for t in b) / batch)
                )
                if not scale:
                    result[n, i, j] = product
                elif spread > 0:
                    result[n, i, j] = product / spread
    return result


def _presence_mistake(got: object, x: Tensor) -> str | None:
    if not isinstance(got, Tensor) or got.shape != (x.shape[1], x.shape[2], x.shape[2]):
        return None
    wrong = {
        "sizes_not_presence": {"sizes": True},
        "not_centred": {"centre": False},
        "covariance_only": {"scale": False},
    }
    for name, how in wrong.items():
        if torch.allclose(got.double(), _slow_presence(x, **how), atol=1e-5):
            return name
    if torch.allclose(got.double(), _slow_presence(x, centre=False, scale=False), atol=1e-5):
        return "not_centred"
    rows = len(x)
    for factor in ((rows - 1) / rows, rows / (rows - 1)):
        if torch.allclose(got.double(), factor * _slow_presence(x), rtol=0, atol=1e-5):
            return "two_denominators"
    return None


@title("By hand: the same, the opposite, and unrelated")
def test_presence_by_hand(presence_correlation):
    # feature 1 comes with feature 0, feature 2 when feature 0 does not, feature 3 regardless
    x = torch.tensor([[[0.3, 0.9, 0.0, 0.2]], [[0.8, 0.1, 0.0, 0.0]], [[0.0, 0.0, 0.5, 0.7]], [[0.0, 0.0, 0.6, 0.0]]])
    right = torch.tensor([[[1.0, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 1]]])
    got = presence_correlation(x)
    given = "feature 1 present with feature 0, feature 2 when feature 0 is not, feature 3 regardless"
    expect_close(got, right, what="the correlation", given=given, atol=1e-5, mistake=_presence_mistake(got, x))


@title("By hand: present in one row of four, and in two of four")
def test_presence_by_hand_unequal(presence_correlation):
    x = torch.tensor([[[0.5, 0.5]], [[0.0, 0.25]], [[0.0, 0.0]], [[0.0, 0.0]]])
    # covariance 1/4 - 1/4 * 1/2 = 1/8; deviations sqrt(3)/4 and 1/2
    r = 1 / math.sqrt(3)
    got = presence_correlation(x)
    given = "presence (1, 0, 0, 0) and (1, 1, 0, 0)"
    right = torch.tensor([[[1.0, r], [r, 1.0]]])
    expect_close(got, right, what="the correlation", given=given, atol=1e-5, mistake=_presence_mistake(got, x))


@title("A feature that is always, or never, present: 0, not nan")
def test_presence_constant(presence_correlation):
    x = torch.rand(7, 1, 3) * 0.5 + 0.25
    x[:, :, 1] = 0
    x[::2, :, 2] = 0
    got = presence_correlation(x)
    broken = isinstance(got, Tensor) and not bool(got.isfinite().all())
    message = "With one feature always present and one never, the result holds nan or infinity."
    expect(not broken, message, mistake="nan_for_constant")
    right = torch.zeros(1, 3, 3)
    right[0, 2, 2] = 1
    given = "feature 0 always present, feature 1 never, feature 2 sometimes"
    expect_close(got, right, what="the correlation", given=given, atol=1e-5)


@title("Instances do not see each other")
def test_presence_instances(presence_correlation):
    x = torch.rand(30, 3, 4) * (torch.rand(30, 3, 4) < 0.5)
    other = x.clone()
    other[:, 1] = other[:, 1].roll(1, dims=0) * (torch.rand(30, 4) < 0.5)
    before = expect_tensor(presence_correlation(x), what="the correlation", shape=(3, 4, 4), finite=False)
    after = expect_tensor(presence_correlation(other), what="the correlation", shape=(3, 4, 4), finite=False)
    expect(
        torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-5, equal_nan=True),
        "Instance 1 changed, and with it the result of instances 0 and 2.",
        mistake="instances_pooled",
    )


@title("Right for random features, in several shapes")
@pytest.mark.parametrize("shape", [(20, 1, 3), (50, 2, 2), (9, 4, 4)])
def test_presence_random(presence_correlation, shape):
    x = torch.rand(shape) * (torch.rand(shape) < 0.4)
    got = presence_correlation(x)
    given = "(batch, instance, feature) = " + str(shape)
    expect_close(
        got, _slow_presence(x), what="the correlation", given=given, atol=1e-4, mistake=_presence_mistake(got, x)
    )


@title("Sizes do not matter")
def test_presence_ignores_sizes(presence_correlation):
    present = (torch.rand(40, 2, 3) < 0.5).float()
    other = present * (0.1 + torch.rand(40, 2, 3))
    given = "other sizes, the same presence"
    got, right = presence_correlation(other), _slow_presence(present)
    name = _presence_mistake(got, other)
    expect_close(got, right, what="the correlation", given=given, atol=1e-4, mistake=name)


@title("Small sizes count as present")
def test_presence_small_sizes(presence_correlation):
    x = (torch.rand(40, 1, 3) < 0.5).float()
    given = "sizes of 0.0001"
    expect_close(presence_correlation(1e-4 * x), _slow_presence(x), what="the correlation", given=given, atol=1e-4)


@title("float64 stays float64")
def test_presence_dtype(presence_correlation):
    x = torch.rand(10, 1, 2, dtype=torch.float64) - 0.5
    expect_dtype(presence_correlation(x.relu()), torch.float64, what="the correlation", given="x in float64")


# --- partner_angles ----------------------------------------------------------------------------


def _slow_angles(W: Tensor) -> Tensor:
    rows = []
    for instance in W.double():
        row = []
        for k in range(0, W.shape[2], 2):
            a, b = instance[:, k].tolist(), instance[:, k + 1].tolist()
            dot = sum(s * t for s, t in zip(a, b, strict=True))
            length = math.sqrt(sum(s * s for s in a) * sum(t * t for t in b))
            row.append(math.degrees(math.acos(max(-1.0, min(1.0, dot / length)))))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@title("By hand: 90, 45, 120 and 180 degrees")
def test_angles_by_hand(partner_angles):
    half = math.sqrt(3) / 2
    columns = [[1.0, 0], [0, 2], [1, 0], [1, 1], [1, 0], [-0.5, half], [1, 1], [-3, -3]]
    W = torch.tensor(columns).T[None]
    right = torch.tensor([[90.0, 45, 120, 180]])
    got = partner_angles(W)
    name = None
    if isinstance(got, Tensor) and got.shape == right.shape:
        if torch.allclose(got, right.deg2rad(), atol=1e-3):
            name = "radians"
        elif torch.allclose(got, torch.tensor([[90.0, 45, 60, 0]]), atol=0.1):
            name = "folded_to_90"
        elif bool(got[0, 3].isnan()) and torch.allclose(got[0, :3], right[0, :3], atol=0.1):
            name = "acos_out_of_range"
    given = f"the columns {columns}"
    # the cosine of 180 degrees may be off by 1e-7, the angle by 0.03
    expect_close(got, right, what="the angles", given=given, rtol=0, atol=0.1, mistake=name)


@title("Partners are 0 and 1, 2 and 3, and so on")
def test_angles_partners(partner_angles):
    turn = torch.tensor([0.0, 10.0, 100.0, 130.0, 200.0, 250.0]).deg2rad()
    W = torch.stack([turn.cos(), turn.sin()])[None]
    given = "columns at 0, 10, 100, 130, 200 and 250 degrees"
    got = partner_angles(W)
    others = (W[0].T @ W[0]).clamp(-1, 1).acos().rad2deg()[~torch.eye(6, dtype=torch.bool)]
    of_others = isinstance(got, Tensor) and all(bool((others - float(v)).abs().min() < 0.1) for v in got.flatten())
    right = torch.tensor([[10.0, 30.0, 50.0]])
    name = "wrong_partners" if of_others else None
    expect_close(got, right, what="the angles", given=given, atol=0.1, mistake=name)


@title("Lengths do not matter")
def test_angles_lengths(partner_angles):
    W = torch.randn(3, 4, 6) + 1
    W = W / W.norm(dim=1, keepdim=True)
    lengths = 0.6 + torch.rand(3, 1, 6)
    right, unit = _slow_angles(W), partner_angles(W)
    right_at_one = (
        isinstance(unit, Tensor) and unit.shape == right.shape and torch.allclose(unit.double(), right, atol=0.1)
    )
    expect_close(
        partner_angles(W * lengths),
        right,
        what="the angles",
        given="columns of other lengths than 1",
        atol=0.1,
        mistake="not_normalised" if right_at_one else None,
    )


@title("The same direction, and the opposite one: 0 and 180, not nan")
def test_angles_rounding(partner_angles):
    first = torch.randn(60, 3)
    first = first / first.norm(dim=1, keepdim=True) * (0.6 + torch.rand(60, 1))
    # one partner a little longer: in many of these the cosine rounds to just past 1
    same, opposite = first * 1.7, first * -1.3
    W = torch.stack([first, same, first, opposite, opposite, first], dim=2)
    got = expect_tensor(partner_angles(W), what="the angles", shape=(60, 3), finite=False)
    right = torch.tensor([0.0, 180.0, 180.0]).expand(60, 3)
    holes = got.isnan()
    # only rounding is to blame if some are nan, all others are right, and so is what is far from 0 and 180
    others_right = bool(((got - right).abs() < 0.2)[~holes].all()) and not bool(holes.all())
    plain = torch.tensor([[[1.0, 0.0, 3.0, 3.0], [0.0, 2.0, 0.0, 3.0]]])
    angles = partner_angles(plain)
    plain_right = torch.allclose(angles.double(), _slow_angles(plain), atol=0.1)
    expect(
        not bool(holes.any()),
        f"Of {holes.numel()} pairs in the same or the opposite direction, {int(holes.sum())} gave nan.",
        mistake="acos_out_of_range" if others_right and plain_right else None,
    )
    expect_close(got, right, what="the angles", given="partners in the same and in the opposite direction", atol=0.2)


@title("A column that is not stored has no angle")
def test_angles_not_stored(partner_angles):
    columns = [[1.0, 0], [0, 0.4], [0, 0.1], [1, 0], [0.5, 0], [1, 0], [0.6, 0], [0, 0.6], [0, 0], [0, 0]]
    W = torch.tensor(columns).T[None]
    nan = math.nan
    right = torch.tensor([[nan, nan, nan, 90, nan]])
    got = expect_tensor(partner_angles(W), what="the angles", shape=(1, 5), finite=False)
    name = "faint_not_nan" if bool((right.isnan() & ~got.isnan()).any()) else None
    expect_close(got, right, what="the angles", given=f"the columns {columns}", atol=0.1, mistake=name)


@title("stored_above is the caller's to choose")
def test_angles_threshold(partner_angles):
    W = torch.tensor([[[1.0, 0.0, 1.0, 0.0], [0.0, 0.3, 0.0, 0.05]]])
    given = "lengths 1 and 0.3, 1 and 0.05, stored_above = 0.1"
    right = torch.tensor([[90.0, math.nan]])
    expect_close(partner_angles(W, stored_above=0.1), right, what="the angles", given=given, atol=0.1)
    tall = torch.tensor([[[2.0, 0.0], [0.0, 0.9]]])
    given = "lengths 2 and 0.9, stored_above = 1"
    expect_close(partner_angles(tall, stored_above=1.0), torch.tensor([[math.nan]]), what="the angles", given=given)


@title("A rotation of the hidden layer changes nothing")
def test_angles_rotation(partner_angles):
    W = 2 * torch.randn(2, 3, 4, dtype=torch.float64) + 1
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    before, after = partner_angles(W, stored_above=0.0), partner_angles(rotation @ W, stored_above=0.0)
    expect_close(after, before, what="the angles", given="W after a rotation", atol=1e-4)


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", [(1, 2, 2), (4, 2, 6), (2, 5, 4), (3, 1, 2)])
def test_angles_random(partner_angles, shape):
    W = torch.randn(shape, dtype=torch.float64)
    W = W / W.norm(dim=1, keepdim=True)
    given = f"W of shape {shape}"
    expect_close(partner_angles(W), _slow_angles(W), what="the angles", given=given, rtol=0, atol=1e-3)


@title("float64 stays float64")
def test_angles_dtype(partner_angles):
    W = torch.randn(2, 3, 4, dtype=torch.float64)
    expect_dtype(partner_angles(W), torch.float64, what="the angles", given="W in float64")


# --- pair_loss ---------------------------------------------------------------------------------

COSINES = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0], dtype=torch.float64)
# one present: c^2/3 at an acute angle, else 0; both: 2 c^2/3, or 2 (c^2/3 - |c|^3/6) at an obtuse one
ONE = torch.tensor([1 / 3, 1 / 12, 0.0, 0.0, 0.0], dtype=torch.float64)
BOTH = torch.tensor([2 / 3, 1 / 6, 0.0, 1 / 8, 1 / 3], dtype=torch.float64)


def _pair_mistake(pair_loss, *, seen: str) -> str | None:
    """Which known mistake the answer makes, among those that are ``seen`` with "one" or with "both" present."""
    one, both = pair_loss(COSINES, 0.0, 1.0), pair_loss(COSINES, 1.0, 0.0)
    if not all(isinstance(each, Tensor) and each.shape == COSINES.shape for each in (one, both)):
        return None
    one, both = one.double(), both.double()
    overlap = COSINES.abs()
    no_relu = overlap.square() / 3

    def same(came: Tensor, expected: Tensor) -> bool:
        return torch.allclose(came, expected, rtol=0, atol=1e-5)

    if same(one, BOTH) and same(both, ONE):
        return "conditional_swapped"
    if same(one, ONE.flip(0)) and same(both, BOTH.flip(0)):
        return "acute_obtuse_swapped"
    if seen == "one":
        if same(one, 2 * ONE):
            return "one_counted_twice"
        return "no_relu" if same(one, no_relu) or same(one, 2 * no_relu) else None
    if same(both, BOTH / 2):
        return "one_output_only"
    return "obtuse_like_acute" if same(both, 2 * no_relu) else None


@title("At a right angle nothing is lost")
def test_pair_right_angle(pair_loss):
    given = "cosine = 0, both = 0.3, one = 0.2"
    expect_close(pair_loss(torch.zeros(1), 0.3, 0.2), torch.zeros(1), what="the loss", given=given)


@title("One present: by hand")
def test_pair_one(pair_loss):
    given = f"cosine = {show(COSINES)}, both = 0, one = 1"
    got = pair_loss(COSINES, 0.0, 1.0)
    name = _pair_mistake(pair_loss, seen="one")
    expect_close(got, ONE, what="the loss", given=given, atol=1e-5, mistake=name)


@title("Both present: by hand")
def test_pair_both(pair_loss):
    given = f"cosine = {show(COSINES)}, both = 1, one = 0"
    got = pair_loss(COSINES, 1.0, 0.0)
    name = _pair_mistake(pair_loss, seen="both")
    expect_close(got, BOTH, what="the loss", given=given, atol=1e-5, mistake=name)


@title("Two independent features on one line, opposite to each other: p²/3")
def test_pair_antipodal(pair_loss):
    p = 0.4
    got = pair_loss(torch.tensor([-1.0]), p**2, 2 * p * (1 - p))
    given = "cosine = -1, both = p², one = 2 p (1 - p), p = 0.4"
    expect_close(got, torch.tensor([p**2 / 3]), what="the loss", given=given, atol=1e-5)


@title("The same as the network's loss on a fine grid of sizes")
@pytest.mark.parametrize(("both", "one"), [(0.3, 0.2), (0.05, 0.0), (0.0, 0.7)])
def test_pair_grid(pair_loss, both, one):
    middle = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    x, y = torch.cartesian_prod(middle, middle).T
    cosine = torch.linspace(-1, 1, 11, dtype=torch.float64)
    right = []
    for c in cosine.tolist():
        together = (torch.relu(x + c * y) - x).square().mean() + (torch.relu(y + c * x) - y).square().mean()
        alone = torch.relu(c * middle).square().mean()
        right.append(both * together + one * alone)
    given = f"both = {both}, one = {one}, and eleven cosines"
    expect_close(
        pair_loss(cosine, both, one),
        torch.stack(right),
        what="the loss",
        given=given,
        rtol=1e-3,
        atol=1e-4 * (both + one),
    )


@title("Never present, never lost; shape, dtype and gradient follow the cosine")
def test_pair_form(pair_loss):
    cosine = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64, requires_grad=True)
    expect_close(pair_loss(cosine, 0.0, 0.0), torch.zeros(7), what="the loss", given="both = 0, one = 0")
    got = expect_tensor(pair_loss(cosine, 0.1, 0.2), what="the loss", given="seven cosines in float64", shape=(7,))
    expect_dtype(got, torch.float64, what="the loss", given="seven cosines in float64")
    expect(got.requires_grad, "The loss does not depend on the cosine as far as autograd can see.")


# --- crossing ----------------------------------------------------------------------------------


def _cross(crossing, x, first, second) -> object:
    tensors = [torch.tensor(each, dtype=torch.float64) for each in (x, first, second)]
    return crossing(*tensors)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


@title("By hand: between two points, nearer to one of them")
def test_crossing_by_hand(crossing):
    x, first, second = [0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [1.2, 1.2, 1.2]
    got = _cross(crossing, x, first, second)
    number, name = _number(got), None
    if number is not None:
        name = "nearest_point" if number in x else "midpoint" if abs(number - 1.5) < 1e-6 else None
    given = f"x = {x}, first = {first}, second = {second}"
    expect_close(got, 1.2, what="the place", given=given, mistake=name)


@title("Either curve may be the higher one to begin with")
def test_crossing_either_way(crossing):
    x, high, low = [0.0, 2.0, 3.0], [3.0, 1.0, 0.0], [0.0, 2.0, 2.0]
    # the difference is 3, -1, ...: zero three quarters of the way from 0 to 2
    orders = ((high, low), (low, high))
    results = [_cross(crossing, x, *curves) for curves in orders]
    missed = [number is not None and math.isnan(number) for number in map(_number, results)]
    for got, (first, second), lost in zip(results, orders, missed, strict=True):
        number = _number(got)
        name = "one_direction_only" if lost and not all(missed) else None
        if number is not None and abs(number - 0.75) < 1e-6:  # the share alone, of an interval that is 2 long
            name = "length_forgotten"
        given = f"x = {x}, first = {first}, second = {second}"
        expect_close(got, 1.5, what="the place", given=given, mistake=name)


@title("Of several crossings, the first")
def test_crossing_first(crossing):
    x = [0.0, 1.0, 2.0, 3.0, 4.0]
    first, second = [-1.0, 3.0, -1.0, 1.0, -2.0], [0.0] * 5
    given = f"x = {x}, first = {first}, second = 0"
    got = _cross(crossing, x, first, second)
    number = _number(got)
    later = number is not None and any(abs(number - each) < 1e-3 for each in (1.75, 2.5, 10 / 3))
    expect_close(got, 0.25, what="the place", given=given, mistake="last_crossing" if later else None)


@title("They never meet: nan")
def test_crossing_none(crossing):
    curves = (
        ([0.0, 1.0, 0.5], [2.0, 3.0, 1.0]),
        ([5.0, 4.0, 3.0], [1.0, 1.0, 2.0]),
        ([0.5, 0.25, 0.5], [0.25, 0.125, 0.375]),  # close to each other throughout
    )
    for first, second in curves:
        got = _cross(crossing, [0.0, 1.0, 2.0], first, second)
        given = f"the curves {first} and {second}, which never meet"
        expect_close(got, math.nan, what="the place", given=given, mistake="no_crossing")


@title("Equal at one of the points: that point, whether they cross there or only touch")
@pytest.mark.parametrize(
    ("first", "place"),
    [
        pytest.param([0.0, 1.0, 2.0, 4.0], 2.0, id="they cross there"),
        pytest.param([1.0, 2.0, 1.0, 0.0], 1.0, id="they touch"),
        pytest.param([1.0, 2.0, 1.0, 4.0], 1.0, id="they touch, and cross later"),
        pytest.param([2.0, 3.0, 4.0, 5.0], 0.0, id="at the first point"),
        pytest.param([5.0, 4.0, 3.0, 2.0], 3.0, id="at the last point"),
    ],
)
def test_crossing_at_a_point(crossing, first, place):
    x, second = [0.0, 1.0, 2.0, 3.0], [2.0, 2.0, 2.0, 2.0]
    got = _cross(crossing, x, first, second)
    number = _number(got)
    passed = number is not None and (math.isnan(number) or number > place)
    plain = _number(_cross(crossing, [3.0, 5.0], [0.0, 4.0], [1.0, 1.0]))
    passed = passed and plain is not None and abs(plain - 3.5) < 1e-6  # elsewhere it finds what it should
    given = f"x = {x}, first = {first}, second = {second}"
    expect_close(got, place, what="the place", given=given, mistake="equal_point_missed" if passed else None)


@title("Points need not be evenly spaced, nor start at 0")
def test_crossing_uneven(crossing):
    x, first, second = [-4.0, -3.5, 1.0, 10.0], [1.0, 1.5, 6.0, 7.0], [5.0, 5.0, 5.0, 5.0]
    # from -3.5 to 1 the first curve rises by 4.5 over 4.5
    given = f"x = {x}, first = {first}, second = {second}"
    got = _cross(crossing, x, first, second)
    number = _number(got)
    share_only = number is not None and abs(number - (-3.5 + 3.5 / 4.5)) < 1e-6
    name = "length_forgotten" if share_only else None
    expect_close(got, 0.0, what="the place", given=given, atol=1e-5, mistake=name)


@title("Right for random straight lines")
def test_crossing_random(crossing):
    for _ in range(5):
        where = 0.3 + 0.4 * torch.rand(()).item()
        slopes = torch.randn(2).tolist()
        slopes[1] = slopes[0] + 1 + abs(slopes[1])
        x = torch.linspace(0, 1, 8, dtype=torch.float64)
        first, second = (slope * (x - where) for slope in slopes)
        given = f"two lines of slopes {slopes[0]:.2f} and {slopes[1]:.2f} at eight points"
        expect_close(crossing(x, first, second), where, what="the place", given=given, rtol=1e-3, atol=1e-5)
