"""Checkpoints: one file that appears whole or not at all, and brings a run back to the same bits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from refract.errors import RefractError

FORMAT = 1


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write both into one safetensors file. A run that is killed meanwhile keeps the checkpoint before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, partial, metadata={"refract": json.dumps(metadata | {"format": FORMAT})})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise RefractError(
            f"The checkpoint {path} could not be written: {error}.",
            "Make room, or choose another folder with --out. The checkpoint before this one is as it was.",
        ) from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save`` wrote."""
    remedy = f"Delete it to begin anew, or put a good copy in its place: {path}"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["refract"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise RefractError(f"{path.name} is damaged, or no checkpoint of a training run ({error}).", remedy) from error
    if metadata.get("format") != FORMAT:
        raise RefractError(f"{path.name} was written by another version of the course.", remedy)
    return tensors, metadata


def optimizer_tensors(optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An optimizer's state under its parameters' names."""
    state = optimizer.state
    return {f"optimizer.{name}.{key}": value for name, p in named.items() for key, value in state.get(p, {}).items()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor], tensors: dict[str, Tensor]
) -> None:
    """Put back what ``optimizer_tensors`` took."""
    for name, parameter in named.items():
        prefix = f"optimizer.{name}."
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if kept:
            # Fused Adam wants its step counter where the parameter is.
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in kept.items()}
