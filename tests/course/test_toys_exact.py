"""Losses without a batch's noise: the nodes of the integral, and the best that two features can do."""

import pytest
import torch

from refract.toys.data import SparseUniform
from refract.toys.models import ToyModel
from refract.toys.pair import best_pair_loss
from refract.toys.quadrature import sparse_uniform_nodes
from refract.toys.training import evaluate


def test_the_weights_of_all_nodes_are_a_distribution_with_the_right_moments():
    p = torch.tensor([[0.05, 0.2, 0.5], [1.0, 0.3, 0.01]], dtype=torch.float64)
    nodes = sparse_uniform_nodes(p)
    assert nodes.weights is not None
    assert torch.allclose(nodes.weights.sum(dim=1), torch.ones(2, dtype=torch.float64))
    mean = nodes.weights @ nodes.x[0].T
    assert torch.allclose(mean, p / 2)
    share = nodes.weights @ (nodes.x[0].T > 0).double()
    assert torch.allclose(share, p)


def test_the_exact_loss_agrees_with_sampled_batches():
    torch.manual_seed(0)
    model = ToyModel(5, 2)
    p = torch.full((3, 5), 0.2)
    parameters = {"W": 0.8 * torch.randn(3, 2, 5), "b": -0.1 * torch.rand(3, 5)}
    exact = evaluate(model, parameters, sparse_uniform_nodes(p), torch.ones(5))
    sampled = evaluate(model, parameters, SparseUniform(p, 20_000), torch.ones(5), batches=20)
    assert torch.allclose(exact, sampled, rtol=0.02)


def test_too_few_numbers_of_points_are_refused():
    with pytest.raises(ValueError, match="need 4 numbers of points"):
        sparse_uniform_nodes(torch.full((1, 3), 0.1), points=(1, 8, 4))


def test_a_merged_correlated_pair_costs_a_twelfth_and_a_right_angle_nothing():
    best = best_pair_loss(torch.tensor([1.0, 0.0]), 0.1, 0.0)
    assert best.loss[0].item() / 0.1 == pytest.approx(1 / 12, rel=0.01)
    assert best.length[0].item() == pytest.approx(0.5**0.5, rel=0.02)
    assert best.loss[1].item() == pytest.approx(0, abs=1e-6)
    assert best.length[1].item() == pytest.approx(1, rel=1e-3)


def test_opposite_features_that_never_meet_cost_nothing_at_unit_length():
    best = best_pair_loss(torch.tensor([-1.0]), 0.0, 0.2)
    assert best.loss.item() == pytest.approx(0, abs=1e-6)
    assert best.length.item() == pytest.approx(1, rel=1e-3)


def test_freedom_never_costs():
    cosine = torch.linspace(-1, 1, 9)
    acute = cosine.clamp_min(0)
    fixed = (2 * 0.05 + 0.2) * acute**2 / 3 + 0.05 * (2 * (-cosine).clamp_min(0) ** 2 - (-cosine).clamp_min(0) ** 3) / 3
    assert bool((best_pair_loss(cosine, 0.05, 0.2).loss <= fixed + 1e-4).all())
