"""Put a run's coder here: weights in fp16, its metrics on held-out text, and the README, which holds no typed number.

RUN is the folder that `python -m refract sae train --out RUN` wrote:

    python assets/saes/release.py add RUN smollm2
    python assets/saes/release.py readme               # write README.md again, from what is here
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
import shutil
import string
import tempfile
from pathlib import Path
from typing import Annotated, Any

import plotly.graph_objects as go
import torch
import typer

from refract import atomic, checksums
from refract.errors import RefractError
from refract.plots import style
from refract.sae import run as runs
from refract.sae.config import Config
from refract.sae.evaluate import Report, table
from refract.sae.run import Source

HERE = Path(__file__).resolve().parent
CONTEXTS = 512  # of held-out text, for the tables
CHECKED = 16  # of these, the first few, which the tests measure again
LATENTS = 10
CLOSE = {"variance_explained": 1e-3, "ce_spliced": 2e-3, "l0": 0.02}  # by how much rounding to fp16 may change them
CODER_FILES = ("cfg.json", "sae_weights.safetensors")
FLAGS = {  # a setting, and the flag of `sae train` that sets it
    "model": "model",
    "hooks": "hook",
    "rows": "rows",
    "held_out_rows": "held-out-rows",
    "n_ctx": "n-ctx",
    "dataset": "dataset",
    "architecture": "architecture",
    "kind": "kind",
    "n_latents": "latents",
    "tokens": "tokens",
    "batch": "batch",
    "learning_rate": "learning-rate",
    "seed": "seed",
}
SAID = {"model", "rows", "n_latents", "tokens", "seed"}  # also where they are what they are unless given
app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)


# --- add ------------------------------------------------------------------------------------------------------


@app.command()
def add(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    name: Annotated[str, typer.Argument(help="The folder that is to hold its coder.")],
    contexts: Annotated[int, typer.Option(help="Held-out contexts to measure on.")] = CONTEXTS,
    to: Annotated[Path, typer.Option(help="Where that folder and the README belong.")] = HERE,
) -> None:
    """Export, measure before and after rounding, and write everything that belongs to the coder."""
    _, _, state = runs.newest(run)
    if state["done"] * state["config"]["batch"] + state["config"]["batch"] <= state["config"]["tokens"]:
        raise RefractError(f"The run in {run} has not been trained to its end.", "Go on with `sae train --resume`.")
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / name
        runs.export(run, new, dtype="float16")
        before, _ = _measured(run, contexts)
        after, shown = _measured(new, contexts, LATENTS)
        for measure, most in CLOSE.items():
            exact, rounded = getattr(before, measure), getattr(after, measure)
            if abs(rounded - exact) > most:
                raise RefractError(
                    f"In fp16 {measure} is {rounded:.5f}, before it was {exact:.5f}.",
                    "These weights lose too much in fp16; keep them in fp32, or find out why.",
                )
        results = {
            "config": state["config"],
            "source": json.loads((run / runs.SOURCE).read_text(encoding="utf-8")),
            "fp32": json.loads(before.to_json()),
            "fp16": json.loads(after.to_json()),
            "check": json.loads(_measured(new, CHECKED)[0].to_json()),
            "curve": _thinned(state["curve"]),
            "seconds": state["seconds"],
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "examples": shown.split("\n\n", maxsplit=1)[1],
        }
        (new / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        curve(results).write_image(new / "curve.png", width=800, height=420, scale=1.5)
        checksums.write(new)
        shutil.rmtree(to / name, ignore_errors=True)
        shutil.copytree(new, to / name)
    readme(to)


def _measured(coder: Path, contexts: int, top: int = 0) -> tuple[Report, str]:
    """The numbers, and what `sae evaluate` prints."""
    with tempfile.TemporaryDirectory() as folder:
        shown = runs.evaluate(coder, contexts=contexts, top=top, out=Path(folder))
        return Report.from_json((Path(folder) / "metrics.json").read_text(encoding="utf-8")), shown


def _thinned(points: list[dict[str, float]], most: int = 200) -> list[dict[str, float]]:
    """Every so-manyth point, and all that were measured on held-out rows."""
    step = max(1, len(points) // most)
    return [point for place, point in enumerate(points) if place % step == 0 or "held_out_fve" in point]


def curve(results: dict[str, Any]) -> go.Figure:
    """Variance explained over tokens, on the batches of training and on held-out rows."""
    figure = go.Figure(layout={"template": style.template(), "legend": {"orientation": "h", "y": 1.1}})
    for name, label, colour in (("fve", "train: 25 batches", style.SKY), ("held_out_fve", "held out", style.BLUE)):
        points = [point for point in results["curve"] if name in point]
        x, y = [point["tokens"] / 1e6 for point in points], [point[name] for point in points]
        figure.add_scatter(x=x, y=y, name=label, mode="lines", line_color=colour)
    figure.update_xaxes(title="tokens (millions)", rangemode="tozero")
    figure.update_yaxes(title="fraction of variance explained", range=[0.5, 1])
    return figure


# --- the README -----------------------------------------------------------------------------------------------


@app.command("readme")
def readme(to: Annotated[Path, typer.Option(help="The folder of the coders.")] = HERE) -> None:
    """Write README.md from the template and the results of all coders that are here."""
    atomic.write_text(to / "README.md", text(to))


def text(folder: Path) -> str:
    """The README of a folder of coders."""
    found = {file.parent.name: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*/results.json"))}
    reports = {name: Report.from_json(json.dumps(results["fp16"])) for name, results in found.items()}
    values = {
        "table": table(reports, markdown=True),
        "coders": "\n\n".join(_section(name, results, folder / name) for name, results in found.items()),
    }
    return string.Template((HERE / "README.template.md").read_text(encoding="utf-8")).substitute(values)


def command(source: dict[str, Any], config: dict[str, Any]) -> str:
    """The command line that trained a coder, without what it leaves as it is."""
    usual = dataclasses.asdict(Source(model=source["model"])) | Config().to_dict()
    given = source | config
    settings = dict(given["settings"])
    pieces = ["python", "-m", "refract", "sae", "train"]
    for name, flag in FLAGS.items():
        if name in SAID or json.dumps(given[name]) != json.dumps(usual[name]):
            for value in given[name] if name == "hooks" else [given[name]]:
                pieces += [f"--{flag}", str(value)]
    for name in ("k", "sparsity"):
        if name in settings:
            pieces += [f"--{name}", str(settings.pop(name))]
    others = {name: value for name, value in config.items() if name not in {*FLAGS, "settings"}}
    for name, value in ({name: value for name, value in others.items() if value != usual[name]} | settings).items():
        pieces += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join([*pieces, "--out", "RUN"])


def _section(name: str, results: dict[str, Any], folder: Path) -> str:
    config, source, point = results["config"], results["source"], results["curve"][-1]
    before, after = (Report.from_json(json.dumps(results[kind])) for kind in ("fp32", "fp16"))
    versions = ", ".join(f"{library} {version}" for library, version in results["versions"].items())
    size = sum((folder / file).stat().st_size for file in CODER_FILES)
    contexts = "" if after.contexts == CONTEXTS else f" --contexts {after.contexts}"
    active = "at a time" if config["architecture"] == "topk" else "on average"
    return "\n".join(
        [
            f"## `{name}`",
            "",
            f"{config['n_latents']:,} latents at `{', '.join(source['hooks'])}` of `{source['model']}`, "
            f"{after.l0:.0f} active {active}; {size / 1e6:.1f} MB. Trained on {point['tokens'] / 1e6:.1f} "
            f"million activations in batches of {config['batch']:,}, from a store of {source['rows'] / 1e6:.1f} "
            f"million: {point['tokens'] / source['rows']:.1f} epochs. The training, without the harvest, took "
            f"{results['seconds'] / 60:.0f} minutes on {results['threads']} threads of a CPU that was not always free "
            f"({versions}).",
            "",
            "```bash",
            command(source, config),
            f"python assets/saes/release.py add RUN {name}{contexts}",
            "```",
            "",
            f"![Fraction of variance explained against tokens, in training and held out]({name}/curve.png)",
            "",
            f"In fp16 the variance explained is {after.variance_explained:.5f} ({before.variance_explained:.5f} before "
            f"rounding), the loss with reconstructions {after.ce_spliced:.5f} ({before.ce_spliced:.5f}). SHA-256 of "
            f"the weights: `{checksums.sha256(folder / CODER_FILES[1])}`.",
            "",
            f"{LATENTS} latents, drawn at random from those that fire in these contexts, and the five contexts in "
            "which each fires most; the token on which it does stands in [brackets].",
            "",
            "```text",
            results["examples"].rstrip(),
            "```",
        ]
    )


if __name__ == "__main__":
    try:
        app()
    except RefractError as error:
        raise SystemExit(str(error)) from error
