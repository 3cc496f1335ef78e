"""Checkers of "Memorisation and double descent": one fixture per exercise, named like it.

Expected values are worked by hand, by slow loops, or follow from an invariance; never from the reference. Only
``sample_dataset`` is judged by statistics, with bounds six standard errors wide: a false alarm has a probability below
1e-7 a check, and the seed of each test is fixed.
"""

import math

import pytest
import torch
from torch import Tensor

from refract.checking.expect import (
    CheckFailure,
    expect,
    expect_close,
    expect_dtype,
    expect_tensor,
    expect_type,
    reseed,
    show,
)
from refract.checking.marks import title

DRAWS = 20_000  # points that a statistical test looks at
DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


def _slow_shares(vectors: Tensor) -> Tensor:
    """(v_i . v_i)^2 over the sum of (v_i . v_j)^2, one number at a time."""
    instances, _, number = vectors.shape
    shares = torch.zeros(instances, number, dtype=vectors.dtype)
    for n in range(instances):
        for i in range(number):
            total = sum(float(vectors[n, :, i] @ vectors[n, :, j]) ** 2 for j in range(number))
            if total > 0:
                shares[n, i] = float(vectors[n, :, i] @ vectors[n, :, i]) ** 2 / total
    return shares


def _like(got: object, value: Tensor, atol: float = 1e-4) -> bool:
    """Whether an answer looks like this, of whatever precision."""
    if not isinstance(got, Tensor) or got.shape != value.shape:
        return False
    return torch.allclose(got.detach().cpu().double(), value.double(), rtol=1e-3, atol=atol)


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


# --- sample_dataset ------------------------------------------------------------------------------


def _points(sample_dataset, n_samples: int, p: Tensor, seed: int = 7) -> Tensor:
    """A data set that is well formed: the right number of points, none of them empty, all of length one."""
    given = f"n_samples = {n_samples}, feature_probability = {show(p)}"
    x = sample_dataset(n_samples, p, torch.Generator(device=p.device).manual_seed(seed))
    x = expect_tensor(x, what="the data set", given=given, finite=False)
    empty = (~x.isfinite()).any(dim=-1) | (x == 0).all(dim=-1)
    few = x.ndim == 2 and x.shape[1] == len(p) and 0 < len(x) < n_samples and not bool(empty.any())
    message = f"For {given}, the data set has {len(x)} points instead of {n_samples}." if few else ""
    expect(not few, message, mistake="too_few")
    expect_tensor(x, what="the data set", given=given, shape=(n_samples, len(p)), finite=False)
    number = int(empty.sum())
    message = f"For {given}, {number} of the points have no feature (or nan, from a division by their length 0)."
    expect(not number, message, mistake="empty_points")
    length = x.double().norm(dim=1)
    scaled = bool(((x.double().norm(dim=0) - 1).abs() < 1e-4).all()) and len(x) > 1
    worst = length[(length - 1).abs().argmax()]
    expect(
        bool(((length - 1).abs() < 1e-4).all()),
        f"For {given}, the length of a point should be 1; one has length {float(worst):.4f}.",
        mistake="features_scaled" if scaled else "not_unit",
    )
    return x


@title("Points of length one, in several shapes")
@pytest.mark.parametrize(("n_samples", "features"), [(1, 3), (5, 2), (4, 4), (64, 10), (3, 1)])
def test_dataset_shape(sample_dataset, n_samples, features):
    x = _points(sample_dataset, n_samples, torch.full((features,), 0.5))
    expect(bool((x >= 0).all()), f"Features are never negative; the smallest entry is {float(x.min()):.3f}.")


@title("No point is empty, and none is missing, however sparse the features")
@pytest.mark.parametrize("p", [0.2, 0.02, 0.004])
def test_dataset_no_empty(sample_dataset, p):
    _points(sample_dataset, 100, torch.full((3,), p))


@title("Two features are as often together as they should be")
def test_dataset_together(sample_dataset):
    x = _points(sample_dataset, DRAWS, torch.tensor([0.5, 0.5]))
    both = float((x > 0).all(dim=1).double().mean())
    # Of all draws 1/4 have both and 1/4 have none; without the empty ones that is 1/3. Six standard errors: 0.02.
    filled = abs(both - 0.25) < 0.02
    expect(
        abs(both - 1 / 3) < 0.02,
        "With two features, each present with probability 1/2, a third of the points that are not empty have both; "
        f"of yours, {both:.3f} have.",
        mistake="filled_up" if filled else None,
    )


@title("Each feature is present with its own probability")
def test_dataset_probability(sample_dataset):
    p = torch.tensor([0.1, 0.5, 0.9, 0.3])
    x = _points(sample_dataset, DRAWS, p)
    share = (x > 0).double().mean(dim=0)
    due = p.double() / (1 - (1 - p.double()).prod())
    error = (due * (1 - due) / DRAWS).sqrt()
    expect(
        bool(((share - due).abs() < 6 * error).all()),
        f"For feature_probability = {show(p)}, the features should be present in {show(due)} of the points that are "
        f"not empty; yours are in {show(share)}.",
    )


@title("Sizes are uniform before a point is scaled")
def test_dataset_sizes(sample_dataset):
    x = _points(sample_dataset, DRAWS, torch.ones(3)).double().sort(dim=1).values
    # Two uniform numbers below a third: the larger of them over the third has the distribution function r^2, so its
    # square is uniform. (The smaller over the larger of only two would be uniform for 1 / u as well.) Kolmogorov and
    # Smirnov: 2 exp(-2 * 4) < 1e-3 is too often, so the bound is 3.2 / sqrt(DRAWS), for which it is below 1e-8.
    ratio = (x[:, 1] / x[:, 2]).sort().values
    distance = float((ratio.square() - (torch.arange(DRAWS) + 0.5) / DRAWS).abs().max())
    expect(
        distance < 3.2 / DRAWS**0.5,
        "With three features that are always present and uniform, the second largest over the largest has the median "
        f"{0.5**0.5:.3f}; yours is {float(ratio.median()):.3f}.",
    )


@title("Whether a feature is present says nothing about how large it is")
def test_dataset_independent(sample_dataset):
    x = _points(sample_dataset, DRAWS, torch.tensor([1.0, 0.25]))
    both = x[(x > 0).all(dim=1)]
    larger = float((both[:, 1] > both[:, 0]).double().mean())
    # 5,000 points with both; six standard errors are 0.045
    expect(
        abs(larger - 0.5) < 0.045,
        "With feature_probability = [1, 0.25], where both are present the second is the larger one in half of the "
        f"points; in yours, in {larger:.3f} of them.",
        mistake="shared_randomness" if abs(larger - 0.125) < 0.045 or abs(larger - 0.875) < 0.045 else None,
    )


@title("The points depend on the generator, and on nothing else")
def test_dataset_generator(sample_dataset):
    p = torch.full((4,), 0.4)
    reseed(1)
    first = _points(sample_dataset, 50, p, seed=3)
    reseed(2)
    again = _points(sample_dataset, 50, p, seed=3)
    expect(
        torch.equal(first, again),
        f"For {show(p)} and two generators with seed 3, the first points were {show(first[0])} and {show(again[0])}.",
        mistake="generator_ignored",
    )
    other = _points(sample_dataset, 50, p, seed=4)
    expect(not torch.equal(first, other), "Two generators with different seeds gave the same points.")
    generator = torch.Generator().manual_seed(3)
    one, two = sample_dataset(50, p, generator), sample_dataset(50, p, generator)
    expect(not torch.equal(one, two), "Two calls with the same generator, one after the other, gave the same points.")


@title("torch's own randomness is left alone if there is a generator, and used if there is none")
def test_dataset_global(sample_dataset):
    p = torch.full((4,), 0.4)
    before = torch.get_rng_state()
    sample_dataset(20, p, torch.Generator().manual_seed(0))
    message = "With a generator given, your code still drew from torch's own."
    expect(torch.equal(before, torch.get_rng_state()), message, mistake="generator_ignored")
    one = expect_tensor(sample_dataset(20, p), what="the data set, without a generator", shape=(20, 4))
    two = expect_tensor(sample_dataset(20, p), what="the data set, without a generator", shape=(20, 4))
    expect(not torch.equal(one, two), "Without a generator, two calls gave the same points.")


@title("Every point is drawn afresh")
def test_dataset_rows(sample_dataset):
    x = _points(sample_dataset, 64, torch.full((20,), 0.5))
    different = len(x.unique(dim=0))
    expect(different == 64, f"Of 64 points only {different} are different.")
    patterns = len((x > 0).unique(dim=0))
    expect(patterns > 1, "In all 64 points the very same features are present.")


@title("float64 stays float64")
def test_dataset_dtype(sample_dataset):
    p = torch.full((5,), 0.5, dtype=torch.float64)
    x = expect_tensor(sample_dataset(4, p, torch.Generator().manual_seed(0)), what="the data set", finite=False)
    expect(
        x.dtype == p.dtype,
        f"With a feature_probability of dtype float64 the points should be float64 too; yours are {_name(x)}.",
        mistake="own_dtype",
    )


# --- hidden_geometry -----------------------------------------------------------------------------


def _geometry(hidden_geometry, W: Tensor, x: Tensor, given: str) -> tuple[Tensor, Tensor, Tensor]:
    answer = expect_type(hidden_geometry(W, x), (tuple, list), what="the answer", given=given)
    expect(len(answer) == 3, f"The answer should have three parts; it has {len(answer)}.")
    hidden, of_points, of_features = answer
    right = torch.stack([W[n] @ x.T for n in range(len(W))])
    expect_tensor(hidden, what="the hidden vectors", given=given, finite=False)
    if hidden.shape != right.shape or not _like(hidden, right):
        rows = _like(hidden, right.mT)
        expect(
            not rows,
            f"For {given}, the hidden vectors should have shape {tuple(right.shape)}; yours are the transpose.",
            mistake="rows_for_columns",
        )
    expect_close(hidden, right, what="the hidden vectors", given=given)
    due = {"points": _slow_shares(right), "features": _slow_shares(W)}
    among_rows = right.shape[1] != right.shape[2] and _like(of_points, _slow_shares(right.mT))
    message = (
        f"For {given}, the dimensionalities of the points should have shape {tuple(due['points'].shape)}; "
        f"yours have {tuple(right.shape[:2])}."
    )
    expect(not among_rows, message, mistake="measured_in_rows")
    swapped = _like(of_points, due["features"]) and _like(of_features, due["points"])
    message = f"For {given}, the dimensionalities of points and features are the wrong way round."
    expect(not swapped or _like(of_points, due["points"]), message, mistake="order_swapped")
    # With one feature alone the columns of W tell nothing: its share is 1, or 0.
    same = W.shape[2] > 1 and _like(of_points, due["features"]) and not _like(of_points, due["points"])
    message = f"For {given}, what should be the dimensionalities of the points is that of the columns of W."
    expect(not same, message, mistake="same_twice")
    name = "among_columns" if _like(of_points, _among(right, W)) else None
    expect_close(of_points, due["points"], what="the dimensionality of the points", given=given, mistake=name)
    expect_close(of_features, due["features"], what="the dimensionality of the features", given=given)
    return hidden, of_points, of_features


def _among(hidden: Tensor, W: Tensor) -> Tensor:
    """What comes out if the sum runs over the columns of W."""
    unit = hidden / hidden.norm(dim=1, keepdim=True).clamp_min(1e-12)
    crowd = (unit.mT @ W).square().sum(-1)
    return hidden.square().sum(1) / crowd.clamp_min(1e-12)


@title("Three points and two features, by hand")
def test_geometry_by_hand(hidden_geometry):
    W = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    given = "W = the identity and the points [1, 0], [0, 1] and [0.6, 0.8]"
    _, of_points, of_features = _geometry(hidden_geometry, W, x, given)
    # 1 / (1 + 0.36), 1 / (1 + 0.64), 1 / (1 + 0.36 + 0.64)
    expect_close(of_points, [[1 / 1.36, 1 / 1.64, 0.5]], what="the dimensionality of the points", given=given)
    expect_close(of_features, [[1.0, 1.0]], what="the dimensionality of the features", given=given)


@title("Points at the corners of a regular polygon have m / T each")
@pytest.mark.parametrize("T", [3, 5, 12])
def test_geometry_polygon(hidden_geometry, T):
    angle = 2 * math.pi * torch.arange(T, dtype=torch.float64) / T
    W = 1.5 * torch.stack([angle.cos(), angle.sin()])[None]
    x = torch.eye(T, dtype=torch.float64)
    given = f"one feature a point, at the corners of a regular polygon with {T} corners"
    _, of_points, _ = _geometry(hidden_geometry, W, x, given)
    expect_close(of_points, torch.full((1, T), 2 / T), what="the dimensionality of the points", given=given)


@title("Right for random weights and points, in several shapes")
@pytest.mark.parametrize(
    ("instances", "hidden", "feature", "data"), [(1, 2, 5, 3), (3, 2, 3, 7), (2, 3, 4, 4), (1, 1, 1, 2), (2, 2, 6, 1)]
)
def test_geometry_random(hidden_geometry, instances, hidden, feature, data):
    W, x = torch.randn(instances, hidden, feature), torch.rand(data, feature)
    given = f"random W, (instance, hidden, feature) = {(instances, hidden, feature)}, and {data} points"
    _geometry(hidden_geometry, W, x, given)


@title("A point that leaves no trace has dimensionality 0")
def test_geometry_silent(hidden_geometry):
    W = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    x = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    _geometry(hidden_geometry, W, x, "a feature whose column is 0, and a point that has only this feature")


@title("float64 stays float64, on the device of its inputs")
@pytest.mark.parametrize("device", DEVICES)
def test_geometry_dtype(hidden_geometry, device):
    dtype = torch.float32 if device == "mps" else torch.float64
    W, x = torch.randn(2, 2, 3, dtype=dtype, device=device), torch.rand(4, 3, dtype=dtype, device=device)
    for part, name in zip(hidden_geometry(W, x), ("hidden vectors", "points' part", "features' part"), strict=True):
        expect_dtype(part, dtype, what=f"the {name}")
        expect(part.device.type == device, f"With everything on {device}, the {name} are on {part.device.type}.")


# --- warm_up_cosine ------------------------------------------------------------------------------


def _factor(warm_up_cosine, step: int, n_steps: int, warm_up: int) -> float:
    given = f"step = {step}, n_steps = {n_steps}, warm_up = {warm_up}"
    got = warm_up_cosine(step, n_steps, warm_up)
    if isinstance(got, Tensor) and got.ndim == 0:
        got = got.item()
    return float(expect_type(got, (float, int), what="the factor", given=given))


def _known_slip(step: int, n_steps: int, warm_up: int, right: float, got: float) -> str | None:
    """The name of the mistake that gives just this factor here, if only one does."""
    along = (step - warm_up) / (n_steps - warm_up)
    rise = (step + 1) / warm_up if warm_up else 1.0
    slips = {
        "quarter_cosine": math.cos(math.pi / 2 * along) if step >= warm_up else right,
        "straight_down": 1 - along if step >= warm_up else right,
        "one_step_late": rise if step == warm_up else right,
        "smaller_of_two": min(rise, 0.5 + 0.5 * math.cos(math.pi * along)),
    }
    names = [name for name, value in slips.items() if abs(value - right) > 1e-4 and abs(value - got) < 1e-6]
    return names[0] if len(names) == 1 else None


def _says(warm_up_cosine, step: int, n_steps: int, warm_up: int, right: float, *, name: str | None = None) -> None:
    got = _factor(warm_up_cosine, step, n_steps, warm_up)
    name = name or _known_slip(step, n_steps, warm_up, right, got)
    expect(
        abs(got - right) < 1e-6,
        f"For step = {step}, n_steps = {n_steps}, warm_up = {warm_up} the factor should be {right:.4f}; "
        f"yours is {got:.4f}.",
        mistake=name,
    )


@title("The warm-up rises in a straight line, from its first step on")
@pytest.mark.parametrize("warm_up", [4, 5])
def test_factor_warm_up(warm_up_cosine, warm_up):
    first = _factor(warm_up_cosine, 0, 20, warm_up)
    name = "starts_at_zero" if abs(first) < 1e-6 else "no_warm_up" if abs(first - 1) < 0.02 else None
    for step in range(warm_up):
        _says(warm_up_cosine, step, 20, warm_up, (step + 1) / warm_up, name=name)


@title("After the warm-up the factor is 1, half way it is 1/2")
@pytest.mark.parametrize(("n_steps", "warm_up"), [(10, 2), (100, 20), (12, 4)])
def test_factor_cosine(warm_up_cosine, n_steps, warm_up):
    at_start = _factor(warm_up_cosine, warm_up, n_steps, warm_up)
    late = 0.5 + 0.5 * math.cos(math.pi * warm_up / n_steps)
    name = "cosine_from_zero" if abs(at_start - late) < 1e-6 else None
    _says(warm_up_cosine, warm_up, n_steps, warm_up, 1.0, name=name)
    middle = (n_steps + warm_up) // 2
    at_middle = _factor(warm_up_cosine, middle, n_steps, warm_up)
    name = "cosine_from_zero" if abs(at_middle - 0.5 - 0.5 * math.cos(math.pi * middle / n_steps)) < 1e-6 else None
    _says(warm_up_cosine, middle, n_steps, warm_up, 0.5, name=name)


@title("At the last step the factor is nearly 0")
def test_factor_end(warm_up_cosine):
    got = _factor(warm_up_cosine, 999, 1000, 100)
    message = f"At step 999 of 1000 the factor should be almost 0; yours is {got:.4f}."
    expect(abs(got) < 1e-3, message, mistake="not_to_zero" if abs(got) > 0.1 else None)


@title("Right at every step")
@pytest.mark.parametrize(("n_steps", "warm_up"), [(9, 3), (30, 1), (50, 49)])
def test_factor_everywhere(warm_up_cosine, n_steps, warm_up):
    for step in range(n_steps):
        along = (step - warm_up) / (n_steps - warm_up)
        right = (step + 1) / warm_up if step < warm_up else (1 + math.cos(math.pi * along)) / 2
        _says(warm_up_cosine, step, n_steps, warm_up, right)


@title("Without a warm-up it starts at 1")
def test_factor_none(warm_up_cosine):
    _says(warm_up_cosine, 0, 8, 0, 1.0)
    _says(warm_up_cosine, 4, 8, 0, 0.5)


# --- keep_best -----------------------------------------------------------------------------------


def _numbered(instances: int) -> tuple[Tensor, Tensor]:
    """Weights whose entries say which instance they belong to: all are the instance's square, for b plus 100."""
    square = torch.arange(float(instances)).square()
    return square[:, None, None].expand(-1, 2, 3).clone(), 100 + square[:, None].expand(-1, 3).clone()


def _kept(keep_best, losses: list[float], runs: int) -> list[int]:
    """Which instances an answer keeps."""
    given = f"train_loss = {losses} and runs = {runs}"
    W, b = _numbered(len(losses))
    answer = expect_type(keep_best(torch.tensor(losses), W, b, runs), (tuple, list), what="the answer", given=given)
    expect(len(answer) == 2, f"The answer should be (W, b); it has {len(answer)} parts.")
    groups = len(losses) // runs
    kept_W = expect_tensor(answer[0], what="W", given=given, shape=(groups, 2, 3))
    kept_b = expect_tensor(answer[1], what="b", given=given, shape=(groups, 3))
    number = kept_W[:, 0, 0].sqrt().round()
    same = torch.equal(kept_W, number.square()[:, None, None].expand(-1, 2, 3))
    same = same and torch.equal(kept_b, 100 + kept_W[:, 0])
    expect(same, f"For {given}, W and b should be those of one instance each; they are mixed.")
    return [int(each) for each in number]


@title("The lowest loss of each group")
@pytest.mark.parametrize(
    ("losses", "runs"),
    [
        ([0.5, 0.6, 0.4, 0.1, 0.3, 0.2], 3),
        ([0.5, 0.4, 0.7, 0.8, 0.2, 0.6, 0.95, 0.9], 2),
        ([0.2, 0.6, 0.1, 0.4], 4),
        ([0.2, 0.6, 0.1], 1),
    ],
)
def test_keep_lowest(keep_best, losses, runs):
    groups = [losses[start : start + runs] for start in range(0, len(losses), runs)]
    right = [index * runs + group.index(min(group)) for index, group in enumerate(groups)]
    got = _kept(keep_best, losses, runs)
    step = len(groups)
    striped = [min(range(index, len(losses), step), key=losses.__getitem__) for index in range(step)]
    wrong = {
        "highest": [index * runs + group.index(max(group)) for index, group in enumerate(groups)],
        "place_in_group": [group.index(min(group)) for group in groups],
        "best_of_all": [losses.index(min(losses))] * len(groups),
        "interleaved": striped,
    }
    name = next((called for called, numbers in wrong.items() if got == numbers != right), None)
    message = f"For train_loss = {losses} and runs = {runs}, instances {right} should be kept; yours are {got}."
    expect(got == right, message, mistake=name)


@title("A run that failed is not chosen")
def test_keep_nan(keep_best):
    losses, runs = [0.4, math.nan, 0.6, 0.5, 0.2, math.nan], 3
    got = _kept(keep_best, losses, runs)
    message = f"For train_loss = {losses} and runs = {runs}, instances [0, 4] should be kept; yours are {got}."
    expect(got == [0, 4], message, mistake="nan_wins" if 1 in got or 5 in got else None)


@title("A loss may exceed any number, and be infinite")
def test_keep_large(keep_best):
    losses = [math.inf, 3e30, math.nan, 2e30]
    got = _kept(keep_best, losses, 2)
    expect(got == [1, 3], f"For train_loss = {losses} and runs = 2, instances [1, 3] should be kept; yours are {got}.")


@title("Right for random losses, in several shapes of W")
@pytest.mark.parametrize(("groups", "runs"), [(1, 5), (4, 1), (3, 6), (7, 2)])
def test_keep_random(keep_best, groups, runs):
    losses = torch.rand(groups * runs, dtype=torch.float64)
    W, b = torch.randn(groups * runs, 4, 2), torch.randn(groups * runs, 2)
    answer = expect_type(keep_best(losses, W, b, runs), (tuple, list), what="the answer")
    best = [start + int(losses[start : start + runs].argmin()) for start in range(0, len(losses), runs)]
    given = f"random losses, {groups} groups of {runs} runs, and four hidden units"
    expect_close(answer[0], W[best], what="W", given=given)
    expect_close(answer[1], b[best], what="b", given=given)


# --- memorising_weights --------------------------------------------------------------------------


def _apart(T: int, spare: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """T points of length one, the features of which are shuffled and not shared; ``spare`` features are in none."""
    sizes = torch.randint(1, 4, (T,)).tolist()
    x = torch.zeros(T, sum(sizes) + spare, dtype=torch.float64)
    begin = 0
    for t, size in enumerate(sizes):
        x[t, begin : begin + size] = torch.rand(size, dtype=torch.float64) + 0.1
        begin += size
    x = x[:, torch.randperm(x.shape[1])]
    return (x / x.norm(dim=1, keepdim=True)).to(dtype)


def _gaps(hidden: Tensor) -> Tensor:
    """The angles between neighbours around the circle."""
    angle = torch.atan2(hidden[1], hidden[0]).sort().values
    return torch.cat([angle.diff(), angle[:1] + 2 * math.pi - angle[-1:]])


def _memorised(memorising_weights, x: Tensor, given: str) -> tuple[Tensor, Tensor]:
    answer = expect_type(memorising_weights(x), (tuple, list), what="the answer", given=given)
    expect(len(answer) == 2, f"The answer should be (W, b); it has {len(answer)} parts.")
    W = expect_tensor(answer[0], what="W", given=given, shape=(2, x.shape[1]))
    b = expect_tensor(answer[1], what="b", given=given, shape=(x.shape[1],))
    T, x = len(x), x.double()
    W, b = W.double(), b.double()
    square = 1 / (1 - math.cos(2 * math.pi / T))
    length = (W @ x.T).norm(dim=0)
    x_hat = torch.relu(x @ W.T @ W + b)
    off = (x_hat - x).abs().max()
    own = (x_hat - x)[x > 0].abs().max()
    even = bool((_gaps(W @ x.T) * T / (2 * math.pi) - 1).abs().max() < 1e-3)
    sizes = x.sum(dim=0)
    others = x_hat[x == 0].max() if bool((x == 0).any()) else torch.zeros(())
    tolerance = 2e-4 * max(1.0, square)
    name = None
    if bool((b == 0).all()) and T != 4:
        name = "no_bias"
    elif bool((b.max() - b.min()).abs() < 1e-6) and bool(sizes.max() - sizes.min() > 0.01) and T != 4:
        name = "bias_not_scaled"
    elif bool(((length - square).abs() < 1e-3 * square).all()) and abs(square - 1) > 0.05:
        name = "square_not_rooted"
    elif own < 1e-3 and even and bool((length < 0.999 * square**0.5).all()):
        name = "too_short"
    elif abs(square - 1) > 0.05 and _like(b, (1 - square) * x.mean(dim=0)):
        name = "bias_of_mean"
    elif own > tolerance and others < tolerance:
        name = "own_point_lost"
    expect(
        bool(off < tolerance),
        f"For {given}, the features of the point that came in are off by up to {float(own):.3g} (first condition), and "
        f"features that it does not have light up by up to {float(others):.3g} (second condition). "
        f"The hidden vectors have lengths {show(length)}.",
        mistake=name,
    )
    return W, b


@title("Every point comes back")
@pytest.mark.parametrize("T", [5, 8, 24, 4, 3, 2])
def test_memorise_exact(memorising_weights, T):
    _memorised(memorising_weights, _apart(T), f"{T} points that share no feature")


@title("One feature a point")
@pytest.mark.parametrize("T", [3, 6])
def test_memorise_one_hot(memorising_weights, T):
    _memorised(memorising_weights, torch.eye(T), f"the {T} points of an identity matrix")


@title("The hidden vectors form a regular polygon, as small as possible")
@pytest.mark.parametrize("T", [5, 9, 16, 3])
def test_memorise_polygon(memorising_weights, T):
    x, given = _apart(T), f"{T} points that share no feature"
    W, _ = _memorised(memorising_weights, x, given)
    hidden = W @ x.double().T
    length = hidden.norm(dim=0)
    least = (1 / (1 - math.cos(2 * math.pi / T))) ** 0.5
    message = f"For {given}, the hidden vectors have lengths {show(length)}. {least:.4f} is enough."
    expect(bool((length < 1.005 * least).all()), message, mistake="longer_than_needed")
    expect_close(_gaps(hidden).rad2deg(), torch.full((T,), 360.0 / T), what="the angle between neighbours", atol=0.1)


@title("A feature that is in no point stays silent")
def test_memorise_spare(memorising_weights):
    x = _apart(6, spare=3)
    W, b = _memorised(memorising_weights, x, "six points, and three features that are in none of them")
    spare = (x == 0).all(dim=0)
    silent = bool((W[:, spare].abs() < 1e-4).all()) and bool((b[spare] < 1e-4).all())
    expect(silent, "A feature that is in none of the points has weights, or a bias above 0.")


@title("float64 stays float64")
def test_memorise_dtype(memorising_weights):
    x = _apart(5, dtype=torch.float64)
    try:
        W, b = memorising_weights(x)
    except RuntimeError as error:  # the directions in float32, times the points in float64
        mixed = "dtype" in str(error)
        if not mixed:
            raise
        message = f"With points in float64, your code stopped: {error}"
        raise CheckFailure(message, "points_in_float64") from None
    expect_dtype(W, torch.float64, what="W")
    expect_dtype(b, torch.float64, what="b")


# --- participants --------------------------------------------------------------------------------


@title("Equal shares are counted, whatever their size")
@pytest.mark.parametrize(("k", "of", "d"), [(3, 10, 0.6), (5, 5, 0.4), (1, 4, 1.0), (7, 50, 2 / 7)])
def test_participants_equal(participants, k, of, d):
    shares = torch.zeros(1, of)
    shares[0, :k] = d
    given = f"{k} vectors with D = {d:.3g} and {of - k} with D = 0"
    got = expect_tensor(participants(shares), what="the number", given=given, finite=False)
    name = None
    if _like(got, torch.tensor([1 / k])) and k > 1:
        name = "upside_down"
    elif _like(got, torch.tensor([k * d])) and abs(d - 1) > 1e-6:
        name = "sum_only"
    expect_close(got, [float(k)], what="the number of participants", given=given, mistake=name)


@title("Unequal shares count for less")
def test_participants_unequal(participants):
    shares = torch.tensor([[0.8, 0.4, 0.4], [1.0, 0.001, 0.001]])
    given = "D = [0.8, 0.4, 0.4] and D = [1, 0.001, 0.001]"
    got = participants(shares)
    counted = _like(got, torch.tensor([3.0, 3.0]))
    # 1.6^2 / (0.64 + 0.16 + 0.16) and 1.002^2 / 1.000002
    right = torch.tensor([1.6**2 / 0.96, 1.002**2 / 1.000002])
    expect_close(got, right, what="the number", given=given, mistake="a_count" if counted else None)


@title("Nobody: 0")
def test_participants_none(participants):
    got = expect_tensor(participants(torch.zeros(2, 5)), what="the number", shape=(2,), finite=False)
    message = f"With all dimensionalities 0 the number should be 0; yours is {show(got)}."
    expect(bool(got.isfinite().all()), message, mistake="nan_for_none")
    expect_close(got, [0.0, 0.0], what="the number of participants", given="all dimensionalities 0")


@title("Right for random shares, a number for each instance")
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 2), (4, 4)])
def test_participants_random(participants, shape):
    shares = torch.rand(shape) + 0.01
    right = torch.tensor([float(sum(row)) ** 2 / float(sum(d * d for d in row)) for row in shares])
    got = participants(shares)
    expect_close(got, right, what="the number of participants", given=f"random shares of shape {shape}")


@title("Scaling all shares changes nothing")
@pytest.mark.parametrize("factor", [1e-3, 20.0])
def test_participants_scale(participants, factor):
    shares = torch.rand(3, 6, dtype=torch.float64)
    before = expect_tensor(participants(shares), what="the number", shape=(3,))
    expect_close(participants(factor * shares), before, what="the number", given=f"all shares times {factor:g}")
