"""Normalisation, and folding it into a trained coder: the same function, in the model's own units."""

import copy
import functools
import math
from typing import Any

import pytest
import torch

from refract.errors import RefractError
from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU
from refract.sae.normalisation import Normalisation, fold
from refract.sae.relu import ReLU
from refract.sae.topk import TopK
from tests.course import coders_toy

D_IN, D_OUT, N_LATENTS = 6, 4, 64
KINDS = [ReLU, Gated, JumpReLU, TopK, BatchTopK, Matryoshka]


random_coder = functools.partial(coders_toy.random_coder, d_in=D_IN, n_latents=N_LATENTS, dtype=torch.float64)


def data(d=D_IN, rows=200, seed=1):
    """Activations as a model has them: far from the origin, and large."""
    generator = torch.Generator().manual_seed(seed)
    x = 20 * torch.randn(rows, d, generator=generator, dtype=torch.float64)
    return x + 100 * torch.randn(d, generator=generator, dtype=torch.float64)


def close(one, other, tolerance=1e-11):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


# --- normalisation -----------------------------------------------------------------------------------


def test_normalised_by_hand():
    """Two rows, (0, 3) and (4, 3): the mean is (2, 3), the variances 4 and 0, so 2 on average."""
    normalisation = Normalisation.of(torch.tensor([[0.0, 3.0], [4.0, 3.0]]))
    assert normalisation.mean.tolist() == [2, 3]
    assert normalisation.scale == pytest.approx(2**-0.5)
    assert torch.allclose(normalisation(torch.tensor([4.0, 4.0])), torch.tensor([2.0, 1.0]) / 2**0.5)


def test_normalised_rows_have_mean_0_and_variance_1_per_dimension():
    x = data()
    normalised = Normalisation.of(x)(x)
    close(normalised.mean(dim=0), torch.zeros(D_IN, dtype=x.dtype))
    assert float(normalised.square().mean()) == pytest.approx(1, rel=1e-12)


def test_undo_undoes():
    x = data()
    for normalisation in (Normalisation.of(x), Normalisation(x.mean(dim=0), 1 / x.std(dim=0))):
        close(normalisation.undo(normalisation(x)), x)


def test_activations_side_by_side():
    x = data()
    parts = [Normalisation.of(x[:, :4]), Normalisation.of(x[:, 4:])]
    joined = Normalisation.joined(parts)
    close(joined(x), torch.cat([parts[0](x[:, :4]), parts[1](x[:, 4:])], dim=1))
    close(joined.undo(joined(x)), x)
    assert Normalisation.joined(parts[:1]) is parts[0], "one number stays one number"


@pytest.mark.parametrize(
    "rows", [torch.full((3, 2), 0.1), torch.ones(1, 2), torch.tensor([[1.0, math.nan], [0.0, 0.0]])]
)
def test_rows_that_cannot_be_normalised(rows):
    with pytest.raises(RefractError, match=r"have a variance of"):
        Normalisation.of(rows)


@pytest.mark.parametrize(
    ("mean", "scale"),
    [
        (torch.ones(2), 0.0),
        (torch.ones(2), -1.0),
        (torch.ones(2), math.inf),
        (torch.ones(2), torch.tensor([1.0, 0.0])),
        (torch.tensor([math.nan, 0.0]), 1.0),
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2, 2), 1.0),
    ],
)
def test_what_is_no_normalisation(mean, scale):
    with pytest.raises(RefractError):
        Normalisation(mean, scale)


# --- folding -----------------------------------------------------------------------------------------


def test_folded_by_hand():
    """With x' = (x - 10) · ½ and one latent: at x = 16, x' = 3, f = 3 - 1 + 0.5 = 2.5, y_hat' = 3.5, y_hat = 17.

    Folded: f = 5, twice as large, and y_hat = 5 + b_dec with b_dec = 10 + 2 · 1 = 12.
    """
    coder = ReLU(1, 1)
    with torch.no_grad():
        for name, value in (("W_enc", 1.0), ("W_dec", 1.0), ("b_enc", 0.5), ("b_dec", 1.0)):
            getattr(coder, name).fill_(value)
    folded = fold(coder, Normalisation(torch.tensor([10.0]), 0.5))
    x = torch.tensor([[16.0]])
    assert folded.encode(x).tolist() == [[5]]
    assert folded(x).tolist() == [[17]]
    assert (folded.b_dec.tolist(), folded.b_enc.tolist(), folded.W_enc.tolist()) == ([12], [1], [[1]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_autoencoder_is_the_same_function(kind):
    coder, x = random_coder(kind), data()
    normalisation = Normalisation.of(x)
    folded = fold(coder, normalisation)
    latents = coder.encode(normalisation(x))
    assert 0.01 < (latents != 0).double().mean() < 0.7, "the test needs latents that are active, and others"
    close(folded(x), normalisation.undo(coder(normalisation(x))))
    assert torch.equal(folded.encode(x) != 0, latents != 0)
    close(folded.encode(x), latents / normalisation.scale)
    assert torch.equal(folded.W_dec, coder.W_dec)
    assert torch.equal(folded.W_enc, coder.W_enc)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_transcoder_is_the_same_function(kind):
    coder, x, y = random_coder(kind, d_out=D_OUT), data(), data(D_OUT, seed=2)
    inward, outward = Normalisation.of(x), Normalisation.of(3 * y)
    folded = fold(coder, inward, outward)
    latents = coder.encode(inward(x))
    assert (latents != 0).any()
    close(folded(x), outward.undo(coder(inward(x))))
    assert torch.equal(folded.encode(x) != 0, latents != 0)
    close(folded.encode(x), latents / outward.scale)
    assert torch.equal(folded.W_dec, coder.W_dec)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_crosscoder_is_the_same_function(kind):
    """Two layers of three dimensions, the second four times as large: latents are what they were."""
    coder, x = random_coder(kind), data()
    normalisation = Normalisation(x.mean(dim=0), torch.tensor([0.1, 0.1, 0.1, 0.025, 0.025, 0.025]))
    folded = fold(coder, normalisation)
    close(folded(x), normalisation.undo(coder(normalisation(x))), 1e-6)
    close(folded.encode(x), coder.encode(normalisation(x)), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_what_they_were(kind):
    """Squared errors grow by 1 / scale², and so does the variance that they are divided by."""
    settings: dict[str, Any] = {"sparse": False} if issubclass(kind, TopK) else {}
    if issubclass(kind, TopK) and kind is not Matryoshka:
        settings["multi"] = 2
    coder, x = random_coder(kind, variance=float(D_IN), **settings), data()
    normalisation = Normalisation.of(x)
    folded = fold(coder, normalisation)
    dead = torch.tensor([1, 5, 7])
    expected, found = coder.step(normalisation(x), dead=dead), folded.step(x, dead=dead)
    for name, loss in expected.losses.items():
        assert found.losses[name].item() == pytest.approx(loss.item(), rel=1e-6), name
    assert float(found.error) == pytest.approx(float(expected.error) / normalisation.scale**2, rel=1e-6)
    assert torch.equal(found.fired, expected.fired)


def test_the_gradient_of_a_threshold_is_what_it_was():
    """It is estimated from what lies within a bandwidth, which has the units of a latent."""
    coder, x = random_coder(JumpReLU, bandwidth=0.5), data()
    normalisation = Normalisation.of(x)
    folded = fold(coder, normalisation)
    coder.step(normalisation(x)).loss.backward()
    folded.step(x).loss.backward()
    # The variance was 1 and is 1 / scale², so the losses are the same, and so are their slopes in the logarithm.
    close(folded.log_threshold.grad, coder.log_threshold.grad, 1e-6)
    assert (coder.log_threshold.grad != 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_coder_itself_is_left_alone(kind):
    coder = random_coder(kind)
    before = {name: value.clone() for name, value in coder.state_dict().items()}
    settings = coder.settings
    folded = fold(coder, Normalisation(torch.ones(D_IN), 0.5))
    assert coder.settings == settings
    for name, value in coder.state_dict().items():
        assert torch.equal(value, before[name])
        assert folded.state_dict()[name].data_ptr() != value.data_ptr()
    assert type(folded) is kind
    assert all(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_folding_back_and_forth(kind):
    coder, normalisation = random_coder(kind), Normalisation(torch.arange(6.0), 0.25)
    back = Normalisation(-normalisation.mean * normalisation.scale, 1 / normalisation.scale)
    again = fold(fold(coder, normalisation), back)
    for name, value in coder.state_dict().items():
        close(again.state_dict()[name], value)
    numbers = {name: value for name, value in coder.settings.items() if isinstance(value, float)}
    assert {name: again.settings[name] for name in numbers} == pytest.approx(numbers)


def test_float32_weights_are_rounded_once():
    """The sums are made in float64: float32 would lose digits of b_dec beside a mean of 1000."""
    coder, normalisation = random_coder(TopK, dtype=torch.float32, d_out=D_IN), Normalisation.of(data() + 1000)
    exact = fold(copy.deepcopy(coder).double(), normalisation, normalisation)
    for name, value in fold(coder, normalisation, normalisation).state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, exact.state_dict()[name].float()), name


def test_a_threshold_that_has_not_been_set_stays_so():
    coder = random_coder(BatchTopK)
    coder.threshold.fill_(-1)
    assert fold(coder, Normalisation(torch.zeros(D_IN), 0.5)).threshold == -1


def test_a_threshold_of_zero_stays_zero():
    coder = random_coder(JumpReLU)
    with torch.no_grad():
        coder.log_threshold[0] = -math.inf
    folded = fold(coder, Normalisation(torch.zeros(D_IN), 0.5))
    assert folded.threshold[0] == 0
    close(folded.threshold, 2 * coder.threshold)


def test_a_normalisation_that_does_not_fit_is_refused():
    one, other = Normalisation(torch.zeros(D_IN), 1.0), Normalisation(torch.zeros(D_OUT), 1.0)
    with pytest.raises(RefractError, match="a transcoder has two"):
        fold(random_coder(ReLU), one, one)
    with pytest.raises(RefractError, match="a transcoder has two"):
        fold(random_coder(ReLU, d_out=D_OUT), one)
    with pytest.raises(RefractError, match="has 4 dimensions, but the coder's d_in is 6"):
        fold(random_coder(ReLU), other)
    with pytest.raises(RefractError, match="has 6 dimensions, but the coder's d_out is 4"):
        fold(random_coder(ReLU, d_out=D_OUT), one, one)
