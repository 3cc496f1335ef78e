"""The course's model: the script that trains it, on a tiny corpus, and the model that was exported."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import lzma
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from refract import checksums, data
from refract.errors import RefractError
from refract.ngrams import NGrams
from refract.paths import root

SCRIPTS = root() / "assets" / "course_model"
sys.path.insert(0, str(SCRIPTS))
import report  # noqa: E402
import train  # noqa: E402

MODEL = root() / "assets" / "course_model"
TINY = {"layers": 2, "d_model": 32, "vocab": 300, "context": 16, "epochs": 2.5}


@pytest.fixture
def tiny_corpus(tmp_path, monkeypatch):
    """A course of its own, with a corpus of a few hundred short documents."""
    rng = np.random.default_rng(0)
    words = ["the", "word", "of", "whale", "ship", "and", "state", "Elizabeth", "import", "café"]
    texts = [" ".join(rng.choice(words, size=rng.integers(5, 25))) for _ in range(300)]
    rows = [{"domain": data.DOMAINS[i % 4], "title": str(i), "text": text} for i, text in enumerate(texts)]
    packed = lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    folder = tmp_path / "course" / "assets" / "corpus"
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl.xz").write_bytes(packed)
    (folder / "corpus.jsonl.xz.sha256").write_text(hashlib.sha256(packed).hexdigest())
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path / "course"))


@pytest.fixture(autouse=True)
def as_it_was():
    """The script sets the number of threads, the seed and a handler of SIGTERM."""
    threads, state, handler = torch.get_num_threads(), torch.get_rng_state(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
    signal.signal(signal.SIGTERM, handler)


def run_script(folder, **options):
    train.train(folder=folder, evaluate_every=20, **TINY | options)


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def same(one, other):
    """Whether two checkpoints hold the same bits, whatever time they took."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one if key != "seconds")
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


# --- the script --------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(tiny_corpus, tmp_path):
    run_script(tmp_path / "whole")
    whole = checkpoint(tmp_path / "whole")
    assert whole["step"] == whole["n_steps"] > 60
    assert whole["epoch"] == 2  # in the third

    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    command = [sys.executable, SCRIPTS / "train.py", "train", "--folder", tmp_path / "killed", *options]
    command += ["--evaluate-every=20", "--checkpoint-every=0"]  # a checkpoint at every step
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < checkpoint(tmp_path / "killed")["step"] < whole["n_steps"]
    run_script(tmp_path / "killed", resume=True)
    assert same(checkpoint(tmp_path / "killed"), whole)
    assert json.loads((tmp_path / "killed" / "curve.json").read_text()) == whole["curve"]


def test_a_run_may_be_stopped_at_any_step(tiny_corpus, tmp_path):
    recipe = train.Recipe(vocab=300, n_ctx=16, n_layers=1, d_model=32, epochs=1.2)
    tokenizer = train.train_tokenizer(recipe.vocab)
    whole = train.Run(recipe, tokenizer)
    whole.go_on(10, lambda _: False)
    state = train.Run(recipe, tokenizer).state()
    n_pieces = 0
    while state["step"] < state["n_steps"]:
        run = train.Run(recipe, tokenizer)
        torch.save(state, tmp_path / "state.pt")
        run.restore(torch.load(tmp_path / "state.pt", weights_only=True))
        last = run.step + 7
        run.go_on(10, lambda _, run=run, last=last: run.step == last)
        state, n_pieces = run.state(), n_pieces + 1
    assert n_pieces > 3
    assert same(state, whole.state())


def test_sigterm_saves_what_was_done(tiny_corpus, tmp_path, monkeypatch):
    step, seen = train.train_step, []

    def stop_at_the_ninth(*arguments):
        seen.append(arguments)
        if len(seen) == 9:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(train, "train_step", stop_at_the_ninth)
    run_script(tmp_path / "run")
    assert checkpoint(tmp_path / "run")["step"] == 9


def test_a_checkpoint_is_replaced_whole(tiny_corpus, tmp_path, monkeypatch):
    run_script(tmp_path / "run", epochs=0.5)
    before = checkpoint(tmp_path / "run")
    with (tmp_path / "run" / "checkpoint.pt").open("rb") as old:
        run_script(tmp_path / "run", epochs=0.5, resume=True)
        assert same(torch.load(old, weights_only=True), before)  # not written over

    def fail(state, file):
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        run_script(tmp_path / "run", epochs=0.5, resume=True)
    assert same(checkpoint(tmp_path / "run"), before)


def test_a_run_is_not_begun_over_another(tiny_corpus, tmp_path):
    run_script(tmp_path / "run", epochs=0.5)
    with pytest.raises(RefractError, match="--resume"):
        run_script(tmp_path / "run", epochs=0.5)
    with pytest.raises(RefractError, match="another recipe"):
        run_script(tmp_path / "run", epochs=0.5, seed=1, resume=True)
    with pytest.raises(RefractError, match="no checkpoint"):
        train.export(tmp_path / "empty", to=tmp_path)


def test_an_epoch_sees_all_the_text_once_in_an_order_of_its_own():
    recipe = train.Recipe(n_ctx=4)
    documents = [np.array([100 * i + j for j in range(5 + i)]) for i in range(20)]
    stream = np.concatenate(documents)
    first, again, second = (train.contexts_of_epoch(documents, epoch, recipe) for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    for rows in (first, second):
        assert rows.shape == ((len(stream) - 1) // 4, 5)
        assert len(np.unique(rows[:, :-1])) == rows[:, :-1].size  # nothing twice
        assert len(stream) - rows[:, :-1].size <= 4  # and little left out
    assert {tuple(row) for row in first.tolist()} != {tuple(row) for row in second.tolist()}
    follows = [(a, b) for row in first.tolist() for a, b in itertools.pairwise(row) if a // 100 == b // 100]
    assert all(b == a + 1 for a, b in follows)
    other = train.contexts_of_epoch(documents, 0, dataclasses.replace(recipe, seed=1))
    assert not np.array_equal(first, other)


def test_the_learning_rate_by_hand():
    recipe = train.Recipe(learning_rate=1.0, warmup_steps=10)
    rate = [train.learning_rate(step, 110, recipe) for step in range(110)]
    assert rate[0] == 0.1 and rate[4] == 0.5 and rate[9] == 1.0 and rate[10] == 1.0
    assert math.isclose(rate[60], 0.55)  # half way down
    assert 0.1 < rate[-1] < 0.101
    assert rate[10:] == sorted(rate[10:], reverse=True)


def test_a_step_on_many_contexts_is_the_step_on_all_of_them_at_once(tiny_corpus):
    tokenizer = train.train_tokenizer(300)
    rows = torch.randint(300, (7, 17))
    stepped = []
    for at_once in (7, 3):  # 3, 3 and 1: parts of different sizes
        recipe = train.Recipe(vocab=300, n_ctx=16, n_layers=1, d_model=32, contexts_at_once=at_once, clip=1e9)
        model = train.build(recipe, tokenizer)
        expected = train.token_losses(model, rows).mean().item()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        assert math.isclose(train.train_step(model, optimizer, rows, recipe), expected, rel_tol=1e-5)
        stepped.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.allclose(stepped[0], stepped[1], atol=1e-6)


def test_matrices_decay_and_vectors_do_not(tiny_corpus):
    recipe = train.Recipe(vocab=300, n_ctx=16, n_layers=1, d_model=32)
    model = train.build(recipe, train.train_tokenizer(300))
    decaying, other = train.build_optimizer(model, recipe).param_groups
    assert {p.ndim for p in decaying["params"]} == {2} and decaying["weight_decay"] == recipe.weight_decay
    assert {p.ndim for p in other["params"]} == {1} and other["weight_decay"] == 0
    assert len(decaying["params"]) + len(other["params"]) == len(list(model.parameters()))


def test_the_error_is_that_of_documents_drawn_again():
    """Two documents of equal length, losses 0 and 1: half of the time both draws agree, and the mean is off by 1/2."""
    document = np.repeat([0, 1], 50)
    mean, error = report.mean_and_error((document == 1).astype(float), document)
    assert mean == 0.5
    assert abs(error - math.sqrt(1 / 8)) < 0.02
    assert report.mean_and_error(np.full(100, 2.0), document) == (2.0, 0.0)


def test_bits_per_byte_by_hand(tiny_corpus):
    tokenizer = train.train_tokenizer(300)
    held_out = report.HeldOut(tokenizer, 16)
    tokens, start = held_out.contexts.tokens[:, 1:], held_out.contexts.start[:, 1:]
    assert (start[held_out.scored] >= 0).all() and (start[~held_out.scored] == -1).all()
    n_bytes = len("".join(tokenizer.convert_ids_to_tokens(tokens[held_out.scored].tolist())))
    assert held_out.n_bytes.sum() == n_bytes
    found = held_out.summary(np.full(len(held_out.document), math.log(2)))  # one bit a token
    assert math.isclose(found["all"]["bits_per_byte"], held_out.scored.sum().item() / n_bytes)
    assert found["all"]["standard_error"] < 1e-12
    assert sum(found[domain]["bytes"] for domain in data.DOMAINS) == found["all"]["bytes"]


@pytest.mark.heavy
def test_what_is_exported_says_what_was_measured(tiny_corpus, tmp_path):
    run_script(tmp_path / "run", context=128, epochs=10)
    to = tmp_path / "exported"
    train.export(tmp_path / "run", to=to)
    check_exported(to)
    results = report.load(to)
    assert results["run"]["step"] == results["run"]["n_steps"]
    assert results["dtype"] == "float16"
    loss = {name: summary["all"]["nats_per_token"] for name, summary in results["held_out"].items()}
    assert loss["bigrams"] < loss["unigrams"] < loss["model"] < math.log(300)  # the model is still warming up
    assert "it is complete" in (to / "README.md").read_text(encoding="utf-8")
    assert (to / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not list(to.glob("*.new"))
    train.export(tmp_path / "run", to=to)  # over another export
    assert {**report.load(to), "run": None} == {**results, "run": None}


# --- the model that was exported ---------------------------------------------------------------------------


def check_exported(folder):
    """The files are those of the results, and the model has the loss that the results say."""
    results = report.load(folder)
    checksums.verify(folder)
    for name, size in results["bytes"].items():
        assert (folder / name).stat().st_size == size
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == results["sha256"]
    assert (folder / "README.md").read_text(encoding="utf-8") == report.readme(results)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert sum(p.numel() for p in model.parameters()) == results["parameters"]
    held_out = report.HeldOut(tokenizer, model.config.n_positions)
    chosen = results["check"]["contexts"]
    found = report.losses(model, held_out.contexts.tokens[chosen])[held_out.scored[chosen].numpy()]
    assert abs(found.mean() - results["check"]["nats_per_token"]) < 1e-4


def test_the_courses_model_is_what_its_readme_says():
    check_exported(MODEL)


def test_the_courses_model_is_small():
    assert sum(file.stat().st_size for file in MODEL.iterdir() if file.is_file()) < 16e6


def test_the_courses_tokenizer_gives_the_text_back():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = "  The naïve — “日本語” 👩‍🚀\n\n\tdef f(x):\n    return x "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|endoftext|>", 0)
    assert tokenizer.all_special_tokens == ["<|endoftext|>"]


@pytest.mark.heavy
def test_the_trigrams_loss_is_what_the_readme_says():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    results = report.load(MODEL)
    held_out = report.HeldOut(tokenizer, results["run"]["recipe"]["n_ctx"])
    stream = np.concatenate(train.encode(tokenizer))
    assert len(stream) == results["train_tokens"]
    losses = NGrams(stream, len(tokenizer), 3).losses(held_out.contexts.tokens.numpy())
    found = held_out.summary(losses[held_out.scored.numpy()])
    expected = results["held_out"]["trigrams"]
    assert math.isclose(found["all"]["nats_per_token"], expected["all"]["nats_per_token"], rel_tol=1e-6)
    assert found["novels"] == pytest.approx(expected["novels"], rel=1e-6)
