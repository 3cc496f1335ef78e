"""Checkers of "Features, importance and sparsity": one fixture per exercise, named like it.

Expected values are worked by hand, by slow loops, or follow from an invariance; never from the reference.
Statistical bounds are six standard errors wide: a false alarm has a probability below 1e-8 a check.
"""

import contextlib
import math

import pytest
import torch
from torch import Tensor

from refract.checking.expect import count, describe, expect, expect_close, expect_dtype, expect_tensor, show, unchanged
from refract.checking.marks import mistake, title

# --- sample_features ---------------------------------------------------------------------------

DRAWS = 20_000
DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


@title("The shape is (batch, instance, feature)")
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 7)])
def test_sample_shape(sample_features, shape):
    x = sample_features(5, torch.full(shape, 0.5))
    expect_tensor(x, what="the batch", given=f"batch = 5 and feature_probability of shape {shape}", shape=(5, *shape))


@title("Sizes lie between 0 and 1")
def test_sample_range(sample_features):
    x = expect_tensor(sample_features(DRAWS, torch.full((1, 2), 0.5)), what="the batch", shape=(DRAWS, 1, 2))
    expect(bool(x.min() >= 0), f"A size cannot be negative; the smallest entry is {x.min():.3f}.")
    expect(bool(x.max() <= 1), f"A size cannot exceed 1; the largest entry is {x.max():.3f}.")


@title("Every row of the batch is drawn afresh")
def test_sample_rows_differ(sample_features):
    x = expect_tensor(sample_features(64, torch.full((1, 40), 0.5)), what="the batch", shape=(64, 1, 40))
    different = len(x.reshape(64, -1).unique(dim=0))
    expect(
        different == 64,
        "All 64 rows are the same." if different == 1 else f"Of 64 rows only {different} are different.",
        mistake="one_row_for_all" if different == 1 else None,
    )


@title("Presence varies from row to row")
@mistake("presence_once")
def test_sample_presence_varies(sample_features):
    present = expect_tensor(sample_features(64, torch.full((1, 40), 0.5)), what="the batch", shape=(64, 1, 40)) > 0
    patterns = len(present.reshape(64, -1).unique(dim=0))
    expect(patterns > 1, "In all 64 rows the very same features are present.")


@title("Present features have different sizes")
@mistake("only_on_or_off")
def test_sample_sizes_vary(sample_features):
    x = expect_tensor(sample_features(20, torch.full((1, 50), 0.5)), what="the batch", shape=(20, 1, 50))
    sizes = x[x > 0]
    different = len(sizes.unique())
    expect(different > 10, f"{count(len(sizes), 'present feature')} have {count(different, 'different size')} in all.")


@title("A size has nothing to do with the feature's probability")
def test_sample_size_is_independent_of_probability(sample_features):
    x = expect_tensor(sample_features(DRAWS, torch.full((1, 1), 0.1)), what="the batch", shape=(DRAWS, 1, 1))
    present = x[x > 0]
    expect(len(present) > 0, "With p = 0.1, not one of 20,000 entries was present.")
    mean, error = present.mean(), 1 / math.sqrt(12 * len(present))
    expect(
        bool((mean - 0.5).abs() < 6 * error),
        f"With p = 0.1, the present features should average 0.5; they average {mean:.3f}.",
        mistake="shared_randomness" if bool(present.max() <= 0.1) else None,
    )


@title("Features are present with probability p, each with its own")
def test_sample_probability(sample_features):
    p = torch.tensor([[0.1, 0.9], [0.25, 0.5]])
    x = expect_tensor(sample_features(DRAWS, p), what="the batch", shape=(DRAWS, 2, 2))
    share = (x > 0).double().mean(dim=0)
    bound = 6 * 0.5 / DRAWS**0.5
    upside_down = bool(((share - (1 - p)).abs() < bound).all())
    expect_close(
        share,
        p.double(),
        what="the share of entries above zero",
        given=f"feature_probability = {show(p)}",
        rtol=0,
        atol=bound,
        mistake="absent_with_p" if upside_down else None,
    )


@title("p = 0 is never, p = 1 is always")
def test_sample_extremes(sample_features):
    x = expect_tensor(sample_features(2000, torch.tensor([[0.0, 1.0]])), what="the batch", shape=(2000, 1, 2))
    expect(bool((x[..., 0] == 0).all()), "A feature with p = 0 was present.")
    # a uniform draw in float32 is exactly 0 about once in 2**24
    expect(int((x[..., 1] == 0).sum()) <= 3, "A feature with p = 1 was absent.")


@title("Sizes are uniform: all parts of [0, 1] come equally often")
def test_sample_uniform(sample_features):
    x = expect_tensor(sample_features(DRAWS, torch.ones(1, 1)), what="the batch", shape=(DRAWS, 1, 1)).flatten()
    # Kolmogorov and Smirnov: P(distance > 3 / sqrt(N)) = 2 exp(-18) = 3e-8
    ordered = x.double().sort().values
    distance = (ordered - (torch.arange(DRAWS) + 0.5) / DRAWS).abs().max()
    expect(
        bool(distance < 3 / DRAWS**0.5),
        f"The sizes are not uniform: the distribution function is off by {distance:.3f} somewhere "
        f"(a tenth of them should be below 0.1; {(x < 0.1).float().mean():.3f} are).",
    )


@title("Features and instances are present independently of each other")
def test_sample_independence(sample_features):
    x = expect_tensor(sample_features(DRAWS, torch.full((2, 3), 0.5)), what="the batch", shape=(DRAWS, 2, 3))
    for what, values in (("presence", (x > 0).double()), ("size", x.double())):
        flat = values.reshape(DRAWS, 6)
        centred = flat - flat.mean(dim=0)
        scale = centred.square().mean(dim=0).sqrt().clamp_min(1e-12)
        correlation = (centred.T @ centred / DRAWS) / (scale[:, None] * scale[None])
        worst = correlation.fill_diagonal_(0).abs().max()
        expect(
            bool(worst < 6 / DRAWS**0.5),
            f"Two of the features go together: the {what} of one predicts that of the other (correlation {worst:.2f}).",
        )


@title("Presence and size are independent of each other")
def test_sample_presence_tells_nothing_of_size(sample_features):
    x = expect_tensor(sample_features(DRAWS, torch.full((1, 2), 0.5)), what="the batch", shape=(DRAWS, 1, 2))
    first, second = x[:, 0, 0], x[:, 0, 1]
    both, alone = first[(first > 0) & (second > 0)].double(), first[(first > 0) & (second == 0)].double()
    expect(len(both) > 0 and len(alone) > 0, "The two features are always, or never, present together.")
    difference = (both.mean() - alone.mean()).abs()
    bound = 6 * math.sqrt((1 / len(both) + 1 / len(alone)) / 12)
    expect(bool(difference < bound), "A feature's size is different when another feature is present.")


@title("Two calls give two different batches")
def test_sample_calls_differ(sample_features):
    p = torch.ones(1, 3)
    expect(not torch.equal(sample_features(8, p), sample_features(8, p)), "Two calls gave the same batch.")


@title("The device is that of feature_probability")
@pytest.mark.parametrize("device", DEVICES)
def test_sample_device(sample_features, device):
    x = sample_features(4, torch.full((2, 3), 0.5, device=device))
    expect_tensor(x, what="the batch", given=f"feature_probability on {device}", shape=(4, 2, 3))
    expect(x.device.type == device, f"With feature_probability on {device}, the batch is on {x.device.type}.")


@title("dtype follows feature_probability, which stays as it was")
def test_sample_dtype(sample_features):
    p = torch.full((2, 3), 0.5, dtype=torch.float64)
    before = p.clone()
    x = sample_features(4, p)
    expect_dtype(x, torch.float64, what="the batch", given="feature_probability in float64")
    unchanged(before, p, "feature_probability")


# --- reconstruct -------------------------------------------------------------------------------


def _toy(instance: int, hidden: int, feature: int, batch: int, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    W = torch.randn(instance, hidden, feature, dtype=dtype)
    b = torch.randn(instance, feature, dtype=dtype)
    return W, b, torch.rand(batch, instance, feature, dtype=dtype)


def _slow_reconstruct(W: Tensor, b: Tensor, x: Tensor, *, bias_inside: bool = True, relu: bool = True) -> Tensor:
    """The definition, one number at a time."""
    output = torch.zeros_like(x)
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            total = W[i].T @ (W[i] @ x[n, i])
            value = total + b[i] if bias_inside else total
            output[n, i] = torch.clamp(value, min=0) if relu else value
    return output


@title("One feature, one hidden unit, by hand")
def test_reconstruct_by_hand(reconstruct):
    W, b = torch.tensor([[[2.0]]]), torch.tensor([[-1.0]])
    x = torch.tensor([[[0.5]], [[0.1]]])
    # 2 * 2 * 0.5 - 1 = 1; 2 * 2 * 0.1 - 1 is negative
    given = "W = 2, b = -1, x = 0.5 and 0.1"
    expect_close(reconstruct(W, b, x), torch.tensor([[[1.0]], [[0.0]]]), what="the output", given=given)


@title("The bias is added, after the weights")
def test_reconstruct_has_bias(reconstruct):
    W, b, x = torch.zeros(2, 2, 3), torch.rand(2, 3) + 0.5, torch.rand(4, 2, 3)
    y = expect_tensor(reconstruct(W, b, x), what="the output", given="W = 0 and a positive bias", shape=(4, 2, 3))
    V = torch.ones(1, 1, 1)
    z = reconstruct(V, torch.full((1, 1), 0.5), torch.ones(1, 1, 1))
    ignored = bool((y == 0).all()) and isinstance(z, Tensor) and torch.allclose(z, torch.ones(1, 1, 1))
    message = "With W = 0 and a positive bias, the output should be the bias; it is 0. Where is b added?"
    expect(not bool((y == 0).all()), message, mistake="bias_left_out" if ignored else None)


@title("The output is never negative, whatever the bias")
def test_reconstruct_not_negative(reconstruct):
    W, b, x = _toy(2, 3, 4, 16)
    y = expect_tensor(reconstruct(W, b, x), what="the output", shape=(16, 2, 4))
    rectified_first = torch.allclose(y, _slow_reconstruct(W, 0 * b, x) + b, atol=1e-4)
    linear = torch.allclose(y, _slow_reconstruct(W, b, x, relu=False), atol=1e-4)
    name = "relu_before_bias" if rectified_first else "no_relu" if linear else None
    expect(bool((y >= 0).all()), f"The output holds {y.min():.3f}, which is negative.", mistake=name)


@title("The hidden layer is linear")
def test_reconstruct_hidden_is_linear(reconstruct):
    W, b, x = torch.tensor([[[-1.0, -2.0]]]), torch.zeros(1, 2), torch.tensor([[[1.0, 0.0]]])
    y = expect_tensor(
        reconstruct(W, b, x), what="the output", given="W = [[-1, -2]], b = 0, x = [1, 0]", shape=(1, 1, 2)
    )
    expect(
        bool((y != 0).any()),
        "With W = [[-1, -2]], b = 0 and x = [1, 0], the hidden unit is -1 and the output [1, 2]; yours is 0.",
        mistake="relu_on_hidden",
    )
    expect_close(y, torch.tensor([[[1.0, 2.0]]]), what="the output", given="W = [[-1, -2]], b = 0, x = [1, 0]")


@title("Instances do not see each other")
def test_reconstruct_instances_apart(reconstruct):
    W, b, x = _toy(3, 2, 4, 5)
    given = "three instances"
    before = expect_tensor(reconstruct(W, b, x.clone()), what="the output", given=given, shape=(5, 3, 4))
    other = W.clone()
    other[1] += 1
    after = expect_tensor(reconstruct(other, b, x.clone()), what="the output", given=given, shape=(5, 3, 4))
    expect(
        torch.allclose(after[:, [0, 2]], before[:, [0, 2]], atol=1e-5),
        "The weights of instance 1 changed, and with them the output of instances 0 and 2.",
        mistake="instances_summed",
    )


@title("Right for random weights and biases, in several shapes")
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 4), (2, 5, 3, 6), (4, 4, 4, 4), (2, 2, 2, 1)])
def test_reconstruct_random(reconstruct, shape):
    W, b, x = _toy(*shape)
    given = "(instance, hidden, feature, batch) = " + str(shape)
    right = _slow_reconstruct(W, b, x)
    expect_close(reconstruct(W, b, x), right, what="the output", given=given, rtol=1e-4, atol=1e-5)


@title("Gradients reach W, through both of its uses, and b")
def test_reconstruct_gradient(reconstruct):
    W, b, x = _toy(1, 2, 3, 4, dtype=torch.float64)
    b = b.abs()  # keep clear of the kink
    W, b = (0.3 * W).requires_grad_(), b.requires_grad_()
    y = reconstruct(W, b, x)
    expect(
        isinstance(y, Tensor) and y.requires_grad, "The output does not depend on W and b as far as autograd can see."
    )
    gradients = torch.autograd.grad(y.sum(), (W, b), allow_unused=True)
    expected = torch.autograd.grad(_slow_differentiable(W, b, x).sum(), (W, b))
    for name, got, right in zip(("W", "b"), gradients, expected, strict=True):
        expect(got is not None, f"No gradient reaches {name}.")
        expect_close(got, right, what=f"the gradient for {name}", given="random weights", rtol=1e-6, atol=1e-8)


def _slow_differentiable(W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    return torch.stack([torch.relu(x[:, i] @ W[i].T @ W[i] + b[i]) for i in range(len(W))], dim=1)


@title("It runs where its inputs are")
@pytest.mark.parametrize("device", DEVICES)
def test_reconstruct_device(reconstruct, device):
    W, b, x = (tensor.to(device) for tensor in _toy(2, 2, 3, 4))
    y = expect_tensor(reconstruct(W, b, x), what="the output", given=f"everything on {device}", shape=(4, 2, 3))
    expect(y.device.type == device, f"With everything on {device}, the output is on {y.device.type}.")


@title("float64 stays float64, and nothing that came in has changed")
def test_reconstruct_keeps_inputs(reconstruct):
    W, b, x = _toy(2, 2, 3, 4, dtype=torch.float64)
    before = (W.clone(), b.clone(), x.clone())
    y = reconstruct(W, b, x)
    expect_dtype(y, torch.float64, what="the output", given="float64 weights and features")
    for name, was, now in zip(("W", "b", "x"), before, (W, b, x), strict=True):
        unchanged(was, now, name)


# --- importance_weighted_mse -------------------------------------------------------------------


def _slow_loss(x: Tensor, x_hat: Tensor, importance: Tensor) -> Tensor:
    batch, instances, features = x.shape
    loss = torch.zeros(instances, dtype=x.dtype)
    for i in range(instances):
        for n in range(batch):
            for f in range(features):
                loss[i] += importance[f] * (x[n, i, f] - x_hat[n, i, f]) ** 2 / batch
    return loss


@title("One entry for each instance")
@pytest.mark.parametrize("instances", [1, 3])
def test_loss_shape(importance_weighted_mse, instances):
    x = torch.rand(4, instances, 5)
    loss = importance_weighted_mse(x, torch.rand(4, instances, 5), torch.ones(5))
    expect_tensor(loss, what="the loss", given=count(instances, "instance"), shape=(instances,))


@title("Two features by hand")
def test_loss_by_hand(importance_weighted_mse):
    x, x_hat = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 2.0]]])
    importance = torch.tensor([2.0, 3.0])
    # 2 * 0.25 + 3 * 4
    got = expect_tensor(importance_weighted_mse(x, x_hat, importance), what="the loss", shape=(1,))
    name = None
    if torch.allclose(got, torch.tensor([6.25])):
        name = "mean_over_features"
    elif torch.allclose(got, torch.tensor([0.25 + 4.0])):
        name = "importance_ignored"
    elif torch.allclose(got, torch.tensor([4 * 0.25 + 9 * 4.0])):
        name = "importance_squared"
    given = "x = [1, 0], x_hat = [0.5, 2], importance = [2, 3]"
    expect_close(got, torch.tensor([12.5]), what="the loss", given=given, mistake=name)


@title("Averaged over the batch")
def test_loss_batch(importance_weighted_mse):
    x = torch.zeros(4, 1, 1)
    x_hat = torch.tensor([1.0, 2.0, 0.0, 1.0]).view(4, 1, 1)
    # (1 + 4 + 0 + 1) / 4
    given = "errors 1, 2, 0 and 1 in a batch of four"
    expect_close(importance_weighted_mse(x, x_hat, torch.ones(1)), torch.tensor([1.5]), what="the loss", given=given)


@title("Instances are scored apart")
@mistake("instances_mixed")
def test_loss_instances_apart(importance_weighted_mse):
    x = torch.rand(8, 3, 2)
    x_hat = x.clone()
    x_hat[:, 1] += 1
    loss = expect_tensor(
        importance_weighted_mse(x, x_hat, torch.ones(2)),
        what="the loss",
        given="an error in instance 1 only",
        shape=(3,),
    )
    expect(bool(loss[0] == 0 and loss[2] == 0), f"Only instance 1 errs, but the losses are {show(loss)}.")


@title("Right for random input")
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 2, 3), (3, 4, 5), (5, 5, 5)])
def test_loss_random(importance_weighted_mse, shape):
    x, x_hat, importance = torch.rand(shape), torch.rand(shape), torch.rand(shape[-1]) + 0.1
    got = importance_weighted_mse(x, x_hat, importance)
    given = f"random x and x_hat of shape {shape}"
    expect_close(got, _slow_loss(x, x_hat, importance), what="the loss", given=given, rtol=1e-4, atol=1e-6)


@title("A perfect output costs nothing; an unimportant feature costs nothing")
def test_loss_zero(importance_weighted_mse):
    x = torch.rand(6, 2, 3)
    expect_close(
        importance_weighted_mse(x, x.clone(), torch.rand(3)), torch.zeros(2), what="the loss", given="x_hat = x"
    )
    x_hat = x.clone()
    x_hat[..., 1] += 5
    importance = torch.tensor([1.0, 0.0, 1.0])
    given = "an error only in a feature of importance 0"
    expect_close(importance_weighted_mse(x, x_hat, importance), torch.zeros(2), what="the loss", given=given)


@title("The gradient for x_hat is 2 I (x_hat - x) / batch")
def test_loss_gradient(importance_weighted_mse):
    x, importance = torch.rand(4, 2, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    x_hat = torch.rand(4, 2, 3, dtype=torch.float64, requires_grad=True)
    loss = importance_weighted_mse(x, x_hat, importance)
    expect(isinstance(loss, Tensor) and loss.requires_grad, "No gradient can flow from the loss to x_hat.")
    (gradient,) = torch.autograd.grad(loss.sum(), x_hat)
    right = 2 * importance * (x_hat.detach() - x) / 4
    expect_close(gradient, right, what="the gradient for x_hat", given="random input", rtol=1e-8, atol=1e-10)


@title("Nothing that came in has changed, and float64 stays float64")
def test_loss_keeps_inputs(importance_weighted_mse):
    x, x_hat, importance = (torch.rand(shape, dtype=torch.float64) for shape in ((3, 2, 4), (3, 2, 4), (4,)))
    before = (x.clone(), x_hat.clone(), importance.clone())
    loss = importance_weighted_mse(x, x_hat, importance)
    expect_dtype(loss, torch.float64, what="the loss", given="float64 input")
    for name, was, now in zip(("x", "x_hat", "importance"), before, (x, x_hat, importance), strict=True):
        unchanged(was, now, name)


# --- train_toy_models --------------------------------------------------------------------------


class _Spy:
    """Stands in for the network: computes what it should, and remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        self.gradients: list[Tensor | None] = []

    def __call__(self, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
        self.batches.append(x.detach().clone())
        self.weights.append(W.detach().clone())
        self.biases.append(b.detach().clone())
        self.gradients.append(None if W.grad is None else W.grad.detach().clone())
        return _network(W, b, x)


def _network(W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    return torch.relu(torch.einsum("bif,ihf,ihg->big", x, W, W) + b)


PROBABILITY = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]])
IMPORTANCE = torch.tensor([1.0, 0.5, 0.25])


@title("Returns W and b, detached, in the right shapes")
def test_train_shapes(train_toy_models):
    got = train_toy_models(PROBABILITY, IMPORTANCE, 2, n_steps=3, batch=8)
    expect(isinstance(got, tuple) and len(got) == 2, f"Expected the pair (W, b); what came is {describe(got)}.")
    for name, tensor, shape in (("W", got[0], (2, 2, 3)), ("b", got[1], (2, 3))):
        expect_tensor(tensor, what=name, given="2 instances, 2 hidden units, 3 features", shape=shape)
        expect(not tensor.requires_grad, f"{name} still carries its graph: return it detached.")


@title("The network passed as model is called once a step")
def test_train_calls_model(train_toy_models):
    spy = _Spy()
    train_toy_models(PROBABILITY, IMPORTANCE, 2, n_steps=7, batch=8, model=spy)
    calls = len(spy.batches)
    expect(calls > 0, "The network passed as `model` was never called.", mistake="default_model_always")
    expect(calls == 7, f"In 7 steps the network was called {calls} times.")
    given = "batch = 8, 2 instances, 3 features"
    expect_tensor(spy.batches[0], what="the batch given to the network", given=given, shape=(8, 2, 3))


@title("Every step draws a fresh batch, with the right probabilities")
def test_train_fresh_batches(train_toy_models):
    spy = _Spy()
    train_toy_models(PROBABILITY, IMPORTANCE, 2, n_steps=40, batch=256, model=spy)
    expect(len(spy.batches) > 1, "The network passed as `model` was never called.", mistake="default_model_always")
    repeated = torch.equal(spy.batches[0], spy.batches[1])
    expect(not repeated, "The first two steps saw the same batch.", mistake="same_batch_each_step")
    share = (torch.cat(spy.batches) > 0).double().mean(dim=0)
    bound = 6 * 0.5 / (40 * 256) ** 0.5
    given = "feature_probability 0.5 in instance 0 and 0.2 in instance 1"
    expect_close(share, PROBABILITY.double(), what="the share of present features", given=given, rtol=0, atol=bound)


@title("The gradient at each step is that of this step's loss alone")
def test_train_gradients(train_toy_models):
    spy = _Spy()
    train_toy_models(PROBABILITY, IMPORTANCE, 2, n_steps=4, batch=64, model=spy)
    expect(len(spy.batches) == 4, f"In 4 steps the network was called {len(spy.batches)} times.")
    for step in range(3):
        left = spy.gradients[step + 1]  # seen at the start of the next step: this step's gradient, or none
        if left is None or not left.any():
            continue
        own = _gradient(spy, step)
        earlier = sum((_gradient(spy, past) for past in range(step)), start=torch.zeros_like(own))
        piled_up = step > 0 and _cosine(left, own + earlier) > 0.9999 and _cosine(left, own) < 0.9999
        along = _cosine(left, own)
        backwards = "the opposite way to" if along < -0.999 else "another way than"
        expect(
            along > 0.999,
            f"In step {step}, the gradient of W points {backwards} the gradient of that step's loss: the sum over "
            "instances of the importance-weighted loss.",
            mistake="gradients_accumulate" if piled_up else None,
        )


def _gradient(spy: _Spy, step: int) -> Tensor:
    W, b = spy.weights[step].clone().requires_grad_(), spy.biases[step]
    x = spy.batches[step]
    (IMPORTANCE * (x - _network(W, b, x)).square()).sum(dim=-1).mean(dim=0).sum().backward()
    assert W.grad is not None
    return W.grad


def _cosine(one: Tensor, two: Tensor) -> float:
    """Over all instances at once: a loss averaged over instances has the same direction."""
    return float(torch.nn.functional.cosine_similarity(one.flatten(), two.flatten(), dim=0))


@title("The weights move from step to step, biases too")
def test_train_moves(train_toy_models):
    spy = _Spy()
    train_toy_models(PROBABILITY, IMPORTANCE, 2, n_steps=5, batch=64, model=spy)
    expect(len(spy.weights) == 5, f"In 5 steps the network was called {len(spy.weights)} times.")
    for step in range(4):
        moved = (spy.weights[step + 1] - spy.weights[step]).abs().amax(dim=(1, 2))
        gradient = spy.gradients[step + 1]
        cleared = not bool(moved.any()) and gradient is not None and not bool(gradient.any())
        too_early = step == 0 and not bool(moved.any()) and gradient is not None and bool(gradient.any())
        why = " The optimizer stepped before there was a gradient." if too_early else ""
        if step > 0 and not bool(moved.any()) and not cleared:
            why = " Has the learning rate run out? The schedule takes one step for each of the optimizer's."
        expect(
            bool((moved > 0).all()),
            f"W did not move in step {step}.{why}",
            mistake="cleared_before_step" if cleared else None,
        )
        expect(bool((moved < 0.05).all()), f"W jumped by {moved.max():.3f} in step {step}, at a learning rate of 0.01.")
    expect(bool((spy.biases[-1] != 0).any()), "b never moved.")


@title("W starts with Xavier's variance, b at 0")
def test_train_start(train_toy_models):
    spy = _Spy()
    train_toy_models(PROBABILITY[:1].expand(1000, 3), IMPORTANCE, 2, n_steps=1, batch=1, model=spy)
    expect(len(spy.weights) == 1, f"In one step the network was called {len(spy.weights)} times.")
    entries = spy.weights[0].double()
    mean, variance, right = entries.mean(), entries.var(), 2 / (3 + 2)
    error = (right / entries.numel()) ** 0.5
    expect(bool(mean.abs() < 6 * error), f"The entries of W should average 0 at first; they average {mean:.3f}.")
    # the sample variance of N normal numbers is off by sqrt(2 / N) of itself, that of uniform ones by less
    bound = 6 * right * (2 / entries.numel()) ** 0.5
    given = "3 features and 2 hidden units, before the first step"
    expect_close(variance, right, what="the variance of W's entries", given=given, rtol=0, atol=bound)
    expect(bool((spy.biases[0] == 0).all()), "b should be 0 before the first step.")


class _Enough(Exception):
    """Ends the training from within the network."""


class _Slope:
    """A network whose squared output is linear in W and b.

    With x = 0 the loss has the same gradient at every step, in proportion to importance. So Adam's two averages
    are that gradient and its square, and each step moves every weight by the learning rate.
    """

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.weights: list[Tensor] = []
        self.batch = 0

    def __call__(self, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
        self.weights.append(W.detach().clone())
        self.batch = len(x)
        if len(self.weights) == self.calls:
            raise _Enough
        return (20 + W[:, 0] + b).sqrt().expand_as(x)  # 20: positive for certain

    def rates(self) -> Tensor:
        """How far the weights went at each step, for each weight."""
        return -torch.stack(self.weights).diff(dim=0)


def _slide(train_toy_models, calls: int, **options) -> _Slope:
    """Train on it until it has been called so often."""
    slope = _Slope(calls)

    def on_step(step: int, _: Tensor) -> None:
        if step == calls:
            raise _Enough

    nothing = torch.zeros(2, 3, dtype=torch.float64)
    with contextlib.suppress(_Enough):
        train_toy_models(nothing, IMPORTANCE.double(), 1, model=slope, on_step=on_step, **options)
    came = len(slope.weights)
    expect(came > 0, "The network passed as `model` was never called.", mistake="default_model_always")
    expect(came == calls, f"The network should be called once a step; after {calls} steps that was {came} times.")
    return slope


@title("The learning rate falls linearly, to zero after the last step")
def test_train_rate_falls(train_toy_models):
    rates = _slide(train_toy_models, 5, n_steps=5, batch=2, learning_rate=0.1).rates()
    right = torch.tensor([0.1, 0.08, 0.06, 0.04], dtype=torch.float64).view(4, 1, 1, 1).expand(4, 2, 1, 3)
    given = "a gradient that stays the same, n_steps = 5 and learning_rate = 0.1 (Adam then moves by the learning rate)"
    expect_close(rates, right, what="the way W goes in the first four steps", given=given)


@title("Left out, n_steps is 3000, batch is 256 and learning_rate is 0.01")
def test_train_defaults(train_toy_models):
    slope = _slide(train_toy_models, 3)
    expect(slope.batch == 256, f"With `batch` left out, a batch had {slope.batch} rows.")
    first, second = slope.rates().mean(dim=(1, 2, 3))
    expect_close(first, 0.01, what="the way W goes in the first step", given="`learning_rate` left out")
    # a rate that falls linearly to zero loses 1 / n_steps of its first value at each step
    given = "`n_steps` left out"
    expect_close(1 - second / first, 1 / 3000, what="the fall of the rate in a step", given=given, atol=0)


@title("W and b are made on the device of feature_probability")
def test_train_device(train_toy_models):
    devices: list[tuple[str, torch.device]] = []

    def network(W: Tensor, b: Tensor, _: Tensor) -> Tensor:
        devices.extend([("W", W.device), ("b", b.device)])
        raise _Enough

    # every machine has the device `meta`: its tensors have a shape and no numbers
    with contextlib.suppress(_Enough):
        train_toy_models(PROBABILITY.to("meta"), IMPORTANCE.to("meta"), 2, n_steps=1, batch=8, model=network)
    expect(len(devices) > 0, "The network passed as `model` was never called.", mistake="default_model_always")
    for name, device in devices:
        expect(device.type == "meta", f"feature_probability is on the device `meta`, but {name} is on `{device}`.")


@title("It learns: two features in two hidden units come back almost perfectly")
def test_train_learns(train_toy_models):
    p = torch.full((9, 2), 0.8)
    W, b = train_toy_models(p, torch.ones(2), 2, n_steps=150, batch=64, learning_rate=0.05)
    x = torch.rand(256, 9, 2)
    loss = (x - _network(W, b, x)).square().sum(dim=-1).mean(dim=0)
    # About one run in 200 gets stuck, so five of nine do with a probability below 1e-8.
    expect(
        bool(loss.median() < 0.05),
        f"After 150 steps most losses should be near 0 (untrained they are about 0.5); they are {show(loss)}.",
    )


@title("Importance counts: with room for one feature, the important one is kept")
def test_train_uses_importance(train_toy_models):
    importance = torch.tensor([0.01, 1.0])
    W, _ = train_toy_models(torch.ones(9, 2), importance, 1, n_steps=100, batch=32, learning_rate=0.05)
    norms = W.norm(dim=1)
    # As above: one run in 200 ends otherwise.
    expect(
        bool((norms[:, 1] - norms[:, 0]).median() > 0),
        f"Importance is [0.01, 1], but most instances store feature 0 more strongly: the lengths are {show(norms)}.",
    )


@title("on_step hears of every step, with the loss of every instance")
def test_train_on_step(train_toy_models):
    heard: list[tuple[int, Tensor]] = []
    spy = _Spy()
    train_toy_models(
        PROBABILITY,
        IMPORTANCE,
        2,
        n_steps=5,
        batch=16,
        model=spy,
        on_step=lambda step, loss: heard.append((step, loss)),
    )
    steps = [step for step, _ in heard]
    expect(steps == [0, 1, 2, 3, 4], f"Expected on_step for steps 0 to 4; it was called for {steps}.")
    for step, loss in heard:
        expect_tensor(loss, what=f"the loss told at step {step}", given="2 instances", shape=(2,))
        x = spy.batches[step]
        error = (x - _network(spy.weights[step], spy.biases[step], x)).square()
        right = (IMPORTANCE * error).sum(dim=-1).mean(dim=0)
        expect_close(
            loss, right, what=f"the loss told at step {step}", given="the batch of that step", rtol=1e-4, atol=1e-6
        )


@title("Without a model, reconstruct is trained; the arguments stay as they were")
def test_train_default_model(train_toy_models):
    p, importance = PROBABILITY.clone(), IMPORTANCE.clone()
    W, b = train_toy_models(p, importance, 1, n_steps=20, batch=32)
    expect(bool(W.isfinite().all() and b.isfinite().all()), "W or b is not finite after 20 steps.")
    unchanged(PROBABILITY, p, "feature_probability")
    unchanged(IMPORTANCE, importance, "importance")


@title("float64 in, float64 out")
def test_train_float64(train_toy_models):
    W, b = train_toy_models(PROBABILITY.double(), IMPORTANCE.double(), 2, n_steps=2, batch=8)
    for name, tensor in (("W", W), ("b", b)):
        expect_dtype(tensor, torch.float64, what=name, given="feature_probability in float64")


# --- representation_norms ----------------------------------------------------------------------


@title("By hand: the columns [3, 4], [0, 0] and [0, -2]")
def test_norms_by_hand(representation_norms):
    W = torch.tensor([[[3.0, 0.0, 0.0], [4.0, 0.0, -2.0]]])
    got = expect_tensor(representation_norms(W), what="the norms", given="hidden = 2, feature = 3")
    rows = got.shape == (1, 2) and torch.allclose(got, torch.tensor([[3.0, 20**0.5]]))
    expect(not rows, "These are the lengths of the rows of W.", mistake="wrong_axis")
    squared = got.shape == (1, 3) and torch.allclose(got, torch.tensor([[25.0, 0.0, 4.0]]))
    expect_close(
        got,
        torch.tensor([[5.0, 0.0, 2.0]]),
        what="the norms",
        given="the columns [3, 4], [0, 0] and [0, -2]",
        mistake="squared_norms" if squared else None,
    )


@title("Right in several shapes, square ones too")
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (2, 4, 4), (4, 4, 4)])
def test_norms_random(representation_norms, shape):
    W = torch.randn(shape)
    right = torch.tensor(
        [[math.sqrt(sum(float(v) ** 2 for v in W[i, :, f])) for f in range(shape[2])] for i in range(shape[0])]
    )
    name = "wrong_axis" if shape[1] == shape[2] and shape[1] > 1 and _is_rows(representation_norms(W), W) else None
    given = f"W of shape {shape}"
    expect_close(representation_norms(W), right, what="the norms", given=given, rtol=1e-4, atol=1e-5, mistake=name)


def _is_rows(got: object, W: Tensor) -> bool:
    return isinstance(got, Tensor) and got.shape == W.shape[:2] and torch.allclose(got, W.norm(dim=2))


@title("A rotation of the hidden layer changes nothing")
def test_norms_rotation(representation_norms):
    W = torch.randn(2, 3, 5, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    expect_close(
        representation_norms(rotation @ W),
        representation_norms(W),
        what="the norms",
        given="W after a rotation",
        rtol=1e-8,
    )


@title("Twice W, twice the norms")
def test_norms_scale(representation_norms):
    W = torch.randn(2, 3, 4)
    expect_close(
        representation_norms(2 * W), 2 * W.square().sum(dim=1).sqrt(), what="the norms", given="2 W", rtol=1e-4
    )


@title("W stays as it was; float64 stays float64")
def test_norms_keeps_input(representation_norms):
    W = torch.randn(1, 2, 3, dtype=torch.float64)
    before = W.clone()
    expect_dtype(representation_norms(W), torch.float64, what="the norms", given="W in float64")
    unchanged(before, W, "W")


# --- superposition_index -----------------------------------------------------------------------


def _slow_index(W: Tensor) -> Tensor:
    instances, _, features = W.shape
    index = torch.zeros(instances, features, dtype=W.dtype)
    for n in range(instances):
        for i in range(features):
            length = W[n, :, i].norm()
            if length == 0:
                continue
            for j in range(features):
                if j != i:
                    index[n, i] += (W[n, :, i] / length @ W[n, :, j]) ** 2
    return index


@title("Orthogonal features share nothing")
def test_index_orthogonal(superposition_index):
    W = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    got = expect_tensor(superposition_index(W), what="the index", given="columns [2, 0] and [0, 3]", shape=(1, 2))
    right = bool(got.isfinite().all() and (got.abs() < 1e-5).all())
    message = f"For the columns [2, 0] and [0, 3] the index should be 0 and 0; it is {show(got)}."
    name = None
    if torch.allclose(got, torch.tensor([[4.0, 9.0]])):  # the lengths, squared
        name = "self_counted"
    elif torch.allclose(got, torch.tensor([[3.0, 8.0]])):
        name = "one_subtracted"
    expect(right, message, mistake=name)


@title("A feature with no direction has index 0")
def test_index_zero_column(superposition_index):
    W = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    got = superposition_index(W)
    nan = isinstance(got, Tensor) and bool(got.isnan().any())
    expect(not nan, "With W = [1, 0], [0, 0], [1, 1] as columns, the index holds nan.", mistake="nan_for_absent")
    # 1: (1*1)^2 = 1;  0;  ([1,1]/sqrt 2 . [1,0])^2 = 1/2
    given = "the columns [1, 0], [0, 0] and [1, 1]"
    expect_close(got, torch.tensor([[1.0, 0.0, 0.5]]), what="the index", given=given)


@title("An instance with no feature stored has index 0 everywhere")
def test_index_all_zero(superposition_index):
    got = superposition_index(torch.zeros(2, 2, 3))
    nan = isinstance(got, Tensor) and bool(got.isnan().any())
    expect(not nan, "With W = 0, the index holds nan.", mistake="nan_for_absent")
    expect_close(got, torch.zeros(2, 3), what="the index", given="W = 0")


@title("Only the feature itself is normalised, not its neighbours")
def test_index_which_is_normalised(superposition_index):
    W = torch.tensor([[[1.0, 3.0]]])
    # feature 0: (1 * 3)^2 = 9; feature 1: (1 * 1)^2 = 1
    got = expect_tensor(superposition_index(W), what="the index", given="one hidden unit, W = [1, 3]", shape=(1, 2))
    name = None
    if torch.allclose(got, torch.tensor([[1.0, 1.0]])):
        name = "both_normalised"
    elif torch.allclose(got, torch.tensor([[1.0, 9.0]])):
        name = "wrong_one_normalised"
    elif torch.allclose(got, torch.tensor([[9.0, 9.0]])):
        name = "none_normalised"
    given = "one hidden unit, W = [1, 3]"
    expect_close(got, torch.tensor([[9.0, 1.0]]), what="the index", given=given, mistake=name)


@title("Neighbours on opposite sides do not cancel")
def test_index_squares(superposition_index):
    W = torch.tensor([[[1.0, 0.5, -0.5]]])
    got = expect_tensor(superposition_index(W), what="the index", given="W = [1, 0.5, -0.5]", shape=(1, 3))
    name = None
    if bool(got[0, 0].abs() < 1e-4):
        name = "not_squared"
    elif torch.allclose(got, torch.tensor([[1.0, 1.5, 1.5]])):
        name = "absolute_values"
    message = f"For W = [1, 0.5, -0.5], feature 0 should have 0.5; it is {got[0, 0]:.4f}."
    expect(bool((got[0, 0] - 0.5).abs() < 1e-4), message, mistake=name)


@title("The regular pentagon: 3/2 for every corner")
def test_index_pentagon(superposition_index):
    angle = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5
    W = torch.stack([angle.cos(), angle.sin()])[None]
    # 2 cos^2 72 + 2 cos^2 144 = 3/2
    given = "five unit columns, 72 degrees apart"
    expect_close(superposition_index(W), torch.full((1, 5), 1.5), what="the index", given=given, rtol=1e-6)


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (2, 5, 3), (3, 3, 3)])
def test_index_random(superposition_index, shape):
    W = torch.randn(shape, dtype=torch.float64)
    expect_close(
        superposition_index(W), _slow_index(W), what="the index", given=f"W of shape {shape}", rtol=1e-6, atol=1e-9
    )


@title("Small but present features count; instances do not see each other")
def test_index_small_and_apart(superposition_index):
    W = torch.stack([torch.tensor([[1e-4, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
    right = torch.tensor([[1.0, 1e-8], [0.0, 0.0]])
    given = "columns [0.0001, 0] and [1, 0] in instance 0, orthogonal ones in instance 1"
    got = expect_tensor(superposition_index(W), what="the index", given=given, shape=(2, 2))
    only_the_small = bool(got[0, 0] < 0.999) and torch.allclose(got.flatten()[1:], right.flatten()[1:], atol=1e-5)
    name = "softened_norm" if only_the_small else None
    expect_close(got, right, what="the index", given=given, rtol=1e-3, atol=1e-6, mistake=name)


@title("W stays as it was; float64 stays float64")
def test_index_keeps_input(superposition_index):
    W = torch.randn(2, 2, 3, dtype=torch.float64)
    before = W.clone()
    expect_dtype(superposition_index(W), torch.float64, what="the index", given="W in float64")
    unchanged(before, W, "W")


# --- linear_optimum ----------------------------------------------------------------------------


@title("Importances in falling order: the first ones are kept")
def test_linear_by_hand(linear_optimum):
    importance = torch.tensor([1.0, 0.7, 0.5])
    got = expect_tensor(linear_optimum(importance, 2), what="P", given="importance = [1, 0.7, 0.5], d_hidden = 2")
    expect(got.shape != (2, 3), "The result has the shape of W.", mistake="w_not_gram")
    square = got.shape == (3, 3)
    leaks = square and bool((got - got.diagonal().diag()).abs().max() > 1e-4)
    weighted = square and not leaks and bool(((got.diagonal() > 0) == torch.tensor([True, True, False])).all())
    expect_close(
        got,
        torch.diag(torch.tensor([1.0, 1.0, 0.0])),
        what="P",
        given="importance = [1, 0.7, 0.5], d_hidden = 2",
        mistake="off_diagonal" if leaks else "weighted_diagonal" if weighted else None,
    )


@title("The most important features are kept, wherever they stand")
def test_linear_any_order(linear_optimum):
    importance = torch.tensor([0.1, 2.0, 0.3, 1.5])
    right = torch.diag(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    given = "importance = [0.1, 2, 0.3, 1.5], d_hidden = 2"
    got = expect_tensor(linear_optimum(importance, 2), what="P", given=given, shape=(4, 4))
    kept = (got.diagonal() > 0.5).tolist()
    name = {(True, True, False, False): "first_not_largest", (True, False, True, False): "least_important"}
    expect_close(got, right, what="P", given=given, mistake=name.get(tuple(kept)))


@title("Room for all: nothing is lost")
@pytest.mark.parametrize("d_hidden", [3, 4, 10])
def test_linear_room_for_all(linear_optimum, d_hidden):
    given = f"three features, d_hidden = {d_hidden}"
    expect_close(linear_optimum(torch.tensor([0.5, 3.0, 1.0]), d_hidden), torch.eye(3), what="P", given=given)


@title("With ties, as many are kept as there is room for")
def test_linear_ties(linear_optimum):
    P = expect_tensor(
        linear_optimum(torch.ones(4), 2), what="P", given="four equal importances, d_hidden = 2", shape=(4, 4)
    )
    expect_close(P @ P, P, what="P P (a projection is its own square)", given="four equal importances, d_hidden = 2")
    expect_close(P.trace(), 2.0, what="the trace of P", given="four equal importances, d_hidden = 2")


@title("No model of that rank does better")
@pytest.mark.parametrize("sizes", [(4, 1), (6, 2), (5, 4)])
def test_linear_is_best(linear_optimum, sizes):
    features, d_hidden = sizes
    importance = torch.rand(features, dtype=torch.float64) + 0.05
    P = expect_tensor(linear_optimum(importance, d_hidden), what="P", shape=(features, features)).double()
    rank = int((torch.linalg.eigvalsh((P + P.T) / 2) > 1e-6).sum())
    expect(
        rank <= d_hidden,
        f"P has rank {rank}, but there {'is' if d_hidden == 1 else 'are'} only {count(d_hidden, 'hidden unit')}.",
    )

    def loss(gram: Tensor) -> Tensor:
        residual = torch.eye(features, dtype=torch.float64) - gram
        return (importance[:, None] * residual.square()).sum()

    own = loss(P)
    for _ in range(50):
        W = 0.7 * torch.randn(d_hidden, features, dtype=torch.float64)
        near = P + 0.05 * (W.T @ W)
        vectors = torch.linalg.eigh((near + near.T) / 2).eigenvectors[:, -d_hidden:]
        for other in (W.T @ W, vectors @ vectors.T):
            expect(
                bool(own <= loss(other) + 1e-9),
                f"With importance = {show(importance)} and {count(d_hidden, 'hidden unit')}, another WᵀW loses less: "
                f"{loss(other):.4f} against {own:.4f}.",
            )


@title("dtype follows importance, which stays as it was")
def test_linear_keeps_input(linear_optimum):
    importance = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    before = importance.clone()
    expect_dtype(linear_optimum(importance, 1), torch.float64, what="P", given="importance in float64")
    unchanged(before, importance, "importance")
