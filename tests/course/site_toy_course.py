"""A small course with every directive, for the tests of the site: they do not depend on any real section's text."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import nbformat
import plotly.graph_objects as go

FIRST = "ch1_superposition/s1_first_light"
SECOND = "ch1_superposition/s2_second_look"
BROKEN = "ch2_polysemanticity/s1_broken"

_FIRST = r"""# First light

How many ideas fit into **two** neurons? Costs of \$5 and $10 are no maths, but $p = \frac{1}{2}$ is.
See the [second look](s2_second_look.md#tables) and [the paper](https://example.org/paper).

## Sparse features

A value, {value}`stored:d` of five, and a loss of {value}`loss:.3f`. Types such as
dict[str:blue[1]] stay as written :smile:.

$$\mathbb{E}[x] = \frac{p}{2}$$

- A list with $a_i$ and $$\sum_i a_i = 1$$ in it.

```python
import torch

world = torch.linspace(0, 1, 5)
record("stored", len(world))
```

```{exercise} sample_things
:difficulty: 2
:importance: 3
:minutes: 10

Draw things. Each is present with probability $p$. The zebra is a word of this exercise alone.

:::{hint} Which two things are random here? (quokka)
:::
:::{hint} They must be independent. (wombat)
:::
:::{hint}
Two tensors of shape `(batch, feature)`. (numbat)
:::
:::{mistake} shared_randomness
Every value is below its own $p$. (bilby)
:::
```

```{exercise} double_it
:difficulty: 1
:importance: 1
:minutes: 5

Double a number.

:::{hint} What is $2x$?
:::
```

## What will happen

```{predict} survivors
:kind: choice
:answer: b

How many columns survive at $p = 1$?

- a. One
- b. Two
- c. All five

:::{reveal}
Two survive, as an echidna would tell you.
:::
```

```python
print(survivors(world))
```

```{figure} survivors_plot
:alt: Bars of five norms, two of them long.
:after: survivors

Two bars are long: a caption with a platypus.
```

```{predict} how_many
:kind: number
:answer: stored
:tolerance: 0.5
:range: 0 to inf

How many are stored when sparse?

:::{reveal}
All {value}`stored:d` of them.
:::
```

### A figure that nothing hides

```python
record("loss", 0.0123, within=0.01)
```

```{figure} open_plot
:alt: A line that rises.

A line that rises, plainly.
```

![A red dot](dot.png)

```{claim} five_in_two
:source: Elhage et al. 2022, [section 2](https://example.org/toy)
:replicated: stored >= 5 and loss < 0.1
:partly: stored >= 3

Five features fit into two dimensions.
```

```{aside} Why squares?
Because $x^2$ is smooth.
```

## What is shown

Nothing yet, and <script>alert("no")</script> is text.

```{bonus} The kangaroo problem
Find a $k$ that hops.
```
"""

_SECOND = r"""# Second look

Back to [the first](s1_first_light.md).

## Tables

| name | value |
| --- | --- |
| absolute | $|x|$ |
| norm | $\|W_i\|$ |
| `a_name_that_is_wider_than_any_phone_and_breaks_nowhere` | [long](s1_first_light.md) |

$$x_1 + x_2 + x_3 + x_4 + x_5 + x_6 + x_7 + x_8 + x_9 + x_{10} + x_{11} + x_{12} + x_{13} + x_{14} + x_{15} = 1$$

```{lab} toy_models
Drag the sliders.
```

## Sparse features

The heading again, on another page; antipodal wombles live here.

```{exercise} halve_it
:difficulty: 3
:importance: 2
:minutes: 15

Halve a number.

:::{hint} What is $x / 2$?
:::
```
"""

_BROKEN = """# Broken

```{exercize} oops
Nothing.
```
"""

_REFERENCE = '''"""Reference of the small course."""

from __future__ import annotations

import torch


def sample_things(batch, p):
    """Draw a batch."""
    secret_numbers = torch.rand(batch, 5)
    return (torch.rand(batch, 5) < p) * secret_numbers


def double_it(x):
    """Twice x."""
    return 2 * x
'''

_SECOND_REFERENCE = '''"""Reference of the second section."""

from __future__ import annotations

import torch


def train_toy_models(feature_probability, importance, d_hidden, *, n_steps, batch, learning_rate, on_step=None):
    """Stand in for training: the features come to lie on a circle, evenly."""
    instance, feature = feature_probability.shape
    angle = 2 * torch.pi * torch.arange(feature) / feature + torch.rand(1)
    W = torch.zeros(instance, d_hidden, feature)
    W[:, 0] = torch.cos(angle)
    W[:, -1] = torch.sin(angle)
    for step in range(n_steps):
        on_step(step, torch.full((instance,), 1.0 / (1 + step)))
    return W, torch.zeros(instance, feature)


def representation_norms(W):
    """Lengths of the columns."""
    return W.norm(dim=-2)


def superposition_index(W):
    """Overlap with the others."""
    unit = W / W.norm(dim=-2, keepdim=True)
    overlap = torch.einsum("khi,khj->kij", unit, W).square()
    return overlap.sum(-1) - torch.diagonal(overlap, dim1=-2, dim2=-1)


def halve_it(x):
    """Half of x."""
    return x / 2
'''

_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP4z8CAB+GTG8HSALfKY52fTcuYAAAAAElFTkSuQmCC"


def build(root: Path, broken: bool = True) -> Path:
    """Write the small course into ``root`` and return it."""
    _write(root, FIRST, _FIRST, _REFERENCE)
    _write(root, SECOND, _SECOND, _SECOND_REFERENCE)
    if broken:
        _write(root, BROKEN, _BROKEN, '"""Nothing."""\n')
    (root / "chapters/ch1_superposition/dot.png").write_bytes(base64.b64decode(_DOT))
    folder = root / "assets/figures" / FIRST
    folder.mkdir(parents=True, exist_ok=True)
    dark = {"color": "#0b2a4a"}
    figures = {
        "survivors_plot": go.Figure(go.Bar(y=[1, 1, 0.1, 0, 0])),
        "open_plot": go.Figure(go.Scatter(y=[0, 1, 2], line=dark), layout={"width": 900, "title": {"text": "Rising"}}),
    }
    for name, figure in figures.items():
        (folder / f"{name}.json").write_text(figure.to_json() or "", encoding="utf-8")
    recorded = root / "assets/values" / f"{FIRST}.json"
    recorded.parent.mkdir(parents=True, exist_ok=True)
    entries = {"stored": {"value": 5, "within": 0}, "loss": {"value": 0.0123, "within": 0.01}}
    recorded.write_text(json.dumps(entries), encoding="utf-8")
    _write_worked(root / "solutions" / f"{FIRST}.ipynb")
    return root


def _write_worked(file: Path) -> None:
    """What the first section's given code printed, and how long it took: a hand-made worked notebook."""
    ran = {
        "sparse-features-code": (0.1, ""),
        "exercise-double_it-answer": (0.1, "An answer that prints: tapir."),
        "what-will-happen-code": (7.2, "A dugong: two survive."),
        "a-figure-that-nothing-hides-code": (0.1, "A manatee,\non two lines."),
    }
    cells = []
    for name, (seconds, printed) in ran.items():
        outputs = [nbformat.v4.new_output("stream", text=f"{printed}\n")] if printed else []
        cell = nbformat.v4.new_code_cell("pass", id=name, outputs=outputs, metadata={"refract": {"seconds": seconds}})
        cells.append(cell)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)


def _write(root: Path, section: str, text: str, reference: str) -> None:
    chapter, _, name = section.partition("/")
    for folder, suffix, content in (("chapters", "md", text), ("solutions", "py", reference)):
        file = root / folder / chapter / f"{name}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
