"""What this machine does fast, found by trying it."""

from __future__ import annotations

import contextlib
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

PROBE = Path(__file__).with_name("bf16_probe.py")
PROBE_SECONDS = 90.0  # it takes about 5; torch alone can take 20 to load from a cold disk
MARGIN = 0.9  # bf16 has to take less than this share of fp32's time: it costs accuracy


class Verdict(NamedTuple):
    """Whether to use bf16 on a device, and why."""

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
    machine = this_machine()
    if machine not in _known:
        _known[machine] = _remembered(machine)
    return _known[machine]


_known: dict[str, Verdict] = {}


def this_machine() -> str:
    """What the answer depends on: processor, operating system, torch, and what oneDNN was told to leave alone."""
    told = [f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    return " | ".join([_processor(), platform.platform(), f"torch {importlib.metadata.version('torch')}", *told])


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


def _remembered(machine: str) -> Verdict:
    """The verdict in the cache, or a new one. Without a cache that can be written, every process asks anew."""
    file = cache.folder() / "bf16.json"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(RefractError):
            stack.enter_context(cache.locked("bf16"))
        answers = _read(file)
        if machine not in answers:
            answers[machine] = _try()
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


def _try() -> Verdict:
    """Run the probe. Whatever ends it but its own answer means no."""
    try:
        done = subprocess.run(
            [sys.executable, str(PROBE)], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(False, f"a trial did not end within {PROBE_SECONDS:.0f} s")
    except OSError as error:
        return Verdict(False, f"it could not be tried: {error}")
    if done.returncode:
        return Verdict(False, f"a trial of it was killed on this CPU (exit status {done.returncode})")
    try:
        found = json.loads(done.stdout)
        agrees, ratio = bool(found["agrees"]), found["bf16"] / found["fp32"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return Verdict(False, "a trial of it gave no answer")
    if not agrees:
        return Verdict(False, "its products are wrong on this CPU")
    return Verdict(ratio < MARGIN, f"it takes {ratio:.2f} times as long as fp32 on this CPU")
