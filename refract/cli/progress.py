"""``progress``: what is done, and how well the predictions went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from refract.authoring.model import Section
from refract.cli.common import count, find_section, store, table
from refract.paths import SectionPaths, all_sections
from refract.progress import Calibration, Prediction, SectionSummary, Store

app = typer.Typer(invoke_without_command=True, add_completion=False)


@app.callback()
def progress(
    context: typer.Context,
    section: Annotated[str | None, typer.Option(help="Only this section.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what you have done; `progress import FILE` adds what you did elsewhere."""
    if context.invoked_subcommand is None:
        chosen = [find_section(section)] if section else all_sections()
        typer.echo(as_json(store(), chosen) if json else as_text(store(), chosen))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A progress file (.db), or a zip made by `export`.", metavar="FILE")],
) -> None:
    """Add another progress file to yours. Doing it twice does no harm."""
    added = store().merge(file)
    typer.echo(f"{count(added, 'event')} added from {file}." if added else f"Nothing new in {file}.")


def summaries(progress: Store, chosen: list[SectionPaths]) -> list[tuple[Section, SectionSummary]]:
    """Each section with where the learner stands in it."""
    from refract.authoring import source

    loaded = [source.load(paths) for paths in chosen]
    return [
        (section, progress.section_summary(section.paths.id, [exercise.name for exercise in section.exercises]))
        for section in loaded
    ]


def as_data(progress: Store, chosen: list[SectionPaths]) -> dict[str, Any]:
    """Sections, exercises, predictions and calibration as plain JSON values."""
    sections = []
    for section, summary in summaries(progress, chosen):
        last = summary.last_activity
        sections.append(
            {
                "section": section.paths.id,
                "title": section.title,
                "passed": summary.passed,
                "total": summary.total,
                "last_activity": last.isoformat() if last else None,
                "exercises": [state.to_dict() for state in summary.exercises.values()],
                "predictions": [prediction.to_dict() for prediction in summary.predictions],
                "shown_unpredicted": sorted(summary.skipped),
            }
        )
    return {"sections": sections, "calibration": _calibration(progress, chosen).to_dict()}


def as_json(progress: Store, chosen: list[SectionPaths]) -> str:
    """``as_data``, written out."""
    import json

    return json.dumps(as_data(progress, chosen), indent=1, ensure_ascii=False)


def as_text(progress: Store, chosen: list[SectionPaths]) -> str:
    """A table per section, then the predictions."""
    parts = [_section(section, summary) for section, summary in summaries(progress, chosen)]
    found = _calibration(progress, chosen)
    if found.count:
        parts.append(_calibration_text(found))
    parts.append(f"Kept in {progress.path}")
    return "\n\n".join(parts)


def _calibration(progress: Store, chosen: list[SectionPaths]) -> Calibration:
    from refract.progress import calibration

    wanted = {paths.id for paths in chosen}
    return calibration(prediction for prediction in progress.predictions() if prediction.section in wanted)


def _section(section: Section, summary: SectionSummary) -> str:
    rows = [
        (
            state.name,
            _word(state.status, state.solution_shown, state.without_solution),
            state.attempts,
            _hints(section, state.name, state.hints_opened),
        )
        for state in summary.exercises.values()
    ]
    lines = [
        f"{section.paths.id}: {section.title}. {summary.passed} of {summary.total} passed.",
        table(("exercise", "state", "attempts", "hints"), rows),
    ]
    answers = [
        (one.name, _answer(one.answer), "" if one.confidence is None else f"{one.confidence:.0%}", _it_was(one))
        for one in summary.predictions
    ]
    unanswered = sorted(summary.skipped - {one.name for one in summary.predictions})
    answers += [(name, "none", "", "shown without one") for name in unanswered]
    if answers:
        lines += ["", table(("prediction", "answer", "sure", "it was"), answers)]
    return "\n".join(lines)


def _answer(answer: Any) -> str:
    from refract.session import write_number

    return write_number(answer) if isinstance(answer, float) else str(answer)


def _it_was(prediction: Prediction) -> str:
    if prediction.late:
        return "made after the answer, not counted"
    return {True: "right", False: "wrong", None: "not revealed"}[prediction.correct]


def _word(status: str, solution_shown: bool, without_solution: bool) -> str:
    if status == "passed":
        return "passed" if without_solution else "passed, solution seen first"
    return f"{status}, solution seen" if solution_shown else status


def _hints(section: Section, name: str, opened: int) -> str:
    exercise = section.exercise(name)
    return f"{opened} of {len(exercise.hints)}" if exercise else f"{opened}"


def _calibration_text(found: Calibration) -> str:
    rows = [
        (f"{row.low:.0%} to {row.high:.0%}", row.count, f"{row.mean_confidence:.0%}", f"{row.share_correct:.0%}")
        for row in found.bins
        if row.mean_confidence is not None and row.share_correct is not None
    ]
    title = f"Calibration over {count(found.count, 'prediction')} (Brier score {found.brier:.2f}; 0.25 is a coin):"
    return title + "\n" + table(("you were", "times", "sure on average", "right"), rows)
