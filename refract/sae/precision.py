"""bf16 inside the products of dense coders: where the hardware is fast at it, and where the loss agrees.

A ReLU or gated coder computes every latent and decodes every latent. torch's autocast does these products in bf16;
parameters, what is added up, losses and the optimizer stay in fp32. Two kinds of coder stay out:

- The TopK family: it needs few products, and a shortlist to know which (see ``shortlist``).
- JumpReLU: its threshold learns from the pre-activations within half a bandwidth of it, and bf16 leaves few numbers
  there.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from refract import hardware
from refract.sae.coder import SparseCoder
from refract.sae.gated import Gated
from refract.sae.relu import ReLU

AGREEMENT = 0.01
"""How far the losses in bf16 and in fp32 may be from each other, relative to that in fp32."""

Numbers = Literal["fp32", "bf16"]


def best_numbers(coder: SparseCoder, x: Tensor, y: Tensor | None = None) -> Numbers:
    """What the products of a coder's step should be computed in on this device, as this batch tells."""
    if not isinstance(coder, (ReLU, Gated)) or x.dtype != torch.float32 or not hardware.bf16(x.device).fast:
        return "fp32"
    with torch.no_grad():
        exact = coder.step(x, y).loss
        with products_in("bf16", x.device):
            rough = coder.step(x, y).loss
    return "bf16" if bool((rough - exact).abs() <= AGREEMENT * exact.abs()) else "fp32"


def products_in(numbers: Numbers, device: torch.device) -> torch.autocast:
    """A context in which matrix products are computed in these numbers."""
    return torch.autocast(device.type, torch.bfloat16, enabled=numbers == "bf16")
