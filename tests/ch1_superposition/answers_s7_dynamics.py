"""Answers of "Dynamics, stability and attack": wrong ones that must fail as named, right ones that must pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refract.checking.examples import right, wrong
from solutions.ch1_superposition.s1_toy_models import reconstruct

# Inside an answer these names mean the references, as they do when a learner's notebook is checked.
adversarial_direction: Any
sgld_step: Any

# --- level_hops --------------------------------------------------------------------------------


def _hops(D: Tensor, levels: list[float], slack: float, hold: int) -> Tensor:
    """The rule, with windows."""
    hops = torch.zeros(D.shape, dtype=torch.bool)
    if len(D) < hold + 1:
        return hops
    for level in levels:
        near = (D - level).abs() <= slack
        held = near.unfold(0, hold, 1).all(dim=-1)
        hops[1 : len(held)] |= held[1:] & ~near[: len(held) - 1]
    return hops


@wrong("level_hops", mistake="no_hold")
def any_touch(D, levels, slack=0.02, hold=5):
    """Counts a feature that only passes through."""
    hops = torch.zeros(D.shape, dtype=torch.bool)
    for level in levels:
        near = (D - level).abs() <= slack
        hops[1:] |= near[1:] & ~near[:-1]
    return hops


@wrong("level_hops", mistake="every_snapshot")
def all_on_level(D, levels, slack=0.02, hold=5):
    """Marks every snapshot on a level."""
    hops = torch.zeros(D.shape, dtype=torch.bool)
    for level in levels:
        near = (D - level).abs() <= slack
        for t in range(1, len(D) - hold + 1):
            hops[t] |= near[t : t + hold].all(dim=0)
    return hops


@wrong("level_hops", mistake="start_counts")
def zeroth_snapshot(D, levels, slack=0.02, hold=5):
    """Lets a feature arrive at snapshot 0."""
    hops = _hops(D, levels, slack, hold)
    for level in levels:
        hops[0] |= ((D[:hold] - level).abs() <= slack).all(dim=0)
    return hops


@wrong("level_hops", mistake="levels_joined")
def any_level(D, levels, slack=0.02, hold=5):
    """Asks whether a feature is near any level."""
    near = torch.stack([(D - level).abs() <= slack for level in levels]).any(dim=0)
    hops = torch.zeros(D.shape, dtype=torch.bool)
    for t in range(1, len(D) - hold + 1):
        hops[t] = near[t : t + hold].all(dim=0) & ~near[t - 1]
    return hops


@wrong("level_hops", mistake="runs_off_the_end")
def short_windows(D, levels, slack=0.02, hold=5):
    """A slice that is cut off at the end passes all()."""
    hops = torch.zeros(D.shape, dtype=torch.bool)
    for level in levels:
        near = (D - level).abs() <= slack
        for t in range(1, len(D)):
            hops[t] |= near[t : t + hold].all(dim=0) & ~near[t - 1]
    return hops


@wrong("level_hops", fails="test_hops_end")
def stops_one_early(D, levels, slack=0.02, hold=5):
    """Leaves out the last window."""
    hops = _hops(D, levels, slack, hold)
    hops[len(D) - hold :] = False
    return hops


@wrong("level_hops", fails="test_hops_arrival")
def marks_before(D, levels, slack=0.02, hold=5):
    """Marks the last snapshot before the arrival."""
    return _hops(D, levels, slack, hold).roll(-1, dims=0)


@wrong("level_hops", fails="test_hops_arrival")
def departures(D, levels, slack=0.02, hold=5):
    """Marks where a feature leaves."""
    return _hops(D.flip(0), levels, slack, hold).flip(0)


@wrong("level_hops", fails="test_hops_options")
def own_slack(D, levels, slack=0.02, hold=5):
    """Ignores the slack that is passed."""
    return _hops(D, levels, 0.02, hold)


@wrong("level_hops", fails="test_hops_options")
def own_hold(D, levels, slack=0.02, hold=5):
    """Uses three snapshots if none are passed."""
    return _hops(D, levels, slack, 3 if hold == 5 else hold)


@wrong("level_hops", fails="test_hops_twice")
def first_only(D, levels, slack=0.02, hold=5):
    """Marks only a feature's first arrival."""
    hops = _hops(D, levels, slack, hold)
    return hops & (hops.cumsum(dim=0) == 1)


@wrong("level_hops", fails="test_hops_random")
def first_level(D, levels, slack=0.02, hold=5):
    """Looks at the first level alone."""
    return _hops(D, levels[:1], slack, hold)


@wrong("level_hops", fails="test_hops_arrival")
def as_numbers(D, levels, slack=0.02, hold=5):
    """Returns ones and zeros."""
    return _hops(D, levels, slack, hold).float()


@right("level_hops")
def with_unfold(D, levels, slack=0.02, hold=5):
    """Windows by unfold."""
    return _hops(D, levels, slack, hold)


@right("level_hops")
def counting_run(D, levels, slack=0.02, hold=5):
    """Counts from the end how long a feature stays."""
    hops = torch.zeros_like(D, dtype=torch.bool)
    for level in levels:
        near = torch.isclose(D, torch.full_like(D, level), rtol=0, atol=slack)
        length = torch.zeros(D.shape[1:], dtype=torch.long)
        for t in range(len(D) - 1, 0, -1):
            length = (length + 1) * near[t]
            hops[t] |= (length >= hold) & ~near[t - 1]
    return hops


@right("level_hops")
def with_cumsum(D, levels, slack=0.02, hold=5):
    """Counts near snapshots with a running sum."""
    hops = torch.zeros_like(D, dtype=torch.bool)
    for level in levels:
        near = (D - level).abs() <= slack
        total = torch.cat([torch.zeros_like(D[:1]), near.to(D).cumsum(dim=0)])
        for t in range(1, len(D) - hold + 1):
            full = total[t + hold] - total[t] > hold - 0.5
            hops[t] = hops[t] | (full & ~near[t - 1])
    return hops


# --- shift_test --------------------------------------------------------------------------------


def _unit(series: Tensor) -> Tensor:
    centred = series - series.mean(dim=0)
    length = centred.norm(dim=0)
    return torch.where(length > 0, centred / torch.where(length > 0, length, 1), 0)


def _all_shifts(moves: Tensor, falls: Tensor) -> Tensor:
    a, b = _unit(moves), _unit(falls)
    return torch.stack([(a.roll(s, 0) * b).sum(0).mean() for s in range(len(a))])


@wrong("shift_test", mistake="p_can_be_zero")
def without_itself(moves, falls):
    """Leaves shift 0 out of the share."""
    found = _all_shifts(moves, falls)
    return found, (found[1:] >= found[0]).double().mean().item()


@wrong("shift_test", mistake="p_can_be_zero")
def strictly_better(moves, falls):
    """Counts only shifts that do better."""
    found = _all_shifts(moves, falls)
    return found, (found > found[0]).double().mean().item()


@wrong("shift_test", mistake="two_sided")
def by_size(moves, falls):
    """Compares absolute values."""
    found = _all_shifts(moves, falls)
    return found, (found.abs() >= found[0].abs() - 1e-9).double().mean().item()


@wrong("shift_test", mistake="pooled")
def all_in_one(moves, falls):
    """One correlation over all instances together."""
    a, b = moves - moves.mean(0), falls - falls.mean(0)
    scale = (a.norm() * b.norm()).clamp_min(1e-12)
    found = torch.stack([(a.roll(s, 0) * b).sum() / scale for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", mistake="constant_is_nan")
def divides_by_zero(moves, falls):
    """Gives nan where nothing moves."""
    a, b = moves - moves.mean(0), falls - falls.mean(0)
    a, b = a / a.norm(dim=0), b / b.norm(dim=0)
    found = torch.stack([(a.roll(s, 0) * b).sum(0).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", mistake="no_correlation")
def not_centred(moves, falls):
    """Forgets the means."""
    a, b = moves / moves.norm(dim=0).clamp_min(1e-12), falls / falls.norm(dim=0).clamp_min(1e-12)
    found = torch.stack([(a.roll(s, 0) * b).sum(0).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", mistake="no_correlation")
def covariance(moves, falls):
    """Does not divide by the lengths."""
    a, b = moves - moves.mean(0), falls - falls.mean(0)
    found = torch.stack([(a.roll(s, 0) * b).mean(0).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", fails="test_shift_direction")
def other_direction(moves, falls):
    """Rolls the other way."""
    a, b = _unit(moves), _unit(falls)
    found = torch.stack([(a.roll(-s, 0) * b).sum(0).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", fails="test_shift_by_hand")
def pads_with_zeros(moves, falls):
    """Shifts in zeros instead of going round."""
    a, b = _unit(moves), _unit(falls)
    found = torch.stack([(a[: len(a) - s] * b[s:]).sum(0).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", fails="test_shift_random")
def share_below(moves, falls):
    """The share that does worse."""
    found = _all_shifts(moves, falls)
    return found, (found <= found[0]).double().mean().item()


@wrong("shift_test", fails="test_shift_by_hand")
def no_p(moves, falls):
    """Returns the correlations alone."""
    return _all_shifts(moves, falls)


@wrong("shift_test", fails="test_shift_random")
def along_instances(moves, falls):
    """Rolls along the instances."""
    a, b = _unit(moves), _unit(falls)
    found = torch.stack([(a.roll(s, 1) * b).sum(0).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@wrong("shift_test", fails="test_shift_random")
def sums_instances(moves, falls):
    """Sums over instances."""
    found = _all_shifts(moves, falls) * moves.shape[1]
    return found, (found >= found[0]).double().mean().item()


@right("shift_test")
def by_index(moves, falls):
    """By indices instead of rolls."""
    count = len(moves)
    t = torch.arange(count)
    a, b = _unit(moves), _unit(falls)
    shifted = a[(t[None] - t[:, None]) % count]
    found = (shifted * b).sum(dim=1).mean(dim=1)
    return found, float((found >= found[0]).sum()) / count


@right("shift_test")
def with_corrcoef(moves, falls):
    """By corrcoef, one pair at a time."""
    count, instances = moves.shape
    found = torch.zeros(count, dtype=torch.float64)
    for s in range(count):
        for k in range(instances):
            both = torch.stack([moves[:, k].roll(s), falls[:, k]]).double()
            found[s] += torch.nan_to_num(torch.corrcoef(both)[0, 1]) / instances
    return found.to(moves.dtype), (found >= found[0] - 1e-12).double().mean().item()


@right("shift_test")
def p_as_a_tensor(moves, falls):
    """The p-value as a tensor without dimensions."""
    found = _all_shifts(moves, falls)
    return found, 1 - (found < found[0]).double().mean()


@right("shift_test")
def lengths_at_the_end(moves, falls):
    """Centres, multiplies, and divides by both lengths."""
    a, b = moves - moves.mean(0), falls - falls.mean(0)
    scale = a.norm(dim=0) * b.norm(dim=0)
    scale = torch.where(scale > 0, scale, 1)
    found = torch.stack([((a.roll(s, 0) * b).sum(0) / scale).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@right("shift_test")
def a_little_in_the_scale(moves, falls):
    """The same, with 1e-8 against a division by zero."""
    a, b = moves - moves.mean(0), falls - falls.mean(0)
    scale = a.norm(dim=0) * b.norm(dim=0) + 1e-8
    found = torch.stack([((a.roll(s, 0) * b).sum(0) / scale).mean() for s in range(len(a))])
    return found, (found >= found[0]).double().mean().item()


@right("shift_test")
def rolls_first(moves, falls):
    """Rolls what it was given, then centres."""
    found = []
    for s in range(len(moves)):
        rolled = moves.roll(s, 0)
        a, b = rolled - rolled.mean(0), falls - falls.mean(0)
        scale = (a.square().sum(0) * b.square().sum(0)).sqrt()
        found.append(torch.nan_to_num((a * b).sum(0) / scale).mean())
    correlation = torch.stack(found)
    return correlation, (correlation >= correlation[0]).double().mean().item()


@right("shift_test")
def cosine_of_rolled(moves, falls):
    """Rolls, and takes the cosine of the centred series."""
    found = []
    for s in range(len(moves)):
        a = moves.roll(s, 0)
        cosine = torch.cosine_similarity(a - a.mean(0), falls - falls.mean(0), dim=0)
        found.append(cosine.mean())
    correlation = torch.stack(found)
    return correlation, (correlation >= correlation[0]).double().mean().item()


# --- adversarial_direction ---------------------------------------------------------------------


def _rows(W: Tensor) -> Tensor:
    gram = W.mT @ W
    length = gram.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, gram / torch.where(length > 0, length, 1), 0)


@wrong("adversarial_direction", mistake="not_unit")
def whole_rows(W):
    """The rows as they are."""
    return W.mT @ W


@wrong("adversarial_direction", mistake="not_unit")
def by_the_column(W):
    """Divides by the column's length."""
    length = W.norm(dim=-2)[..., None]
    return (W.mT @ W) / torch.where(length > 0, length, 1)


@wrong("adversarial_direction", mistake="only_the_feature_itself")
def one_hot(W):
    """Pushes the feature itself."""
    stored = (W.norm(dim=-2) > 0).to(W)
    return torch.diag_embed(stored)


@wrong("adversarial_direction", mistake="dead_is_nan")
def no_guard(W):
    """Divides by zero."""
    gram = W.mT @ W
    return gram / gram.norm(dim=-1, keepdim=True)


@wrong("adversarial_direction", mistake="wrong_side")
def downhill(W):
    """The direction in which the output falls."""
    return -_rows(W)


@wrong("adversarial_direction", mistake="sign_only")
def signs(W):
    """Every entry as large as every other."""
    sign = (W.mT @ W).sign()
    return sign / sign.norm(dim=-1, keepdim=True).clamp_min(1)


@wrong("adversarial_direction", fails="test_direction_search")
def other_axis(W):
    """Normalises columns instead of rows."""
    gram = W.mT @ W
    length = gram.norm(dim=-2, keepdim=True)
    return torch.where(length > 0, gram / torch.where(length > 0, length, 1), 0)


@wrong("adversarial_direction", fails="test_direction_weights")
def cosines(W):
    """Normalises the columns of W first."""
    return _rows(W / W.norm(dim=-2, keepdim=True).clamp_min(1e-12))


@wrong("adversarial_direction", fails="test_direction_search")
def without_itself_in_it(W):
    """Leaves the feature itself out."""
    gram = W.mT @ W
    own = torch.diag_embed(torch.diagonal(gram, dim1=-2, dim2=-1))
    alone = (gram - own).abs().sum(-1, keepdim=True) < 1e-12
    rest = torch.where(alone, gram, gram - own)
    length = rest.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, rest / torch.where(length > 0, length, 1), 0)


@wrong("adversarial_direction", fails="test_direction_search")
def absolute(W):
    """Forgets the signs."""
    return _rows(W).abs()


@wrong("adversarial_direction", fails="test_direction_faint")
def softened(W):
    """An epsilon that swallows faint columns."""
    gram = W.mT @ W
    return gram / (gram.norm(dim=-1, keepdim=True) + 1e-6)


@wrong("adversarial_direction", fails="test_direction_search")
def first_instance(W):
    """The first instance's answer for all."""
    found = _rows(W)
    return found[:1].expand_as(found).clone()


@wrong("adversarial_direction", fails="test_direction_dtype")
def always_single(W):
    """Always float32."""
    return _rows(W).float()


@right("adversarial_direction")
def with_nan_to_num(W):
    """nan_to_num at the end."""
    gram = W.mT @ W
    return torch.nan_to_num(gram / gram.norm(dim=-1, keepdim=True))


@right("adversarial_direction")
def by_gradient(W):
    """The gradient of each pre-activation, normalised."""
    with torch.enable_grad():
        x = torch.zeros(len(W), W.shape[-1], dtype=W.dtype, requires_grad=True)
        z = (W.mT @ (W @ x[..., None]))[..., 0]
        rows = [torch.autograd.grad(z[:, i].sum(), x, retain_graph=True)[0] for i in range(W.shape[-1])]
    found = torch.stack(rows, dim=1)
    length = found.norm(dim=-1, keepdim=True)
    return found / torch.where(length > 0, length, torch.ones_like(length))


@right("adversarial_direction")
def in_a_loop(W):
    """One instance and one output at a time."""
    found = torch.zeros(len(W), W.shape[-1], W.shape[-1], dtype=W.dtype)
    for k in range(len(W)):
        for i in range(W.shape[-1]):
            row = W[k].T @ W[k, :, i]
            if row.norm() > 0:
                found[k, i] = row / row.norm()
    return found


# --- vulnerability -----------------------------------------------------------------------------


def _losses(W: Tensor, b: Tensor, x: Tensor, pushed: Tensor, importance: Tensor) -> Tensor:
    return (importance * (x - reconstruct(W, b, pushed)).square()).sum(-1)


def _pushes(W: Tensor, epsilon: Tensor, signs: tuple[int, ...] = (1, -1)) -> list[Tensor]:
    push = epsilon[:, None, None] * _rows(W)
    return [sign * push[:, i] for i in range(W.shape[-1]) for sign in signs]


@wrong("vulnerability", mistake="one_push_for_all")
def best_on_average(W, b, x, importance, epsilon):
    """One push for the whole batch."""
    means = [_losses(W, b, x, x + push, importance).mean(0) for push in _pushes(W, epsilon)]
    return torch.stack(means).amax(0) - _losses(W, b, x, x, importance).mean(0)


@wrong("vulnerability", mistake="one_way_only")
def upwards(W, b, x, importance, epsilon):
    """Only pushes that raise an output."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, epsilon, (1,))])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0)


@wrong("vulnerability", mistake="moved_target")
def target_moves(W, b, x, importance, epsilon):
    """Compares with the pushed input."""
    found = torch.stack([_losses(W, b, x + push, x + push, importance) for push in _pushes(W, epsilon)])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0)


@wrong("vulnerability", mistake="clean_left_in")
def loss_under_attack(W, b, x, importance, epsilon):
    """The loss, not its rise."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, epsilon)])
    return found.amax(0).mean(0)


@wrong("vulnerability", mistake="one_output_only")
def attacked_output(W, b, x, importance, epsilon):
    """Counts the attacked output's error alone."""
    clean = importance * (x - reconstruct(W, b, x)).square()
    rises = []
    for index, push in enumerate(_pushes(W, epsilon)):
        error = importance * (x - reconstruct(W, b, x + push)).square()
        rises.append((error - clean)[..., index // 2])
    return torch.stack(rises).amax(0).mean(0)


@wrong("vulnerability", mistake="importance_left_out")
def all_alike(W, b, x, importance, epsilon):
    """Leaves out the importance."""
    alike = torch.ones_like(importance)
    found = torch.stack([_losses(W, b, x, x + push, alike) for push in _pushes(W, epsilon)])
    return (found.amax(0) - _losses(W, b, x, x, alike)).mean(0)


@wrong("vulnerability", fails="test_vulnerability_random")
def one_epsilon(W, b, x, importance, epsilon):
    """The first instance's epsilon for all."""
    same = epsilon[:1].expand_as(epsilon)
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, same)])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0)


@wrong("vulnerability", fails="test_vulnerability_by_hand")
def relative_rise(W, b, x, importance, epsilon):
    """The rise in units of epsilon squared."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, epsilon)])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0) / epsilon.square()


@wrong("vulnerability", fails="test_vulnerability_random")
def mean_push(W, b, x, importance, epsilon):
    """The average over pushes."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, epsilon)])
    return (found.mean(0) - _losses(W, b, x, x, importance)).mean(0)


@wrong("vulnerability", fails="test_vulnerability_random")
def worst_example(W, b, x, importance, epsilon):
    """The worst example of the batch."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, epsilon)])
    return (found.amax(0) - _losses(W, b, x, x, importance)).amax(0)


@wrong("vulnerability", fails="test_vulnerability_by_hand")
def no_length(W, b, x, importance, epsilon):
    """Pushes by a whole unit."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, torch.ones_like(epsilon))])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0)


@wrong("vulnerability", fails="test_vulnerability_random")
def never_negative(W, b, x, importance, epsilon):
    """Pushes that stay within what inputs can be."""
    found = torch.stack([_losses(W, b, x, (x + push).clamp_min(0), importance) for push in _pushes(W, epsilon)])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0)


@right("vulnerability")
def stacked(W, b, x, importance, epsilon):
    """All pushes in one tensor."""
    found = torch.stack([_losses(W, b, x, x + push, importance) for push in _pushes(W, epsilon)])
    return found.amax(0).mean(0) - _losses(W, b, x, x, importance).mean(0)


@right("vulnerability")
def with_the_section(W, b, x, importance, epsilon):
    """With the section's own direction, one sign after the other."""
    direction = adversarial_direction(W)
    clean = _losses(W, b, x, x, importance)
    worst = torch.full_like(clean, -math.inf)
    for step in (epsilon, -epsilon):
        for i in range(x.shape[-1]):
            now = _losses(W, b, x, x + step[:, None] * direction[:, i], importance)
            worst = torch.where(now > worst, now, worst)
    return (worst - clean).mean(dim=0)


@right("vulnerability")
def all_at_once(W, b, x, importance, epsilon):
    """Folds the pushes into the batch."""
    pushes = torch.stack(_pushes(W, epsilon))
    many = (x[None] + pushes[:, None]).flatten(0, 1)
    clean = x[None].expand(len(pushes), -1, -1, -1).flatten(0, 1)
    found = _losses(W, b, clean, many, importance).view(len(pushes), *x.shape[:2])
    return (found.amax(0) - _losses(W, b, x, x, importance)).mean(0)


# --- gibbs_estimate ----------------------------------------------------------------------------


def _weights(w: Tensor, loss: Tensor, n_beta: float, localization: float) -> Tensor:
    return torch.softmax(-n_beta * loss - localization * w.square() / 2, dim=0)


def _home(w: Tensor, loss: Tensor) -> Tensor:
    return loss[w.abs().argmin()]


@wrong("gibbs_estimate", mistake="overflow")
def plain_exponential(w, loss, n_beta, localization):
    """Exponentiates as it is."""
    density = torch.exp(-n_beta * loss - localization * w.square() / 2)
    return float(n_beta * (density * (loss - _home(w, loss))).sum() / density.sum())


@wrong("gibbs_estimate", mistake="no_localization")
def no_spring(w, loss, n_beta, localization):
    """Leaves out the spring."""
    return float(n_beta * (_weights(w, loss, n_beta, 0.0) * (loss - _home(w, loss))).sum())


@wrong("gibbs_estimate", mistake="not_relative")
def mean_loss(w, loss, n_beta, localization):
    """Does not subtract the loss at 0."""
    return float(n_beta * (_weights(w, loss, n_beta, localization) * loss).sum())


@wrong("gibbs_estimate", mistake="n_beta_left_out")
def not_scaled(w, loss, n_beta, localization):
    """Forgets the factor in front."""
    return float((_weights(w, loss, n_beta, localization) * (loss - _home(w, loss))).sum())


@wrong("gibbs_estimate", mistake="spring_without_half")
def double_spring(w, loss, n_beta, localization):
    """Takes gamma w squared."""
    return float(n_beta * (_weights(w, loss, n_beta, 2 * localization) * (loss - _home(w, loss))).sum())


@wrong("gibbs_estimate", fails="test_gibbs_spring")
def n_beta_on_the_spring(w, loss, n_beta, localization):
    """Multiplies the spring by n_beta as well."""
    return float(n_beta * (_weights(w, loss, n_beta, n_beta * localization) * (loss - _home(w, loss))).sum())


@wrong("gibbs_estimate", fails="test_gibbs_spring")
def spring_in_the_loss(w, loss, n_beta, localization):
    """Counts the spring's energy as loss."""
    weights = _weights(w, loss, n_beta, localization)
    return float(n_beta * (weights * (loss - _home(w, loss))).sum() + (weights * localization * w**2 / 2).sum())


@wrong("gibbs_estimate", fails="test_gibbs_off_centre")
def middle_point(w, loss, n_beta, localization):
    """Takes the middle point for 0."""
    return float(n_beta * (_weights(w, loss, n_beta, localization) * (loss - loss[len(w) // 2])).sum())


@wrong("gibbs_estimate", fails="test_gibbs_dips")
def lowest_loss(w, loss, n_beta, localization):
    """Subtracts the lowest loss."""
    return float(n_beta * (_weights(w, loss, n_beta, localization) * (loss - loss.min())).sum())


@wrong("gibbs_estimate", fails="test_gibbs_powers")
def not_normalised(w, loss, n_beta, localization):
    """Forgets to divide by the sum."""
    exponent = -n_beta * loss - localization * w.square() / 2
    density = torch.exp(exponent - exponent.max())
    return float(n_beta * (density * (loss - _home(w, loss))).sum() * (w[1] - w[0]))


@wrong("gibbs_estimate", fails="test_gibbs_powers")
def uphill(w, loss, n_beta, localization):
    """Prefers high losses."""
    return float(n_beta * (torch.softmax(n_beta * loss, dim=0) * (loss - _home(w, loss))).sum())


@wrong("gibbs_estimate", fails="test_gibbs_powers")
def all_alike_in(w, loss, n_beta, localization):
    """An unweighted mean."""
    return float(n_beta * (loss - _home(w, loss)).mean())


@right("gibbs_estimate")
def by_hand(w, loss, n_beta, localization):
    """Subtracts the largest exponent itself."""
    exponent = -n_beta * loss - localization / 2 * w * w
    density = (exponent - exponent.max()).exp()
    mean = (density * loss).sum() / density.sum()
    return n_beta * float(mean - _home(w, loss))


@right("gibbs_estimate")
def with_numpy(w, loss, n_beta, localization):
    """In numpy, returning a Python number."""
    at, value = w.numpy(), loss.numpy() - float(_home(w, loss))
    exponent = -n_beta * value - localization * at**2 / 2
    density = np.exp(exponent - exponent.max())
    return float(n_beta * np.average(value, weights=density))


@right("gibbs_estimate")
def by_trapezoid(w, loss, n_beta, localization):
    """By the trapezoidal rule; a tensor without dimensions."""
    above = loss - _home(w, loss)
    exponent = -n_beta * above - localization * w.square() / 2
    density = torch.exp(exponent - exponent.max())
    return n_beta * torch.trapezoid(density * above, w) / torch.trapezoid(density, w)


# --- sgld_step ---------------------------------------------------------------------------------


def _normal(w: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(w.shape, generator=generator, dtype=w.dtype, device=w.device)


@wrong("sgld_step", mistake="noise_by_epsilon")
def variance_squared(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Multiplies the noise by epsilon."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + epsilon * _normal(w, generator)


@wrong("sgld_step", mistake="uphill")
def climbs(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Goes up the gradient."""
    drift = n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + epsilon**0.5 * _normal(w, generator)


@wrong("sgld_step", mistake="spring_pushes_away")
def repelled(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """The spring pushes away."""
    drift = -n_beta * gradient + localization * (w - w_star)
    return w + epsilon / 2 * drift + epsilon**0.5 * _normal(w, generator)


@wrong("sgld_step", mistake="half_left_out")
def double_drift(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Forgets the half."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon * drift + epsilon**0.5 * _normal(w, generator)


@wrong("sgld_step", mistake="n_beta_on_spring")
def strong_spring(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """n_beta multiplies the spring too."""
    drift = n_beta * (-gradient + localization * (w_star - w))
    return w + epsilon / 2 * drift + epsilon**0.5 * _normal(w, generator)


@wrong("sgld_step", mistake="ignores_generator")
def global_noise(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Draws from the global generator."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + epsilon**0.5 * torch.randn_like(w)


@wrong("sgld_step", mistake="ignores_generator")
def copies_generator(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Seeds anew at every step."""
    drift = -n_beta * gradient + localization * (w_star - w)
    fresh = torch.Generator().manual_seed(generator.initial_seed() if generator else 0)
    noise = _normal(w, fresh if generator else None)
    return w + epsilon / 2 * drift + epsilon**0.5 * noise


@wrong("sgld_step", mistake="shared_noise")
def one_draw(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """The same noise for every chain."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + epsilon**0.5 * _normal(w[:1], generator)


@wrong("sgld_step", mistake="shared_noise")
def one_number_a_chain(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """The same noise for every parameter."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + epsilon**0.5 * _normal(w[:, :1], generator)


@wrong("sgld_step", fails="test_sgld_noise")
def uniform_noise(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Uniform noise of the right variance."""
    drift = -n_beta * gradient + localization * (w_star - w)
    noise = (torch.rand(w.shape, generator=generator, dtype=w.dtype) - 0.5) * 12**0.5
    return w + epsilon / 2 * drift + epsilon**0.5 * noise


@wrong("sgld_step", fails="test_sgld_noise")
def half_the_variance(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Noise of variance epsilon / 2."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + (epsilon / 2) ** 0.5 * _normal(w, generator)


@wrong("sgld_step", fails="test_sgld_noise")
def no_noise(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Gradient descent."""
    return w + epsilon / 2 * (-n_beta * gradient + localization * (w_star - w))


@wrong("sgld_step", fails="test_sgld_epsilon_per_chain")
def first_epsilon(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """The first chain's epsilon for all."""
    size = float(torch.as_tensor(epsilon).flatten()[0])
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + size / 2 * drift + size**0.5 * _normal(w, generator)


@wrong("sgld_step", fails="test_sgld_epsilon_per_chain")
def root_of_a_number(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """math.sqrt takes no tensor with two entries."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + math.sqrt(epsilon) * _normal(w, generator)


@wrong("sgld_step", fails="test_sgld_dtype")
def single_precision(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Always float32."""
    drift = -n_beta * gradient + localization * (w_star - w)
    return (w + epsilon / 2 * drift + epsilon**0.5 * _normal(w, generator)).float()


@wrong("sgld_step", fails="test_sgld_dtype")
def double_noise(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Noise in float64, whatever w is."""
    noise = torch.randn(w.shape, generator=generator, dtype=torch.float64)
    drift = -n_beta * gradient + localization * (w_star - w)
    return w + epsilon / 2 * drift + epsilon**0.5 * noise


@right("sgld_step")
def term_by_term(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """One term after the other."""
    moved = w - epsilon * n_beta / 2 * gradient
    moved = moved - epsilon * localization / 2 * (w - w_star)
    return moved + torch.as_tensor(epsilon, dtype=w.dtype).sqrt() * _normal(w, generator)


@right("sgld_step")
def with_normal(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """torch.empty().normal_()."""
    noise = torch.empty(w.shape, dtype=w.dtype).normal_(generator=generator)
    energy_gradient = n_beta * gradient + localization * (w - w_star)
    return w - 0.5 * epsilon * energy_gradient + noise * epsilon**0.5


@right("sgld_step")
def in_double(w, gradient, w_star, *, epsilon, n_beta, localization, generator=None):
    """Worked in float64."""
    noise = torch.randn(w.shape, generator=generator, dtype=torch.float64)
    wide = w.double()
    drift = -n_beta * gradient.double() + localization * (w_star.double() - wide)
    return (wide + epsilon / 2 * drift + epsilon**0.5 * noise).to(w.dtype)


# --- estimate_llc ------------------------------------------------------------------------------


def _run(loss_and_gradient, w_star, n_steps, on_step, **options):
    """The losses of every step, and the first one."""
    start = loss_and_gradient(w_star)[0].clone()
    w, losses = w_star.clone(), []
    for step in range(n_steps):
        loss, gradient = loss_and_gradient(w)
        losses.append(loss.clone())
        w = sgld_step(w, gradient, w_star, **options)
        if on_step is not None:
            on_step(step, loss)
    return torch.stack(losses), start


@wrong("estimate_llc", mistake="burn_in_counts")
def burn_in_ignored(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Averages over all steps."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses.mean(0) - start)


@wrong("estimate_llc", mistake="burn_in_counts")
def early_steps(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Keeps the burn-in and drops the rest."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[: n_steps - burn_in].mean(0) - start)


@wrong("estimate_llc", mistake="start_not_subtracted")
def mean_only(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Does not subtract the loss at w*."""
    losses, _ = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * losses[burn_in:].mean(0)


@wrong("estimate_llc", mistake="n_beta_left_out")
def rise_only(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Forgets the factor in front."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return losses[burn_in:].mean(0) - start


@wrong("estimate_llc", mistake="home_moves")
def spring_follows(
    loss_and_gradient, w_star, *, epsilon, n_beta, localization, n_steps, burn_in, generator=None, on_step=None
):
    """Ties the spring to where the chain is."""
    start = loss_and_gradient(w_star)[0].clone()
    w, total = w_star.clone(), torch.zeros_like(start)
    for step in range(n_steps):
        loss, gradient = loss_and_gradient(w)
        total = total + loss * (step >= burn_in)
        w = sgld_step(w, gradient, w, epsilon=epsilon, n_beta=n_beta, localization=localization, generator=generator)
        if on_step is not None:
            on_step(step, loss)
    return n_beta * (total / (n_steps - burn_in) - start)


@wrong("estimate_llc", mistake="chains_averaged")
def one_for_all(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """The mean over chains, for each."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    found = n_beta * (losses[burn_in:].mean(0) - start)
    return found.mean().expand_as(found).clone()


@wrong("estimate_llc", mistake="no_noise_in_chain")
def always_from_home(
    loss_and_gradient, w_star, *, epsilon, n_beta, localization, n_steps, burn_in, generator=None, on_step=None
):
    """Never keeps the step."""
    start = loss_and_gradient(w_star)[0].clone()
    total = torch.zeros_like(start)
    for step in range(n_steps):
        loss, gradient = loss_and_gradient(w_star)
        total = total + loss * (step >= burn_in)
        sgld_step(
            w_star, gradient, w_star, epsilon=epsilon, n_beta=n_beta, localization=localization, generator=generator
        )
        if on_step is not None:
            on_step(step, loss)
    return n_beta * (total / (n_steps - burn_in) - start)


@wrong("estimate_llc", fails="test_llc_bowl")
def divides_by_all(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Sums after the burn-in, divides by all steps."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in:].sum(0) / n_steps - start)


@wrong("estimate_llc", fails="test_llc_bowl")
def last_only(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """The highest loss instead of the mean."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in:].amax(0) - start)


@wrong("estimate_llc", fails="test_llc_start")
def from_nought(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Starts every chain at 0."""
    nought = torch.zeros_like(w_star)
    losses, start = _run(loss_and_gradient, nought, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in:].mean(0) - start)


@wrong("estimate_llc", fails="test_llc_generator_and_on_step")
def generator_dropped(
    loss_and_gradient, w_star, *, epsilon, n_beta, localization, n_steps, burn_in, generator=None, on_step=None
):
    """Does not pass the generator on."""
    losses, start = _run(
        loss_and_gradient,
        w_star,
        n_steps,
        on_step,
        epsilon=epsilon,
        n_beta=n_beta,
        localization=localization,
        generator=None,
    )
    return n_beta * (losses[burn_in:].mean(0) - start)


@wrong("estimate_llc", fails="test_llc_generator_and_on_step")
def silent(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Never calls on_step."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, None, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in:].mean(0) - start)


@wrong("estimate_llc", fails="test_llc_bowl")
def no_n_beta_in_the_step(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """The chain does not know of n_beta."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=1.0, **chain)
    return n_beta * (losses[burn_in:].mean(0) - start)


@wrong("estimate_llc", mistake="off_by_one")
def first_step_lost(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Counts from the step after `burn_in`, and divides as if it had all."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in + 1 :].sum(0) / (n_steps - burn_in) - start)


@wrong("estimate_llc", mistake="off_by_one")
def one_step_fewer(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Counts from the step after `burn_in`, and divides by as many."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in + 1 :].sum(0) / (n_steps - burn_in - 1) - start)


@wrong("estimate_llc", mistake="off_by_one")
def one_step_early(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Counts one step of the burn-in as well."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in - 1 :].mean(0) - start)


@wrong("estimate_llc", mistake="off_by_one")
def one_too_many_in_the_sum(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Counts one step of the burn-in, and divides as if it had not."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in - 1 :].sum(0) / (n_steps - burn_in) - start)


@right("estimate_llc")
def keeps_all(loss_and_gradient, w_star, *, n_beta, n_steps, burn_in, on_step=None, **chain):
    """Keeps every loss and averages at the end."""
    losses, start = _run(loss_and_gradient, w_star, n_steps, on_step, n_beta=n_beta, **chain)
    return n_beta * (losses[burn_in:] - start).mean(dim=0)


@right("estimate_llc")
def after_the_step(
    loss_and_gradient, w_star, *, epsilon, n_beta, localization, n_steps, burn_in, generator=None, on_step=None
):
    """Counts the loss after each step instead of before it."""
    start, gradient = loss_and_gradient(w_star)
    loss, w, mean = start.clone(), w_star, torch.zeros_like(start)
    home = start.clone()
    for step in range(n_steps):
        w = sgld_step(
            w, gradient, w_star, epsilon=epsilon, n_beta=n_beta, localization=localization, generator=generator
        )
        loss, gradient = loss_and_gradient(w)
        if step >= burn_in:
            mean = mean + loss / (n_steps - burn_in)
        if on_step is not None:
            on_step(step, loss)
    return n_beta * (mean - home)


@right("estimate_llc")
def written_out(
    loss_and_gradient, w_star, *, epsilon, n_beta, localization, n_steps, burn_in, generator=None, on_step=None
):
    """Writes the step out itself."""
    w, found = w_star.clone(), torch.zeros(len(w_star), dtype=w_star.dtype)
    home = loss_and_gradient(w_star)[0].clone()
    for step in range(n_steps):
        loss, gradient = loss_and_gradient(w)
        if step >= burn_in:
            found += (loss - home) * n_beta / (n_steps - burn_in)
        noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
        w = w + epsilon / 2 * (-n_beta * gradient + localization * (w_star - w)) + noise * epsilon**0.5
        if on_step is not None:
            on_step(step, loss)
    return found
