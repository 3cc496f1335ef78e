"""``check``: what a notebook calls. Finds section and exercise, judges, records the attempt."""

from __future__ import annotations

import sys
from typing import Any

from refract.authoring.model import Section
from refract.authoring.source import load
from refract.checking.packing import Unpackable, is_definition, pack
from refract.checking.result import NOT_ATTEMPTED, CheckResult
from refract.checking.running import run_checks
from refract.checking.spelling import near, slip_for
from refract.errors import RefractError


def check(answer: Any, name: str | None = None) -> CheckResult:
    """Judge an answer to an exercise of the section that ``setup()`` named.

    ``name`` is the exercise; without it, the name under which the notebook holds ``answer``, or the answer's
    own. ``check("double")`` is as good as ``check(double)``. The answer runs in another process: nothing it does
    reaches this one. Raises RefractError if it is not clear which exercise is meant.
    """
    from refract import session

    paths = session.current()
    section = load(paths)
    if isinstance(answer, str):
        answer, name = _by_name(section, answer), name or answer
    exercise = _exercise(section, answer, name)
    source = ""
    given = answer
    try:
        given = pack(answer)
        source = given.source
    except Unpackable:
        pass  # run_checks says so, in the result
    result = run_checks(paths, exercise, given)
    _record(result, source)
    return result


def _exercise(section: Section, answer: Any, name: str | None) -> str:
    names = [exercise.name for exercise in section.exercises]
    if name is not None:
        if name not in names:
            raise _no_such_exercise(name, names)
        return name
    held = [each for each in names if answer is not None and _user_namespace().get(each) is answer]
    own = getattr(answer, "__name__", None)
    if own in held or (not held and own in names):
        return str(own)
    if len(held) == 1:
        return held[0]
    slip = near(own, names) if isinstance(own, str) and not held else None
    if slip is not None:
        raise RefractError(
            f"You define `{own}`; the exercise is called `{slip}`.",
            f"Rename yours and write check({slip}), or say which is meant: check({own}, {slip!r}).".replace("'", '"'),
        )
    example = names[0] if names else "exercise"
    raise RefractError(
        "It is not clear which exercise this answers.",
        f'Name it: check(my_function, "{example}"). This section\'s exercises: {", ".join(names)}.',
    )


def _by_name(section: Section, text: str) -> Any:
    """What the notebook holds under an exercise's name. Raises RefractError that says what to write instead."""
    names = [exercise.name for exercise in section.exercises]
    if text not in names:
        raise _no_such_exercise(text, names)
    variables = _user_namespace()
    if text in variables:
        return variables[text]
    own = [name for name, value in variables.items() if is_definition(value) and name not in names]
    slip = slip_for(text, own)
    if slip is not None:
        raise RefractError(
            f"You define `{slip}`; the exercise is called `{text}`.", f"Rename yours and write check({text})."
        )
    raise RefractError(f"There is no `{text}` here yet.", f"Run the cell that defines it, then write check({text}).")


def _no_such_exercise(name: str, names: list[str]) -> RefractError:
    meant = near(name, names)
    suggestion = f"Did you mean `{meant}`? " if meant else ""
    return RefractError(
        f"This section has no exercise called {name!r}.", f"{suggestion}Its exercises: {', '.join(names)}."
    )


def _user_namespace() -> dict[str, Any]:
    """The notebook's variables; outside IPython, those of the program that was started."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell.user_ns if shell is not None else vars(sys.modules["__main__"])


def _record(result: CheckResult, source: str) -> None:
    """Write the attempt to the progress file. A check is worth showing even where that fails."""
    if result.status == NOT_ATTEMPTED:
        return
    try:
        from refract.progress import open_store

        open_store().add_attempt(result.to_dict(), source=source or None, via="notebook")
    except Exception as error:
        reason = str(error).split("\n")[0]
        print(f"This attempt was not recorded: {type(error).__name__}: {reason}", file=sys.stderr)
