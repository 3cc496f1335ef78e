"""The course's trainer: ``Trainer.run`` with everything in it, fed from memory instead of from a store."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from refract.sae import training
from refract.sae.config import Config


class Memory:
    """As much of a store of activations as the trainer looks at; the rows are centred and scaled already."""

    hooks = ("rows",)

    def __init__(self, feed: common.Feed) -> None:
        self.rows, self.d_in = len(feed.rows), feed.d_in
        self.mean = {"rows": torch.zeros(feed.d_in, dtype=torch.float64)}
        self.scale = {"rows": 1.0}


def main() -> None:
    job, feed = common.begin()
    common.unknown(job, {"exact", "medium"})

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        latents = trainer.coder.encode(x)
        return trainer.coder.decode(latents), latents

    def batches(*_: Any, **__: Any) -> common.Feed:
        return feed

    training.batches = batches  # type: ignore[assignment]
    config = Config(
        architecture="topk",
        n_latents=job.latents,
        settings={"k": job.k, "exact": "exact" in job.mode},
        tokens=(job.steps + 1) * job.batch,  # one more than are made: the last checkpoint is not timed
        batch=job.batch,
        learning_rate=job.learning_rate,
        seed=job.seed,
        checkpoint_every=10**9,
    )
    if job.times_rate != 1:
        config = Config(**{**config.to_dict(), "learning_rate": config.peak_learning_rate * job.times_rate})
    with tempfile.TemporaryDirectory() as folder:
        trainer = training.Trainer(config, Memory(feed), Path(folder), device=job.device)  # type: ignore[arg-type]
        feed.reconstruct = reconstruct
        common.run(feed, trainer.run)
    common.report(feed, "refract-course", config.peak_learning_rate)


if __name__ == "__main__":
    main()
