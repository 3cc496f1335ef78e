"""Training a sparse coder on stored activations: one loop for all architectures, on one device or several.

Nothing in a step waits for the device: sums are kept there, and read every ``log_every`` steps. At these points the
curve gets a point, AuxK's list of dead latents is renewed, and a run that has gone wrong is stopped with a message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refract import atomic
from refract.errors import RefractError
from refract.sae import architectures, checkpoint, interrupts, memory, precision
from refract.sae.activations import Store, batches
from refract.sae.coder import SparseCoder, Step
from refract.sae.config import Config
from refract.sae.group import Group

HELD_OUT_ROWS = 16_384
CHECKPOINT = "checkpoint.safetensors"
CURVE = "curve.json"
Point = dict[str, float]


class Trainer:
    """A run: its coder, optimizer, position and curve. All of it is in the checkpoint."""

    def __init__(
        self,
        config: Config,
        store: Store,
        folder: Path,
        *,
        held_out: Store | None = None,
        device: torch.device | str = "cpu",
        group: Group | None = None,
    ) -> None:
        """``store`` has the activations to train on; ``held_out`` others, of the same model and hooks, to test on."""
        self.config, self.store, self.folder = config, store, folder
        self.device, self.group = torch.device(device), group or Group()
        _check(config, store, self.group)
        self.x_hooks, self.y_hooks = read_and_reconstructed(config.kind, store.hooks)
        self._mean = torch.stack([store.mean[hook] for hook in store.hooks]).float().to(self.device)
        self._scale = torch.tensor([store.scale[hook] for hook in store.hooks], device=self.device)[:, None]
        d_out = store.d_in * len(self.y_hooks)
        settings = {"variance": float(d_out)} | config.settings  # after scaling: 1 for each dimension
        if config.kind == "transcoder":
            settings |= {"d_out": d_out}
        generator = torch.Generator().manual_seed(config.seed)
        coder = architectures.make(
            config.architecture, store.d_in * len(self.x_hooks), config.n_latents, settings, generator=generator
        )
        self.coder: SparseCoder = coder.to(self.device)
        self.optimizer = torch.optim.Adam(
            self.coder.parameters(), lr=config.peak_learning_rate, betas=(config.beta1, config.beta2), fused=True
        )
        self._module = self.group.share_gradients(_Loss(self.coder), self.device)
        self.done = 0
        self.numbers: precision.Numbers | None = None  # the first batch tells
        self.curve: list[Point] = []
        self.seconds = 0.0
        self._last_fired = torch.zeros(config.n_latents, dtype=torch.long, device=self.device)
        self._dead = torch.zeros(0, dtype=torch.long, device=self.device)
        self._held_out = None if held_out is None else self._held_out_rows(held_out)

    # --- the loop --------------------------------------------------------------------------------

    def run(self, on_point: Callable[[Point], None] | None = None) -> SparseCoder:
        """Train to the end, from wherever the run stands; the coder, in the normalised units of the store.

        Ctrl-C ends the run after the step that it is in, with a checkpoint; a second one ends it at once, without.
        """
        config, tally = self.config, _Tally()
        if self.device.type == "cpu":
            memory.keep_freed()
        began = time.perf_counter() - self.seconds
        stream = batches(
            self.store,
            config.batch,
            seed=config.seed,
            window=config.window,
            start=self.done,
            steps=config.steps - self.done,
            rank=self.group.rank,
            world=self.group.world,
            pin=self.device.type == "cuda",
        )
        self.coder.train()
        with interrupts.held_back(self.group.world == 1) as interrupted:
            for rows in stream:
                tally.add(self._step(self._normalised(rows)))
                self.done += 1
                self.seconds = time.perf_counter() - began
                if self.done % config.log_every == 0 or self.done == config.steps:
                    point = self._point(tally)
                    tally = _Tally()
                    if self.done % config.checkpoint_steps == 0 or self.done == config.steps:
                        point |= self._test()
                        self.curve.append(point)
                        self.save()
                    else:
                        self.curve.append(point)
                    if on_point is not None:
                        on_point(point)
                if interrupted():
                    if tally.finite():  # else the last checkpoint is better than what there is now
                        self.save()
                    raise KeyboardInterrupt
        return self.coder.eval()

    def _step(self, batch: Tensor) -> Step:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.done)
        self.coder.penalty_share = self.config.penalty_share_at(self.done)
        x, y = batch[:, self.x_hooks].flatten(1), batch[:, self.y_hooks].flatten(1)
        self.optimizer.zero_grad()
        target = y if self.config.kind == "transcoder" else None
        if self.numbers is None:
            self.numbers = self._best_numbers(x, target)
        with precision.products_in(self.numbers, self.device):
            result: Step = self._module(x, target, self._dead)
        result.loss.backward()
        self.coder.project_out_parallel_gradient()
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.coder.parameters(), self.config.clip)
        self.optimizer.step()
        self.coder.normalise_decoder()
        self._last_fired = torch.where(result.fired > 0, self.done + 1, self._last_fired)
        return result

    def _best_numbers(self, x: Tensor, y: Tensor | None) -> precision.Numbers:
        """bf16 if the configuration leaves it to the machine, and all processes find that it serves."""
        wanted = self.config.bf16 and precision.best_numbers(self.coder, x, y) == "bf16"
        objects = self.group.max_(torch.tensor(float(not wanted), device=self.device))
        return "fp32" if bool(objects) else "bf16"

    def _normalised(self, rows: Tensor) -> Tensor:
        """(x - mean) · scale, hook by hook; in the memory of ``rows``, where that is on this device."""
        rows = rows.to(self.device, non_blocking=True).view(len(rows), len(self.store.hooks), -1)
        return rows.sub_(self._mean).mul_(self._scale)

    # --- what is read off ------------------------------------------------------------------------

    def _point(self, tally: _Tally) -> Point:
        """A point of the curve, from the sums since the last; renews the list of dead latents."""
        config, group = self.config, self.group
        self._last_fired = group.max_(self._last_fired)
        silent = (self.done - self._last_fired) * config.batch
        self._dead = (silent >= config.dead_after).nonzero().flatten()
        sums = {name: group.sum_(value).item() / (tally.steps * group.world) for name, value in tally.losses.items()}
        l0 = group.sum_(tally.fired).sum().item() / (tally.steps * config.batch)
        fvu = group.sum_(tally.error).item() / (tally.steps * group.world * self.coder.variance)
        point = {
            "step": self.done,
            "tokens": self.done * config.batch,
            "learning_rate": config.learning_rate_at(self.done - 1),
            "loss": sum(sums.values()),
            **{f"loss/{name}": value for name, value in sums.items()},
            "fve": 1 - fvu,
            "l0": l0,
            "dead": len(self._dead) / config.n_latents,
            "seconds": round(self.seconds, 2),
        }
        self._stop_if_wrong(point)
        return point

    def _stop_if_wrong(self, point: Point) -> None:
        config, at, error = self.config, f"at step {self.done:,}", 1 - point["fve"]
        kept = (
            f"The last good checkpoint is {self.folder / CHECKPOINT}. " if (self.folder / CHECKPOINT).exists() else ""
        )
        rate = f"the learning rate ({config.peak_learning_rate:.2g})"
        best = 1 - max((each["fve"] for each in self.curve), default=0.0)
        warm = self.done > 2 * config.warm_up * config.steps
        if not all(map(_finite, point.values())):
            raise RefractError(f"The loss is not finite any more {at}.", f"{kept}Lower {rate}, or give --set clip=1.")
        if point["l0"] == 0:
            raise RefractError(
                f"The run has collapsed: since step {self.done - config.log_every:,} no latent was active ({at}).",
                f"{kept}Lower the sparsity penalty or {rate}.",
            )
        if point["l0"] > 0.99 * config.n_latents and config.settings.get("k") != config.n_latents:
            raise RefractError(
                f"The run has collapsed: {at} all {config.n_latents:,} latents are active on every example.",
                f"{kept}Raise the sparsity penalty, or lower {rate}.",
            )
        if warm and error > 2 and error > 3 * best:  # a model that always answers with the mean has an error of 1
            raise RefractError(
                f"The run diverges: {at} the error is {error:.1f} times the variance.",
                f"{kept}Lower {rate}, or give --set clip=1.",
            )

    @torch.no_grad()
    def _test(self) -> Point:
        """The fraction of variance explained on held-out rows, and how many latents are active there."""
        if self._held_out is None:
            return {}
        self.coder.eval()
        error = total = active = 0.0
        target_mean = self._held_out[:, self.y_hooks].flatten(1).mean(dim=0)
        for batch in self._held_out.split(self.config.batch):
            x, y = batch[:, self.x_hooks].flatten(1), batch[:, self.y_hooks].flatten(1)
            latents = self.coder.encode(x)
            error += (y - self.coder.decode(latents)).square().sum().item()
            total += (y - target_mean).square().sum().item()
            active += (latents > 0).sum().item()
        self.coder.train()
        return {"held_out_fve": 1 - error / total, "held_out_l0": active / len(self._held_out)}

    def _held_out_rows(self, held_out: Store) -> Tensor:
        for name in ("hooks", "d_in"):
            if getattr(held_out, name) != getattr(self.store, name):
                raise RefractError(
                    f"The held-out activations have {name} = {getattr(held_out, name)}, those to train on "
                    f"{getattr(self.store, name)}.",
                    "Harvest both from the same model at the same hooks.",
                )
        count = min(held_out.rows, HELD_OUT_ROWS)
        return self._normalised(held_out.take(torch.linspace(0, held_out.rows - 1, count).long()))

    # --- checkpoints -----------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint and the curve. Every process calls this; one writes."""
        if self.group.leads:
            named = dict(self.coder.named_parameters())
            tensors = {f"coder.{name}": value for name, value in self.coder.state_dict().items()}
            tensors |= checkpoint.optimizer_tensors(self.optimizer, named)
            tensors |= {"last_fired": self._last_fired, "dead": self._dead}
            for place, hook in enumerate(self.store.hooks):  # what it takes to use the coder without the store
                tensors |= {f"mean.{hook}": self._mean[place], f"scale.{hook}": self._scale[place]}
            state = {
                "done": self.done,
                "numbers": self.numbers,
                "seconds": self.seconds,
                "curve": self.curve,
                "config": self.config.to_dict(),
                "coder": self.coder.settings,
                "data": self.store.fingerprint,
                "hooks": list(self.store.hooks),
            }
            checkpoint.save(self.folder / CHECKPOINT, tensors, state)
            atomic.write_text(self.folder / CURVE, json.dumps(self.curve, indent=1))
        self.group.wait()

    def resume(self) -> bool:
        """Continue from the checkpoint in the run's folder; False if there is none."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return False
        tensors, state = checkpoint.load(path)
        _same_run(self.config, self.coder, state, self.store.fingerprint, path)
        coder = {name.removeprefix("coder."): value for name, value in tensors.items() if name.startswith("coder.")}
        self.coder.load_state_dict(coder)
        checkpoint.restore_optimizer(self.optimizer, dict(self.coder.named_parameters()), tensors)
        self._last_fired, self._dead = (tensors[name].to(self.device) for name in ("last_fired", "dead"))
        self.done, self.seconds, self.curve = state["done"], state["seconds"], state["curve"]
        self.numbers = state.get("numbers")
        return True


class _Loss(nn.Module):
    """A coder's ``step`` as a module's ``forward``, which is what DistributedDataParallel watches."""

    def __init__(self, coder: SparseCoder) -> None:
        super().__init__()
        self.coder = coder

    def forward(self, x: Tensor, y: Tensor | None, dead: Tensor) -> Step:
        return self.coder.step(x, y, dead if len(dead) else None)


class _Tally:
    """Sums over steps, kept where the coder is."""

    def __init__(self) -> None:
        self.steps = 0
        self.losses: dict[str, Tensor] = {}
        self.error: Any = 0
        self.fired: Any = 0

    def add(self, step: Step) -> None:
        self.steps += 1
        for name, loss in step.losses.items():
            self.losses[name] = self.losses.get(name, 0) + loss.detach().double()
        self.error = self.error + step.error.double()
        self.fired = self.fired + step.fired

    def finite(self) -> bool:
        """Whether no loss was infinite or not a number. Waits for the device."""
        return all(_finite(loss.item()) for loss in self.losses.values())


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _check(config: Config, store: Store, group: Group) -> None:
    if store.rows < config.batch:
        raise RefractError(
            f"A batch has {config.batch:,} rows, and the store only {store.rows:,}.", "Harvest more, or lower batch."
        )
    if config.batch % group.world:
        raise RefractError(
            f"A batch of {config.batch:,} cannot be shared by {group.world} processes.",
            f"Choose a batch that {group.world} divides.",
        )


def read_and_reconstructed(kind: str, hooks: Sequence[str]) -> tuple[list[int], list[int]]:
    """Which of the hooks a coder of this kind reads, and which it reconstructs. Raises if it needs more or fewer."""
    wanted, fits = {
        "autoencoder": ("An autoencoder needs one hook", len(hooks) == 1),
        "transcoder": ("A transcoder needs two hooks, the one to read first", len(hooks) == 2),
        "crosscoder": ("A crosscoder needs two hooks or more", len(hooks) > 1),
    }[kind]
    if not fits:
        raise RefractError(
            f"{wanted}; here there are {len(hooks)}: {', '.join(hooks)}.",
            "Give --hook once for each, or another --kind: transcoder for two hooks, crosscoder for two or more.",
        )
    every = list(range(len(hooks)))
    return ([0], [1]) if kind == "transcoder" else (every, every)


def _same_run(config: Config, coder: SparseCoder, state: dict[str, Any], data: str, path: Path) -> None:
    """Raise unless a checkpoint is of this run: what decides its bits must be as it was."""
    # What was not given may have another usual value by now, so the coder's settings count as they are.
    before = Config().to_dict() | state["config"] | state["coder"] | {"data": state["data"]}
    now = config.to_dict() | coder.settings | {"data": data}
    free = {"checkpoint_every", "settings"}
    differ = [name for name in now if name not in free and json.dumps(before.get(name)) != json.dumps(now[name])]
    if differ:
        told = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in differ)
        raise RefractError(
            f"{path} belongs to a run with other settings: {told}.",
            "Give the same settings to resume it, or another folder to begin anew.",
        )
