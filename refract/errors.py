"""Errors that say what to do next."""

from __future__ import annotations


class RefractError(Exception):
    """A problem the reader can mend: what is wrong, and the remedy.

    ``str(error)`` is both, on two lines, so that a bare traceback still tells the whole story.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n  {remedy}")
        self.problem = problem
        self.remedy = remedy
