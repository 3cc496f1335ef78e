"""Answers of "Privileged bases and computation in superposition": wrong ones that must fail, and right ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refract.checking.examples import right, wrong

# Inside an answer these names mean the reference, as they do when a learner's notebook is checked.
neuron_model: Any
absolute_value_model: Any


def _in(W: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ihf,bif->bih", W, x)


def _out(W: Tensor, h: Tensor) -> Tensor:
    return torch.einsum("ihf,bih->bif", W, h)


def _write(W_out: Tensor, h: Tensor) -> Tensor:
    return torch.einsum("ifh,bih->bif", W_out, h)


# --- neuron_model --------------------------------------------------------------------------------


@wrong("neuron_model", mistake="linear_hidden")
def hidden_is_linear(W, b, x):
    """The first section's model."""
    return torch.relu(_out(W, _in(W, x)) + b)


@wrong("neuron_model", mistake="bias_left_out")
def no_bias(W, b, x):
    """No bias."""
    return torch.relu(_out(W, _in(W, x).relu()))


@wrong("neuron_model", mistake="linear_output")
def output_is_linear(W, b, x):
    """No ReLU on the output."""
    return _out(W, _in(W, x).relu()) + b


@wrong("neuron_model", mistake="bias_on_neurons")
def bias_before_hidden(W, b, x):
    """Adds W b before the hidden ReLU, and b to the output."""
    return torch.relu(_out(W, torch.relu(_in(W, x + b))) + b)


@wrong("neuron_model", mistake="bias_on_neurons")
def bias_only_before_hidden(W, b, x):
    """The bias shifts the input, and is not added to the output."""
    return torch.relu(_out(W, torch.relu(_in(W, x + b))))


@wrong("neuron_model", fails="test_neuron_not_negative")
def bias_after_relu(W, b, x):
    """The bias is added after the output's ReLU."""
    return torch.relu(_out(W, _in(W, x).relu())) + b


@wrong("neuron_model", fails="test_neuron_random")
def absolute_hidden(W, b, x):
    """Takes |h| instead of ReLU(h)."""
    return torch.relu(_out(W, _in(W, x).abs()) + b)


@wrong("neuron_model", fails="test_neuron_random")
def instances_averaged(W, b, x):
    """Uses the mean of all instances' weights."""
    W = W.mean(0, keepdim=True).expand_as(W)
    return torch.relu(_out(W, _in(W, x).relu()) + b)


@wrong("neuron_model", fails="test_neuron_gradient")
def detached_hidden(W, b, x):
    """No gradient reaches W through the neurons."""
    return torch.relu(_out(W, _in(W, x).relu().detach()) + b)


@wrong("neuron_model", fails="test_neuron_dtype")
def always_float32(W, b, x):
    """Works in float32 alone when it need not."""
    y = torch.relu(_out(W, _in(W, x).relu()) + b)
    return y.float() if not y.requires_grad else y


@wrong("neuron_model", mistake="changes_input")
def bias_in_place(W, b, x):
    """Changes b."""
    b.add_(1)
    return torch.relu(_out(W, _in(W, x).relu()) + b - 1)


@right("neuron_model")
def by_matmul(W, b, x):
    """Batched matrix products, instance first."""
    h = (x.transpose(0, 1) @ W.mT).clamp(min=0)
    return (h @ W + b[:, None]).clamp(min=0).transpose(0, 1)


@right("neuron_model")
def by_loop(W, b, x):
    """One instance at a time."""
    return torch.stack([torch.relu(torch.relu(x[:, i] @ W[i].T) @ W[i] + b[i]) for i in range(len(W))], dim=1)


@right("neuron_model")
def by_broadcast(W, b, x):
    """Sums over a fourth axis."""
    h = (W * x[:, :, None]).sum(-1).relu()
    return ((W * h[..., None]).sum(-2) + b).relu()


# --- features_served -----------------------------------------------------------------------------


@wrong("features_served", mistake="inhibition_counted")
def both_absolute(W_in, W_out, threshold=0.25):
    """Both factors lose their sign."""
    return ((W_in * W_out.mT).abs() > threshold).sum(-1)


@wrong("features_served", mistake="negative_reading_ignored")
def reading_keeps_its_sign(W_in, W_out, threshold=0.25):
    """Positive readings only."""
    return ((W_in.clamp_min(0) * W_out.mT) > threshold).sum(-1)


@wrong("features_served", mistake="reading_only")
def counts_readings(W_in, W_out, threshold=0.25):
    """Ignores what is written."""
    return (W_in.abs() > threshold).sum(-1)


@wrong("features_served", mistake="neurons_counted")
def counts_neurons(W_in, W_out, threshold=0.25):
    """Sums over the neurons."""
    return ((W_in.abs() * W_out.mT) > threshold).sum(-2)


@wrong("features_served", mistake="boundary_counted")
def at_least_threshold(W_in, W_out, threshold=0.25):
    """A product that equals the threshold counts."""
    return ((W_in.abs() * W_out.mT) >= threshold).sum(-1)


@wrong("features_served", fails="test_served_scale")
def each_factor_over_threshold(W_in, W_out, threshold=0.25):
    """Compares each factor with the threshold's root."""
    root = threshold**0.5
    return ((W_in.abs() > root) & (W_out.mT > root)).sum(-1)


@wrong("features_served", fails="test_served_random")
def threshold_fixed(W_in, W_out, threshold=0.25):
    """Ignores the threshold."""
    return ((W_in.abs() * W_out.mT) > 0.25).sum(-1)


@wrong("features_served", fails="test_served_random")
def writing_without_sign(W_in, W_out, threshold=0.25):
    """The sign is that of the reading."""
    del threshold
    return ((W_in.abs() * W_out.mT) > 0).sum(-1)


@wrong("features_served", fails="test_served_by_hand")
def share_not_count(W_in, W_out, threshold=0.25):
    """A share of the features."""
    return ((W_in.abs() * W_out.mT) > threshold).float().mean(-1)


@wrong("features_served", fails="test_served_shape")
def one_number_a_model(W_in, W_out, threshold=0.25):
    """The mean over neurons."""
    return ((W_in.abs() * W_out.mT) > threshold).sum(-1).float().mean(-1)


@wrong("features_served", mistake="changes_input")
def abs_in_place(W_in, W_out, threshold=0.25):
    """Takes absolute values in place."""
    return ((W_in.abs_() * W_out.mT) > threshold).sum(-1)


@right("features_served")
def by_einsum(W_in, W_out, threshold=0.25):
    """An einsum without a sum."""
    return (torch.einsum("ihf,ifh->ihf", W_in.abs(), W_out) > threshold).sum(dim=2)


@right("features_served")
def by_output(W_in, W_out, threshold=0.25):
    """As floats, with permute."""
    return (W_in.abs() * W_out.permute(0, 2, 1) > threshold).float().sum(2).long()


@right("features_served")
def by_nested_loops(W_in, W_out, threshold=0.25):
    """A loop over instances and neurons."""
    return torch.tensor(
        [
            [int((W_in[n, k].abs() * W_out[n, :, k] > threshold).sum()) for k in range(W_in.shape[1])]
            for n in range(len(W_in))
        ]
    )


# --- absolute_value_model ------------------------------------------------------------------------


@wrong("absolute_value_model", mistake="tied")
def uses_w_in_twice(W_in, W_out, b, x):
    """Tied weights."""
    return torch.relu(_out(W_in, _in(W_in, x).relu()) + b)


@wrong("absolute_value_model", mistake="linear_hidden")
def no_hidden_relu(W_in, W_out, b, x):
    """The hidden layer is linear."""
    return torch.relu(_write(W_out, _in(W_in, x)) + b)


@wrong("absolute_value_model", mistake="linear_output")
def no_output_relu(W_in, W_out, b, x):
    """The output is linear."""
    return _write(W_out, _in(W_in, x).relu()) + b


@wrong("absolute_value_model", mistake="returns_target")
def the_target(W_in, W_out, b, x):
    """Returns |x|."""
    return x.abs()


@wrong("absolute_value_model", fails="test_absolute_by_hand")
def bias_forgotten(W_in, W_out, b, x):
    """No bias."""
    return torch.relu(_write(W_out, _in(W_in, x).relu()))


@wrong("absolute_value_model", fails="test_absolute_by_hand")
def absolute_input(W_in, W_out, b, x):
    """Reads |x|."""
    return torch.relu(_write(W_out, _in(W_in, x.abs()).relu()) + b)


@wrong("absolute_value_model", fails="test_absolute_random")
def hidden_absolute(W_in, W_out, b, x):
    """Takes |h|."""
    return torch.relu(_write(W_out, _in(W_in, x).abs()) + b)


@wrong("absolute_value_model", fails="test_absolute_not_negative")
def bias_last(W_in, W_out, b, x):
    """The bias is added after the ReLU."""
    return torch.relu(_write(W_out, _in(W_in, x).relu())) + b


@wrong("absolute_value_model", fails="test_absolute_instances_apart")
def mean_output_weights(W_in, W_out, b, x):
    """One W_out for all instances."""
    return torch.relu(_write(W_out.mean(0, keepdim=True).expand_as(W_out), _in(W_in, x).relu()) + b)


@wrong("absolute_value_model", fails="test_absolute_dtype")
def float32_output(W_in, W_out, b, x):
    """Always float32."""
    return torch.relu(_write(W_out, _in(W_in, x).relu()) + b).float()


@right("absolute_value_model")
def abs_by_matmul(W_in, W_out, b, x):
    """Batched matrix products."""
    h = (x.transpose(0, 1) @ W_in.mT).clamp(min=0)
    return (h @ W_out.mT + b[:, None]).clamp(min=0).transpose(0, 1)


@right("absolute_value_model")
def abs_by_loop(W_in, W_out, b, x):
    """One instance at a time."""
    return torch.stack(
        [torch.relu(torch.relu(x[:, i] @ W_in[i].T) @ W_out[i].T + b[i]) for i in range(len(W_in))], dim=1
    )


@right("absolute_value_model")
def abs_with_maximum(W_in, W_out, b, x):
    """torch.where for the ReLUs."""
    h = _in(W_in, x)
    y = _write(W_out, torch.where(h > 0, h, 0)) + b
    return torch.where(y > 0, y, 0)


# --- exact_absolute_value ------------------------------------------------------------------------


@wrong("exact_absolute_value", mistake="gives_x_back")
def writes_minus(n_features):
    """ReLU(x) - ReLU(-x) is x."""
    eye = torch.eye(n_features)
    return torch.cat([eye, -eye]), torch.cat([eye, -eye], dim=1), torch.zeros(n_features)


@wrong("exact_absolute_value", mistake="half_missing")
def positive_half_twice(n_features):
    """Both neurons do the positive half, at half the size."""
    eye = torch.eye(n_features)
    return torch.cat([eye, eye]), torch.cat([eye, eye], dim=1) / 2, torch.zeros(n_features)


@wrong("exact_absolute_value", mistake="half_missing")
def only_positive(n_features):
    """The second half of the neurons is empty."""
    eye = torch.eye(n_features)
    zero = torch.zeros_like(eye)
    return torch.cat([eye, zero]), torch.cat([eye, zero], dim=1), torch.zeros(n_features)


@wrong("exact_absolute_value", mistake="twice_too_large")
def doubled(n_features):
    """Twice |x|."""
    eye = torch.eye(n_features)
    return torch.cat([eye, -eye]), 2 * torch.cat([eye, eye], dim=1), torch.zeros(n_features)


@wrong("exact_absolute_value", fails="test_exact_single")
def with_bias(n_features):
    """A bias of one half."""
    eye = torch.eye(n_features)
    return torch.cat([eye, -eye]), torch.cat([eye, eye], dim=1), torch.full((n_features,), 0.5)


@wrong("exact_absolute_value", fails="test_exact_shapes")
def output_not_transposed(n_features):
    """W_out in the shape of W_in."""
    eye = torch.eye(n_features)
    return torch.cat([eye, -eye]), torch.cat([eye, eye]), torch.zeros(n_features)


@wrong("exact_absolute_value", fails="test_exact_shapes")
def with_instance(n_features):
    """With an instance axis."""
    eye = torch.eye(n_features)[None]
    return torch.cat([eye, -eye], 1), torch.cat([eye, eye], dim=2), torch.zeros(1, n_features)


@wrong("exact_absolute_value", fails="test_exact_single")
def shifted_halves(n_features):
    """Interleaved on the way in, in blocks on the way out."""
    eye = torch.eye(n_features)
    W_in = torch.stack([eye, -eye], dim=1).reshape(2 * n_features, n_features)
    return W_in, torch.cat([eye, eye], dim=1), torch.zeros(n_features)


@wrong("exact_absolute_value", fails="test_exact_shapes")
def three_only(n_features):
    """Three features, whatever was asked."""
    eye = torch.eye(3)
    return torch.cat([eye, -eye]), torch.cat([eye, eye], dim=1), torch.zeros(3)


@wrong("exact_absolute_value", fails="test_exact_shapes")
def without_b(n_features):
    """Two parts only."""
    eye = torch.eye(n_features)
    return torch.cat([eye, -eye]), torch.cat([eye, eye], dim=1)


@right("exact_absolute_value")
def interleaved(n_features):
    """The two halves of a feature are neighbours."""
    W_in = torch.kron(torch.eye(n_features), torch.tensor([[1.0], [-1.0]]))
    return W_in, W_in.abs().T, torch.zeros(n_features)


@right("exact_absolute_value")
def scaled(n_features):
    """Reads four times as strongly and writes a quarter."""
    eye = torch.eye(n_features)
    return 4 * torch.cat([eye, -eye]), torch.cat([eye, eye], dim=1) / 4, torch.zeros(n_features)


@right("exact_absolute_value")
def in_a_list(n_features):
    """A list, filled by a loop, in float64."""
    W_in = torch.zeros(2 * n_features, n_features, dtype=torch.float64)
    for i in range(n_features):
        W_in[i, i], W_in[n_features + i, i] = 1, -1
    return [W_in, W_in.abs().T.contiguous(), torch.zeros(n_features, dtype=torch.float64)]


@right("exact_absolute_value")
def by_passing_x(n_features):
    """|x| = 2 ReLU(x) - x needs x itself: ReLU(-x) is found another way, as ReLU of a negative multiple."""
    eye = torch.eye(n_features)
    return torch.cat([-3 * eye, eye]), torch.cat([eye / 3, eye], dim=1), torch.zeros(n_features)


# --- find_asymmetric_pairs -----------------------------------------------------------------------


def _pairs(W_in, W_out, ratio, threshold, *, opposite=True, reads=True, writes=True, served=True, swap=False):
    read, write = W_in.abs(), W_out.mT
    serves = read * write > threshold
    found = torch.ones(*W_in.shape, W_in.shape[-1], dtype=torch.bool)
    if served:
        found = found & serves[..., :, None] & serves[..., None, :]
    if opposite:
        found = found & (W_in[..., :, None] * W_in[..., None, :] < 0)
    if reads:
        found = found & (read[..., :, None] >= ratio * read[..., None, :])
    if writes:
        found = found & (write[..., None, :] >= ratio * write[..., :, None])
    return found.mT if swap else found


@wrong("find_asymmetric_pairs", mistake="swapped")
def weak_first(W_in, W_out, ratio=2.0, threshold=0.25):
    """The weak feature first."""
    return _pairs(W_in, W_out, ratio, threshold, swap=True)


@wrong("find_asymmetric_pairs", mistake="same_sign_allowed")
def any_signs(W_in, W_out, ratio=2.0, threshold=0.25):
    """Signs are not compared."""
    return _pairs(W_in, W_out, ratio, threshold, opposite=False)


@wrong("find_asymmetric_pairs", mistake="reading_only")
def reading_ratio_only(W_in, W_out, ratio=2.0, threshold=0.25):
    """What is written is not compared."""
    return _pairs(W_in, W_out, ratio, threshold, writes=False)


@wrong("find_asymmetric_pairs", mistake="writing_only")
def writing_ratio_only(W_in, W_out, ratio=2.0, threshold=0.25):
    """What is read is not compared."""
    return _pairs(W_in, W_out, ratio, threshold, reads=False)


@wrong("find_asymmetric_pairs", mistake="not_served")
def service_ignored(W_in, W_out, ratio=2.0, threshold=0.25):
    """No threshold on what is served, only signs."""
    return _pairs(W_in, W_out, ratio, 0.0)


@wrong("find_asymmetric_pairs", mistake="not_served")
def inhibition_serves(W_in, W_out, ratio=2.0, threshold=0.25):
    """What is written loses its sign."""
    return _pairs(W_in, W_out.abs(), ratio, threshold)


@wrong("find_asymmetric_pairs", mistake="not_served")
def only_strong_served(W_in, W_out, ratio=2.0, threshold=0.25):
    """Only the strong feature need be served."""
    served = W_in.abs() * W_out.mT > threshold
    return _pairs(W_in, W_out, ratio, threshold, served=False) & served[..., :, None]


@wrong("find_asymmetric_pairs", mistake="options_ignored")
def ratio_of_two(W_in, W_out, ratio=2.0, threshold=0.25):
    """The ratio is always 2."""
    return _pairs(W_in, W_out, 2.0, threshold)


@wrong("find_asymmetric_pairs", mistake="options_ignored")
def threshold_of_a_quarter(W_in, W_out, ratio=2.0, threshold=0.25):
    """The threshold is always a quarter."""
    return _pairs(W_in, W_out, ratio, 0.25)


@wrong("find_asymmetric_pairs", mistake="writes_same_way")
def writes_as_it_reads(W_in, W_out, ratio=2.0, threshold=0.25):
    """Writes the strongly read feature strongly."""
    write = W_out.mT
    same = write[..., :, None] >= ratio * write[..., None, :]
    return _pairs(W_in, W_out, ratio, threshold, writes=False) & same


@wrong("find_asymmetric_pairs", fails="test_pairs_boundary")
def strictly_more(W_in, W_out, ratio=2.0, threshold=0.25):
    """More than the ratio."""
    return _pairs(W_in, W_out, ratio * 1.0001, threshold)


@wrong("find_asymmetric_pairs", fails="test_pairs_mirror")
def strong_is_positive(W_in, W_out, ratio=2.0, threshold=0.25):
    """Strong features are read with a positive sign."""
    return _pairs(W_in, W_out, ratio, threshold) & (W_in[..., :, None] > 0)


@wrong("find_asymmetric_pairs", fails="test_pairs_design")
def symmetric_answer(W_in, W_out, ratio=2.0, threshold=0.25):
    """Both orders of every pair."""
    found = _pairs(W_in, W_out, ratio, threshold)
    return found | found.mT


@wrong("find_asymmetric_pairs", fails="test_pairs_scale")
def absolute_sizes(W_in, W_out, ratio=2.0, threshold=0.25):
    """Also asks that readings be above the threshold themselves."""
    large = W_in.abs() > threshold
    return _pairs(W_in, W_out, ratio, threshold) & large[..., None, :]


@wrong("find_asymmetric_pairs", fails="test_pairs_design")
def as_numbers(W_in, W_out, ratio=2.0, threshold=0.25):
    """Floats, not booleans."""
    return _pairs(W_in, W_out, ratio, threshold).float()


@right("find_asymmetric_pairs")
def by_loops(W_in, W_out, ratio=2.0, threshold=0.25):
    """Loops over pairs of features."""
    n = W_in.shape[-1]
    found = torch.zeros(*W_in.shape, n, dtype=torch.bool)
    write = W_out.mT
    for i in range(n):
        for j in range(n):
            a, c, u, v = W_in[..., i], W_in[..., j], write[..., i], write[..., j]
            found[..., i, j] = (
                (a.abs() * u > threshold)
                & (c.abs() * v > threshold)
                & (a.sign() * c.sign() == -1)
                & (a.abs() >= ratio * c.abs())
                & (v >= ratio * u)
            )
    return found


@right("find_asymmetric_pairs")
def by_einops(W_in, W_out, ratio=2.0, threshold=0.25):
    """With unsqueeze instead of None."""
    read, write = W_in.abs(), W_out.transpose(1, 2)
    i, j = read.unsqueeze(3), read.unsqueeze(2)
    u, v = write.unsqueeze(3), write.unsqueeze(2)
    signs = W_in.sign().unsqueeze(3) * W_in.sign().unsqueeze(2)
    return (i * u > threshold).logical_and(j * v > threshold) & (signs < 0) & ~(i < ratio * j) & ~(v < ratio * u)


@right("find_asymmetric_pairs")
def by_product_of_floats(W_in, W_out, ratio=2.0, threshold=0.25):
    """Multiplies the conditions."""
    write = W_out.mT
    serves = (W_in.abs() * write > threshold).float()
    both = torch.einsum("nki,nkj->nkij", serves, serves)
    reads = (W_in.abs()[..., :, None] >= ratio * W_in.abs()[..., None, :]).float()
    writes = (write[..., None, :] >= ratio * write[..., :, None]).float()
    opposite = (torch.einsum("nki,nkj->nkij", W_in, W_in) < 0).float()
    return both * reads * writes * opposite > 0


# --- find_inhibited ------------------------------------------------------------------------------


def _effects(W_in: Tensor, W_out: Tensor, sign: int) -> Tensor:
    """(instance, hidden, i, j): what each neuron adds to output j while x_i is ``sign``."""
    return (sign * W_in).clamp_min(0)[..., :, None] * W_out.mT[..., None, :]


def _inhibited(W_in, W_out, *, share=0.5, sum_up=False, diagonal=False):
    own = W_in.abs()[..., :, None] * W_out.mT[..., None, :]
    away = torch.zeros_like(own)
    for sign in (1, -1):
        effects = _effects(W_in, W_out, sign)
        taken = effects.clamp_max(0).sum(1, keepdim=True) if sum_up else effects.amin(1, keepdim=True)
        away = torch.where((sign * W_in > 0)[..., None], taken, away)
    found = (own > 0) & (away <= -share * own) & (away < 0)
    return found if diagonal else found & ~torch.eye(W_in.shape[-1], dtype=torch.bool)


@wrong("find_inhibited", mistake="any_sign")
def sign_of_reading_ignored(W_in, W_out):
    """Neurons that read with either sign."""
    own = W_in.abs()[..., :, None] * W_out.mT[..., None, :]
    others = ~torch.eye(W_in.shape[-1], dtype=torch.bool)
    return (own > 0) & (own.amin(1, keepdim=True) <= -own / 2) & others


@wrong("find_inhibited", mistake="any_amount")
def a_little_is_enough(W_in, W_out):
    """Any amount inhibits."""
    return _inhibited(W_in, W_out, share=0.0)


@wrong("find_inhibited", mistake="any_amount")
def a_quarter_is_enough(W_in, W_out):
    """A quarter inhibits."""
    return _inhibited(W_in, W_out, share=0.25)


@wrong("find_inhibited", mistake="sum_of_many")
def all_together(W_in, W_out):
    """Adds up all inhibitors."""
    return _inhibited(W_in, W_out, sum_up=True)


@wrong("find_inhibited", mistake="own_output")
def diagonal_kept(W_in, W_out):
    """The diagonal is not left out."""
    return _inhibited(W_in, W_out, diagonal=True)


@wrong("find_inhibited", mistake="swapped")
def present_last(W_in, W_out):
    """Exchanges i and j."""
    return _inhibited(W_in, W_out).mT


@wrong("find_inhibited", mistake="all_of_it")
def all_of_it(W_in, W_out):
    """All of the interference must be taken away."""
    return _inhibited(W_in, W_out, share=1.0)


@wrong("find_inhibited", fails="test_inhibited_negative")
def positive_only(W_in, W_out):
    """Only x_i = 1 is looked at."""
    return _inhibited(W_in, W_out) & (W_in[..., None] > 0)


@wrong("find_inhibited", fails="test_inhibited_nothing")
def own_sign_ignored(W_in, W_out):
    """A neuron that pushes down counts as inhibited."""
    own = (W_in.abs()[..., :, None] * W_out.mT[..., None, :]).abs()
    away = torch.zeros_like(own)
    for sign in (1, -1):
        away = torch.where((sign * W_in > 0)[..., None], _effects(W_in, W_out, sign).amin(1, keepdim=True), away)
    return (own > 0) & (away <= -own / 2) & ~torch.eye(W_in.shape[-1], dtype=torch.bool)


@wrong("find_inhibited", mistake="all_of_it")
def nine_tenths(W_in, W_out):
    """Nearly all of the interference must be taken away."""
    return _inhibited(W_in, W_out, share=0.9)


@wrong("find_inhibited", fails="test_inhibited_half")
def more_than_half(W_in, W_out):
    """Exactly half is not enough."""
    return _inhibited(W_in, W_out, share=0.5001)


@wrong("find_inhibited", fails="test_inhibited_design")
def as_integers(W_in, W_out):
    """Integers, not booleans."""
    return _inhibited(W_in, W_out).int()


@right("find_inhibited")
def inhibited_by_loops(W_in, W_out):
    """Loops over neurons and features."""
    instances, hidden, n = W_in.shape
    found = torch.zeros(instances, hidden, n, n, dtype=torch.bool)
    for k in range(hidden):
        for i in range(n):
            sign = W_in[:, k, i].sign()
            effect = (sign[:, None] * W_in[:, :, i]).clamp_min(0)[:, None, :] * W_out
            own = effect[:, :, k]
            others = effect.clone()
            others[:, :, k] = 0
            found[:, k, i] = (own > 0) & (others.amin(-1) <= -own / 2)
            found[:, k, i, i] = False
    return found


@right("find_inhibited")
def inhibited_all_at_once(W_in, W_out):
    """Two neurons at a time, in one five-axis tensor."""
    same = (W_in.sign()[:, :, None] * W_in[:, None]).clamp_min(0)  # (n, k, l, i)
    effect = same[..., None] * W_out.mT[:, None, :, None, :]  # (n, k, l, i, j)
    own = W_in.abs()[..., None] * W_out.mT[:, :, None, :]
    n = W_in.shape[-1]
    return (own > 0) & (effect.amin(2) <= -own / 2) & (torch.eye(n) == 0)


@right("find_inhibited")
def inhibited_by_two_stacks(W_in, W_out):
    """Both signs stacked, then chosen."""
    stacked = torch.stack([_effects(W_in, W_out, s).amin(1) for s in (1, -1)])
    own = torch.stack([_effects(W_in, W_out, s) for s in (1, -1)])
    found = ((own > 0) & (stacked[:, :, None] <= -own / 2)).any(0)
    n = W_in.shape[-1]
    found[..., torch.arange(n), torch.arange(n)] = False
    return found
