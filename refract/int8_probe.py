"""Are products of 8-bit integers right on this CPU, and fast? Run as a process of its own: a faulty kernel kills it.

Prints one line of JSON: ``{"agrees": ..., "fp32": ..., "int8": ...}``, the times in seconds.
"""

import contextlib
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

# rows, inner, columns: a few examples at a time by a dictionary, and sizes that divide by nothing
SHAPES = [(128, 576, 4608), (128, 128, 2048), (37, 129, 65)]


def seconds(work: Callable[[], object], repeats: int = 8) -> float:
    """The shortest of several runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def agree(left: Tensor, right: Tensor) -> bool:
    """Exactly: sums of integers are not rounded. There are kernels that let 16-bit sums overflow."""
    return torch.equal(torch._int_mm(left, right.mT).double(), left.double() @ right.double().mT)


def main() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a killed trial leaves no core file
    torch.manual_seed(0)
    agrees, took = True, {"fp32": 0.0, "int8": 0.0}
    for rows, inner, columns in SHAPES:
        left = torch.randint(-127, 128, (rows, inner), dtype=torch.int8)
        right = torch.randint(-127, 128, (columns, inner), dtype=torch.int8)
        largest = torch.full_like(left, 127)
        agrees &= agree(left, right) and agree(largest, torch.full_like(right, -127)) and agree(largest, right.abs())
        x, w = left.float(), right.float()
        took["fp32"] += seconds(partial(torch.matmul, x, w.mT))
        took["int8"] += seconds(partial(torch._int_mm, left, right.mT))
    print(json.dumps({"agrees": agrees, **took}))


if __name__ == "__main__":
    main()
