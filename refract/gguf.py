"""From llama.cpp's GGUF format to a folder in Hugging Face format, for Llama models with SmolLM's tokenizer.

transformers reads GGUF files too. For this model it reads the file three times, and it leaves out that the tokenizer
splits numbers into digits (``tokenizer.ggml.pre`` is "smollm"), so that "  7" or "x 2" can get other tokens than the
model was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from refract.errors import RefractError

_WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL = 3  # llama.cpp's type of a token that no text contains


def convert(file: Path, folder: Path, *, bar: bool = True) -> None:
    """Write ``config.json``, ``model.safetensors`` (fp32) and the tokenizer's files into the folder.

    Raises:
        RefractError: the file is no GGUF file, or holds a model of another kind.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise RefractError(f"{file} is not a whole GGUF file: {error}", "Fetch it again.") from error
    facts = {name: field.contents() for name, field in reader.fields.items()}
    kind = tuple(facts.get(name) for name in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"))
    if kind != ("llama", "gpt2", "smollm"):
        raise RefractError(
            f"{file} holds a model of another kind: {', '.join(map(str, kind))}.",
            "Only Llama models with SmolLM's tokenizer are converted. Load others in Hugging Face format.",
        )
    _tokenizer(facts).save_pretrained(folder)
    config = _config(facts, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
    config.save_pretrained(folder)
    weights = _weights(reader.tensors, config.num_attention_heads, config.num_key_value_heads, bar=bar)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _config(facts: dict[str, Any], *, tied: bool) -> Any:
    from transformers import LlamaConfig

    def fact(name: str) -> Any:
        return facts[f"llama.{name}"]

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=len(facts["tokenizer.ggml.tokens"]),
        hidden_size=fact("embedding_length"),
        intermediate_size=fact("feed_forward_length"),
        num_hidden_layers=fact("block_count"),
        num_attention_heads=fact("attention.head_count"),
        num_key_value_heads=fact("attention.head_count_kv"),
        max_position_embeddings=fact("context_length"),
        rms_norm_eps=fact("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": fact("rope.freq_base")},
        tie_word_embeddings=tied,
        bos_token_id=facts["tokenizer.ggml.bos_token_id"],
        eos_token_id=facts["tokenizer.ggml.eos_token_id"],
        pad_token_id=facts["tokenizer.ggml.padding_token_id"],
    )


def _weights(tensors: Iterable[Any], n_heads: int, n_key_value_heads: int, *, bar: bool) -> dict[str, np.ndarray]:
    """Every tensor in fp32 under its Hugging Face name."""
    from gguf import dequantize
    from tqdm import tqdm

    weights = {}
    for tensor in tqdm(list(tensors), desc="Converting", unit="tensor", disable=not bar):
        weight = dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            weight = halves(weight, n_heads)
        elif ".attn_k." in tensor.name:
            weight = halves(weight, n_key_value_heads)
        weights[renamed(tensor.name)] = np.ascontiguousarray(weight)
    return weights


def halves(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Put the rows of each head in the order that Hugging Face's rotary embedding expects.

    It turns row j together with row j + d_head / 2; llama.cpp turns neighbours, and its files interleave the halves.
    """
    rows, columns = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def renamed(name: str) -> str:
    """The Hugging Face name of a tensor."""
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if block and block[2] in _BLOCK:
        return f"model.layers.{block[1]}.{_BLOCK[block[2]]}.weight"
    stem = name.removesuffix(".weight")
    if stem not in _WHOLE:
        raise RefractError(f"The GGUF file has a tensor of an unknown kind: {name}.", "Load another model.")
    return f"{_WHOLE[stem]}.weight"


def _tokenizer(facts: dict[str, Any]) -> Any:
    """A fast tokenizer: byte-level BPE that splits numbers into digits first. It adds no special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = facts["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[facts["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[facts["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[facts["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[facts["tokenizer.ggml.padding_token_id"]],
        chat_template=facts.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )
