"""The other blocks: code, figures, claims, labs, asides, open problems."""

from __future__ import annotations

from collections.abc import Collection

import plotly.graph_objects as go
import streamlit as st

from refract.authoring import timings, values, weave
from refract.authoring.model import Aside, Bonus, Claim, Code, Figure, Lab, Section
from refract.authoring.values import Recorded
from refract.authoring.worked import WorkedCell
from refract.errors import RefractError
from refract.paths import SectionPaths
from streamlit_app import labs
from streamlit_app.content import figures, predictions
from streamlit_app.content.document import lab_title
from streamlit_app.content.markdown import convert
from streamlit_app.render import progress, text

PLOTLY = {"displaylogo": False, "scrollZoom": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
VERDICTS = {
    "replicated": ("replicated", "green", ":material/check:"),
    "partly": ("partly replicated", "orange", ":material/remove:"),
    "not replicated": ("not replicated", "red", ":material/close:"),
}


def code(block: Code, ran: WorkedCell | None, question: str | None) -> None:
    """Given code, how long it takes if that is long, and what it prints, unless that would answer ``question``."""
    st.code(block.source, language="python")
    note = timings.note(ran.seconds or 0) if ran else None
    printed = ran.printed if ran else ""
    if printed and question:
        st.caption(f"{note or ''} [Answer the prediction above](#{question}) to see what it prints.".strip())
    elif printed:
        st.caption(f"{note or ''} It prints:".strip())
        st.code(printed, language=None)
    elif note:
        st.caption(note)


def figure(paths: SectionPaths, block: Figure, recorded: dict[str, Recorded], settled: Collection[str]) -> None:
    """The figure; while it would give a prediction away, a quiet line in its place."""
    with st.container(key=f"figure-{block.name}", gap="small"):
        text.anchor(block.name)
        if predictions.hides(block, settled):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f"[Answer the prediction above](#{block.after}), or", width="content")
                st.button(
                    "show it anyway",
                    key=f"show-{block.name}",
                    type="tertiary",
                    on_click=progress.record,
                    args=(progress.SKIPPED, paths.id, block.after),
                )
            return
        try:
            saved = figures.load(paths, block.name)
            content = go.Figure(figures.themed(saved, dark=st.context.theme.type == "dark"))
        except (RefractError, ValueError) as error:
            shown = error if isinstance(error, RefractError) else _malformed(paths, block.name, error)
            text.problem(shown, "This figure")
        else:
            with st.container(key=f"{'wide' if figures.is_wide(saved) else 'plain'}-{block.name}"):
                st.plotly_chart(content, key=f"plot-{block.name}", alt=block.alt, theme="streamlit", config=PLOTLY)
        st.caption(text.prose(paths, block.caption, recorded))


def _malformed(paths: SectionPaths, name: str, error: ValueError) -> RefractError:
    file = paths.figures / f"{name}.json"
    return RefractError(f"The figure {file} is malformed: {str(error)[:500]}", "Run `python -m refract build`.")


def claim(section: Section, block: Claim, recorded: dict[str, Recorded]) -> None:
    """A statement, who says so, and what our own run has to say about it."""
    paths, verdict = section.paths, values.verdict(block, recorded)
    label, colour, icon = VERDICTS[verdict]
    with st.container(border=True, key=f"claim-{block.name}", gap="small"):
        text.anchor(block.name)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**Claim**", width="content")
            st.badge(label, color=colour, icon=icon)  # type: ignore[arg-type]
        st.markdown(text.prose(paths, block.statement, recorded))
        st.caption(f"Source: {text.prose(paths, block.source, recorded)}")
        st.markdown(text.prose(paths, weave.evidence(section, block, recorded), recorded))


def lab(paths: SectionPaths, block: Lab, recorded: dict[str, Recorded], level: int) -> None:
    """An interactive that runs the section's reference code."""
    with st.container(key=f"lab-{block.name}"):
        text.heading(f"Lab: {lab_title(block.name)}", level, block.name)
        st.markdown(text.prose(paths, block.text, recorded))
        labs.load(block.name).render(paths)


def aside(paths: SectionPaths, block: Aside, recorded: dict[str, Recorded], anchor: str) -> None:
    text.anchor(anchor)
    with st.expander(convert(block.title), icon=":material/info:"):
        st.markdown(text.prose(paths, block.text, recorded))


def bonus(paths: SectionPaths, block: Bonus, recorded: dict[str, Recorded], anchor: str) -> None:
    with st.container(border=True, gap="small"):
        text.anchor(anchor)
        st.markdown(f"**Bonus: {convert(block.title)}**")
        st.markdown(text.prose(paths, block.text, recorded))
