"""Follow a process that judges, until it is done, dead or late. Messages are JSON: nothing it sends is unpickled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

_LARGEST = 512 * 2**20  # bytes of one message

DONE, ENDED, LATE, ABANDONED = "done", "ended", "late", "abandoned"


@dataclass
class Report:
    """What came from a check: its events in order, how it ended, and the exit status if the process ended itself."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ending: str = DONE
    exit: int | None = None  # as subprocess has it: negative for a signal

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == kind]


def send(connection: Any, message: dict[str, Any]) -> None:
    """One JSON message."""
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Any) -> dict[str, Any]:
    """One JSON message. Raises EOFError, OSError or ValueError where there is none."""
    message = json.loads(connection.recv_bytes(_LARGEST))
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message


def follow(reader: Any, seconds: float, abandoned: Callable[[], bool] = lambda: False, watch: Any = None) -> Report:
    """Collect events until ``done``. ``watch`` is the requester's connection: activity on it means it has gone."""
    report, deadline = Report(), time.monotonic() + seconds
    watched: list[Connection] = [reader] if watch is None else [reader, watch]
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            report.ending = LATE
            return report
        ready = wait(watched, min(remaining, 1.0))
        if reader in ready:
            try:
                event = receive(reader)
            except (EOFError, OSError, ValueError):
                report.ending = ENDED
                return report
            report.events.append(event)
            if event.get("event") == DONE:
                return report
        elif ready or abandoned():
            report.ending = ABANDONED
            return report
