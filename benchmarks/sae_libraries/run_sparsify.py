"""eai-sparsify: ``Trainer.fit``, with a "model" whose one layer gives out the next batch of rows.

Modes: ``adam`` (its other common optimizer; signum is the default), ``autocast`` (on a GPU it is always on; on a CPU
it is put around the coder's forward pass), ``compile`` (of the coder's forward pass), ``medium``
(float32_matmul_precision; the trainer sets "high" itself). AuxK is off, as it is by default.

Adam's warm-up has 1,000 steps. A run that is not much longer would be warm-up alone, so it has a tenth at most.
"""

from __future__ import annotations

from types import SimpleNamespace

import common
import torch
from sparsify import SparseCoderConfig, TrainConfig, Trainer
from torch import Tensor, nn

WARM_UP = 1000  # TrainConfig's default


class Layer(nn.Module):
    """Gives out the next batch, whatever comes in."""

    def __init__(self, feed: common.Feed) -> None:
        super().__init__()
        self.feed, self.started = feed, False

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.started:  # the trainer is asking how wide the layer is
            return torch.zeros(*tokens.shape, self.feed.d_in, device=self.feed.device)
        return next(self.feed)[None]


class Model(nn.Module):
    """As much of a language model as the trainer looks at."""

    def __init__(self, feed: common.Feed) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(feed)])
        self.config = SimpleNamespace(num_hidden_layers=1)
        self.device = feed.device
        self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

    @property
    def base_model(self) -> Model:
        return self

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.layers[0](input_ids)


class Sequences:
    """As many sequences as there are steps, each of as many tokens as a batch has rows."""

    def __init__(self, count: int, batch: int) -> None:
        self.count, self.tokens = count, torch.zeros(batch, dtype=torch.long)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        if place >= self.count:
            raise IndexError
        return {"input_ids": self.tokens}


def main() -> None:
    job, feed = common.begin()
    common.unknown(job, {"adam", "autocast", "compile", "medium"})
    default = (2e-4 if "adam" in job.mode else 5e-3) / (job.latents / 2**14) ** 0.5  # as its trainer has it
    rate = (job.learning_rate or default) * job.times_rate
    config = TrainConfig(
        SparseCoderConfig(num_latents=job.latents, k=job.k),
        batch_size=1,
        optimizer="adam" if "adam" in job.mode else "signum",
        lr=rate,
        lr_warmup_steps=min(WARM_UP, job.steps // 10),
        init_seeds=[job.seed],
        save_every=10**9,
        log_to_wandb=False,
    )
    model = Model(feed)
    trainer = Trainer(config, Sequences(job.steps + 1, job.batch), model)  # type: ignore[arg-type]
    model.layers[0].started = True  # type: ignore[assignment]
    (coder,) = trainer.saes.values()
    if "compile" in job.mode:
        coder.forward = torch.compile(coder.forward)  # type: ignore[method-assign]
    if "autocast" in job.mode and job.device == "cpu":
        coder.forward = torch.autocast("cpu", dtype=torch.bfloat16)(coder.forward)  # type: ignore[method-assign]

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        averaged = [each for each in trainer.optimizers if hasattr(each, "eval")]
        for optimizer in averaged:  # schedule-free optimizers train at one point and are used at another
            optimizer.eval()
        values, places, _ = coder.encode(x)
        result = coder.decode(values, places), x.new_zeros(len(x), job.latents).scatter_(1, places, values)
        for optimizer in averaged:
            optimizer.train()
        return result

    feed.reconstruct = reconstruct
    common.run(feed, trainer.fit)
    common.report(feed, "eai-sparsify", rate)


if __name__ == "__main__":
    main()
