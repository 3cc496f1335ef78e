"""Sources: what is well formed becomes the right blocks; what is not stops with file, line and remedy, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from refract.authoring import source
from refract.authoring.model import Aside, Bonus, Claim, Code, Exercise, Figure, Lab, Predict, Prose
from refract.authoring.source import SourceError
from refract.authoring.validate import validate
from refract.errors import RefractError
from tests.course import authoring_toy as toy
from tests.course.authoring_toy import REFERENCE, SECTION, SOURCE, line_of


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    toy.write(tmp_path)
    return tmp_path


def read(text: str):
    """Parse and validate a section with this source."""
    SECTION.source.write_text(text, encoding="utf-8")
    section = source.load(SECTION)
    validate(section)
    return section


def changed(old: str, new: str, text: str = SOURCE) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the toy's source"
    return text.replace(old, new)


CODE = 'record("mean", sums[-1] / len(numbers))\n'
ASIDE = ":::{aside} Why zero?"
FIGURE = "```{figure} growth\n:alt: A curve that bends upwards from 0 to 45.\n"
PREDICTION = "```{predict} parity\n:kind: choice\n:answer: a\n"

# name: (what stands there, what is put in its place, what the named line holds, the problem, the remedy)
MALFORMED: dict[str, tuple[str, str, str, str, str]] = {
    "unknown directive": (
        "{bonus} Squares",
        "{exercize} Squares",
        "{exercize}",
        "unknown directive {exercize}",
        "exercise",
    ),
    "directive without closing brace": ("{bonus} Squares", "{bonus Squares", "{bonus", "no directive", "{name}"),
    "directive named by nothing": ("{bonus} Squares", "{} Squares", "{} Squares", "unknown directive {}", "bonus"),
    "exercise without a reference symbol": (
        "{exercise} total",
        "{exercise} product",
        "{exercise} product",
        "product has no function or class",
        "rename",
    ),
    "exercise without a name": (
        "{exercise} total",
        "{exercise}",
        "{exercise}",
        "needs the name of a function",
        "letters",
    ),
    "exercise with a bad name": (
        "{exercise} total",
        "{exercise} the total",
        "{exercise} the",
        "'the total'",
        "letters",
    ),
    "id used twice": ("{predict} parity", "{predict} size", "{predict} size@2", "'size' is used twice", "Rename"),
    "backtick fence never closed": ("Add the squares.\n```\n", "Add the squares.\n", "{bonus}", "never closed", "```"),
    "backtick fence that swallows the next": (
        "The empty sum changes nothing.\n:::\n",
        "The empty sum changes nothing.\n:::\n\n```python\nx = 1\n",
        "x = 1@-1",
        "not closed before line",
        "Close it",
    ),
    "directive that swallows the next": (
        "Odd: five of the ten are.\n:::\n```\n",
        "Odd: five of the ten are.\n:::\n",
        "{predict} parity",
        "not closed before line",
        "Close it",
    ),
    "colon fence never closed": (
        "changes nothing.\n:::\n\n```{bonus} Squares\nAdd the squares.\n```\n",
        "changes nothing.\n",
        ASIDE,
        "never closed",
        ":::",
    ),
    "colon fence that swallows the next": (
        ":::{hint} What is the sum of nothing?\n:::\n",
        ":::{hint} What is the sum of nothing?\n",
        "sum of nothing?",
        "not closed before line",
        "Close it",
    ),
    "last hint never closed": (
        "more than the sum.\n:::\n```\n",
        "more than the sum.\n```\n",
        "{mistake}",
        "never closed",
        ":::",
    ),
    "missing option": (":minutes: 3\n", "", "{exercise}", "lacks the option :minutes:", "a whole number"),
    "option without a value": (
        ":minutes: 3\n",
        ":minutes:\n",
        ":minutes:",
        "lacks the option :minutes:",
        "a whole number",
    ),
    "options after a blank line": (
        "total\n:difficulty: 1",
        "total\n\n:difficulty: 1",
        "{exercise}",
        "lacks the option :difficulty:",
        "1 to 5",
    ),
    "missing text alternative": (
        ":alt: A curve that bends upwards from 0 to 45.\n",
        "",
        "{figure}",
        ":alt:",
        "text alt",
    ),
    "unknown option": (":minutes: 3\n", ":minutes: 3\n:points: 7\n", ":points:", "no option :points:", "difficulty"),
    "option in a hint": (
        ":::{hint}\nBegin",
        ":::{hint}\n:level: 2\nBegin",
        ":level:",
        "{hint} has no option :level:",
        "none",
    ),
    "option twice": (":minutes: 3\n", ":minutes: 3\n:minutes: 4\n", ":minutes: 4", "given twice", "Keep one"),
    "number that is a word": (":difficulty: 1", ":difficulty: easy", ":difficulty:", "'easy'", "from 1 to 5"),
    "number out of range": (":importance: 2", ":importance: 6", ":importance:", "'6'", "from 1 to 5"),
    "number with a point": (":minutes: 3\n", ":minutes: 2.5\n", ":minutes:", "'2.5'", "from 1 to 120"),
    "exercise without text": (
        "Add all `numbers`; there are {value}`how_many` of them below.\n",
        "",
        "{exercise}",
        "has no text",
        "Write",
    ),
    "hint without text": (":::{hint} What is the sum of nothing?\n", ":::{hint}\n", ":::{hint}", "no text", "Write"),
    "mistake without text": (
        "Your sum is one more than the sum.\n",
        "",
        "{mistake}",
        "off_by_one has no text",
        "Write",
    ),
    "mistake without a name": (
        "{mistake} off_by_one",
        "{mistake}",
        "{mistake}",
        "needs the name that",
        "Write it after",
    ),
    "mistake with a bad name": ("off_by_one", "Off by one", "{mistake}", "'Off by one'", "snake_case"),
    "mistake described twice": (
        ":::{mistake} off_by_one\n",
        ":::{mistake} off_by_one\nOnce.\n:::\n:::{mistake} off_by_one\n",
        "{mistake}@2",
        "described twice",
        "Keep one",
    ),
    "caption missing": (
        "\nThe sum of the first numbers, to {value}`grand_total`.\n",
        "",
        "{figure}",
        "growth has no text",
        "Write",
    ),
    "aside without text": ("The empty sum changes nothing.\n", "", ASIDE, "no text", "Write"),
    "aside without a title": (ASIDE, ":::{aside}", ":::{aside}", "needs a title", "after the directive"),
    "bonus without text": ("Add the squares.\n", "", "{bonus}", "no text", "Write"),
    "claim without text": (
        "\nThe sum of the numbers below $n$ is $n (n - 1) / 2$.\n",
        "",
        "{claim}",
        "no text",
        "Write",
    ),
    "reveal with an argument": (
        ":::{reveal}\nOdd",
        ":::{reveal} why\nOdd",
        "{reveal} why",
        "takes no argument",
        "Remove 'why'",
    ),
    "exercise without a hint": (
        SOURCE[SOURCE.index(":::{hint} What") : SOURCE.index(":::{mistake}")],
        "",
        "{exercise}",
        "has no hint",
        "four",
    ),
    "hint outside an exercise": (ASIDE, ":::{hint} Why zero?", "Why zero?", "{hint} stands alone", "inside: exercise"),
    "reveal outside a prediction": (ASIDE, ":::{reveal}", ":::{reveal}@3", "{reveal} stands alone", "inside: predict"),
    "mistake in a prediction": (
        ":::{reveal}\nOdd",
        ":::{mistake} odd\nOdd",
        "{mistake} odd",
        "{mistake} may not stand here",
        "reveal",
    ),
    "directive in an aside": (
        "The empty sum changes nothing.\n",
        "```{bonus} Cubes\nAdd the cubes.\n```\n",
        "Cubes",
        "{bonus} may not stand here",
        "none",
    ),
    "directive in a hint": (
        ":::{hint}\nBegin at zero_hint_marker and add each.\n:::",
        "::::{hint}\n:::{aside} x\ny\n:::\n::::",
        "{aside} x",
        "{aside} may not stand here",
        "none",
    ),
    "indented by two": ("```{bonus} Squares\nAdd", "  ```{bonus} Squares\nAdd", "Squares", "left margin", "Unindent"),
    "indented by four": (
        "```{bonus} Squares\nAdd the squares.\n```\n",
        "    ```{bonus} Squares\n    Add the squares.\n    ```\n",
        "Squares",
        "left margin",
        "Unindent",
    ),
    "directive in a list": (
        "```{bonus} Squares\nAdd the squares.\n```\n",
        "- item\n\n  ```{bonus} Squares\n  Add the squares.\n  ```\n",
        "Squares",
        "left margin",
        "Unindent",
    ),
    "directive in a quotation": (
        "```{bonus} Squares\nAdd the squares.\n```\n",
        "> ```{bonus} Squares\n> Add the squares.\n> ```\n",
        "Squares",
        "left margin",
        "Unindent",
    ),
    "colon fence without directive": (ASIDE, "::: note", "::: note", "without a directive", ":::{name}"),
    "code that does not compile": (CODE, CODE + "for x in numbers\n    pass\n", "for x in", "does not compile", "Mend"),
    "code that never ends": (CODE, CODE + "print((1\n", "print((1", "does not compile", "Mend"),
    "code that is empty": (CODE, CODE + "```\n\n```python\n", "```python@2", "nothing in it", "Write"),
    "code by another name": ("```python\n", "```py\n", "```py", "'py' is not run", "python"),
    "code with attributes": ("```python\n", "```python title=x\n", "```python", "is not run", "python"),
    "code too wide": (CODE, CODE + f"x = {'1 + ' * 30}1\n", "x = 1", "columns", "Break"),
    "no title": ("# Sums\n\n", "", "How far@0", "no title", "# Title"),
    "title of the second level": ("# Sums\n", "## Sums\n", "## Sums", "no title", "# Title"),
    "prediction without reveal": (
        ":::{reveal}\nOdd: five of the ten are.\n:::\n",
        "",
        "parity",
        "needs one {reveal}",
        "why",
    ),
    "prediction with two reveals": (
        "Odd: five of the ten are.\n:::\n",
        "Odd.\n:::\n\n:::{reveal}\nAgain.\n:::\n",
        "{reveal}@3",
        "one {reveal}",
        "why",
    ),
    "prediction of no kind": (":kind: choice", ":kind: guess", ":kind: guess", "'guess'", "choice or number"),
    "prediction without a question": ("Is it odd?\n\n", "", "parity", "no text", "Write"),
    "choices out of order": ("- b. Even", "- c. Even", "- c. Even", "not lettered a, b, c", "Letter"),
    "one choice only": ("- b. Even\n", "", "parity", "at least two", "- a. text"),
    "too many choices": (
        "- b. Even\n",
        "".join(f"- {letter}. Text {letter}\n" for letter in "bcdefghi"),
        "- i.",
        "up to h",
        "Letter",
    ),
    "answer that is no choice": (
        PREDICTION,
        PREDICTION.replace("answer: a", "answer: c"),
        ":answer: c",
        "c is none",
        "letters",
    ),
    "answer never recorded": (
        ":answer: grand_total",
        ":answer: total_sum",
        ":answer: total_sum",
        "'total_sum'",
        "record(",
    ),
    "answer that is no number": (":answer: grand_total", ":answer: inf", ":answer: inf", "'inf'", "record("),
    "tolerance that is a word": (":tolerance: 2", ":tolerance: small", ":tolerance:", "'small'", "0 or more"),
    "tolerance below zero": (":tolerance: 2", ":tolerance: -2", ":tolerance:", "'-2'", "0 or more"),
    "tolerance nan": (":tolerance: 2", ":tolerance: nan", ":tolerance:", "'nan'", "0 or more"),
    "range that is a word": (":range: 0 to 90", ":range: small", ":range: small", "'small'", "like 0 to 5"),
    "range upside down": (":range: 0 to 90", ":range: 5 to 0", ":range: 5", "'5 to 0'", "like 0 to 5"),
    "range of a choice": (":answer: a", ":answer: a\n:range: 0 to 5", ":range: 0 to 5", "for numbers", "Leave it out"),
    "prediction never revealed": (":after: size\n", "", "{predict} size", "never revealed", ":after: size"),
    "figure never shown": (
        '"growth")',
        '"decay")',
        "{figure} growth",
        "shown by no code cell",
        'show(figure, "growth")',
    ),
    "shown but not described": (
        CODE,
        CODE + 'show(go.Figure(), "extra")\n',
        '"extra"',
        "no {figure} describes it",
        "{figure} extra",
    ),
    "shown without a literal name": (
        CODE,
        CODE + 'show(go.Figure(), "ext" + "ra")\n',
        '"ext"',
        "without a literal",
        "string",
    ),
    "shown without a name": (CODE, CODE + "show(go.Figure())\n", "show(go.Figure())", "without a literal", "string"),
    "name shown twice": (
        CODE,
        CODE + 'show(go.Figure(), "growth")\n',
        '(), "growth"',
        "used twice in show()",
        "Rename",
    ),
    "value recorded twice": (CODE, CODE + 'record("mean", 1)\n', '"mean", 1', "used twice in record()", "Rename"),
    "value never recorded": ("`mean:.2f`", "`median:.2f`", "`median", "'median', which no code cell", "record("),
    "value never recorded, in a hint": (
        "zero_hint_marker",
        "{value}`zero`",
        "`zero`",
        "'zero', which no code",
        "record(",
    ),
    "value never recorded, in a caption": (
        "numbers, to {value}`grand_total`",
        "numbers, to {value}`sum`",
        "`sum`",
        "'sum', which no code",
        "record(",
    ),
    "value never recorded, in a choice": (
        "- b. Even",
        "- b. {value}`even`",
        "`even`",
        "'even', which no code",
        "record(",
    ),
    "value never recorded, in a reveal": ("Odd: five", "{value}`five`", "`five`", "'five', which no code", "record("),
    "value with a bad name": ("{value}`mean:.2f`", "{value}`Mean`", "`Mean`", "names nothing", "{value}`name`"),
    "value with a bad format": ("`mean:.2f`", "`mean:.2q`", "`mean:.2q`", "'.2q'", ".2f"),
    "value in a text alternative": (
        "from 0 to 45",
        "to {value}`grand_total`",
        ":alt:",
        "text alternative",
        "in the text",
    ),
    "value in a title": (ASIDE, ":::{aside} Why {value}`mean`?", "{aside}", "title", "in the text"),
    "figure after no prediction": (":after: size", ":after: oddity", ":after:", "no earlier prediction", "{predict}"),
    "claim that calls": (
        ":partly: grand_total > 0",
        ":partly: max(grand_total) > 0",
        ":partly:",
        "more than arithmetic",
        "simple",
    ),
    "claim that is no expression": (
        ":partly: grand_total > 0",
        ":partly: grand_total >",
        ":partly:",
        "not an expr",
        "simple",
    ),
    "claim on what nothing recorded": (
        ":partly: grand_total > 0",
        ":partly: total_sum > 0",
        ":partly:",
        "reads 'total_sum'",
        "record(",
    ),
    "claim without a source": (
        ":source: [Gauss](https://example.org/gauss)\n",
        "",
        "{claim}",
        ":source:",
        "who says so",
    ),
    "lab that does not exist": (
        "```{bonus} Squares\nAdd",
        "```{lab} sums\nAdd",
        "{lab}",
        "there is no lab sums",
        "streamlit_app/labs/sums.py",
    ),
    "link to no file": ("(#adding)", "(../ch1_toy/s9_none.md)", "s9_none", "leads nowhere", "Mend its path"),
    "link to no heading": ("(#adding)", "(#subtracting)", "#subtracting", "names no heading", "anchor"),
    "link to a heading that is a comment": (
        "```python\n",
        "```python\n# only a comment\n",
        "[the exercise](#only-a-comment)",
        "names no heading",
        "anchor",
    ),
    "link to another file's missing heading": ("(#adding)", "(s1_sums.md#none)", "#none", "names no heading", "anchor"),
    "link by a scheme": ("(#adding)", "(ftp://example.org/x)", "ftp://", "fetched from elsewhere", "Keep"),
    "link low in a paragraph": (
        "Add the squares.",
        "Add\nthe\n[squares](none.md).",
        "none.md",
        "leads nowhere",
        "Mend",
    ),
    "link in a table": (
        "Add the squares.",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | [x](none.md) |",
        "none.md",
        "leads nowhere",
        "Mend",
    ),
    "link in a claim's source": ("https://example.org/gauss", "gauss.pdf", "gauss.pdf", "leads nowhere", "Mend"),
    "image from elsewhere": (
        "Add the squares.",
        "![squares](https://example.org/x.png)",
        "example.org/x.png",
        "fetched from elsewhere",
        "Keep",
    ),
    "image that does not exist": (
        "Add the squares.",
        "![squares](squares.png)",
        "squares.png",
        "leads nowhere",
        "Mend",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_source_stops_with_file_line_and_remedy(course, case):
    old, new, where, problem, remedy = MALFORMED[case]
    text = changed(old, new)
    if case == "link to a heading that is a comment":
        text = changed("[the exercise](#adding)", where, text)
    with pytest.raises(SourceError) as caught:
        read(text)
    error = caught.value
    needle, _, nth = where.partition("@")
    if nth in ("", "0", "-1"):
        expected = line_of(text, needle) + min(int(nth or 0), 0)
    else:
        expected = line_of(text, needle, int(nth))
    assert problem in error.problem
    assert remedy in error.remedy
    assert error.path == SECTION.source
    assert (error.line, text.split("\n")[error.line - 1]) == (expected, text.split("\n")[expected - 1])
    assert str(error).startswith(f"{SECTION.source}:{expected}: ")


# What is wrong with a reference: its text, what the message says, and the remedy.
BAD_REFERENCES = {
    "syntax error": (REFERENCE.replace("running_answer = START", "running_answer = ="), ":12:", "Mend the reference"),
    "end without begin": (
        REFERENCE.replace("    return", "    # END SOLUTION\n    return"),
        "total are unbalanced",
        "Pair every",
    ),
    "begin twice": (
        REFERENCE.replace(
            "    running_answer = START", "    # BEGIN SOLUTION\n    # BEGIN SOLUTION\n    running_answer = START"
        ),
        "total are unbalanced",
        "Pair every",
    ),
    "region never closed": (
        REFERENCE.replace("    return", "    # BEGIN SOLUTION\n    return"),
        "region of total is never closed",
        "Close it",
    ),
    "symbol without an exercise": (
        REFERENCE + "\n\ndef product(numbers):\n    return 1\n",
        ":18: product is public, but no exercise",
        "call it _product",
    ),
    "class without an exercise": (REFERENCE + "\n\nclass Product:\n    pass\n", ":18: Product is public", "_Product"),
}


@pytest.mark.parametrize("case", BAD_REFERENCES)
def test_a_malformed_reference_stops_with_file_and_remedy(course, case):
    text, problem, remedy = BAD_REFERENCES[case]
    assert text != REFERENCE
    SECTION.reference.write_text(text, encoding="utf-8")
    with pytest.raises(RefractError) as caught:
        read(SOURCE)
    assert problem in caught.value.problem
    assert str(SECTION.reference) in caught.value.problem
    assert remedy in caught.value.remedy


def test_a_missing_reference_is_named(course):
    SECTION.reference.unlink()
    with pytest.raises(RefractError, match=r"s1_sums\.py does not exist"):
        read(SOURCE)


def test_a_missing_source_is_named(course):
    SECTION.source.unlink()
    with pytest.raises(RefractError, match=r"s1_sums\.md does not exist"):
        source.load(SECTION)


# --- what is well formed -----------------------------------------------------------------------


def test_every_block_with_its_line(course):
    section = read(SOURCE)
    assert section.title == "Sums"
    found = [(type(block), block.line) for block in section.blocks]
    assert found == [
        (Prose, 1),
        (Exercise, line_of(SOURCE, "{exercise}")),
        (Predict, line_of(SOURCE, "{predict} size")),
        (Predict, line_of(SOURCE, "{predict} parity")),
        (Prose, line_of(SOURCE, "## Looking")),
        (Code, line_of(SOURCE, "```python")),
        (Figure, line_of(SOURCE, "{figure} growth")),
        (Figure, line_of(SOURCE, "{figure} odd")),
        (Prose, line_of(SOURCE, "The mean is")),
        (Claim, line_of(SOURCE, "{claim}")),
        (Aside, line_of(SOURCE, "{aside}")),
        (Bonus, line_of(SOURCE, "{bonus}")),
    ]


def test_what_an_exercise_says(course):
    exercise = read(SOURCE).exercise("total")
    assert exercise is not None
    assert (exercise.difficulty, exercise.importance, exercise.minutes) == (1, 2, 3)
    assert exercise.text == "Add all `numbers`; there are {value}`how_many` of them below."
    assert exercise.hints == ("What is the sum of nothing?", "Begin at zero_hint_marker and add each.")
    (mistake,) = exercise.mistakes
    assert (mistake.name, mistake.text) == ("off_by_one", "Your sum is one more than the sum.")
    assert mistake.line == line_of(SOURCE, "{mistake}")
    assert exercise.mistake("off_by_one") is mistake
    assert read(SOURCE).exercise("nothing") is None


def test_what_predictions_say(course):
    size, parity = read(SOURCE).predictions
    assert (size.kind, size.answer, size.tolerance, size.options) == ("number", "grand_total", 2.0, ())
    assert size.question == "How large is the sum of 0, 1, …, 9?"
    assert size.reveal == "The revealed_marker: it is {value}`grand_total`."
    assert (parity.kind, parity.answer, parity.tolerance, parity.options) == ("choice", "a", 0.0, ("Odd", "Even"))
    assert parity.question == "Is it odd?"


def test_a_choice_may_run_over_two_lines(course):
    section = read(changed("- a. Odd\n", "- a. Odd, as five\n  of the ten are\n"))
    assert section.predictions[1].options == ("Odd, as five of the ten are", "Even")
    assert section.predictions[1].question == "Is it odd?"


def test_what_figure_claim_aside_and_bonus_say(course):
    section = read(SOURCE)
    figure, (claim,) = section.figures[0], section.claims
    assert figure.alt == "A curve that bends upwards from 0 to 45."
    assert (figure.name, figure.after) == ("growth", "size")
    assert figure.caption == "The sum of the first numbers, to {value}`grand_total`."
    assert claim.statement == "The sum of the numbers below $n$ is $n (n - 1) / 2$."
    assert claim.source == "[Gauss](https://example.org/gauss)"
    assert claim.replicated == "abs(grand_total - how_many * (how_many - 1) / 2) < 0.1"
    assert claim.partly == "grand_total > 0"
    aside, bonus = section.blocks[-2:]
    assert aside == Aside("Why zero?", "The empty sum changes nothing.", line_of(SOURCE, "{aside}"))
    assert bonus == Bonus("Squares", "Add the squares.", line_of(SOURCE, "{bonus}"))
    assert section.minutes == 3


def test_a_lab_that_exists(course):
    lab = course / "streamlit_app/labs/sums.py"
    lab.parent.mkdir(parents=True)
    lab.touch()
    block = read(changed("{bonus} Squares", "{lab} sums")).blocks[-1]
    assert isinstance(block, Lab)
    assert (block.name, block.text) == ("sums", "Add the squares.")


def test_prose_keeps_what_is_not_ours(course):
    kept = """\
```text
# not a heading
```

````markdown
```{exercise} shown_not_run
:::{hint} As it stands.
:::
```
````

$$
\\sum_i x_i = \\text{`code`}
$$

| $a$ | `b` |
|---|---|
| 1 | 2 |

- a list
- [of links](https://example.org), ~~struck~~

```json
{"a": 1}
```"""
    section = read(
        SOURCE + "\n" + kept + "\n\n```python\nlast = 1\n```\n\n- an item\n\n  ```python\n  in_a_list\n  ```\n"
    )
    *_, before, code, after = section.blocks
    assert isinstance(before, Prose)
    assert before.text == kept
    assert before.line == line_of(SOURCE + "\n" + kept, "```text")
    assert isinstance(code, Code)
    assert code.source == "last = 1"
    assert isinstance(after, Prose)
    assert after.text.startswith("- an item")


def test_an_exercise_may_show_code(course):
    section = read(
        changed("```{exercise} total", "````{exercise} total")
        .replace("of them below.\n", "of them below.\n\n```python\ntotal([1, 2])  # 3\n```\n\nThen go on.\n")
        .replace("more than the sum.\n:::\n```\n", "more than the sum.\n:::\n````\n")
    )
    exercise = section.exercise("total")
    assert exercise is not None
    assert exercise.text.endswith("below.\n\n```python\ntotal([1, 2])  # 3\n```\n\nThen go on.")
    assert len([block for block in section.blocks if isinstance(block, Code)]) == 1


def test_a_class_may_be_an_exercise(course):
    text = "class Total:\n    def add(self, number):\n        return number\n\n\ndef _total"
    SECTION.reference.write_text(REFERENCE.replace("def total", text), encoding="utf-8")
    assert read(changed("{exercise} total", "{exercise} Total")).exercises[0].name == "Total"


def test_directives_may_be_colon_fences(course):
    claim = SOURCE[SOURCE.index("```{claim}") : SOURCE.index(":::{aside}")]
    section = read(changed(claim, claim.replace("```", ":::")))
    assert section.claims == read(SOURCE).claims


def test_several_sections_in_the_course_s_order(course):
    from refract.paths import all_sections

    for name in ("ch10_last/s1_end", "ch2_next/s10_later", "ch2_next/s2_soon"):
        file = course / "chapters" / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# Title\n")
    found = [paths.id for paths in all_sections()]
    assert found == ["ch1_toy/s1_sums", "ch2_next/s2_soon", "ch2_next/s10_later", "ch10_last/s1_end"]


def test_links_that_lead_somewhere(course):
    (course / "chapters/ch1_toy/s2_more.md").write_text("# More\n\n## What `x` is, in $n$ steps?\n", encoding="utf-8")
    (course / "chapters/ch1_toy/picture.png").touch()
    links = (
        "[a](s2_more.md) [b](s2_more.md#what-x-is-in-n-steps) [c](#growth) [d](#quadratic) [e](#sums) "
        "[f](../../solutions/ch1_toy/s1_sums.py) ![g](picture.png) [h](https://example.org) <https://example.org>"
    )
    assert read(SOURCE + f"\n{links}\n")


def test_a_section_is_parsed_again_only_when_it_changed(course):
    first = read(SOURCE)
    assert source.load(SECTION) is first
    assert read(SOURCE + "\nMore.\n") is not first
