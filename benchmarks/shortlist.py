"""How often the shortlist of a rough product misses an active latent, on activations of a language model.

    python -m benchmarks.shortlist RUN --activations STORE

RUN is the folder of a trained TopK autoencoder, STORE a store that it was not trained on. For each rough product that
works on this machine: which share of the active latents is missed, the fraction of variance explained with exact and
with shortlisted latents, and the time of the choice against that from exact pre-activations, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from refract import hardware
from refract.sae import rough
from refract.sae.activations import Store
from refract.sae.coder import SparseCoder
from refract.sae.metrics import VarianceExplained
from refract.sae.run import newest
from refract.sae.shortlist import Computed, Largest, Shortlist
from refract.sae.topk import dense


def choices(coder: SparseCoder, x: Tensor, product: rough.Product | None) -> Largest:
    """The active latents of x."""
    k: int = coder.settings["k"]
    if product is None:
        return Computed(coder.pre_activations(x)).top_k(k)
    return Shortlist(x - coder.b_pre, coder.W_enc, coder.b_enc, product).top_k(k)


@torch.no_grad()
def compare(coder: SparseCoder, rows: Tensor, product: rough.Product, batch: int) -> dict[str, float]:
    """What a rough product costs and saves, over all rows."""
    missed = chosen = 0
    explained = {"exact": VarianceExplained(), "shortlist": VarianceExplained()}
    seconds: dict[str, list[float]] = {"exact": [], "shortlist": []}
    for x in rows.split(batch):
        found = {}
        for name, how in (("exact", None), ("shortlist", product)):
            began = time.perf_counter()
            found[name] = choices(coder, x, how)
            seconds[name].append(time.perf_counter() - began)
            explained[name].update(x, coder.decode(dense(*found[name], coder.n_latents)))
        latents = {name: dense(torch.ones_like(each[0]), each[1], coder.n_latents) for name, each in found.items()}
        missed += int((latents["exact"] > latents["shortlist"]).sum())
        chosen += found["exact"][1].numel()
    return {
        "missed": missed / chosen,
        "exact": explained["exact"].result(),
        "shortlist": explained["shortlist"].result(),
        "times": statistics.median(seconds["exact"][2:]) / statistics.median(seconds["shortlist"][2:]),
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--activations", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    coder, (normalisation,), _ = newest(arguments.run)
    store = Store.open(arguments.activations)
    rows = normalisation(store.take(torch.arange(min(arguments.rows, store.rows))))
    products = {"int8": rough.integers} | ({"bf16": rough.bfloat16} if hardware.bf16().fast else {})
    print("| product | active latents missed | FVE, exact | FVE, shortlist | choice is faster |\n|---|---|---|---|---|")
    for name, product in products.items():
        found = compare(coder, rows, product, arguments.batch)
        print(
            f"| {name} | {found['missed']:.1e} | {found['exact']:.6f} | {found['shortlist']:.6f} "
            f"| {found['times']:.2f} times |"
        )


if __name__ == "__main__":
    main()
