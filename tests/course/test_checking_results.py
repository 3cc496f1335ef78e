"""``run_checks`` on honest answers: verdicts, messages, isolation of one exercise from another, speed."""

from __future__ import annotations

import functools
import importlib.util
import json
import linecache
import os
import re
import shutil
import sys
import textwrap
import time
import warnings

import pytest
import torch

from refract.checking import CheckResult, client, run_checks
from refract.checking.marks import title_of
from refract.errors import RefractError

STRATEGIES = ["fork", "standby"] if sys.platform.startswith("linux") else ["standby"]


def good(x):
    return 2 * x


def squared(x):
    return x**2


def mine(source: str, name: str):
    """A function as a notebook would define it: in ``__main__``, with its source known to nobody."""
    space = {"__name__": "__main__", "torch": torch}
    exec(textwrap.dedent(source), space)
    return space[name]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_right_answer_passes(toy, strategy):
    result = run_checks(toy, "double", good, strategy)
    assert result.passed
    assert result.count == (8, 8)
    assert [test.title for test in result.tests][:4] == [
        "Ones become twos",
        "Three becomes six",
        "Sizes [dtype = float32, size = 1]",
        "Sizes [dtype = float32, size = 5]",
    ]
    assert {"test_sizes[dtype0-1]", "test_through_a_fixture", "test_together"} <= {test.name for test in result.tests}
    assert not result.message


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_mistake_is_named_first(toy, strategy):
    result = run_checks(toy, "double", squared, strategy)
    assert result.status == "failed"
    assert result.mistake == "squared"
    assert result.message.startswith(
        "You squared <b>x</b> & did not double it.\n\nThe result came out wrong for x = [3]."
    )
    assert "expected: [6]\n  came:     [9]" in result.message


def test_a_mistake_is_not_read_from_a_wrong_type_or_an_exception(toy):
    def raises(x):
        raise ValueError

    def leaves(x):
        sys.exit()

    def asks(x):
        return input()

    for answer in (raises, leaves, asks, lambda x: None, lambda x: x[:0], lambda x: x * float("nan")):
        result = run_checks(toy, "double", answer)
        assert result.status == "failed"
        assert result.mistake is None


def test_only_tests_of_the_exercise_run(toy):
    def quadruple(x):
        return 4 * x

    result = run_checks(toy, "quadruple", quadruple)
    assert [test.name for test in result.tests] == ["test_quadruple", "test_together"]


def test_each_exercise_is_judged_alone(toy):
    """A wrong ``double`` of the learner's own does not make a right ``quadruple`` fail."""
    source = """
    def double(x):
        return x

    def helper(x):
        return double(x)

    def quadruple(x):
        return helper(double(x))

    def outer():
        double = lambda x: x
        def quadruple(x):
            return double(double(x))
        return quadruple

    class Callable:
        def __call__(self, x):
            return double(double(x))

    def undefined(x):
        return counter(0) and double(double(x))
    """
    import_partial = functools.partial(mine("def twice(x, n):\n    return double(double(x))", "twice"), n=1)
    answers = [
        mine(source, "quadruple"),
        mine(source, "outer")(),
        mine(source, "Callable")(),
        mine(source, "undefined"),
        import_partial,
    ]
    for answer in answers:
        result = run_checks(toy, "quadruple", answer)
        assert result.passed, result


def test_the_exercises_own_name_is_left_alone(toy):
    """The answer's helper may have the exercise's name; it is the learner's, not the reference."""
    answer = mine("def double(x):\n    return x\ndef other(x):\n    return double(x)", "other")
    assert run_checks(toy, "double", answer).status == "failed"


def test_class_is_judged(toy):
    right = mine(
        "class counter:\n    def __init__(self, start=0):\n        self.count = start\n"
        "    def step(self):\n        self.count += 1\n        return self.count",
        "counter",
    )
    wrong = mine(
        "class counter:\n    def __init__(self, start=0):\n        self.count = start\n"
        "    def step(self):\n        return self.count",
        "counter",
    )
    half = mine(
        "class counter:\n    def __init__(self, start=0):\n        self.count = start\n"
        "    def step(self):\n        raise NotImplementedError('your code here')",
        "counter",
    )
    assert run_checks(toy, "counter", right).passed
    assert run_checks(toy, "counter", wrong).message == "After 2 comes 3."
    unfinished = run_checks(toy, "counter", half)
    assert unfinished.status == "not attempted"
    assert unfinished.message.startswith("Not finished")
    assert repr(unfinished).startswith("○ counter: not finished: a part still raises NotImplementedError.")
    assert run_checks(toy, "counter", good).message == "`counter` should be a class; it is a function."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "`double` should be a function; it is None."),
        (torch.ones(3), "it is a tensor of shape (3,). Hand over the function itself, without calling it."),
        ("double", "it is the str 'double'."),
    ],
)
def test_what_is_no_function_is_named(toy, answer, words):
    result = run_checks(toy, "double", answer)
    assert result.status == "failed"
    assert words in result.message


def test_a_torch_error_is_not_taken_for_a_stub(toy):
    """PyTorch raises NotImplementedError for dtypes it lacks."""

    def answer(x):
        torch.empty(3, device="meta").cpu()
        return 2 * x

    result = run_checks(toy, "double", answer)
    assert result.status == "failed"
    assert "NotImplementedError" in result.message


def test_traceback_shows_the_learners_lines_only(toy):
    def helper(x):
        return x.no_such_thing

    def answer(x):
        return helper(x)

    result = run_checks(toy, "double", answer)
    assert "return helper(x)" in result.traceback
    assert "return x.no_such_thing" in result.traceback
    assert "AttributeError: 'Tensor' object has no attribute 'no_such_thing'" in result.traceback
    assert "_pytest" not in result.traceback
    assert "test_s1_first" not in result.traceback


def test_the_answer_stays_hidden(toy):
    result = run_checks(toy, "double", squared)
    assert "2 * x" not in result.message + result.traceback + repr(result) + result._repr_html_()


def cell(source: str, name: str, file: str = "/tmp/ipykernel_12/345.py"):
    """A function as a notebook's cell defines it: IPython keeps the cell's lines for tracebacks."""
    text = textwrap.dedent(source).strip() + "\n"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space = {"__name__": "__main__", "torch": torch}
    exec(compile(text, file, "exec"), space)
    return space[name]


def test_the_headline_has_the_line_that_raised(toy):
    answer = cell(
        """
        def double(x):
            rows = x[None]
            return 2 * rows[3]
        """,
        "double",
    )
    result = run_checks(toy, "double", answer)
    assert result.message == (
        "Your code raised an exception.\n"
        "  line 3, in `double`: return 2 * rows[3]\n"
        "  IndexError: index 3 is out of bounds for dimension 0 with size 1\n"
        "7 other tests stop at the same place."
    )
    assert result.traceback.startswith('  File "your notebook", line 3, in double\n    return 2 * rows[3]')


def test_the_line_is_the_learners_own_and_not_that_of_what_it_calls(toy):
    result = run_checks(toy, "quadruple", cell("def quadruple(x):\n    return double(x, x)", "quadruple"))
    assert "line 2, in `quadruple`: return double(x, x)\n  TypeError: double() takes 1" in result.message
    helper = "def helper(x):\n    return x.nothing\ndef double(x):\n    return helper(x)"
    assert "line 2, in `helper`: return x.nothing" in run_checks(toy, "double", cell(helper, "double")).message
    result = run_checks(toy, "double", cell("def double(x):\n    return torch.stack(x, 7)", "double"))
    assert "line 2, in `double`: return torch.stack(x, 7)\n  TypeError" in result.message


def test_one_exception_is_told_once(toy):
    """The same place counts, not the same words: sizes differ from test to test."""

    def answer(x):
        if len(x) == 2:
            raise KeyError("elsewhere")
        return x @ torch.ones(7, dtype=x.dtype)

    result = run_checks(toy, "double", answer)
    assert result.message.endswith("\n6 other tests stop at the same place.")
    assert len(result.failing) == 8
    full = [test for test in result.failing if test.message.startswith("Your code raised an exception")]
    assert [test.name for test in full] == ["test_ones", "test_through_a_fixture"]
    brief = next(test for test in result.failing if test.name == "test_three")
    assert brief.message.splitlines()[0] == "The same as in the test: Ones become twos."
    assert "RuntimeError" in brief.message.splitlines()[1]
    assert result._repr_html_().count("return x @") == 2  # in the headline and in the traceback, not in the test's row


TWICE = """
import torch
from refract.checking.expect import expect
from refract.checking.marks import mistake

def test_one(double):
    expect(double(torch.ones(1)) == 2, "Not the double.")

@mistake("squared")
def test_two(double):
    expect(double(torch.ones(1)) == 2, "Not the double.")

def test_others(quadruple, counter): pass
"""


def test_a_headline_is_whole_wherever_it_comes_from(toy, tmp_path, monkeypatch):
    """The test whose message is the headline need not be the first that says so."""
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    toy.tests.write_text(TWICE)
    result = run_checks(toy, "double", squared)
    assert result.message == (
        "You squared <b>x</b> & did not double it.\n\nNot the double.\n1 other test fails for the same reason."
    )
    assert [test.message for test in result.failing] == [
        "Not the double.\n1 other test fails for the same reason.",
        "The same as in the test: One.",
    ]


def test_one_other_test(toy):
    result = run_checks(toy, "quadruple", lambda x: x.nothing)
    assert result.message.endswith("\n1 other test stops at the same place.")
    assert run_checks(toy, "quadruple", lambda x: 3 * x).message.count("other test") == 0  # unlike messages


def test_an_engines_complaint_is_told_once(toy):
    def seeds(x):
        torch.manual_seed(0)
        return 2 * x

    result = run_checks(toy, "double", seeds)
    assert result.message.endswith("\n7 other tests fail for the same reason.")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "norm = x\n    return 2 * nrom",
            "uses `nrom`, which is not defined. It may be misspelt: did you mean `norm`?",
        ),
        ("return duoble(x)", "did you mean `double`?"),
        ("return quadruplee(x)", "did you mean `quadruple`?"),  # of the section
        ("return own_helpr(x)", "did you mean `own_helper`?"),  # of the learner's namespace, and not used elsewhere
        ("return 2 * X", "did you mean `x`?"),
        ("return lenn(x)", "did you mean `len`?"),
        ("return [2 * xx_hat for x_hat in x]", "did you mean `x_hat`?"),
        ("return 2 * whatever", "which is not defined. Is it misspelt? If not, define it above that line, or run the"),
        ("return x.nrom()", "Your code asks for `nrom`, which is not there. It may be misspelt: did you mean `norm`?"),
        ("y = y + x\n    return y", "Your code raised an exception.\n  line 4, in `double`: y = y + x"),
    ],
)
def test_a_name_that_means_nothing(toy, body, words):
    answer = cell(f"def own_helper(x):\n    return x\ndef double(x):\n    {body}", "double")
    message = run_checks(toy, "double", answer).message
    assert words in message
    assert re.search(r"\n  line [45](?:, in `double`)?: .*\n  \w+Error: ", message)


def test_a_name_that_the_section_defines(toy, tmp_path, monkeypatch):
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    cells = [{"cell_type": "code", "source": text} for text in ("from einops import rearrange", "rows = 3", "1 +")]
    toy.notebook.write_text(json.dumps({"cells": cells[:2]}))
    message = run_checks(toy, "double", cell("def double(x):\n    return rearrange(x)", "double")).message
    assert "`rearrange`, which is not defined. A cell of this section defines it: run that cell" in message
    message = run_checks(toy, "double", cell("def double(x):\n    return rearange(x)", "double")).message
    assert "did you mean `rearrange`? If not, run the cell that defines it." in message
    assert "misspelt?" in run_checks(toy, "double", cell("def double(x):\n    return rows", "double")).message
    toy.notebook.write_text(json.dumps({"cells": cells}))  # broken: the check goes on without it
    assert "misspelt?" in run_checks(toy, "double", cell("def double(x):\n    return rearrange", "double")).message


def test_backward_from_several_losses_is_explained(toy):
    source = "def double(x):\n    y = (2 * x).requires_grad_()\n    y.backward()\n    return y"
    message = run_checks(toy, "double", mine(source, "double")).message
    assert message.startswith("Your code calls `backward` on a tensor of several numbers")
    assert "\n  line 3, in `double`" in message


@pytest.mark.parametrize("source", ["def double():\n    return 1", "def double(x, y):\n    return x"])
def test_a_function_that_cannot_be_called_as_it_should(toy, source):
    message = run_checks(toy, "double", mine(source, "double")).message
    assert message.startswith("Your function cannot be called as the exercise says. Keep the arguments")
    assert "TypeError: double() " in message


def test_a_stub_beside_a_function_of_nearly_its_name(toy, tmp_path, monkeypatch):
    stub = "def double(x):\n    raise NotImplementedError('your code here')\n"
    result = run_checks(toy, "double", mine(stub + "def duoble(x):\n    return 2 * x", "double"))
    assert (result.status, result.message) == (
        "not attempted",
        "You define `duoble`; the exercise is called `double`. Rename yours.",
    )
    assert "double: not attempted yet. You define `duoble`;" in repr(result)
    for other in ("def triple(x):\n    return x", "duoble = 3", "def quadruple(x):\n    return x"):
        assert run_checks(toy, "double", mine(stub + other, "double")).message == "Not attempted yet."
    shutil.copytree(os.environ["REFRACT_ROOT"], tmp_path / "course")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))
    given = "def doubles(x):\n    return x"
    toy.notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": given}]}))
    assert run_checks(toy, "double", mine(stub + given, "double")).message == "Not attempted yet."


def test_a_warning_is_shown_once(toy):
    def warns(x):
        warnings.warn("careful", stacklevel=1)
        return x

    assert run_checks(toy, "double", warns).output == "UserWarning: careful\n"


TITLES = """
import pytest, torch
@pytest.mark.parametrize("shape", [(2, 3), (1,), [4, [5, None]]])
def test_shape(shape): pass
@pytest.mark.parametrize("device", ["cpu", "a-b"])
@pytest.mark.parametrize("dtype", [torch.float32])
def test_stacked(device, dtype): pass
@pytest.mark.parametrize(("a", "b"), [(1, 0.5), pytest.param(2, True, id="two of them")])
def test_pair(a, b): pass
@pytest.mark.parametrize("kind", [object(), int, torch.relu, None])
def test_kind(kind): pass
@pytest.mark.parametrize("long", [tuple(range(100))])
def test_long(long): pass
def test_plain(): pass
"""


def test_titles_of_cases(tmp_path, monkeypatch):
    (tmp_path / "test_titles.py").write_text(TITLES)
    seen: list[str] = []

    class Collect:
        def pytest_collection_modifyitems(self, items):
            seen.extend(title_of(item) for item in items)

    arguments = [str(tmp_path), "--collect-only", "-c", os.devnull, "--rootdir", str(tmp_path), "--noconftest"]
    pytest.main([*arguments, "-p", "no:cacheprovider", "-p", "no:terminal"], plugins=[Collect()])
    assert seen == [
        "Shape [shape = (2, 3)]",
        "Shape [shape = (1,)]",
        "Shape [shape = [4, [5, None]]]",
        "Stacked [dtype = float32, device = cpu]",
        "Stacked [dtype = float32, device = a-b]",
        "Pair [a = 1, b = 0.5]",
        "Pair [two of them]",
        "Kind",
        "Kind [kind = int]",
        "Kind [kind = relu]",
        "Kind [kind = None]",
        "Long",
        "Plain",
    ]


def test_output_is_kept_and_cut(toy):
    def talks(x):
        print("a" * 3000)
        return x

    result = run_checks(toy, "double", talks)
    assert result.output.startswith("a" * 2000 + "\n… and ")
    assert len(result.output) < 2100


def test_cached_functions_partials_and_modules_cross(toy, tmp_path, monkeypatch):
    cached = mine(
        "import functools\n@functools.lru_cache\ndef two():\n    return 2\ndef f(x):\n    return two() * x", "f"
    )
    assert run_checks(toy, "double", cached).passed
    assert run_checks(toy, "double", functools.partial(torch.mul, other=2)).passed
    assert run_checks(toy, "double", functools.partial(lambda k, x: k * x, 2)).passed
    file = tmp_path / "my_own_module.py"
    file.write_text("FACTOR = 2\ndef double(x):\n    return FACTOR * x\n")
    spec = importlib.util.spec_from_file_location("my_own_module", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "my_own_module", module)
    spec.loader.exec_module(module)
    assert run_checks(toy, "double", module.double).passed
    vars(module)["FACTOR"] = 3  # as this process has it, not as the file says
    assert run_checks(toy, "double", module.double).status == "failed"


def test_random_numbers_of_a_test_do_not_depend_on_what_ran_before(toy):
    def shows(x):
        print(torch.rand(()).item())
        return 2 * x

    assert run_checks(toy, "double", shows).output == run_checks(toy, "double", shows).output


def test_result_survives_json(toy):
    result = run_checks(toy, "double", squared)
    assert CheckResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_text_form(toy):
    text = repr(run_checks(toy, "double", squared))
    assert text.startswith("✗ double: not yet. 4 of 8 tests passed.")
    assert 'hint("double")' in text
    assert repr(run_checks(toy, "double", good)).startswith("✓ double: passed. 8 tests in ")


def test_html_form_escapes_everything(toy):
    def answer(x):
        print("<script>alert(1)</script> $x$")
        raise ValueError("<img src=x onerror=alert(1)>")

    markup = run_checks(toy, "double", answer)._repr_html_()
    assert "<script" not in markup and "<img" not in markup and "$" not in markup
    assert "&lt;img src=x" in markup
    assert "<details" in markup and "hint(" in markup
    assert "You squared &lt;b&gt;x&lt;/b&gt; &amp; did" in run_checks(toy, "double", squared)._repr_html_()
    assert "http" not in markup


def test_formulas_of_the_author_are_typeset_and_no_others():
    result = CheckResult("s", "e", "failed", message="Below $p$ & <b>.\n\nIt printed $x$.", mistake="m")
    markup = result._repr_html_()
    assert "Below $p$ &amp; &lt;b&gt;." in markup
    assert "It printed &#36;x&#36;." in markup


def test_no_such_exercise(toy):
    with pytest.raises(RefractError, match="no exercise called 'triple'"):
        run_checks(toy, "triple", good)


TESTS, REFERENCE = "tests/ch1_toy/test_s1_first.py", "solutions/ch1_toy/s1_first.py"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((TESTS, "def broken(:\n"), "do not run"),
        ((TESTS, "def test_other(quadruple): pass\n"), "No test of ch1_toy/s1_first takes"),
        ((TESTS, None), "has no checkers"),
        ((REFERENCE, "1 / 0\n"), "ZeroDivisionError"),
    ],
)
def test_a_fault_of_the_course_is_not_the_learners(toy, tmp_path, monkeypatch, change, words):
    file, text = change
    whole = os.environ["REFRACT_ROOT"]
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    (root / file).unlink() if text is None else (root / file).write_text(text)
    monkeypatch.setenv("REFRACT_ROOT", str(root))
    with pytest.raises(RefractError, match=words):
        run_checks(toy, "double", good)
    monkeypatch.setenv("REFRACT_ROOT", whole)
    assert run_checks(toy, "double", good).passed


@pytest.mark.skipif("fork" not in STRATEGIES, reason="the fork server is for Linux")
def test_a_warm_check_is_fast(toy):
    client.pool("fork").warm()
    run_checks(toy, "double", good, "fork")
    times = []
    for _ in range(7):
        began = time.perf_counter()
        assert run_checks(toy, "double", good, "fork").passed
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5, times  # the least of seven: the machine may be busy with something else
