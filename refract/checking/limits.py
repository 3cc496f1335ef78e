"""What an answer may use: memory, files, output, no keyboard."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

KEPT = 2_000  # characters of output that are shown
FLOOD = 5_000_000  # characters of output after which the answer is stopped
MEMORY = 8 * 2**30  # bytes
_FILE = 64 * 2**20  # bytes in one file
STOPPED_EXIT = 77  # exit status of a process that stopped itself after saying why


def memory() -> int:
    """Bytes a check may allocate: 8 GB, or three quarters of the machine if that is less."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return min(MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4)
    return MEMORY


def apply() -> None:
    """Limit this process, where the system knows limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    import torch

    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: _FILE}
    if not torch.backends.cuda.is_built() or not os.path.exists("/dev/nvidiactl"):  # noqa: PTH110
        wanted[resource.RLIMIT_DATA] = memory()  # CUDA maps far more than it uses
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft, soft))


class Printed(io.TextIOBase):
    """Standard output and error of an answer: the first characters are kept, a flood ends the process."""

    def __init__(self, stop: Callable[[str], None]) -> None:
        self._stop, self._kept, self._count = stop, io.StringIO(), 0

    def write(self, text: Any) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._count < KEPT:
            self._kept.write(text[: KEPT - self._count])
        self._count += len(text)
        if self._count > FLOOD:
            self._stop(f"Your code printed more than {FLOOD:,} characters. Take the print out, or print less.")
            os._exit(STOPPED_EXIT)  # an exception could be swallowed
        return len(text)

    def writable(self) -> bool:
        return True

    def text(self) -> str:
        """What is kept, with a note on what is not."""
        kept = self._kept.getvalue()
        return kept if self._count <= KEPT else f"{kept}\n… and {self._count - KEPT:,} characters more"


class _NoKeyboard(io.TextIOBase):
    def readable(self) -> bool:
        return True

    def _refuse(self, *_: Any) -> NoReturn:
        from refract.checking.expect import Malformed

        raise Malformed(
            "Your code waits for the keyboard (input()). A check has none: take what you need as an argument."
        )

    read = readline = readlines = __next__ = _refuse


def redirect(printed: Printed) -> None:
    """Send Python's output to ``printed`` and everything below it nowhere; close the keyboard."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.dup2(null, number)
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = printed  # type: ignore[misc,assignment]
    sys.stdin = _NoKeyboard()
    _warn_once(printed)


def _warn_once(printed: Printed) -> None:
    """Print a warning once, not once for each test, and without the path of a file that the learner never saw."""
    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = f"{category.__name__}: {message}\n"
        if text not in told:
            told.add(text)
            printed.write(text)

    warnings.showwarning = show
