"""Every way to load a language model, what comes back, and what is said when it cannot be loaded."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from refract import bootstrap, checksums, hardware, model_folder, models
from refract.errors import RefractError
from tests.course import model_shop as shop


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    return shop.save_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return shop.save_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(params=["gpt2", "llama"])
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def copy(tmp_path, gpt2) -> Path:
    """A folder that a test may damage."""
    return Path(shutil.copytree(gpt2, tmp_path / "copy"))


def load(folder: Path, dtype: models.Dtype | None = "fp32"):
    return models.load(str(folder), dtype=dtype, device="cpu")


# --- what comes back ---------------------------------------------------------------------------


def judge(model, folder: Path, tokens: torch.Tensor, layer: int) -> None:
    """What the course relies on, on any model: logits, hooks, stopping early, generation."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    hook = f"blocks.{layer - 1}.hook_resid_post"
    with torch.no_grad():
        expected = hf(tokens, output_hidden_states=True)
        logits, cache = model.run_with_cache(tokens)
        torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-3)
        torch.testing.assert_close(cache[hook], expected.hidden_states[layer], rtol=0, atol=1e-3)
        assert torch.equal(model(tokens, stop_at_layer=layer), cache[hook])
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
        torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))

        same = model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda value, hook: value)])
        zero = model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda value, hook: torch.zeros_like(value))])
        assert torch.equal(same, logits)
        assert (zero - logits).abs().max() > 1e-3
        assert torch.equal(model(tokens), logits)  # no hook is left behind

        made = model.generate(tokens[:1], max_new_tokens=4, do_sample=False, verbose=False, stop_at_eos=False)
    greedy = hf.generate(tokens[:1], max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
    assert made.tolist() == greedy.tolist()


def test_logits_hooks_stops_and_generation(folder):
    judge(load(folder), folder, torch.randint(1, 300, (3, 12), generator=torch.Generator().manual_seed(0)), 1)


def test_gradients_flow(folder):
    model = load(folder)
    model(torch.arange(6)[None], return_type="loss").backward()
    # GPT-2 keeps queries, keys and values in one matrix; the bridge computes with copies of its parts.
    without = {name for name, value in model.named_parameters() if value.grad is None and ".qkv." not in name}
    assert without == set()


def test_no_special_token_is_prepended(folder):
    model = load(folder)
    ids = model.tokenizer("a hen").input_ids
    assert model.tokenizer.bos_token_id not in ids
    assert model.to_tokens("a hen").tolist() == [ids]
    with torch.no_grad():
        assert torch.equal(model("a hen"), model(torch.tensor([ids])))
        made = model.generate("a hen", max_new_tokens=1, do_sample=False, verbose=False, return_type="tokens")
    assert made[0, :-1].tolist() == ids


def test_a_tokenizer_that_prepends_by_itself_is_left_as_it_is_and_stripped(copy):
    """Some models' own tokenizers begin every text: `model.tokenizer` is theirs, the model sees the bare text."""
    shop.tokenizer(add_bos_token=True).save_pretrained(copy)  # type: ignore[arg-type]
    model = load(copy)
    plain = model.tokenizer("a hen", add_special_tokens=False).input_ids
    assert model.tokenizer("a hen").input_ids == [0, *plain]
    assert model.to_tokens("a hen").tolist() == [plain]


def test_several_texts_are_padded(folder):
    assert load(folder).to_tokens(["a hen", "the fox sees eggs"]).shape[0] == 2


# --- identity and precision --------------------------------------------------------------------


def test_identity_is_the_hash_of_the_weights(folder, tmp_path):
    model = load(folder)
    expected = checksums.sha256(folder / "model.safetensors")
    assert models.identity(model) == models.Identity(folder.name, expected, "fp32")
    moved = Path(shutil.copytree(folder, tmp_path / folder.name))
    assert models.identity(load(moved)) == models.identity(model)
    with pytest.raises(RefractError, match=r"not loaded by refract\.models\.load"):
        models.identity(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_weights_in_several_files(tmp_path):
    folder = shop.save_gpt2(tmp_path / "parts", max_shard_size="20KB")
    parts = sorted(folder.glob("*.safetensors"))
    assert len(parts) > 1
    model = load(folder)
    single = load(shop.save_gpt2(tmp_path / "one"))
    with torch.no_grad():
        assert torch.equal(model(torch.arange(5)[None]), single(torch.arange(5)[None]))
    before = models.identity(model)
    assert before.revision != models.identity(single).revision
    parts[0].unlink()
    with pytest.raises(RefractError, match=f"Missing: {parts[0].name}"):
        load(folder)
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(RefractError, match=r"index\.json is damaged"):
        load(folder)


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_the_precision_is_the_fastest_that_works(gpt2, monkeypatch, fast, expected):
    monkeypatch.setattr(hardware, "bf16", lambda device: hardware.Verdict(fast, "of a test"))
    model = load(gpt2, None)
    assert models.identity(model).dtype == expected
    assert {parameter.dtype for parameter in model.parameters()} == {
        {"fp32": torch.float32, "bf16": torch.bfloat16}[expected]
    }
    assert models.identity(load(gpt2, "fp32")).dtype == "fp32"
    if fast:
        assert models.identity(load(gpt2, "bf16")).dtype == "bf16"
    else:
        with pytest.raises(RefractError, match="bf16 is not used on this machine: of a test") as caught:
            load(gpt2, "bf16")
        assert "fp32" in caught.value.remedy


def test_other_precisions_and_devices_are_refused(gpt2):
    with pytest.raises(RefractError, match="no dtype 'fp16'"):
        models.load(str(gpt2), dtype="fp16")  # type: ignore[arg-type]
    for device in ("gpu", "cuda:77", "meat"):
        with pytest.raises(RefractError, match=f"no device '{device}'"):
            models.load(str(gpt2), dtype="fp32", device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_used_where_there_is_one(gpt2):
    model = models.load(gpt2, dtype="fp32")
    assert str(model.cfg.device).startswith("cuda")
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.arange(9)[None].cuda()).cpu(), load(gpt2)(torch.arange(9)[None]), rtol=0, atol=1e-3
        )


# --- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_says_what_is_missing(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(RefractError, match=f"not a whole model in Hugging Face format. Missing: .*{missing}"):
        load(copy)


def test_an_empty_folder_says_all_that_is_missing(tmp_path):
    with pytest.raises(RefractError, match=r"config\.json, a tokenizer \(tokenizer\.json\), weights"):
        load(tmp_path)


def test_a_weights_file_cut_short(copy):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(RefractError, match="are damaged"):
        load(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_text_file(copy, name, content):
    (copy / name).write_text(content)
    with pytest.raises(RefractError, match="cannot load copy from"):
        load(copy)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RefractError, match=r"1 tensors are missing .* transformer\.h\.1\.mlp\.c_fc\.weight"):
        load(copy)


def test_weights_of_another_size(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 400}))
    with pytest.raises(RefractError):
        load(copy)


def test_a_folder_with_checksums_is_held_to_them(copy):
    checksums.write(copy)
    load(copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    with pytest.raises(RefractError, match=r"model\.safetensors is damaged: its SHA-256"):
        load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(RefractError, match="Missing: weights"):
        load(copy)


def test_checksums_are_those_of_the_usual_tool(copy):
    import subprocess

    checksums.write(copy)
    checksums.write(copy)  # the list is not in the list
    done = subprocess.run(["sha256sum", "-c", "--strict", checksums.NAME], cwd=copy, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b"OK") == len(list(copy.iterdir())) - 1
    (copy / "config.json").unlink()
    with pytest.raises(RefractError, match=r"incomplete: config\.json is missing"):
        checksums.verify(copy)
    (copy / checksums.NAME).write_text("nonsense")
    with pytest.raises(RefractError, match="cannot be read"):
        checksums.verify(copy)


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere-at-all", "a/b/c", "models\\tiny"])
def test_a_path_that_leads_nowhere_asks_no_hub(name):
    with pytest.raises(RefractError, match="There is no folder"):
        models.load(name, dtype="fp32")


def test_the_course_s_model_is_a_folder_under_assets(tmp_path, gpt2, monkeypatch):
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    with pytest.raises(RefractError, match="The course's model is not in") as caught:
        models.load("course", dtype="fp32")
    assert "git pull" in caught.value.remedy
    shutil.copytree(gpt2, tmp_path / "assets/course_model")
    model = models.load("course", dtype="fp32", device="cpu")
    assert models.identity(model) == models.Identity("course", checksums.sha256(gpt2 / "model.safetensors"), "fp32")


def test_missing_packages_are_named_with_the_command(gpt2, monkeypatch):
    monkeypatch.setattr(
        bootstrap, "missing", lambda *extras: ["transformer-lens>=4.3,<5"] if "models" in extras else []
    )
    with pytest.raises(RefractError, match="not installed here: transformer-lens") as caught:
        load(gpt2)
    assert '-m pip install "transformer-lens>=4.3,<5"' in caught.value.remedy


def test_a_model_that_is_no_decoder(tmp_path):
    from transformers import T5Config

    T5Config(vocab_size=320, d_model=16, num_layers=1).save_pretrained(tmp_path)
    shop.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(RefractError, match="cannot load"):
        load(tmp_path)


def test_older_weights_beside_safetensors_are_not_asked_for(copy):
    (copy / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}')
    model_folder.complete(copy)


# --- imports and the network -------------------------------------------------------------------

ALONE = """
import sys
import refract.models
heavy = {{"torch", "transformers", "transformer_lens", "huggingface_hub", "safetensors"}} & sys.modules.keys()
assert not heavy, heavy

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{{event}} {{arguments}}")

sys.addaudithook(refuse)
model = refract.models.load({folder!r}, dtype="fp32", device="cpu")
print(model.generate("a hen", max_new_tokens=2, verbose=False)[:5])
"""


def test_importing_loads_nothing_heavy_and_loading_a_folder_asks_no_network(gpt2):
    assert "a hen" in shop.finish(shop.start(ALONE.format(folder=str(gpt2))))


# --- SmolLM2's way, with a tiny model in its place ---------------------------------------------


@pytest.fixture(scope="module")
def parcel(tmp_path_factory):
    """A wheel with a tiny GGUF file, and its content."""
    folder = tmp_path_factory.mktemp("parcel")
    wheel = shop.write_wheel(folder, shop.write_gguf(folder / "tiny.gguf").read_bytes())
    return wheel, (folder / wheel.filename).read_bytes()


SLOW = """
import time
from refract import gguf, models
from refract.wheels import Wheel
models.SMOLLM2 = {wheel!r}
models._CONVERTED_SIZE = 0
convert = gguf.convert
def slowly(*given, **how):
    convert(*given, **how)
    print("converting", flush=True)
    time.sleep({seconds})
gguf.convert = slowly
print(models.smollm2())
"""


def test_two_at_once_convert_once(tmp_path, parcel):
    wheel, content = parcel
    with shop.serving() as server:
        environment = shop.as_pypi(server, wheel, content) | {"REFRACT_CACHE": str(tmp_path)}
        both = [shop.start(SLOW.format(seconds=2, wheel=wheel), **environment) for _ in range(2)]
        said = [shop.finish(process) for process in both]
        asked = [path for path in server.asked if path.startswith("GET /files/")]
    assert len(asked) == 1
    assert sorted(text.count("converting") for text in said) == [0, 1]
    assert all(text.endswith(f"{tmp_path / models._CONVERTED}\n") for text in said)


def test_killed_half_way_then_repeated_without_a_network_then_damaged_and_mended(tmp_path, parcel, monkeypatch, capsys):
    wheel, content = parcel
    with shop.serving() as server:
        environment = shop.as_pypi(server, wheel, content) | {"REFRACT_CACHE": str(tmp_path)}
        process = shop.start(SLOW.format(seconds=60, wheel=wheel), **environment)
        assert process.stdout is not None
        while process.stdout.readline().strip() != "converting":
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    folder = tmp_path / models._CONVERTED
    assert not folder.exists()
    assert list(tmp_path.glob("*.partial"))

    for name, value in shop.pip_to("http://127.0.0.1:1/simple").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REFRACT_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "SMOLLM2", wheel)
    monkeypatch.setattr(models, "_CONVERTED_SIZE", 0)

    def load() -> str:
        model = models.load("smollm2", dtype="fp32", device="cpu")
        assert models.identity(model) == models.Identity("smollm2", wheel.member_sha256, "fp32")
        return capsys.readouterr().out

    assert "Preparing SmolLM2" in load()
    assert not list(tmp_path.glob("*.partial"))
    assert not list(folder.glob("*.gguf"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    said = load()
    assert "is damaged" in said
    assert "It is made again." in said
    assert load() == ""


# --- SmolLM2 itself ----------------------------------------------------------------------------

TEXT = "The Eiffel Tower is located in the city of"


@pytest.mark.heavy
def test_smollm2():
    """Fetched once into the user's own cache; then loaded from files alone."""
    folder = models.smollm2()
    model = models.load("smollm2", dtype="fp32", device="cpu")
    assert models.identity(model) == models.Identity("smollm2", models.SMOLLM2.member_sha256, "fp32")
    assert (model.cfg.n_layers, model.cfg.d_model, model.cfg.d_vocab) == (30, 576, 49152)
    # The ids that SmolLM2 was trained with: digits alone, double spaces whole, <|endoftext|> is 0.
    assert model.tokenizer("<|endoftext|>").input_ids == [0]
    assert model.tokenizer.tokenize("In 2021, x =  7") == ["In", "Ġ", "2", "0", "2", "1", ",", "Ġx", "Ġ=", "ĠĠ", "7"]
    tokens = model.tokenizer([TEXT, "def add(a, b):\n    return a + b"], return_tensors="pt", padding=True).input_ids
    judge(model, folder, tokens[:, :9], 10)
    with torch.no_grad():
        assert str(model.generate(TEXT, max_new_tokens=2, do_sample=False, verbose=False)).endswith(" Paris,")
        loss = model(model.tokenizer(TEXT + " Paris, France.", return_tensors="pt").input_ids, return_type="loss")
    assert 1.0 < loss.item() < 3.0
