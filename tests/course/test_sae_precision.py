"""bf16 in the products of dense coders: chosen where it serves, remembered, and as good.

There are processors that die at their first product in bf16. So what computes one does it in a process of its own,
which is told to leave those instructions alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from refract import hardware
from refract.sae import checkpoint, precision
from refract.sae.activations import Store
from refract.sae.coder import SparseCoder, Step
from refract.sae.config import Config
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU
from refract.sae.relu import ReLU
from refract.sae.topk import TopK
from refract.sae.training import CHECKPOINT, Trainer
from tests.course import test_sae_training as toy

pytestmark = pytest.mark.usefixtures("one_thread")
store, held_out = toy.store, toy.held_out


def config(architecture: str, **changes) -> Config:
    """A run of 120 steps."""
    return toy.changed(architecture=architecture, settings={"sparsity": 0.01}, tokens=120 * 256, **changes)


@pytest.fixture
def fast_bf16(monkeypatch):
    monkeypatch.setattr(hardware, "bf16", lambda device="cpu": hardware.Verdict(True, "for a test"))


@pytest.fixture
def no_bf16(monkeypatch):
    monkeypatch.setattr(hardware, "bf16", lambda device="cpu": hardware.Verdict(False, "for a test"))


def elsewhere(function: str, *arguments: object):
    """What a function of this file returns in a process where bf16 works, slowly, and passes for fast."""
    script = (
        "import json, sys; from refract import hardware; from tests.course import test_sae_precision as here\n"
        "hardware.bf16 = lambda device='cpu': hardware.Verdict(True, 'for a test')\n"
        "print(json.dumps(getattr(here, sys.argv[1])(*sys.argv[2:])))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script, function, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- what the other process does ---------------------------------------------------------------------


def train(architecture: str, bf16: str, train_rows: str, test_rows: str, folder: str) -> dict[str, object]:
    chosen = config(architecture, bf16=bf16 == "yes")
    trainer = Trainer(chosen, Store.open(Path(train_rows)), Path(folder), held_out=Store.open(Path(test_rows)))
    trainer.run()
    kept = {value.dtype for value in trainer.coder.state_dict().values()}
    kept |= {value.dtype for state in trainer.optimizer.state.values() for value in state.values()}
    return {
        "numbers": trainer.numbers,
        "fve": trainer.curve[-1]["held_out_fve"],
        "kept in fp32": kept == {torch.float32},
        "weights": trainer.coder.W_dec.double().abs().sum().item(),
    }


def stop_and_go_on(train_rows: str, folder: str) -> list[bool]:
    """Whether a run that was stopped half way ends with the bits of one that was not; and whether it asked again."""
    store = Store.open(Path(train_rows))
    whole = Trainer(config("relu"), store, Path(folder) / "whole")
    whole.run()

    def stop(point):
        if point["step"] == 60:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        Trainer(config("relu"), store, Path(folder) / "parts").run(stop)
    with mock.patch.object(precision, "best_numbers") as asked:
        parts = Trainer(config("relu"), store, Path(folder) / "parts")
        parts.resume()
        parts.run()
    return [toy.same_tensors(toy.state(whole), toy.state(parts)), asked.called]


def where_rounding_is_all_the_error() -> list[str]:
    """Positive numbers, given back times a factor. Near 1, what bf16 rounds off is the error; at 1/2 it is not."""
    coder, x = ReLU(8, 8, sparsity=0.0), torch.rand(32, 8, generator=torch.Generator().manual_seed(0))
    found: list[str] = []
    for factor in (1.0001, 0.5):
        with torch.no_grad():
            coder.W_enc.copy_(torch.eye(8))
            coder.W_dec.copy_(factor * torch.eye(8))
        found.append(precision.best_numbers(coder, x))
    return found


# --- the tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["relu", "gated"])
def test_it_learns_as_well_as_in_fp32_and_keeps_its_weights_in_fp32(architecture, store, held_out, tmp_path):
    low, full = (
        elsewhere("train", architecture, bf16, store.folder, held_out.folder, tmp_path / bf16) for bf16 in ("yes", "no")
    )
    assert (low["numbers"], full["numbers"]) == ("bf16", "fp32")
    assert low["kept in fp32"]
    assert low["fve"] == pytest.approx(full["fve"], abs=0.01)
    assert full["fve"] > 0.5
    assert low["weights"] != full["weights"]  # bf16 was really used


def test_a_resumed_run_keeps_its_numbers_and_its_bits(store, tmp_path):
    same, asked = elsewhere("stop_and_go_on", store.folder, tmp_path)
    assert same
    assert not asked


def test_fp32_stays_where_the_loss_does_not_agree():
    assert elsewhere("where_rounding_is_all_the_error") == ["fp32", "bf16"]


@pytest.mark.parametrize(("factor", "numbers"), [(0.5, "fp32"), (0.995, "bf16"), (1.005, "bf16"), (2.0, "fp32")])
def test_a_loss_that_is_too_small_does_not_agree_either(factor, numbers, fast_bf16, monkeypatch):
    class Off(ReLU):
        losses = iter((1.0, factor))  # in fp32, and then in bf16

        def step(self, x, y=None, dead=None):
            return Step({"all": torch.tensor(next(self.losses))}, torch.tensor(0.0), torch.zeros(64))

    monkeypatch.setattr(precision, "products_in", lambda *_: contextlib.nullcontext())
    assert precision.best_numbers(Off(8, 64), torch.randn(16, 8)) == numbers


@pytest.mark.parametrize("kind", [TopK, JumpReLU])
def test_other_coders_stay_in_fp32(kind: type[SparseCoder], fast_bf16):
    assert precision.best_numbers(kind(8, 64), torch.randn(16, 8)) == "fp32"


@pytest.mark.parametrize("kind", [ReLU, Gated])
def test_other_machines_stay_in_fp32(kind: type[SparseCoder], no_bf16):
    assert precision.best_numbers(kind(8, 64), torch.randn(16, 8)) == "fp32"


def test_double_precision_stays(fast_bf16):
    assert precision.best_numbers(ReLU(8, 64).double(), torch.randn(16, 8).double()) == "fp32"


def test_who_does_not_want_it_is_not_asked(store, tmp_path, monkeypatch):
    def asked(*batch):
        raise AssertionError("a trial for nothing")

    monkeypatch.setattr(precision, "best_numbers", asked)
    trainer = Trainer(config("relu", bf16=False), store, tmp_path)
    trainer.run()
    assert trainer.numbers == "fp32"


def test_a_checkpoint_from_before_there_was_this_setting_can_be_resumed(store, tmp_path, no_bf16):
    Trainer(config("relu"), store, tmp_path).run()
    tensors, state = checkpoint.load(tmp_path / CHECKPOINT)
    del state["config"]["bf16"], state["numbers"]
    checkpoint.save(tmp_path / CHECKPOINT, tensors, state)
    again = Trainer(config("relu"), store, tmp_path)
    assert again.resume()
    assert again.done == 120
