"""Sparse coders in the middle of training, shared by the tests of what is done with them."""

from __future__ import annotations

from typing import Any

import torch

from refract.sae.batch_topk import BatchTopK, Matryoshka
from refract.sae.coder import SparseCoder
from refract.sae.jumprelu import JumpReLU
from refract.sae.topk import TopK


def random_coder(
    kind: type[SparseCoder], d_in: int, n_latents: int, *, seed: int = 0, dtype=torch.float32, **settings: Any
) -> Any:
    """No bias is zero, encoder and decoder differ, thresholds differ; decoder rows have unit length."""
    usual: dict[str, Any] = {}
    if issubclass(kind, TopK):
        usual["k"] = 4
    if issubclass(kind, Matryoshka):
        usual["prefixes"] = (0.25, 1.0)
    if kind is JumpReLU:
        usual["bandwidth"] = 0.2
    generator = torch.Generator().manual_seed(seed)
    coder = kind(d_in, n_latents, generator=generator, **usual | settings).to(dtype)
    with torch.no_grad():
        for name, parameter in coder.named_parameters():
            if name != "W_dec":
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        if isinstance(coder, BatchTopK):
            coder.threshold.fill_(0.6)
    return coder
