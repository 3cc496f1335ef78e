"""Search: the query is in the address, results lead to anchors."""

from __future__ import annotations

import html

import streamlit as st

from streamlit_app.content import search
from streamlit_app.render import page

_MOST = 200  # characters of a query


def render() -> None:
    """Draw the search page."""
    page.frame()
    st.title("Search", anchor="search")
    query = st.text_input(
        "Words to look for",
        key="q",
        bind="query-params",
        max_chars=_MOST,
        placeholder="antipodal, sample_features, …",
        type="default",
    )
    if not query.strip():
        st.caption("Searches the text, exercises and names of every section. Hints and solutions are not searched.")
        return
    hits = search.index().search(query[:_MOST])
    count = "No passage" if not hits else "1 passage" if len(hits) == 1 else f"{len(hits)} passages"
    st.caption(f"{count} found.")
    if hits:
        st.html(f'<ol class="refract-hits">{"".join(_row(hit) for hit in hits)}</ol>')


def _row(hit: search.Hit) -> str:
    passage = hit.passage
    return (
        f'<li><a href="{html.escape(hit.href, quote=True)}" target="_self">{html.escape(passage.title)}</a>'
        f'<p class="where">{html.escape(passage.page.chapter_title)} · {html.escape(passage.page.title)}</p>'
        f"<p>{hit.snippet}</p></li>"
    )
