"""The commands ``python -m refract sae``, from text to an evaluated coder, on a tiny model and a local dataset."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refract.cli import app
from refract.sae import run, saelens
from refract.sae.training import Trainer
from tests.course import model_shop

HOOK = "blocks.1.hook_resid_post"
WORDS = ["the", "hen", "sees", "fox", "eats", "egg", "runs", "over", "green", "hill", "dark", "wood", "seven", "owls"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a dataset, and a cache of its own."""
    folder = tmp_path_factory.mktemp("sae")
    model_shop.save_gpt2(folder / "model")
    (folder / "text").mkdir()
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=60)) + "." for _ in range(400)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "text" / "train.jsonl").write_text(lines, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFRACT_CACHE", str(folder / "cache"))
        yield folder


def arguments(place: Path, out: str, *more: str) -> list[str]:
    text = f"sae train --model {place / 'model'} --dataset {place / 'text'} --hook {HOOK} --n-ctx 16 --rows 2000 "
    text += "--held-out-rows 300 --latents 32 --k 4 --batch 100 --tokens 6000 --learning-rate 0.003 --threads 1 "
    return [*text.split(), "--out", str(place / out), *more]


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(place):
    result = invoke(*arguments(place, "run", "--set", "log_every=10", "--set", "aux_k=8"))
    assert result.exit_code == 0, result.output
    return place / "run", result.output


def test_training_leaves_a_coder_a_curve_and_a_checkpoint(trained):
    folder, output = trained
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors",
        "coder",
        "curve.html",
        "curve.json",
        "source.json",
    }
    curve = json.loads((folder / "curve.json").read_text())
    assert [point["step"] for point in curve] == list(range(10, 61, 10))
    assert curve[-1]["held_out_fve"] > curve[0]["fve"]
    assert "6,000 tokens" in output and f"python -m refract sae evaluate {folder}" in output
    kept = re.search(r"The activations, 0\.0 GB, are kept for the next run in (\S+)\.\n", output)
    assert kept and (Path(kept.group(1)) / "train" / "manifest.json").exists()
    _, metadata = saelens.load(folder / "coder")
    assert metadata["hook_name"] == HOOK
    assert metadata["refract"]["config"]["settings"] == {"k": 4, "aux_k": 8}


def test_the_saved_coder_is_the_trained_one_in_the_models_units(trained, place):
    import torch

    folder, _ = trained
    coder, normalisations, _ = run.newest(folder)
    saved, _ = saelens.load(folder / "coder")
    for place_of in (folder, folder / "coder"):  # what is made with a finished coder can go into numpy at once
        assert not run.finished(place_of).coder(torch.zeros(1, coder.d_in)).requires_grad
    source = run.Source(
        model=str(place / "model"), hooks=(HOOK,), rows=2000, held_out_rows=300, n_ctx=16, dataset=str(place / "text")
    )
    _, held_out = run.stores(source)
    x = held_out.take(range(300))
    with torch.no_grad():
        expected = normalisations[0].undo(coder(normalisations[0](x)))
        assert torch.allclose(saved(x), expected, atol=1e-4)
        fve = 1 - (saved(x) - x).square().sum() / (x - x.mean(dim=0)).square().sum()
    curve = json.loads((folder / "curve.json").read_text())
    assert fve.item() == pytest.approx(curve[-1]["held_out_fve"], abs=1e-3)


def test_activations_are_harvested_once(trained, place):
    manifests = list((place / "cache" / "activations").rglob("manifest.json"))
    before = {path: path.stat().st_mtime_ns for path in manifests}
    assert len(before) == 2
    hidden = (place / "model").rename(place / "hidden")  # another run on them does not even look for the model
    try:
        result = invoke(*arguments(place, "second", "--seed", "1"))
    finally:
        hidden.rename(place / "model")
    assert result.exit_code == 0, result.output
    assert before == {path: path.stat().st_mtime_ns for path in manifests}


def test_a_run_ends_with_what_is_not_usual_about_it(trained, place):
    assert "target for L0" not in trained[1]
    words = " ".join(arguments(place, "aimed")).replace("--k 4", "--architecture jumprelu --set target_l0=31")
    assert "The target for L0 was 31" in invoke(*words.split()).output  # more than 60 steps can reach


def test_a_run_is_not_overwritten_and_can_be_resumed(trained, place):
    result = invoke(*arguments(place, "run"))
    assert result.exit_code == 2 and "Add --resume" in result.output
    result = invoke(*arguments(place, "run", "--set", "log_every=10", "--set", "aux_k=8", "--resume"))
    assert result.exit_code == 0 and "Going on from step 60 of 60" in result.output


def test_a_run_that_does_not_start_leaves_no_word_about_itself(trained, place):
    folder, _ = trained
    before = (folder / "source.json").read_bytes()
    result = invoke(*arguments(place, "run", "--rows", "1000", "--resume"))  # other activations than the run's
    assert result.exit_code == 2
    assert (folder / "source.json").read_bytes() == before
    result = invoke(*arguments(place, "elsewhere", "--model", str(place / "nowhere")))
    assert result.exit_code == 2
    assert not list((place / "elsewhere").iterdir())


def test_evaluate_prints_the_table(trained):
    folder, _ = trained
    out = folder.parent / "metrics"
    result = invoke(
        "sae", "evaluate", str(folder), "--contexts", "20", "--top", "2", "--out", str(out), "--threads", "1"
    )
    assert result.exit_code == 0, result.output
    metrics = json.loads((out / "metrics.json").read_text())
    curve = json.loads((folder / "curve.json").read_text())
    assert metrics["variance_explained"] == pytest.approx(curve[-1]["held_out_fve"], abs=0.1)
    assert metrics["l0"] == pytest.approx(4, abs=0.2)
    for words in ("variance", "L0", "zero", "mean"):
        assert words in result.output


def test_evaluate_shows_the_latents_that_are_asked_for_and_others(trained):
    shown = ["sae", "evaluate", str(trained[0]), "--contexts", "4", "--latent", "7", "--latent", "3"]
    output = invoke(*shown, "--top", "2").output
    found = [int(number) for number in re.findall(r"^latent (\d+)", output, re.MULTILINE)]
    assert found[:2] == [7, 3] and len(found) == 4
    assert re.findall(r"^latent (\d+)", invoke(*shown).output, re.MULTILINE) == ["7", "3"]
    again = invoke(*shown, "--top", "2", "--latent", str(found[2])).output  # one that would be drawn as well
    assert len(set(re.findall(r"^latent (\d+)", again, re.MULTILINE))) == 5
    result = invoke(*shown, "--latent", "32")
    assert result.exit_code == 2 and "numbered from 0 to 31" in result.output


def test_contexts_come_from_everywhere():
    """The first of them are not those of the first document; none is lost or doubled; a seed gives one order."""
    import torch

    from refract.data import Contexts

    columns = torch.arange(1000)[:, None].expand(-1, 4).split(7)
    batches = [Contexts(rows, rows.int(), rows.int(), rows.int()) for rows in columns]
    for block in (1 << 16, 300):
        order = torch.cat([each.tokens[:, 0] for each in run.mixed(batches, seed=3, block=block)])
        again = torch.cat([each.document[:, 0] for each in run.mixed(iter(batches), seed=3, block=block)])
        assert torch.equal(order, again.long())
        assert torch.equal(order.sort().values, torch.arange(1000))
        assert order[:50].float().std() > 50
        assert order[:300].max() < 310 or block > 1000


def test_export(trained, place):
    folder, _ = trained
    result = invoke("sae", "export", str(folder), str(place / "half"), "--dtype", "float16")
    assert result.exit_code == 0, result.output
    assert json.loads((place / "half" / "cfg.json").read_text())["architecture"] == "topk"
    assert invoke("sae", "export", str(place / "nothing"), str(place / "x")).exit_code == 2


@pytest.mark.parametrize(
    ("kind", "hooks"),
    [("transcoder", (HOOK, "blocks.2.hook_resid_post")), ("crosscoder", (HOOK, "blocks.2.hook_resid_post"))],
)
def test_transcoders_and_crosscoders_are_trained_and_evaluated(place, kind, hooks):
    more = [word for hook in hooks[1:] for word in ("--hook", hook)]
    result = invoke(*arguments(place, kind, "--kind", kind, *more))
    assert result.exit_code == 0, result.output
    assert "The coder is in the checkpoint" in result.output  # SAELens has neither
    result = invoke("sae", "evaluate", str(place / kind), "--contexts", "20", "--top", "1", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert "variance explained" in result.output and "latent " in result.output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--architecture", "topp"], "Did you mean topk"),
        (["--set", "aux"], "is not an assignment"),
        (["--set", "auxk=3"], "has no setting 'auxk'"),
        (["--set", "warmup=0.1"], "Did you mean warm_up?"),
        (["--set", "aux_k=some"], "aux_k = 'some' cannot be."),
        (["--sparsity", "3"], "Here L0 is set with k."),
        (["--architecture", "gated"], "Here L0 is set with sparsity."),
        (["--k", "33"], "k = 33 of 32 latents"),
        (["--hook", "blocks.1.hook_resid_past"], "hook_resid_past"),
        (["--batch", "5000", "--tokens", "5000"], "A batch has 5,000 rows"),
    ],
)
def test_bad_input_is_told_in_two_lines(place, more, words):
    result = invoke(*arguments(place, "bad", *more))
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_settings_that_cannot_be_are_refused_before_anything_is_read(place, monkeypatch):
    def read(*given):
        raise AssertionError("half a minute for nothing")

    monkeypatch.setattr(run, "stores", read)
    assert invoke(*arguments(place, "early", "--k", "33")).exit_code == 2
    assert not (place / "early").exists()


def test_hooks_that_do_not_fit_the_kind_are_refused_before_anything_is_read(place, monkeypatch):
    monkeypatch.setattr(run, "stores", lambda *arguments: pytest.fail("it should not have come to this"))
    for more in (["--hook", "blocks.0.hook_resid_post"], ["--kind", "transcoder"], ["--kind", "crosscoder"]):
        result = invoke(*arguments(place, "misfit", *more))
        assert result.exit_code == 2 and "--hook once for each" in result.output


def test_a_misspelt_model_without_a_hook_is_told_which_was_meant(tmp_path):
    result = invoke("sae", "train", "--model", "cours", "--out", str(tmp_path / "run"))
    assert result.exit_code == 2 and "Did you mean course?" in result.output and "--hook" in result.output


def test_what_is_no_run_cannot_be_evaluated(tmp_path):
    result = invoke("sae", "evaluate", str(tmp_path))
    assert result.exit_code == 2 and "neither the folder of a run" in result.output


def test_ctrl_c_tells_how_to_go_on(place, monkeypatch):
    """What the trainer does is in test_sae_interrupts; here, what the command says."""
    step = Trainer._step

    def pressed(trainer, batch):
        if trainer.done == 12:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, batch)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", pressed)
            result = invoke(*arguments(place, "stopped"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code != 0 and "Stopped at step 13 of 60" in result.output
    result = invoke(*arguments(place, "stopped", "--resume"))
    assert result.exit_code == 0 and "Going on from step 13 of 60" in result.output


def test_torchrun_trains_with_the_command_line(trained, place):
    """Two processes by torchrun, through the same command, give the same curve as one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "refract"]
    more = ("--set", "log_every=10", "--set", "aux_k=8")
    result = subprocess.run(
        [*command, *arguments(place, "two", *more)], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (json.loads((place / name / "curve.json").read_text()) for name in ("run", "two"))
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["fve"] == pytest.approx(mine["fve"], abs=2e-3)
