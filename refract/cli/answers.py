"""``check``: judge the answers in a file."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refract.authoring.model import Section
from refract.cli.common import COMMAND, count, find_exercise, find_section, store, unknown_exercise, work_file
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections
from refract.progress import Store

if TYPE_CHECKING:
    from refract.checking import CheckResult, LoadedAnswers

SOLUTION_SHOWN = "solution shown"  # what a notebook that says `encode = solution("encode")` has for an answer


@dataclass(frozen=True)
class Target:
    """A file of answers, and the section whose exercises they answer."""

    paths: SectionPaths
    file: Path


def find_target(text: str | None, section: str | None) -> Target:
    """From a file's path, a section's name, or nothing: the learner's notebook of the section at hand."""
    if text is not None and (Path(text).suffix in (".ipynb", ".py") or Path(text).is_file()):
        file = Path(text)
        if not file.is_file():
            raise RefractError(f"There is no file {text}.", f"Name a notebook or a .py file, or begin: {COMMAND} start")
        return Target(find_section(section) if section else _section_of(file), file)
    paths = find_section(text if text is not None else section)
    file = work_file(paths)
    if not file.is_file():
        raise RefractError(f"You have no notebook of {paths.id} yet.", f"Begin: {COMMAND} start {paths.section}")
    return Target(paths, file)


def _section_of(file: Path) -> SectionPaths:
    """The section that a notebook's metadata name, or that the file is named after, or the one at hand."""
    from refract.checking.answers import section_in

    with contextlib.suppress(RefractError):  # a broken notebook is told of when its answers are loaded
        found = section_in(file)
        if found is not None:
            return found
    stem = file.name.split(".")[0]  # "s1_toy_models.2026-03-01-120000.ipynb" is of s1_toy_models, too
    named = [paths for paths in all_sections() if stem in (paths.section, work_file(paths).stem)]
    return named[0] if len(named) == 1 else find_section(None)


def check(
    target: Annotated[
        str | None, typer.Argument(help="A notebook, a .py file, or a section.", metavar="FILE|SECTION")
    ] = None,
    exercises: Annotated[list[str] | None, typer.Argument(help="Only these.", metavar="EXERCISE...")] = None,
    section: Annotated[str | None, typer.Option(help="The section, if the file's name does not say it.")] = None,
) -> None:
    """Check your answers. Exit code 0: all that you attempted passed; 1: some did not; 2: nothing could be checked."""
    from refract.authoring import source
    from refract.checking import load_answers

    names = list(exercises or [])
    if target is not None and not _is_target(target):  # `check encode`: an exercise, of whichever section has it
        owner, _ = find_exercise(target, section, or_section=True)
        names, target, section = [target, *names], None, owner.paths.id
    found = find_target(target, section)
    loaded_section = source.load(found.paths)
    for name in names:
        if loaded_section.exercise(name) is None:
            raise unknown_exercise(name, loaded_section)
    progress = store()
    answers = load_answers(found.file, found.paths)
    statuses: dict[str, str] = {}
    for exercise in loaded_section.exercises:
        if names and exercise.name not in names:
            continue
        if exercise.name in answers.shown:
            note_solution(progress, found.paths, exercise.name)
            statuses[exercise.name] = SOLUTION_SHOWN
            typer.echo(f"{exercise.name}: the solution was shown; not checked.")
            continue
        result = judge(found.paths, exercise.name, answers)
        record(progress, result, answers.sources.get(exercise.name), "check")
        statuses[exercise.name] = result.status
        typer.echo(describe(result))
    failed = any(status in ("failed", "stopped") for status in statuses.values())
    if failed:  # what was skipped in the file may be why; else it is of no interest
        for note in notes_of(answers):
            typer.echo(f"Note: {note}")
    typer.echo(closing_line(loaded_section, statuses))
    asked_for = [statuses[name] for name in names]
    raise typer.Exit(1 if failed or "not attempted" in asked_for else 0)


def _is_target(text: str) -> bool:
    known = {name for paths in all_sections() for name in (paths.id, paths.section)}
    return text in known or Path(text).is_file() or Path(text).suffix in (".ipynb", ".py") or "/" in text


def judge(paths: SectionPaths, name: str, answers: LoadedAnswers) -> CheckResult:
    """The result for one exercise of a loaded file; "not attempted" if the file has no such name."""
    from refract.checking import CheckResult, run_checks

    if name not in answers.answers:
        return CheckResult(section=paths.id, exercise=name, status="not attempted")
    return run_checks(paths, name, answers.answers[name])


def notes_of(answers: LoadedAnswers) -> list[str]:
    """What was skipped in the file, without what is said of each exercise anyway."""
    return [note for note in answers.notes if "solution shown" not in note]


def record(progress: Store, result: CheckResult, source: str | None, via: str) -> None:
    """Keep the attempt; an untouched stub is none."""
    if result.status != "not attempted":
        progress.add_attempt(result.to_dict(), source=source, via=via)


def note_solution(progress: Store, paths: SectionPaths, name: str) -> None:
    """A notebook that takes the reference for its answer has shown it, wherever that notebook was run."""
    if not progress.solution_shown(paths.id, name):
        progress.add_solution(paths.id, name)


def describe(result: CheckResult) -> str:
    """One result for a terminal: a line, or the whole message if the answer did not pass."""
    from refract.checking import display

    if result.status in ("passed", "not attempted"):
        return display.as_text(result).splitlines()[0]
    way_on = f"`{COMMAND} hint {result.exercise}`"
    return "\n" + display.as_text(result).replace(f'hint("{result.exercise}")', way_on) + "\n"


def closing_line(section: Section, statuses: dict[str, str]) -> str:
    """How many passed, and which comes next."""
    passed = sum(status == "passed" for status in statuses.values())
    line = f"{passed} of {count(len(statuses), 'exercise')} passed."
    done = ("passed", SOLUTION_SHOWN)
    following = next((name for name, status in statuses.items() if status not in done), None)
    exercise = section.exercise(following) if following else None
    if exercise is None:
        return line
    minutes = count(exercise.minutes, "minute")
    return f"{line} Next: {exercise.name} (about {minutes})."
