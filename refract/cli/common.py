"""What the commands share: which section and exercise is meant, where the learner's files are, plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from refract import names
from refract.authoring.model import Exercise, Section
from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections, root
from refract.progress import Store, open_store

COMMAND = "python -m refract"


def work_folder() -> Path:
    """Where learners' copies live; git ignores it."""
    return root() / "work"


def work_file(paths: SectionPaths) -> Path:
    """The learner's copy of a section's notebook."""
    shared = sum(other.section == paths.section for other in all_sections()) > 1
    return work_folder() / f"{f'{paths.chapter}_' if shared else ''}{paths.section}.ipynb"


def find_section(name: str | None) -> SectionPaths:
    """The section of that name; without a name, the only one that is begun, or the only one there is."""
    if name is not None:
        return names.find_section(name)
    known = all_sections()
    begun = [paths for paths in known if work_file(paths).exists()]
    for candidates in (begun, known):
        if len(candidates) == 1:
            return candidates[0]
    raise RefractError(
        "Which section do you mean?" if known else f"There are no sections in {root() / 'chapters'}.",
        "Name one: " + ", ".join(paths.section for paths in begun or known)
        if known
        else "Set REFRACT_ROOT to the course's folder, or unset it.",
    )


def find_exercise(name: str, section: str | None, or_section: bool = False) -> tuple[Section, Exercise]:
    """The exercise of that name, in the section named or in whichever section has it.

    ``or_section`` says that a section could have been named as well, for the error's sake.
    """
    from refract.authoring import source

    if section is not None:
        loaded = source.load(find_section(section))
    else:
        owners = [found for found in map(source.load, all_sections()) if found.exercise(name)]
        begun = [found for found in owners if work_file(found.paths).exists()]
        if not owners:
            raise _unknown_anywhere(name, or_section)
        if len(owners) > 1 and len(begun) != 1:
            places = ", ".join(found.paths.id for found in owners)
            raise RefractError(f"Several sections have an exercise {name!r}.", f"Say which with --section: {places}.")
        loaded = (begun if len(begun) == 1 else owners)[0]
    exercise = loaded.exercise(name)
    if exercise is None:
        raise unknown_exercise(name, loaded)
    return loaded, exercise


def unknown_exercise(name: str, section: Section) -> RefractError:
    """The error for a name that is none of the section's exercises."""
    known = [exercise.name for exercise in section.exercises]
    return RefractError(
        f"{section.paths.id} has no exercise {name!r}.",
        f"{names.suggestion(name, known)}Its exercises: {', '.join(known) or 'none'}.",
    )


def _unknown_anywhere(name: str, or_section: bool) -> RefractError:
    """The error for a name that is no exercise of any section."""
    from refract.authoring import source

    known = list(dict.fromkeys(each.name for paths in all_sections() for each in source.load(paths).exercises))
    sections = [paths.section for paths in all_sections()] if or_section else []
    return RefractError(
        f"There is no exercise{' or section' if or_section else ''} called {name!r}.",
        f"{names.suggestion(name, [*known, *sections])}All exercises: {COMMAND} progress",
    )


def next_exercise(section: str | None) -> tuple[Section, Exercise]:
    """The first exercise that is neither passed nor given up, of the section named or of the one last worked on."""
    from refract.authoring import source

    opened = store()
    paths = find_section(section) if section else _last_worked_on(opened)
    loaded = source.load(paths)
    states = opened.summary(paths.id, [exercise.name for exercise in loaded.exercises])
    for exercise in loaded.exercises:
        state = states[exercise.name]
        if not (state.passed or state.solution_shown):
            return loaded, exercise
    raise RefractError(
        f"No exercise of {paths.id} is open: you have passed each, or seen its solution.",
        f"Name one: {COMMAND} hint EXERCISE; or another section, with --section.",
    )


def _last_worked_on(opened: Store) -> SectionPaths:
    """The section with the latest event; without any, the one at hand."""
    known = {paths.id: paths for paths in all_sections()}
    latest = next((event.section for event in reversed(opened.events()) if event.section in known), None)
    return known[latest] if latest else find_section(None)


def store() -> Store:
    """The learner's progress; a mended file is mentioned on stderr."""
    return open_store(notify=lambda message: typer.echo(message, err=True))


def prose(paths: SectionPaths, text: str, indent: str = "") -> str:
    """Markdown for a terminal: recorded values filled in, paragraphs wrapped, code and lists as they are."""
    from refract.authoring import values

    lines: list[str] = []
    paragraph: list[str] = []
    fenced = False

    def flush() -> None:
        if paragraph:
            lines.extend(textwrap.wrap(" ".join(paragraph), 88, break_long_words=False, break_on_hyphens=False))
            paragraph.clear()

    for line in values.fill(text, values.load(paths)).splitlines():
        bare = line.strip()
        fenced ^= bare.startswith("```")
        if bare and not fenced and not bare.startswith(("```", "- ", "* ", "|", "$$")) and not line.startswith("    "):
            paragraph.append(bare)
        else:
            flush()
            if not bare.startswith("```"):
                lines.append(line)
    flush()
    return textwrap.indent("\n".join(lines).strip("\n"), indent)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of text, as wide as they need be."""
    cells = [list(head), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def shown(path: Path) -> str:
    """A path as the reader would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def count(number: int, noun: str) -> str:
    """``1 hint``, ``2 hints``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
