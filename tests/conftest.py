"""Make the course's own pytest plugin available from a checkout that was not installed, and build a toy course."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from refract.paths import SectionPaths

if not any(point.name == "refract" for point in entry_points(group="pytest11")):
    pytest_plugins = ["refract.checking.plugin"]


TOY_SOURCE = """# A toy section

```{{exercise}} double
:difficulty: 1
:importance: 1
:minutes: 1

Twice `x`.

{hints}
:::{{mistake}} squared
You squared <b>x</b> & did not double it.
:::
```

```{{exercise}} quadruple
:difficulty: 1
:importance: 1
:minutes: 1

Four times `x`, by doubling twice.

{hints}
```

```{{exercise}} counter
:difficulty: 1
:importance: 1
:minutes: 1

Count.

{hints}
```
""".format(hints="\n".join(f":::{{hint}} Hint {number}.\n:::" for number in range(1, 5)))

TOY_REFERENCE = '''"""The toy's reference."""

import torch
from jaxtyping import Float
from torch import Tensor


def double(x: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Twice x."""
    return 2 * x


def quadruple(x: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Four times x."""
    return double(double(x))


class counter:
    """Counts."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def step(self) -> int:
        """One more."""
        self.count += 1
        return self.count
'''

TOY_TESTS = '''"""The toy's checkers."""

import pytest
import torch

from refract.checking.expect import expect, expect_close, expect_tensor, unchanged
from refract.checking.marks import mistake, title


@title("Ones become twos")
def test_ones(double):
    expect_close(double(torch.ones(3)), [2.0, 2.0, 2.0], given="x = [1, 1, 1]")


@mistake("squared")
def test_three(double):
    """Three becomes six."""
    expect_close(double(torch.tensor([3.0])), [6.0], given="x = [3]")


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sizes(double, size, dtype):
    x = torch.randn(size, dtype=dtype)
    before = x.clone()
    expect_tensor(double(x), "the double", shape=(size,), dtype=dtype)
    unchanged(before, x, "x")


@pytest.fixture
def doubled_ones(double):
    return double(torch.ones(2))


def test_through_a_fixture(doubled_ones):
    expect_close(doubled_ones, [2.0, 2.0])


def test_quadruple(quadruple):
    expect_close(quadruple(torch.ones(2)), [4.0, 4.0])


def test_together(double, quadruple):
    x = torch.randn(3)
    expect_close(quadruple(x), double(double(x)))


def test_counter(counter):
    tally = counter(2)
    expect(tally.step() == 3, "After 2 comes 3.")


def test_counter_starts_at_zero(counter):
    expect(counter().count == 0, "A counter starts at 0.")
'''

TOY_ANSWERS = '''"""The toy's wrong and right answers."""

from refract.checking.examples import right, wrong


@wrong("double", mistake="squared")
def square(x):
    """Squares."""
    return x**2


@wrong("double", fails="test_ones")
def same(x):
    """Does nothing."""
    return x


@right("double")
def add(x):
    """Adds x to itself."""
    return x + x
'''


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of one section, whose checkers and reference are simple enough to judge the machinery by."""
    root = tmp_path_factory.mktemp("toy")
    for name, text in {
        "chapters/ch1_toy/s1_first.md": TOY_SOURCE,
        "solutions/ch1_toy/s1_first.py": TOY_REFERENCE,
        "tests/ch1_toy/test_s1_first.py": TOY_TESTS,
        "tests/ch1_toy/answers_s1_first.py": TOY_ANSWERS,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def toy(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> SectionPaths:
    """The toy's section, with the course's root moved there."""
    monkeypatch.setenv("REFRACT_ROOT", str(toy_root))
    return SectionPaths("ch1_toy", "s1_first")


@pytest.fixture(scope="module")
def one_thread():
    """One thread of torch: products of tiny tensors gain nothing from a second, and wait for it on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
