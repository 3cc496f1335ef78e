"""A chapter's last page: its claims, each with the runs that test it, against the papers."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from streamlit_app.content import claims, course
from streamlit_app.content.claims import TestedClaim
from streamlit_app.content.pages import PageInfo
from streamlit_app.render import blocks, page, text


def render(chapter: str) -> None:
    """Draw the page of the folder ``chapter``."""
    page.frame()
    found, unreadable = claims.of_chapter(chapter)
    st.title("What replicated", anchor="claims")
    st.caption(course.chapter_title(chapter))
    st.markdown(
        "Each claim below was made by somebody, in the source that is named. A program compared what our runs recorded "
        "with the conditions that stand beside the claim: no verdict on this page was typed. A claim that holds in "
        "these small models need not hold in others, and one that fails here may hold at the paper's own scale."
    )
    for info, error in unreadable:
        text.problem(error, f"What was claimed in {info.title!r}")
    if not found:
        st.caption("No section of this chapter makes a claim yet.")
        return
    st.markdown(_count(found))
    seen: PageInfo | None = None
    for claim in found:
        if claim.page != seen:
            st.header(claim.page.title, anchor=claim.page.url_path)
            seen = claim.page
        _claim(claim)


def _count(found: list[TestedClaim]) -> str:
    counts = Counter(claim.verdict for claim in found)
    parts = [f"**{counts[verdict]}** {label}" for verdict, (label, _, _) in blocks.VERDICTS.items() if counts[verdict]]
    return f"{len(found)} claim{'' if len(found) == 1 else 's'}: {', '.join(parts)}."


def _claim(claim: TestedClaim) -> None:
    label, colour, icon = blocks.VERDICTS[claim.verdict]
    with st.container(border=True, key=f"tested-{claim.page.url_path}-{claim.name}", gap="small"):
        st.badge(label, color=colour, icon=icon)  # type: ignore[arg-type]
        st.markdown(claim.statement)
        st.caption(f"Source: {claim.source}")
        st.markdown(f"{claim.evidence} [To the claim in its section]({claim.href})")
