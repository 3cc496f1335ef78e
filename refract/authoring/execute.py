"""Run a worked notebook with nbclient and keep what it shows: outputs, figures, values, and each cell's seconds."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from refract.authoring import values
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.paths import root

CELL_SECONDS = 60  # the compute contract, on two cores
NOTEBOOK_SECONDS = 180
_PACKAGE = Path(__file__).resolve().parent.parent  # this refract, installed or not
_HARD_LIMIT = 600  # a cell on a busy machine may be late; one that never ends is a defect


@dataclass(frozen=True)
class Run:
    """What one execution made."""

    values: dict[str, Recorded]
    figures: dict[str, str]  # name -> Plotly JSON
    seconds: float


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def execute(notebook: NotebookNode, folder: Path) -> Run:
    """Execute ``notebook`` in place, in ``folder``. Progress goes to a scratch store, not to the author's.

    Raises:
        RefractError: a cell failed; its id and error are named.
    """
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch) / "record"
        settings = {
            "REFRACT_RECORD": str(record),
            "REFRACT_HOME": str(Path(scratch) / "home"),
            "REFRACT_ROOT": str(root()),
            "PYTHONPATH": os.pathsep.join([str(root()), str(_PACKAGE.parent)]),
        }
        starts: dict[str, float] = {}

        def begin(cell: NotebookNode, cell_index: int) -> None:
            starts[cell["id"]] = time.perf_counter()

        def end(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
            cell.metadata["refract"] = {"seconds": round(time.perf_counter() - starts[cell["id"]], 2)}

        client = NotebookClient(
            notebook,
            timeout=_HARD_LIMIT,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            on_cell_start=begin,
            on_cell_executed=end,
        )
        with _environment(**settings):
            started = time.perf_counter()
            try:
                client.execute()
            except CellExecutionError as error:
                problem = (
                    f"Cell {list(starts)[-1]} of the worked notebook failed: {error.ename}: {_plain(error.evalue)}"
                )
                raise RefractError(
                    f"{problem}\n{_plain(error.traceback)}",
                    "Mend the section's code or its reference, and build again.",
                ) from error
            seconds = time.perf_counter() - started
        recorded = values.load_recorded(record / "values.json")
        figures = {path.stem: path.read_text(encoding="utf-8") for path in sorted((record / "figures").glob("*.json"))}
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            cell["outputs"] = [_clean(output) for output in cell["outputs"] if output.get("name") != "stderr"]
            _check_claimed_pass(cell)
    return Run(recorded, figures, seconds)


def _check_claimed_pass(cell: NotebookNode) -> None:
    """A check cell of the worked notebook must have passed: the reference is right, or nothing is built."""
    exercise = re.fullmatch(r"exercise-(.*)-check", cell["id"])
    if exercise is None:
        return
    text = " ".join(output.get("data", {}).get("text/plain", "") for output in cell["outputs"])
    if f"{exercise[1]}: passed." not in text:  # the result's headline; "1 of 2 tests passed" is none
        raise RefractError(
            f"In the worked notebook, {cell['source']} did not pass: {text[:500]}",
            "Mend the reference or its checker.",
        )


def _clean(output: NotebookNode) -> NotebookNode:
    """Drop what changes from run to run for no reason."""
    output.pop("execution_count", None) if output.get("output_type") == "display_data" else None
    return output


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def draw(figures: dict[str, str]) -> dict[str, bytes]:
    """A PNG of every figure, by kaleido and an installed Chromium. Build time only."""
    import kaleido
    import plotly.io as pio

    from refract.plots import style

    style.use()
    drawn: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        specs: list[Any] = [
            {
                "fig": pio.from_json(text),
                "path": str(Path(scratch) / f"{name}.png"),
                "opts": {"format": "png", "scale": 1.5},
            }
            for name, text in figures.items()
        ]
        try:
            kaleido.write_fig_from_object_sync(specs)
        except Exception as error:
            raise RefractError(
                f"The figures could not be drawn: {type(error).__name__}: {error}",
                "Install Chromium or Chrome; set BROWSER_PATH if it is in an unusual place.",
            ) from error
        for name in figures:
            drawn[name] = few_colours((Path(scratch) / f"{name}.png").read_bytes())
    return drawn


def few_colours(png: bytes) -> bytes:
    """The picture with a palette of at most 256 colours: to the eye the same, and a quarter of the size."""
    from PIL import Image

    small = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def attach(notebook: NotebookNode, drawn: dict[str, bytes]) -> None:
    """Put each figure's PNG beside its Plotly output, so that GitHub shows it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("refract", {}).get("figure")
            if name in drawn:
                output["data"]["image/png"] = b64encode(drawn[name]).decode()


def thin(text: str) -> str:
    """A figure's JSON without the template: the reader's own theme is put in its place."""
    figure = json.loads(text)
    figure.get("layout", {}).pop("template", None)
    return json.dumps(figure, separators=(",", ":")) + "\n"
