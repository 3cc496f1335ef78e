"""Time the course's trainer for toy models against the loop that courses commonly show.

    python benchmarks/toy_models.py

The plain loop draws presence and size afresh at each step with two calls of ``torch.rand``, multiplies by einsum, and
leaves the rest to autograd and to torch's Adam as it comes. Ours is ``refract.toys.training.train``. Models, starting
weights, batch size and number of steps are the same; the runs alternate, and both are scored on the same fresh data.
What counts is the ratio of the medians, and that the losses agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from refract.toys.data import SparseUniform
from refract.toys.models import ToyModel
from refract.toys.training import constant, evaluate, initial, train

LEARNING_RATE = 1e-3
# instances, features, hidden units, batch, steps to score, steps to time
SIZES = [
    (8, 5, 2, 1024, 3000, 400),
    (8, 5, 2, 256, 3000, 800),
    (3600, 2, 1, 256, 1000, 10),
    (3600, 2, 1, 1024, 300, 4),
    (20, 200, 20, 1024, 100, 5),
]


def plain(start: dict[str, Tensor], p: Tensor, importance: Tensor, batch: int, n_steps: int) -> dict[str, Tensor]:
    """The common loop."""
    W, b = (torch.nn.Parameter(start[name].clone()) for name in ("W", "b"))
    optimizer = torch.optim.Adam([W, b], lr=LEARNING_RATE)
    for _ in range(n_steps):
        present = torch.rand(batch, *p.shape) < p
        x = torch.where(present, torch.rand(batch, *p.shape), torch.zeros(()))
        hidden = torch.einsum("bif,ihf->bih", x, W)
        output = torch.relu(torch.einsum("bih,ihf->bif", hidden, W) + b)
        loss = (importance * (x - output) ** 2).sum(dim=2).mean(dim=0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"W": W.detach(), "b": b.detach()}


def ours(start: dict[str, Tensor], p: Tensor, importance: Tensor, batch: int, n_steps: int) -> dict[str, Tensor]:
    """The course's trainer, with the same constant learning rate."""
    _, d_hidden, n_features = start["W"].shape
    return train(
        ToyModel(n_features, d_hidden),
        SparseUniform(p, batch),
        importance,
        n_steps=n_steps,
        learning_rate=LEARNING_RATE,
        schedule=constant,
        start=start,
    ).parameters


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def compare(size: tuple[int, int, int, int, int, int], repeats: int) -> str:
    """One row of the table."""
    instances, n_features, d_hidden, batch, to_score, to_time = size
    torch.manual_seed(0)
    model = ToyModel(n_features, d_hidden)
    p = (20 ** -torch.linspace(0, 1, instances))[:, None].expand(-1, n_features).contiguous()
    importance = 0.9 ** torch.arange(n_features)
    start = initial(model, instances)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(repeats):
        for name, runner in (("plain", plain), ("ours", ours)):
            times[name].append(seconds(lambda run=runner: run(start, p, importance, batch, to_time)))  # type: ignore[misc]
    losses = {}
    for name, runner in (("plain", plain), ("ours", ours)):
        torch.manual_seed(1)
        parameters = runner(start, p, importance, batch, to_score)
        torch.manual_seed(2)
        losses[name] = evaluate(model, parameters, SparseUniform(p, 20_000 if instances < 100 else 2000), importance)
    slow, fast = (1000 * statistics.median(times[name]) / to_time for name in ("plain", "ours"))
    plain_loss, our_loss = losses["plain"].mean().item(), losses["ours"].mean().item()
    return (
        f"| {instances} × {n_features} × {d_hidden}, batch {batch} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} "
        f"| {plain_loss:.4f} | {our_loss:.4f} | {our_loss / plain_loss - 1:+.1%} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="how often each side is timed (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads for both sides (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), median of {arguments.repeats} alternating runs\n")
    print(
        "| instances × features × hidden | plain, ms a step | ours, ms a step | ratio | plain loss | our loss | apart |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in SIZES:
        print(compare(size, arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
