"""Coders go to SAELens and come back: the real SAELens, of a pinned version, in an environment of its own.

SAELens needs a TransformerLens below 4, the course one above. Neither cares where the rest comes from. So the few
packages that differ go into a folder of their own, in the user's cache, which a second Python finds before the course's
installed packages. It takes seconds, and a virtual environment with another torch would take minutes.
"""

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from refract import cache
from refract.sae import saelens
from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.coder import SparseCoder
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU
from refract.sae.normalisation import Normalisation, fold
from refract.sae.relu import ReLU
from refract.sae.topk import TopK

pytestmark = pytest.mark.heavy

PACKAGES = (
    f"sae-lens=={saelens.VERSION}",
    "transformer-lens==3.9.0",
    "babe==0.0.7",
    "better-abc==0.0.3",
    "docstring-parser==0.18.0",
    "fancy-einsum==0.0.3",
    "simple-parsing==0.1.9",
)

D_IN, D_OUT, N_LATENTS = 16, 10, 48

# Run by the Python that has SAELens: python -c … FOLDER
THERE = f"""
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
import sae_lens
from sae_lens import *

folder, size = Path(sys.argv[1]), dict(d_in={D_IN}, d_sae={N_LATENTS})
assert sae_lens.__version__ == "{saelens.VERSION}"
x = load_file(folder / "x.safetensors")["x"]

def answer(name, sae):
    with torch.no_grad():
        out = dict(latents=sae.encode(x).float(), y_hat=sae(x).float())
    save_file(out, folder / f"{{name}}.there.safetensors")

for path in sorted(folder.glob("ours_*")):
    sae = SAE.load_from_disk(path, dtype="float32")
    assert sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post", sae.cfg.metadata
    answer(path.name, sae)

def make(name, sae, save="save_model"):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.3 if parameter.ndim == 2 else 0.5))
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.8)
    sae.cfg.metadata.hook_name = "blocks.3.hook_resid_post"
    getattr(sae, save)(folder / name)
    answer(name, SAE.load_from_disk(folder / name))

far = dict(d_out={D_OUT}, apply_b_dec_to_input=False)
for suffix, extra in (("", {{}}), ("_raw", dict(apply_b_dec_to_input=False))):
    make("theirs_standard" + suffix, StandardSAE(StandardSAEConfig(**size, **extra)))
    make("theirs_gated" + suffix, GatedSAE(GatedSAEConfig(**size, **extra)))
    make("theirs_jumprelu" + suffix, JumpReLUSAE(JumpReLUSAEConfig(**size, **extra)))
    make("theirs_topk" + suffix, TopKSAE(TopKSAEConfig(**size, **extra, k=5)))
    rescaled = TopKSAEConfig(**size, **extra, k=5, rescale_acts_by_decoder_norm=True)
    make("theirs_topk_rescaled" + suffix, TopKSAE(rescaled))
make("theirs_transcoder", Transcoder(TranscoderConfig(**size, **far)))
make("theirs_jumprelu_transcoder", JumpReLUTranscoder(JumpReLUTranscoderConfig(**size, **far)))
inference = "save_inference_model"
make("theirs_batchtopk", BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size, k=5)), inference)
make("theirs_matryoshka", MatryoshkaBatchTopKTrainingSAE(
    MatryoshkaBatchTopKTrainingSAEConfig(**size, k=5, matryoshka_widths=[8, {N_LATENTS}])), inference)
make("theirs_topk_trained", TopKTrainingSAE(TopKTrainingSAEConfig(**size, k=5)), inference)
"""
THEIRS = [
    f"{name}{suffix}" for name in ("standard", "gated", "jumprelu", "topk", "topk_rescaled") for suffix in ("", "_raw")
] + ["transcoder", "jumprelu_transcoder", "batchtopk", "matryoshka", "topk_trained"]


def ours():
    """Coders as they come out of training, folded: some of each architecture that SAELens has."""
    generator = torch.Generator().manual_seed(1)
    k = {"k": 5}
    settings: dict[str, tuple[type[SparseCoder], dict[str, Any]]] = {
        "relu": (ReLU, {}),
        "gated": (Gated, {}),
        "jumprelu": (JumpReLU, {"bandwidth": 0.3}),
        "topk": (TopK, k),
        "batch_topk": (BatchTopK, k),
        "matryoshka": (Matryoshka, {**k, "prefixes": (0.25, 1.0)}),
        "transcoder": (ReLU, {"d_out": D_OUT}),
        "jumprelu_transcoder": (JumpReLU, {"bandwidth": 0.3, "d_out": D_OUT}),
        "batch_topk_transcoder": (BatchTopK, {**k, "d_out": D_OUT}),
    }
    inward = Normalisation(3 * torch.randn(D_IN, generator=generator), 0.7)
    outward = Normalisation(3 * torch.randn(D_OUT, generator=generator), 1.3)
    for name, (kind, arguments) in settings.items():
        coder = kind(D_IN, N_LATENTS, generator=generator, **arguments)
        with torch.no_grad():
            for parameter in coder.parameters():
                if parameter is not coder.W_dec:
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            if isinstance(coder, BatchTopK):
                coder.threshold.fill_(0.9)
        yield name, fold(coder, inward, outward if "d_out" in arguments else None)


@pytest.fixture(scope="module")
def packages():
    """The folder with SAELens and what it needs in another version than the course, or besides."""
    key = hashlib.sha256(json.dumps([PACKAGES, sys.version_info[:2]]).encode()).hexdigest()[:12]
    target = cache.folder() / "tests" / f"sae-lens-{saelens.VERSION}-{key}"
    with cache.locked("sae-lens for a test"):
        if not target.is_dir():
            with cache.whole(target) as partial:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial)]
                done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def exchanged(packages, tmp_path_factory):
    """The folder in which both sides have saved their coders, and SAELens what its own and ours give."""
    folder = tmp_path_factory.mktemp("exchange")
    x = 2 * torch.randn(64, D_IN, generator=torch.Generator().manual_seed(0))
    save_file({"x": x}, folder / "x.safetensors")
    for name, coder in ours():
        saelens.save(coder, folder / f"ours_{name}", {"hook_name": "blocks.3.hook_resid_post"})
        half = {"hook_name": "blocks.3.hook_resid_post"}
        saelens.save(coder, folder / f"ours_{name}_half", half, dtype="float16")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REFRACT"))}
    done = subprocess.run(
        [sys.executable, "-c", THERE, str(folder)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def compare(coder, folder, name):
    x, there = load_file(folder / "x.safetensors")["x"], load_file(folder / f"{name}.there.safetensors")
    with torch.no_grad():
        latents, y_hat = coder.encode(x), coder(x)
    share = float((there["latents"] != 0).double().mean())
    assert 0.02 < share < 0.9, "this compares nothing"
    torch.testing.assert_close(latents, there["latents"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y_hat, there["y_hat"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, _ in ours()])
def test_ours_do_the_same_there(name, exchanged):
    compare(dict(ours())[name], exchanged, f"ours_{name}")


@pytest.mark.parametrize("name", [name for name, _ in ours()])
def test_ours_in_half_precision_are_read_alike_there_and_here(name, exchanged):
    compare(saelens.load(exchanged / f"ours_{name}_half")[0], exchanged, f"ours_{name}_half")


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_do_the_same_here(name, exchanged):
    coder, metadata = saelens.load(exchanged / f"theirs_{name}")
    assert metadata["hook_name"] == "blocks.3.hook_resid_post"
    compare(coder, exchanged, f"theirs_{name}")
