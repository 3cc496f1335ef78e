"""Does bf16 work on this CPU, and is it faster than fp32? Run as a process of its own: a faulty kernel kills it.

Prints one line of JSON: ``{"agrees": ..., "fp32": ..., "bf16": ...}``, the times in seconds.
"""

import contextlib
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

# rows, inner, columns: a language model's layers, a sparse autoencoder, one row alone, and sizes that divide by nothing
SHAPES = [(1024, 576, 1536), (1024, 1536, 576), (512, 576, 4608), (1, 576, 1536), (37, 129, 65)]


def seconds(work: Callable[[], object], repeats: int = 4) -> float:
    """The shortest of several runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def agree(exact: Tensor, rough: Tensor) -> bool:
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


def main() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a killed trial leaves no core file
    torch.manual_seed(0)
    agrees, took = True, {"fp32": 0.0, "bf16": 0.0}
    for rows, inner, columns in SHAPES:
        x, w = torch.randn(rows, inner), torch.randn(inner, columns)
        low_x, low_w = x.bfloat16(), w.bfloat16()
        agrees &= agree(x @ w, low_x @ low_w)
        agrees &= agree(gradient(x[:64], w, torch.float32), gradient(x[:64], w, torch.bfloat16))
        took["fp32"] += seconds(partial(torch.matmul, x, w))
        took["bf16"] += seconds(partial(torch.matmul, low_x, low_w))
    q = torch.randn(16, 9, 128, 64)
    agrees &= agree(q @ q.mT, q.bfloat16() @ q.bfloat16().mT)
    print(json.dumps({"agrees": agrees, **took}))


if __name__ == "__main__":
    main()
