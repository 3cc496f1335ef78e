"""Prose, headings, pictures and error boxes."""

from __future__ import annotations

import html
from collections.abc import Mapping

import streamlit as st

from refract.authoring import values
from refract.authoring.source import SourceError
from refract.errors import RefractError
from refract.paths import SectionPaths
from streamlit_app.content import pages
from streamlit_app.content.document import Heading, Image
from streamlit_app.content.markdown import convert


def prose(paths: SectionPaths, markdown: str, recorded: Mapping[str, values.Recorded]) -> str:
    """A source's Markdown with values filled and links and maths as Streamlit needs them.

    Raises:
        RefractError: it quotes a value that nothing recorded.
    """
    return convert(values.fill(markdown, recorded), lambda target: pages.rewrite(paths, target))


def anchor(name: str) -> None:
    """A place that a link can lead to, without a heading."""
    st.html(f'<div id="{html.escape(name, quote=True)}" class="refract-anchor"></div>')


def heading(text: str, level: int, name: str) -> None:
    """A heading with its own anchor: Streamlit's own slugs differ from ours."""
    draw = (st.title, st.header, st.subheader)[min(level, 3) - 1]
    draw(text, anchor=name)


def document_heading(paths: SectionPaths, item: Heading, recorded: Mapping[str, values.Recorded]) -> None:
    heading(prose(paths, item.text, recorded), item.level, item.anchor)


def image(item: Image) -> None:
    if not item.path.is_file():
        raise RefractError(f"The picture {item.path} does not exist.", "Put it there, or mend the link in the source.")
    st.image(item.path, alt=item.alt, width="content")


def problem(error: RefractError, what: str) -> None:
    """A box that says what is wrong and what to do, in place of ``what``."""
    with st.container(border=True):
        st.error(f"{what} cannot be shown.", icon=":material/error:")
        text = str(error)
        if isinstance(error, SourceError):
            st.markdown(f"File and line: `{error.path}:{error.line}`")
        st.code(text, language=None, wrap_lines=True)
