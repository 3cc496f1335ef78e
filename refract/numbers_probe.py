"""Does a kind of numbers work on this CPU, and is it faster than fp32? A process of its own: a faulty kernel kills it.

``python numbers_probe.py bf16`` (or int8) prints one line of JSON: ``{"agrees": ..., "fp32": ..., "bf16": ...}``, the
times in seconds.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F


def seconds(work: Callable[[], object], repeats: int = 6) -> float:
    """The shortest of several runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


# --- bf16 -------------------------------------------------------------------------------------------


def bf16() -> tuple[bool, float, float]:
    """Whether products and their gradients agree; seconds in fp32 and in bf16."""
    # rows, inner, columns: a language model's layers, a sparse autoencoder, one row alone, sizes that divide by nothing
    shapes = [(1024, 576, 1536), (1024, 1536, 576), (512, 576, 4608), (1, 576, 1536), (37, 129, 65)]
    agrees, full, low = True, 0.0, 0.0
    for rows, inner, columns in shapes:
        x, w = torch.randn(rows, inner), torch.randn(inner, columns)
        low_x, low_w = x.bfloat16(), w.bfloat16()
        agrees &= near(x @ w, low_x @ low_w)
        agrees &= near(gradient(x[:64], w, torch.float32), gradient(x[:64], w, torch.bfloat16))
        full += seconds(partial(torch.matmul, x, w))
        low += seconds(partial(torch.matmul, low_x, low_w))
    q = torch.randn(16, 9, 128, 64)
    return agrees and near(q @ q.mT, q.bfloat16() @ q.bfloat16().mT), full, low


def near(exact: Tensor, rough: Tensor) -> bool:
    """Within what rounding to 8 bits explains."""
    return bool((exact - rough.float()).norm() < 0.02 * exact.norm())


def gradient(x: Tensor, w: Tensor, dtype: torch.dtype) -> Tensor:
    """Of a layer with a bias, as autocast computes it."""
    w = w.clone().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y = F.linear(x, w.T, torch.zeros(w.shape[1]))
    y.float().square().sum().backward()
    assert w.grad is not None
    return w.grad


# --- int8 -------------------------------------------------------------------------------------------


def int8() -> tuple[bool, float, float]:
    """Whether products agree; seconds in fp32 and in int8."""
    # rows, inner, columns: some examples by a dictionary, and sizes that divide by nothing
    shapes = [(512, 576, 4608), (128, 128, 2048), (37, 129, 65)]
    agrees, full, low = True, 0.0, 0.0
    for rows, inner, columns in shapes:
        left = torch.randint(-127, 128, (rows, inner), dtype=torch.int8)
        right = torch.randint(-127, 128, (columns, inner), dtype=torch.int8)
        largest = torch.full_like(left, 127)
        agrees &= same(left, right) and same(largest, torch.full_like(right, -127)) and same(largest, right.abs())
        full += seconds(partial(torch.matmul, left.float(), right.float().mT))
        low += seconds(partial(torch._int_mm, left, right.mT))
    return agrees, full, low


def same(left: Tensor, right: Tensor) -> bool:
    """Exactly: sums of integers are not rounded. There are kernels that let 16-bit sums overflow."""
    return torch.equal(torch._int_mm(left, right.mT).double(), left.double() @ right.double().mT)


def main(kind: str) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a killed trial leaves no core file
    torch.manual_seed(0)
    agrees, full, low = {"bf16": bf16, "int8": int8}[kind]()
    print(json.dumps({"agrees": agrees, "fp32": full, kind: low}))


if __name__ == "__main__":
    main(sys.argv[-1])
