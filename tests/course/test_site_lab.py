"""What the labs share: numbers from an address, results kept, one thread."""

from __future__ import annotations

import functools
import threading

import pytest
import torch

from streamlit_app.content import lab_state
from streamlit_app.render.lab import Kept, one_thread


@pytest.mark.parametrize(
    ("asked", "value", "notices"),
    [
        (None, 0.5, 0),
        ("0.25", 0.25, 0),
        ("0.26", 0.25, 1),  # between two steps
        ("7", 1.0, 1),
        ("-7", 0.0, 1),
        ("inf", 1.0, 1),
        ("nan", 0.5, 1),
        ("many", 0.5, 1),
        ("", 0.5, 1),
    ],
)
def test_a_number_of_an_address_is_brought_to_what_is_on_offer(asked, value, notices):
    said: list[str] = []
    query = {} if asked is None else {"size": asked}
    found = lab_state.number(
        query, "size", default=0.5, limits=(0.0, 1.0), offered=lab_state.whole_steps(0.05), notices=said
    )
    assert found == pytest.approx(value)
    assert len(said) == notices
    assert all(notice.startswith("size = ") for notice in said)


def test_the_nearest_choice_is_nearest_as_a_ratio():
    offered = lab_state.nearest_ratio([0.01, 0.1, 1.0])
    assert offered(0.04) == 0.1  # 2.5 times away; 0.01 is four times away
    assert offered(0.02) == 0.01


def test_results_are_kept_and_the_oldest_go_first():
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    kept: Kept[int] = Kept(most=2)
    assert [kept.get(key, functools.partial(make, key)) for key in (1, 2, 1, 3, 1)] == [1, 2, 1, 3, 1]
    assert made == [1, 2, 3, 1]
    kept.clear()
    kept.get(1, lambda: make(1))
    assert made == [1, 2, 3, 1, 1]


def test_a_failure_is_not_kept_and_blocks_nobody():
    kept: Kept[int] = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.get("key", lambda: 1 // 0)
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(kept.get("key", lambda: 5)))
    other.start()
    other.join(timeout=20)
    assert found == [5]


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
