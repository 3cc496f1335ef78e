"""dictionary_learning: ``trainSAE`` with its ``TopKTrainer``.

Modes: ``autocast`` (trainSAE's autocast_dtype on a GPU; on a CPU trainSAE ignores it, so it is put around the update),
``compile`` (of the trainer's loss; it takes two changes, see below), ``medium`` (float32_matmul_precision).

Its warm-up has 1,000 steps. A run that is not much longer would be warm-up alone, so it has a tenth of the run at most.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import MagicMock

import common
import torch
from torch import Tensor

if "compile" in sys.argv[1]:
    # The version of nnsight that the library needs changes torch so that torch 2.13 cannot compile anything. Only the
    # part that runs language models uses it.
    sys.modules["nnsight"] = MagicMock()

from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE

WARM_UP = 1000  # TopKTrainer's default


def main() -> None:
    job, feed = common.begin()
    common.unknown(job, {"autocast", "compile", "medium"})
    default = 2e-4 / (job.latents / 2**14) ** 0.5  # as TopKTrainer has it
    rate = (job.learning_rate or default) * job.times_rate
    made: list[TopKTrainer] = []

    class Trainer(TopKTrainer):
        """The library's trainer; a reference to it is kept, which ``trainSAE`` does not give out."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            made.append(self)
            if "compile" in job.mode:
                del self.ae.k  # a tensor, as which torch.compile refuses it
                self.ae.k = job.k
                self.loss = torch.compile(self.loss)

        def update(self, step: int, x: Tensor) -> float:
            on_cpu = "autocast" in job.mode and job.device == "cpu"
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on_cpu):
                return super().update(step, x)

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        return made[0].ae(x, output_features=True)

    feed.reconstruct = reconstruct
    settings = {
        "trainer": Trainer,
        "steps": job.steps + 1,
        "activation_dim": feed.d_in,
        "dict_size": job.latents,
        "k": job.k,
        "layer": 0,
        "lm_name": "none",
        "lr": rate,
        "warmup_steps": min(WARM_UP, job.steps // 10),
        "seed": job.seed,
        "device": job.device,
    }
    on_gpu = "autocast" in job.mode and job.device != "cpu"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    common.run(feed, lambda: trainSAE(feed, [settings], job.steps + 1, device=job.device, autocast_dtype=dtype))
    common.report(feed, "dictionary-learning", rate)


if __name__ == "__main__":
    main()
