"""Signed sparse features: how often they are there, and how large. Bounds are six standard errors wide."""

from __future__ import annotations

import pytest
import torch

from refract.toys.data import SparseSigned
from refract.toys.models import ToyModel
from refract.toys.training import train

DRAWS = 40_000


def test_presence_size_and_sign():
    torch.manual_seed(0)
    p = torch.tensor([[0.1, 0.5, 1.0], [0.2, 0.9, 0.01]])
    x = SparseSigned(p, DRAWS).draw(slice(0, 2))
    assert x.shape == (2, 3, DRAWS)
    assert x.abs().max() <= 1
    present = x != 0
    assert torch.allclose(present.float().mean(-1), p, atol=6 * 0.5 / DRAWS**0.5)
    for instance, feature in ((0, 0), (0, 2), (1, 1)):
        sizes = x[instance, feature][present[instance, feature]]
        error = 6 / len(sizes) ** 0.5
        assert abs(float(sizes.mean())) < error * 0.58, "as often negative as positive"
        assert abs(float(sizes.abs().mean()) - 0.5) < error * 0.29, "uniform in size"
        assert abs(float((sizes.abs() < 0.1).float().mean()) - 0.1) < error * 0.3


def test_features_are_independent():
    torch.manual_seed(0)
    x = SparseSigned(torch.full((2, 2), 0.3), DRAWS).draw(slice(0, 2)).reshape(4, DRAWS)
    for values in (x, (x != 0).float()):
        assert (torch.corrcoef(values) - torch.eye(4)).abs().max() < 6 / DRAWS**0.5


def test_a_part_of_the_instances():
    data = SparseSigned(torch.tensor([[0.01], [1.0], [1.0]]), 100)
    assert data.draw(slice(1, 3)).shape == (2, 1, 100)
    assert (data.draw(slice(1, 3)) != 0).float().mean() > 0.9


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1])
def test_impossible_probabilities(p):
    with pytest.raises(ValueError, match="probability"):
        SparseSigned(torch.tensor([[p]]), 4)


def test_it_trains_a_model_of_the_absolute_value():
    torch.manual_seed(0)
    model = ToyModel(1, 4, tied=False, rectify_hidden=True, absolute=True)
    trained = train(model, SparseSigned(torch.ones(8, 1), 64), torch.ones(1), n_steps=400)
    assert trained.losses[-1].min() < 1e-3
