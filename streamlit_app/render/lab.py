"""What all labs share: settings that live in the address, figures in two columns, models kept, one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import plotly.graph_objects as go
import streamlit as st
import torch


class LabState(Protocol):
    """What a lab's controls say."""

    def to_query(self) -> dict[str, str]:
        """As the parameters of an address."""


S = TypeVar("S", bound=LabState)
T = TypeVar("T")


class Controls(Generic[S]):
    """A lab's settings, in the controls and in the page's address at the same time."""

    def __init__(
        self, key: str, kind: type[S], fields: Sequence[str], parse: Callable[[Mapping[str, str]], tuple[S, list[str]]]
    ) -> None:
        self.key, self._kind, self._fields, self._parse = key, kind, tuple(fields), parse

    def name(self, field: str) -> str:
        """The key of the control that holds ``field``."""
        return f"{self.key}-{field}"

    def read_address(self) -> None:
        """Once per visit: the controls take the address's settings."""
        if self.name(self._fields[0]) not in st.session_state:
            state, notices = self._parse(st.query_params.to_dict())
            for field in self._fields:
                st.session_state[self.name(field)] = getattr(state, field)
            st.session_state[self.name("notices")] = notices
            if notices:
                self._to_address(state)
        for notice in st.session_state.get(self.name("notices"), []):
            st.warning(notice, icon=":material/warning:")

    def write_address(self) -> None:
        """The address takes the controls' settings: what every control calls when it is moved."""
        st.session_state[self.name("notices")] = []
        self._to_address(self.state())

    def state(self) -> S:
        """What the controls say now."""
        defaults = {field: getattr(self._kind, field) for field in self._fields}
        return self._kind(**{field: st.session_state.get(self.name(field), defaults[field]) for field in self._fields})

    def _to_address(self, state: S) -> None:
        st.query_params.from_dict({**st.query_params.to_dict(), **state.to_query()})


def figures(key: str, shown: Sequence[tuple[str, go.Figure, str]]) -> None:
    """Figures in two columns: name, figure, text alternative."""
    columns = st.columns(2)
    for place, (name, figure, alt) in enumerate(shown):
        with columns[place % 2]:
            st.plotly_chart(figure, key=f"{key}-{name}", alt=alt, theme="streamlit", config={"displayModeBar": False})


class Kept(Generic[T]):
    """The last few results, shared by all sessions, made by one session at a time."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._results: dict[Hashable, T] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result for ``key``, from memory if it was asked for before."""
        if key not in self._results:
            with self._lock, one_thread():
                made = make()
            while len(self._results) >= self._most:
                self._results.pop(next(iter(self._results)), None)
            self._results[key] = made
        return self._results[key]

    def clear(self) -> None:
        """Forget everything."""
        self._results.clear()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: models this small gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
