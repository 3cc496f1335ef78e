"""An exercise: its text, the code to start from, hints that open one at a time, and at last the solution."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from refract.authoring import stubs
from refract.authoring.model import Exercise
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.paths import SectionPaths
from refract.progress import ExerciseState
from streamlit_app.render import progress, text

Chip = tuple[str, Literal["gray", "orange", "green"], str]


def chip(state: ExerciseState) -> Chip:
    """How far the learner is, in a word, a colour and an icon."""
    if state.passed:
        return "passed", "green", ":material/check:"
    if state.attempts:
        return "attempted", "orange", ":material/edit:"
    return "not started", "gray", ":material/circle:"


def _dots(value: int) -> str:
    return "●" * value + "○" * (5 - value)


@st.fragment
def render(paths: SectionPaths, exercise: Exercise, recorded: dict[str, Recorded], level: int) -> None:
    """The exercise's box. A fragment: opening a hint draws this box again and nothing else."""
    opened = progress.store(notice=False)  # the page has said it
    state = opened.state(paths.id, exercise.name) if opened else ExerciseState(paths.id, exercise.name)
    with st.container(border=True, key=f"exercise-{exercise.name}"):
        text.heading(f"Exercise: `{exercise.name}`", level, exercise.name)
        label, colour, icon = chip(state)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(label, color=colour, icon=icon)
            st.caption(
                f"Difficulty {_dots(exercise.difficulty)} {exercise.difficulty}/5 · "
                f"importance {_dots(exercise.importance)} {exercise.importance}/5 · "
                f"about {exercise.minutes} min",
                width="content",
            )
        st.markdown(text.prose(paths, exercise.text, recorded))
        try:
            st.code(stubs.stub(paths, exercise.name), language="python")
        except RefractError as error:
            text.problem(error, "The code to start from")
        _last_attempt(paths, exercise, state, recorded)
        _hints(paths, exercise, state, recorded)
        with st.container(horizontal=True, vertical_alignment="center"):
            _next_hint(paths, exercise, state)
            _ask_for_solution(paths, exercise, state)
        _solution(paths, exercise, state)


def _last_attempt(paths: SectionPaths, exercise: Exercise, state: ExerciseState, recorded: dict[str, Recorded]) -> None:
    """The known mistake that the last check found; others are never listed."""
    known = exercise.mistake(state.last_mistake) if state.last_mistake and state.last_status == "failed" else None
    if known is not None:
        with st.container(key=f"mistake-{exercise.name}"):
            st.warning("**Your last answer.** " + text.prose(paths, known.text, recorded), icon=":material/lightbulb:")


def _hints(paths: SectionPaths, exercise: Exercise, state: ExerciseState, recorded: dict[str, Recorded]) -> None:
    total = len(exercise.hints)
    shown = min(state.hints_opened, total)
    for step, hint in enumerate(exercise.hints[:shown], start=1):
        with st.container(key=f"hint-{exercise.name}-{step}"):
            st.info(f"**Hint {step} of {total}.** " + text.prose(paths, hint, recorded))


def _next_hint(paths: SectionPaths, exercise: Exercise, state: ExerciseState) -> None:
    total = len(exercise.hints)
    shown = min(state.hints_opened, total)
    if shown < total:
        st.button(
            f"Show hint {shown + 1} of {total}",
            key=f"next-hint-{exercise.name}",
            icon=":material/help:",
            on_click=progress.record,
            args=("hint", paths.id, exercise.name),
            kwargs={"step": shown + 1},
        )


def _ask_for_solution(paths: SectionPaths, exercise: Exercise, state: ExerciseState) -> None:
    if not (state.passed or state.solution_shown):
        st.button(
            "Show me the solution",
            key=f"solution-{exercise.name}",
            type="tertiary",
            help="Opens the reference solution and notes in your progress that you looked.",
            on_click=progress.record,
            args=("solution", paths.id, exercise.name),
        )


def _solution(paths: SectionPaths, exercise: Exercise, state: ExerciseState) -> None:
    if not (state.passed or state.solution_shown):
        return
    with st.expander("Solution", expanded=not state.passed, icon=":material/key:"):
        try:
            st.code(stubs.solution_source(paths, exercise.name), language="python")
        except RefractError as error:
            text.problem(error, "The solution")
