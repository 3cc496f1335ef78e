"""A thread that is a few items ahead of the one who uses them."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")
_END = object()


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(source: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """The items of ``source``, of which a thread in the background has up to ``ahead`` ready.

    An exception in ``source`` is raised here, after the items before it. The thread begins with the first item and
    ends with this iterator: when that is exhausted, closed or forgotten, or when the program ends.
    """
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # whatever it is, it belongs to the other thread
            put(_Failed(error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)

    def end() -> None:
        stopped.set()
        thread.join(timeout=10)

    # An interpreter that ends under a thread which is inside PyTorch aborts. So the thread ends before it.
    atexit.register(end)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        atexit.unregister(end)
        end()
