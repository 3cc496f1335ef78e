"""Draw a result: plain text for a terminal, HTML for a notebook. Everything from outside is escaped."""

from __future__ import annotations

import html
import itertools
import re
import textwrap

from refract.checking.result import FAILED, NOT_ATTEMPTED, PASSED, STOPPED, UNTOUCHED, CheckResult, TestOutcome

_SIGN = {PASSED: "✓", FAILED: "✗", STOPPED: "✗", NOT_ATTEMPTED: "○", "not run": "·", "skipped": "·"}
# Readable on white and on black: the text keeps the notebook's own colour, only signs and the edge are coloured.
_COLOUR = {PASSED: "#1a9850", FAILED: "#d7552a", STOPPED: "#d7552a", NOT_ATTEMPTED: "#8a8a8a"}
_BOX = "border-left:4px solid {colour};padding:.3em .9em;margin:.4em 0;line-height:1.45"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;margin:.3em 0;font-size:.92em;background:transparent;color:inherit"


def headline(result: CheckResult) -> str:
    """One line: the exercise, the verdict, how many tests and how long."""
    passed, total = result.count
    plural = "s" * (total != 1)
    tests = f"{passed} of {total} test{plural}" if passed != total else f"{total} test{plural}"
    match result.status:
        case "passed":
            return f"{result.exercise}: passed. {tests} in {result.seconds:.2f} s."
        case "not attempted":
            return f"{result.exercise}: {_not_attempted(result)}"
        case "stopped" if not total:
            return f"{result.exercise}: could not be checked."
        case "stopped":
            return f"{result.exercise}: stopped. {tests} passed before that."
        case _:
            return f"{result.exercise}: not yet. {tests} passed."


def _not_attempted(result: CheckResult) -> str:
    if result.message.startswith("Not finished"):
        return result.message[:1].lower() + result.message[1:]
    return "not attempted yet." + (f" {result.message}" if result.message not in ("", UNTOUCHED) else "")


def following(result: CheckResult) -> str:
    """What to do next, or nothing."""
    if result.status in (FAILED, STOPPED):
        return f'Stuck? hint("{result.exercise}") gives the next hint.'
    if result.status == NOT_ATTEMPTED:
        return f'Write it in the cell above, then check again. hint("{result.exercise}") gives a first hint.'
    return ""


def as_text(result: CheckResult) -> str:
    """For a terminal."""
    lines = [f"{_SIGN[result.status]} {headline(result)}"]
    if result.message and result.status != NOT_ATTEMPTED:
        lines += ["", *(f"  {line}".rstrip() for line in result.message.splitlines())]
    if result.tests and result.status != NOT_ATTEMPTED:
        lines += ["", *(f"  {_SIGN[test.status]} {test.title}" for test in result.tests)]
    if result.traceback:
        lines += ["", "  Where it happened in your code:"]
        lines += [f"  {line}".rstrip() for line in result.traceback.splitlines()]
    if result.output and result.status in (FAILED, STOPPED):
        lines += ["", "  What your code printed:", *(f"  | {line}" for line in result.output.splitlines()[:20])]
    if following(result):
        lines += ["", f"  {following(result)}"]
    return "\n".join(lines)


def as_html(result: CheckResult) -> str:
    """For a notebook: no script, no style sheet, nothing fetched; folds are ``<details>``."""
    colour = _COLOUR[result.status]
    parts = [
        f'<div style="{_BOX.format(colour=colour)}">',
        f"<div>{_sign(result.status)} <b>{_escape(headline(result))}</b></div>",
    ]
    if result.message and result.status != NOT_ATTEMPTED:
        # The text of a mistake is the author's, and comes first: its formulas are typeset.
        *first, last = result.message.split("\n\n")
        parts += [_paragraph(text, formulas=result.mistake is not None) for text in first]
        parts.append(_paragraph(last))
    if result.tests and result.status != NOT_ATTEMPTED:
        passed, total = result.count
        rows = "".join(_row(test, result.message) for test in result.tests)
        parts.append(_fold(f"Tests: {passed} of {total} passed", rows))
    if result.traceback:
        parts.append(_fold("Where it happened in your code", _pre(result.traceback)))
    if result.output:
        parts.append(_fold("What your code printed", _pre(result.output)))
    if following(result):
        parts.append(_paragraph(re.sub(r'(hint\(".*?"\))', r"`\1`", following(result))))
    return "".join([*parts, "</div>"])


def _row(test: TestOutcome, said: str) -> str:
    """One test, with its message unless that has been said already."""
    fails = test.status in (FAILED, STOPPED) and test.message not in said
    message = _pre(test.message) if fails else ""
    return f"<div>{_sign(test.status)} {_escape(test.title)}{message}</div>"


def _sign(status: str) -> str:
    return f'<span style="color:{_COLOUR.get(status, "#8a8a8a")}" aria-label="{_escape(status)}">{_SIGN[status]}</span>'


def _fold(summary: str, body: str) -> str:
    return (
        f'<details style="margin:.3em 0"><summary style="cursor:pointer">{_escape(summary)}</summary>{body}</details>'
    )


def _pre(text: str) -> str:
    return f'<pre style="{_PRE}">{_escape(text)}</pre>'


def _paragraph(text: str, formulas: bool = False) -> str:
    """Escaped text; `code`, line breaks and indented lines are kept, and formulas if they may be; nothing else is."""
    parts = []
    for indented, lines in itertools.groupby(text.split("\n"), lambda line: line.startswith("  ")):
        if indented:  # numbers that stand below each other, a line of code
            parts.append(_pre(textwrap.dedent("\n".join(lines))))
            continue
        escaped = "\n".join(html.escape(line) if formulas else _escape(line) for line in lines)
        body = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escaped).replace("\n", "<br>")
        parts.append(f'<p style="margin:.4em 0">{body}</p>')
    return "".join(parts)


def _escape(text: str) -> str:
    # Dollar signs too: Jupyter would typeset what stands between two of them, and a message may hold anything.
    return html.escape(text).replace("$", "&#36;")
