"""``watch``: check again at every save, and show what is next.

``recheck`` and ``screen`` do the work and know nothing of terminals or of the file system's events.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refract.authoring.model import Section
from refract.cli.answers import SOLUTION_SHOWN, Target, describe, find_target, judge, note_solution, notes_of, record
from refract.cli.common import COMMAND, count, prose, shown, store
from refract.errors import RefractError
from refract.progress import Store

if TYPE_CHECKING:
    from refract.checking import CheckResult, LoadedAnswers

_BAR = 30  # characters


@dataclass
class Memory:
    """What the last look at the file found."""

    sources: dict[str, str] = field(default_factory=dict)
    around: str | None = None  # the code outside the exercises, on which their answers may lean
    results: dict[str, CheckResult] = field(default_factory=dict)
    solutions: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    trouble: str = ""  # why the file could not be read this time

    def status(self, name: str) -> str:
        """Of one exercise: a check's status, or that its answer is the solution."""
        if name in self.solutions:
            return SOLUTION_SHOWN
        return self.results[name].status if name in self.results else "not attempted"


def recheck(section: Section, target: Target, memory: Memory, progress: Store) -> list[str]:
    """Look at the file again, and check the exercises whose source has changed; all, if the code around them has.

    A file that cannot be read, half saved perhaps, changes nothing but ``memory.trouble``.
    Returns the names of the exercises that were checked.
    """
    from refract.checking import load_answers

    try:
        code = _code(target.file)
        answers = load_answers(target.file, target.paths)
    except (RefractError, OSError, ValueError) as error:
        memory.trouble = f"{shown(target.file)} cannot be read just now: {error}".splitlines()[0]
        return []
    memory.trouble = ""
    around = _around(code, answers)
    names = [exercise.name for exercise in section.exercises]
    changed = [
        name for name in names if around != memory.around or answers.sources.get(name) != memory.sources.get(name)
    ]
    memory.around, memory.sources, memory.solutions = around, dict(answers.sources), set(answers.shown)
    memory.notes = notes_of(answers)
    for name in changed:
        if name in memory.solutions:
            note_solution(progress, target.paths, name)
            memory.results.pop(name, None)
        else:
            memory.results[name] = judge(target.paths, name, answers)
            record(progress, memory.results[name], answers.sources.get(name), "watch")
    return changed


def _code(file: Path) -> str:
    """The file's code. Raises ``ValueError`` for a broken notebook."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".ipynb":
        return text
    import json

    try:
        cells = json.loads(text)["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"it is no whole notebook ({error})") from error


def _around(code: str, answers: LoadedAnswers) -> str:
    """The code without the exercises' own."""
    for source in sorted(answers.sources.values(), key=len, reverse=True):
        code = code.replace(source.strip(), "")
    return code


def screen(section: Section, target: Target, memory: Memory) -> str:
    """What the terminal shows: a bar, what is passed, the first answer that fails and why, and what is next."""
    names = [exercise.name for exercise in section.exercises]
    done = [name for name in names if memory.status(name) in ("passed", SOLUTION_SHOWN)]
    filled = _BAR * len(done) // max(len(names), 1)
    lines = [
        f"{section.title}: {shown(target.file)}",
        f"[{'#' * filled}{'-' * (_BAR - filled)}] {len(done)} of {len(names)}",
    ]
    lines += [f"  {memory.status(name):<14}  {name}" for name in done]
    failing = next((name for name in names if memory.status(name) in ("failed", "stopped")), None)
    following = failing or next((name for name in names if name not in done), None)
    exercise = section.exercise(following) if following else None
    if failing:
        lines += [describe(memory.results[failing]).rstrip()]
        lines += ["", *(f"Note: {note}" for note in memory.notes)] if memory.notes else []
    elif exercise:
        lines += [
            "",
            f"Next: {exercise.name} (about {count(exercise.minutes, 'minute')})",
            prose(section.paths, _opening(exercise.text), "  "),
        ]
        lines += ["", f"Stuck? {COMMAND} hint {exercise.name}"]
    else:
        lines += ["", "All exercises of this section are done."]
    if memory.trouble:
        lines += ["", memory.trouble, "  It will be checked at the next save."]
    return "\n".join(lines)


def _opening(text: str) -> str:
    """The first paragraph."""
    return text.strip().split("\n\n")[0]


def watch(
    target: Annotated[
        str | None, typer.Argument(help="A notebook, a .py file, or a section.", metavar="FILE|SECTION")
    ] = None,
    section: Annotated[str | None, typer.Option(help="The section, if the file's name does not say it.")] = None,
) -> None:
    """Check again at every save, and show what is next. Ctrl-C ends it."""
    from refract.authoring import source

    found = find_target(target, section)
    follow(source.load(found.paths), found, store(), _show)


def follow(section: Section, target: Target, progress: Store, show: Callable[[str], None]) -> None:
    """Recheck now and after every change of the file, until Ctrl-C."""
    try:
        import watchfiles
    except ImportError as error:
        raise RefractError("`watch` needs the package watchfiles.", "Install it: pip install watchfiles") from error
    memory, file = Memory(), target.file.resolve()
    try:
        # The folder, not the file: editors save by renaming another file over it.
        changes = watchfiles.watch(
            file.parent,
            watch_filter=lambda _, path: Path(path).name == file.name,
            recursive=False,
            yield_on_timeout=True,
            rust_timeout=250,
            raise_interrupt=True,
        )
        before: tuple[int, int] | None = None
        for _ in changes:  # a quarter of a second without changes counts as well: the first look needs no change
            now = _stamp(file)
            if now != before:
                before = now
                recheck(section, target, memory, progress)
                show(screen(section, target, memory) + "\n\nWatching. Ctrl-C ends it.")
    except KeyboardInterrupt:
        typer.echo("\nStopped watching. Your results are kept.")


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:  # between an editor's removal and its rename
        return None
    return status.st_mtime_ns, status.st_size


def _show(text: str) -> None:
    if sys.stdout.isatty():
        text = "\033[2J\033[3J\033[H" + text  # an empty screen, from its top
    typer.echo(text)
