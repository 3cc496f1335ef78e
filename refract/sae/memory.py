"""The memory of large tensors stays with the process, so that it is not asked for anew at every step.

glibc gives every block above 32 MB back to the system as soon as it is freed. A gradient of W_enc with 18,432 latents
is such a block: the next step asks for it again, and the system fills it with zeros, page by page. That can be a fifth
of a step on a CPU.
"""

from __future__ import annotations

import ctypes
import functools
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1  # what the interface, an int, can say


@functools.cache
def keep_freed() -> bool:
    """Ask the allocator to keep what is freed, for the rest of the process; False where it cannot be asked."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return all([mallopt(M_MMAP_THRESHOLD, LARGEST), mallopt(M_TRIM_THRESHOLD, LARGEST)])
