"""Choosing the largest pre-activations by a rough product: how often it misses one, and what it must never do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from benchmarks import shortlist as shortlist_benchmark
from refract import hardware
from refract.sae import rough
from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.selection import top_k
from refract.sae.shortlist import Shortlist
from refract.sae.topk import TopK
from tests.course.coders_toy import random_coder


@pytest.fixture
def fast_int8(monkeypatch):
    """As on a machine with the instructions: the numbers are the same without them, only slower."""
    monkeypatch.setattr(hardware, "int8", lambda device="cpu": hardware.Verdict(True, "for a test"))


def activations(batch: int, d: int, seed: int = 0) -> torch.Tensor:
    """As in a language model: a few dimensions are ten times as large as the rest, and some examples twice."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, d, generator=generator) * torch.linspace(1, 0.2, d)
    x[:, ::40] *= 10
    x[::7] *= 2
    return x


def dictionary(n_latents: int, d: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions of different lengths, biases of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    W_enc = torch.randn(n_latents, d, generator=generator) / d**0.5
    W_enc *= torch.rand(n_latents, 1, generator=generator) + 0.5
    return W_enc, 0.3 * torch.randn(n_latents, generator=generator)


def misses(x, W_enc, b_enc, k, product=rough.integers) -> torch.Tensor:
    """By how much each value falls short of the one of the same rank in an exact choice; all are checked."""
    pre = x @ W_enc.mT + b_enc
    values, places = Shortlist(x, W_enc, b_enc, product).top_k(k)
    torch.testing.assert_close(values, pre.gather(1, places), rtol=1e-4, atol=1e-4)
    assert all(len(row.unique()) == k for row in places)
    return pre.topk(k).values - values.sort(dim=1, descending=True).values


def test_it_rarely_misses_one_and_then_by_little():
    short = misses(activations(512, 256), *dictionary(4096, 256), 32)
    assert (short > 1e-4).float().mean() < 1e-3
    assert short.max() < 0.1  # of values around 5


def test_a_few_large_dimensions_leave_digits_for_the_others():
    """Rounding errors of the integer product, relative to what it varies by."""
    x, (W_enc, b_enc) = activations(256, 256), dictionary(1024, 256)
    x[:, ::40] *= 10  # a hundred times as large as the rest
    W_enc[:, ::40] /= 100  # and the encoder knows it
    pre = x @ W_enc.mT + b_enc
    found = torch.cat([some.clone() for some in rough.integers(x, W_enc, b_enc)])
    found *= (pre * found).sum(dim=1, keepdim=True) / found.square().sum(dim=1, keepdim=True)  # each row's factor
    assert (found - pre).std() < 0.1 * pre.std()


def test_values_that_stand_out_are_never_missed():
    """One latent of each example is meant, and the others are noise."""
    W_enc, b_enc = dictionary(2048, 128)
    meant = torch.randint(2048, (300, 4), generator=torch.Generator().manual_seed(2))
    x = W_enc[meant].sum(dim=1) * 5 + 0.02 * activations(300, 128)
    assert misses(x, W_enc, b_enc, 4).max() < 1e-4


def test_the_bias_decides():
    """The same direction many times, so that only the biases tell them apart."""
    W_enc = torch.ones(1024, 32) / 32
    b_enc = torch.randperm(1024, generator=torch.Generator().manual_seed(0)) / 100.0
    _, places = Shortlist(torch.rand(64, 32), W_enc, b_enc, rough.integers).top_k(8)
    best = b_enc.topk(8).indices
    assert (places.sort(dim=1).values == best.sort().values).all()


def test_nothing_is_divided_by_zero():
    """An example of zeros, a dimension of zeros, a latent of zeros, and all of them together."""
    x, (W_enc, b_enc) = activations(40, 64), dictionary(1024, 64)
    x[3] = 0
    x[:, 5] = 0
    W_enc[7] = b_enc[7] = 0
    assert misses(x, W_enc, b_enc, 8).max() < 0.1
    assert misses(x, W_enc, torch.zeros(1024), 8).max() < 0.1
    assert misses(torch.zeros(40, 64), W_enc, b_enc, 8).max() < 0.1
    values, _ = Shortlist(torch.zeros(40, 64), torch.zeros(1024, 64), torch.zeros(1024), rough.integers).top_k(8)
    assert (values == 0).all()


def test_bf16_rarely_misses_one_either():
    """In a process that leaves alone the instructions with which some processors die at a product in bf16."""
    script = (
        "import torch; from refract.sae import rough; from refract.sae.shortlist import Shortlist\n"
        "from tests.course import test_sae_shortlist as here\n"
        "x, (W_enc, b_enc) = here.activations(200, 64), here.dictionary(2048, 64)\n"
        "print((here.misses(x, W_enc, b_enc, 16, rough.bfloat16) > 1e-4).float().mean().item())"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-3


@pytest.mark.parametrize("batch", [1, 63, 64, 65, 300])
def test_any_number_of_examples(batch, monkeypatch):
    """They are taken some at a time."""
    monkeypatch.setattr(rough, "NUMBERS_AT_ONCE", 1 << 16)
    assert misses(activations(batch, 48), *dictionary(1024, 48), 8).max() < 0.1


def test_the_largest_among_some():
    x, (W_enc, b_enc) = activations(50, 64), dictionary(1024, 64)
    some = torch.tensor([900, 3, 77, 512, 20])
    values, latents = Shortlist(x, W_enc, b_enc, rough.integers).top_k_among(some, 2)
    expected = (x @ W_enc.mT + b_enc)[:, some].topk(2)
    torch.testing.assert_close(values.sort(dim=1, descending=True).values, expected.values)
    assert torch.equal(latents.sort(dim=1).values, some[expected.indices].sort(dim=1).values)


@pytest.mark.parametrize("kind", [TopK, BatchTopK, Matryoshka])
def test_a_step_is_what_it_is_with_exact_pre_activations(kind, fast_int8, monkeypatch):
    """Losses and gradients, AuxK and Multi-TopK among them; and the shortlist was really used."""
    made = []

    def counted(*given):
        made.append(given)
        return Shortlist(*given)

    monkeypatch.setattr("refract.sae.topk.Shortlist", counted)
    x, dead = activations(128, 32, seed=3) / 3, torch.arange(100, 140)
    settings = {"k": 4, "aux_k": 8} | ({"multi": 2} if kind is TopK else {})
    found = {}
    for exact in (False, True):
        coder = random_coder(kind, 32, 2048, exact=exact, **settings)
        step = coder.step(x, dead=dead)
        step.loss.backward()
        found[exact] = step, {name: parameter.grad for name, parameter in coder.named_parameters()}
        assert len(made) == 1
    for name, loss in found[True][0].losses.items():
        torch.testing.assert_close(found[False][0].losses[name], loss, rtol=1e-3, atol=0)
    for name, gradient in found[True][1].items():
        assert (found[False][1][name] - gradient).norm() < 0.02 * gradient.norm(), name


def test_which_product_is_best(monkeypatch):
    def machine(int8: bool, bf16: bool) -> None:
        for name, fast in (("int8", int8), ("bf16", bf16)):
            monkeypatch.setattr(hardware, name, lambda device="cpu", fast=fast: hardware.Verdict(fast, "for a test"))

    x = torch.zeros(4, 8)
    machine(int8=True, bf16=True)
    assert rough.best_product(x, 4608, 32) is rough.integers
    assert rough.best_product(x, 1536, 32) is None  # 48 latents for each that is active
    assert rough.best_product(x, 512, 1) is None
    assert rough.best_product(x.double(), 4608, 32) is None
    machine(int8=False, bf16=True)
    assert rough.best_product(x, 4608, 32) is rough.bfloat16
    machine(int8=False, bf16=False)
    assert rough.best_product(x, 4608, 32) is None


def test_small_coders_never_ask_about_the_machine(monkeypatch):
    def asked(device="cpu"):
        raise AssertionError("a trial of several seconds for nothing")

    monkeypatch.setattr(hardware, "int8", asked)
    monkeypatch.setattr(hardware, "bf16", asked)
    random_coder(TopK, 16, 64).step(torch.randn(8, 16))


def test_a_choice_of_more_than_the_list_is_as_exact_as_top_k():
    """Where the list holds every latent, nothing can be missed."""
    x, (W_enc, b_enc) = activations(20, 16), dictionary(40, 16)
    values, _ = Shortlist(x, W_enc, b_enc, rough.integers).top_k(30)
    torch.testing.assert_close(
        values.sort(dim=1).values, top_k(x @ W_enc.mT + b_enc, 30)[0].sort(dim=1).values, rtol=1e-5, atol=1e-5
    )


def test_the_benchmark_counts_what_is_missed(fast_int8):
    """A good product misses next to nothing, one that knows nothing misses nearly all; and it shows in the FVE."""
    coder = TopK(32, 2048, k=4, generator=torch.Generator().manual_seed(0))

    def nothing(x, W_enc, b_enc):
        yield torch.rand(len(x), len(W_enc), generator=torch.Generator().manual_seed(0))

    rows = torch.randn(600, 32, generator=torch.Generator().manual_seed(1))
    good, bad = (shortlist_benchmark.compare(coder, rows, each, batch=100) for each in (rough.integers, nothing))
    assert good["missed"] < 2e-3
    assert good["shortlist"] == pytest.approx(good["exact"], abs=2e-3)
    assert bad["missed"] > 0.9
    assert bad["exact"] == good["exact"] > bad["shortlist"] + 0.01
