"""Parameters in rows: the same numbers there and back, and the loss and gradient of the model that they describe."""

from __future__ import annotations

import pytest
import torch

from refract.toys.flat import flatten, loss_and_gradient, one_at_a_time, unflatten
from refract.toys.models import ToyModel


def rows(model: ToyModel, chains: int) -> torch.Tensor:
    torch.manual_seed(0)
    size = sum(torch.Size(shape).numel() for shape in model.shapes.values())
    return torch.randn(chains, size, dtype=torch.float64)


@pytest.mark.parametrize("model", [ToyModel(6, 2), ToyModel(3, 4, tied=False), ToyModel(2, 1)])
def test_there_and_back(model):
    w = rows(model, 5)
    parameters = unflatten(w, model)
    assert {name: tuple(value.shape[1:]) for name, value in parameters.items()} == model.shapes
    assert torch.equal(flatten(parameters, model), w)


@pytest.mark.parametrize("model", [ToyModel(4, 2), ToyModel(3, 4, tied=False, rectify_hidden=True)])
def test_loss_and_gradient_are_autograds(model):
    w = rows(model, 3)
    x = one_at_a_time(model.n_features, points=7).double()
    loss, gradient = loss_and_gradient(model, x)(w)
    w.requires_grad_()
    output = model.output(unflatten(w, model), x.expand(3, -1, -1))
    expected = (output - x).square().sum(dim=(1, 2)) / x.shape[-1]
    assert torch.allclose(loss, expected)
    (by_autograd,) = torch.autograd.grad(expected.sum(), w)
    assert torch.allclose(gradient, by_autograd)


def test_features_come_one_at_a_time():
    x = one_at_a_time(3, points=4)
    assert x.shape == (1, 3, 12)
    assert bool(((x > 0).sum(dim=1) == 1).all())
    assert x[0, 1, 4:8].tolist() == [0.125, 0.375, 0.625, 0.875]


def test_precision_and_rows_are_the_callers():
    model = ToyModel(3, 2)
    function = loss_and_gradient(model, one_at_a_time(3, points=8))
    w = rows(model, 4)
    wide, narrow = function(w), function(w.float())
    assert wide[0].dtype == torch.float64
    assert narrow[1].dtype == torch.float32
    assert torch.allclose(wide[1], narrow[1].double(), atol=1e-5)
    assert torch.allclose(function(w[2:3])[0], wide[0][2:3])
