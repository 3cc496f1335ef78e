"""SAELens's format from this side: what is written, read and refused, and that nothing is left half-done."""

import errno
import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from refract.errors import RefractError
from refract.paths import root
from refract.sae import saelens
from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU
from refract.sae.relu import ReLU
from refract.sae.topk import TopK
from tests.course import coders_toy

D_IN, N_LATENTS = 6, 20


def random_coder(kind, seed=0, d_in=D_IN, n_latents=N_LATENTS, **settings):
    return coders_toy.random_coder(kind, d_in, n_latents, seed=seed, **settings)


def inputs(rows=40, d=D_IN):
    return 2 * torch.randn(rows, d, generator=torch.Generator().manual_seed(9))


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def theirs(folder, architecture, tensors, version="6.54.12", **config):
    """A folder as SAELens would write it."""
    folder.mkdir()
    d_in, d_sae = tensors["W_enc"].shape
    text = {"architecture": architecture, "d_in": d_in, "d_sae": d_sae, "dtype": "float32", **config}
    if version:
        text["metadata"] = {"sae_lens_version": version, "hook_name": "blocks.1.hook_resid_post"}
    (folder / saelens.CONFIG).write_text(json.dumps(text))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / saelens.WEIGHTS)
    return folder


def their_tensors(*biases, d_in=D_IN, d_sae=N_LATENTS, d_out=None, seed=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out or d_in), "b_dec": (d_out or d_in,)}
    shapes |= dict.fromkeys(biases, (d_sae,))
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def change_config(folder, **values):
    config = json.loads((folder / saelens.CONFIG).read_text())
    (folder / saelens.CONFIG).write_text(json.dumps(config | values))


# --- writing -----------------------------------------------------------------------------------------


def test_what_is_written(tmp_path):
    """One latent and two dimensions, by hand: the encoder is stored transposed."""
    coder = TopK(2, 1, k=1)
    with torch.no_grad():
        coder.W_enc.copy_(torch.tensor([[3.0, 4.0]]))
        coder.W_dec.copy_(torch.tensor([[0.6, 0.8]]))
        coder.b_enc.copy_(torch.tensor([5.0]))
        coder.b_dec.copy_(torch.tensor([6.0, 7.0]))
    folder = saelens.save(coder, tmp_path / "sae", {"model_name": "m", "hook_name": "h", "own": [1, {"a": None}]})
    config = json.loads((folder / "cfg.json").read_text())
    assert config == {
        "architecture": "topk",
        "d_in": 2,
        "d_sae": 1,
        "k": 1,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {
            "sae_lens_version": "6.54.12",
            "sae_lens_training_version": None,
            "training_architecture": "topk",
            "training_architecture_details": coder.settings,
            "model_name": "m",
            "hook_name": "h",
            "own": [1, {"a": None}],
        },
    }
    tensors = load_file(folder / "sae_weights.safetensors")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "W_enc": [[3], [4]],
        "W_dec": [[pytest.approx(0.6), pytest.approx(0.8)]],
        "b_enc": [5],
        "b_dec": [6, 7],
    }
    assert sorted(path.name for path in folder.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", [ReLU, TopK, Gated, JumpReLU, BatchTopK, Matryoshka])
def test_there_and_back(kind, tmp_path):
    coder, x = random_coder(kind), inputs()
    about = {"hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "5.0"}
    folder = saelens.save(coder, tmp_path / "sae", about)
    loaded, metadata = saelens.load(folder)
    assert metadata["sae_lens_version"] == saelens.VERSION
    assert type(loaded) is (JumpReLU if isinstance(coder, BatchTopK) else kind)
    assert metadata["hook_name"] == "blocks.1.hook_resid_post"
    assert torch.equal(loaded.encode(x) != 0, coder.encode(x) != 0)
    close(loaded.encode(x), coder.encode(x))
    close(loaded(x), coder(x))
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in loaded.parameters())
    assert loaded.step(x).loss.isfinite()


@pytest.mark.parametrize("kind", [ReLU, JumpReLU, BatchTopK, Matryoshka])
def test_transcoders_there_and_back(kind, tmp_path):
    coder, x = random_coder(kind, d_out=3), inputs()
    folder = saelens.save(coder, tmp_path / "sae")
    config = json.loads((folder / "cfg.json").read_text())
    assert config["architecture"] == ("transcoder" if kind is ReLU else "jumprelu_transcoder")
    assert (config["d_out"], config["apply_b_dec_to_input"]) == (3, False)
    loaded, _ = saelens.load(folder)
    assert loaded.d_out == 3
    close(loaded(x), coder(x))


@pytest.mark.parametrize(("kind", "was"), [(BatchTopK, "batchtopk"), (Matryoshka, "matryoshka_batchtopk")])
def test_what_a_constant_threshold_was(kind, was, tmp_path):
    folder = saelens.save(random_coder(kind), tmp_path / "sae")
    assert json.loads((folder / "cfg.json").read_text())["architecture"] == "jumprelu"
    assert load_file(folder / saelens.WEIGHTS)["threshold"].tolist() == [pytest.approx(0.6)] * N_LATENTS
    loaded, metadata = saelens.load(folder)
    assert metadata["training_architecture"] == was
    assert metadata["training_architecture_details"]["k"] == 4
    again = saelens.load(saelens.save(loaded, tmp_path / "again", metadata))[1]
    assert again == metadata, "a coder that is passed on says what it was"


def test_a_threshold_that_has_not_been_set_is_written_as_zero(tmp_path):
    coder, x = BatchTopK(D_IN, N_LATENTS, k=4), inputs()
    folder = saelens.save(coder, tmp_path / "sae")
    assert load_file(folder / saelens.WEIGHTS)["threshold"].tolist() == [0] * N_LATENTS
    loaded, _ = saelens.load(folder)
    assert isinstance(loaded, JumpReLU)
    assert loaded.threshold.tolist() == [0] * N_LATENTS
    close(loaded(x), coder(x))


def test_half_precision(tmp_path):
    coder, x = random_coder(ReLU), inputs()
    folder = saelens.save(coder, tmp_path / "sae", dtype="float16")
    assert json.loads((folder / "cfg.json").read_text())["dtype"] == "float16"
    assert {tensor.dtype for tensor in load_file(folder / saelens.WEIGHTS).values()} == {torch.float16}
    loaded, _ = saelens.load(folder)
    assert loaded.W_enc.dtype == torch.float32
    assert torch.equal(loaded.W_enc, coder.W_enc.half().float())
    close(loaded(x), coder(x), 0.02)


def test_a_coder_in_float64_is_written_in_float32(tmp_path):
    folder = saelens.save(random_coder(Gated).double(), tmp_path / "sae")
    assert {tensor.dtype for tensor in load_file(folder / saelens.WEIGHTS).values()} == {torch.float32}


@pytest.mark.parametrize("kind", [TopK, Gated])
def test_transcoders_that_saelens_does_not_have(kind, tmp_path):
    with pytest.raises(RefractError, match=f"SAELens has no {kind.architecture} transcoder"):
        saelens.save(random_coder(kind, d_out=3), tmp_path / "sae")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written(tmp_path):
    coder = random_coder(ReLU)
    with pytest.raises(RefractError, match="cannot be written as JSON"):
        saelens.save(coder, tmp_path / "sae", {"path": tmp_path})
    with pytest.raises(RefractError, match="cannot be written as JSON"):
        saelens.save(coder, tmp_path / "sae", {"loss": float("nan")})
    with pytest.raises(RefractError, match="cannot be saved as 'bfloat16'"):
        saelens.save(coder, tmp_path / "sae", dtype="bfloat16")  # type: ignore[arg-type]
    with torch.no_grad():
        coder.b_dec[2] = 1e5
    with pytest.raises(RefractError, match=r"b_dec holds numbers up to 1e\+05, which float16 does not reach"):
        saelens.save(coder, tmp_path / "sae", dtype="float16")
    with torch.no_grad():
        coder.b_dec[2] = float("nan")
    with pytest.raises(RefractError, match="b_dec holds numbers that are not finite"):
        saelens.save(coder, tmp_path / "sae")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    folder = tmp_path / "sae"
    folder.mkdir()
    saelens.save(random_coder(ReLU), folder)  # an empty folder is as good as none
    before = (folder / saelens.WEIGHTS).read_bytes()
    with pytest.raises(RefractError, match="exists already"):
        saelens.save(random_coder(ReLU, seed=1), folder)
    assert (folder / saelens.WEIGHTS).read_bytes() == before
    file = tmp_path / "file"
    file.write_text("mine")
    for target in (file, file / "sae"):
        with pytest.raises(RefractError):
            saelens.save(random_coder(ReLU), target)
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "sae"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(tensors, path):
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saelens, "save_file", full)
    with pytest.raises(RefractError, match="No space left"):
        saelens.save(random_coder(ReLU), tmp_path / "sae")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from refract.sae import saelens
from refract.sae.relu import ReLU

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "weights":
    saelens.save_file = die
else:
    saelens.Path.write_text = die
saelens.save(ReLU(2, 3), sys.argv[1])
"""


@pytest.mark.parametrize("moment", ["weights", "config"])
def test_a_killed_process_leaves_no_folder(moment, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "sae"), moment]
    assert subprocess.run(command, cwd=root(), check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "sae").exists()
    coder, x = random_coder(ReLU), inputs()
    close(saelens.load(saelens.save(coder, tmp_path / "sae"))[0](x), coder(x))


# --- reading: by the formulas of SAELens ---------------------------------------------------------------


def test_their_relu(tmp_path):
    t, x = their_tensors("b_enc"), inputs()
    loaded, metadata = saelens.load(theirs(tmp_path / "sae", "standard", t))
    assert metadata["hook_name"] == "blocks.1.hook_resid_post"
    latents = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    close(loaded.encode(x), latents)
    close(loaded(x), latents @ t["W_dec"] + t["b_dec"])
    assert torch.equal(loaded.W_dec, t["W_dec"]), "rows keep their length"


def test_their_gated(tmp_path):
    t, x = their_tensors("b_gate", "b_mag", "r_mag"), inputs()
    loaded, _ = saelens.load(theirs(tmp_path / "sae", "gated", t))
    centred = x - t["b_dec"]
    latents = (centred @ t["W_enc"] + t["b_gate"] > 0) * (centred @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"]).relu()
    close(loaded.encode(x), latents, 1e-4)


def test_their_jump_relu(tmp_path):
    """A threshold below 0 lets through what is above 0."""
    t, x = their_tensors("b_enc", "threshold"), inputs()
    t["threshold"][:3] = torch.tensor([0.0, -1.0, 2.0])
    loaded, _ = saelens.load(theirs(tmp_path / "sae", "jumprelu", t))
    pre = (x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    close(loaded.encode(x), pre.relu() * (pre > t["threshold"]))
    assert (loaded.encode(x)[:, 1] > 0).any()


def test_their_transcoder(tmp_path):
    t, x = their_tensors("b_enc", d_out=3), inputs()
    folder = theirs(tmp_path / "sae", "transcoder", t, d_out=3, apply_b_dec_to_input=False)
    loaded, _ = saelens.load(folder)
    close(loaded(x), (x @ t["W_enc"] + t["b_enc"]).relu() @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
def test_b_dec_that_is_not_taken_from_the_input(architecture, tmp_path):
    names = {"gated": ("b_gate", "b_mag", "r_mag"), "jumprelu": ("b_enc", "threshold")}.get(architecture, ("b_enc",))
    t, x = their_tensors(*names), inputs()
    folder = theirs(tmp_path / "sae", architecture, t, apply_b_dec_to_input=False, k=4)
    pre = x @ t["W_enc"] + t[names[0]]
    if architecture == "gated":
        latents = (pre > 0) * (x @ t["W_enc"] * t["r_mag"].exp() + t["b_mag"]).relu()
    elif architecture == "jumprelu":
        latents = pre.relu() * (pre > t["threshold"])
    elif architecture == "topk":
        latents = torch.zeros_like(pre).scatter(1, pre.topk(4).indices, pre.topk(4).values.relu())
    else:
        latents = pre.relu()
    loaded, _ = saelens.load(folder)
    close(loaded.encode(x), latents, 1e-4)
    close(loaded(x), latents @ t["W_dec"] + t["b_dec"], 1e-4)


def test_latents_that_are_compared_by_decoder_norm(tmp_path):
    t, x = their_tensors("b_enc"), inputs()
    norms = t["W_dec"].norm(dim=1)
    pre = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * norms
    latents = torch.zeros_like(pre).scatter(1, pre.topk(4).indices, pre.topk(4).values.relu())
    loaded, _ = saelens.load(theirs(tmp_path / "sae", "topk", t, k=4, rescale_acts_by_decoder_norm=True))
    close(loaded.encode(x), latents)
    close(loaded(x), (latents / norms) @ t["W_dec"] + t["b_dec"])
    close(loaded.W_dec.norm(dim=1), torch.ones(N_LATENTS))
    t["W_dec"][3] = 0
    with pytest.raises(RefractError, match="1 decoder rows are zero"):
        saelens.load(theirs(tmp_path / "zero", "topk", t, k=4, rescale_acts_by_decoder_norm=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_becomes_float32(dtype, tmp_path):
    t = {name: tensor.to(dtype) for name, tensor in their_tensors("b_enc").items()}
    loaded, _ = saelens.load(theirs(tmp_path / "sae", "standard", t, dtype=str(dtype)))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.W_dec, t["W_dec"].float())


# --- reading what was written before version 6 -----------------------------------------------------------


def old(folder, tensors, **config):
    theirs(folder, "?", tensors, version=None, model_name="m", hook_point="blocks.1.hook_mlp_out", **config)
    written = json.loads((folder / saelens.CONFIG).read_text())
    if written["architecture"] == "?":
        del written["architecture"]
    (folder / saelens.CONFIG).write_text(json.dumps(written))
    return folder


def test_an_old_folder(tmp_path):
    t, x = their_tensors("b_enc"), inputs()
    more = {**t, "scaling_factor": torch.ones(N_LATENTS)}
    loaded, metadata = saelens.load(old(tmp_path / "sae", more, normalize_activations=False))
    assert metadata == {"model_name": "m", "hook_name": "blocks.1.hook_mlp_out"}
    assert type(loaded) is ReLU
    close(loaded.encode(x), ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu())


def test_an_old_folder_with_the_k_largest(tmp_path):
    settings = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "normalize_activations": None}
    loaded, _ = saelens.load(old(tmp_path / "sae", their_tensors("b_enc"), **settings))
    assert isinstance(loaded, TopK)
    assert loaded.k == 4


@pytest.mark.parametrize(
    ("config", "extra", "message"),
    [
        ({"activation_fn_str": "tanh-relu"}, {}, "standard with tanh-relu"),
        ({"normalize_activations": True}, {}, "expected_average_only_in"),
        ({}, {"scaling_factor": torch.full((N_LATENTS,), 2.0)}, "has scaling_factor beyond what is known"),
    ],
)
def test_old_folders_that_are_refused(config, extra, message, tmp_path):
    with pytest.raises(RefractError, match=message):
        saelens.load(old(tmp_path / "sae", their_tensors("b_enc") | extra, **config))


# --- refusing ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return saelens.save(random_coder(TopK), tmp_path / "sae", {"hook_name": "h"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "matching_pursuit"}, "'matching_pursuit', which is not known here"),
        ({"architecture": None}, "None, which is not known here"),
        ({"architecture": ["topk"]}, "not known here"),
        ({"normalize_activations": "expected_average_only_in"}, "fold_activation_norm_scaling_factor"),
        ({"normalize_activations": "covariance_whitening"}, "fold_activation_whitening"),
        ({"normalize_activations": "layer_norm"}, "'layer_norm'.*\n.*Use this coder in SAELens"),
        ({"normalize_activations": "constant_norm_rescale"}, "'constant_norm_rescale'.*\n.*by its own size"),
        ({"normalize_activations": {"a": 1}}, "are normalised"),
        ({"reshape_activations": "squares"}, "reshaped .'squares'"),
        ({"d_in": 7}, r"W_enc has the shape \(6, 20\); by cfg.json it is \(7, 20\)"),
        ({"d_sae": 10**12}, r"W_enc has the shape \(6, 20\); by cfg.json it is \(6, 1000000000000\)"),
        ({"d_sae": 0}, "says that d_sae is 0"),
        ({"d_in": "6"}, "says that d_in is '6'"),
        ({"d_in": True}, "says that d_in is True"),
        ({"k": None}, "says that k is None"),
        ({"k": 21}, "k = 21 of 20 latents"),
        ({"architecture": "gated"}, "lacks b_gate, b_mag, r_mag and has b_enc beyond what is known"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"architecture": "transcoder"}, "says that d_out is None"),
        ({"architecture": "transcoder", "d_out": 6}, "apply_b_dec_to_input is true"),
        ({"metadata": ["no"]}, "no description"),
    ],
)
def test_a_description_that_is_refused(config, message, folder):
    change_config(folder, **config)
    with pytest.raises(RefractError, match=message):
        saelens.load(folder)


@pytest.mark.parametrize(
    ("absent", "message"), [("architecture", "None, which is not known"), ("apply_b_dec_to_input", "is true, but")]
)
def test_what_version_6_leaves_out(absent, message, tmp_path):
    """An architecture has no default any more; apply_b_dec_to_input is true unless it says otherwise."""
    folder = saelens.save(random_coder(ReLU, d_out=3), tmp_path / "sae")
    config = json.loads((folder / saelens.CONFIG).read_text())
    del config[absent]
    (folder / saelens.CONFIG).write_text(json.dumps(config))
    with pytest.raises(RefractError, match=message):
        saelens.load(folder)


def test_an_unknown_architecture_is_answered_with_the_known_ones(folder):
    change_config(folder, architecture="temporal")
    with pytest.raises(RefractError, match="standard, topk, gated, jumprelu, transcoder, jumprelu_transcoder"):
        saelens.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("b_enc"), "lacks b_enc"),
        (lambda t: t.update(b_enc_2=torch.ones(1)), "has b_enc_2 beyond what is known"),
        (lambda t: t.update(b_enc=torch.ones(1, N_LATENTS)), r"b_enc has the shape \(1, 20\)"),
        (lambda t: t.update(W_enc=t["W_enc"].mT.contiguous()), r"W_enc has the shape \(20, 6\)"),
        (lambda t: t.update(b_dec=torch.full((D_IN,), float("inf"))), "b_dec holds what is no finite number"),
        (lambda t: t.update(b_dec=torch.ones(D_IN, dtype=torch.int32)), "b_dec holds what is no finite number"),
    ],
)
def test_weights_that_are_refused(change, message, folder):
    tensors = load_file(folder / saelens.WEIGHTS)
    change(tensors)
    save_file(tensors, folder / saelens.WEIGHTS)
    with pytest.raises(RefractError, match=message):
        saelens.load(folder)


def test_incomplete_and_damaged_folders(folder, tmp_path):
    config, weights = (folder / saelens.CONFIG).read_bytes(), (folder / saelens.WEIGHTS).read_bytes()
    with pytest.raises(RefractError, match=r"holds no cfg\.json and no sae_weights\.safetensors"):
        saelens.load(tmp_path / "elsewhere")
    for damaged in (config[:-20], b"", b"[]", b"\xff\xfe", b"7"):
        (folder / saelens.CONFIG).write_bytes(damaged)
        with pytest.raises(RefractError, match=r"cfg\.json"):
            saelens.load(folder)
    (folder / saelens.CONFIG).write_bytes(config)
    for damaged in (weights[:-20], weights[:5], b"", b"x" * 100):
        (folder / saelens.WEIGHTS).write_bytes(damaged)
        with pytest.raises(RefractError, match=r"sae_weights\.safetensors cannot be read"):
            saelens.load(folder)
    (folder / saelens.WEIGHTS).unlink()
    with pytest.raises(RefractError, match=r"holds no sae_weights\.safetensors"):
        saelens.load(folder)
