"""The architectures: every loss by hand, the gradients that the papers ask for, the sparse path against the dense."""

import math

import pytest
import torch

from refract.errors import RefractError
from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU, heaviside, jump_relu
from refract.sae.relu import ReLU
from refract.sae.shortlist import Computed
from refract.sae.topk import TopK

ALL = [ReLU, Gated, JumpReLU, TopK, BatchTopK, Matryoshka]


def set_parameters(coder, **tensors):
    with torch.no_grad():
        for name, value in tensors.items():
            getattr(coder, name).copy_(torch.as_tensor(value))
    return coder


def random_coder(kind, d_in=12, n_latents=40, seed=0, **settings):
    """A coder in the middle of training: nothing about it is zero or tied."""
    generator = torch.Generator().manual_seed(seed)
    coder = kind(d_in, n_latents, generator=generator, **settings)
    with torch.no_grad():
        for name, parameter in coder.named_parameters():
            scale = 0.3 if name != "W_dec" else 0
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return coder


def numbers(result):
    return {name: loss.item() for name, loss in result.losses.items()}


# --- by hand -------------------------------------------------------------------------------------

IDENTITY = {"W_enc": [[1.0, 0.0], [0.0, 1.0]], "W_dec": [[1.0, 0.0], [0.0, 1.0]]}


def test_relu_loss_by_hand():
    """With x = (3, -1), b_dec = (1, 0): f = (2, 0), y_hat = (3, 0), the error is 1, the L1 norm 2."""
    coder = set_parameters(ReLU(2, 2, sparsity=0.5), **IDENTITY, b_dec=[1.0, 0.0])
    result = coder.step(torch.tensor([[3.0, -1.0], [3.0, -1.0]]))
    assert numbers(result) == {"reconstruction": 1, "sparsity": 1}
    assert result.loss.item() == 2
    assert float(result.error) == 1
    assert result.fired.tolist() == [2, 0]


def test_losses_are_relative_to_the_variance():
    """With variance 4, squared errors are a quarter and the L1 norm a half."""
    coder = set_parameters(ReLU(2, 2, sparsity=0.5, variance=4.0), **IDENTITY, b_dec=[1.0, 0.0])
    result = coder.step(torch.tensor([[3.0, -1.0]]))
    assert numbers(result) == {"reconstruction": 0.25, "sparsity": 0.5}
    assert float(result.error) == 1


def test_shrinkage():
    """One feature of size 1: (1 - a)² + λ a is least at a = 1 - λ/2. Found by descent through the coder's own loss."""
    coder = set_parameters(ReLU(1, 1, sparsity=1.0), W_enc=[[0.9]], W_dec=[[1.0]])
    for _ in range(200):
        coder.zero_grad()
        coder.step(torch.ones(1, 1)).loss.backward()
        with torch.no_grad():
            coder.W_enc -= 0.1 * coder.W_enc.grad
    assert coder.encode(torch.ones(1, 1)).item() == pytest.approx(0.5, abs=1e-4)


def test_gated_losses_by_hand():
    """π = (2 - 1, 3 + 0) + b_enc (0, -4) = (1, -1): only the first is open. Its magnitude is e^{ln 2} · 1 + 0.5 = 2.5.

    y_hat = (2.5 + 1, 0) for x = (2, 3), so the error is 1.5² + 3² = 11.25. The gate's own reconstruction is (1 + 1, 0):
    0 + 9. The L1 norm of ReLU(π) is 1.
    """
    coder = set_parameters(
        Gated(2, 2, sparsity=0.25),
        **IDENTITY,
        b_dec=[1.0, 0.0],
        b_enc=[0.0, -4.0],
        r_mag=[math.log(2), 0.0],
        b_mag=[0.5, 0.0],
    )
    result = coder.step(torch.tensor([[2.0, 3.0]]))
    found = numbers(result)
    assert found == pytest.approx({"reconstruction": 11.25, "sparsity": 0.25, "auxiliary": 9.0})
    assert result.fired.tolist() == [1, 0]


def test_an_open_gate_gives_nothing_below_zero():
    """π = 1 opens it, the magnitude is 1 - 3: the latent is 0."""
    coder = set_parameters(Gated(2, 2), **IDENTITY, b_mag=[-3.0, 0.0])
    assert coder.encode(torch.tensor([[1.0, 0.5]])).tolist() == [[0.0, 0.5]]


def test_top_k_loss_by_hand():
    """Of x = (1, 2, 3) the two largest stay, and 1² is lost. With the decoder's third row halved, 1.5² as well."""
    coder = set_parameters(TopK(3, 3, k=2), W_enc=torch.eye(3), W_dec=torch.diag(torch.tensor([1.0, 1.0, 0.5])))
    result = coder.step(torch.tensor([[1.0, 2.0, 3.0]]))
    assert result.loss.item() == 1 + 1.5**2
    assert result.fired.tolist() == [0, 1, 1]
    assert torch.equal(coder(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[0.0, 2.0, 1.5]]))


def test_a_chosen_latent_below_zero_is_not_active():
    coder = set_parameters(TopK(2, 2, k=2), **IDENTITY)
    result = coder.step(torch.tensor([[1.0, -2.0]]))
    assert result.loss.item() == 4
    assert result.fired.tolist() == [1, 0]


def test_multi_top_k_loss_by_hand():
    """With k = 1, x = (1, 2, 4) leaves 1 + 4 = 5; the 2 k largest leave 1, which counts an eighth."""
    coder = set_parameters(TopK(3, 3, k=1, multi=2), W_enc=torch.eye(3), W_dec=torch.eye(3))
    result = coder.step(torch.tensor([[1.0, 2.0, 4.0]]))
    assert numbers(result) == {"reconstruction": 5, "multi": 1 / 8}


def test_multi_top_k_asks_for_no_more_than_all():
    """4 k = 8 of 3 latents are 3, and they leave nothing."""
    coder = set_parameters(TopK(3, 3, k=2, multi=4), W_enc=torch.eye(3), W_dec=torch.eye(3))
    assert numbers(coder.step(torch.tensor([[1.0, 2.0, 4.0]]))) == {"reconstruction": 1, "multi": 0}


def test_auxk_takes_the_largest_of_the_dead():
    """Of (4, 2, 3) with k = 1 the first stays. One of the dead two may help: the third, which leaves 2² = 4.

    A second example, (4, 0, 0), has nothing to leave: so the left-over has a variance of 2²/2 + 3²/2 = 6.5.
    """
    coder = set_parameters(TopK(3, 3, k=1, aux_k=1), W_enc=torch.eye(3), W_dec=torch.eye(3))
    result = coder.step(torch.tensor([[4.0, 2.0, 3.0], [4.0, 0.0, 0.0]]), dead=torch.tensor([1, 2]))
    assert result.losses["auxiliary"].item() == pytest.approx(4 / 6.5 / 32)


def test_auxk_has_half_as_many_latents_as_dimensions_unless_told():
    assert [TopK(d_in, 16, k=1).aux_k for d_in in (1, 2, 12)] == [1, 1, 6]


def test_auxk_loss_by_hand():
    """Two examples, (4, 1, 0) and (4, 0, 3), k = 1: what is left over is (0, 1, 0) and (0, 0, 3).

    Latent 1 is dead, with W_enc = W_dec = the second axis: of the left-over it explains the 1. So 9 is left of a
    variance about the mean (0, 0.5, 1.5) of 2 · 0.25 + 2 · 2.25 = 5. The loss is 9 / 5 / 32.
    """
    coder = set_parameters(TopK(3, 3, k=1, aux_k=2), W_enc=torch.eye(3), W_dec=torch.eye(3))
    x = torch.tensor([[4.0, 1.0, 0.0], [4.0, 0.0, 3.0]])
    result = coder.step(x, dead=torch.tensor([1]))
    assert result.losses["auxiliary"].item() == pytest.approx(9 / 5 / 32)
    assert "auxiliary" not in coder.step(x, dead=torch.tensor([], dtype=torch.long)).losses
    assert "auxiliary" not in coder.step(x).losses


def test_auxk_with_nothing_left_over_is_zero():
    """Three latents reconstruct all. The dead one would give 0.3 on the first axis; nobody asks what that is worth."""
    encoder, decoder = torch.cat([torch.eye(3), torch.full((1, 3), 0.1)]), torch.eye(4, 3)
    decoder[3, 0] = 1
    coder = set_parameters(TopK(3, 4, k=3, aux_k=1), W_enc=encoder, W_dec=decoder)
    result = coder.step(torch.ones(2, 3), dead=torch.tensor([3]))
    assert result.losses["auxiliary"].item() == 0
    result.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in coder.parameters())


def test_batch_top_k_by_hand():
    """Two examples share 2 latents: (5, 4) takes both, (1, 0) gets none."""
    coder = set_parameters(BatchTopK(2, 2, k=1, threshold_decay=0.9), **IDENTITY)
    result = coder.step(torch.tensor([[5.0, 4.0], [1.0, 0.0]]))
    assert float(result.error) == 0.5
    assert result.fired.tolist() == [1, 1]
    assert float(coder.threshold) == 4  # the first batch sets it
    coder.step(torch.tensor([[9.0, 8.0], [1.0, 0.0]]))
    assert float(coder.threshold) == pytest.approx(0.9 * 4 + 0.1 * 8)
    coder.eval()
    coder.step(torch.tensor([[9.0, 8.0], [1.0, 0.0]]))
    assert float(coder.threshold) == pytest.approx(4.4)
    assert coder.encode(torch.tensor([[4.5, 4.3]])).tolist() == [[4.5, 0.0]]


def test_a_chosen_number_that_is_not_active_does_not_move_the_threshold():
    """Two of (5, 3, -1) and (-2, -3, -4) for each example: 5, 3, -1 and -2 are chosen, and the least above 0 is 3."""
    coder = set_parameters(BatchTopK(3, 3, k=2), W_enc=torch.eye(3), W_dec=torch.eye(3))
    coder.step(torch.tensor([[5.0, 3.0, -1.0], [-2.0, -3.0, -4.0]]))
    assert float(coder.threshold) == 3
    coder.step(-torch.ones(2, 3))  # none is above 0
    assert float(coder.threshold) == 3


def test_a_number_at_the_threshold_is_not_active():
    coder = set_parameters(BatchTopK(2, 2, k=1, threshold_decay=0.9), **IDENTITY, threshold=2.0)
    assert coder.encode(torch.tensor([[2.0, 2.5]])).tolist() == [[0.0, 2.5]]


def test_before_its_first_batch_a_threshold_is_zero():
    coder = set_parameters(BatchTopK(3, 3, k=2), W_enc=torch.eye(3), W_dec=torch.eye(3))
    assert coder.encode(torch.tensor([[5.0, -0.5, 0.0]])).tolist() == [[5.0, 0.0, 0.0]]


def test_matryoshka_loss_by_hand():
    """Prefixes of one and of two latents on (3, 1): errors 1 and 0, mean 1/2; the whole dictionary's error is 0."""
    coder = set_parameters(Matryoshka(2, 2, k=2, prefixes=(0.5, 1.0)), **IDENTITY)
    result = coder.step(torch.tensor([[3.0, 1.0]]))
    assert result.losses["reconstruction"].item() == 0.5
    assert float(result.error) == 0


def test_jumprelu_has_another_penalty_with_a_target():
    assert [JumpReLU(4, 8, **given).sparsity for given in ({}, {"target_l0": 2.0}, {"sparsity": 3.0})] == [0.003, 1, 3]


def test_jumprelu_losses_by_hand():
    """θ = 1: of (3, 0.5) the second stays silent. Error 0.25, L0 = 1; with a target of 4, (1/4 - 1)² = 9/16."""
    for settings, penalty in (({}, 1.0), ({"target_l0": 4.0}, 9 / 16)):
        coder = set_parameters(JumpReLU(2, 2, sparsity=0.5, bandwidth=0.1, **settings), **IDENTITY, log_threshold=0.0)
        result = coder.step(torch.tensor([[3.0, 0.5]]))
        found = numbers(result)
        assert found == pytest.approx({"reconstruction": 0.25, "sparsity": 0.5 * penalty})


# --- gradients -----------------------------------------------------------------------------------


def test_the_gates_own_decoder_is_frozen():
    """The auxiliary loss alone gives no gradient to the decoder, nor to b_dec as a decoder's bias."""
    coder = random_coder(Gated)
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(3))
    coder.step(x).losses["auxiliary"].backward()
    assert coder.W_dec.grad is None or not coder.W_dec.grad.any()
    assert coder.r_mag.grad is None and coder.b_mag.grad is None
    assert coder.W_enc.grad.norm() > 0
    # b_dec has a gradient through the encoder, x - b_dec, and only that one: -Σ dπ @ W_enc.
    assert torch.allclose(coder.b_dec.grad, -(coder.b_enc.grad @ coder.W_enc), atol=1e-6)


def test_the_gate_learns_nothing_from_the_reconstruction():
    coder = random_coder(Gated)
    coder.step(torch.randn(30, 12, generator=torch.Generator().manual_seed(3))).losses["reconstruction"].backward()
    assert not coder.b_enc.grad.any() if coder.b_enc.grad is not None else True
    assert coder.W_dec.grad.norm() > 0


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("loss", ["auxiliary", "multi"])
def test_auxk_and_multi_topk_teach_the_encoder(sparse, loss):
    coder = random_coder(TopK, k=3, multi=2, aux_k=4, sparse=sparse)
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(3))
    coder.step(x, dead=torch.arange(25, 40)).losses[loss].backward()
    assert coder.W_enc.grad.norm() > 1e-3
    assert coder.W_dec.grad.norm() > 1e-3
    if loss == "auxiliary":
        assert not coder.W_enc.grad[:25].any()
        assert coder.b_enc.grad[25:].any()


def test_jumprelu_pseudo_gradient():
    """For z uniform on [0, 0.2], E[1(z > θ)] falls with slope -p(θ) = -5, and E[z 1(z > θ)] with -θ p(θ) = -0.5."""
    z = ((torch.arange(200_000) + 0.5) / 200_000 * 0.2)[:, None]
    for function, slope in ((heaviside, -5.0), (jump_relu, -0.5)):
        theta = torch.tensor([0.1], requires_grad=True)
        function(z, theta, 0.02).mean().backward()
        assert theta.grad is not None
        assert theta.grad.item() == pytest.approx(slope, rel=1e-3)


def test_the_step_function_passes_no_gradient():
    pre = torch.tensor([[0.5, 2.0]], requires_grad=True)
    threshold = torch.ones(2, requires_grad=True)
    heaviside(pre, threshold, 0.01).sum().backward()
    assert pre.grad is None or not pre.grad.any()


def test_jumprelu_passes_gradients_to_what_is_active():
    pre = torch.tensor([[0.5, 2.0]], requires_grad=True)
    jump_relu(pre, torch.ones(2), 0.01).sum().backward()
    assert pre.grad is not None
    assert pre.grad.tolist() == [[0, 1]]


@pytest.mark.parametrize("kind", [TopK, BatchTopK, Matryoshka])
@pytest.mark.parametrize("d_out", [None, 7])
def test_the_sparse_path_is_the_dense_one(kind, d_out):
    x = torch.randn(50, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    y = None if d_out is None else x[:, :7] ** 2
    settings = {"k": 4, "aux_k": 5, "d_out": d_out} | ({"multi": 2} if kind is TopK else {})
    results = []
    for sparse in (True, False):
        coder = random_coder(kind, sparse=sparse, **settings).double()
        inputs = x.clone().requires_grad_()
        result = coder.step(inputs, y, dead=torch.arange(20, 40))
        result.loss.backward()
        gradients = {name: parameter.grad for name, parameter in coder.named_parameters()}
        results.append((result, gradients | {"x": inputs.grad}))
    (fast, fast_gradients), (slow, slow_gradients) = results
    for name in slow.losses:
        assert torch.allclose(fast.losses[name], slow.losses[name]), name
    assert torch.equal(fast.fired, slow.fired)
    for name, gradient in slow_gradients.items():
        assert torch.allclose(fast_gradients[name], gradient, atol=1e-12), name


@pytest.mark.filterwarnings("error:An output with one or more elements was resized")
@pytest.mark.parametrize("kind", [TopK, BatchTopK, Matryoshka])
def test_batches_of_another_size_or_precision(kind):
    """The memory of the step before is used again where it fits."""
    coder, oracle = (random_coder(kind, k=4, sparse=sparse) for sparse in (True, False))
    for rows, dtype in ((8, torch.float32), (5, torch.float32), (5, torch.float64), (8, torch.float32)):
        x = torch.randn(rows, 12, generator=torch.Generator().manual_seed(rows)).to(dtype)
        losses = [numbers(one.to(dtype).step(x)) for one in (coder, oracle)]
        assert losses[0] == pytest.approx(losses[1])


# --- what they share -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_step_and_forward_agree(kind):
    coder = random_coder(kind).eval()
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(2))
    if kind in (BatchTopK, Matryoshka):  # in use a threshold takes the place of the choice: the same on this batch
        smallest = coder.choose(Computed(coder.pre_activations(x)))[0].clamp_min(0)
        coder.threshold.fill_(smallest[smallest > 0].min() - 1e-5)
    result = coder.step(x)
    latents = coder.encode(x)
    assert torch.allclose(result.error, (coder(x) - x).square().sum(dim=1).mean(), rtol=1e-4)
    assert torch.equal(result.fired, (latents > 0).sum(dim=0).float())
    assert torch.allclose(coder.decode(latents), coder(x))


@pytest.mark.parametrize("kind", ALL)
def test_units_do_not_change_a_loss(kind):
    """All activations and biases doubled, and a variance of 4 in place of 1: only the error in their units is other."""
    coder = random_coder(kind, **({"k": 4} if issubclass(kind, TopK) else {}))
    doubled = kind(**coder.settings | {"variance": 4.0} | ({"bandwidth": None} if kind is JumpReLU else {}))
    biases = ("b_enc", "b_dec", "b_mag")
    if kind is JumpReLU:
        coder.log_threshold.data.fill_(coder.bandwidth).log_()  # what doubled begins with, but for the unit
    else:
        doubled.load_state_dict(coder.state_dict())
    set_parameters(doubled, W_enc=coder.W_enc, W_dec=coder.W_dec)
    set_parameters(doubled, **{name: 2 * getattr(coder, name) for name in biases if hasattr(coder, name)})
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(4))
    one, two = coder.step(x, dead=torch.arange(20, 40)), doubled.step(2 * x, dead=torch.arange(20, 40))
    assert numbers(two) == pytest.approx(numbers(one))
    assert two.error.item() == pytest.approx(4 * one.error.item())
    assert torch.equal(two.fired, one.fired)
    if kind is JumpReLU:
        assert doubled.bandwidth == 2 * coder.bandwidth


@pytest.mark.parametrize("kind", [ReLU, Gated, JumpReLU])
@pytest.mark.parametrize("n_latents", [10, 640])
def test_a_new_coder_is_no_worse_than_nothing(kind, n_latents):
    """Before the first step the error is not far above the variance, which a y_hat of 0 would leave, in any size."""
    coder = kind(20, n_latents, variance=20.0, generator=torch.Generator().manual_seed(0))
    x = torch.randn(500, 20, generator=torch.Generator().manual_seed(1))
    assert coder.step(x).losses["reconstruction"].item() < 1.5


@pytest.mark.parametrize("kind", [ReLU, Gated, JumpReLU])
def test_a_share_of_the_penalty(kind):
    coder = random_coder(kind)
    x = torch.randn(50, 12, generator=torch.Generator().manual_seed(4))
    whole = numbers(coder.step(x))
    coder.penalty_share = 0.25
    assert numbers(coder.step(x)) == pytest.approx(whole | {"sparsity": whole["sparsity"] / 4})


@pytest.mark.parametrize("kind", ALL)
def test_settings_make_another_of_its_kind(kind):
    coder = kind(12, 40, d_out=5, variance=3.0)
    again = kind(**coder.settings)
    assert again.settings == coder.settings
    assert again.settings["d_out"] == 5
    again.load_state_dict(coder.state_dict())


@pytest.mark.parametrize("kind", ALL)
def test_descent_lowers_the_loss_and_the_decoder_stays_of_unit_length(kind):
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(30, 12, generator=generator), dim=1)
    coder = kind(12, 30, generator=generator, variance=4.0, **({"k": 2} if issubclass(kind, TopK) else {}))
    optimizer = torch.optim.Adam(coder.parameters(), lr=3e-3)
    errors = []
    for _ in range(150):
        x = (torch.rand(256, 30, generator=generator) < 0.05).float() @ (2 * directions)
        optimizer.zero_grad()
        result = coder.step(x)
        result.loss.backward()
        coder.project_out_parallel_gradient()
        assert torch.linalg.vecdot(coder.W_dec.grad, coder.W_dec).abs().max() < 1e-5
        optimizer.step()
        coder.normalise_decoder()
        errors.append(result.loss.item())
    assert sum(errors[-10:]) < 0.7 * sum(errors[:10])
    assert torch.allclose(coder.W_dec.norm(dim=1), torch.ones(30), atol=1e-5)


def test_a_direction_of_length_zero_stays_what_it_is():
    coder = random_coder(ReLU)
    coder.project_out_parallel_gradient()  # without a gradient there is nothing to do
    with torch.no_grad():
        coder.W_dec[3] = 0
    coder.normalise_decoder()
    assert coder.W_dec[3].tolist() == [0] * 12
    assert torch.allclose(coder.W_dec[:3].norm(dim=1), torch.ones(3))


def test_a_crosscoder_is_an_autoencoder_of_the_concatenation():
    """Two layers side by side: each layer's error is its share of the whole."""
    coder = random_coder(TopK, d_in=24, k=4)
    x = torch.randn(10, 2, 12, generator=torch.Generator().manual_seed(1))
    y_hat = coder(x.flatten(1)).view_as(x)
    by_layer = (y_hat - x).square().sum(dim=-1).mean(dim=0)
    assert by_layer.sum().item() == pytest.approx(coder.step(x.flatten(1)).error.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopK(4, 8, k=9), "k = 9"),
        (lambda: TopK(4, 8, k=0), "k = 0"),
        (lambda: ReLU(0, 8), "d_in = 0"),
        (lambda: ReLU(4, 8, variance=0), "variance = 0"),
        (lambda: Matryoshka(4, 8, k=2, prefixes=(0.5, 0.25, 1.0)), "prefixes"),
        (lambda: Matryoshka(4, 8, k=2, prefixes=(0.5,)), "prefixes"),
        (lambda: Matryoshka(4, 8, k=2, prefixes=(0.01, 1.0)), "prefixes"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(RefractError, match=words):
        make()
