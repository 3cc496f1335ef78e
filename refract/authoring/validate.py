"""What must hold between a section's source and the files around it, checked before anything is built."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from refract.authoring import stubs, values
from refract.authoring.model import Aside, Bonus, Claim, Code, Exercise, Figure, Lab, Predict, Prose, Section
from refract.authoring.slugs import slug
from refract.authoring.source import SourceError, tokenizer
from refract.paths import root


def validate(section: Section) -> None:
    """Raise a :class:`SourceError` for the first thing in the source that points at nothing."""
    shown, recorded = _calls(section, "show", 1), _calls(section, "record", 0)
    _check_exercises(section)
    _check_figures(section, shown)
    _check_values(section, recorded)
    _check_labs(section)
    for text, line in texts(section):
        _check_links(section, text, line)


def _fail(section: Section, line: int, problem: str, remedy: str) -> SourceError:
    return SourceError(section.paths.source, line, problem, remedy)


def _find(section: Section, line: int, needle: str) -> int:
    """The line, from ``line`` on, on which ``needle`` stands: a block knows only where it begins."""
    lines = section.paths.source.read_text(encoding="utf-8").split("\n")
    found = (place for place, text in enumerate(lines[line - 1 :], start=line) if needle in text)
    return next(found, line)


def _check_exercises(section: Section) -> None:
    reference = stubs.read(section.paths)
    where = section.paths.reference
    for exercise in section.exercises:
        if exercise.name not in reference.symbols:
            raise _fail(
                section,
                exercise.line,
                f"exercise {exercise.name} has no function or class in {where}.",
                "Write it there, or rename the exercise.",
            )
        stubs.stub(section.paths, exercise.name)  # unbalanced markers are found here, by name
    named = {exercise.name for exercise in section.exercises}
    for name, line in reference.lines.items():
        if name not in named:
            raise SourceError(
                where,
                line,
                f"{name} is public, but no exercise of {section.paths.source} asks for it.",
                f"Add an {{exercise}} {name}, or call it _{name}.",
            )


def _check_figures(section: Section, shown: dict[str, int]) -> None:
    for figure in section.figures:
        if figure.name not in shown:
            raise _fail(
                section,
                figure.line,
                f"figure {figure.name} is shown by no code cell.",
                f'Add show(figure, "{figure.name}") above it.',
            )
    revealing = {figure.after for figure in section.figures}
    for prediction in section.predictions:
        if prediction.name not in revealing:
            raise _fail(
                section,
                prediction.line,
                f"prediction {prediction.name} is never revealed: no figure comes after it.",
                f"Give the figure that shows the answer ':after: {prediction.name}'.",
            )
    captioned = {figure.name for figure in section.figures}
    for name, line in shown.items():
        if name not in captioned:
            raise _fail(
                section, line, f"the code shows {name!r}, but no {{figure}} describes it.", f"Add a {{figure}} {name}."
            )


def _check_values(section: Section, recorded: dict[str, int]) -> None:
    remedy = "Record it above with record(name, value, within=…)."
    for text, line in texts(section):
        for match in values.ROLE.finditer(text):
            line_of_role = _find(section, line, match[0])
            if match["name"] not in recorded:
                problem = f"the prose quotes {match['name']!r}, which no code cell records."
                raise _fail(section, line_of_role, problem, remedy)
            if not _is_format(match["format"] or ""):
                problem = f"{match['format']!r} is no way to write a number."
                raise _fail(section, line_of_role, problem, "Use a format of Python, such as .2f.")
        if _BROKEN_ROLE in values.ROLE.sub("", text):
            at = _find(section, line, _BROKEN_ROLE)
            raise _fail(section, at, "a {value} that names nothing.", "Write {value}`name` or {value}`name:.2f`.")
    for text, line in _plain_texts(section):
        if _BROKEN_ROLE in text:
            problem = "a {value} in a title or a text alternative, where it is not replaced."
            raise _fail(section, _find(section, line, _BROKEN_ROLE), problem, "Say it in the text.")
    for claim in section.claims:
        for condition in filter(None, (claim.replicated, claim.partly)):
            try:
                names = values.condition_names(condition)
            except ValueError as error:
                line = _find(section, claim.line, condition)
                raise _fail(section, line, f"claim {claim.name}: {error}.", "Write a simple condition.") from error
            for name in sorted(names - recorded.keys()):
                problem = f"claim {claim.name} reads {name!r}, which no code cell records."
                raise _fail(section, _find(section, claim.line, condition), problem, remedy)
    for prediction in section.predictions:
        literal = len(prediction.answer) == 1 if prediction.kind == "choice" else _is_number(prediction.answer)
        if not literal and prediction.answer not in recorded:
            problem = f"the answer of {prediction.name} is {prediction.answer!r}, which no code cell records."
            raise _fail(section, _find(section, prediction.line, ":answer:"), problem, remedy)


_BROKEN_ROLE = "{value}"


def _plain_texts(section: Section) -> Iterator[tuple[str, int]]:
    """What is shown as it stands: titles and text alternatives."""
    yield section.title, 1
    for block in section.blocks:
        match block:
            case Aside() | Bonus():
                yield block.title, block.line
            case Figure():
                yield block.alt, block.line


def _is_format(form: str) -> bool:
    for example in (1.5, 1, "text"):
        try:
            format(example, form)
        except ValueError:
            continue
        return True
    return False


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _check_labs(section: Section) -> None:
    for block in section.blocks:
        if isinstance(block, Lab) and not (root() / "streamlit_app" / "labs" / f"{block.name}.py").is_file():
            raise _fail(
                section, block.line, f"there is no lab {block.name}.", f"Write streamlit_app/labs/{block.name}.py."
            )


def texts(section: Section) -> Iterator[tuple[str, int]]:
    """Every piece of Markdown in the section, with its line."""
    for block in section.blocks:
        match block:
            case Prose() | Aside() | Bonus() | Lab():
                yield block.text, block.line
            case Exercise():
                yield block.text, block.line
                for hint in block.hints:
                    yield hint, block.line
                for mistake in block.mistakes:
                    yield mistake.text, mistake.line
            case Predict():
                yield block.question, block.line
                yield block.reveal, block.line
                for option in block.options:
                    yield option, block.line
            case Figure():
                yield block.caption, block.line
            case Claim():
                yield block.statement, block.line
                yield block.source, block.line


def _check_links(section: Section, text: str, line: int) -> None:
    for token in tokenizer().parse(text):
        for child in token.children or []:
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if target:
                _check_target(section, str(target), _find(section, line, str(target)), image=child.type == "image")


def _check_target(section: Section, target: str, line: int, *, image: bool) -> None:
    parts = urlsplit(target)
    if parts.scheme in ("http", "https") and not image:
        return
    if parts.scheme or parts.netloc:
        raise _fail(section, line, f"{target} is fetched from elsewhere.", "Keep pictures and files in the course.")
    file = section.paths.source.parent / unquote(parts.path) if parts.path else section.paths.source
    if not file.exists():
        raise _fail(section, line, f"the link {target} leads nowhere.", "Mend its path, from this file's folder.")
    if parts.fragment and file.suffix == ".md" and parts.fragment not in _anchors(file.read_text(encoding="utf-8")):
        raise _fail(section, line, f"{target} names no heading of {file.name}.", "Use a heading's anchor or an id.")


def _anchors(text: str) -> set[str]:
    """What a link may name in a source: its headings, and the ids of its directives."""
    found: set[str] = set()
    tokens = tokenizer().parse(text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            found.add(slug(following.content))
        elif token.type in ("fence", "colon_fence") and token.info.strip().startswith("{"):
            found.update(token.info.split()[-1:])
    return found


def _calls(section: Section, function: str, position: int) -> dict[str, int]:
    """The literal names passed to ``show`` or ``record`` in the given code, with their lines."""
    found: dict[str, int] = {}
    for block in section.blocks:
        if not isinstance(block, Code):
            continue
        for node in ast.walk(ast.parse(block.source)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function):
                continue
            argument = node.args[position] if len(node.args) > position else None
            line = block.line + node.lineno
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise _fail(section, line, f"{function}() without a literal name.", "Write the name as a string.")
            if argument.value in found:
                raise _fail(section, line, f"{argument.value!r} is used twice in {function}().", "Rename one.")
            found[argument.value] = line
    return found
