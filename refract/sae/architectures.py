"""The architectures by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from refract import names
from refract.errors import RefractError
from refract.sae import config
from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.coder import SparseCoder
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU
from refract.sae.relu import ReLU
from refract.sae.topk import TopK

ARCHITECTURES: dict[str, type[SparseCoder]] = {
    kind.architecture: kind for kind in (ReLU, Gated, JumpReLU, TopK, BatchTopK, Matryoshka)
}

_INSTEAD = {"k": "sparsity", "sparsity": "k"}


def make(
    architecture: str,
    d_in: int,
    n_latents: int,
    settings: Mapping[str, Any] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> SparseCoder:
    """A new coder; ``settings`` are the architecture's own, such as ``{"k": 32}``."""
    if architecture not in ARCHITECTURES:
        raise RefractError(
            f"There is no architecture called {architecture!r}.",
            f"{names.suggestion(architecture, ARCHITECTURES)}Choose one of {', '.join(ARCHITECTURES)}.",
        )
    kind = ARCHITECTURES[architecture]
    known = settings_of(architecture)
    for name, value in (settings or {}).items():
        if name not in (*known, "d_out"):  # a transcoder's, from the hooks
            other = _INSTEAD.get(name)
            hint = (
                f"Here L0 is set with {other}. " if other in known else names.suggestion(name, [*known, *config.NAMES])
            )
            raise RefractError(
                f"The architecture {architecture!r} has no setting {name!r}.", f"{hint}It has: {', '.join(known)}."
            )
        if isinstance(value, str):
            raise RefractError(f"{name} = {value!r} cannot be.", "It should be a number, or true or false.")
    return kind(d_in, n_latents, generator=generator, **(settings or {}))


def settings_of(architecture: str) -> list[str]:
    """The names of the settings that an architecture takes, its own first."""
    kind = ARCHITECTURES[architecture]
    found = [name for cls in kind.__mro__ if issubclass(cls, SparseCoder) for name in inspect.signature(cls).parameters]
    others = ("d_in", "d_out", "n_latents", "generator", "top_k", "common")
    return [name for name in dict.fromkeys(found) if name not in others]
