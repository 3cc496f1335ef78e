"""What every page shares: style, the script for links and contents, links between pages."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page as StreamlitPage

from streamlit_app.content.document import TocEntry

_HERE = Path(__file__).resolve().parent.parent
_PAGES: dict[str, StreamlitPage] = {}  # by address; filled by app.py on every run


def register(found: dict[str, StreamlitPage]) -> None:
    """Make the pages of ``st.navigation`` known to the links."""
    _PAGES.clear()
    _PAGES.update(found)


def link(address: str, label: str, icon: str | None = None) -> None:
    """A link to a page by its address; a plain one where there is no navigation (a page drawn by itself)."""
    page = _PAGES.get(address)
    if page is None:
        st.markdown(f"[{label}](/{address})")
    else:
        st.page_link(page, label=label, icon=icon)


def frame() -> None:
    """The style and the script of every page."""
    st.html(_HERE / "site.css")
    script = (_HERE / "site.js").read_text(encoding="utf-8")
    st.html(f"<script>{script}</script>", unsafe_allow_javascript=True)


def contents(entries: Iterable[TocEntry]) -> str:
    """The table of contents as a list of links."""
    rows = "".join(
        f'<li class="level-{entry.level} {entry.kind}">'
        f'<a href="#{html.escape(entry.anchor, quote=True)}">{html.escape(entry.text)}</a></li>'
        for entry in entries
    )
    return f"<ul>{rows}</ul>"


def table_of_contents(entries: tuple[TocEntry, ...]) -> None:
    """Beside the text on a wide screen; folded, below the title, on a narrow one (the style decides)."""
    listed = contents(entries)
    with st.sidebar:
        st.html(f'<nav class="refract-toc" aria-label="On this page"><p>On this page</p>{listed}</nav>')


def folded_contents(entries: tuple[TocEntry, ...]) -> None:
    st.html(f'<details class="refract-toc-folded"><summary>On this page</summary>{contents(entries)}</details>')
