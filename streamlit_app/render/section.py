"""A section's page: one renderer for all of them."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from refract.authoring import timings, worked
from refract.authoring.model import Aside, Bonus, Claim, Code, Exercise, Figure, Lab, Predict, Section
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.paths import SectionPaths
from refract.progress import SectionSummary
from streamlit_app.content import claims, course, document, pages, predictions
from streamlit_app.content.document import Box, Document, Heading, Image, Item, Text
from streamlit_app.render import blocks, exercise, page, predict, progress, text


def render(section_id: str) -> None:
    """Draw the page of the section ``section_id``."""
    page.frame()
    chapter, _, name = section_id.partition("/")
    paths = SectionPaths(chapter, name)
    try:
        doc = document.load(paths)
        recorded = document.recorded(paths)
    except RefractError as error:
        st.title(course.planned_title(paths) or name, anchor=name)
        text.problem(error, "This section")
        return
    opened = progress.store()
    summary = progress.summary(opened, doc.section)
    page.table_of_contents(doc.toc)
    with st.container(key="page"):
        later = _items(doc, recorded, summary)
        _neighbours(paths)
    for draw in later:
        draw()


def _items(doc: Document, recorded: dict[str, Recorded], summary: SectionSummary) -> list[Callable[[], None]]:
    """Draw the items in order; labs, which compute, get their place now and are drawn last."""
    paths = doc.section.paths
    given = {prediction.name: prediction for prediction in summary.predictions}
    settled = set(given) | summary.skipped
    given_code = iter(worked.given(paths))
    later: list[Callable[[], None]] = []
    for place_in_page, item in enumerate(doc.items):
        if isinstance(item, Box) and isinstance(item.block, Lab):
            place = st.container()
            later.append(_in(place, paths, item, recorded))
            continue
        try:
            if isinstance(item, Box) and isinstance(item.block, Predict):
                name = item.block.name
                predict.render(paths, item.block, recorded, given.get(name), name in summary.skipped)
            elif isinstance(item, Box) and isinstance(item.block, Code):
                question = predictions.spoilt_by_printing(doc.items, place_in_page, settled)
                blocks.code(item.block, next(given_code, None), question)
            else:
                _one(doc.section, item, recorded, settled)
        except RefractError as error:
            text.problem(error, _what(item))
        if isinstance(item, Heading) and item.level == 1:
            _under_title(doc, summary)
    return later


def _in(place: DeltaGenerator, paths: SectionPaths, item: Box, recorded: dict[str, Recorded]) -> Callable[[], None]:
    def draw() -> None:
        assert isinstance(item.block, Lab)
        with place:
            try:
                blocks.lab(paths, item.block, recorded, item.level)
            except RefractError as error:
                text.problem(error, "This lab")

    return draw


def _one(section: Section, item: Item, recorded: dict[str, Recorded], settled: set[str]) -> None:
    paths = section.paths
    match item:
        case Heading():
            text.document_heading(paths, item, recorded)
        case Text(markdown=markdown):
            st.markdown(text.prose(paths, markdown, recorded))
        case Image():
            text.image(item)
        case Box(block=Exercise() as block, level=level):
            exercise.render(paths, block, recorded, level)
        case Box(block=Figure() as block):
            blocks.figure(paths, block, recorded, settled)
        case Box(block=Claim() as block):
            blocks.claim(section, block, recorded)
        case Box(block=Aside() as block, anchor=anchor):
            blocks.aside(paths, block, recorded, anchor)
        case Box(block=Bonus() as block, anchor=anchor):
            blocks.bonus(paths, block, recorded, anchor)


def _what(item: Item) -> str:
    if isinstance(item, Box):
        kind = type(item.block).__name__.lower()
        return f"This {kind} ({item.block.name})" if hasattr(item.block, "name") else f"This {kind}"
    return "A part of the text"


def _under_title(doc: Document, summary: SectionSummary) -> None:
    """Time, progress, ways to work on it, and the folded contents for narrow screens."""
    paths = doc.section.paths
    total = len(doc.section.exercises)
    if total:
        known = {exercise.name for exercise in doc.section.exercises}
        passed = sum(state.passed for name, state in summary.exercises.items() if name in known)
        counted = "1 exercise" if total == 1 else f"{total} exercises"
        machine = timings.total(paths)
        computing = f" The machine computes for {timings.about(machine)}." if machine else ""
        st.caption(
            f"{counted}, about {doc.section.minutes} minutes of work on them.{computing} You have passed {passed}."
        )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.link_button("Open in Colab", pages.colab(paths), icon=":material/open_in_new:")
        st.code(f"python -m refract start {paths.section}", language="bash", width="content")
    page.folded_contents(doc.toc)


def _neighbours(paths: SectionPaths) -> None:
    before, after = pages.neighbours(paths)
    st.divider()
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if before:
            page.link(before.url_path, f"Previous: {before.title}", icon=":material/arrow_back:")
        else:
            page.link(pages.HOME, "Home", icon=":material/arrow_back:")
        ends = after is None or after.paths.chapter != paths.chapter
        if ends and claims.has_claims(paths.chapter):
            page.link(pages.claims_path(paths.chapter), "What replicated", icon=":material/fact_check:")
        if after:
            page.link(after.url_path, f"Next: {after.title}", icon=":material/arrow_forward:")
        else:
            page.link(pages.PROGRESS, "Your progress", icon=":material/arrow_forward:")
