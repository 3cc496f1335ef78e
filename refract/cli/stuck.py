"""``hint`` and ``solution``: the ways on."""

from __future__ import annotations

from typing import Annotated

import typer

from refract.cli.common import COMMAND, count, find_exercise, next_exercise, prose, store
from refract.paths import all_sections

ExerciseArgument = Annotated[str, typer.Argument(help="The function's name.", metavar="EXERCISE")]
SectionOption = Annotated[str | None, typer.Option("--section", help="Its section, if several have such an exercise.")]


def hint(
    exercise: Annotated[
        str | None,
        typer.Argument(help="The function's name; else the next one that you have not passed.", metavar="EXERCISE"),
    ] = None,
    section: SectionOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Show the hints that are open already; open no other.")
    ] = False,
) -> None:
    """Open the next hint: a question, the idea, the shapes, a line of code."""
    if exercise in [name for paths in all_sections() for name in (paths.id, paths.section)]:
        exercise, section = None, exercise
    loaded, found = find_exercise(exercise, section, or_section=True) if exercise else next_exercise(section)
    if not exercise:
        typer.echo(f"Your next exercise: {found.name} ({loaded.paths.id})\n")
    progress, total = store(), len(found.hints)
    state = progress.state(loaded.paths.id, found.name)
    mistake = found.mistake(state.last_mistake) if state.last_mistake else None
    if mistake is not None:
        typer.echo("Your last attempt:")
        typer.echo(prose(loaded.paths, mistake.text, "  ") + "\n")
    opened = min(state.hints_opened, total)
    if again:
        steps = range(1, opened + 1)
    elif opened < total:
        opened += 1
        steps = range(opened, opened + 1)
        progress.add_hint(loaded.paths.id, found.name, opened)
    else:
        steps = range(max(total, 1), total + 1)
    for step in steps:
        typer.echo(f"Hint {step} of {total}")
        typer.echo(prose(loaded.paths, found.hints[step - 1], "  "))
    left = total - opened
    way_on = f"Still stuck? {COMMAND} solution {found.name} --show-me"
    typer.echo(f"\n{count(left, 'hint')} left." if left else f"\nNo hints left. {way_on}")


def solution(
    exercise: ExerciseArgument,
    section: SectionOption = None,
    show_me: Annotated[bool, typer.Option("--show-me", help="Show it before you have passed.")] = False,
) -> None:
    """Print the reference solution: after you have passed, or when you ask for it."""
    from refract.authoring import stubs

    loaded, found = find_exercise(exercise, section)
    source = stubs.solution_source(loaded.paths, found.name)
    progress = store()
    state = progress.state(loaded.paths.id, found.name)
    if not (state.passed or state.solution_shown or show_me):
        left = len(found.hints) - state.hints_opened
        hints = f" There {'is' if left == 1 else 'are'} {count(left, 'hint')} left." if left > 0 else ""
        typer.confirm(f"You have not passed {found.name} yet.{hints} Show the solution?", abort=True, err=True)
    progress.add_solution(loaded.paths.id, found.name)
    typer.echo(source)
