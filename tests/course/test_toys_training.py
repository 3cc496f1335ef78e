"""The fast trainer against autograd, against torch's Adam, and against what its data must be."""

from __future__ import annotations

import itertools

import pytest
import torch

from refract.errors import RefractError
from refract.toys.data import Fixed, Sampled, SparseUniform
from refract.toys.models import ToyModel, slices
from refract.toys.training import best_of, constant, cosine_after, evaluate, falling, initial, train

MODELS = [
    ToyModel(n_features, d_hidden, tied=tied, rectify_hidden=hidden, rectify_output=output, absolute=absolute)
    for (n_features, d_hidden), (tied, hidden, output, absolute) in itertools.product(
        [(5, 2), (2, 1), (1, 3), (4, 4), (5, 1), (1, 1)],
        [
            (True, False, True, False),  # the paper's
            (True, False, False, False),  # linear
            (True, True, True, False),  # neurons
            (False, True, True, True),  # absolute value
            (False, False, True, False),
        ],
    )
]


def autograd(model, parameters, x, weight):
    """Loss and gradients of every instance, by the definition and by autograd."""
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    encoder = leaves["W"] if model.tied else leaves["W_enc"]
    decoder = leaves["W"].mT if model.tied else leaves["W_dec"]
    hidden = encoder @ x
    hidden = torch.relu(hidden) if model.rectify_hidden else hidden
    output = decoder @ hidden + leaves["b"][:, :, None]
    output = torch.relu(output) if model.rectify_output else output
    loss = (weight * ((x.abs() if model.absolute else x) - output) ** 2).sum(dim=(1, 2))
    loss.sum().backward()
    return loss.detach(), {name: value.grad for name, value in leaves.items()}


@pytest.mark.parametrize("shared", [False, True], ids=["own data", "shared data"])
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_gradient_is_autograds(model, shared):
    torch.manual_seed(0)
    parameters = initial(model, 3, dtype=torch.float64)
    parameters["b"].normal_(0, 0.3)
    x = torch.randn(1 if shared else 3, model.n_features, 7, dtype=torch.float64)
    weight = torch.rand(3, model.n_features, 1 if shared else 7, dtype=torch.float64)
    expected_loss, expected = autograd(model, parameters, x, weight)
    into = {name: torch.full_like(value, torch.nan) for name, value in parameters.items()}
    loss = torch.full((3,), torch.nan, dtype=torch.float64)
    model.gradient(parameters, x, weight, into, loss)
    torch.testing.assert_close(loss, expected_loss)
    assert into.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(into[name], gradient, msg=name)


def test_training_takes_adams_steps():
    """The same data: ten steps of the trainer end where ten steps of torch's own AdamW on autograd's gradients do."""
    torch.manual_seed(1)
    model, importance = ToyModel(4, 2), 0.9 ** torch.arange(4, dtype=torch.float64)
    x = torch.rand(3, 4, 16, dtype=torch.float64)
    start = initial(model, 3, dtype=torch.float64)
    trained = train(
        model, Fixed(x, 3), importance, n_steps=10, learning_rate=0.03, weight_decay=0.1, start=start, log_every=3
    )
    W, b = start["W"].clone().requires_grad_(), start["b"].clone().requires_grad_()
    optimizer = torch.optim.AdamW([W, b], lr=0.03, weight_decay=0.1)
    losses = []
    for step in range(10):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 10)
        error = torch.relu(W.mT @ (W @ x) + b[:, :, None]) - x
        loss = (importance[:, None] * error**2).sum(dim=1).mean(dim=1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.detach())
    torch.testing.assert_close(trained["W"], W.detach())
    torch.testing.assert_close(trained["b"], b.detach())
    assert trained.loss_steps == [0, 3, 6, 9]
    torch.testing.assert_close(trained.losses, torch.stack([losses[step] for step in trained.loss_steps]))
    assert not torch.equal(start["W"], trained["W"])


def test_instances_do_not_depend_on_how_they_are_cut(monkeypatch):
    model, importance = ToyModel(2, 1), torch.ones(2)
    x, weights = torch.rand(9, 2, 5), torch.rand(9, 5)
    start = initial(model, 9)
    whole = train(model, Fixed(x, 9, weights), importance, n_steps=4, start=start)
    monkeypatch.setattr(
        "refract.toys.training.slices", lambda instances, _: iter([slice(0, 4), slice(4, 5), slice(5, instances)])
    )
    cut = train(model, Fixed(x, 9, weights), importance, n_steps=4, start=start)
    torch.testing.assert_close(whole["W"], cut["W"])
    torch.testing.assert_close(whole.losses, cut.losses)


def test_slices_cover_everything_once():
    assert [list(range(9))[part] for part in slices(9, 100, at_once=400)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert list(slices(2, 10**9)) == [slice(0, 1), slice(1, 2)]


def test_sparse_uniform_draws_presence_and_size_independently():
    torch.manual_seed(2)
    p = torch.tensor([[0.1, 0.5], [1.0, 0.9]])
    x = SparseUniform(p, 40_000).draw(slice(0, 2))
    assert x.shape == (2, 2, 40_000)
    assert x.min() >= 0
    assert x.max() <= 1
    for i, j in itertools.product(range(2), range(2)):
        present = x[i, j][x[i, j] > 0].double()
        assert abs(len(present) / 40_000 - p[i, j]) < 6 * 0.5 / 200
        ordered = present.sort().values  # Kolmogorov and Smirnov: 2 exp(-18) = 3e-8
        distance = (ordered - (torch.arange(len(present)) + 0.5) / len(present)).abs().max()
        assert distance < 3 / len(present) ** 0.5


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1, float("nan")])
def test_a_probability_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match="probability"):
        SparseUniform(torch.tensor([[p]]), 4)


def test_a_sampler_of_ones_own():
    seen = []

    def sample(batch):
        seen.append(batch)
        return torch.rand(batch, 3, 2)

    trained = train(ToyModel(2, 1), Sampled(sample, 8, 3), torch.ones(2), n_steps=5)
    assert seen == [8] * 5
    assert trained["W"].shape == (3, 1, 2)
    with pytest.raises(ValueError, match="batch, instance, feature"):
        train(ToyModel(2, 1), Sampled(lambda batch: torch.rand(3, batch, 2), 8, 3), torch.ones(2), n_steps=1)


def test_weights_are_those_of_an_integral():
    """Two samples of weight 3 and 1 are four samples, the first thrice."""
    model, importance = ToyModel(2, 1), torch.tensor([1.0, 0.5])
    x, start = torch.rand(1, 2, 2), initial(model, 2)
    weighted = Fixed(x, 2, torch.tensor([[0.75, 0.25]]))
    repeated = Fixed(x[:, :, [0, 0, 0, 1]], 2)
    torch.testing.assert_close(
        evaluate(model, start, weighted, importance), evaluate(model, start, repeated, importance)
    )
    first = train(model, weighted, importance, n_steps=6, start=start)
    second = train(model, repeated, importance, n_steps=6, start=start)
    torch.testing.assert_close(first["W"], second["W"])


def test_importance_of_each_instance():
    torch.manual_seed(3)
    importance = torch.tensor([[1.0, 0.01], [0.01, 1.0]]).repeat(5, 1)
    trained = train(ToyModel(2, 1), SparseUniform(torch.ones(10, 2), 64), importance, n_steps=300, learning_rate=0.03)
    kept = trained["W"][:, 0].abs().argmax(dim=1)
    assert (kept == torch.tensor([0, 1]).repeat(5)).sum() >= 9


def test_snapshots_and_schedules():
    model = ToyModel(2, 1)
    start = initial(model, 2)
    trained = train(model, Fixed(torch.rand(1, 2, 4), 2), torch.ones(2), n_steps=6, start=start, snapshot_at=[0, 3, 6])
    assert trained.snapshot_steps == [0, 3, 6]
    torch.testing.assert_close(trained.snapshots[0]["W"], start["W"])
    torch.testing.assert_close(trained.snapshots[2]["W"], trained["W"])
    assert not torch.equal(trained.snapshots[1]["W"], trained["W"])
    assert [falling(step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert constant(3, 4) == 1
    warm = cosine_after(2)
    assert [warm(step, 6) for step in range(2)] == [0.5, 1]
    assert warm(2, 6) == 1
    assert warm(4, 6) == pytest.approx(0.5)


def test_a_diverged_run_says_so():
    with pytest.raises(RefractError, match="learning rate"):
        train(ToyModel(2, 1), Fixed(torch.full((1, 2, 2), torch.inf), 1), torch.ones(2), n_steps=2)


def test_best_of_each_group():
    assert best_of(torch.tensor([3.0, 1.0, 2.0, 5.0, 6.0, 4.0]), 3).tolist() == [1, 5]
    with pytest.raises(ValueError, match="groups"):
        best_of(torch.ones(5), 2)
