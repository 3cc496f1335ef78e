"""A chapter's last page: every claim with its verdict, from the values that were recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from refract.authoring import source
from refract.paths import SectionPaths, all_sections
from streamlit_app.content import claims, pages
from tests.course import site_toy_course as toy

FIRST = SectionPaths(*toy.FIRST.split("/"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    monkeypatch.setenv("REFRACT_HOME", str(tmp_path / "home"))
    yield toy.build(tmp_path / "course")


def _draw(chapter: str) -> None:
    from streamlit_app.views import claims

    claims.render(chapter)


def shown(chapter: str = FIRST.chapter) -> str:
    test = AppTest.from_function(_draw, kwargs={"chapter": chapter}, default_timeout=60).run()
    assert not test.exception, [entry.value for entry in test.exception]
    entries = (*test.title, *test.header, *test.markdown, *test.caption, *test.error)
    return "\n".join(entry.value for entry in entries)


def test_a_claim_stands_with_its_verdict_evidence_and_link(root: Path) -> None:
    page = shown()
    address = pages.url_path(FIRST)
    assert "Five features fit into two dimensions." in page
    assert "1 claim: **1** replicated." in page
    assert f"({address}#a-figure-that-nothing-hides)" in page, "the link to the cell leads to the section's page"
    assert f"[To the claim in its section]({address}#five_in_two)" in page


@pytest.mark.parametrize(
    ("stored", "verdict"), [(5, "replicated"), (4, "partly replicated"), (1, "not replicated")], ids=str
)
def test_the_verdict_follows_the_recorded_values(root: Path, stored: int, verdict: str) -> None:
    recorded = json.loads(FIRST.values.read_text(encoding="utf-8"))
    recorded["stored"]["value"] = stored
    recorded["loss"]["value"] = 0.01
    FIRST.values.write_text(json.dumps(recorded), encoding="utf-8")
    assert f"1 claim: **1** {verdict}." in shown()


def test_a_section_that_cannot_be_read_says_so_and_the_others_stay(root: Path) -> None:
    broken = SectionPaths(*toy.SECOND.split("/"))
    broken.source.write_text("no title\n", encoding="utf-8")
    page = shown(broken.chapter)
    assert "cannot be shown" in page
    if broken.chapter == FIRST.chapter:
        assert "Five features fit into two dimensions." in page


def test_a_chapter_without_claims_has_no_page(root: Path) -> None:
    assert claims.has_claims(FIRST.chapter)
    assert not claims.has_claims("ch9_nothing")
    assert "makes a claim yet" in shown("ch9_nothing")


def test_every_claim_of_the_course_is_on_its_chapters_page() -> None:
    for chapter in {paths.chapter for paths in all_sections()}:
        found, unreadable = claims.of_chapter(chapter)
        assert not unreadable
        names = [
            claim.name for paths in all_sections() if paths.chapter == chapter for claim in source.load(paths).claims
        ]
        assert [claim.name for claim in found] == names
        for claim in found:
            assert claim.verdict in ("replicated", "partly", "not replicated")
            assert "](#" not in claim.evidence
