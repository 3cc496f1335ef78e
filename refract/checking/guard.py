"""Keep one test's effects to itself: fixed seeds before it, settings restored after it, and a name for what changed."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_expected_seed = 0  # what torch.initial_seed() should be, unless the answer seeded


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random, and take note of it: a seed that differs later is the answer's doing."""
    import numpy as np
    import torch

    torch.manual_seed(seed)
    _expect_seed(torch.initial_seed())
    # A fresh bit generator: numpy's legacy seed() drops its seed sequence, which is how seeding shows.
    np.random.mtrand.set_bit_generator(np.random.MT19937(np.random.SeedSequence(seed)))
    random.setstate(random.Random(seed).getstate())


def _expect_seed(seed: int) -> None:
    global _expected_seed  # noqa: PLW0603  (one process judges one test at a time)
    _expected_seed = seed


def seed_of(text: str) -> int:
    """A fixed seed for a test, from its name. Large, so that no answer's ``manual_seed(0)`` coincides with it."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") + 2**40


@contextmanager
def isolated(name: str) -> Iterator[None]:
    """Fork the random generators of torch, numpy and random, seeded by ``name``; one thread; restore all afterwards."""
    import numpy as np
    import torch

    settings = [(setting, setting.get()) for setting in _settings()]
    folder, seed_before = _cwd(), _expected_seed
    numpy_generator, python_state = np.random.mtrand.get_bit_generator(), random.getstate()
    with torch.random.fork_rng(devices=_devices()):
        seed_everything(seed_of(name))
        torch.set_num_threads(1)  # tests are small: threads that wait for each other cost more than they bring
        try:
            yield
        finally:
            np.random.mtrand.set_bit_generator(numpy_generator)
            random.setstate(python_state)
            _expect_seed(seed_before)
            for setting, before in settings:
                if setting.get() != before:
                    setting.set(before)
            if folder is not None and _cwd() != folder:
                os.chdir(folder)


@functools.cache
def settle_torch() -> None:
    """Let torch do its lazy imports now: the first optimizer brings in a compiler that wraps ``torch.manual_seed``."""
    import torch

    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).zero_grad()


class Witness:
    """What was so before an answer was called; :meth:`complaint` says what is not so after."""

    def __init__(self, patched_by_test: bool = False) -> None:
        settle_torch()
        self.settings = [(setting, setting.get()) for setting in _settings()]
        self.names = [] if patched_by_test else [(label, space, dict(vars(space))) for label, space in _namespaces()]
        self.threads = set(threading.enumerate())
        self.folder, self.processes = _cwd(), _has_children()

    def complaint(self) -> str | None:
        """A sentence for the learner, or None. What was replaced is put back."""
        found = [*self._replaced(), *self._seeded(), *self._changed(), *self._left_running()]
        return " ".join(found) or None

    def _replaced(self) -> Iterator[str]:
        changed = []
        for label, space, before in self.names:
            now = vars(space)
            for name, value in before.items():
                if now.get(name, _MISSING) is not value and not (name.startswith("_") and not name.endswith("__")):
                    changed.append(f"{label}.{name}")
                    setattr(space, name, value)
        if changed:
            names = ", ".join(f"`{name}`" for name in changed[:3]) + (" and others" if len(changed) > 3 else "")
            yield f"Your answer replaced {names}: all other code that uses it changes with it. Leave it as it is."

    @staticmethod
    def _seeded() -> Iterator[str]:
        import numpy as np
        import torch

        what = []
        if torch.initial_seed() != _expected_seed:
            what.append("torch")
        if getattr(np.random.mtrand.get_bit_generator(), "seed_seq", _MISSING) is None:
            what.append("numpy")
        if _python_seeded:
            what.append("random")
            _python_seeded.clear()
        if what:
            yield (
                f"Your answer seeds the global random generator of {' and '.join(what)}: it would draw the same "
                "numbers at every call, and so would all code after it. Draw without seeding: the caller decides."
            )

    def _changed(self) -> Iterator[str]:
        for setting, before in self.settings:
            if setting.get() != before:
                yield f"Your answer changed {setting.name} from {before} to {setting.get()} and left it so."
                setting.set(before)
        if self.folder is not None and _cwd() != self.folder:
            yield "Your answer changed the working folder and left it so."

    def _left_running(self) -> Iterator[str]:
        left = [thread for thread in threading.enumerate() if thread not in self.threads and thread.is_alive()]
        if any(type(thread).__module__ != "tqdm._monitor" for thread in left):  # tqdm keeps one of its own
            yield "Your answer started a thread that was still running when it returned."
        if not self.processes and _has_children():
            yield "Your answer started a process that was still running when it returned."


class _Setting:
    """One process-wide setting of torch: how to read it, how to put it back."""

    def __init__(self, name: str, get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
        self.name, self.get, self.set = name, get, put


def _settings() -> list[_Setting]:
    import torch

    return [
        _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        _Setting("whether torch records gradients", torch.is_grad_enabled, torch.set_grad_enabled),
        _Setting("torch's default device", torch.get_default_device, _set_default_device),
        _Setting(
            "torch's deterministic mode", torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
        ),
        _Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        _Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    ]


def _set_default_device(device: Any) -> None:
    import torch

    torch.set_default_device(None if device.type == "cpu" else device)


_MISSING = object()
_python_seeded: list[str] = []


def watch_random_seed() -> None:
    """Notice ``random.seed``. Called in the worker before an answer is unpacked: the answer may hold the function."""
    original = random.seed

    def seed(*arguments: Any, **options: Any) -> None:
        _python_seeded.append("random.seed")
        original(*arguments, **options)

    random.seed = seed


def _namespaces() -> list[tuple[str, Any]]:
    import builtins
    import math

    import numpy as np
    import torch

    return [
        ("builtins", builtins),
        ("math", math),
        ("random", random),
        ("numpy", np),
        ("torch", torch),
        ("torch.nn", torch.nn),
        ("torch.nn.functional", torch.nn.functional),
        ("torch.nn.init", torch.nn.init),
        ("torch.linalg", torch.linalg),
        ("torch.autograd", torch.autograd),
        ("torch.optim", torch.optim),
        ("torch.random", torch.random),
        ("torch.testing", torch.testing),
        ("torch.Tensor", torch.Tensor),
        ("torch.nn.Module", torch.nn.Module),
        ("torch.nn.Parameter", torch.nn.Parameter),
    ]


def _has_children() -> bool:
    """Whether a process that this one started is still running."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _cwd() -> str | None:
    try:
        return str(os.getcwd())  # noqa: PTH109
    except OSError:
        return None


def _devices() -> list[int]:
    import torch

    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
