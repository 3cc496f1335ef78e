"""A tiny bridge, contexts made by hand, and a harvest that can be killed: shared by the tests of activations."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from refract.data import Contexts
from refract.models import Identity
from refract.sae.activations import Store, harvest

N_CTX, VOCAB = 12, 50
ROWS = 432  # that ``gather`` harvests
RESIDUAL, MIDDLE, HEADS = "blocks.0.hook_resid_post", "blocks.1.hook_resid_mid", "blocks.0.attn.hook_z"


IDENTITY = Identity("tiny", "0123abcd", "fp32")


def bridge(seed: int = 0, **changes) -> TransformerBridge:
    sizes = {"d_model": 16, "d_head": 8, "n_heads": 2, "n_layers": 2, "n_ctx": N_CTX, "d_vocab": VOCAB, "d_mlp": 32}
    torch.manual_seed(seed)
    config = TransformerBridgeConfig(**(sizes | changes), act_fn="gelu", normalization_type="LN", seed=seed)
    return TransformerBridge.boot_native(config)  # type: ignore[attr-defined]


@functools.cache
def shared() -> TransformerBridge:
    """One bridge for all who do not change it."""
    return bridge()


def text(count: int, *, seed: int = 0, n_ctx: int = N_CTX, special: float = 0.1) -> Contexts:
    """Random tokens, one in ten a separator; each document ends at its separator."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, VOCAB, (count, n_ctx), generator=random)
    separators = torch.rand(count, n_ctx, generator=random) < special
    tokens[separators] = 0
    document = (separators.flatten().cumsum(0) - separators.flatten().long()).view(count, n_ctx)
    start = torch.arange(count * n_ctx).view(count, n_ctx)
    end = start + 2
    start[separators] = end[separators] = -1
    return Contexts(tokens, document.int(), start.int(), end.int())


def pieces(contexts: Contexts, size: int = 5) -> list[Contexts]:
    return [
        Contexts(*(column[begin : begin + size] for column in contexts))
        for begin in range(0, len(contexts.tokens), size)
    ]


def gather(
    folder: Path, *, contexts: Contexts | Iterable[Contexts] | None = None, model: Any = None, **settings: Any
) -> Store:
    """A harvest of 40 contexts in five shards of 8, unless told otherwise."""
    usual: dict[str, Any] = {
        "identity": IDENTITY,
        "hooks": [RESIDUAL, MIDDLE],
        "source": "random",
        "batch": 4,
        "shard_rows": 8 * N_CTX,
        "dtype": "float32",
    }
    contexts = text(40) if contexts is None else contexts
    contexts = pieces(contexts) if isinstance(contexts, Contexts) else contexts
    return harvest(model or shared(), contexts, folder=folder, **(usual | settings))


def _kill_at(moment: int) -> None:
    """Kill this process, as with kill -9, at one of the moments in which a harvest touches the disk."""
    met = 0
    replace, fsync = os.replace, os.fsync

    def count() -> None:
        nonlocal met
        met += 1
        if met == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def killing_fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if met + 1 == moment:
            os.ftruncate(descriptor, size // 2)  # as if it were still being written
        count()
        fsync(descriptor)

    def killing_replace(*names) -> None:
        count()
        replace(*names)
        count()

    os.replace, os.fsync = killing_replace, killing_fsync  # type: ignore[assignment]


def _kill_and_go_on(folder: Path) -> None:
    """At every moment in turn: a harvest in a process that is killed then, and the same harvest gone on with here."""
    small: dict[str, Any] = {"contexts": text(10), "hooks": RESIDUAL, "shard_rows": 4 * N_CTX}  # three shards
    for moment in itertools.count(1):
        child = os.fork()
        if child == 0:
            _kill_at(moment)
            gather(folder / f"{moment:03d}", **small)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            (folder / f"{moment:03d}").rename(folder / "whole")
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        gather(folder / f"{moment:03d}", **small)


def _wait_in_the_middle(folder: Path) -> None:
    def on_progress(stage: str, done: int, total: int | None) -> None:
        if done > ROWS // 2:  # two shards are written, and a third is not
            time.sleep(600)

    gather(folder, on_progress=on_progress)


if __name__ == "__main__":
    torch.set_num_threads(1)  # a forked process has no other threads
    {"kill": _kill_and_go_on, "wait": _wait_in_the_middle}[sys.argv[1]](Path(sys.argv[2]))
