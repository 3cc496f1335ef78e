"""SAELens: ``SAETrainer.fit`` with a ``TopKTrainingSAE``, as its tutorial on other data than a model's does it.

Modes: ``sparse`` (use_sparse_activations), ``unscaled`` (rescale_acts_by_decoder_norm off: with torch 2.13 ``sparse``
fails without it), ``autocast`` (its own setting), ``compile`` (what its compile_sae does), ``medium``
(float32_matmul_precision).
"""

from __future__ import annotations

import common
import torch
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from torch import Tensor


def main() -> None:
    job, feed = common.begin()
    common.unknown(job, {"sparse", "unscaled", "autocast", "compile", "medium"})
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=feed.d_in,
            d_sae=job.latents,
            k=job.k,
            device=job.device,
            use_sparse_activations="sparse" in job.mode,
            rescale_acts_by_decoder_norm="unscaled" not in job.mode,
        )
    )

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        latents = sae.encode(x)
        return sae.decode(latents), latents.to_dense()

    feed.reconstruct = reconstruct
    if "compile" in job.mode:
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)  # type: ignore[method-assign]
    config = SAETrainerConfig(
        total_training_samples=(job.steps + 1) * job.batch,
        train_batch_size_samples=job.batch,
        device=job.device,
        autocast="autocast" in job.mode,
    )
    config.lr = (job.learning_rate or config.lr) * job.times_rate
    config.lr_end = config.lr  # its schedule is constant; the trainer asks for a number all the same
    trainer = SAETrainer(cfg=config, sae=sae, data_provider=feed)
    common.run(feed, trainer.fit)
    common.report(feed, "sae-lens", config.lr)


if __name__ == "__main__":
    main()
