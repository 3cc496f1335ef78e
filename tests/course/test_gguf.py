"""The conversion from GGUF, against transformers' own and against the definitions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from refract import gguf
from refract.errors import RefractError
from tests.course import model_shop as shop


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return shop.write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("converted")
    gguf.convert(file, made, bar=False)
    return made


def test_every_weight_and_logit_is_what_transformers_reads(file, folder, monkeypatch):
    from transformers import LlamaForCausalLM

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ours = LlamaForCausalLM.from_pretrained(folder)
    theirs = LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, value in ours.state_dict().items():
        assert value.dtype == torch.float32
        assert value.std() > 0.05, name  # not an initial value
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)
    tokens = torch.arange(20).reshape(2, 10)
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=0, atol=0)
    for name in ("vocab_size", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "eos_token_id", "head_dim"):
        assert getattr(ours.config, name) == getattr(theirs.config, name), name


def test_heads_are_put_in_halves():
    """One head with 3 pairs: rows a0 b0 a1 b1 a2 b2 become a0 a1 a2 b0 b1 b2. Two heads: each by itself."""
    weight = np.array([[0], [10], [1], [11], [2], [12]])
    assert gguf.halves(weight, 1).ravel().tolist() == [0, 1, 2, 10, 11, 12]
    both = np.concatenate([weight, weight + 100])
    assert gguf.halves(both, 2).ravel().tolist() == [0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112]


def test_the_tokenizer_splits_numbers_first_and_adds_nothing(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("sees  7 12") == [
        *tokenizer.tokenize("sees"),
        *tokenizer.tokenize("  "),
        "7",
        "Ġ",
        "1",
        "2",
    ]
    assert len(tokenizer("a hen").input_ids) == len(tokenizer.tokenize("a hen")) > 1
    assert tokenizer("<|end|>").input_ids == [0]
    control = tokenizer("a<|tool|>hen").input_ids
    assert len(tokenizer) - 1 in control
    assert tokenizer.decode(control, skip_special_tokens=True) == "ahen"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|end|>"
    for text in [*shop.TEXT, "Ünïcode 😀", "  tabs\tand\n\nlines  ", "1234567890"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_folder_holds_nothing_of_this_machine(file, folder):
    for path in folder.glob("*.json"):
        assert str(file.parent.parent) not in path.read_text(), path
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("length", [0, 3, 100, 5000])
def test_a_file_cut_short_is_refused(tmp_path, file, length):
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:length])
    with pytest.raises(RefractError, match="is not a whole GGUF file"):
        gguf.convert(tmp_path / "cut.gguf", tmp_path, bar=False)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"architecture": "phi3"}, "a model of another kind: phi3, gpt2, smollm"),
        ({"pre": "llama-bpe"}, "a model of another kind: llama, gpt2, llama-bpe"),
        ({"extra": "blk.0.mystery.weight"}, "of an unknown kind: blk.0.mystery.weight"),
        ({"extra": "mystery"}, "of an unknown kind: mystery"),
    ],
)
def test_other_models_are_refused(tmp_path, how, message):
    with pytest.raises(RefractError, match=message):
        gguf.convert(shop.write_gguf(tmp_path / "other.gguf", **how), tmp_path, bar=False)


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path, file, capsys):
    gguf.convert(file, tmp_path, bar=True)
    assert "Converting: 100%" in capsys.readouterr().err
    gguf.convert(file, tmp_path, bar=False)
    assert capsys.readouterr().err == ""


def test_importing_it_loads_nothing_heavy():
    script = "import sys, refract.gguf; sys.exit(bool({'torch', 'transformers', 'gguf'} & sys.modules.keys()))"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", script) == 0
