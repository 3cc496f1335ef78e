"""Weave a section and its reference into notebooks. Pure: text in, notebook out; nothing is executed here."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

from refract.authoring import stubs, timings, values
from refract.authoring.model import Aside, Block, Bonus, Claim, Code, Exercise, Figure, Lab, Predict, Prose, Section
from refract.authoring.slugs import slug
from refract.authoring.source import tokenizer
from refract.authoring.values import Recorded
from refract.paths import SectionPaths, repository, revision

ASK = "# Put your answer in, and how sure you are, from 0 to 1 (0.7 is 70 per cent)."
NAMES = "check, hint, predict, record, reveal, setup, show, solution"

SETUP = """\
# Set-up, the same in every section. On your own machine it only imports; on Colab it fetches the course first.
import importlib.util
import pathlib
import subprocess
import sys

here = pathlib.Path.cwd()
course = next((folder for folder in (here, *here.parents) if (folder / "refract" / "paths.py").exists()), None)
if course is None and importlib.util.find_spec("refract") is None:
    course = here / "refract-course"
    if not course.exists():
        source = "{repository}"
        clone = ["git", "clone", "-q", "--depth", "1", "-b", "{revision}", source, str(course)]
        done = subprocess.run(clone, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"The course could not be fetched from {{source}}:\\n{{done.stderr}}")
    sys.path.insert(0, str(course))
    from refract.bootstrap import install_missing

    install_missing()
elif course is not None:
    sys.path.insert(0, str(course))

from refract import {names}"""


@dataclass(frozen=True)
class Cell:
    """One notebook cell before it is one. ``role`` says what it is for; ids are derived from it and from its place."""

    kind: str  # "markdown" or "code"
    role: str
    source: str


@dataclass
class _Ids:
    """Readable, stable ids: a cell's place is its heading and its number under that heading."""

    heading: str = "top"
    seen: Counter[str] = field(default_factory=Counter)

    def next(self, role: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_-]", "-", role if "/" in role else f"{self.heading[:36]}/{role}")[:56]
        self.seen[stem] += 1
        count = self.seen[stem]
        return stem if count == 1 else f"{stem}-{count}"


def colab_link(paths: SectionPaths) -> str:
    """Where Colab opens the learner's notebook."""
    owner = repository().removeprefix("https://github.com/")
    path = quote(f"chapters/{paths.chapter}/{paths.section}.ipynb")
    return f"https://colab.research.google.com/github/{owner}/blob/{revision()}/{path}"


def setup_cell() -> str:
    """The first code cell: one template for all sections."""
    return SETUP.format(repository=repository(), revision=revision(), names=NAMES)


def imports_cell(section: Section) -> str:
    """What the exercise cells need in order to be defined: the reference's own imports, then the section's set-up."""
    imports = stubs.read(section.paths).imports
    return f'{imports}\n\nsetup("{section.paths.id}")'


def dots(count: int) -> str:
    """A rating out of five."""
    return "●" * count + "○" * (5 - count)


def learner(
    section: Section, recorded: Mapping[str, Recorded], seconds: Mapping[str, float] | None = None
) -> NotebookNode:
    """The learner's notebook: stubs, checks, no answers and no outputs.

    ``seconds`` are the worked notebook's, by cell id: a cell that takes long says so in its first line.
    """
    return _notebook(section, list(_cells(section, recorded, worked=False)), {"kind": "learner"}, seconds or {})


def worked(section: Section, recorded: Mapping[str, Recorded] | None) -> NotebookNode:
    """The worked notebook, not yet executed. With ``recorded`` None the prose keeps its ``{value}`` roles."""
    return _notebook(section, list(_cells(section, recorded, worked=True)), {"kind": "worked"})


def _notebook(
    section: Section, cells: list[Cell], metadata: dict[str, str], seconds: Mapping[str, float] | None = None
) -> NotebookNode:
    ids = _Ids()
    nodes = []
    for cell in cells:
        heading = re.match(r"#+ (.+)", cell.source) if cell.kind == "markdown" else None
        if heading:
            ids.heading = slug(heading[1])
        make = nbformat.v4.new_markdown_cell if cell.kind == "markdown" else nbformat.v4.new_code_cell
        node = make(cell.source)
        node["id"] = ids.next(cell.role)
        timed = cell.kind == "code" and not cell.role.endswith("-check")  # a first check waits for the checker's start
        note = timings.note((seconds or {}).get(node["id"], 0)) if timed else None
        if note:
            node["source"] = f"# {note}\n{node['source']}"
        nodes.append(node)
    notebook = nbformat.v4.new_notebook(cells=nodes)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        refract={"section": section.paths.id, **metadata},
    )
    if metadata["kind"] == "learner":
        notebook.metadata.refract["digest"] = digest(notebook)
    return notebook


def digest(notebook: NotebookNode) -> str:
    """A hash of the cells as generated; a notebook whose digest no longer fits was changed by a person."""
    text = "\0".join(f"{cell['id']}\0{cell['cell_type']}\0{cell['source']}" for cell in notebook.cells)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cells(section: Section, recorded: Mapping[str, Recorded] | None, *, worked: bool) -> Iterator[Cell]:
    anchors = _notebook_anchors(section)

    def fill(text: str) -> str:
        text = re.sub(r"\]\(#([^)]+)\)", lambda match: f"](#{anchors.get(match[1], match[1])})", text)
        return text if recorded is None else values.fill(text, recorded)

    first = True
    for block in section.blocks:
        if isinstance(block, Prose):
            for part in split_headings(fill(block.text)):
                yield Cell("markdown", "text", part)
                if first:
                    yield from _opening(section, worked=worked)
                    first = False
        else:
            yield from _block(section, block, recorded, fill, worked=worked)


def _notebook_anchors(section: Section) -> dict[str, str]:
    """Jupyter anchors a heading as it is written, with hyphens; the sources use GitHub's anchors."""
    prose = "\n".join(block.text for block in section.blocks if isinstance(block, Prose))
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {slug(heading): heading.strip().replace(" ", "-") for heading in headings}


def split_headings(text: str) -> list[str]:
    """Split Markdown before each second-level heading or deeper; what looks like one in a code fence is none."""
    lines = text.split("\n")
    headings = [token for token in tokenizer().parse(text) if token.type == "heading_open" and token.level == 0]
    starts = [token.map[0] for token in headings if token.map and token.tag != "h1"]
    parts = ("\n".join(lines[begin:end]).strip() for begin, end in pairwise([0, *starts, len(lines)]))
    return [part for part in parts if part]


def _opening(section: Section, *, worked: bool) -> Iterator[Cell]:
    paths = section.paths
    if worked:
        yield Cell(
            "markdown",
            "top/about",
            "*This is the worked notebook: every exercise solved, every figure drawn. It gives everything away. The "
            f"[learner's notebook](../../chapters/{paths.chapter}/{paths.section}.ipynb) gives nothing away.*",
        )
    else:
        yield Cell("markdown", "top/colab", f"[Open this notebook in Colab]({colab_link(paths)})")
    yield Cell("code", "top/setup", setup_cell())
    yield Cell("code", "top/imports", imports_cell(section))


def _block(section: Section, block: Block, recorded, fill, *, worked: bool) -> Iterator[Cell]:
    match block:
        case Code():
            yield Cell("code", "code", block.source)
        case Exercise():
            yield from _exercise(section, block, fill, worked=worked)
        case Predict():
            yield Cell("markdown", f"predict/{block.name}", _question(block, fill))
            if not worked:
                call = f'{ASK}\npredict("{block.name}", answer=None, confidence=None)'
                yield Cell("code", f"predict/{block.name}-answer", call)
        case Figure():
            if block.after and block is next(figure for figure in section.figures if figure.after == block.after):
                prediction = next(item for item in section.predictions if item.name == block.after)
                if worked:
                    yield Cell("markdown", f"reveal/{block.after}", f"**What happened.** {fill(prediction.reveal)}")
                else:
                    yield Cell("code", f"reveal/{block.after}", f'reveal("{block.after}")')
            yield Cell("markdown", f"figure/{block.name}", f"**Figure.** {fill(block.caption)}")
        case Claim():
            yield Cell("markdown", f"claim/{block.name}", _claim(section, block, recorded, fill))
        case Lab():
            where = "It runs on the site: `python -m refract site`, then this section's page."
            yield Cell("markdown", f"lab/{block.name}", f"**Lab.** {fill(block.text)}\n\n{where}")
        case Aside():
            body = f"<details>\n<summary>{block.title}</summary>\n\n{fill(block.text)}\n\n</details>"
            yield Cell("markdown", "aside", body)
        case Bonus():
            yield Cell("markdown", "bonus", f"**Bonus: {block.title}.** {fill(block.text)}")


def _exercise(section: Section, block: Exercise, fill, *, worked: bool) -> Iterator[Cell]:
    name = block.name
    box = (
        f"### Exercise: `{name}`\n\n"
        f"difficulty {dots(block.difficulty)} · importance {dots(block.importance)} · about {block.minutes} minutes\n\n"
        f"{fill(block.text)}"
    )
    yield Cell("markdown", f"exercise/{name}", box)
    if worked:
        yield Cell("code", f"exercise/{name}-answer", stubs.solution_source(section.paths, name))
        yield Cell("code", f"exercise/{name}-check", f"check({name})")
        return
    yield Cell("code", f"exercise/{name}-answer", stubs.stub(section.paths, name))
    yield Cell("code", f"exercise/{name}-check", f"check({name})")
    stuck = (
        "# Stuck? Uncomment hint(...) and run this cell once per hint; solution(...) fetches the reference.\n"
        f'# hint("{name}")\n'
        f'# {name} = solution("{name}")'
    )
    yield Cell("code", f"exercise/{name}-stuck", stuck)


def _question(block: Predict, fill) -> str:
    lines = [f"**Predict.** {fill(block.question)}"]
    if block.options:
        lines.append(
            "\n".join(f"- **{letter}.** {fill(text)}" for letter, text in zip("abcdefgh", block.options, strict=False))
        )
    return "\n\n".join(lines)


def _claim(section: Section, block: Claim, recorded: Mapping[str, Recorded] | None, fill) -> str:
    lines = [f"**Claim** ({block.source}). {fill(block.statement)}"]
    if recorded is not None:
        verdict = values.verdict(block, recorded)
        lines.append(f"Here: **{verdict}{' replicated' if verdict == 'partly' else ''}**.")
        lines.append(fill(evidence(section, block, recorded)))
    return "\n\n".join(lines)


def evidence(section: Section, claim: Claim, recorded: Mapping[str, Recorded]) -> str:
    """What a verdict rests on, in Markdown: the values, under which heading they were recorded, and the conditions."""
    headings = _recorded_under(section)
    found: dict[str, list[str]] = {}
    for name, value in values.evidence(claim, recorded).items():
        found.setdefault(headings.get(name, section.title), []).append(f"`{name} = {values.write(value, None)}`")
    measured = "; ".join(f"{', '.join(each)} (under [{place}](#{slug(place)}))" for place, each in found.items())
    partly = f", partly if `{claim.partly}`" if claim.partly else ""
    return f"Measured: {measured}. Replicated if `{claim.replicated}`{partly}."


def _recorded_under(section: Section) -> dict[str, str]:
    """The heading under which the given code records each value."""
    heading = section.title
    found: dict[str, str] = {}
    for block in section.blocks:
        if isinstance(block, Prose):
            tokens = tokenizer().parse(block.text)
            titles = [inline.content for token, inline in pairwise(tokens) if token.type == "heading_open"]
            heading = titles[-1] if titles else heading
        elif isinstance(block, Code):
            found |= dict.fromkeys(re.findall(r"\brecord\(\s*[\"'](\w+)", block.source), heading)
    return found
