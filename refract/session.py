"""What a notebook calls: set up, show a figure, record a number, predict and reveal, ask for a hint or the solution."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refract import reference
from refract.authoring import source, stubs, values
from refract.authoring.model import Exercise, Predict
from refract.errors import RefractError
from refract.paths import SectionPaths, root

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import torch

_current: SectionPaths | None = None

LETTERS = "abcdefgh"


def setup(section: str) -> None:
    """Begin a section in this kernel: imports work, the figures' style is set, the checker warms up."""
    global _current  # noqa: PLW0603  (one kernel works on one section at a time)
    _current = SectionPaths.parse(section)
    if str(root()) not in sys.path:
        sys.path.insert(0, str(root()))
    from refract.checking import warm
    from refract.plots import style

    style.use()
    warm()
    if recording() is None:
        print(
            f"{source.load(_current).title}. Everything is ready. Site and terminal know this section as {_current.id}."
        )


def current() -> SectionPaths:
    """The section that ``setup`` was called for in this kernel."""
    if _current is None:
        raise RefractError("No section has been set up here.", "Run the notebook's first cell.")
    return _current


def recording() -> Path | None:
    """The folder in which the builder collects figures and values, while it runs the worked notebook."""
    folder = os.environ.get("REFRACT_RECORD")
    return Path(folder) if folder else None


# --- figures and values ------------------------------------------------------------------------


def show(figure: go.Figure, name: str) -> None:
    """Display a figure. In the worked notebook it is also saved, as ``assets/figures/<section>/<name>.json``."""
    folder = recording()
    if folder is None:
        figure.show()
        return
    from IPython.display import display

    target = folder / "figures" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = figure.to_json(remove_uids=True)
    target.write_text(text, encoding="utf-8")
    bundle = {"application/vnd.plotly.v1+json": json.loads(text), "text/plain": f"[figure: {name}]"}
    display(bundle, raw=True, metadata={"refract": {"figure": name}})


def record(name: str, value: float | int | str | torch.Tensor, *, within: float = 0.0) -> None:
    """Record a number that the prose quotes, and how far another run may differ from it (absolute).

    In your own notebook it prints your number beside the one in the text.
    """
    plain = _plain(name, value)
    folder = recording()
    if folder is not None:
        target = folder / "values.json"
        known = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
        if name in known:
            raise RefractError(f"The value {name!r} is recorded twice.", "Give one of them another name.")
        known[name] = {"value": plain, "within": within}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(known), encoding="utf-8")
        return
    reference_run = values.load(current()).get(name)
    line = f"{name.replace('_', ' ')}: {values.write(plain, None)}"
    if reference_run is not None:
        slack = f" ± {reference_run.within:.2g}" if reference_run.within else ""
        line += f"   (the course's run: {values.write(reference_run.value, None)}{slack})"
    print(line)


def _plain(name: str, value: Any) -> float | int | str:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        value = int(value)
    if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise RefractError(f"The value {name!r} is {value!r}.", "Record a finite number or a short text.")
    return value


def bar(n_steps: int, label: str) -> Callable[[int, Any], None] | None:
    """An ``on_step`` for a training run: a progress bar with the time that is left."""
    if recording() is not None:
        return None
    from tqdm import tqdm  # the plain bar: the one with widgets warns where they are not installed

    progress = tqdm(total=n_steps, desc=label, mininterval=0.2)

    def on_step(step: int, loss: Any) -> None:
        progress.update()
        if step + 1 == n_steps:
            progress.close()

    return on_step


# --- predictions -------------------------------------------------------------------------------


def _prediction(name: str) -> Predict:
    for prediction in source.load(current()).predictions:
        if prediction.name == name:
            return prediction
    raise RefractError(f"There is no prediction called {name!r} here.", "Use the name in the notebook's cell.")


def parse_answer(prediction: Predict, answer: str | float) -> str | float:
    """A learner's answer in its own type: a letter for a choice, a finite number for a number."""
    if prediction.kind == "choice":
        letters = LETTERS[: len(prediction.options)]
        letter = str(answer).strip().lower()
        if len(letter) != 1 or letter not in letters:
            raise RefractError(
                f"{answer!r} is none of the choices.", f"Answer with one letter of {', '.join(letters)}."
            )
        return letter
    try:
        number = float(answer)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RefractError(f"{answer!r} is not a number.", "Answer with a number.")
    return number


def truth(prediction: Predict, recorded: dict[str, values.Recorded]) -> str | float:
    """What happened: the prediction's own answer, or the recorded value that it names."""
    if prediction.answer in recorded:
        value = recorded[prediction.answer].value
        return value if isinstance(value, str) else float(value)
    return parse_answer(prediction, prediction.answer)


def judge(prediction: Predict, answer: str | float, recorded: dict[str, values.Recorded]) -> bool:
    """Whether an answer is right, to within the prediction's tolerance."""
    right = truth(prediction, recorded)
    if prediction.kind == "choice":
        return answer == right
    return abs(float(answer) - float(right)) <= prediction.tolerance + 1e-9


def write_answer(prediction: Predict, answer: str | float) -> str:
    """An answer in words: the choice's letter and text, or the number."""
    if prediction.kind == "choice":
        return f"{answer}. {prediction.options[LETTERS.index(str(answer))]}"
    return f"{float(answer):.6g}"


def predict(name: str, answer: str | float | None = None, confidence: float | None = None) -> None:
    """Note your answer before you look. ``confidence`` is the probability that you give it, from 0 to 1."""
    prediction = _prediction(name)
    if answer is None or answer is ...:
        if recording() is None:
            print(f'Write your answer and how sure you are: predict("{name}", {_example(prediction)}, confidence=0.7)')
        return
    given = parse_answer(prediction, answer)
    if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1):
        raise RefractError(f"confidence={confidence!r} is no probability.", "Write 0.8 for 80 per cent.")
    from refract.progress import open_store

    store = open_store()
    earlier = [item for item in store.predictions(current().id) if item.name == name]
    store.add_prediction(current().id, name, given, confidence=confidence)
    sure = "" if confidence is None else f", {confidence:.0%} sure"
    if earlier and earlier[0].answer != given:
        first = write_answer(prediction, earlier[0].answer)
        print(f"Noted: {write_answer(prediction, given)}{sure}. Your first answer, {first}, is the one that counts.")
    else:
        print(f"Noted: {write_answer(prediction, given)}{sure}. Go on; the answer comes after the figure.")


def _example(prediction: Predict) -> str:
    return '"a"' if prediction.kind == "choice" else "3"


def reveal(name: str) -> None:
    """Compare your prediction with what happened, and say why."""
    from IPython.display import Markdown, display

    prediction = _prediction(name)
    recorded = values.load(current())
    right = truth(prediction, recorded)
    from refract.progress import open_store

    store = open_store()
    given = next((item for item in store.predictions(current().id) if item.name == name), None)
    lines = [f"**What happened:** {write_answer(prediction, right)}"]
    if given is None:
        lines.append("You made no prediction this time.")
    else:
        correct = judge(prediction, given.answer, recorded)
        store.add_prediction(
            current().id, name, given.answer, confidence=given.confidence, correct=correct, truth=right
        )
        sure = "" if given.confidence is None else f" ({given.confidence:.0%} sure)"
        verdict = "that is right" if correct else "that is not what happened"
        lines.append(f"You said {write_answer(prediction, given.answer)}{sure}: {verdict}.")
    lines.append(values.fill(prediction.reveal, recorded))
    display(Markdown("\n\n".join(lines)))


# --- help --------------------------------------------------------------------------------------


def _exercise(name: str) -> Exercise:
    name = getattr(name, "__name__", name)  # hint(reconstruct) is as good as hint("reconstruct")
    section = source.load(current())
    exercise = section.exercise(name)
    if exercise is None:
        names = ", ".join(item.name for item in section.exercises)
        raise RefractError(f"There is no exercise called {name!r} here.", f"Exercises of this section: {names}.")
    return exercise


def hint(name: str) -> None:
    """Open the next hint of an exercise; each call opens one more."""
    from IPython.display import Markdown, display

    from refract.progress import open_store

    exercise = _exercise(name)
    name = exercise.name
    store = open_store()
    opened = store.hints_opened(current().id, name)
    step = min(opened + 1, len(exercise.hints))
    if opened < len(exercise.hints):
        store.add_hint(current().id, name, step)
    text = values.fill(exercise.hints[step - 1], values.load(current()))
    left = len(exercise.hints) - step
    then = f"{left} more, one a call." if left else f'That was the last. `solution("{name}")` gives the reference.'
    display(Markdown(f"**Hint {step} of {len(exercise.hints)}.** {text}\n\n*{then}*"))


def solution(name: str) -> Any:
    """Fetch the reference for an exercise, to go on with. Its source is shown folded."""
    import html

    from IPython.display import HTML, display

    from refract.progress import open_store

    name = _exercise(name).name
    answer = reference.get(current(), name)
    open_store().add_solution(current().id, name)
    text = html.escape(stubs.solution_source(current(), name))
    display(HTML(f"<details><summary>The reference for <code>{name}</code></summary><pre>{text}</pre></details>"))
    return answer
