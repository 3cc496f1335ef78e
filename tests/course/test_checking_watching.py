"""An answer that changes what it was given: named whatever the exercise, before all else, and never by mistake."""

from __future__ import annotations

import os
import shutil
import types

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refract.checking import run_checks
from refract.checking.examples import Example
from refract.checking.expect import CheckFailure
from refract.checking.result import CHANGES_INPUT
from refract.checking.watching import watched


def complaint(answer, *args, allowed=(), **options) -> str | None:
    """What is said of one call, or None."""
    with watched(answer, allowed) as watched_answer:
        try:
            watched_answer(*args, **options)
        except CheckFailure as failure:
            assert failure.mistake == CHANGES_INPUT
            return str(failure)
    return None


def through_data(x):
    x.data.mul_(2)


def through_numpy(x):
    x.numpy()[0] = 9


def by_index(x):
    x[0] = 9


def by_shape(x):
    x.unsqueeze_(0)


def by_assignment(x):
    x += 1


def nan_away(x):
    x.nan_to_num_()


@pytest.mark.parametrize("change", [through_data, through_numpy, by_index, by_shape, by_assignment, nan_away])
def test_each_way_to_change_a_tensor_is_seen(change):
    said = complaint(change, torch.tensor([1.0, float("nan")]))
    assert said is not None and said.startswith("Your answer changed its input `x`, which its caller still needs.")
    assert "before: [1, nan]" in said


@pytest.mark.parametrize(
    ("answer", "args", "options", "name"),
    [
        (lambda a, b: b.zero_(), (torch.ones(2), torch.ones(2)), {}, "b"),
        (lambda a, *, b: b.zero_(), (torch.ones(2),), {"b": torch.ones(2)}, "b"),
        (lambda a, **rest: rest["c"].zero_(), (1,), {"c": torch.ones(2)}, "c"),
        (lambda *rows: rows[1].zero_(), (torch.ones(2), torch.ones(2)), {}, "rows[1]"),
        (lambda rows: rows[1].zero_(), ([torch.ones(2), torch.ones(2)],), {}, "rows[1]"),
        (lambda state: state["W"].zero_(), ({"W": torch.ones(2)},), {}, "state['W']"),
        (lambda x: x.fill(0), (np.ones(2),), {}, "x"),
        (torch.Tensor.zero_, (torch.ones(2),), {}, "argument 1"),
    ],
)
def test_the_argument_is_called_by_its_name(answer, args, options, name):
    assert f"changed its input `{name}`" in (complaint(answer, *args, **options) or "")


def trains(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Tensor:
    loss = model(x).square().sum()
    loss.backward()
    optimizer.step()
    return loss


def test_modules_optimizers_and_parameters_are_there_to_be_changed():
    model = nn.BatchNorm1d(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    assert complaint(trains, model, optimizer, torch.randn(4, 3)) is None
    assert not torch.equal(model.weight, before)
    assert complaint(lambda parameters: [p.data.zero_() for p in parameters], list(model.parameters())) is None


@pytest.mark.parametrize(
    ("answer", "args"),
    [
        (lambda x: x.clone().zero_(), (torch.ones(2),)),
        (lambda x: x.mul_(1), (torch.tensor([1.0, float("nan")]),)),
        (lambda x: x.requires_grad_(), (torch.ones(2),)),
        (lambda x: x.zero_(), (torch.ones(2, device="meta"),)),
        (lambda rows: rows.append(torch.ones(2)), ([torch.ones(2)],)),
        (lambda x: x.sum().backward(), (torch.ones(2, requires_grad=True),)),
        (lambda x: x.fill(1), (np.array([1, "a"], dtype=object)[:1],)),
    ],
)
def test_no_false_alarm(answer, args):
    assert complaint(answer, *args) is None


def test_in_a_transform_nothing_is_compared_and_nothing_breaks():
    with watched(lambda x: 2 * x) as double:
        assert torch.func.vmap(double)(torch.ones(3)).tolist() == [2, 2, 2]
        assert torch.func.grad(lambda x: double(x).sum())(torch.ones(3)).tolist() == [2, 2, 2]


class Stubborn(torch.Tensor):
    """Cannot be copied."""

    @classmethod
    def __torch_function__(cls, function, kinds, args=(), kwargs=None):
        raise RuntimeError("not with me")


def test_what_cannot_be_copied_is_let_be():
    assert complaint(lambda x: 1, torch.ones(2).as_subclass(Stubborn)) is None


class Store(dict):
    """Is itself what holds the tensors."""

    def put(self, x: Tensor) -> None:
        self["total"].add_(x)


def test_a_method_may_change_its_own_object():
    with watched(Store) as cls:
        store = cls(total=torch.zeros(2))
        store.put(torch.ones(2))
        assert store["total"].tolist() == [1, 1]


def test_an_exception_passes_unchanged():
    def fails(x):
        x += 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), watched(fails) as answer:
        answer(torch.ones(2))


def test_what_a_test_allows():
    assert complaint(by_index, torch.ones(2), allowed={"x"}) is None
    assert complaint(by_index, torch.ones(2), allowed={"y"}) is not None
    assert complaint(lambda rows: rows[1].zero_(), [torch.ones(2)] * 2, allowed={"rows"}) is None


class Layer(nn.Module):
    """Its methods may do to each other what they like, and to ``self``."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.total = start.clone()

    def _add(self, total: Tensor, x: Tensor) -> Tensor:
        return total.add_(x)

    def forward(self, x: Tensor, careless: bool = False) -> Tensor:
        return x.relu_() if careless else self._add(self.total, x)

    @staticmethod
    def clear(x: Tensor) -> None:
        x.zero_()


def test_a_class_is_watched_method_by_method():
    before = dict(vars(Layer))
    with watched(Layer) as cls:
        assert cls is Layer
        layer = cls(torch.zeros(2))
        assert layer(torch.ones(2)).tolist() == [1, 1]
        with pytest.raises(CheckFailure, match="its input `x`"):
            layer(-torch.ones(2), careless=True)
        with pytest.raises(CheckFailure, match="its input `x`"):
            cls.clear(torch.ones(2))
    assert dict(vars(Layer)) == before
    Layer.clear(torch.ones(2))


def test_the_wrapper_looks_like_the_answer():
    with watched(by_index) as answer:
        assert isinstance(answer, types.FunctionType)
        assert (answer.__name__, answer.__doc__) == (by_index.__name__, by_index.__doc__)


# --- in a check ----------------------------------------------------------------------------------


def squared_or_changed(x):
    """Makes a mistake with a name in an early test, and changes its input in a later one."""
    return x.mul_(2) if len(x) == 5 else x**2


def test_it_is_the_headline_even_where_another_mistake_was_made_before(toy):
    result = run_checks(toy, "double", squared_or_changed)
    assert result.mistake == CHANGES_INPUT
    assert result.message.startswith("Your answer changed its input `x`")
    assert any("[9]" in test.message for test in result.failing)  # the other one is still told of its test
    assert Example("double", None, "a", "", mistake=CHANGES_INPUT).fault(result) is None


def test_it_is_named_before_values_are_compared(toy):
    """The value is right, and the test that fails first never looks at its input."""
    result = run_checks(toy, "double", lambda x: x.mul_(2))
    assert result.mistake == CHANGES_INPUT
    assert result.count == (0, 8)
    assert result.message.endswith("\n7 other tests fail for the same reason.")


CHECKERS = """
import pytest
import torch
from refract.checking.expect import expect_close
from refract.checking.marks import may_change

{mark}
def test_twos(double):
    expect_close(double(torch.ones(2)), [2.0, 2.0])

def test_other(quadruple, counter): pass
"""


@pytest.mark.parametrize(
    ("mark", "passes"),
    [
        ("", False),
        ('@may_change("x")', True),
        ('@may_change("y")', False),
        ('@may_change("x", exercise="quadruple")', False),
        ('pytestmark = may_change("x", exercise="double")', True),
    ],
)
def test_an_exercise_may_be_allowed_to(toy, tmp_path, monkeypatch, mark, passes):
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    toy.tests.write_text(CHECKERS.format(mark=mark))
    assert run_checks(toy, "double", lambda x: x.mul_(2)).passed == passes
