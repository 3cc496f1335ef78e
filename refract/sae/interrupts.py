"""Ctrl-C between two steps of a run, where its state is whole and can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back(wanted: bool = True) -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C only makes the function that it gives return True; the second is one as always.

    Without effect in a thread of its own, and where somebody else takes care of Ctrl-C.
    """
    asked = False

    def hold_back(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    in_main = threading.current_thread() is threading.main_thread()
    if not wanted or not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, hold_back)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
