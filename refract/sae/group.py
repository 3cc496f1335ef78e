"""Several processes that train one coder together, as torchrun starts them; or one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from refract.errors import RefractError

LONGEST_WAIT = timedelta(hours=24)
"""For another process that harvests; torch would give up after 10 or 30 minutes."""


@dataclass(frozen=True)
class Group:
    """This process's place among all."""

    rank: int = 0
    world: int = 1
    patient: dist.ProcessGroup | None = None
    """The same processes, for ``wait``: on the CPU, and with much time."""

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its largest over all processes."""
        if self.world > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier(self.patient)

    def share_gradients(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module, with gradients averaged over all processes (DistributedDataParallel)."""
        if self.world == 1:
            return module
        places = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=places, gradient_as_bucket_view=True)


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's environment variables describe: nccl on GPUs, gloo on CPUs."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group()
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise RefractError(
            f"The {world} processes could not find each other: {error}.",
            "Start them with torchrun: torchrun --nproc-per-node 2 -m refract sae train ...",
        ) from error
    try:
        patient = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        yield Group(dist.get_rank(), dist.get_world_size(), patient)
    finally:
        dist.destroy_process_group()


def device_of_this_process(device: str | None = None) -> torch.device:
    """The device asked for, else a GPU where there is one, else the CPU. "cuda" is this process's own GPU."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return chosen
