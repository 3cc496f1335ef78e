"""The model with one hidden unit: the same numbers as the general one, with data of its own and with shared data."""

from __future__ import annotations

import pytest
import torch

from refract.toys.data import Fixed, SparseUniform
from refract.toys.models import ToyModel
from refract.toys.one_unit import OneUnit
from refract.toys.training import evaluate, initial, train


@pytest.mark.parametrize("shared", [False, True], ids=["own data", "shared data"])
@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_outputs_and_gradients_are_the_general_models(n_features, shared):
    torch.manual_seed(0)
    general, fast = ToyModel(n_features, 1), OneUnit(n_features)
    assert fast.shapes == general.shapes
    parameters = initial(general, 3, dtype=torch.float64)
    parameters["b"].normal_(0, 0.3)
    x = torch.rand(1 if shared else 3, n_features, 7, dtype=torch.float64)
    weight = torch.rand(3, n_features, 7, dtype=torch.float64)
    torch.testing.assert_close(fast.output(parameters, x), general.output(parameters, x))
    results = []
    for model in (general, fast):
        into = {name: torch.full_like(value, torch.nan) for name, value in parameters.items()}
        loss = torch.full((3,), torch.nan, dtype=torch.float64)
        model.gradient(parameters, x, weight, into, loss)
        results.append({**into, "loss": loss})
    assert results[0]["W"].abs().max() > 0
    torch.testing.assert_close(results[1], results[0])


def test_it_trains_as_the_general_model_does():
    torch.manual_seed(1)
    x, weight = torch.rand(1, 2, 9), torch.rand(4, 9)
    data, importance = Fixed(x, 4, weight / weight.sum(dim=1, keepdim=True)), torch.tensor([1.0, 0.5])
    start = initial(ToyModel(2, 1), 4)
    trained = [train(model, data, importance, n_steps=30, start=start) for model in (ToyModel(2, 1), OneUnit(2))]
    torch.testing.assert_close(trained[1].parameters, trained[0].parameters, rtol=1e-3, atol=1e-4)
    losses = [evaluate(model, trained[0].parameters, data, importance) for model in (ToyModel(2, 1), OneUnit(2))]
    torch.testing.assert_close(losses[1], losses[0])


def test_it_learns_from_fresh_draws():
    torch.manual_seed(2)
    trained = train(
        OneUnit(1), SparseUniform(torch.full((3, 1), 0.5), 64), torch.ones(1), n_steps=300, learning_rate=0.05
    )
    assert trained.losses[-1].max() < 1e-3
