"""What checkers say: each way to be wrong has its sentence, and whatever comes is met."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refract.checking import guard
from refract.checking.expect import (
    CheckFailure,
    Malformed,
    count,
    expect,
    expect_close,
    expect_dtype,
    expect_shape,
    expect_tensor,
    expect_type,
    reseed,
    show,
    unchanged,
)


def said(call, *arguments, **options) -> CheckFailure:
    with pytest.raises(CheckFailure) as caught:
        call(*arguments, **options)
    return caught.value


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (1.0, 1),
        (torch.tensor(1.0), 1),
        (1, torch.tensor(1.0)),
        (np.float64(1), 1.0),
        (torch.ones(2), [1.0, 1.0]),
        (torch.ones(2, dtype=torch.float64), torch.ones(2)),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.tensor([True, False]), [True, False]),
        (torch.tensor([float("nan"), 1]), [float("nan"), 1]),
        (torch.tensor([float("inf"), 1]), [float("inf"), 1]),
        (torch.tensor([1 + 1j]), [1 + 1j]),
        (torch.ones(0, 3), torch.ones(0, 3)),
        (torch.tensor([1.00001]), [1.0]),
    ],
)
def test_close(actual, expected):
    expect_close(actual, expected)


@pytest.mark.parametrize(
    "nothing", [None, "text", [1.0, 1.0], (1.0, 1.0), {"a": 1}, object(), torch.ones, iter([1]), 1.0, True]
)
def test_what_is_no_tensor_is_described(nothing):
    for call in (
        lambda: expect_close(nothing, [1.0, 1.0], what="the batch", given="p = 0"),
        lambda: expect_tensor(nothing, "the batch", "p = 0"),
        lambda: expect_shape(nothing, (2,), "the batch", "p = 0"),
        lambda: expect_dtype(nothing, torch.float32, "the batch", "p = 0"),
    ):
        failure = said(call)
        assert isinstance(failure, Malformed)
        assert str(failure).startswith("The batch should be a tensor")
        assert "for p = 0; what came is " in str(failure)


def test_none_asks_for_a_return():
    assert str(said(expect_close, None, 1.0)).endswith("what came is None (is a `return` missing?).")


@pytest.mark.parametrize("actual", [True, [1.0], "1", None, np.ones(2)])
def test_what_is_no_number_is_described(actual):
    assert "a number or a tensor without dimensions" in str(said(expect_close, actual, 1.0))


def test_numpy_is_named():
    assert "a numpy array of shape (2,), not a torch tensor" in str(said(expect_close, np.ones(2), torch.ones(2)))


def test_order_is_type_shape_dtype_values():
    wrong = torch.full((2, 3), float("nan"))
    assert "shape (3, 2)" in str(said(expect_close, wrong, torch.ones(3, 2), dtype=torch.float64))
    assert "dtype float64" in str(said(expect_close, wrong, torch.ones(2, 3), dtype=torch.float64))
    assert "NaN" in str(said(expect_close, wrong, torch.ones(2, 3)))


def test_small_tensors_are_printed_in_full():
    failure = said(
        expect_close, torch.tensor([1.0, 2.123456]), [1.0, 3.0], what="the norms", given="W = I", mistake="m"
    )
    assert str(failure) == "The norms came out wrong for W = I.\n  expected: [1, 3]\n  came:     [1, 2.123]"
    assert failure.mistake == "m"
    assert not isinstance(failure, Malformed)


@pytest.mark.parametrize(
    ("what", "starts"),
    [
        ("the norms", "The norms came out wrong."),
        ("a batch", "A batch came out wrong."),
        ("gradients of W", "Gradients of W came out wrong."),
        ("w_norm", "w_norm came out wrong."),
        ("x_hat at step 3", "x_hat at step 3 came out wrong."),
        ("b", "b came out wrong."),
        ("b after a step", "b after a step came out wrong."),
        ("loss", "loss came out wrong."),
        ("double(3)", "double(3) came out wrong."),
        ("P P (a projection)", "P P (a projection) came out wrong."),
    ],
)
def test_a_sentence_begins_with_a_capital_and_an_identifier_keeps_its_case(what, starts):
    assert str(said(expect_close, torch.ones(2), torch.zeros(2), what=what)).startswith(starts)


def test_one_and_many():
    assert [count(number, "instance") for number in (0, 1, 2, 1000)] == [
        "0 instances", "1 instance", "2 instances", "1,000 instances",
    ]  # fmt: skip
    came = torch.zeros(50)
    came[3] = 1
    assert "1 of 50 entries is off; the worst is at index (3,)" in str(said(expect_close, came, torch.zeros(50)))


def test_many_axes_are_not_printed_in_full():
    assert "the worst is at index" in str(said(expect_close, torch.ones(2, 2, 4), torch.zeros(2, 2, 4)))
    assert "expected: [[0, 0" in str(said(expect_close, torch.ones(4, 4), torch.zeros(4, 4)))


def test_large_tensors_by_their_worst_entry():
    came = torch.zeros(50, 50)
    came[3, 4], came[5, 6] = 1, -7
    text = str(said(expect_close, came, torch.zeros(50, 50)))
    assert "2 of 2,500 entries are off; the worst is at index (5, 6): expected 0, came -7" in text
    assert len(text) < 200


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_not_finite_is_malformed(value, word):
    for failure in (
        said(expect_close, torch.tensor([value, 1]), [1.0, 1.0]),
        said(expect_tensor, torch.tensor([value])),
    ):
        assert isinstance(failure, Malformed)
        assert f"There is {word} in the result" in str(failure)


def test_kinds_of_numbers_are_not_mixed():
    assert "true and false" in str(said(expect_close, torch.tensor([True]), [1.0]))
    assert "should hold true and false" in str(said(expect_close, torch.tensor([1.0]), [True]))
    assert "complex" in str(said(expect_close, torch.tensor([1 + 0j]), [1.0]))


def test_tolerance_is_kept():
    expect_close(torch.tensor([1.09]), [1.0], rtol=0, atol=0.1)
    said(expect_close, torch.tensor([1.11]), [1.0], rtol=0, atol=0.1)
    said(expect_close, torch.tensor([1.11]), [1.0])


def test_expect():
    expect(True, "no")
    expect(torch.tensor([[True]]), "no")
    failure = said(expect, torch.tensor(False), "The mean is off.", "wrong_axis")
    assert (str(failure), failure.mistake) == ("The mean is off.", "wrong_axis")
    with pytest.raises(TypeError, match="one truth value"):
        expect(torch.tensor([True, False]), "no")


def test_type():
    assert expect_type([1], list) == [1]
    assert "should be a float; what came is the int 1" in str(said(expect_type, 1, float))
    assert "should be an int or float; what came is the bool True" in str(said(expect_type, True, (int, float)))
    assert "should be a tensor; what came is a list of 2" in str(said(expect_type, [1, 2], torch.Tensor))


def test_unchanged():
    x = torch.tensor([1.0, float("nan")])
    unchanged(x.clone(), x, "x")
    unchanged([1], [1], "x")
    unchanged(np.ones(2), np.ones(2), "x")
    assert "changed its input `x`" in str(said(unchanged, torch.ones(2), torch.tensor([1.0, 2.0]), "x"))
    said(unchanged, torch.ones(2), torch.ones(2, 1), "x")
    said(unchanged, torch.ones(2), torch.ones(2).double(), "x")
    said(unchanged, [1], [2], "x")


def test_show():
    assert show(torch.tensor([[1.0, 0.123456]])) == "[[1, 0.1235]]"
    assert show(torch.zeros(100, 2)) == "a tensor of shape (100, 2), mean 0, smallest 0, largest 0"
    assert len(show("x" * 10_000)) < 400


def test_isolation_restores_everything():
    import random

    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    with guard.isolated("a"):
        first = torch.rand(3), np.random.rand(3), random.random()
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]
    assert random.getstate() == before[2]
    with guard.isolated("a"):
        again = torch.rand(3), np.random.rand(3), random.random()
    with guard.isolated("b"):
        other = torch.rand(3)
    assert torch.equal(first[0], again[0]) and (first[1] == again[1]).all() and first[2] == again[2]
    assert not torch.equal(first[0], other)


def test_reseeding_in_a_test_is_not_taken_for_the_answers():
    with guard.isolated("a"):
        witness = guard.Witness()
        reseed(3)
        first = torch.rand(2)
        reseed(3)
        assert torch.equal(torch.rand(2), first)
        np.random.rand(2000)
        torch.rand(2000)
        assert witness.complaint() is None
        torch.manual_seed(3)
        reseed(4)
        assert witness.complaint() is None
        torch.manual_seed(3)
        assert "seeds the global random generator of torch" in (witness.complaint() or "")


def test_forking_the_generator_is_no_seeding():
    with guard.isolated("a"):
        witness = guard.Witness()
        with torch.random.fork_rng():
            torch.manual_seed(0)
        torch.Generator().manual_seed(0)
        np.random.RandomState(0)
        np.random.default_rng(0)
        assert witness.complaint() is None
