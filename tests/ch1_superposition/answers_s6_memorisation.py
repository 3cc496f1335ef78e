"""Answers of "Memorisation and double descent": wrong ones that must fail as named, right ones that must pass."""

from __future__ import annotations

import math
from typing import Any

import einops
import torch
from torch import Tensor

from refract.checking.examples import right, wrong
from solutions.ch1_superposition.s4_geometry import feature_dimensionality

# Inside an answer this name means the reference, as it does when a learner's notebook is checked.
hidden_geometry: Any


def _draw(shape: tuple[int, int], p: Tensor, generator: torch.Generator | None) -> Tensor:
    present = torch.rand(shape, generator=generator, dtype=p.dtype) < p
    return present * torch.rand(shape, generator=generator, dtype=p.dtype)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def _full(n: int, p: Tensor, generator: torch.Generator | None) -> Tensor:
    """Points that are not empty, n of them."""
    x = torch.zeros(0, len(p), dtype=p.dtype)
    while len(x) < n:
        more = _draw((n, len(p)), p, generator)
        x = torch.cat([x, more[more.any(dim=1)]])
    return x[:n]


# --- sample_dataset ------------------------------------------------------------------------------


@wrong("sample_dataset", mistake="empty_points")
def divides_by_zero(n_samples, feature_probability, generator=None):
    """Empty points become nan."""
    return _unit(_draw((n_samples, len(feature_probability)), feature_probability, generator))


@wrong("sample_dataset", mistake="empty_points")
def clamped_length(n_samples, feature_probability, generator=None):
    """Empty points stay 0."""
    x = _draw((n_samples, len(feature_probability)), feature_probability, generator)
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-8)


@wrong("sample_dataset", mistake="empty_points")
def redraws_once(n_samples, feature_probability, generator=None):
    """Draws empty points anew, but only once."""
    shape = (n_samples, len(feature_probability))
    x, again = (_draw(shape, feature_probability, generator) for _ in range(2))
    x = torch.where(x.any(dim=1, keepdim=True), x, again)
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-8)


@wrong("sample_dataset", mistake="too_few")
def leaves_out(n_samples, feature_probability, generator=None):
    """Throws empty points away, and draws none in their place."""
    x = _draw((n_samples, len(feature_probability)), feature_probability, generator)
    return _unit(x[x.any(dim=1)])


@wrong("sample_dataset", mistake="filled_up")
def one_feature_for_empty(n_samples, feature_probability, generator=None):
    """Gives one feature, drawn at random, to each empty point."""
    features = len(feature_probability)
    x = _draw((n_samples, features), feature_probability, generator)
    some = torch.randint(features, (n_samples,), generator=generator)
    spare = torch.nn.functional.one_hot(some, features).to(x.dtype)
    return _unit(torch.where(x.any(dim=1, keepdim=True), x, spare))


@wrong("sample_dataset", mistake="not_unit")
def not_scaled(n_samples, feature_probability, generator=None):
    """Leaves the points as they are."""
    return _full(n_samples, feature_probability, generator)


@wrong("sample_dataset", mistake="not_unit")
def sums_to_one(n_samples, feature_probability, generator=None):
    """Scales the sum to 1, not the length."""
    x = _full(n_samples, feature_probability, generator)
    return x / x.sum(dim=1, keepdim=True)


@wrong("sample_dataset", mistake="features_scaled")
def scales_columns(n_samples, feature_probability, generator=None):
    """Gives each feature, not each point, length one."""
    x = _full(n_samples, feature_probability, generator)
    return x / x.norm(dim=0, keepdim=True).clamp_min(1e-8)


@wrong("sample_dataset", mistake="generator_ignored")
def own_randomness(n_samples, feature_probability, generator=None):
    """Draws from torch's own generator."""
    return _unit(_full(n_samples, feature_probability, None))


@wrong("sample_dataset", mistake="generator_ignored")
def sizes_from_elsewhere(n_samples, feature_probability, generator=None):
    """Presence comes from the generator, and sizes do not."""
    present = _full(n_samples, feature_probability, generator) > 0
    return _unit(present * torch.rand(present.shape, dtype=feature_probability.dtype))


@wrong("sample_dataset", mistake="shared_randomness")
def one_tensor(n_samples, feature_probability, generator=None):
    """One random tensor for both."""
    x = torch.zeros(0, len(feature_probability), dtype=feature_probability.dtype)
    while len(x) < n_samples:
        u = torch.rand(n_samples, len(feature_probability), generator=generator, dtype=feature_probability.dtype)
        u = u * (u < feature_probability)
        x = torch.cat([x, u[u.any(dim=1)]])
    return _unit(x[:n_samples])


@wrong("sample_dataset", fails="test_dataset_sizes")
def only_on_or_off(n_samples, feature_probability, generator=None):
    """All present features have the same size."""
    return _unit((_full(n_samples, feature_probability, generator) > 0).to(feature_probability.dtype))


@wrong("sample_dataset", fails="test_dataset_sizes")
def divided_by_size(n_samples, feature_probability, generator=None):
    """Divides where it should multiply. Two features alone would not show it: 1/u over 1/v is v over u."""
    x = _full(n_samples, feature_probability, generator)
    return _unit(torch.where(x > 0, 1 / x.clamp_min(1e-8), 0))


@wrong("sample_dataset", fails="test_dataset_probability")
def absent_with_p(n_samples, feature_probability, generator=None):
    """Present with probability 1 - p."""
    return _unit(_full(n_samples, 1 - feature_probability + 1e-3, generator))


@wrong("sample_dataset", fails="test_dataset_probability")
def mean_probability(n_samples, feature_probability, generator=None):
    """The same probability for all features."""
    return _unit(_full(n_samples, feature_probability.mean().expand_as(feature_probability), generator))


@wrong("sample_dataset", fails="test_dataset_rows")
def one_point_for_all(n_samples, feature_probability, generator=None):
    """Draws one point and repeats it."""
    return _unit(_full(1, feature_probability, generator)).expand(n_samples, -1)


@wrong("sample_dataset", fails="test_dataset_generator")
def always_the_same(n_samples, feature_probability, generator=None):
    """Seeds a generator of its own."""
    return _unit(_full(n_samples, feature_probability, torch.Generator().manual_seed(0)))


@wrong("sample_dataset", mistake="own_dtype")
def float32_points(n_samples, feature_probability, generator=None):
    """Works in float32 alone."""
    return _unit(_full(n_samples, feature_probability.float(), generator))


@wrong("sample_dataset", fails="test_dataset_shape")
def signed_sizes(n_samples, feature_probability, generator=None):
    """Sizes from a normal distribution."""
    present = _full(n_samples, feature_probability, generator) > 0
    return _unit(present * torch.randn(present.shape, generator=generator, dtype=feature_probability.dtype))


@wrong("sample_dataset", mistake="own_dtype")
def torch_default(n_samples, feature_probability, generator=None):
    """torch.rand without a dtype: float32."""
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n_samples:
        shape = (n_samples, len(feature_probability))
        present = torch.rand(shape, generator=generator) < feature_probability
        x = present * torch.rand(shape, generator=generator)
        kept.append(x[x.any(dim=1)])
    return _unit(torch.cat(kept)[:n_samples])


@right("sample_dataset")
def point_by_point(n_samples, feature_probability, generator=None):
    """One point at a time."""
    points: list[Tensor] = []
    while len(points) < n_samples:
        u = torch.rand(2, len(feature_probability), generator=generator, dtype=feature_probability.dtype)
        point = u[1] * (u[0] < feature_probability)
        if point.norm() > 0:
            points.append(point / point.norm())
    return torch.stack(points)


@right("sample_dataset")
def only_the_empty_ones(n_samples, feature_probability, generator=None):
    """Draws all, then the empty ones again until none is left."""
    x = _draw((n_samples, len(feature_probability)), feature_probability, generator)
    while bool((empty := ~x.any(dim=1)).any()):
        x[empty] = _draw((int(empty.sum()), len(feature_probability)), feature_probability, generator)
    return torch.nn.functional.normalize(x, dim=1)


@right("sample_dataset")
def by_bernoulli(n_samples, feature_probability, generator=None):
    """Presence from torch.bernoulli, sizes of 1 - u."""
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n_samples:
        p = feature_probability.repeat(n_samples, 1)
        u = torch.rand(p.shape, generator=generator, dtype=p.dtype)
        x = torch.bernoulli(p, generator=generator) * (1 - u)
        kept.append(x[x.sum(dim=1) > 0])
    return torch.nn.functional.normalize(torch.cat(kept)[:n_samples])


# --- hidden_geometry -----------------------------------------------------------------------------


@wrong("hidden_geometry", mistake="rows_for_columns")
def hidden_in_rows(W, x):
    """The hidden vectors lie in rows."""
    hidden = x @ W.mT
    return hidden, feature_dimensionality(hidden.mT), feature_dimensionality(W)


@wrong("hidden_geometry", mistake="rows_for_columns")
def measured_in_rows(W, x):
    """The hidden vectors lie in rows, and are measured so."""
    hidden = x @ W.mT
    return hidden, feature_dimensionality(hidden), feature_dimensionality(W)


@wrong("hidden_geometry", mistake="measured_in_rows")
def transposed_for_the_measure(W, x):
    """Returns columns, and measures rows."""
    hidden = W @ x.T
    return hidden, feature_dimensionality(hidden.transpose(1, 2)), feature_dimensionality(W)


@wrong("hidden_geometry", mistake="same_twice")
def columns_twice(W, x):
    """Measures the columns both times."""
    return W @ x.T, feature_dimensionality(W), feature_dimensionality(W)


@wrong("hidden_geometry", mistake="order_swapped")
def features_first(W, x):
    """Features before points."""
    hidden = W @ x.T
    return hidden, feature_dimensionality(W), feature_dimensionality(hidden)


@wrong("hidden_geometry", mistake="among_columns")
def points_among_columns(W, x):
    """Compares the hidden vectors with the columns."""
    hidden = W @ x.T
    unit = hidden / hidden.norm(dim=1, keepdim=True).clamp_min(1e-12)
    crowd = (unit.mT @ W).square().sum(-1).clamp_min(1e-12)
    return hidden, hidden.square().sum(1) / crowd, feature_dimensionality(W)


@wrong("hidden_geometry", fails="test_geometry_by_hand")
def all_together(W, x):
    """Points and features in one crowd."""
    hidden = W @ x.T
    both = feature_dimensionality(torch.cat([hidden, W], dim=-1))
    return hidden, both[:, : len(x)], both[:, len(x) :]


@wrong("hidden_geometry", fails="test_geometry_polygon")
def unit_vectors(W, x):
    """Hidden vectors of length one."""
    hidden = torch.nn.functional.normalize(W @ x.T, dim=1)
    return hidden, feature_dimensionality(hidden), feature_dimensionality(W)


@wrong("hidden_geometry", fails="test_geometry_random")
def rectified_hidden(W, x):
    """A ReLU on the hidden layer."""
    hidden = torch.relu(W @ x.T)
    return hidden, feature_dimensionality(hidden), feature_dimensionality(W)


@wrong("hidden_geometry", fails="test_geometry_random")
def first_instance(W, x):
    """The first instance for all."""
    hidden = (W[:1] @ x.T).expand(len(W), -1, -1)
    return hidden, feature_dimensionality(hidden), feature_dimensionality(W)


@wrong("hidden_geometry", fails="test_geometry_silent")
def silent_point_is_nan(W, x):
    """A point that leaves no trace gives nan."""
    hidden = W @ x.T
    unit = hidden / hidden.norm(dim=1, keepdim=True)
    return hidden, hidden.square().sum(1) / (unit.mT @ hidden).square().sum(-1), feature_dimensionality(W)


@wrong("hidden_geometry", fails="test_geometry_by_hand")
def two_parts(W, x):
    """Leaves the hidden vectors out."""
    return feature_dimensionality(W @ x.T), feature_dimensionality(W)


@wrong("hidden_geometry", mistake="changes_input")
def scales_in_place(W, x):
    """Normalises W in place."""
    hidden = W @ x.T
    before = feature_dimensionality(W)
    W /= 2
    return hidden, feature_dimensionality(hidden), before


@right("hidden_geometry")
def by_einsum(W, x):
    """An einsum for the hidden vectors."""
    hidden = einops.einsum(W, x, "instance hidden feature, data feature -> instance hidden data")
    return hidden, feature_dimensionality(hidden), feature_dimensionality(W)


@right("hidden_geometry")
def by_gram(W, x):
    """From the Gram matrices."""

    def share(vectors):
        gram = vectors.mT @ vectors
        own, crowd = torch.diagonal(gram, dim1=-2, dim2=-1).square(), gram.square().sum(-1)
        return torch.where(crowd > 0, own / torch.where(crowd > 0, crowd, 1), 0)

    hidden = (x @ W.mT).mT
    return hidden, share(hidden), share(W)


@right("hidden_geometry")
def by_instance(W, x):
    """One instance at a time, in a list."""
    hidden = torch.stack([each @ x.T for each in W])
    points = torch.cat([feature_dimensionality(each[None]) for each in hidden])
    return [hidden, points, feature_dimensionality(W)]


# --- warm_up_cosine ------------------------------------------------------------------------------


@wrong("warm_up_cosine", mistake="starts_at_zero")
def first_step_wasted(step, n_steps, warm_up):
    """The first factor is 0."""
    if step < warm_up:
        return step / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", mistake="cosine_from_zero")
def jumps_down(step, n_steps, warm_up):
    """The cosine began at step 0."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * step / n_steps)


@wrong("warm_up_cosine", mistake="not_to_zero")
def stays_up(step, n_steps, warm_up):
    """Only the warm-up."""
    return min(1.0, (step + 1) / max(1, warm_up))


@wrong("warm_up_cosine", mistake="no_warm_up")
def cosine_only(step, n_steps, warm_up):
    """Only the cosine, over all steps."""
    return 0.5 + 0.5 * math.cos(math.pi * step / n_steps)


@wrong("warm_up_cosine", fails="test_factor_cosine")
def full_cosine(step, n_steps, warm_up):
    """Runs from 1 to -1."""
    if step < warm_up:
        return (step + 1) / warm_up
    return math.cos(math.pi * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", fails="test_factor_cosine")
def straight_down(step, n_steps, warm_up):
    """Falls in a straight line, and not to 0."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 1 - (step - warm_up) / (n_steps - 0.5 * warm_up)


@wrong("warm_up_cosine", mistake="straight_down")
def exactly_straight_down(step, n_steps, warm_up):
    """Falls in a straight line: right at both ends and in the middle."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 1 - (step - warm_up) / (n_steps - warm_up)


@wrong("warm_up_cosine", mistake="quarter_cosine")
def quarter_wave(step, n_steps, warm_up):
    """A quarter of a wave: the middle is too high."""
    if step < warm_up:
        return (step + 1) / warm_up
    return math.cos(0.5 * math.pi * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", fails="test_factor_cosine")
def in_degrees(step, n_steps, warm_up):
    """Takes degrees for radians."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(180 * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", fails="test_factor_none")
def divides_by_warm_up(step, n_steps, warm_up):
    """Fails where there is no warm-up."""
    rise = (step + 1) / warm_up
    return rise if step < warm_up else 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", mistake="one_step_late")
def one_step_too_long(step, n_steps, warm_up):
    """<= for <: the warm-up has a step too many."""
    if step <= warm_up:
        return (step + 1) / max(1, warm_up)
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", mistake="one_step_late")
def one_step_too_long_unguarded(step, n_steps, warm_up):
    """The same, and it fails where there is no warm-up."""
    if step <= warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (n_steps - warm_up))


@wrong("warm_up_cosine", mistake="smaller_of_two")
def minimum_of_both(step, n_steps, warm_up):
    """The smaller of the two curves at every step."""
    rise = (step + 1) / max(1, warm_up)
    return min(rise, 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (n_steps - warm_up)))


@right("warm_up_cosine")
def by_square_of_cosine(step, n_steps, warm_up):
    """cos²(x / 2) = (1 + cos x) / 2."""
    if step < warm_up:
        return (1 + step) / warm_up
    return math.cos(math.pi / 2 * (step - warm_up) / (n_steps - warm_up)) ** 2


@right("warm_up_cosine")
def as_a_tensor(step, n_steps, warm_up):
    """A tensor without dimensions."""
    if step < warm_up:
        return torch.tensor((step + 1) / warm_up, dtype=torch.float64)
    along = torch.tensor((step - warm_up) / (n_steps - warm_up), dtype=torch.float64)
    return (1 + (math.pi * along).cos()) / 2


@right("warm_up_cosine")
def one_expression(step, n_steps, warm_up):
    """Without an if statement."""
    along = max(0, step - warm_up) / (n_steps - warm_up)
    return min(1.0, (step + 1) / (warm_up or 1)) * (1 + math.cos(math.pi * along)) / 2


# --- keep_best -----------------------------------------------------------------------------------


def _safe(losses: Tensor) -> Tensor:
    return torch.where(losses.isnan(), torch.inf, losses)


@wrong("keep_best", mistake="highest")
def keeps_worst(train_loss, W, b, runs):
    """Keeps the highest loss."""
    losses = train_loss.view(-1, runs)
    best = losses.argmax(1) + runs * torch.arange(len(losses))
    return W[best], b[best]


@wrong("keep_best", mistake="nan_wins")
def plain_argmin(train_loss, W, b, runs):
    """Lets argmin take nan for the smallest."""
    losses = train_loss.view(-1, runs)
    best = losses.argmin(1) + runs * torch.arange(len(losses))
    return W[best], b[best]


@wrong("keep_best", mistake="nan_wins")
def nan_to_zero(train_loss, W, b, runs):
    """Replaces nan by 0, the best loss there is."""
    losses = train_loss.nan_to_num(0.0).view(-1, runs)
    best = losses.argmin(1) + runs * torch.arange(len(losses))
    return W[best], b[best]


@wrong("keep_best", mistake="best_of_all")
def one_for_all(train_loss, W, b, runs):
    """The best instance of all, for every group."""
    best = _safe(train_loss).argmin().expand(len(train_loss) // runs)
    return W[best], b[best]


@wrong("keep_best", mistake="place_in_group")
def no_offset(train_loss, W, b, runs):
    """Forgets where the group begins."""
    best = _safe(train_loss).view(-1, runs).argmin(1)
    return W[best], b[best]


@wrong("keep_best", mistake="interleaved")
def every_second(train_loss, W, b, runs):
    """Groups of every second (third, ...) instance."""
    losses = _safe(train_loss).view(runs, -1)
    groups = losses.shape[1]
    best = losses.argmin(0) * groups + torch.arange(groups)
    return W[best], b[best]


@wrong("keep_best", fails="test_keep_lowest")
def bias_of_the_first(train_loss, W, b, runs):
    """W of the best, b of the first."""
    losses = _safe(train_loss).view(-1, runs)
    first = runs * torch.arange(len(losses))
    return W[first + losses.argmin(1)], b[first]


@wrong("keep_best", fails="test_keep_lowest")
def mean_of_group(train_loss, W, b, runs):
    """The mean of each group."""
    return W.view(-1, runs, *W.shape[1:]).mean(1), b.view(-1, runs, b.shape[1]).mean(1)


@wrong("keep_best", fails="test_keep_lowest")
def sorted_by_loss(train_loss, W, b, runs):
    """As many as there are groups, the best of all first."""
    best = _safe(train_loss).argsort()[: len(train_loss) // runs]
    return W[best], b[best]


@wrong("keep_best", fails="test_keep_lowest")
def one_group_only(train_loss, W, b, runs):
    """Looks at the first group alone."""
    best = _safe(train_loss)[:runs].argmin()
    return W[best], b[best]


@wrong("keep_best", fails="test_keep_large")
def large_number_for_nan(train_loss, W, b, runs):
    """Takes 1e9 for worse than any loss."""
    losses = train_loss.nan_to_num(nan=1e9, posinf=math.inf).view(-1, runs)
    best = losses.argmin(1) + runs * torch.arange(len(losses))
    return W[best], b[best]


@wrong("keep_best", mistake="changes_input")
def nan_in_place(train_loss, W, b, runs):
    """Changes the losses it was given."""
    train_loss[train_loss.isnan()] = torch.inf
    train_loss += 1
    losses = train_loss.view(-1, runs)
    best = losses.argmin(1) + runs * torch.arange(len(losses))
    return W[best], b[best]


@right("keep_best")
def by_loop(train_loss, W, b, runs):
    """A loop over the groups."""
    best = []
    for start in range(0, len(train_loss), runs):
        group = [math.inf if math.isnan(v) else v for v in train_loss[start : start + runs].tolist()]
        best.append(start + group.index(min(group)))
    return W[best], b[best]


@right("keep_best")
def by_gather(train_loss, W, b, runs):
    """Reshapes W and b as well."""
    losses = train_loss.nan_to_num(nan=math.inf, posinf=math.inf).reshape(-1, runs)
    best, group = losses.argmin(dim=1), torch.arange(len(losses))
    return W.reshape(len(losses), runs, *W.shape[1:])[group, best], b.reshape(len(losses), runs, -1)[group, best]


@right("keep_best")
def by_topk(train_loss, W, b, runs):
    """The largest of the negative losses, in a list."""
    losses = -_safe(train_loss)
    best = torch.cat([start + part.topk(1).indices for start, part in _groups(losses, runs)])
    return [W[best], b[best]]


def _groups(losses: Tensor, runs: int) -> list[tuple[int, Tensor]]:
    return [(start, losses[start : start + runs]) for start in range(0, len(losses), runs)]


# --- memorising_weights --------------------------------------------------------------------------


def _directions(T: int, x: Tensor) -> Tensor:
    angle = 2 * math.pi * torch.arange(T, dtype=x.dtype) / T
    return torch.stack([angle.cos(), angle.sin()])


def _least(T: int) -> float:
    return 1 / (1 - math.cos(2 * math.pi / T))


@wrong("memorising_weights", mistake="too_short")
def a_little_short(x):
    """Shorter than it must be; the bias fits the own point."""
    square = 0.6 * _least(len(x))
    return math.sqrt(square) * _directions(len(x), x) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", mistake="too_short")
def half_the_angle(x):
    """Uses the angle of the neighbour's neighbour."""
    square = min(0.9 * _least(len(x)), 1 / (1 - math.cos(4 * math.pi / max(3, len(x)))))
    return math.sqrt(square) * _directions(len(x), x) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", mistake="longer_than_needed")
def to_be_safe(x):
    """Twice the square that is needed."""
    square = 2 * _least(len(x))
    return math.sqrt(square) * _directions(len(x), x) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", mistake="longer_than_needed")
def ten_always(x):
    """A radius of 10 for any number of points."""
    return 10 * _directions(len(x), x) @ x, (1 - 100) * x.sum(0)


@wrong("memorising_weights", mistake="square_not_rooted")
def no_root(x):
    """Forgets the root."""
    square = _least(len(x))
    return square * _directions(len(x), x) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", mistake="no_bias")
def without_bias(x):
    """Leaves the bias at 0."""
    return math.sqrt(_least(len(x))) * _directions(len(x), x) @ x, 0 * x.sum(0)


@wrong("memorising_weights", mistake="no_bias")
def unit_without_bias(x):
    """R = 1 and no bias."""
    return _directions(len(x), x) @ x, 0 * x.sum(0)


@wrong("memorising_weights", mistake="bias_not_scaled")
def same_bias(x):
    """One bias for all features."""
    square = _least(len(x))
    return math.sqrt(square) * _directions(len(x), x) @ x, torch.full_like(x[0], 1 - square)


@wrong("memorising_weights", fails="test_memorise_exact")
def wrong_sign(x):
    """The bias has the wrong sign."""
    square = _least(len(x))
    return math.sqrt(square) * _directions(len(x), x) @ x, (square - 1) * x.sum(0)


@wrong("memorising_weights", mistake="bias_of_mean")
def bias_is_a_mean(x):
    """The mean over points instead of the sum."""
    square = _least(len(x))
    return math.sqrt(square) * _directions(len(x), x) @ x, (1 - square) * x.mean(0)


@wrong("memorising_weights", mistake="own_point_lost")
def silences_the_neighbours(x):
    """R = 1, and a bias that cuts the neighbours off: the point itself loses as much."""
    return _directions(len(x), x) @ x, -math.cos(2 * math.pi / len(x)) * x.sum(0)


@wrong("memorising_weights", mistake="points_in_float64")
def directions_in_float32(x):
    """torch.arange without a dtype."""
    angle = 2 * math.pi * torch.arange(len(x)) / len(x)
    square = _least(len(x))
    return math.sqrt(square) * torch.stack([angle.cos(), angle.sin()]) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", fails="test_memorise_exact")
def half_circle(x):
    """Spreads the points over half a circle."""
    square, angle = _least(len(x)), math.pi * torch.arange(len(x), dtype=x.dtype) / len(x)
    return math.sqrt(square) * torch.stack([angle.cos(), angle.sin()]) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", fails="test_memorise_exact")
def first_meets_last(x):
    """The last point lies where the first one does."""
    square, angle = _least(len(x)), 2 * math.pi * torch.arange(len(x), dtype=x.dtype) / max(1, len(x) - 1)
    return math.sqrt(square) * torch.stack([angle.cos(), angle.sin()]) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", fails="test_memorise_exact")
def degrees(x):
    """Takes degrees for radians."""
    square, angle = _least(len(x)), 360 * torch.arange(len(x), dtype=x.dtype) / len(x)
    return math.sqrt(square) * torch.stack([angle.cos(), angle.sin()]) @ x, (1 - square) * x.sum(0)


@wrong("memorising_weights", fails="test_memorise_exact")
def on_or_off(x):
    """Treats every feature of a point as if it had size 1."""
    square, present = _least(len(x)), (x > 0).to(x.dtype)
    return math.sqrt(square) * _directions(len(x), x) @ present, (1 - square) * present.sum(0)


@wrong("memorising_weights", fails="test_memorise_dtype")
def always_float32(x):
    """Works in float32 alone."""
    square = _least(len(x))
    return (math.sqrt(square) * _directions(len(x), x) @ x).float(), ((1 - square) * x.sum(0)).float()


@wrong("memorising_weights", mistake="changes_input")
def in_place(x):
    """Scales the points in place."""
    square = _least(len(x))
    W, b = math.sqrt(square) * _directions(len(x), x) @ x, (1 - square) * x.sum(0)
    x *= 2
    return W, b


@right("memorising_weights")
def by_points(x):
    """A sum of outer products."""
    T = len(x)
    R = 1 / (math.sqrt(2) * math.sin(math.pi / T))
    W, b = torch.zeros(2, x.shape[1], dtype=x.dtype), torch.zeros_like(x[0])
    for t in range(T):
        u = torch.tensor([math.cos(2 * math.pi * t / T), math.sin(2 * math.pi * t / T)], dtype=x.dtype)
        W += R * torch.outer(u, x[t])
        b += (1 - R**2) * x[t]
    return W, b


@right("memorising_weights")
def turned_and_mirrored(x):
    """The polygon begins elsewhere and runs the other way round."""
    T = len(x)
    angle = 0.7 - 2 * math.pi * torch.arange(T, dtype=x.dtype) / T
    square = _least(T)
    return math.sqrt(square) * torch.stack([angle.cos(), angle.sin()]) @ x, (1 - square) * x.amax(dim=0)


@right("memorising_weights")
def in_another_order(x):
    """The points stand around the circle in another order; features in none have a bias below zero."""
    T = len(x)
    order = torch.arange(T).flip(0).roll(1)
    square = _least(T)
    b = (1 - square) * x.sum(0)
    return math.sqrt(square) * _directions(T, x) @ x[order], torch.where(x.sum(0) > 0, b, -0.5)


# --- participants --------------------------------------------------------------------------------


@wrong("participants", mistake="upside_down")
def inverted(dimensionality):
    """The ratio is upside down."""
    total = dimensionality.sum(-1).square()
    return torch.where(total > 0, dimensionality.square().sum(-1) / total.clamp_min(1e-12), 0)


@wrong("participants", mistake="nan_for_none")
def unguarded(dimensionality):
    """0 / 0."""
    return dimensionality.sum(-1).square() / dimensionality.square().sum(-1)


@wrong("participants", mistake="sum_only")
def only_the_sum(dimensionality):
    """The sum of all shares."""
    return dimensionality.sum(-1)


@wrong("participants", mistake="a_count")
def counts(dimensionality):
    """Counts what is not 0."""
    return (dimensionality > 0).sum(-1).to(dimensionality.dtype)


@wrong("participants", fails="test_participants_equal")
def no_square(dimensionality):
    """The sum is not squared."""
    squares = dimensionality.square().sum(-1)
    return torch.where(squares > 0, dimensionality.sum(-1) / squares.clamp_min(1e-12), 0)


@wrong("participants", fails="test_participants_equal")
def square_of_sum_twice(dimensionality):
    """Squares the sum in numerator and denominator: 1."""
    total = dimensionality.sum(-1).square()
    return torch.where(total > 0, total / total.clamp_min(1e-12), 0)


@wrong("participants", fails="test_participants_equal")
def counts_large(dimensionality):
    """Counts the shares above one half."""
    return (dimensionality > 0.5).sum(-1).to(dimensionality.dtype)


@wrong("participants", fails="test_participants_random")
def over_everything(dimensionality):
    """One number for all instances."""
    squares = dimensionality.square().sum()
    ratio = dimensionality.sum().square() / squares if squares > 0 else squares
    return ratio.expand(len(dimensionality))


@wrong("participants", fails="test_participants_scale")
def offset_in_denominator(dimensionality):
    """A constant in the denominator."""
    return dimensionality.sum(-1).square() / (dimensionality.square().sum(-1) + 1e-3)


@wrong("participants", fails="test_participants_unequal")
def by_largest(dimensionality):
    """The sum over the largest."""
    largest = dimensionality.amax(-1)
    return torch.where(largest > 0, dimensionality.sum(-1) / largest.clamp_min(1e-12), 0)


@wrong("participants", mistake="changes_input")
def squares_in_place(dimensionality):
    """Squares in place."""
    total = dimensionality.sum(-1).square()
    squares = dimensionality.square_().sum(-1)
    return torch.where(squares > 0, total / squares.clamp_min(1e-30), 0)


@right("participants")
def by_loop_over_instances(dimensionality):
    """One instance at a time."""
    numbers = []
    for row in dimensionality:
        squares = (row * row).sum()
        numbers.append(row.sum() ** 2 / squares if squares > 0 else squares)
    return torch.stack(numbers)


@right("participants")
def by_nan_to_num(dimensionality):
    """Turns nan into 0 afterwards."""
    return (dimensionality.sum(1) ** 2 / (dimensionality**2).sum(1)).nan_to_num(0.0)


@right("participants")
def by_shares(dimensionality):
    """The inverse of the sum of squared shares."""
    total = dimensionality.sum(-1, keepdim=True)
    shares = dimensionality / torch.where(total > 0, total, 1)
    concentration = shares.square().sum(-1)
    return torch.where(total[:, 0] > 0, 1 / torch.where(total[:, 0] > 0, concentration, 1), 0)
