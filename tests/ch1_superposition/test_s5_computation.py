"""Checkers of "Privileged bases and computation in superposition": one fixture per exercise, named like it.

Expected values are worked by hand, by slow loops, or follow from an invariance; never from the reference. Nothing here
is a statistic: random weights are compared with the definition, entry by entry, and the seed of each test is fixed.
"""

import pytest
import torch
from torch import Tensor

from refract.checking.expect import expect, expect_close, expect_dtype, expect_tensor, expect_type, reseed, show
from refract.checking.marks import mistake, title

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


def _weights(instance: int, hidden: int, feature: int, batch: int, dtype=torch.float32) -> tuple[Tensor, ...]:
    W_in = torch.randn(instance, hidden, feature, dtype=dtype)
    W_out = torch.randn(instance, feature, hidden, dtype=dtype)
    b = torch.randn(instance, feature, dtype=dtype)
    return W_in, W_out, b, 2 * torch.rand(batch, instance, feature, dtype=dtype) - 1


def _slow(W_in: Tensor, W_out: Tensor, b: Tensor, x: Tensor, *, rectify_hidden=True, rectify_output=True) -> Tensor:
    """The definition, one sample of one instance at a time."""
    output = torch.zeros_like(x)
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            hidden = W_in[i] @ x[n, i]
            if rectify_hidden:
                hidden = hidden.clamp(min=0)
            value = W_out[i] @ hidden + b[i]
            output[n, i] = value.clamp(min=0) if rectify_output else value
    return output


SHAPES = [(1, 1, 1, 1), (3, 2, 5, 4), (2, 5, 3, 6), (4, 4, 4, 4), (2, 2, 2, 1)]

# --- neuron_model --------------------------------------------------------------------------------


@title("One feature, one neuron, by hand")
def test_neuron_by_hand(neuron_model):
    W, b, x = torch.tensor([[[2.0]]]), torch.tensor([[-1.0]]), torch.tensor([[[0.5]], [[0.1]]])
    given = "W = 2, b = -1, x = 0.5 and 0.1"
    expect_close(neuron_model(W, b, x), torch.tensor([[[1.0]], [[0.0]]]), what="the output", given=given)


@title("A negative hidden unit is silent")
@mistake("linear_hidden")
def test_neuron_hidden_is_rectified(neuron_model):
    W, b, x = torch.tensor([[[-1.0, -2.0]]]), torch.full((1, 2), 0.5), torch.tensor([[[1.0, 0.0]]])
    y = expect_tensor(neuron_model(W, b, x), what="the output", shape=(1, 1, 2))
    expect(
        not torch.allclose(y, torch.tensor([[[1.5, 2.5]]])),
        "With W = [[-1, -2]] and x = [1, 0] the hidden unit is -1: a neuron is silent then, and the output is b.",
    )


@title("The bias is added, after the weights")
def test_neuron_has_bias(neuron_model):
    W, b, x = torch.zeros(2, 2, 3), torch.rand(2, 3) + 0.5, torch.rand(4, 2, 3)
    y = expect_tensor(neuron_model(W, b, x), what="the output", given="W = 0 and a positive bias", shape=(4, 2, 3))
    message = "With W = 0 and a positive bias, the output should be the bias; it is 0. Where is b added?"
    one = torch.ones(1, 1, 1)
    z = neuron_model(one, torch.full((1, 1), 0.5), one)
    ignored = isinstance(z, Tensor) and torch.allclose(z, one)
    expect(not bool((y == 0).all()), message, mistake="bias_left_out" if ignored else None)


@title("The neurons have no bias")
def test_neuron_bias_is_not_hidden(neuron_model):
    W, b, x = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 0.5]]])
    y = expect_tensor(neuron_model(W, b, x), what="the output", shape=(1, 1, 2))
    given = "W = [[1, -1]], b = [1, 0], x = [0, 0.5]: the neuron is at ReLU(-0.5) = 0"
    wrong = (torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.5, 0.0]]]))
    name = "bias_on_neurons" if any(torch.allclose(y, each) for each in wrong) else None
    if torch.allclose(y, torch.tensor([[[0.5, 0.5]]])):
        name = "linear_hidden"
    expect_close(y, torch.tensor([[[1.0, 0.0]]]), what="the output", given=given, mistake=name)


@title("The output is never negative, whatever the bias")
def test_neuron_not_negative(neuron_model):
    W, _, b, x = _weights(2, 3, 4, 16)
    y = expect_tensor(neuron_model(W, b, x), what="the output", shape=(16, 2, 4))
    linear = torch.allclose(y, _slow(W, W.mT, b, x, rectify_output=False), atol=1e-4)
    name = "linear_output" if linear else None
    expect(bool((y >= 0).all()), f"The output holds {y.min():.3f}, which is negative.", mistake=name)


@title("Right for random weights and biases, in several shapes")
@pytest.mark.parametrize("shape", SHAPES)
def test_neuron_random(neuron_model, shape):
    W, _, b, x = _weights(*shape)
    given = "(instance, hidden, feature, batch) = " + str(shape)
    expect_close(neuron_model(W, b, x), _slow(W, W.mT, b, x), what="the output", given=given, rtol=1e-4, atol=1e-5)


@title("Gradients reach W, through both of its uses, and b")
def test_neuron_gradient(neuron_model):
    W = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.4, 0.6]]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    x = torch.rand(4, 1, 3, dtype=torch.float64) + 0.1
    y = neuron_model(W, b, x)
    expect(
        isinstance(y, Tensor) and y.requires_grad, "The output does not depend on W and b as far as autograd can see."
    )
    got = torch.autograd.grad(y.sum(), (W, b), allow_unused=True)
    # Everything is positive here, so no ReLU acts: y = W.T W x + b.
    s = x.sum(dim=(0, 1))
    right = torch.outer(W[0] @ torch.ones_like(s), s) + torch.outer(W[0] @ s, torch.ones_like(s))
    for name, value, expected in (("W", got[0], right[None]), ("b", got[1], torch.full_like(b, 4.0))):
        expect(value is not None, f"No gradient reaches {name}.")
        expect_close(value, expected, what=f"the gradient for {name}", rtol=1e-6, atol=1e-8)


@title("float64 stays float64, on the device of its inputs")
@pytest.mark.parametrize("device", DEVICES)
def test_neuron_dtype(neuron_model, device):
    dtype = torch.float32 if device == "mps" else torch.float64
    W, _, b, x = (tensor.to(device) for tensor in _weights(2, 2, 3, 4, dtype=dtype))
    y = neuron_model(W, b, x)
    expect_dtype(y, dtype, what="the output")
    expect(y.device.type == device, f"With everything on {device}, the output is on {y.device.type}.")


# --- features_served -----------------------------------------------------------------------------


@title("Three neurons by hand")
def test_served_by_hand(features_served):
    # reads:  neuron 0 both features, neuron 1 the second with a negative sign, neuron 2 both, but writes none
    W_in = torch.tensor([[[1.0, 0.5], [0.0, -1.0], [1.0, 1.0]]])
    W_out = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, -1.0]]])
    got = expect_tensor(features_served(W_in, W_out), what="the counts", shape=(1, 3), finite=False)
    name = None
    for wrong, called in (
        ([[2, 0, 0]], "negative_reading_ignored"),
        ([[2, 1, 1]], "inhibition_counted"),
        ([[2, 1, 2]], "reading_only"),
        ([[2, 0, 2]], "reading_only"),
    ):
        if torch.equal(got.double(), torch.tensor(wrong).double()):
            name = called
    given = "W_in = [[1, 0.5], [0, -1], [1, 1]] and W_out = [[1, 0, 0], [1, 1, -1]]"
    expect_close(got.double(), torch.tensor([[2.0, 1.0, 0.0]]).double(), what="the counts", given=given, mistake=name)


@title("One count for each neuron, not for each feature")
@pytest.mark.parametrize("shape", [(1, 2, 5), (3, 4, 4), (2, 1, 3)])
def test_served_shape(features_served, shape):
    instance, hidden, feature = shape
    W_in, W_out, _, _ = _weights(instance, hidden, feature, 1)
    got = features_served(W_in, W_out)
    expect_tensor(got, what="the counts", finite=False)
    per_feature = (W_in.abs() * W_out.mT > 0.25).sum(dim=1)
    confused = got.shape == per_feature.shape and torch.equal(got.double(), per_feature.double())
    right = (W_in.abs() * W_out.mT > 0.25).sum(dim=2)
    expect(
        not confused or torch.equal(per_feature, right),
        f"With {hidden} neurons and {feature} features the counts belong to the features.",
        mistake="neurons_counted",
    )
    expect_tensor(got, what="the counts", given=f"(instance, hidden, feature) = {shape}", shape=(instance, hidden))


@title("Right for random weights, at several thresholds")
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.5])
def test_served_random(features_served, threshold):
    W_in, W_out, _, _ = _weights(2, 4, 6, 1)
    expected = torch.zeros(2, 4)
    for n in range(2):
        for k in range(4):
            for i in range(6):
                expected[n, k] += float(abs(W_in[n, k, i]) * W_out[n, i, k] > threshold)
    got = expect_tensor(features_served(W_in, W_out, threshold), what="the counts", shape=(2, 4), finite=False)
    expect_close(got.float(), expected, what="the counts", given=f"random weights and threshold = {threshold}")


@title("A product that just reaches the threshold is not above it")
def test_served_boundary(features_served):
    W_in, W_out = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0.5], [0.5]]])
    given = "W_in = [0.5, 1], W_out = [0.5, 0.5] and threshold = 0.25: products of 0.25 and 0.5"
    got = expect_tensor(features_served(W_in, W_out, 0.25), what="the counts", shape=(1, 1), finite=False)
    name = "boundary_counted" if got.tolist() == [[2]] else None
    expect_close(got.double(), torch.ones(1, 1).double(), what="the counts", given=given, mistake=name)


@title("A tied model: W and its transpose")
def test_served_tied(features_served):
    W = torch.tensor([[[1.0, -1.0, 0.7], [0.4, 0.0, 0.0]]])
    got = expect_tensor(features_served(W, W.mT), what="the counts", shape=(1, 2), finite=False)
    # products: 1, -1 and 0.49; then 0.16
    given = "W = [[1, -1, 0.7], [0.4, 0, 0]], used both ways"
    name = "inhibition_counted" if got.tolist() == [[3, 0]] else None
    expect_close(got.float(), torch.tensor([[2.0, 0.0]]), what="the counts", given=given, mistake=name)


@title("A neuron may be scaled: what it reads by c, what it writes by 1/c")
def test_served_scale(features_served):
    W_in, W_out, _, _ = _weights(2, 4, 6, 1)
    scale = torch.tensor([0.25, 0.5, 2.0, 4.0])
    before = expect_tensor(features_served(W_in, W_out), what="the counts", shape=(2, 4), finite=False)
    after = features_served(W_in * scale[:, None], W_out / scale)
    expect_close(after.double(), before.double(), what="the counts", given="neurons scaled by 1/4, 1/2, 2 and 4")


# --- absolute_value_model ------------------------------------------------------------------------


@title("One feature, two neurons, by hand")
def test_absolute_by_hand(absolute_value_model):
    W_in, W_out = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[[3.0, 2.0]]])
    b, x = torch.tensor([[-0.5]]), torch.tensor([[[1.0]], [[-1.0]], [[0.1]]])
    given = "W_in = [[1], [-2]], W_out = [[3, 2]], b = -0.5, x = 1, -1 and 0.1"
    got = expect_tensor(absolute_value_model(W_in, W_out, b, x), what="the output", given=given, shape=(3, 1, 1))
    name = None
    if torch.allclose(got, x.abs()):
        name = "returns_target"
    elif torch.allclose(got, torch.tensor([[[0.5]], [[0.0]], [[0.0]]])):
        name = "tied"
    elif torch.allclose(got, torch.tensor([[[2.5]], [[3.5]], [[-0.2]]])):
        name = "linear_output"
    elif torch.allclose(got, torch.tensor([[[0.0]], [[0.5]], [[0.0]]])):
        name = "linear_hidden"
    expect_close(got, torch.tensor([[[2.5]], [[3.5]], [[0.0]]]), what="the output", given=given, mistake=name)


@title("Both matrices matter")
def test_absolute_uses_both(absolute_value_model):
    W_in, W_out, b, x = _weights(1, 4, 3, 8)
    b = b.abs()
    first = expect_tensor(absolute_value_model(W_in, W_out, b, x.clone()), what="the output", shape=(8, 1, 3))
    other_out = absolute_value_model(W_in, W_out + 1, b, x.clone())
    other_in = absolute_value_model(W_in + 1, W_out, b, x.clone())
    out_ignored = isinstance(other_out, Tensor) and torch.equal(other_out, first)
    in_ignored = isinstance(other_in, Tensor) and torch.equal(other_in, first)
    name = "returns_target" if out_ignored and in_ignored else "tied" if out_ignored else None
    expect(not out_ignored, "Another W_out makes no difference to the output.", mistake=name)
    expect(not in_ignored, "Another W_in makes no difference to the output.")


@title("A negative hidden unit is silent")
@mistake("linear_hidden")
def test_absolute_hidden_is_rectified(absolute_value_model):
    W_in, W_out, b, x = _weights(2, 4, 3, 16)
    b = b.abs() + 1
    y = expect_tensor(absolute_value_model(W_in, W_out, b, x), what="the output", shape=(16, 2, 3))
    wrong = _slow(W_in, W_out, b, x, rectify_hidden=False)
    expect(not torch.allclose(y, wrong, atol=1e-4), "The output is that of a network whose hidden layer is linear.")


@title("The output is never negative")
def test_absolute_not_negative(absolute_value_model):
    W_in, W_out, b, x = _weights(2, 3, 4, 16)
    y = expect_tensor(absolute_value_model(W_in, W_out, b, x), what="the output", shape=(16, 2, 4))
    linear = torch.allclose(y, _slow(W_in, W_out, b, x, rectify_output=False), atol=1e-4)
    message = f"The output holds {y.min():.3f}, which is negative."
    expect(bool((y >= 0).all()), message, mistake="linear_output" if linear else None)


@title("Right for random weights and biases, in several shapes")
@pytest.mark.parametrize("shape", SHAPES)
def test_absolute_random(absolute_value_model, shape):
    W_in, W_out, b, x = _weights(*shape)
    given = "(instance, hidden, feature, batch) = " + str(shape)
    right = _slow(W_in, W_out, b, x)
    expect_close(absolute_value_model(W_in, W_out, b, x), right, what="the output", given=given, rtol=1e-4, atol=1e-5)


@title("Instances do not see each other")
def test_absolute_instances_apart(absolute_value_model):
    W_in, W_out, b, x = _weights(3, 2, 4, 5)
    before = expect_tensor(absolute_value_model(W_in, W_out, b, x.clone()), what="the output", shape=(5, 3, 4))
    other = W_out.clone()
    other[1] += 1
    after = expect_tensor(absolute_value_model(W_in, other, b, x.clone()), what="the output", shape=(5, 3, 4))
    expect(
        torch.allclose(after[:, [0, 2]], before[:, [0, 2]], atol=1e-5),
        "The weights of instance 1 changed, and with them the output of instances 0 and 2.",
    )


@title("float64 stays float64, on the device of its inputs")
@pytest.mark.parametrize("device", DEVICES)
def test_absolute_dtype(absolute_value_model, device):
    dtype = torch.float32 if device == "mps" else torch.float64
    W_in, W_out, b, x = (tensor.to(device) for tensor in _weights(2, 2, 3, 4, dtype=dtype))
    y = absolute_value_model(W_in, W_out, b, x)
    expect_dtype(y, dtype, what="the output")
    expect(y.device.type == device, f"With everything on {device}, the output is on {y.device.type}.")


# --- exact_absolute_value ------------------------------------------------------------------------


def _parts(answer, n_features: int) -> tuple[Tensor, Tensor, Tensor]:
    answer = expect_type(answer, (tuple, list), what="the answer", given=f"n_features = {n_features}")
    expect(len(answer) == 3, f"The answer should be (W_in, W_out, b); it has {len(answer)} parts.")
    shapes = {"W_in": (2 * n_features, n_features), "W_out": (n_features, 2 * n_features), "b": (n_features,)}
    for part, (name, shape) in zip(answer, shapes.items(), strict=True):
        expect_tensor(part, what=name, given=f"n_features = {n_features}", shape=shape)
    W_in, W_out, b = (part.double() for part in answer)
    return W_in, W_out, b


@title("Three tensors, of the right shapes")
@pytest.mark.parametrize("n_features", [1, 3, 8])
def test_exact_shapes(exact_absolute_value, n_features):
    _parts(exact_absolute_value(n_features), n_features)


@title("It computes |x|, one feature at a time")
@pytest.mark.parametrize("n_features", [1, 3])
def test_exact_single(exact_absolute_value, n_features):
    W_in, W_out, b = _parts(exact_absolute_value(n_features), n_features)
    for sign in (1.0, -1.0):
        x = sign * 0.5 * torch.eye(n_features, dtype=torch.float64)
        y = ((x @ W_in.T).clamp(min=0) @ W_out.T + b).clamp(min=0)
        own = y.diagonal()
        name = None
        if sign < 0 and bool((own == 0).all()):
            name = "gives_x_back" if bool((W_out < 0).any()) else "half_missing"
        elif bool((own == 1).all()):
            name = "twice_too_large"
        given = f"one feature at {sign * 0.5}, the others at 0"
        expect_close(y, x.abs(), what="the output", given=given, atol=1e-5, mistake=name)


@title("It computes |x| when all features are present")
@pytest.mark.parametrize("n_features", [1, 2, 7])
def test_exact_dense(exact_absolute_value, n_features):
    W_in, W_out, b = _parts(exact_absolute_value(n_features), n_features)
    x = 2 * torch.rand(200, n_features, dtype=torch.float64) - 1
    y = ((x @ W_in.T).clamp(min=0) @ W_out.T + b).clamp(min=0)
    expect_close(y, x.abs(), what="the output", given=f"{n_features} features, all present", rtol=1e-4, atol=1e-5)


@title("It computes |x| for large and for tiny x")
def test_exact_scale(exact_absolute_value):
    W_in, W_out, b = _parts(exact_absolute_value(3), 3)
    for scale in (1e3, 1e-3):
        x = scale * (2 * torch.rand(50, 3, dtype=torch.float64) - 1)
        y = ((x @ W_in.T).clamp(min=0) @ W_out.T + b).clamp(min=0)
        expect_close(y / scale, x.abs() / scale, what="the output, over the size of x", given=f"x up to {scale:g}")


# --- find_asymmetric_pairs -----------------------------------------------------------------------


def _design(**changes: float) -> tuple[Tensor, Tensor]:
    """One neuron, two features: reads 2 and -1/2, writes 1/2 and 2."""
    value = {"read_i": 2.0, "read_j": -0.5, "write_i": 0.5, "write_j": 2.0} | changes
    W_in = torch.tensor([[[value["read_i"], value["read_j"]]]])
    return W_in, torch.tensor([[[value["write_i"]], [value["write_j"]]]])


def _slow_pairs(W_in: Tensor, W_out: Tensor, ratio: float = 2.0, threshold: float = 0.25) -> Tensor:
    instances, hidden, features = W_in.shape
    found = torch.zeros(instances, hidden, features, features, dtype=torch.bool)
    for n in range(instances):
        for k in range(hidden):
            for i in range(features):
                for j in range(features):
                    read_i, read_j = float(W_in[n, k, i]), float(W_in[n, k, j])
                    write_i, write_j = float(W_out[n, i, k]), float(W_out[n, j, k])
                    found[n, k, i, j] = (
                        abs(read_i) * write_i > threshold
                        and abs(read_j) * write_j > threshold
                        and read_i * read_j < 0
                        and abs(read_i) >= ratio * abs(read_j)
                        and write_j >= ratio * write_i
                    )
    return found


def _found(answer, shape: tuple[int, ...], given: str) -> Tensor:
    found = expect_tensor(answer, what="the answer", given=given, shape=shape, finite=False)
    expect_dtype(found, torch.bool, what="the answer", given=given)
    return found


@title("The neuron of the text is found")
def test_pairs_design(find_asymmetric_pairs):
    W_in, W_out = _design()
    given = "a neuron that reads [2, -1/2] and writes [1/2, 2]"
    found = _found(find_asymmetric_pairs(W_in, W_out), (1, 1, 2, 2), given)
    name = "swapped" if bool(found[0, 0, 1, 0]) and not bool(found[0, 0, 0, 1]) else None
    if not bool(found.any()):
        other = find_asymmetric_pairs(*_design(write_i=2.0, write_j=0.75))
        if isinstance(other, Tensor) and other.shape == found.shape and bool(other[0, 0, 0, 1]):
            name = "writes_same_way"
    expect(
        bool(found[0, 0, 0, 1]) and int(found.sum()) == 1,
        f"For {given}, only [0, 0, 0, 1] should be True; yours are {found.nonzero().tolist()}.",
        mistake=name,
    )


@title("Its mirror image is found: signs turned, features exchanged")
def test_pairs_mirror(find_asymmetric_pairs):
    W_in, W_out = _design()
    for name, (reads, writes), place in (
        ("a neuron that reads [-2, 1/2] and writes [1/2, 2]", (-W_in, W_out), (0, 0, 0, 1)),
        ("a neuron that reads [-1/2, 2] and writes [2, 1/2]", (W_in.flip(2), W_out.flip(1)), (0, 0, 1, 0)),
    ):
        found = _found(find_asymmetric_pairs(reads, writes), (1, 1, 2, 2), name)
        right = bool(found[place]) and int(found.sum()) == 1
        expect(right, f"For {name}, only {list(place)} should be True; yours are {found.nonzero().tolist()}.")


@title("What lacks one of the conditions is not found")
@pytest.mark.parametrize(
    ("changes", "called", "why"),
    [
        ({"read_j": 0.5}, "same_sign_allowed", "it reads both features with the same sign"),
        ({"write_i": 2.0}, "reading_only", "it writes both features alike"),
        ({"read_j": -2.0}, "writing_only", "it reads both features alike"),
        ({"read_j": -0.1}, "not_served", "it hardly serves the second: 0.1 * 2 = 0.2"),
        ({"write_i": 0.1}, "not_served", "it hardly serves the first: 2 * 0.1 = 0.2"),
        ({"write_i": -0.5}, "not_served", "it pushes the first output down"),
        ({"write_j": -2.0}, "not_served", "it pushes the second output down"),
    ],
)
def test_pairs_conditions(find_asymmetric_pairs, changes, called, why):
    W_in, W_out = _design(**changes)
    given = f"a neuron that reads {show(W_in[0, 0])} and writes {show(W_out[0, :, 0])}"
    found = _found(find_asymmetric_pairs(W_in, W_out), (1, 1, 2, 2), given)
    expect(not bool(found.any()), f"For {given}, nothing should be found: {why}.", mistake=called)


@title("ratio and threshold are used")
def test_pairs_options(find_asymmetric_pairs):
    W_in, W_out = _design()
    for options, right in (({"ratio": 5.0}, 0), ({"threshold": 1.1}, 0), ({"ratio": 3.9, "threshold": 0.9}, 1)):
        given = f"a neuron that reads [2, -1/2] and writes [1/2, 2], with {options}"
        found = _found(find_asymmetric_pairs(W_in, W_out, **options), (1, 1, 2, 2), given)
        expect(
            int(found.sum()) == right,
            f"For {given}, {right} should be found; yours are {int(found.sum())}.",
            mistake="options_ignored" if right == 0 else None,
        )


@title("Twice as strongly is enough, unless another ratio is asked for")
def test_pairs_default(find_asymmetric_pairs):
    for scale, right in ((1.25, 1), (0.75, 0)):
        W_in, W_out = _design(read_i=scale, write_j=scale)
        reads, writes = [scale, -0.5], [0.5, scale]
        found = _found(find_asymmetric_pairs(W_in, W_out), (1, 1, 2, 2), f"reads {reads}")
        expect(
            int(found.sum()) == right,
            f"A neuron that reads {reads} and writes {writes}, without a ratio given: "
            f"{right} should be found; yours are {int(found.sum())}.",
        )


@title("A ratio that is just reached counts")
def test_pairs_boundary(find_asymmetric_pairs):
    W_in, W_out = _design()
    given = "a neuron that reads [2, -1/2] and writes [1/2, 2], with ratio = 4"
    found = _found(find_asymmetric_pairs(W_in, W_out, 4.0), (1, 1, 2, 2), given)
    expect(bool(found[0, 0, 0, 1]), f"For {given}, the pair should be found: 'at least' includes 4.")


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (3, 4, 4), (2, 5, 3), (2, 6, 6)])
def test_pairs_random(find_asymmetric_pairs, shape):
    reseed(3)
    W_in, W_out, _, _ = _weights(shape[0], shape[1], shape[2], 1)
    W_out = W_out.abs()  # else hardly anything would be found
    for ratio, threshold in ((2.0, 0.25), (1.2, 0.05)):
        given = f"random weights, (instance, hidden, feature) = {shape}, ratio = {ratio}, threshold = {threshold}"
        size = (shape[0], shape[1], shape[2], shape[2])
        found = _found(find_asymmetric_pairs(W_in, W_out, ratio, threshold), size, given)
        expected = _slow_pairs(W_in, W_out, ratio, threshold)
        wrong = (found != expected).nonzero().tolist()
        expect(not wrong, f"With {given}, {len(wrong)} entries are wrong, the first at {wrong[0] if wrong else None}.")


@title("A neuron may be scaled: what it reads by c, what it writes by 1/c")
def test_pairs_scale(find_asymmetric_pairs):
    W_in, W_out = _design()
    for c in (0.125, 8.0):
        given = f"a neuron that reads {show(c * W_in[0, 0])} and writes {show(W_out[0, :, 0] / c)}"
        found = _found(find_asymmetric_pairs(c * W_in, W_out / c), (1, 1, 2, 2), given)
        expect(bool(found[0, 0, 0, 1]), f"For {given}, the pair should be found: a ReLU does not notice the scale.")


# --- find_inhibited ------------------------------------------------------------------------------


def _circuit(inhibitor_reads: float = 1.0, inhibitor_writes: float = -4.0) -> tuple[Tensor, Tensor]:
    """The text's neuron, and a second one that reads feature 0 and writes feature 1."""
    W_in = torch.tensor([[[2.0, -0.5], [inhibitor_reads, 0.0]]])
    W_out = torch.tensor([[[0.5, 0.0], [2.0, inhibitor_writes]]])
    return W_in, W_out


def _slow_inhibited(W_in: Tensor, W_out: Tensor) -> Tensor:
    instances, hidden, features = W_in.shape
    found = torch.zeros(instances, hidden, features, features, dtype=torch.bool)
    for n in range(instances):
        for k in range(hidden):
            for i in range(features):
                for j in range(features):
                    if i == j or W_in[n, k, i] == 0:
                        continue
                    sign = 1 if W_in[n, k, i] > 0 else -1
                    own = abs(float(W_in[n, k, i])) * float(W_out[n, j, k])
                    taken = [
                        max(0.0, sign * float(W_in[n, m, i])) * float(W_out[n, j, m]) for m in range(hidden) if m != k
                    ]
                    found[n, k, i, j] = own > 0 and bool(taken) and min(taken) <= -own / 2
    return found


@title("The circuit of the text is inhibited")
def test_inhibited_design(find_inhibited):
    W_in, W_out = _circuit()
    given = "the neuron of the text and its inhibitor"
    found = _found(find_inhibited(W_in, W_out), (1, 2, 2, 2), given)
    right = bool(found[0, 0, 0, 1]) and int(found.sum()) == 1
    swapped = bool(found[0, 0, 1, 0]) and not bool(found[0, 0, 0, 1])
    expect(
        right,
        f"For {given}, only [0, 0, 0, 1] should be True; yours are {found.nonzero().tolist()}.",
        mistake="swapped" if swapped else None,
    )


@title("The circuit with its signs turned is inhibited")
def test_inhibited_negative(find_inhibited):
    W_in, W_out = _circuit()
    given = "the neuron of the text and its inhibitor, both reading with the opposite sign"
    found = _found(find_inhibited(-W_in, W_out), (1, 2, 2, 2), given)
    message = f"For {given}, only [0, 0, 0, 1] should be True; yours are {found.nonzero().tolist()}."
    expect(bool(found[0, 0, 0, 1]) and int(found.sum()) == 1, message)


@title("What is silent at that moment does not inhibit")
@mistake("any_sign")
def test_inhibited_sign(find_inhibited):
    W_in, W_out = _circuit(inhibitor_reads=-1.0)
    given = "a second neuron that reads feature 0 with the other sign"
    found = _found(find_inhibited(W_in, W_out), (1, 2, 2, 2), given)
    expect(not bool(found.any()), f"With {given}, nothing is inhibited: that neuron is silent when the first is not.")


@title("At least half must be taken away")
def test_inhibited_half(find_inhibited):
    # Two thirds first: it tells who asks for all of it from who only misses the boundary.
    for writes, right in ((-1.9, False), (-2.7, True), (-2.0, True), (-9.0, True)):
        given = f"interference of 4, of which an inhibitor takes {-writes}"
        found = _found(find_inhibited(*_circuit(inhibitor_writes=writes)), (1, 2, 2, 2), given)
        name = "any_amount" if not right else "all_of_it" if writes == -2.7 else None
        expect(bool(found[0, 0, 0, 1]) == right, f"With {given}, the entry should be {right}.", mistake=name)


@title("One other neuron must do it")
@mistake("sum_of_many")
def test_inhibited_one(find_inhibited):
    W_in = torch.tensor([[[2.0, -0.5], [1.0, 0.0], [1.0, 0.0]]])
    W_out = torch.tensor([[[0.5, 0.0, 0.0], [2.0, -1.5, -1.5]]])
    given = "interference of 4, of which two neurons take 1.5 each"
    found = _found(find_inhibited(W_in, W_out), (1, 3, 2, 2), given)
    expect(not bool(found[0, 0, 0, 1]), f"With {given}, no single one takes half of it.")


@title("A feature's own output is no interference")
@mistake("own_output")
def test_inhibited_diagonal(find_inhibited):
    W_in, W_out = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])
    given = "one neuron that writes 1 and one that writes -1, both to the output of the feature that they read"
    found = _found(find_inhibited(W_in, W_out), (1, 2, 2, 2), given)
    expect(not bool(found.any()), f"With {given}, nothing should be True.")


@title("Nothing is inhibited where a neuron adds nothing")
def test_inhibited_nothing(find_inhibited):
    found = _found(find_inhibited(torch.zeros(2, 3, 4), torch.randn(2, 4, 3)), (2, 3, 4, 4), "W_in = 0")
    expect(not bool(found.any()), "With W_in = 0 no neuron ever writes anything, and nothing should be True.")
    W_in, W_out = _circuit()
    W_out = W_out.clone()
    W_out[0, 1, 0] = -1
    found = _found(find_inhibited(W_in, W_out), (1, 2, 2, 2), "a neuron that writes -1")
    expect(not bool(found[0, 0, 0, 1]), "A neuron that pushes output j down adds no interference to be taken away.")


@title("Right for random weights, in several shapes")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (3, 4, 4), (2, 5, 3), (2, 6, 6)])
def test_inhibited_random(find_inhibited, shape):
    W_in, W_out, _, _ = _weights(shape[0], shape[1], shape[2], 1)
    given = f"random weights, (instance, hidden, feature) = {shape}"
    found = _found(find_inhibited(W_in, W_out), (shape[0], shape[1], shape[2], shape[2]), given)
    wrong = (found != _slow_inhibited(W_in, W_out)).nonzero().tolist()
    expect(not wrong, f"With {given}, {len(wrong)} entries are wrong, the first at {wrong[0] if wrong else None}.")
