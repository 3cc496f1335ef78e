"""The learner's progress, read and written; without a usable file the site stays readable and says so."""

from __future__ import annotations

from typing import Any

import streamlit as st

from refract.authoring.model import Section
from refract.errors import RefractError
from refract.progress import ExerciseState, SectionSummary, Store, open_store

SKIPPED = "skip"  # a prediction's answer was shown without one, here or in a notebook


def store(notice: bool = True) -> Store | None:
    """The progress file; ``None``, and a notice on the page, if it cannot be used."""
    try:
        return open_store()
    except RefractError as error:
        if notice:
            st.warning("Your progress cannot be read or kept at the moment.", icon=":material/warning:")
            st.code(str(error), language=None, wrap_lines=True)
        return None


def summary(opened: Store | None, section: Section) -> SectionSummary:
    """A section's exercises and predictions."""
    names = [exercise.name for exercise in section.exercises]
    if opened is None:
        states = {name: ExerciseState(section.paths.id, name) for name in names}
        return SectionSummary(section.paths.id, states, [], None)
    return opened.section_summary(section.paths.id, names)


def record(kind: str, section: str, name: str, **data: Any) -> None:
    """Keep one event. Used as a widget's callback, so that the page is drawn with it already kept."""
    try:
        open_store().add(kind, section, name, via="site", **data)
    except RefractError:
        st.toast("This could not be kept in your progress; the top of the page says why.", icon=":material/warning:")
