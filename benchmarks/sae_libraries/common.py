"""What the runners share: the batches and the clock, the score on held-out rows, the result.

This file runs in each library's own environment, so it uses NumPy and torch alone. All runners hand the library the
same iterator, ``Feed``. The library's own training loop asks it for one batch after another; from the moment at which
it has one to the moment at which it asks for the next, a step is being made, and that time is what is measured.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Reconstruct = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows to their reconstructions, and to a matrix (row, latent) that is not zero where a latent is active."""
SCORED_AT_ONCE = 512
STATUS = Path("/proc/self/status")
STEPS_IN_A_BLOCK = {"cpu": 1, "cuda": 10}  # the clock is read once in so many: reading it means waiting for a GPU


class Finished(Exception):
    """The run has made all its steps. Raised from the iterator, so that no library's end of a run is timed."""


@dataclass
class Job:
    """One run of one library."""

    train: str
    """A npy file of rows, centred and scaled."""
    held_out: str
    latents: int
    k: int
    batch: int
    steps: int
    """What the schedules are told; the run stops before that if ``seconds`` are over."""
    mode: list[str] = field(default_factory=list)
    """Names of what is changed from the library as shipped; none: nothing."""
    learning_rate: float | None = None
    """The peak; ``None``: the library's default, times ``times_rate``."""
    times_rate: float = 1.0
    warm_up: int = 5
    """Steps before the clock counts."""
    seconds: float | None = None
    """The measured steps take about this long, and are at least 3."""
    score_at: list[int] = field(default_factory=list)
    """After how many steps the coder is scored, with the clock stopped."""
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    profile: bool = False


class Feed(Iterator[Tensor]):
    """Batches of rows from memory, in an order that follows from the seed, and the time between them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reconstruct: Reconstruct | None = None
        """Set by the runner as soon as there is a coder."""
        self.device = torch.device(job.device)
        self.rows = torch.from_numpy(np.load(job.train)).to(self.device)
        self.held_out = np.load(job.held_out).astype(np.float32)
        self.d_in = self.rows.shape[1]
        self.block = STEPS_IN_A_BLOCK[self.device.type]
        job.steps, job.warm_up, *job.score_at = (
            -(-step // self.block) * self.block for step in (job.steps, job.warm_up, *job.score_at)
        )
        self.done = 0
        self.step_seconds: list[float] = []
        """Of every step; on a GPU the mean over its block."""
        self.cpu_seconds: list[float] = []
        """The same, of the processors that the process had, all threads together."""
        self.points: list[dict[str, float]] = []
        self.profiled = ""
        self.start_mb = peak_mb()
        self.peak_mb = self.start_mb
        self._began: tuple[float, float] | None = None
        self._order = self._places()
        self._profiler: Any = None

    def __next__(self) -> Tensor:
        if self.done == 0 and self._began is None:
            self._begin()
        else:
            self._end_of_step()
        if self.finished:
            self._finish()
            raise Finished
        batch = self.rows[next(self._order)].float()
        if self.done % self.block == 0:
            self._wait()
            self._began = time.perf_counter(), time.process_time()
        return batch

    @property
    def finished(self) -> bool:
        """Whether all steps are made, or as many as fit into the time."""
        job, timed = self.job, self.timed
        if self.done % self.block:
            return False
        enough = len(timed) >= max(3, 2 * self.block)
        return self.done >= job.steps or (job.seconds is not None and enough and sum(timed) > job.seconds)

    @property
    def timed(self) -> list[float]:
        """The steps after the warm-up."""
        return self.step_seconds[self.job.warm_up :]

    def _begin(self) -> None:
        if "medium" in self.job.mode:  # here, because a trainer may set it at its start
            torch.set_float32_matmul_precision("medium")
        self._score()

    def _end_of_step(self) -> None:
        self.done += 1
        if self.done % self.block == 0:
            self._wait()
            assert self._began is not None
            began, cpu_began = self._began
            self.step_seconds += [(time.perf_counter() - began) / self.block] * self.block
            self.cpu_seconds += [(time.process_time() - cpu_began) / self.block] * self.block
        if self._profiler is not None:
            self._profiler.stop()
            self.profiled = self._profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=16)
            self._profiler = None
        elif self.job.profile and self.done == self.job.warm_up:
            self._profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            self._profiler.start()
        self._score()

    def _score(self) -> None:
        if self.done in self.job.score_at and self.reconstruct is not None:
            point = score(self.held_out, self.reconstruct, self.device)
            self.points.append({"step": self.done, "seconds": sum(self.step_seconds), **point})

    def _finish(self) -> None:
        self.peak_mb = peak_mb()
        if self.device.type == "cuda":
            self.peak_mb = torch.cuda.max_memory_allocated() / 1e6

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _places(self) -> Iterator[Tensor]:
        """Epoch after epoch, each in another order; the incomplete batch at the end of each is left out."""
        random, count = np.random.default_rng(self.job.seed), len(self.rows)
        while True:
            order = torch.from_numpy(random.permutation(count)).to(self.device)
            yield from order[: count - count % self.job.batch].split(self.job.batch)


@torch.no_grad()
def score(rows: np.ndarray, reconstruct: Reconstruct, device: torch.device | str = "cpu") -> dict[str, float]:
    """Fraction of variance explained, mean number of active latents, share of latents active on none of the rows.

    FVE = 1 - Σ‖x - x_hat‖² / Σ‖x - mean‖², in float64, the same for every library.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    error = total = active = 0.0
    fired: np.ndarray | None = None
    for begin in range(0, len(rows), SCORED_AT_ONCE):
        x = rows[begin : begin + SCORED_AT_ONCE]
        x_hat, latents = reconstruct(torch.from_numpy(x).to(device))
        error += ((x - x_hat.float().cpu().numpy().astype(np.float64)) ** 2).sum()
        total += ((x - mean) ** 2).sum()
        on = (latents != 0).cpu().numpy()
        active += on.sum()
        fired = on.any(axis=0) if fired is None else fired | on.any(axis=0)
    assert fired is not None
    return {"fve": float(1 - error / total), "l0": float(active / len(rows)), "dead": float(1 - fired.mean())}


def peak_mb() -> float:
    """The largest resident size of this process so far, in MB."""
    if STATUS.exists():  # Linux: `ru_maxrss` may be that of the process which started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if found:
            return int(found[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def product_seconds(job: Job, d_in: int) -> float:
    """How long the encoder's matrix product takes here by itself: no step of a TopK coder can be faster."""
    device = torch.device(job.device)
    x, W = torch.randn(job.batch, d_in, device=device), torch.randn(job.latents, d_in, device=device)
    out, times = torch.empty(job.batch, job.latents, device=device), []
    for _ in range(7):
        began = time.perf_counter()
        torch.mm(x, W.mT, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def begin() -> tuple[Job, Feed]:
    """The job that this process was started for."""
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    os.environ.setdefault("WANDB_MODE", "disabled")
    return job, Feed(job)


def run(feed: Feed, train: Callable[[], object]) -> None:
    """Let the library train until the feed ends it, or it has come to its own end."""
    with contextlib.suppress(Finished):
        train()
    if not feed.finished:
        raise SystemExit(f"the library stopped after {feed.done} of {feed.job.steps} steps")


def report(feed: Feed, package: str, learning_rate: float, notes: str = "") -> None:
    """Write the result as the last line of stdout."""
    job = feed.job
    assert feed.reconstruct is not None
    final = score(feed.held_out, feed.reconstruct, feed.device)
    result = {
        "package": package,
        "version": _version(package),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if feed.device.type == "cuda" else "cpu",
        "d_in": feed.d_in,
        "held_out_rows": len(feed.held_out),
        "learning_rate": learning_rate,
        "steps": feed.done,
        "step_ms": [round(1000 * seconds, 2) for seconds in feed.timed],
        "cpu_ms": [round(1000 * seconds, 2) for seconds in feed.cpu_seconds[job.warm_up :]],
        "seconds": sum(feed.step_seconds),
        "start_mb": feed.start_mb,
        "peak_mb": feed.peak_mb,
        "points": feed.points,
        **final,
        "product_ms": 1000 * product_seconds(job, feed.d_in),
        "profile": feed.profiled,
        "notes": notes,
    }
    print("\n" + json.dumps(result), flush=True)


def unknown(job: Job, known: set[str]) -> None:
    """Stop if the mode asks for something that this runner does not have."""
    if wrong := set(job.mode) - known:
        raise SystemExit(f"{Path(sys.argv[0]).name} has no mode {', '.join(sorted(wrong))}; it has {sorted(known)}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "this repository"
