"""Judge an answer: ``check(fn)`` in a notebook, ``run_checks`` for programs, a pytest plugin for the command line.

An answer runs in a worker process, never in the caller's. The parts, each with one job:

============  =================================================================
``expect``    what a checker says: helpers that put words first
``marks``     ``@mistake``, ``@title`` and ``@may_change`` on a checker
``plugin``    pytest: one fixture per exercise, ``--answers FILE``
``watching``  an answer that changes what it was given is named, at every call
``guard``     each test starts from a fixed seed; what an answer changed globally is named and restored
``judging``   one check, inside the worker: limits, rebinding, pytest, outcomes
``worker``    the process that judges, and the fork server that keeps it warm
``client``    the caller's side: start, deadline, restart
``packing``   an answer as bytes, with the source its traceback needs
``answers``   a notebook or module, executed only as far as its ``definitions``
``given``     what of a notebook is the course's own, not the learner's
``spelling``  the name that was probably meant
``examples``  wrong and right answers, and the table of how many are caught
``running``   ``run_checks``: one answer in, one result out
``notebook``  ``check``: finds section and exercise, records the attempt
``result``    ``CheckResult`` and ``TestOutcome``; ``display`` draws them
============  =================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refract.checking.answers import LoadedAnswers, load_answers
    from refract.checking.client import warm
    from refract.checking.notebook import check
    from refract.checking.result import CheckResult, TestOutcome
    from refract.checking.running import run_checks

__all__ = ["CheckResult", "LoadedAnswers", "TestOutcome", "check", "load_answers", "run_checks", "warm"]

_HOMES = {
    "CheckResult": "refract.checking.result",
    "LoadedAnswers": "refract.checking.answers",
    "TestOutcome": "refract.checking.result",
    "check": "refract.checking.notebook",
    "load_answers": "refract.checking.answers",
    "run_checks": "refract.checking.running",
    "warm": "refract.checking.client",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the pytest plugin and the command line load no more than they need."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'refract.checking' has no attribute {name!r}")
