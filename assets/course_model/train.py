"""Train the course's language model, a small GPT-2 on the course's corpus, on one core of a CPU; export it.

    python assets/course_model/train.py train --folder RUN            begin a run
    python assets/course_model/train.py train --folder RUN --resume   go on from its newest checkpoint
    python assets/course_model/train.py export --folder RUN           write what the course loads, and the README

Interrupted at any moment, a run that goes on ends with the same bits as one that was never interrupted (same machine,
same number of threads). The recipe is nanoGPT's (https://github.com/karpathy/nanoGPT), made smaller.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import report  # the file beside this one
import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float, Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from refract import data
from refract.errors import RefractError


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, beside the corpus. Written to ``recipe.json``."""

    seed: int = 0
    vocab: int = 4096
    n_ctx: int = 256
    n_layers: int = 4
    d_model: int = 128
    d_head: int = 32
    epochs: float = 4.0
    contexts_a_step: int = 8
    contexts_at_once: int = 4  # what is kept for the backward pass then fits a CPU's cache: 1.5 times as fast as 16
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.1
    beta2: float = 0.99  # longer memory than usual for language models, because a batch has only 2,048 tokens
    clip: float = 1.0


# --- text ---------------------------------------------------------------------------------------------------


def train_tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the train split; offsets keep the space before a word, as the token's text does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[data.END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((document.text for document in data.corpus("train")), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=data.END_OF_TEXT, bos_token=data.END_OF_TEXT)


def encode(tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """Every document of the train split as token ids, the end-of-text token at its end."""
    texts = [document.text for document in data.corpus("train")]
    encoded = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [np.array([*each.ids, tokenizer.eos_token_id], dtype=np.int32) for each in encoded]


def contexts_of_epoch(documents: list[np.ndarray], epoch: int, recipe: Recipe) -> np.ndarray:
    """One pass over the text as rows of ``n_ctx + 1`` tokens, in random order: a function of the seed and the epoch.

    The documents stand in a new order in each epoch, so they are cut at other places. The last token of a row is only
    predicted; it is the first of the row that came after it before the shuffle.
    """
    generator = np.random.default_rng([recipe.seed, epoch])
    stream = np.concatenate([documents[i] for i in generator.permutation(len(documents))])
    n_contexts = (len(stream) - 1) // recipe.n_ctx
    rows = np.arange(n_contexts)[:, None] * recipe.n_ctx + np.arange(recipe.n_ctx + 1)
    return stream[rows[generator.permutation(n_contexts)]]


# --- model and optimiser ------------------------------------------------------------------------------------


def build(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """GPT-2's architecture without dropout; the exact GELU is the faster one on a CPU."""
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.n_ctx,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.d_model // recipe.d_head,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    torch.manual_seed(recipe.seed)
    return GPT2LMHeadModel(config)


def build_optimizer(model: GPT2LMHeadModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019): matrices decay, biases and LayerNorms do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.beta2), fused=True)


def learning_rate(step: int, n_steps: int, recipe: Recipe) -> float:
    """A linear warm-up, then a half cosine down to a tenth."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, n_steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def token_losses(model: GPT2LMHeadModel, tokens: Int64[Tensor, "context pos"]) -> Float[Tensor, "context pos-1"]:
    """The loss of every token of a context but the first, in nats."""
    logits = model(tokens[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.transpose(1, 2).float(), tokens[:, 1:], reduction="none")


def train_step(
    model: GPT2LMHeadModel, optimizer: torch.optim.AdamW, rows: Int64[Tensor, "context pos+1"], recipe: Recipe
) -> float:
    """One step on the mean loss over all rows; the gradient is summed over a few rows at a time."""
    total = 0.0
    for part in rows.split(recipe.contexts_at_once):
        logits = model(part[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()) * (len(part) / len(rows))
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad()
    return total


# --- the run ------------------------------------------------------------------------------------------------


class Run:
    """A model in training, and where in its text it is: all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer
        self.documents = encode(tokenizer)
        self.tokens_a_step = recipe.contexts_a_step * recipe.n_ctx
        self.n_steps = round(recipe.epochs * sum(map(len, self.documents)) / self.tokens_a_step)
        self.glance = held_out_glance(tokenizer, recipe)
        self.model = build(recipe, tokenizer)
        self.optimizer = build_optimizer(self.model, recipe)
        self.epoch, self.place, self.step = 0, 0, 0  # place: how many contexts of this epoch have been seen
        self.curve: list[dict[str, float]] = []
        self.seconds = 0.0

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"])
        self.epoch, self.place, self.step = state["epoch"], state["place"], state["step"]
        self.curve, self.seconds = state["curve"], state["seconds"]

    def state(self) -> dict:
        place = {"epoch": self.epoch, "place": self.place, "step": self.step, "n_steps": self.n_steps}
        weights = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        generator = {"generator": torch.get_rng_state()}  # nothing draws from it today; dropout would
        past = {"curve": self.curve, "seconds": self.seconds, "threads": torch.get_num_threads()}
        return place | weights | generator | past

    def go_on(self, evaluate_every: int, after_step: Callable[[float], bool]) -> None:
        """Train to the end, or until ``after_step``, which is told the loss of the batch, says to stop."""
        rows = contexts_of_epoch(self.documents, self.epoch, self.recipe)
        stop = False
        while self.step < self.n_steps and not stop:
            began = time.monotonic()
            if self.place + self.recipe.contexts_a_step > len(rows):  # a last incomplete batch is left out
                self.epoch, self.place = self.epoch + 1, 0
                rows = contexts_of_epoch(self.documents, self.epoch, self.recipe)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.n_steps, self.recipe)
            batch = torch.from_numpy(rows[self.place : self.place + self.recipe.contexts_a_step]).long()
            loss = train_step(self.model, self.optimizer, batch, self.recipe)
            self.place, self.step = self.place + self.recipe.contexts_a_step, self.step + 1
            if self.step % evaluate_every == 0 or self.step == self.n_steps:
                self._look(loss)
            self.seconds += time.monotonic() - began
            stop = after_step(loss)

    @torch.no_grad()
    def _look(self, loss: float) -> None:
        held_out = torch.cat([token_losses(self.model, part) for part in self.glance.split(4)]).mean().item()
        tokens = self.step * self.tokens_a_step
        self.curve.append({"step": self.step, "tokens": tokens, "train": loss, "held_out": held_out})


def held_out_glance(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, most: int = 64) -> Int64[Tensor, "context pos"]:
    """A few contexts of held-out text, evenly spread: enough for a curve, in a second."""
    batches = data.pack(data.corpus("held-out"), tokenizer, recipe.n_ctx)
    tokens = torch.cat([contexts.tokens for contexts in batches])
    return tokens[:: -(-len(tokens) // most)]


def save_checkpoint(folder: Path, run: Run) -> None:
    """Under another name first: whenever the process dies, there is a whole checkpoint."""
    new = folder / "checkpoint.new"
    with new.open("wb") as file:
        torch.save(run.state(), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / "checkpoint.pt")
    report.write(folder / "curve.json", json.dumps(run.curve))


def load_run(folder: Path) -> tuple[Recipe, PreTrainedTokenizerFast, dict]:
    """The recipe, the tokenizer and the newest checkpoint of a run."""
    if not (folder / "checkpoint.pt").is_file():
        raise RefractError(f"There is no checkpoint in {folder}.", "Pass the folder of a run, or begin one: `train`.")
    recipe = Recipe(**json.loads((folder / "recipe.json").read_text(encoding="utf-8")))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    return recipe, tokenizer, torch.load(folder / "checkpoint.pt", weights_only=True)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__.split("\n")[0])
Folder = Annotated[Path, typer.Option(help="Where checkpoints, the tokenizer and the curve of a run are kept.")]


@app.command()
def train(
    *,
    folder: Folder,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in the folder.")] = False,
    threads: Annotated[int, typer.Option(help="Threads of torch. The last bits depend on it.")] = 1,
    layers: int = Recipe.n_layers,
    d_model: int = Recipe.d_model,
    vocab: int = Recipe.vocab,
    context: int = Recipe.n_ctx,
    epochs: float = Recipe.epochs,
    seed: int = Recipe.seed,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 120.0,
    evaluate_every: Annotated[int, typer.Option(help="Steps between looks at the held-out text.")] = 250,
) -> None:
    """Train, from the start or from the newest checkpoint. SIGTERM saves one more and ends."""
    recipe = Recipe(seed=seed, vocab=vocab, n_ctx=context, n_layers=layers, d_model=d_model, epochs=epochs)
    torch.set_num_threads(threads)
    begun = (folder / "checkpoint.pt").exists()
    if begun and not resume:
        raise RefractError(f"{folder} holds a run already.", "Pass --resume to go on with it, or another folder.")
    if begun:
        known, tokenizer, state = load_run(folder)
        if known != recipe:
            raise RefractError(
                f"The run in {folder} has another recipe: {known}.", "Pass the options that it was begun with."
            )
        run = Run(recipe, tokenizer)
        run.restore(state)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        report.write(folder / "recipe.json", json.dumps(asdict(recipe), indent=2) + "\n")
        tokenizer = train_tokenizer(recipe.vocab)
        tokenizer.save_pretrained(folder / "tokenizer")
        run = Run(recipe, tokenizer)

    asked_to_stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))
    size = run.tokens_a_step
    bar = tqdm(total=run.n_steps * size, initial=run.step * size, unit="tok", unit_scale=True, mininterval=5)
    saved = time.monotonic()

    def after_step(loss: float) -> bool:
        nonlocal saved
        if run.curve:
            bar.set_postfix_str(f"train {loss:.3f}, held-out {run.curve[-1]['held_out']:.3f}", refresh=False)
        bar.update(size)
        if time.monotonic() - saved > checkpoint_every:
            save_checkpoint(folder, run)
            saved = time.monotonic()
        return bool(asked_to_stop)

    run.go_on(evaluate_every, after_step)
    save_checkpoint(folder, run)
    bar.close()


@app.command()
def export(
    folder: Folder,
    to: Annotated[Path, typer.Option(help="Where the model goes, with its results and its README.")] = report.HERE,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
) -> None:
    """Measure the newest checkpoint on the held-out text and write the model, the results, the curve and the README."""
    torch.set_num_threads(threads)
    recipe, tokenizer, state = load_run(folder)
    model = build(recipe, tokenizer)
    model.load_state_dict(state["model"])
    past = {key: state[key] for key in ("step", "n_steps", "epoch", "seconds", "threads", "curve")}
    past["n_glance"] = len(held_out_glance(tokenizer, recipe))
    run = {"recipe": asdict(recipe), "tokens_seen": state["step"] * recipe.contexts_a_step * recipe.n_ctx} | past
    report.export(model.eval(), tokenizer, np.concatenate(encode(tokenizer)), run, to)


@app.command()
def readme(to: Annotated[Path, typer.Option(help="Where the model is.")] = report.HERE) -> None:
    """Write the README again, from ``results.json``."""
    report.write(to / "README.md", report.readme(report.load(to)))


if __name__ == "__main__":
    app()
