"""What a notebook calls: set up, show a figure, record a number, predict and reveal, ask for a hint or the solution."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refract import names, reference, unwritten
from refract.authoring import source, stubs, values
from refract.authoring.model import Exercise, Predict
from refract.errors import RefractError
from refract.paths import SectionPaths, root

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import torch

_current: SectionPaths | None = None
_asked: tuple[str, str, int | None] | None = None  # the last question that reveal() asked for: section, name, cell

LETTERS = "abcdefgh"


def setup(section: str) -> None:
    """Begin a section in this kernel: imports work, the figures' style is set, the checker warms up."""
    global _current  # noqa: PLW0603  (one kernel works on one section at a time)
    _current = names.find_section(section)
    if str(root()) not in sys.path:
        sys.path.insert(0, str(root()))
    from refract.checking import warm
    from refract.plots import style

    style.use()
    warm()
    unwritten.explain()
    if recording() is None:
        print(
            f"{source.load(_current).title}. Everything is ready. Site and terminal know this section as {_current.id}."
        )


def current() -> SectionPaths:
    """The section that ``setup`` was called for in this kernel."""
    if _current is None:
        raise RefractError(
            "No section has been set up here.", "Run the notebook's first two code cells: the second calls `setup`."
        )
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
        _keep(figure, name)
        figure.show()
        return
    from IPython.display import display

    target = folder / "figures" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = figure.to_json(remove_uids=True)
    target.write_text(text, encoding="utf-8")
    bundle = {"application/vnd.plotly.v1+json": json.loads(text), "text/plain": f"[figure: {name}]"}
    display(bundle, raw=True, metadata={"refract": {"figure": name}})


def _keep(figure: go.Figure, name: str) -> None:
    """Keep your own figure for `python -m refract export`; that it cannot be kept must not stop the notebook."""
    from refract.progress import home

    if _current is None:
        return
    target = home() / "figures" / _current.id / f"{name}.json"
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(figure.to_json(remove_uids=True), encoding="utf-8")


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
    line = f"{name} = {values.write(plain, None)}"
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
    known = {prediction.name: prediction for prediction in source.load(current()).predictions}
    if name not in known:
        meant = names.suggestion(name, known)
        raise RefractError(
            f"There is no prediction called {name!r} here.",
            f"{meant}Predictions of this section: {', '.join(known) or 'none'}.",
        )
    return known[name]


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
    if not prediction.least <= number <= prediction.most:
        raise RefractError(f"It cannot be {write_number(number)}.", f"Answer with {write_range(prediction)}.")
    return number


def write_range(prediction: Predict) -> str:
    """What a prediction's number can be, in words."""
    least, most = write_number(prediction.least), write_number(prediction.most)
    if math.isinf(prediction.most):
        return f"a number, {least} or more"
    if math.isinf(prediction.least):
        return f"a number, {most} or less"
    return f"a number from {least} to {most}"


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
    return write_number(float(answer))


def write_number(number: float) -> str:
    """A number as a person writes it: ``2``, not ``2.0``."""
    return f"{number:.6g}"


def parse_confidence(confidence: float | str | None) -> float | None:
    """A confidence as a probability: what is over 1 is read as per cent, so 80 is 0.8 and 1 is certain."""
    if confidence is None:
        return None
    if isinstance(confidence, str) and re.fullmatch(r"\s*\d+(\.\d*)?\s*%?\s*|\s*\.\d+\s*", confidence):
        number: float = float(confidence.strip().rstrip("% "))
    elif isinstance(confidence, int | float) and not isinstance(confidence, bool):
        number = confidence
    else:
        number = math.nan
    if not 0 <= number <= 100:
        raise RefractError(f"confidence={confidence!r} is no probability.", "Write 0.8, or 80, for 80 per cent.")
    return float(number if number <= 1 else number / 100)


def predict(name: str, answer: str | float | None = None, confidence: float | None = None) -> None:
    """Note your answer before you look. ``confidence`` is the probability that you give it, from 0 to 1.

    What is no answer, or no probability, is told in a line and not noted: it does not stop the notebook.
    """
    prediction = _prediction(name)
    if answer is None or answer is ...:
        if recording() is None:
            print(f'Write your answer and how sure you are: predict("{name}", {_example(prediction)}, confidence=0.7)')
        return
    try:
        given, sure = parse_answer(prediction, answer), parse_confidence(confidence)
    except RefractError as error:
        print(f"Not noted: {error}")
        return
    from refract.progress import open_store

    store = open_store()
    store.add_prediction(current().id, name, given, confidence=sure)
    first = next(item for item in store.predictions(current().id) if item.name == name)
    if first.late:
        then = "You have seen the answer already, so this prediction does not count."
    elif first.answer != given or first.confidence != sure:
        how_sure = "" if first.confidence is None else f" ({first.confidence:.0%} sure)"
        then = f"Your first answer, {write_answer(prediction, first.answer)}{how_sure}, is the one that counts."
    else:
        then = "Go on; the answer comes after the figure."
    print(f"Noted: {write_answer(prediction, given)}{'' if sure is None else f', {sure:.0%} sure'}. {then}")


def _example(prediction: Predict) -> str:
    return '"a"' if prediction.kind == "choice" else "3"


def reveal(name: str) -> None:
    """Compare your prediction with what happened, and say why.

    Without a prediction the first run only asks for one; the same cell run twice in a row shows the answer.
    So "run all" gives nothing away, however often, and stops nowhere.
    """
    global _asked
    from IPython.display import Markdown, display

    prediction = _prediction(name)
    recorded = values.load(current())
    right = truth(prediction, recorded)
    from refract.progress import open_store

    store = open_store()
    summary = store.section_summary(current().id)
    given = next((item for item in summary.predictions if item.name == name), None)
    lines = [f"**What happened:** {write_answer(prediction, right)}"]
    if given is None:
        if name not in summary.skipped and recording() is None:
            asked, _asked = _asked, (current().id, name, _cell_number())
            if not _follows(asked, _asked):
                print(
                    f'You have not predicted yet. Answer above, in the cell of predict("{name}", …), and come back.\n'
                    "To see the answer without a prediction, run this cell once more, right away."
                )
                return
            store.add_skip(current().id, name)
        lines.append("You made no prediction.")
    elif given.late:
        lines.append(
            f"You said {write_answer(prediction, given.answer)}, after you had seen the answer: it does not count."
        )
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


def _cell_number() -> int | None:
    """How many cells this kernel has run; ``None`` outside of one."""
    from IPython import get_ipython

    shell = get_ipython()
    return None if shell is None else shell.execution_count


def _follows(before: tuple[str, str, int | None] | None, now: tuple[str, str, int | None]) -> bool:
    """Whether the same question was asked for in the cell that ran just before."""
    if before is None or before[:2] != now[:2]:
        return False
    return before[2] is None or now[2] is None or now[2] - before[2] == 1


# --- help --------------------------------------------------------------------------------------


def _exercise(name: str) -> Exercise:
    name = getattr(name, "__name__", name)  # hint(reconstruct) is as good as hint("reconstruct")
    section = source.load(current())
    exercise = section.exercise(name)
    if exercise is None:
        known = [item.name for item in section.exercises]
        raise RefractError(
            f"There is no exercise called {name!r} here.",
            f"{names.suggestion(name, known)}Exercises of this section: {', '.join(known)}.",
        )
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
    """Fetch the reference for an exercise, to go on with. Its source is shown folded, and nothing else."""
    import html

    from IPython.display import HTML, display

    from refract.progress import open_store

    name = _exercise(name).name
    answer = reference.get(current(), name)
    open_store().add_solution(current().id, name)
    text = html.escape(stubs.solution_source(current(), name))
    display(HTML(f"<details><summary>The reference for <code>{name}</code></summary><pre>{text}</pre></details>"))
    _without_echo(answer)
    return answer


class _NoEcho:
    """For a function or class as ``_ipython_display_``: displays nothing. Instances of the class have no such thing."""

    def __call__(self, *_: object) -> None:
        pass

    def __get__(self, instance: object, owner: type) -> types.MethodType:
        if instance is not None:
            raise AttributeError("an instance is displayed as ever")
        return types.MethodType(self, owner)  # IPython accepts no other kind from a class


def _without_echo(answer: Any) -> None:
    """Let the cell that runs end in ``answer`` without its repr below; the object itself stays as it was."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return

    def restore(*_: object) -> None:
        shell.events.unregister("post_run_cell", restore)
        with contextlib.suppress(AttributeError):  # asked for twice in one cell
            del answer._ipython_display_

    with contextlib.suppress(AttributeError, TypeError):  # an object that takes no attributes is echoed
        answer._ipython_display_ = _NoEcho()
        shell.events.register("post_run_cell", restore)
