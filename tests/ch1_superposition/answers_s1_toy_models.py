"""Answers of "Features, importance and sparsity": wrong ones that must fail as named, right ones that must pass."""

from __future__ import annotations

from typing import Any

import einops
import numpy as np
import torch
from torch import Tensor

from refract.checking.examples import right, wrong

# Inside an answer these names mean the reference, as they do when a learner's notebook is checked.
sample_features: Any
reconstruct: Any
importance_weighted_mse: Any

# --- sample_features ---------------------------------------------------------------------------


@wrong("sample_features", mistake="shared_randomness")
def one_draw_for_both(batch, feature_probability):
    """One random tensor decides presence and size."""
    draw = torch.rand(batch, *feature_probability.shape)
    return torch.where(draw < feature_probability, draw, 0.0)


@wrong("sample_features", mistake="absent_with_p")
def p_is_probability_of_zero(batch, feature_probability):
    """Takes p for the probability of absence."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) > feature_probability) * torch.rand(shape)


@wrong("sample_features", mistake="only_on_or_off")
def binary_features(batch, feature_probability):
    """Every present feature has size 1."""
    return (torch.rand(batch, *feature_probability.shape) < feature_probability).float()


@wrong("sample_features", mistake="presence_once")
def presence_once(batch, feature_probability):
    """One draw of presence for the whole batch, fresh sizes."""
    return torch.bernoulli(feature_probability) * torch.rand(batch, *feature_probability.shape)


@wrong("sample_features", mistake="one_row_for_all")
def one_row_expanded(batch, feature_probability):
    """One draw for the whole batch."""
    row = (torch.rand(feature_probability.shape) < feature_probability) * torch.rand(feature_probability.shape)
    return row.expand(batch, *row.shape).clone()


@wrong("sample_features", fails="test_sample_probability")
def first_probability_for_all(batch, feature_probability):
    """Uses the first feature's probability for all."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability[:, :1]) * torch.rand(shape)


@wrong("sample_features", fails="test_sample_independence")
def whole_instance_present_or_absent(batch, feature_probability):
    """One coin for all features of an instance."""
    coin = torch.rand(batch, len(feature_probability), 1)
    return (coin < feature_probability) * torch.rand(batch, *feature_probability.shape)


@wrong("sample_features", fails="test_sample_independence")
def same_for_every_instance(batch, feature_probability):
    """All instances see the same features."""
    n = feature_probability.shape[-1]
    return (torch.rand(batch, 1, n) < feature_probability) * torch.rand(batch, 1, n)


@wrong("sample_features", fails="test_sample_independence")
def one_size_for_a_row(batch, feature_probability):
    """All features of a row have the same size."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability) * torch.rand(batch, 1, 1)


@wrong("sample_features", fails="test_sample_range")
def normal_sizes(batch, feature_probability):
    """Sizes from a normal distribution."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability) * torch.randn(shape)


@wrong("sample_features", fails="test_sample_range")
def symmetric_sizes(batch, feature_probability):
    """Sizes on [-1, 1]."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability) * (2 * torch.rand(shape) - 1)


@wrong("sample_features", fails="test_sample_uniform")
def squared_sizes(batch, feature_probability):
    """Sizes that favour the small."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability) * torch.rand(shape) ** 2


@wrong("sample_features", fails="test_sample_shape")
def instance_first(batch, feature_probability):
    """Shape (instance, batch, feature)."""
    i, n = feature_probability.shape
    p = feature_probability[:, None]
    return (torch.rand(i, batch, n) < p) * torch.rand(i, batch, n)


@wrong("sample_features", fails="test_sample_dtype")
def always_float32(batch, feature_probability):
    """Ignores the dtype of feature_probability."""
    shape = (batch, *feature_probability.shape)
    return ((torch.rand(shape) < feature_probability) * torch.rand(shape)).float()


@wrong("sample_features", fails="test_sample_calls_differ")
def seeded(batch, feature_probability):
    """Seeds a generator of its own, so that every call draws the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, *feature_probability.shape)
    present = torch.rand(shape, generator=generator) < feature_probability
    return present * torch.rand(shape, generator=generator, dtype=feature_probability.dtype)


@wrong("sample_features", fails="test_sample_presence_tells_nothing_of_size")
def shared_among_present(batch, feature_probability):
    """Divides the size among the features that are present."""
    shape = (batch, *feature_probability.shape)
    present = torch.rand(shape) < feature_probability
    return present * torch.rand(shape) / present.sum(-1, keepdim=True).clamp_min(1)


@wrong("sample_features", mistake="changes_input")
def clamps_in_place(batch, feature_probability):
    """Changes feature_probability on the way."""
    shape = (batch, *feature_probability.shape)
    present = torch.rand(shape) < feature_probability
    feature_probability.mul_(0.5)
    return present * torch.rand(shape, dtype=feature_probability.dtype)


@right("sample_features")
def with_bernoulli(batch, feature_probability):
    """torch.bernoulli for presence."""
    p = feature_probability.expand(batch, *feature_probability.shape)
    return torch.bernoulli(p) * torch.rand_like(p)


@right("sample_features")
def with_where(batch, feature_probability):
    """torch.where, and rand_like."""
    p = feature_probability.repeat(batch, 1, 1)
    return torch.where(torch.rand_like(p) < p, torch.rand_like(p), torch.zeros_like(p))


@right("sample_features")
def in_place_mask(batch, feature_probability):
    """Draw all sizes, then wipe the absent ones."""
    shape = (batch, *feature_probability.shape)
    x = torch.empty(shape, dtype=feature_probability.dtype, device=feature_probability.device).uniform_()
    x[torch.rand(shape, device=x.device) >= feature_probability] = 0
    return x


@right("sample_features")
def one_draw_rescaled(batch, feature_probability):
    """One draw, rescaled: given u < p, u / p is uniform and independent of presence."""
    u = torch.rand(batch, *feature_probability.shape, dtype=feature_probability.dtype)
    return torch.where(u < feature_probability, u / feature_probability.clamp_min(1e-30), 0.0)


@right("sample_features")
def with_distributions(batch, feature_probability):
    """torch.distributions."""
    present = torch.distributions.Bernoulli(feature_probability).sample((batch,))
    zero = torch.zeros_like(feature_probability)
    return present * torch.distributions.Uniform(zero, zero + 1).sample((batch,))


# --- reconstruct -------------------------------------------------------------------------------


def _hidden(W: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ihf,bif->bih", W, x)


def _out(W: Tensor, h: Tensor) -> Tensor:
    return torch.einsum("ihf,bih->bif", W, h)


@wrong("reconstruct", mistake="bias_left_out")
def without_bias(W, b, x):
    """No bias."""
    return torch.relu(_out(W, _hidden(W, x)))


@wrong("reconstruct", mistake="relu_before_bias")
def bias_outside(W, b, x):
    """The bias after the ReLU."""
    return torch.relu(_out(W, _hidden(W, x))) + b


@wrong("reconstruct", mistake="no_relu")
def linear(W, b, x):
    """No ReLU."""
    return _out(W, _hidden(W, x)) + b


@wrong("reconstruct", mistake="relu_on_hidden")
def rectified_hidden(W, b, x):
    """A ReLU on the hidden layer too."""
    return torch.relu(_out(W, torch.relu(_hidden(W, x))) + b)


@wrong("reconstruct", mistake="relu_on_hidden")
def relu_on_hidden_only(W, b, x):
    """A ReLU on the hidden layer, and a clamp at the end."""
    return (_out(W, _hidden(W, x).relu()) + b).clamp(min=0)


@wrong("reconstruct", fails="test_reconstruct_random")
def bias_subtracted(W, b, x):
    """The bias with the wrong sign."""
    return torch.relu(_out(W, _hidden(W, x)) - b)


@wrong("reconstruct", fails="test_reconstruct_random")
def first_instance_for_all(W, b, x):
    """The first instance's weights for all."""
    return torch.relu(torch.einsum("hf,hg,big->bif", W[0], W[0], x) + b)


@wrong("reconstruct", mistake="instances_summed")
def summed_over_instances(W, b, x):
    """The hidden layers of all instances added up."""
    h = _hidden(W, x).sum(dim=1)
    return torch.relu(torch.einsum("ihf,bh->bif", W, h) + b)


@wrong("reconstruct", fails="test_reconstruct_has_bias")
def bias_before_the_weights(W, b, x):
    """The bias is added to the input."""
    return torch.relu(_out(W, _hidden(W, x + b)))


@wrong("reconstruct", fails="test_reconstruct_random")
def mean_over_instances(W, b, x):
    """Averages the hidden layers of the instances."""
    h = _hidden(W, x)
    return torch.relu(_out(W, h.mean(dim=1, keepdim=True).expand_as(h)) + b)


@wrong("reconstruct", fails="test_reconstruct_by_hand")
def abs_instead(W, b, x):
    """The absolute value instead of a ReLU."""
    return (_out(W, _hidden(W, x)) + b).abs()


@wrong("reconstruct", fails="test_reconstruct_gradient")
def detached_on_the_way_in(W, b, x):
    """No gradient through the first use of W."""
    return torch.relu(_out(W, _hidden(W.detach(), x)) + b)


@wrong("reconstruct", fails="test_reconstruct_by_hand")
def sigmoid_instead(W, b, x):
    """A sigmoid instead of a ReLU."""
    return torch.sigmoid(_out(W, _hidden(W, x)) + b)


@wrong("reconstruct", mistake="changes_input")
def adds_in_place(W, b, x):
    """Writes into x."""
    y = torch.relu(_out(W, _hidden(W, x)) + b)
    x += 1
    return y


@wrong("reconstruct", fails="test_reconstruct_keeps_inputs")
def in_float32(W, b, x):
    """Always float32."""
    return torch.relu(_out(W, _hidden(W, x)) + b).float()


@wrong("reconstruct", fails="test_reconstruct_random")
def normalised_columns(W, b, x):
    """Unit columns on the way out."""
    unit = W / W.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return torch.relu(_out(unit, _hidden(W, x)) + b)


@right("reconstruct")
def with_matmul(W, b, x):
    """Batched matrix products over the instance axis."""
    rows = x.transpose(0, 1)
    return torch.relu(rows @ W.transpose(1, 2) @ W + b[:, None]).transpose(0, 1)


@right("reconstruct")
def through_gram(W, b, x):
    """The Gram matrix first."""
    gram = torch.einsum("ihf,ihg->ifg", W, W)
    return torch.nn.functional.relu(torch.einsum("ifg,big->bif", gram, x) + b)


@right("reconstruct")
def with_a_loop(W, b, x):
    """One instance at a time."""
    outputs = [(x[:, i] @ W[i].T @ W[i] + b[i]).clamp(min=0) for i in range(len(W))]
    return torch.stack(outputs, dim=1)


@right("reconstruct")
def with_einops(W, b, x):
    """Einops with other axis names."""
    h = einops.einsum(W, x, "i h n, ... i n -> ... i h")
    return (einops.einsum(W, h, "i h n, ... i h -> ... i n") + b).relu()


# --- importance_weighted_mse -------------------------------------------------------------------


@wrong("importance_weighted_mse", mistake="mean_over_features")
def mean_everywhere(x, x_hat, importance):
    """Averages over features too."""
    return (importance * (x - x_hat) ** 2).mean(dim=(0, 2))


@wrong("importance_weighted_mse", mistake="importance_squared")
def weighted_error_squared(x, x_hat, importance):
    """Squares the importance along with the error."""
    return ((importance * (x - x_hat)) ** 2).sum(-1).mean(0)


@wrong("importance_weighted_mse", mistake="instances_mixed")
def broadcast_over_instances(x, x_hat, importance):
    """Every instance gets the mean loss."""
    loss = (importance * (x - x_hat) ** 2).sum(-1).mean(0)
    return loss.mean().expand_as(loss).clone()


@wrong("importance_weighted_mse", fails="test_loss_shape")
def one_number(x, x_hat, importance):
    """One number for all instances."""
    return (importance * (x - x_hat) ** 2).sum(-1).mean(0).sum()


@wrong("importance_weighted_mse", fails="test_loss_shape")
def no_mean_over_batch(x, x_hat, importance):
    """Keeps the batch axis."""
    return (importance * (x - x_hat) ** 2).sum(-1)


@wrong("importance_weighted_mse", fails="test_loss_batch")
def summed_over_batch(x, x_hat, importance):
    """Sums over the batch."""
    return (importance * (x - x_hat) ** 2).sum(-1).sum(0)


@wrong("importance_weighted_mse", mistake="importance_ignored")
def importance_ignored(x, x_hat, importance):
    """Leaves the importance out."""
    return ((x - x_hat) ** 2).sum(-1).mean(0)


@wrong("importance_weighted_mse", fails="test_loss_by_hand")
def absolute_error(x, x_hat, importance):
    """The absolute error instead of the square."""
    return (importance * (x - x_hat).abs()).sum(-1).mean(0)


@wrong("importance_weighted_mse", fails="test_loss_by_hand")
def root_of_the_square(x, x_hat, importance):
    """Takes the root at the end."""
    return (importance * (x - x_hat) ** 2).sum(-1).mean(0).sqrt()


@wrong("importance_weighted_mse", fails="test_loss_gradient")
def detached_error(x, x_hat, importance):
    """No gradient for x_hat."""
    return (importance * (x - x_hat.detach()) ** 2).sum(-1).mean(0) + 0 * x_hat.sum()


@wrong("importance_weighted_mse", fails="test_loss_by_hand")
def normalised_importance(x, x_hat, importance):
    """Makes the importances sum to one."""
    return (importance / importance.sum() * (x - x_hat) ** 2).sum(-1).mean(0)


@wrong("importance_weighted_mse", mistake="changes_input")
def subtracts_in_place(x, x_hat, importance):
    """Writes the error into x."""
    return (importance * x.sub_(x_hat) ** 2).sum(-1).mean(0)


@wrong("importance_weighted_mse", fails="test_loss_keeps_inputs")
def loss_in_float32(x, x_hat, importance):
    """Always float32."""
    return (importance * (x - x_hat) ** 2).sum(-1).mean(0).float()


@right("importance_weighted_mse")
def with_einsum(x, x_hat, importance):
    """One einsum."""
    error = x - x_hat
    return torch.einsum("bif,bif,f->i", error, error, importance) / len(x)


@right("importance_weighted_mse")
def mean_first(x, x_hat, importance):
    """The mean over the batch first, then a matrix product."""
    return torch.nn.functional.mse_loss(x_hat, x, reduction="none").mean(dim=0) @ importance


@right("importance_weighted_mse")
def with_a_loop_over_features(x, x_hat, importance):
    """A loop over the features."""
    total = torch.zeros_like(x[0, :, 0])
    for feature, weight in enumerate(importance):
        total = total + weight * (x[..., feature] - x_hat[..., feature]).pow(2).mean(0)
    return total


# --- train_toy_models --------------------------------------------------------------------------


def _trainer(loop_body, *, after=None):
    """A whole answer from the body of its loop; ``after`` changes what is returned."""

    def train(
        feature_probability,
        importance,
        d_hidden,
        *,
        n_steps=3000,
        batch=256,
        learning_rate=1e-2,
        model=None,
        on_step=None,
    ):
        model = model or reconstruct
        instance, feature = feature_probability.shape
        like = {"dtype": feature_probability.dtype, "device": feature_probability.device}
        W = ((2 / (feature + d_hidden)) ** 0.5 * torch.randn(instance, d_hidden, feature, **like)).requires_grad_()
        b = torch.zeros(instance, feature, **like).requires_grad_()
        optimizer = torch.optim.Adam([W, b], lr=learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=n_steps)
        state = {"p": feature_probability, "importance": importance, "batch": batch, "model": model, "step": 0}
        for step in range(n_steps):
            state["step"] = step
            loss = loop_body(state, W, b, optimizer)
            schedule.step()
            if on_step is not None:
                on_step(step, loss.detach())
        return after(W, b) if after else (W.detach(), b.detach())

    return train


def _loss(state, W, b, x=None):
    x = sample_features(state["batch"], state["p"]) if x is None else x
    return importance_weighted_mse(x, state["model"](W, b, x), state["importance"])


def _step(loss, optimizer):
    optimizer.zero_grad()
    loss.sum().backward()
    optimizer.step()
    return loss


def _same_batch(state, W, b, optimizer):
    if "x" not in state:
        state["x"] = sample_features(state["batch"], state["p"])
    return _step(_loss(state, W, b, state["x"]), optimizer)


def _never_cleared(state, W, b, optimizer):
    loss = _loss(state, W, b)
    loss.sum().backward()
    optimizer.step()
    return loss


def _cleared_too_soon(state, W, b, optimizer):
    loss = _loss(state, W, b)
    loss.sum().backward()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    return loss


def _own_network(state, W, b, optimizer):
    x = sample_features(state["batch"], state["p"])
    return _step(importance_weighted_mse(x, reconstruct(W, b, x), state["importance"]), optimizer)


def _no_importance(state, W, b, optimizer):
    x = sample_features(state["batch"], state["p"])
    return _step(importance_weighted_mse(x, state["model"](W, b, x), torch.ones_like(state["importance"])), optimizer)


def _no_step(state, W, b, optimizer):
    loss = _loss(state, W, b)
    optimizer.zero_grad()
    loss.sum().backward()
    return loss


def _uphill(state, W, b, optimizer):
    loss = _loss(state, W, b)
    optimizer.zero_grad()
    (-loss.sum()).backward()
    optimizer.step()
    return loss


def _first_instance_only(state, W, b, optimizer):
    loss = _loss(state, W, b)
    optimizer.zero_grad()
    loss[0].backward()
    optimizer.step()
    return loss


def _summed_loss(state, W, b, optimizer):
    loss = _loss(state, W, b)
    _step(loss, optimizer)
    return loss.sum()


def _first_probability(state, W, b, optimizer):
    x = sample_features(state["batch"], state["p"][:1].expand_as(state["p"]))
    return _step(_loss(state, W, b, x), optimizer)


def _two_steps(state, W, b, optimizer):
    _step(_loss(state, W, b), optimizer)
    return _step(_loss(state, W, b), optimizer)


def _stale_loss(state, W, b, optimizer):
    loss = _loss(state, W, b)
    _step(loss, optimizer)
    previous, state["last"] = state.get("last", loss), loss
    return previous


def _bias_frozen(state, W, b, optimizer):
    return _step(_loss(state, W, b.detach()), optimizer)


wrong("train_toy_models", mistake="cleared_before_step", name="cleared_before_step")(_trainer(_cleared_too_soon))
wrong("train_toy_models", mistake="same_batch_each_step", name="same_batch")(_trainer(_same_batch))
wrong("train_toy_models", mistake="gradients_accumulate", name="never_cleared")(_trainer(_never_cleared))
wrong("train_toy_models", mistake="default_model_always", name="own_network")(_trainer(_own_network))
wrong("train_toy_models", fails="test_train_gradients", name="no_importance")(_trainer(_no_importance))
wrong("train_toy_models", fails="test_train_moves", name="no_step")(_trainer(_no_step))
wrong("train_toy_models", fails="test_train_gradients", name="uphill")(_trainer(_uphill))
wrong("train_toy_models", fails="test_train_moves", name="first_instance_only")(_trainer(_first_instance_only))
wrong("train_toy_models", fails="test_train_on_step", name="summed_loss")(_trainer(_summed_loss))
wrong("train_toy_models", fails="test_train_fresh_batches", name="first_probability")(_trainer(_first_probability))
wrong("train_toy_models", fails="test_train_calls_model", name="two_steps")(_trainer(_two_steps))
wrong("train_toy_models", fails="test_train_on_step", name="stale_loss")(_trainer(_stale_loss))
wrong("train_toy_models", fails="test_train_moves", name="bias_frozen")(_trainer(_bias_frozen))
wrong("train_toy_models", fails="test_train_shapes", name="not_detached")(
    _trainer(lambda state, W, b, optimizer: _step(_loss(state, W, b), optimizer), after=lambda W, b: (W, b))
)


def _cleared_after(state, W, b, optimizer):
    loss = _loss(state, W, b)
    loss.sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss


def _by_autograd_grad(state, W, b, optimizer):
    loss = _loss(state, W, b)
    W.grad, b.grad = torch.autograd.grad(loss.sum(), (W, b))
    optimizer.step()
    return loss


def _mean_of_instances(state, W, b, optimizer):
    loss = _loss(state, W, b)
    optimizer.zero_grad(set_to_none=True)
    loss.mean().backward()
    optimizer.step()
    return loss


def _backward_of_ones(state, W, b, optimizer):
    loss = _loss(state, W, b)
    optimizer.zero_grad()
    loss.backward(torch.ones_like(loss))
    optimizer.step()
    return loss


right("train_toy_models", name="cleared_after")(_trainer(_cleared_after))
right("train_toy_models", name="by_autograd_grad")(_trainer(_by_autograd_grad))
right("train_toy_models", name="mean_of_instances")(_trainer(_mean_of_instances))
right("train_toy_models", name="backward_of_ones")(_trainer(_backward_of_ones))


# --- representation_norms ----------------------------------------------------------------------


@wrong("representation_norms", mistake="squared_norms")
def squared(W):
    """The squared lengths."""
    return W.square().sum(dim=1)


@wrong("representation_norms", mistake="wrong_axis")
def rows(W):
    """The rows' lengths."""
    return W.norm(dim=-1)


@wrong("representation_norms", fails="test_norms_by_hand")
def l1(W):
    """The sum of absolute values."""
    return W.abs().sum(dim=1)


@wrong("representation_norms", fails="test_norms_by_hand")
def largest(W):
    """The largest entry."""
    return W.abs().amax(dim=1)


@wrong("representation_norms", fails="test_norms_by_hand")
def frobenius(W):
    """One number for the whole matrix."""
    return W.norm()


@wrong("representation_norms", fails="test_norms_random")
def over_instances(W):
    """The instance axis disappears."""
    return W.norm(dim=0)


@wrong("representation_norms", fails="test_norms_by_hand")
def root_mean_square(W):
    """Divides by the number of hidden units."""
    return W.square().mean(dim=1).sqrt()


@wrong("representation_norms", fails="test_norms_by_hand")
def keeps_the_axis(W):
    """Shape (instance, 1, feature)."""
    return W.norm(dim=1, keepdim=True)


@wrong("representation_norms", fails="test_norms_by_hand")
def with_epsilon(W):
    """A large epsilon inside the root."""
    return (W.square().sum(dim=1) + 1e-2).sqrt()


@wrong("representation_norms", fails="test_norms_keeps_input")
def norms_in_float32(W):
    """Always float32."""
    return W.norm(dim=1).float()


@wrong("representation_norms", mistake="changes_input")
def squares_in_place(W):
    """Squares W itself."""
    return W.square_().sum(dim=1).sqrt()


@wrong("representation_norms", fails="test_norms_scale")
def normalised_by_largest(W):
    """Scales W so that its largest entry is 1, then back by a constant that only fits one example."""
    return 4 * (W / W.abs().amax(dim=(1, 2), keepdim=True)).norm(dim=1)


@right("representation_norms")
def by_hand(W):
    """The definition."""
    return (W**2).sum(-2) ** 0.5


@right("representation_norms")
def vector_norm(W):
    """torch.linalg."""
    return torch.linalg.vector_norm(W, ord=2, dim=-2)


@right("representation_norms")
def from_gram(W):
    """The diagonal of the Gram matrix."""
    return torch.diagonal(W.mT @ W, dim1=-2, dim2=-1).sqrt()


@right("representation_norms")
def with_einsum_norm(W):
    """An einsum."""
    return einops.einsum(W, W, "instance hidden feature, instance hidden feature -> instance feature").sqrt()


# --- superposition_index -----------------------------------------------------------------------


def _unit(W: Tensor) -> Tensor:
    norms = W.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, W / norms, 0)


def _off_diagonal(overlap: Tensor) -> Tensor:
    return overlap * (1 - torch.eye(overlap.shape[-1], dtype=overlap.dtype))


@wrong("superposition_index", mistake="nan_for_absent")
def divides_by_zero(W):
    """Gives nan for an absent feature."""
    unit = W / W.norm(dim=1, keepdim=True)
    return _off_diagonal((unit.mT @ W).square()).sum(-1)


@wrong("superposition_index", mistake="self_counted")
def counts_itself(W):
    """Counts j = i."""
    return (_unit(W).mT @ W).square().sum(-1)


@wrong("superposition_index", mistake="both_normalised")
def cosines(W):
    """Cosines instead of projections."""
    return _off_diagonal((_unit(W).mT @ _unit(W)).square()).sum(-1)


@wrong("superposition_index", mistake="wrong_one_normalised")
def other_normalised(W):
    """Normalises W_j."""
    return _off_diagonal((W.mT @ _unit(W)).square()).sum(-1)


@wrong("superposition_index", mistake="wrong_one_normalised")
def sums_the_wrong_axis(W):
    """Sums over i instead of j."""
    return _off_diagonal((_unit(W).mT @ W).square()).sum(-2)


@wrong("superposition_index", mistake="not_squared")
def signed_sum(W):
    """Sums before squaring."""
    return _off_diagonal(_unit(W).mT @ W).sum(-1).square()


@wrong("superposition_index", mistake="absolute_values")
def absolute_values(W):
    """Absolute values instead of squares."""
    return _off_diagonal((_unit(W).mT @ W).abs()).sum(-1)


@wrong("superposition_index", fails="test_index_pentagon")
def mean_over_others(W):
    """The mean over the other features."""
    n = W.shape[-1]
    return _off_diagonal((_unit(W).mT @ W).square()).sum(-1) / max(n - 1, 1)


@wrong("superposition_index", mistake="none_normalised")
def none_normalised(W):
    """No normalisation."""
    return _off_diagonal((W.mT @ W).square()).sum(-1)


@wrong("superposition_index", mistake="softened_norm")
def large_epsilon(W):
    """An epsilon that swallows small features."""
    unit = W / (W.norm(dim=1, keepdim=True) + 1e-3)
    return _off_diagonal((unit.mT @ W).square()).sum(-1)


@wrong("superposition_index", fails="test_index_random")
def across_instances(W):
    """The instances are averaged."""
    return _off_diagonal((_unit(W).mT @ W).square()).sum(-1).mean(0, keepdim=True).expand(len(W), -1).clone()


@wrong("superposition_index", mistake="one_subtracted")
def self_only_subtracted_as_one(W):
    """Subtracts 1 for itself, right only for unit columns."""
    return (_unit(W).mT @ W).square().sum(-1) - 1


@wrong("superposition_index", mistake="changes_input")
def normalises_in_place(W):
    """Writes into W."""
    original = W.clone()
    norms = W.norm(dim=1, keepdim=True)
    W.div_(torch.where(norms > 0, norms, 1))
    return _off_diagonal((W.mT @ original).square()).sum(-1)


@right("superposition_index")
def with_nan_to_num(W):
    """nan_to_num for the absent."""
    unit = torch.nan_to_num(W / W.norm(dim=1, keepdim=True))
    return _off_diagonal((unit.mT @ W).square()).sum(-1)


@right("superposition_index")
def from_the_gram_matrix(W):
    """From the Gram matrix alone."""
    gram = W.mT @ W
    own = torch.diagonal(gram, dim1=-2, dim2=-1)
    total = gram.square().sum(-1) - own.square()
    return torch.where(own > 0, total / torch.where(own > 0, own, 1), 0)


@right("superposition_index")
def in_a_loop(W):
    """Loops over features."""
    columns = []
    for i in range(W.shape[-1]):
        others = torch.cat([W[..., :i], W[..., i + 1 :]], dim=-1)
        length = W[..., i].norm(dim=-1, keepdim=True)
        direction = torch.where(length > 0, W[..., i] / length.clamp_min(1e-30), 0)
        columns.append(torch.einsum("ih,ihj->ij", direction, others).square().sum(-1))
    return torch.stack(columns, dim=-1)


@right("superposition_index")
def with_functional_normalize(W):
    """torch.nn.functional.normalize with its tiny epsilon."""
    unit = torch.nn.functional.normalize(W, dim=1)
    overlap = einops.einsum(unit, W, "n h i, n h j -> n i j").square()
    return overlap.masked_fill(torch.eye(W.shape[-1], dtype=torch.bool), 0).sum(-1)


# --- linear_optimum ----------------------------------------------------------------------------


@wrong("linear_optimum", mistake="first_not_largest")
def first_ones(importance, d_hidden):
    """Keeps the first features."""
    stored = torch.zeros_like(importance)
    stored[:d_hidden] = 1
    return torch.diag(stored)


@wrong("linear_optimum", mistake="weighted_diagonal")
def importance_on_the_diagonal(importance, d_hidden):
    """Importances on the diagonal."""
    kept = importance.topk(min(d_hidden, len(importance))).indices
    stored = torch.zeros_like(importance)
    stored[kept] = importance[kept]
    return torch.diag(stored)


@wrong("linear_optimum", mistake="weighted_diagonal")
def roots_on_the_diagonal(importance, d_hidden):
    """Roots of importances on the diagonal."""
    kept = importance.topk(min(d_hidden, len(importance))).indices
    stored = torch.zeros_like(importance)
    stored[kept] = importance[kept].sqrt() / 2
    return torch.diag(stored)


@wrong("linear_optimum", mistake="off_diagonal")
def whole_rows(importance, d_hidden):
    """Sets whole rows to one."""
    P = torch.zeros(len(importance), len(importance), dtype=importance.dtype)
    P[importance.topk(min(d_hidden, len(importance))).indices] = 1
    return P


@wrong("linear_optimum", mistake="w_not_gram")
def weights_themselves(importance, d_hidden):
    """W, not its Gram matrix."""
    n = len(importance)
    W = torch.zeros(d_hidden, n, dtype=importance.dtype)
    kept = importance.topk(min(d_hidden, n)).indices
    W[torch.arange(len(kept)), kept] = 1
    return W


@wrong("linear_optimum", fails="test_linear_room_for_all")
def topk_too_large(importance, d_hidden):
    """Fails when there is room for all."""
    stored = torch.zeros_like(importance)
    stored[importance.topk(d_hidden).indices] = 1
    return torch.diag(stored)


@wrong("linear_optimum", mistake="least_important")
def least_important(importance, d_hidden):
    """Keeps the least important."""
    stored = torch.zeros_like(importance)
    stored[importance.argsort()[:d_hidden]] = 1
    return torch.diag(stored)


@wrong("linear_optimum", fails="test_linear_ties")
def threshold(importance, d_hidden):
    """Keeps all that reach the m-th importance: too many where they tie."""
    m = min(d_hidden, len(importance))
    return torch.diag((importance >= importance.sort(descending=True).values[m - 1]).to(importance.dtype))


@wrong("linear_optimum", fails="test_linear_by_hand")
def spread_evenly(importance, d_hidden):
    """Spreads the rank over all features."""
    n = len(importance)
    return torch.eye(n, dtype=importance.dtype) * min(d_hidden / n, 1.0)


@wrong("linear_optimum", fails="test_linear_by_hand")
def the_vector(importance, d_hidden):
    """The diagonal as a vector."""
    stored = torch.zeros_like(importance)
    stored[importance.topk(min(d_hidden, len(importance))).indices] = 1
    return stored


@wrong("linear_optimum", fails="test_linear_by_hand")
def identity_always(importance, d_hidden):
    """The identity, of full rank."""
    return torch.eye(len(importance), dtype=importance.dtype)


@wrong("linear_optimum", fails="test_linear_keeps_input")
def default_dtype(importance, d_hidden):
    """Always float32."""
    P = torch.zeros(len(importance), len(importance))
    for index in importance.topk(min(d_hidden, len(importance))).indices:
        P[index, index] = 1
    return P


@wrong("linear_optimum", fails="test_linear_keeps_input")
def overwrites_importance(importance, d_hidden):
    """Uses importance as its work space."""
    kept = importance.topk(min(d_hidden, len(importance))).indices
    importance.zero_()
    importance[kept] = 1
    return torch.diag(importance)


@wrong("linear_optimum", fails="test_linear_by_hand")
def one_too_many(importance, d_hidden):
    """Off by one."""
    stored = torch.zeros_like(importance)
    stored[importance.topk(min(d_hidden + 1, len(importance))).indices] = 1
    return torch.diag(stored)


@right("linear_optimum")
def by_sorting(importance, d_hidden):
    """Sort, then set the diagonal."""
    order = importance.argsort(descending=True)[:d_hidden]
    P = torch.zeros(len(importance), len(importance), dtype=importance.dtype)
    P[order, order] = 1
    return P


@right("linear_optimum")
def by_projection(importance, d_hidden):
    """A projection built from unit vectors."""
    kept = importance.topk(min(d_hidden, importance.numel())).indices
    basis = torch.eye(len(importance), dtype=importance.dtype)[kept]
    return basis.T @ basis


@right("linear_optimum")
def by_svd(importance, d_hidden):
    """Eckart and Young by a singular value decomposition of the root of D."""
    root = importance.sqrt().diag()
    U, S, Vh = torch.linalg.svd(root)
    m = min(d_hidden, len(importance))
    return torch.diag(1 / importance.sqrt()) @ (U[:, :m] * S[:m]) @ Vh[:m]


@right("linear_optimum")
def with_numpy(importance, d_hidden):
    """numpy, with ties broken the other way."""
    order = np.argsort(importance.numpy(), kind="stable")[::-1][:d_hidden].copy()
    P = np.zeros((len(importance), len(importance)))
    P[order, order] = 1
    return torch.from_numpy(P).to(importance.dtype)
