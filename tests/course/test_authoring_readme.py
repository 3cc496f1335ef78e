"""chapters/README.md tells authors the truth: its table, its example and its error messages are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refract.authoring import source, stubs
from refract.authoring.directives import DIRECTIVES
from refract.authoring.model import Code
from refract.authoring.source import SourceError, tokenizer
from refract.authoring.validate import validate
from refract.paths import SectionPaths, root

SECTION = SectionPaths("ch9_example", "s1_halves")


@pytest.fixture(scope="module")
def readme() -> str:
    return (root() / "chapters" / "README.md").read_text(encoding="utf-8")


def table() -> str:
    """The table of directives, as the README must have it."""
    lines = ["| directive | argument | options | holds | what it is |", "|---|---|---|---|---|"]
    for name, spec in DIRECTIVES.items():
        options = [f"`{key}`: {kind}" for key, kind in spec.required]
        options += [f"`{key}`, if you like: {kind}" for key, kind in spec.optional]
        holds = ", ".join(f"`{child}`" for child in spec.children)
        cells = (f"`{name}`", spec.argument or "none", "; ".join(options), holds, spec.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fences(readme: str, language: str) -> list[str]:
    """The fences of a language, in order."""
    return [token.content for token in tokenizer().parse(readme) if token.type == "fence" and token.info == language]


@pytest.fixture
def example(readme, tmp_path, monkeypatch) -> Path:
    """The README's example, written where it says that it belongs."""
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    (text,) = fences(readme, "markdown")
    reference = fences(readme, "python")[0]
    for path, content in ((SECTION.source, text), (SECTION.reference, reference)):
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
        assert f"`{path.relative_to(tmp_path)}`" in readme
    return tmp_path


def test_the_table_is_the_parser_s(readme):
    assert table() in readme


def test_each_directive_has_a_place_in_the_example_or_below(readme):
    (text,) = fences(readme, "markdown")
    for name in DIRECTIVES:
        assert f"{{{name}}}" in text or f"`{name}`" in readme.split("## Directives")[1]


def test_the_example_is_well_formed(example):
    section = source.load(SECTION)
    validate(section)
    assert section.title == "Halves"
    (exercise,) = section.exercises
    assert len(exercise.hints) == 4
    assert len(section.predictions) == len(section.figures) == len(section.claims) == 1


def test_the_example_s_stub_is_the_one_shown(readme, example):
    assert fences(readme, "python")[1].strip() == stubs.stub(SECTION, "halve")


def test_the_example_s_code_runs(example):
    import torch

    shown: list[str] = []
    recorded: dict[str, torch.Tensor] = {}
    space = {"torch": torch, "show": lambda figure, name: shown.append(name), "record": recorded.__setitem__}
    exec(SECTION.reference.read_text(), space)
    for block in source.load(SECTION).blocks:
        if isinstance(block, Code):
            exec(block.source, space)
    assert shown == ["shrinking"]
    assert float(recorded["left_after_five"]) == 2**-5


# What the README says is done to the example, in the order of its messages.
SPOILT = [
    (":answer: left_after_five\n", ""),
    ("if there are two equal ones?\n:::\n", "if there are two equal ones?\n"),
    ("{value}`left_after_five:.1%`", "{value}`left_after_six:.1%`"),
]


@pytest.mark.parametrize("index", range(len(SPOILT)))
def test_the_messages_are_those_that_the_build_prints(readme, example, index):
    old, new = SPOILT[index]
    text = SECTION.source.read_text(encoding="utf-8")
    assert text.count(old) == 1
    SECTION.source.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        validate(source.load(SECTION))
    shown = fences(readme, "text")
    assert len(shown) == len(SPOILT)
    assert str(caught.value).replace(f"{example}/", "") == shown[index].strip()


def test_its_links_and_paths_exist(readme):
    named = set(re.findall(r"`((?:tests|refract|streamlit_app)/[\w./]+)`", readme))
    assert named
    for path in named:
        assert (root() / path).exists(), path
