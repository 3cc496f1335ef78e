"""Answers to ``double`` that misbehave, each with the verdict and the words that name it."""

# The misbehaviour is the point: what a linter objects to here is what is tested.
# ruff: noqa: SIM105, B, PLW, F841
# mypy: ignore-errors

import ctypes
import functools
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@dataclass(frozen=True)
class Hostile:
    name: str
    answer: Any
    status: str
    words: str  # stand in the message
    late: bool = False  # has to be waited for


ALL: list[Hostile] = []


def hostile(status: str, words: str, late: bool = False) -> Callable[[Any], Any]:
    def keep(answer: Any) -> Any:
        ALL.append(Hostile(answer.__name__, answer, status, words, late))
        return answer

    return keep


@hostile("stopped", "took too long", late=True)
def endless_loop(x):
    while True:
        pass


@hostile("stopped", "took too long", late=True)
def endless_loop_that_swallows_everything(x):
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


@hostile("stopped", "took too long", late=True)
def endless_call_in_c(x):
    return sum(iter(int, 1))


@hostile("stopped", "took too long", late=True)
def sleeps(x):
    time.sleep(1000)


@hostile("stopped", "took too long", late=True)
def ignores_signals(x):
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        pass


@hostile("stopped", "closed files that it did not open")
def closes_every_file(x):
    os.closerange(3, 200)
    while True:
        pass


@hostile("failed", "recursion")
def recurses(x):
    return recurses(x) + 1


@hostile("stopped", "characters")
def prints_fifty_megabytes(x):
    for _ in range(50):
        print("x" * 1_000_000)
    return 2 * x


@hostile("stopped", "characters")
def floods_standard_error_for_ever(x):
    while True:
        try:
            sys.stderr.write("y" * 10_000)
        except BaseException:
            pass


@hostile("failed", "sys.exit")
def calls_sys_exit(x):
    sys.exit(0)


@hostile("stopped", "exit status 0")
def exits_with_success(x):
    os._exit(0)


@hostile("stopped", "exit status 3")
def exits_with_three(x):
    os._exit(3)


@hostile("stopped", "SIGKILL")
def kills_itself(x):
    os.kill(os.getpid(), signal.SIGKILL)


@hostile("stopped", "SIGABRT")
def aborts(x):
    os.abort()


@hostile("stopped", "SIGSEGV")
def segmentation_fault(x):
    ctypes.string_at(0)


@hostile("stopped", "SIGTERM")
def kills_its_group(x):
    os.killpg(0, signal.SIGTERM)
    time.sleep(1000)


@hostile("failed", "ends with KeyboardInterrupt")
def raises_keyboard_interrupt(x):
    raise KeyboardInterrupt


class _Own(BaseException):
    pass


@hostile("failed", "_Own: mine")
def raises_a_base_exception(x):
    raise _Own("mine")


@hostile("failed", "ends with Exit")
def ends_the_test_run(x):
    pytest.exit("over")


@hostile("failed", "skips the test")
def skips_the_test(x):
    pytest.skip("not today")


@hostile("failed", "ValueError: no")
def raises(x):
    raise ValueError("no")


@hostile("failed", "what came is None (is a `return` missing?)")
def returns_none(x):
    2 * x


@hostile("failed", "what came is a list of 3")
def returns_a_list(x):
    return (2 * x).tolist()


@hostile("failed", "what came is a tuple of 2")
def returns_a_tuple(x):
    return 2 * x, x


@hostile("failed", "a numpy array of shape (3,)")
def returns_numpy(x):
    return 2 * x.numpy()


@hostile("failed", "what came is a generator")
def returns_a_generator(x):
    yield 2 * x


@hostile("failed", "what came is a coroutine")
async def returns_a_coroutine(x):
    return 2 * x


@hostile("failed", "There is NaN in the result")
def returns_nan(x):
    return 2 * x * math.nan


@hostile("failed", "There are NaN and infinity in the result for x = [1, 1, 1]")
def returns_nan_and_infinity(x):
    return torch.tensor([math.nan, math.inf, 1.0])[: len(x)]


@hostile("failed", "changed its input `x`")
def changes_its_input(x):
    return x.mul_(2)


@hostile("failed", "what came has shape (10000,)")
def returns_a_large_tensor(x):
    return torch.zeros(10_000)


@hostile("failed", "more memory than a check may use")
def asks_for_a_terabyte(x):
    return torch.zeros(10**12)


@hostile("failed", "more memory than a check may use")
def fills_memory(x):
    blocks = []
    while True:
        blocks.append(bytes(2**28))


@hostile("failed", "should be a function; it is a class")
class AClass:
    def __call__(self, x):
        return 2 * x


@hostile("failed", "seeds the global random generator of torch")
def seeds_torch(x):
    torch.manual_seed(0)
    return 2 * x


@hostile("failed", "seeds the global random generator of torch")
def seeds_torch_at_random(x):
    torch.seed()
    return 2 * x


@hostile("failed", "seeds the global random generator of torch")
def seeds_the_generator_itself(x):
    torch.default_generator.manual_seed(1)
    return 2 * x


@hostile("failed", "seeds the global random generator of numpy")
def seeds_numpy(x):
    np.random.seed(0)
    return 2 * x


@hostile("failed", "seeds the global random generator of random")
def seeds_random(x):
    random.seed(0)
    return 2 * x


@hostile("failed", "replaced `torch.rand`")
def patches_torch(x):
    torch.rand = torch.zeros
    return 2 * x


@hostile("failed", "replaced `torch.nn.functional.relu`")
def patches_functional(x):
    torch.nn.functional.relu = lambda x: x
    return 2 * x


@hostile("failed", "replaced `torch.Tensor.__add__`")
def patches_tensor(x):
    torch.Tensor.__add__ = lambda self, other: self
    return 2 * x


@hostile("failed", "replaced `torch.allclose`, `torch.equal`, `torch.isclose`")
def patches_comparisons(x):
    torch.allclose = torch.equal = lambda *_, **__: True
    torch.isclose = lambda a, b, **_: torch.ones_like(a, dtype=torch.bool)
    return 0 * x


@hostile("failed", "replaced `builtins.len`")
def patches_builtins(x):
    import builtins

    builtins.len = lambda x: 3
    return 2 * x


@hostile("failed", "default dtype from torch.float32 to torch.float64")
def sets_default_dtype(x):
    torch.set_default_dtype(torch.float64)
    return 2 * x


@hostile("failed", "whether torch records gradients from True to False")
def leaves_gradients_off(x):
    torch.set_grad_enabled(False)
    return 2 * x


@hostile("failed", "deterministic mode")
def sets_deterministic(x):
    torch.use_deterministic_algorithms(True)
    return 2 * x


@hostile("failed", "default device")
def sets_default_device(x):
    torch.set_default_device("meta")
    return torch.ones(3)


@hostile("failed", "waits for the keyboard")
def reads_input(x):
    return float(input("factor? ")) * x


@hostile("failed", "a thread that was still running")
def leaves_a_thread(x):
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return 2 * x


@hostile("failed", "a process that was still running")
def leaves_a_process(x):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return 2 * x


@hostile("failed", "a process that was still running")
def forks(x):
    if os.fork() == 0:
        time.sleep(1000)
    return 2 * x


@hostile("failed", "the working folder")
def leaves_the_folder(x):
    os.chdir("/")
    return 2 * x


@hostile("failed", "File too large")
def writes_a_huge_file(x):
    with Path("big").open("wb") as file:
        for _ in range(1000):
            file.write(bytes(2**20))
    return 2 * x


@hostile("failed", "`nowhere`, which is not defined")
def uses_what_is_not_there(x):
    return nowhere * x


@hostile("failed", "came:     [3]")
def warns_and_is_wrong(x):
    warnings.warn("careful", stacklevel=1)
    return x


_generator = (i for i in range(3))


@hostile("stopped", "the variable `_generator` (a generator)")
def uses_what_cannot_cross(x):
    return next(_generator) * x


_lock = threading.Lock()


@functools.lru_cache(maxsize=2)
def _helper():
    return _lock


@hostile("stopped", "the variable `_lock` (a lock)")
def uses_a_helper_that_cannot_cross(x):
    return 2 * x if _helper() else x


_dataset = bytes(300 * 2**20)


@hostile("stopped", "the variable `_dataset`, which holds more than 256 MB")
def uses_a_dataset(x):
    return 2 * x if _dataset else x


class _Trap:
    def __reduce__(self):
        return os._exit, (5,)


_trap = _Trap()


@hostile("stopped", "exit status 5")
def exits_while_unpacked(x):
    return 2 * x if _trap else x


def _kills_the_server(x):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


def _stops_the_server(x):
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(1000)


# Each is met by replacing the worker. Only where the worker is the answer's parent.
ON_THE_SERVER = [
    Hostile("kills_the_server", _kills_the_server, "stopped", "ended the checker's process"),
    Hostile("stops_the_server", _stops_the_server, "stopped", "took too long", late=True),
]
