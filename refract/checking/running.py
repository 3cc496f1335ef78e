"""``run_checks``: one answer in, one result out. The answer runs in the worker; nothing is displayed or recorded."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from refract.authoring.model import Section
from refract.authoring.source import load
from refract.checking import client, given
from refract.checking.packing import PackedAnswer, Unpackable, pack
from refract.checking.result import (
    CHANGES_INPUT,
    FAILED,
    NOT_ATTEMPTED,
    PASSED,
    STOPPED,
    UNTOUCHED,
    CheckResult,
    TestOutcome,
)
from refract.checking.spelling import slip_for
from refract.checking.supervision import DONE, LATE, Report
from refract.errors import RefractError
from refract.paths import SectionPaths, root


def run_checks(paths: SectionPaths, name: str, answer: Any, strategy: str | None = None) -> CheckResult:
    """Judge ``answer`` (an object, or a packed one) as the exercise ``name`` of a section.

    Raises RefractError if the course itself is at fault: no such exercise, no test for it, a test file that
    does not load. Whatever the answer does is in the result.
    """
    section = load(paths)
    if section.exercise(name) is None:
        choices = ", ".join(exercise.name for exercise in section.exercises)
        raise RefractError(f"{paths.id} has no exercise called {name!r}.", f"Its exercises: {choices}.")
    if not paths.tests.is_file():
        raise RefractError(
            f"{paths.id} has no checkers: {paths.tests} is missing.",
            "Write them there if the section is yours; else fetch the course again.",
        )
    began = time.perf_counter()
    try:
        packed = answer if isinstance(answer, PackedAnswer) else pack(answer)
    except Unpackable as error:
        return CheckResult(paths.id, name, STOPPED, message=f"{error.problem}\n{error.remedy}")
    if packed.problem:
        return CheckResult(paths.id, name, STOPPED, message=packed.problem)
    seconds = client.limit()
    report = client.pool(strategy).ask(
        request_for(paths, "check", seconds)
        | {"exercise": name, "exercises": [each.name for each in section.exercises], "answer": packed.to_message()}
    )
    result = _result(section, name, report, seconds, time.perf_counter() - began)
    if result.status == NOT_ATTEMPTED and {test.status for test in result.tests} == {NOT_ATTEMPTED}:
        known = {*given.names(paths), *(exercise.name for exercise in section.exercises)}
        slip = slip_for(name, [each for each in packed.functions if each not in known])
        if slip is not None:
            return replace(result, message=f"You define `{slip}`; the exercise is called `{name}`. Rename yours.")
    return result


def request_for(paths: SectionPaths, job: str, seconds: float) -> dict[str, Any]:
    """What every request to the worker says."""
    return {
        "job": job,
        "seconds": seconds,
        "root": str(root()),
        "path": [str(Path(folder or ".").resolve()) for folder in sys.path],
        "chapter": paths.chapter,
        "section": paths.section,
        "files": [str(paths.reference), str(paths.tests)],
    }


def _result(section: Section, name: str, report: Report, limit: float, seconds: float) -> CheckResult:
    broken = report.of("broken")
    if broken:
        raise RefractError(
            f"The checkers of {section.paths.id} do not run: {broken[0]['message']}",
            "This is not your answer's doing: report it to the course.",
        )
    planned = [(test, title) for event in report.of("plan") for test, title in event["tests"]]
    outcomes = _told_once({event["name"]: event for event in report.of("outcome")}, dict(planned))
    running = next((event["name"] for event in reversed(report.of("test")) if event["name"] not in outcomes), None)
    stopped = _why_stopped(report, limit)
    tests = tuple(
        TestOutcome(test, title, outcomes[test]["status"], outcomes[test].get("message", ""))
        if test in outcomes
        else TestOutcome(
            test, title, STOPPED if test == running else "not run", stopped or "" if test == running else ""
        )
        for test, title in planned
    )
    common: dict[str, Any] = {"tests": tests, "seconds": seconds}
    for event in report.of("done"):
        common |= {"seconds": seconds, "output": event["output"]}
    wrong_kind = report.of("wrong kind")
    if wrong_kind:
        return CheckResult(section.paths.id, name, FAILED, message=wrong_kind[0]["message"], **common)
    if stopped is not None:
        title = next((title for test, title in planned if test == running), None)
        where = f"\nIt was in the test: {title}." if title else ""
        return CheckResult(section.paths.id, name, STOPPED, message=stopped + where, **common)
    if not planned:
        raise RefractError(f"No test of {section.paths.id} takes {name!r}.", f"Write one in {section.paths.tests}.")
    return _verdict(section, name, outcomes, common)


def _told_once(outcomes: dict[str, dict[str, Any]], titles: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The outcomes; where several tests fail in the same way, the first one says it and the others refer to it.

    ``headline`` is what each of them would say alone, and how many others say the same.
    """
    ways = {name: _way(event) for name, event in outcomes.items() if event["status"] == FAILED and event.get("message")}
    how_many, first, told = Counter(ways.values()), dict[str, str](), dict(outcomes)
    for name, way in ways.items():
        event, original = outcomes[name], first.setdefault(way, name)
        whole = event["message"] + _others(how_many[way] - 1, stops="place" in event)
        words = f"\n  {event['words']}" if "words" in event else ""
        brief = f"The same as in the test: {titles.get(original, original)}.{words}"
        told[name] = event | {"headline": whole, "message": whole if original == name else brief}
    return told


def _others(number: int, stops: bool) -> str:
    """How many other tests fail in the same way, if any."""
    if number == 0:
        return ""
    tests = "1 other test" if number == 1 else f"{number} other tests"
    verb, how = ("stop", "at the same place") if stops else ("fail", "for the same reason")
    return f"\n{tests} {verb}{'s' if number == 1 else ''} {how}."


def _way(event: dict[str, Any]) -> str:
    """What makes two failures the same one: the place of an exception, the input that was changed, else the words."""
    if event.get("mistake") == CHANGES_INPUT:
        return str(event["message"]).split(".")[0]
    return str(event.get("place") or event["message"])


def _verdict(section: Section, name: str, outcomes: dict[str, dict[str, Any]], common: dict[str, Any]) -> CheckResult:
    """The status, and the failure to show first: one that names a known mistake, if there is one."""
    failed = [event for event in outcomes.values() if event["status"] == FAILED]
    if failed:
        # What came out after an input was changed says little: other tests then compare with the changed input.
        named = [event for event in failed if event.get("mistake")]
        first = next((event for event in named if event["mistake"] == CHANGES_INPUT), [*named, *failed][0])
        mistake, message = first.get("mistake"), first.get("headline", "")
        exercise = section.exercise(name)
        known = exercise.mistake(mistake) if exercise is not None and mistake else None
        if known is not None:
            message = f"{known.text.strip()}\n\n{message}"
        return CheckResult(
            section.paths.id,
            name,
            FAILED,
            message=message,
            mistake=mistake,
            traceback=first.get("traceback", ""),
            **common,
        )
    statuses = {event["status"] for event in outcomes.values()}
    if NOT_ATTEMPTED in statuses:
        text = UNTOUCHED if statuses == {NOT_ATTEMPTED} else "Not finished: a part still raises NotImplementedError."
        return CheckResult(section.paths.id, name, NOT_ATTEMPTED, message=text, **common)
    if PASSED not in statuses:
        raise RefractError(f"Every test of {name} was skipped here.", "Report it to the course.")
    return CheckResult(section.paths.id, name, PASSED, **common)


def _why_stopped(report: Report, limit: float) -> str | None:
    """In words, why a check did not come to its end; None if it did."""
    for event in report.of("stop"):
        return str(event["message"])
    if report.ending == DONE:
        return None
    if report.ending == LATE:
        return f"Your code took too long: it was stopped after {limit:g} s. Is there a loop that never ends?"
    if report.exit is None and report.events:
        return "Your code closed files that it did not open, the checker's among them."
    if report.exit is None:
        return "Your code ended the checker's process."
    if report.exit >= 0:
        return f"Your code ended the Python process (exit status {report.exit}), as os._exit() does. Return instead."
    try:
        name = signal.Signals(-report.exit).name
    except ValueError:
        name = f"signal {-report.exit}"
    if name == "SIGSEGV":
        return "Your code crashed the Python process inside compiled code (SIGSEGV, a segmentation fault)."
    if name == "SIGKILL":
        return "The Python process was killed (SIGKILL): by your code, or by the system for want of memory."
    return f"Your code ended the Python process with the signal {name}."
