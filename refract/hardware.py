"""What this machine does fast, found by trying it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from refract import cache
from refract.errors import RefractError

if TYPE_CHECKING:
    import torch

PROBE = Path(__file__).with_name("numbers_probe.py")
PROBE_SECONDS = 90.0  # it takes about 5; torch alone can take 20 to load from a cold disk
# Which share of fp32's time it may take to be worth it: bf16 costs accuracy, int8 work around the product.
MARGINS = {"bf16": 0.9, "int8": 0.5}


class Verdict(NamedTuple):
    """Whether to use a kind of numbers on a device, and why."""

    fast: bool
    why: str


def fast_bf16(device: str | torch.device = "cpu") -> bool:
    """Whether products in bf16 work on this device and are faster than in fp32.

    On a CPU this is tried once, in a process of its own, and remembered in the user's cache: there are machines whose
    processor claims to have the instructions and where the first product kills the process. On a GPU it is a question
    of its generation.
    """
    return bf16(device).fast


def bf16(device: str | torch.device = "cpu") -> Verdict:
    """``fast_bf16``, with the reason."""
    kind = str(device).split(":", maxsplit=1)[0]
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            return Verdict(False, "there is no GPU")
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Verdict(True, "this GPU has bf16")
        return Verdict(False, "this GPU has no bf16")
    if kind != "cpu":
        return Verdict(False, f"bf16 has not been tried on {kind}")
    return _tried("bf16")


def int8(device: str | torch.device = "cpu") -> Verdict:
    """Whether products of 8-bit integers are right on this device and much faster than in fp32, and why."""
    kind = str(device).split(":", maxsplit=1)[0]
    return _tried("int8") if kind == "cpu" else Verdict(False, f"int8 has not been tried on {kind}")


_known: dict[tuple[str, str], Verdict] = {}


def _tried(kind: str) -> Verdict:
    key = kind, this_machine()
    if key not in _known:
        _known[key] = _remembered(*key)
    return _known[key]


def this_machine() -> str:
    """What the answer depends on: processor, operating system, torch, and what oneDNN was told to leave alone."""
    told = [f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    return " | ".join([_processor(), *_software(), *told])


@functools.cache  # trainers ask at every step
def _software() -> tuple[str, str]:
    return platform.platform(), f"torch {importlib.metadata.version('torch')}"


@functools.cache
def _processor() -> str:
    """The model, and on Linux a hash of the instructions that it claims: a virtual machine may hide some."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    facts = dict(line.split(":", maxsplit=1) for line in reversed(lines) if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    claims = facts.get("flags", facts.get("Features", ""))
    model = facts.get("model name", platform.machine())
    return f"{model} ({hashlib.sha256(claims.encode()).hexdigest()[:8]})"


def _remembered(kind: str, machine: str) -> Verdict:
    """The verdict in the cache, or a new one. Without a cache that can be written, every process asks anew."""
    file = cache.folder() / f"{kind}.json"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(RefractError):
            stack.enter_context(cache.locked(kind))
        answers = _read(file)
        if machine not in answers:
            answers[machine] = _try(kind)
            partial = file.with_suffix(".partial")
            with contextlib.suppress(OSError):
                partial.write_text(json.dumps(answers, indent=1), encoding="utf-8")
                partial.replace(file)
        return answers[machine]


def _read(file: Path) -> dict[str, Verdict]:
    """The answers of earlier processes; none if the file is missing or damaged."""
    try:
        return {
            machine: Verdict(bool(fast), str(why))
            for machine, (fast, why) in json.loads(file.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _try(kind: str) -> Verdict:
    """Run the probe. Whatever ends it but its own answer means no."""
    try:
        done = subprocess.run(
            [sys.executable, str(PROBE), kind], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(False, f"a trial did not end within {PROBE_SECONDS:.0f} s")
    except OSError as error:
        return Verdict(False, f"it could not be tried: {error}")
    if done.returncode:
        return Verdict(False, f"a trial of it was killed on this CPU (exit status {done.returncode})")
    try:
        found = json.loads(done.stdout)
        agrees, ratio = bool(found["agrees"]), found[kind] / found["fp32"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return Verdict(False, "a trial of it gave no answer")
    if not agrees:
        return Verdict(False, "its products are wrong on this CPU")
    return Verdict(ratio < MARGINS[kind], f"it takes {ratio:.2f} times as long as fp32 on this CPU")
