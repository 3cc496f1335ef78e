"""How much of the variance that a coder leaves over is due to latents of the wrong size.

    python -m benchmarks.shrinkage RUN --activations FOLDER

RUN is the folder of a trained autoencoder, FOLDER has the stores `train` and `held-out` of its activations. Which
latents are active, and the decoder's directions, stay as they are; one factor for each latent, and the bias, are fitted
on rows of `train`, by least squares. What the held-out fraction of variance explained gains by them is what size alone
costs; what is still left over is the fault of which latents are active, and of their directions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from refract.sae.activations import Store
from refract.sae.coder import SparseCoder
from refract.sae.metrics import VarianceExplained
from refract.sae.run import newest


@torch.no_grad()
def best_factors(
    coder: SparseCoder, x: Float[Tensor, "row d_in"]
) -> tuple[Float[Tensor, "latent"], Float[Tensor, "d_in"]]:
    """The factors s and the bias b with the least ‖(s ⊙ f) W_dec + b - x‖²: for each latent, 1 if its size is right.

    With latents and rows about their means, s solves (fᵀf ⊙ W Wᵀ) s = diag(W xᵀ f). A latent that is silent has 1.
    """
    latents, W = coder.encode(x).double(), coder.W_dec.double()
    centre, middle = latents.mean(dim=0), x.double().mean(dim=0)
    latents = latents - centre
    gram = (latents.T @ latents) * (W @ W.T)
    target = ((x.double() - middle).T @ latents * W.T).sum(dim=0)
    used = gram.diagonal() > 0
    factors = torch.ones_like(target)
    factors[used] = torch.linalg.lstsq(gram[used][:, used], target[used, None]).solution.squeeze(1)
    return factors.to(x.dtype), (middle - (factors * centre) @ W).to(x.dtype)


def main() -> None:
    """Print a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--activations", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=65_536, help="To fit the factors on.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    coder, (normalisation,), state = newest(arguments.run)
    train, held_out = (Store.open(arguments.activations / split) for split in ("train", "held-out"))
    rows = torch.linspace(0, train.rows - 1, min(arguments.rows, train.rows)).long()
    factors, bias = best_factors(coder, normalisation(train.take(rows)))
    as_is, resized = VarianceExplained(), VarianceExplained()
    with torch.no_grad():
        for x in normalisation(held_out.take(torch.arange(held_out.rows))).split(2048):
            latents = coder.encode(x)
            as_is.update(x, coder.decode(latents))
            resized.update(x, (latents * factors) @ coder.W_dec + bias)
    name = state["config"]["architecture"]
    print(f"| {name} | {as_is.result():.3f} | {resized.result():.3f} | {float(factors.median()):.2f} |")


if __name__ == "__main__":
    main()
