"""The home page: what the course is, its map, and how to begin."""

from __future__ import annotations

import html
from pathlib import Path

import streamlit as st

from refract.authoring import source
from refract.errors import RefractError
from streamlit_app.content import claims, course, pages
from streamlit_app.content.pages import PageInfo
from streamlit_app.render import page, progress

_PICTURE = Path(__file__).resolve().parent.parent / "five_in_two.svg"


def render() -> None:
    """Draw the home page."""
    page.frame()
    written = pages.all_pages()
    st.title("Refract", anchor="refract")
    st.markdown(
        "A network can store more ideas than it has neurons. This course shows how, lets you see it happen, and ends "
        "with the tools that take a language model apart to look for them."
    )
    st.image(_PICTURE, alt="A beam enters two neurons and leaves as five arrows, 72 degrees apart.", width="stretch")
    st.markdown(
        "You work it rather than read it: each section asks you to write a few short functions, checks them at once, "
        "and uses them to train the networks that the text is about. You predict a result before you see it."
    )
    st.markdown(
        "**For whom.** You can write PyTorch and know what a matrix does to a vector. Nothing else is assumed.  \n"
        "**What it needs.** A laptop with two cores: no GPU, and no network once it is installed."
    )
    _begin(written)
    st.header("The map", anchor="the-map")
    _time(written)
    for chapter in course.chapters():
        _chapter(chapter, written)


def _begin(written: list[PageInfo]) -> None:
    st.header("Begin in three steps", anchor="begin")
    first = written[0] if written else None
    if first is None:
        st.caption("No section is written yet.")
        return
    st.markdown("1. Read the first page, and predict what it asks:")
    page.link(first.url_path, first.title, icon=":material/arrow_forward:")
    st.markdown("2. Copy its notebook into `work/` and open it, or press *Open in Colab* on the page:")
    st.code(f"python -m refract start {first.paths.section}", language="bash")
    st.markdown(
        "3. Write the first exercise and run the cell below it: it checks your answer. When you are stuck, open a "
        "hint here, or in a terminal. What you pass shows on these pages."
    )


def _time(written: list[PageInfo]) -> None:
    minutes, total, passed = 0, 0, 0
    opened = progress.store()
    for info in written:
        try:
            section = source.load(info.paths)
        except RefractError:
            continue
        minutes += section.minutes
        total += len(section.exercises)
        states = progress.summary(opened, section).exercises
        passed += sum(states[exercise.name].passed for exercise in section.exercises)
    if total:
        st.markdown(
            f"So far {len(written)} section{'' if len(written) == 1 else 's'} with {total} exercises, "
            f"about {_duration(minutes)} of work on the exercises alone."
        )
        st.progress(passed / total, text=f"You have passed {passed} of {total} exercises")


def _duration(minutes: int) -> str:
    if minutes < 100:
        return f"{minutes} minutes"
    return f"{minutes / 60:.0f} hours"


def _chapter(chapter: course.Chapter, written: list[PageInfo]) -> None:
    st.subheader(f"{chapter.number}. {chapter.title}", anchor=chapter.name.replace("_", "-"))
    st.markdown(chapter.question)
    here = {course.place(info.paths.id): info for info in written if info.paths.chapter == chapter.name}
    planned = []
    for section in chapter.sections:
        info = here.pop(course.place(section.id), None)
        if info is not None:
            page.link(info.url_path, info.title, icon=":material/article:")
        else:
            planned.append(section.title)
    for info in here.values():
        page.link(info.url_path, info.title, icon=":material/article:")
    if claims.has_claims(chapter.name):
        page.link(pages.claims_path(chapter.name), "What replicated", icon=":material/fact_check:")
    if planned:
        st.html('<p class="refract-planned"><span>In preparation:</span> ' + html.escape("; ".join(planned)) + ".</p>")
