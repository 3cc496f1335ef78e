"""One thing that a learner did, as an immutable record."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from refract.errors import RefractError

MOST_BYTES = 1_000_000  # of one event's data: a progress file is no place for tensors
_KIND = re.compile(r"[a-z][a-z_-]{0,39}")


@dataclass(frozen=True)
class Event:
    """Something that happened, once. Two events are the same event if and only if their ids are equal."""

    id: str  # a UUID
    time: datetime  # in UTC
    kind: str  # "attempt", "hint", "solution", "prediction", "skip", "reset", "note", ...
    section: str  # "ch1_superposition/s1_toy_models"
    name: str  # of the exercise or the prediction; "" means the section as a whole
    data: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``from_dict`` reads it back."""
        return {
            "id": self.id,
            "time": self.time.isoformat(timespec="microseconds"),
            "kind": self.kind,
            "section": self.section,
            "name": self.name,
            "data": self.data,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Event:
        """An event from its six values. Raises ``ValueError`` unless each is what it should be."""
        texts = {key: values.get(key) for key in ("id", "time", "kind", "section", "name")}
        for key, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"an event's {key} is not text: {text!r}")
        time = datetime.fromisoformat(str(texts["time"]))
        if time.tzinfo is None:
            raise ValueError("an event's time has no time zone")
        kind, data = str(texts["kind"]), values.get("data")
        if not _KIND.fullmatch(kind) or not isinstance(data, dict):
            raise ValueError("not an event")
        identity = str(uuid.UUID(str(texts["id"])))
        return cls(identity, time.astimezone(UTC), kind, str(texts["section"]), str(texts["name"]), data)


def make(kind: str, section: str, name: str, data: Mapping[str, Any], time: datetime | None = None) -> Event:
    """A new event, with an id and the time of now. Raises ``RefractError`` if it could not be kept faithfully."""
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise RefractError(f"{kind!r} is not a kind of event.", "Use a lower-case word, such as 'attempt'.")
    for text in (section, name):
        if not isinstance(text, str) or not _is_utf8(text) or "\0" in text:
            raise RefractError(f"{text!r} cannot name a section or an exercise.", "Use the name as the course has it.")
    encode(data)
    return Event(str(uuid.uuid4()), time or datetime.now(UTC), kind, section, name, dict(data))


def encode(data: Mapping[str, Any]) -> str:
    """``data`` as JSON. Raises ``RefractError`` for what JSON cannot hold: NaN, tensors, keys that are not text."""
    remedy = "Keep text, whole and finite numbers, true, false, None, and lists and dicts of these."
    _check_keys(data, remedy)
    try:
        text = json.dumps(dict(data), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise RefractError(f"An event's data cannot be kept: {error}.", remedy) from error
    if len(text) > MOST_BYTES:
        raise RefractError(f"An event's data has {len(text):,} bytes; at most {MOST_BYTES:,} are kept.", remedy)
    return text


def _check_keys(value: Any, remedy: str, depth: int = 0) -> None:
    if depth > 50:  # deeper than any sensible record; also ends a list that holds itself
        raise RefractError("An event's data cannot be kept: it is nested too deeply.", remedy)
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RefractError(f"An event's data cannot be kept: the key {key!r} is not text.", remedy)
            _check_keys(item, remedy, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_keys(item, remedy, depth + 1)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
