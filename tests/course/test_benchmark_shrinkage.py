"""The benchmark of shrinkage finds by how much latents are too small."""

import torch

from benchmarks.shrinkage import best_factors
from refract.sae.relu import ReLU


def test_factors_undo_what_made_the_latents_too_small(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    coder = ReLU(6, 6, generator=generator)
    right = torch.rand(6, generator=generator) + 0.5
    with torch.no_grad():
        coder.W_enc.copy_(torch.randn(6, 6, generator=generator))
        coder.b_enc[5] = -1e6  # never active: nothing to fit
        latents = torch.randn(500, 6, generator=generator)
        x = (coder.encode(latents) * right) @ coder.W_dec + 3.0
        # What the coder reads decides only which sizes it gives; x is made of them with other factors.
        monkeypatch.setattr(coder, "encode", lambda given: ReLU.encode(coder, latents))
        factors, bias = best_factors(coder, x)
    assert torch.allclose(factors[:5], right[:5], atol=1e-4) and factors[5] == 1
    assert torch.allclose(bias, torch.full((6,), 3.0), atol=1e-3)
