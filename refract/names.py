"""What to say about a name that nothing has: the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from refract.errors import RefractError
from refract.paths import SectionPaths, all_sections


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"Did you mean halve? "`` if one of the known names is close to ``name`` or holds it; else nothing."""
    names = list(known)
    asked = str(name).strip().lower()
    folded = {each.lower(): each for each in names}
    close = difflib.get_close_matches(asked, folded, 1)
    if not close and len(asked) > 2:  # "toy" for "s1_toy_models" is too short to be close
        close = [each for each in folded if asked in each]
    return f"Did you mean {folded[close[0]]}? " if len(close) == 1 else ""


def find_section(name: str) -> SectionPaths:
    """The section of that name. Raises ``RefractError`` with the name that was probably meant."""
    try:
        return SectionPaths.parse(name)
    except RefractError as error:
        known = all_sections()
        meant = suggestion(name, [paths.id if "/" in name else paths.section for paths in known])
        raise RefractError(error.problem, meant + error.remedy) from None
