"""The trained autoencoders under assets/: whole, small, as good as their README says, and described by it."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest
import torch

from refract import checksums, models
from refract.cli import sae as cli
from refract.paths import root
from refract.sae import run as runs
from refract.sae.config import Config
from refract.sae.evaluate import Report, evaluate

SAES = root() / "assets" / "saes"
sys.path.insert(0, str(SAES))
import release  # noqa: E402

NAMES = sorted(folder.parent.name for folder in SAES.glob("*/results.json"))


def results(name):
    return json.loads((SAES / name / "results.json").read_text(encoding="utf-8"))


def test_both_models_have_one_and_they_are_small():
    assert {results(name)["source"]["model"] for name in NAMES} == {"smollm2", "course"}
    assert sum(file.stat().st_size for file in SAES.rglob("*") if file.is_file()) <= 14e6
    smollm2 = next(results(name) for name in NAMES if results(name)["source"]["model"] == "smollm2")
    assert smollm2["source"]["hooks"] == ["blocks.10.hook_resid_post"]
    assert smollm2["config"]["n_latents"] >= 4608
    assert smollm2["config"]["architecture"] == "topk"


def test_the_readme_is_what_the_results_say():
    assert (SAES / "README.md").read_text(encoding="utf-8") == release.text(SAES)


def test_the_example_in_the_readme_works(monkeypatch, capsys):
    """With the smaller of the two models."""
    monkeypatch.chdir(root())
    text = (SAES / "README.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example.replace("saes/smollm2", "saes/course"), names)
    assert capsys.readouterr().out.strip() == str(names["latents"][-1].tolist())
    assert names["latents"].shape[1] == 10
    assert (names["values"][-1] > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_files_are_whole_and_weights_are_directions(name):
    checksums.verify(SAES / name)
    done = runs.finished(SAES / name)
    assert done.coder.n_latents == results(name)["config"]["n_latents"]
    torch.testing.assert_close(done.coder.W_dec.norm(dim=1), torch.ones(done.coder.n_latents), rtol=0, atol=2e-3)
    assert done.mean is not None
    assert torch.nn.functional.cosine_similarity(done.coder.b_dec, done.mean, dim=0) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_hang_together(name):
    """Between the mean and the clean model, better than half of the way, with k latents and few that are dead."""
    report = Report.from_json(json.dumps(results(name)["fp16"]))
    assert report.ce_clean < report.ce_spliced < report.ce_mean
    assert report.recovered_mean > 0.5
    assert report.variance_explained > 0.5
    assert report.l0 <= results(name)["config"]["settings"]["k"]
    assert report.dead < 0.5


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith("course") else pytest.mark.heavy) for name in NAMES]
)
def test_what_was_measured_is_measured_again(name):
    """The first held-out contexts, with the model that the coder belongs to."""
    wanted = Report.from_json(json.dumps(results(name)["check"]))
    done = runs.finished(SAES / name)
    model = models.load(done.source.model, dtype="fp32")
    held_out = list(runs.packed(done.source, "held-out", model))
    some = [type(held_out[0])(*(field[: wanted.contexts] for field in held_out[0]))]
    assert done.mean is not None
    found = evaluate(done.coder, model, done.hooks[0], some, mean=done.mean)
    assert found.tokens_sha256 == wanted.tokens_sha256
    assert found.variance_explained == pytest.approx(wanted.variance_explained, abs=1e-3)
    assert found.ce_spliced == pytest.approx(wanted.ce_spliced, abs=2e-3)
    assert found.ce_clean == pytest.approx(wanted.ce_clean, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_in_the_readme_makes_the_same_run(name, monkeypatch):
    """Its flags, read by the command line, are the source and the settings that the results have."""
    told = results(name)
    line = release.command(told["source"], told["config"])
    assert line in (SAES / "README.md").read_text(encoding="utf-8")
    called: dict[str, Any] = {}
    monkeypatch.setattr(runs, "train", lambda config, source, out, **_: called.update(config=config, source=source))
    cli.app(shlex.split(line)[4:], standalone_mode=False)
    config = Config().to_dict() | told["config"]  # a setting that is younger than the run
    assert json.loads(json.dumps(called["config"].to_dict())) == config
    assert json.loads(json.dumps(vars(called["source"]))) == told["source"]
