"""The site. Start it with ``streamlit run streamlit_app/app.py`` or ``python -m refract site``."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # Streamlit puts only this file's own folder there
    sys.path.insert(0, str(ROOT))

from streamlit_app.content import claims as tested  # noqa: E402
from streamlit_app.content import course, pages  # noqa: E402
from streamlit_app.render import page, section  # noqa: E402
from streamlit_app.views import claims, home, progress, search  # noqa: E402


def main() -> None:
    """Build the navigation and draw the page that was asked for."""
    st.set_page_config(page_title="Refract", page_icon=str(ROOT / "streamlit_app" / "icon.svg"), layout="centered")
    fixed = {
        pages.HOME: st.Page(home.render, title="Home", icon=":material/home:", default=True),
        pages.SEARCH: st.Page(search.render, title="Search", icon=":material/search:", url_path=pages.SEARCH),
        pages.PROGRESS: st.Page(progress.render, title="Progress", icon=":material/check:", url_path=pages.PROGRESS),
    }
    groups: dict[str, list] = {"": list(fixed.values())}
    found = dict(fixed)
    for info in pages.all_pages():
        draw = functools.partial(section.render, info.paths.id)
        entry = st.Page(draw, title=info.title, url_path=info.url_path)
        found[info.url_path] = entry
        groups.setdefault(info.chapter_title, []).append(entry)
    for chapter in dict.fromkeys(info.paths.chapter for info in pages.all_pages()):
        if tested.has_claims(chapter):
            address = pages.claims_path(chapter)
            entry = st.Page(functools.partial(claims.render, chapter), title="What replicated", url_path=address)
            found[address] = entry
            groups[course.chapter_title(chapter)].append(entry)
    page.register(found)
    st.navigation(groups, position="top").run()


main()
