"""A chapter's claims: what was said, who said it, and what our runs have to say about it."""

from __future__ import annotations

from dataclasses import dataclass

from refract.authoring import values, weave
from refract.authoring.model import Claim, Section
from refract.errors import RefractError
from streamlit_app.content import document, pages
from streamlit_app.content.markdown import convert
from streamlit_app.content.pages import PageInfo


@dataclass(frozen=True)
class TestedClaim:
    """One claim, with its texts in Markdown for Streamlit; links lead out of the chapter's page to the section's."""

    name: str
    page: PageInfo
    statement: str
    source: str
    verdict: str  # "replicated", "partly" or "not replicated"
    evidence: str

    @property
    def href(self) -> str:
        """Where the claim stands in its section."""
        return f"{self.page.url_path}#{self.name}"


def of_chapter(chapter: str) -> tuple[list[TestedClaim], list[tuple[PageInfo, RefractError]]]:
    """The claims of a chapter's sections in order, and the sections that cannot be read."""
    found: list[TestedClaim] = []
    unreadable: list[tuple[PageInfo, RefractError]] = []
    for info in pages.all_pages():
        if info.paths.chapter != chapter:
            continue
        try:
            section, recorded = document.load(info.paths).section, document.recorded(info.paths)
            found += [_tested(info, section, claim, recorded) for claim in section.claims]
        except RefractError as error:
            unreadable.append((info, error))
    return found, unreadable


def _tested(info: PageInfo, section: Section, claim: Claim, recorded: dict[str, values.Recorded]) -> TestedClaim:
    def write(markdown: str) -> str:
        return convert(values.fill(markdown, recorded), lambda target: _outside(info, target))

    return TestedClaim(
        claim.name,
        info,
        write(claim.statement),
        write(claim.source),
        values.verdict(claim, recorded),
        write(weave.evidence(section, claim, recorded)),
    )


def _outside(info: PageInfo, target: str) -> str:
    """A link of a section, as it must stand on another page: an anchor gets its page."""
    return info.url_path + target if target.startswith("#") else pages.rewrite(info.paths, target)


def has_claims(chapter: str) -> bool:
    """Whether a chapter's page has anything to show; a section that cannot be read counts, for its error is shown."""
    found, unreadable = of_chapter(chapter)
    return bool(found or unreadable)
