"""A model from the hub, by the very code that runs online, against a server that answers like it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from refract import hub
from refract.errors import RefractError
from tests.course import model_shop as shop

NAME = "refract-test/tiny-gpt2"
COMMIT = "c0ffee" + "0" * 34


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = shop.save_gpt2(tmp_path_factory.mktemp("hub") / "model")
    (folder / "consolidated.safetensors").write_bytes(b"the same again, in another format")
    return folder


@pytest.fixture
def server(original):
    with shop.serving() as running:
        shop.as_hub(running, NAME, original, COMMIT)
        yield running


LOAD = """
import json, time
from refract import models
from refract.errors import RefractError
import torch
for name in {names!r}:
    began = time.perf_counter()
    try:
        model = models.load(name, dtype="fp32", device="cpu")
        with torch.no_grad():
            logits = model(torch.arange(8)[None])
        who = vars(models.identity(model))
        print(json.dumps([list(who.values()), logits.sum().item(), logits.abs().mean().item()]))
    except RefractError as error:
        print(json.dumps(["refused", str(error), time.perf_counter() - began]))
"""


def load(names: list[str], home: Path, endpoint: str) -> list:
    """What a new process, led to this hub, says of each of these models."""
    process = shop.start(LOAD.format(names=names), HF_ENDPOINT=endpoint, HF_HOME=str(home), REFRACT_CACHE=str(home))
    return [json.loads(line) for line in shop.finish(process).splitlines()]


@pytest.mark.heavy
def test_online_once_then_offline(tmp_path, server, original):
    import torch
    from transformers import GPT2LMHeadModel

    (online,) = load([NAME], tmp_path, server.address)
    assert online[0] == [NAME, COMMIT, "fp32"]
    with torch.no_grad():
        expected = GPT2LMHeadModel.from_pretrained(original)(torch.arange(8)[None]).logits
    assert online[1] == pytest.approx(expected.sum().item(), abs=1e-3)
    assert online[2] == pytest.approx(expected.abs().mean().item(), abs=1e-4)
    fetched = {path.rsplit("/", maxsplit=1)[-1] for path in server.asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert "consolidated.safetensors" not in fetched

    offline, refused = load([NAME, "refract-test/another"], tmp_path, "http://127.0.0.1:1")
    assert offline == online
    assert refused[0] == "refused"
    assert (
        "The Hugging Face hub cannot be reached, and 'refract-test/another' has not been fetched before" in refused[1]
    )
    assert "'smollm2', which needs no hub" in refused[1]
    assert refused[2] < 30


@pytest.mark.heavy
def test_a_download_that_breaks_off_can_be_repeated(tmp_path, server):
    server.fault = "half"
    (first,) = load([NAME], tmp_path, server.address)
    assert first[0] == "refused"
    assert f"Fetching {NAME} from the hub failed" in first[1]
    server.fault = ""
    assert load([NAME], tmp_path, server.address)[0][0] == [NAME, COMMIT, "fp32"]


@pytest.fixture
def here(server, monkeypatch, tmp_path):
    """The same server for this process; enough for what ends before a file is fetched."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return server


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("smolm2", "'smollm2'"),
        ("EleutherAI/pythia-70n", "'EleutherAI/pythia-70m'"),
        ("gpt3-small", "'gpt2-small'"),
        ("refract-test/nothing-like-it-anywhere", None),
    ],
)
def test_an_unknown_name_is_refused_with_a_guess(here, name, guess):
    with pytest.raises(RefractError, match="has no model called") as caught:
        hub.fetch(name, also=("smollm2", "course"))
    if guess:
        assert "Did you mean" in caught.value.remedy
        assert guess in caught.value.remedy
    else:
        assert "Did you mean" not in caught.value.remedy


def test_a_name_that_cannot_be_one(here):
    with pytest.raises(RefractError, match="has no model called"):
        hub.fetch("a b?c")
    assert here.asked == []


def test_a_model_that_asks_for_consent(here):
    here.refused["/api/models/refract-test/gated"] = (403, "GatedRepo")
    with pytest.raises(RefractError, match="asks for your consent") as caught:
        hub.fetch("refract-test/gated")
    assert "hf auth login" in caught.value.remedy


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_down(here, status):
    here.refused[f"/api/models/{NAME}"] = (status, "")
    with pytest.raises(RefractError, match="cannot be reached"):
        hub.fetch(NAME)


def test_a_network_that_swallows_everything_is_given_up(here, monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    here.fault = "silent"
    began = time.perf_counter()
    with pytest.raises(RefractError, match="cannot be reached") as caught:
        hub.fetch("refract-test/another", also=("smollm2",))
    assert time.perf_counter() - began < 20
    assert "smollm2" in caught.value.remedy


def test_short_names_are_transformer_lens_s(here):
    here.refused["/api/models/EleutherAI/pythia-70m"] = (503, "")
    with pytest.raises(RefractError, match="'EleutherAI/pythia-70m' has not been fetched before"):
        hub.fetch("pythia-70m")
