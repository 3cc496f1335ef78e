"""The metrics of sparse coders: by hand, independent of how the rows are cut into batches, and at their limits."""

import math

import pytest
import torch

from refract.errors import RefractError
from refract.sae.metrics import (
    Cosine,
    CrossEntropy,
    Divergence,
    Firing,
    ReconstructionBias,
    VarianceExplained,
    recovered,
)


def measured(metric, *tensors, sizes=None):
    """The metric's result on these rows, given in batches of these sizes."""
    for parts in zip(*(tensor.split(sizes or len(tensor)) for tensor in tensors), strict=True):
        metric.update(*parts)
    return metric.result()


def random_pair(rows=100, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, d, generator=generator) * torch.arange(1, d + 1) + 5
    return y, y + 0.7 * torch.randn(rows, d, generator=generator)


# --- variance explained ----------------------------------------------------------------------------


def test_variance_explained_by_hand():
    """With y = (2, 0), (0, 4): E‖y‖² = 10 and ‖E y‖² = 1 + 4, so the variance is 5. The errors are 1 and 1."""
    y, y_hat = torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    metric = VarianceExplained()
    assert measured(metric, y, y_hat) == pytest.approx(0.8, abs=1e-15)
    assert (metric.variance, metric.error, metric.rows) == (5, 1, 2)


def test_the_mean_explains_nothing_and_y_everything():
    y, _ = random_pair()
    y = y.double()
    assert measured(VarianceExplained(), y, y.mean(dim=0).expand_as(y)) == pytest.approx(0, abs=1e-12)
    assert measured(VarianceExplained(), y, y) == 1
    assert measured(VarianceExplained(), y, torch.zeros_like(y)) < 0


def test_a_constant_bias_is_seen():
    """Var(y - y_hat) is 0 here, so the other formula would say 1. The bias (3, 4) has a square of 25."""
    y, _ = random_pair(d=2)
    bias = torch.tensor([3.0, 4.0], dtype=torch.float64)
    metric = VarianceExplained()
    found = measured(metric, y.double(), y.double() + bias)
    assert found == pytest.approx(1 - 25 / y.double().var(dim=0, correction=0).sum().item(), rel=1e-12)
    assert found < 0.5


def test_it_is_not_a_mean_over_batches():
    """Two batches, each constant in itself: within each there is no variance; between them there is."""
    y = torch.tensor([[0.0], [0.0], [2.0], [2.0]])
    y_hat = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert measured(VarianceExplained(), y, y_hat, sizes=[2, 2]) == 0.5


def test_a_large_mean_costs_no_digits():
    y, y_hat = random_pair()
    expected = measured(VarianceExplained(), y.double(), y_hat.double())
    far = 1e9  # its square is beyond what float64 holds beside a variance of 1
    assert measured(VarianceExplained(), y.double() + far, y_hat.double() + far) == pytest.approx(expected, rel=1e-6)


def test_without_variance_there_is_no_fraction_of_it():
    y = torch.full((7, 3), 0.1)
    assert math.isnan(measured(VarianceExplained(), y, y))
    assert math.isnan(measured(VarianceExplained(), y, y + 1))
    assert math.isnan(measured(VarianceExplained(), y[:1], y[:1]))


# --- bias and cosine -------------------------------------------------------------------------------


def test_reconstruction_bias_by_hand():
    """y_hat = y / 2: E‖y_hat‖² = ¼ E‖y‖², E[y · y_hat] = ½ E‖y‖². Noise that is orthogonal to y adds to the first."""
    y, _ = random_pair()
    assert measured(ReconstructionBias(), y, y / 2) == pytest.approx(0.5)
    assert measured(ReconstructionBias(), y, y) == 1
    y, y_hat = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    assert measured(ReconstructionBias(), y, y_hat) == (4 + 1 + 1 + 1) / (4 + 1)


def test_dividing_by_the_bias_is_the_best_rescaling():
    y, y_hat = random_pair()
    gamma = measured(ReconstructionBias(), y, y_hat)

    def error(factor):
        return float((y_hat.double() * factor - y.double()).square().sum())

    assert error(1 / gamma) < min(error(1 / gamma * 1.001), error(1 / gamma * 0.999))


def test_bias_about_a_centre_sees_what_the_mean_hides():
    """Deviations from the mean come out half as large. With a mean of 100, γ about the origin is nearly 1."""
    y, _ = random_pair()
    centre = torch.full((6,), 100.0, dtype=torch.float64)
    deviation = y - y.mean(dim=0)
    assert measured(ReconstructionBias(), centre + deviation, centre + deviation / 2) > 0.999
    assert measured(ReconstructionBias(centre), centre + deviation, centre + deviation / 2) == pytest.approx(0.5)
    assert measured(ReconstructionBias(torch.tensor([1.0])), torch.tensor([[3.0]]), torch.tensor([[2.0]])) == 0.5


def test_bias_without_reconstructions():
    y, _ = random_pair()
    assert math.isnan(measured(ReconstructionBias(), y, torch.zeros_like(y)))
    x, orthogonal = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert measured(ReconstructionBias(), x, orthogonal) == math.inf


def test_cosine_by_hand():
    y = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    y_hat = torch.tensor([[3.0, 0.0], [0.0, -1.0], [0.0, 5.0], [1.0, 0.0]])
    assert measured(Cosine(), y, y_hat) == pytest.approx((1 - 1 + 0.5**0.5 + 0) / 4)


# --- firing ----------------------------------------------------------------------------------------


def test_firing_by_hand():
    metric = Firing(4)
    metric.update(torch.tensor([[0.5, 0.0, 0.0, 1.0], [2.0, 0.0, 1e-30, 0.0]]))
    metric.update(torch.tensor([[0.1, 0.0, 0.0, 0.0]]))
    assert metric.result().tolist() == pytest.approx([1, 0, 1 / 3, 1 / 3])
    assert metric.l0 == pytest.approx(5 / 3)
    assert metric.dead == 0.25
    counted = Firing(4)
    counted.add(torch.tensor([3.0, 0.0, 1.0, 1.0]), 3)
    assert torch.equal(counted.result(), metric.result())


def test_histogram_by_hand():
    """Of 1000 rows: 1000, 100, 99, 31, 1 and 0. With two bins a decade the edges are 10^-3, 10^-2.5, ... 1."""
    metric = Firing(6)
    metric.add(torch.tensor([1000, 100, 99, 31, 1, 0]), 1000)
    edges, counts = metric.histogram()
    assert edges == pytest.approx([10**e for e in (-3, -2.5, -2, -1.5, -1, -0.5, 0)])
    assert counts == [1, 0, 1, 1, 1, 1]
    assert sum(metric.histogram(per_decade=1).counts) == 5


@pytest.mark.parametrize("rows", [1, 3, 7, 10, 999, 1000, 1001])
def test_every_latent_that_fires_has_a_place_in_the_histogram(rows):
    metric = Firing(rows + 1)
    metric.add(torch.arange(rows + 1), rows)
    assert sum(metric.histogram().counts) == rows


def test_firing_has_no_float32_ceiling():
    """A float32 count stops at 2^24."""
    metric = Firing(1)
    metric.add(torch.tensor([2.0**24]), 2**24)
    for _ in range(3):
        metric.update(torch.ones(1, 1))
    assert metric.result().tolist() == [1]


def test_counts_of_another_coder_are_refused():
    with pytest.raises(RefractError, match="4 are measured here"):
        Firing(4).update(torch.ones(2, 3))


# --- downstream ------------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    """Probabilities ½ ¼ ¼ and ⅓ ⅓ ⅓."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]).log()
    assert measured(CrossEntropy(), logits, torch.tensor([1, 0])) == pytest.approx((math.log(4) + math.log(3)) / 2)


def test_cross_entropy_of_half_precision_logits_is_not_rounded_to_half_precision():
    logits = torch.randn(4000, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(4000) % 50
    expected = torch.nn.functional.cross_entropy(logits.double(), targets).item()
    assert measured(CrossEntropy(), logits, targets) == pytest.approx(expected, rel=1e-6)


def test_divergence_by_hand():
    """KL((½, ½) ‖ (¼, ¾)) = ½ ln 2 + ½ ln ⅔; the other way round it is ¼ ln ½ + ¾ ln 3/2."""
    one, other = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    forward = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    backward = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert measured(Divergence(), one, other + 7) == pytest.approx(forward, rel=1e-6)
    assert measured(Divergence(), other, one) == pytest.approx(backward, rel=1e-6)
    assert measured(Divergence(), one, one) == 0


def test_divergence_where_the_clean_model_rules_a_token_out():
    one, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[0.5, 0.5]]).log()
    assert measured(Divergence(), one, other) == pytest.approx(math.log(2), rel=1e-6)
    assert measured(Divergence(), one, one) == 0
    assert measured(Divergence(), other, one) == math.inf


def test_recovered_by_hand():
    """From a clean 3, an ablation costs 10 and splicing 0.5."""
    assert recovered(3.0, 3.5, 13.0) == pytest.approx(0.95)
    assert recovered(3.0, 3.0, 13.0) == 1
    assert recovered(3.0, 13.0, 13.0) == 0
    assert recovered(3.0, 23.0, 13.0) == -1
    assert math.isnan(recovered(3.0, 3.5, 3.0))


# --- batches, and bad input --------------------------------------------------------------------------

PAIRS = {"variance": VarianceExplained, "bias": ReconstructionBias, "cosine": Cosine, "divergence": Divergence}


@pytest.mark.parametrize("metric", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("sizes", [[1, 99], [50, 50], [7, 0, 31, 62], [0, 100]])
def test_batches_make_no_difference(metric, sizes):
    y, y_hat = random_pair()
    assert measured(metric(), y, y_hat, sizes=sizes) == pytest.approx(measured(metric(), y, y_hat), rel=1e-12)


@pytest.mark.parametrize("sizes", [[1, 1299], [7, 0, 600, 693]])
def test_batches_make_no_difference_to_cross_entropy(sizes):
    logits = torch.randn(1300, 11, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(1300) % 11
    one = measured(CrossEntropy(), logits, targets)
    assert one == pytest.approx(torch.nn.functional.cross_entropy(logits.double(), targets).item(), rel=1e-6)
    assert measured(CrossEntropy(), logits, targets, sizes=sizes) == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize("metric", [*PAIRS.values(), CrossEntropy, lambda: Firing(3)])
def test_without_a_row_there_is_no_result(metric):
    with pytest.raises(RefractError, match="Nothing has been measured"):
        metric().result()


@pytest.mark.parametrize("metric", PAIRS.values(), ids=PAIRS)
def test_shapes_that_would_broadcast_are_refused(metric):
    y, _ = random_pair()
    with pytest.raises(RefractError, match=r"\(1, 6\) cannot be compared with one of shape \(100, 6\)"):
        metric().update(y, y[:1])
    with pytest.raises(RefractError, match="cannot be compared"):
        metric().update(y[0], y[0])


@pytest.mark.parametrize("metric", [VarianceExplained, ReconstructionBias, Cosine])
def test_leading_axes_are_rows_and_no_graph_is_kept(metric):
    y, y_hat = random_pair()
    y_hat.requires_grad_()
    one = measured(metric(), y, y_hat)
    other = metric()
    other.update(y.view(4, 25, 6), y_hat.view(4, 25, 6))
    assert other.result() == one
    assert not any(getattr(value, "requires_grad", False) for value in vars(other).values())
