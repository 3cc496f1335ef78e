"""A small course to build: its code is cheap, and every directive but the lab stands in it."""

from __future__ import annotations

from pathlib import Path

from refract.paths import SectionPaths

SECTION = SectionPaths("ch1_toy", "s1_sums")

SOURCE = """\
# Sums

How far does a sum go? Read on; [the exercise](#adding) comes soon.

## Adding

```{exercise} total
:difficulty: 1
:importance: 2
:minutes: 3

Add all `numbers`; there are {value}`how_many` of them below.

:::{hint} What is the sum of nothing?
:::
:::{hint}
Begin at zero_hint_marker and add each.
:::
:::{mistake} off_by_one
Your sum is one more than the sum.
:::
```

```{predict} size
:kind: number
:answer: grand_total
:tolerance: 2
:range: 0 to 90

How large is the sum of 0, 1, …, 9?

:::{reveal}
The revealed_marker: it is {value}`grand_total`.
:::
```

```{predict} parity
:kind: choice
:answer: a

Is it odd?

- a. Odd
- b. Even

:::{reveal}
Odd: five of the ten are.
:::
```

## Looking

```python
import plotly.graph_objects as go

numbers = list(range(10))
sums = [total(numbers[: end + 1]) for end in numbers]
show(go.Figure(go.Scatter(x=numbers, y=sums)), "growth")
show(go.Figure(go.Bar(x=numbers, y=[number % 2 for number in numbers])), "odd")
record("how_many", len(numbers))
record("grand_total", sums[-1], within=0.5)
record("mean", sums[-1] / len(numbers))
```

```{figure} growth
:alt: A curve that bends upwards from 0 to 45.
:after: size

The sum of the first numbers, to {value}`grand_total`.
```

```{figure} odd
:alt: Ten bars, of which every other one is high.
:after: parity

Which numbers are odd.
```

The mean is {value}`mean:.2f`.

```{claim} quadratic
:source: [Gauss](https://example.org/gauss)
:replicated: abs(grand_total - how_many * (how_many - 1) / 2) < 0.1
:partly: grand_total > 0

The sum of the numbers below $n$ is $n (n - 1) / 2$.
```

:::{aside} Why zero?
The empty sum changes nothing.
:::

```{bonus} Squares
Add the squares.
```
"""

REFERENCE = '''\
"""Reference for sums."""

from __future__ import annotations

from collections.abc import Sequence

from solutions.ch1_toy.tools import START


def total(numbers: Sequence[int]) -> int:
    """The sum of ``numbers``; that of nothing is 0."""
    running_answer = START
    for number in numbers:
        running_answer += number
    return running_answer
'''

TOOLS = '''\
"""What the reference imports."""

from solutions.ch1_toy.deeper import ZERO

START = ZERO
'''

DEEPER = '''\
"""What that imports."""

ZERO = 0
'''

TESTS = '''\
"""Checkers for sums."""

from refract.checking.expect import expect


def test_three(total):
    expect(total([1, 2, 3]) == 6, "1 + 2 + 3 is 6.")


def test_nothing(total):
    expect(total([]) == 0, "The sum of nothing is 0.")
'''


def write(root: Path, source: str = SOURCE, reference: str = REFERENCE) -> None:
    """Write the course under ``root``."""
    for name, text in {
        "chapters/ch1_toy/s1_sums.md": source,
        "solutions/ch1_toy/s1_sums.py": reference,
        "solutions/ch1_toy/tools.py": TOOLS,
        "solutions/ch1_toy/deeper.py": DEEPER,
        "tests/ch1_toy/test_s1_sums.py": TESTS,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def line_of(text: str, needle: str, nth: int = 1) -> int:
    """The number of the nth line that holds ``needle``."""
    found = [number for number, line in enumerate(text.split("\n"), start=1) if needle in line]
    return found[nth - 1]
