"""From a model's name to a finished coder: harvest, train, evaluate, export. What the command line calls."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from refract import atomic, cache, names
from refract.errors import RefractError
from refract.sae import architectures, checkpoint, curve, saelens
from refract.sae.activations import Store, bars, harvest, stream
from refract.sae.coder import SparseCoder
from refract.sae.config import Config
from refract.sae.group import device_of_this_process, joined
from refract.sae.normalisation import Normalisation, fold
from refract.sae.training import CHECKPOINT, Trainer, read_and_reconstructed

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from refract.data import Contexts, Document

CODER, SOURCE = "coder", "source.json"
MIXED = 1 << 16  # contexts that are shuffled together: 170 MB at 128 tokens
BATCH = 32
USUAL_HOOKS = {"smollm2": "blocks.10.hook_resid_post", "course": "blocks.2.hook_resid_post"}


@dataclass(frozen=True)
class Source:
    """Where a run's activations come from."""

    model: str = "smollm2"
    hooks: tuple[str, ...] = ()
    rows: int = 1_000_000
    held_out_rows: int = 32_768
    n_ctx: int = 128
    dataset: str | None = None
    seed: int = 0
    """Of the order of the contexts."""

    def __post_init__(self) -> None:
        if not self.hooks:
            if self.model not in USUAL_HOOKS:
                raise RefractError(
                    f"At which hook point of {self.model} should activations be harvested?",
                    f"{names.suggestion(self.model, USUAL_HOOKS)}Say it with --hook, for example "
                    "--hook blocks.6.hook_resid_post.",
                )
            object.__setattr__(self, "hooks", (USUAL_HOOKS[self.model],))

    def words(self, split: str) -> str:
        """The text, in words: what a store keeps as its source."""
        return f"{self.dataset or 'the corpus of the course'}, {split}, contexts mixed with seed {self.seed}"

    @property
    def slug(self) -> str:
        """A folder's name for these activations."""
        told = json.dumps(dataclasses.asdict(self), sort_keys=True)
        readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{Path(self.model).name}-{'-'.join(self.hooks)}").strip("-")
        return f"{readable[:60]}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def documents(source: Source, split: str) -> Iterator[Document]:
    """The text of one side of the split."""
    from refract import data

    if source.dataset is None:
        return data.corpus("train" if split == "train" else "held-out")
    wanted = split == "held-out"
    return (each for each in data.hub(source.dataset) if data.held_out(each.text) == wanted)


def packed(source: Source, split: str, model: TransformerBridge) -> Iterator[Contexts]:
    """The same as a model's tokens. Contexts are mixed, so that the first thousand are from everywhere."""
    from tqdm import tqdm

    from refract import data

    text = documents(source, split)
    if source.dataset is None:  # all of it is read before the first context comes: half a minute, or more
        text = iter(tqdm(text, desc=f"tokenise, {split}", unit="document", delay=2))
    return mixed(data.pack(text, model.tokenizer, source.n_ctx), source.seed)


def mixed(batches: Iterable[Contexts], seed: int, block: int = MIXED) -> Iterator[Contexts]:
    """Contexts in another order: a stream is shuffled in blocks of so many, and a shorter one completely."""
    from refract import data

    generator = torch.Generator().manual_seed(seed)

    def shuffled() -> Iterator[Contexts]:
        whole = [torch.cat(columns) for columns in zip(*held, strict=True)]
        for some in torch.randperm(len(whole[0]), generator=generator).split(BATCH):
            yield data.Contexts(*(column[some] for column in whole))

    held: list[Contexts] = []
    for batch in batches:
        held.append(batch)
        if sum(len(each.tokens) for each in held) >= block:
            yield from shuffled()
            held = []
    if held:
        yield from shuffled()


def stores(source: Source, folder: Path | None = None, device: torch.device | str = "cpu") -> tuple[Store, Store]:
    """Activations to train on, and held-out ones. What is not there yet is harvested; the model loads only for that."""
    folder = folder or cache.folder() / "activations" / source.slug
    model: TransformerBridge | None = None
    found = []
    for split, rows in (("train", source.rows), ("held-out", source.held_out_rows)):
        store = _harvested(folder / split, source, split)
        if store is None:
            from refract import models

            model = models.load(source.model, device=str(device)) if model is None else model
            store = harvest(
                model,
                packed(source, split, model),
                source.hooks,
                folder / split,
                source=source.words(split),
                rows=rows,
                on_progress=bars(),
            )
        found.append(store)
    return found[0], found[1]


def _harvested(folder: Path, source: Source, split: str) -> Store | None:
    """The store in a folder, if it is complete and of this source."""
    try:
        store = Store.open(folder)
    except RefractError:
        return None  # not there, or not finished, or damaged: harvesting goes on with it, or says what is wrong
    settings = store.manifest.settings
    same = settings.source == source.words(split) and tuple(settings.hooks) == source.hooks
    return store if same and settings.n_ctx == source.n_ctx and _name(settings.model) == _name(source.model) else None


def _name(model: str) -> str:
    """A model's name without the folder or the owner."""
    return model.rstrip("/").rsplit("/", maxsplit=1)[-1]


# --- train ---------------------------------------------------------------------------------------


def train(
    config: Config,
    source: Source,
    out: Path,
    *,
    activations: Path | None = None,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
) -> None:
    """Harvest what is missing, train, and save the coder and its curve in ``out``."""
    from tqdm import tqdm

    if threads is not None:
        torch.set_num_threads(threads)
    architectures.make(config.architecture, 1, config.n_latents, config.settings)  # says at once what cannot be
    read_and_reconstructed(config.kind, source.hooks)
    place = device_of_this_process(device)
    with joined(place) as group:
        if (out / CHECKPOINT).exists() and not resume:
            raise RefractError(
                f"There is a run in {out} already.", "Add --resume to go on with it, or choose another folder."
            )
        if group.leads:
            out.mkdir(parents=True, exist_ok=True)  # what cannot be written fails now, and not after the harvest
            stores(source, activations, place)
        group.wait()
        train_store, held_out = stores(source, activations, place)
        trainer = Trainer(config, train_store, out, held_out=held_out, device=place, group=group)
        resumed = resume and trainer.resume()
        if group.leads:  # not before: a run that this one does not go on with keeps its own
            atomic.write_text(out / SOURCE, json.dumps(dataclasses.asdict(source), indent=1))
            if resumed:
                print(f"Going on from step {trainer.done:,} of {config.steps:,}.")
        with tqdm(
            total=config.steps, initial=trainer.done, unit="step", smoothing=0.05, disable=not group.leads
        ) as bar:

            def on_point(point: dict[str, float]) -> None:
                bar.update(int(point["step"]) - bar.n)
                bar.set_postfix_str(curve.line(point))

            try:
                trainer.run(on_point)
            except KeyboardInterrupt:
                if (out / CHECKPOINT).exists():
                    bar.close()
                    print(f"Stopped at step {trainer.done:,} of {config.steps:,}.")
                    print("The same command with --resume goes on from the last checkpoint.")
                raise
        if group.leads:
            _finish(trainer, source, out)


def _finish(trainer: Trainer, source: Source, out: Path) -> None:
    shutil.rmtree(out / CODER, ignore_errors=True)  # a resumed run's last one; the checkpoint has it all
    try:
        where = f"The coder: {export(out, out / CODER)}."
    except RefractError as error:  # a kind that SAELens's format does not have
        where = f"The coder is in the checkpoint, {out / CHECKPOINT}. ({error.problem})"
    curve.write_figure(trainer.curve, out / "curve.html")
    print(curve.text(trainer.curve))
    last = trainer.curve[-1]
    numbers = ", with products in bf16" if trainer.numbers == "bf16" else ""
    print(f"{int(last['tokens']):,} tokens in {last['seconds']:,.0f} s{numbers}; {curve.line(last)}.")
    for remark in curve.remarks(last, getattr(trainer.coder, "target_l0", None)):
        print(remark)
    print(f"{where} The curve: {out / 'curve.html'}.")
    kept = trainer.store.folder.parent
    size = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file())
    print(f"The activations, {size / 1e9:.1f} GB, are kept for the next run in {kept}.")
    print(f"Now: python -m refract sae evaluate {out}")


# --- what a run has made -------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """A coder in the model's own units, and what it takes to use it."""

    coder: SparseCoder
    """Its parameters are as they are used, without gradients; ``coder.requires_grad_()`` lets them learn again."""
    source: Source
    mean: Tensor | None
    """Of the activations that it was trained to reconstruct; not known of a coder from elsewhere."""

    @property
    def hooks(self) -> tuple[str | tuple[str, ...], str | None]:
        """Where it reads, and, if it is a transcoder, where it writes."""
        if self.coder.d_out is not None:
            return self.source.hooks[0], self.source.hooks[-1]
        return (self.source.hooks[0] if len(self.source.hooks) == 1 else self.source.hooks), None


def finished(folder: Path | str, model: str | None = None) -> Finished:
    """The coder of a run's newest checkpoint, or of a folder in SAELens's format."""
    folder = Path(folder)
    if (folder / CHECKPOINT).exists():
        coder, normalisations, _ = newest(folder)
        if coder.d_out is None:
            normalisations = [Normalisation.joined(normalisations)]
        source = _source(folder)
        return Finished(
            fold(coder, *normalisations).requires_grad_(False),
            dataclasses.replace(source, model=model or source.model),
            normalisations[-1].mean,
        )
    if not (folder / saelens.CONFIG).exists() and not (folder / saelens.WEIGHTS).exists():
        raise RefractError(
            f"{folder} is neither the folder of a run that has got as far as a checkpoint, nor that of a saved coder.",
            f"Give the folder that `sae train --out` named, or one with {saelens.CONFIG} and {saelens.WEIGHTS} in it.",
        )
    coder, metadata = saelens.load(folder)
    told = metadata.get("refract", {})
    if "source" in told:
        source = Source(**told["source"] | {"hooks": tuple(told["source"]["hooks"])})
    else:
        name, hook = model or metadata.get("model_name"), metadata.get("hook_name")
        if not name or not hook:
            raise RefractError(
                f"{folder} does not say which model and which hook its coder belongs to.",
                "Give the model with --model; the hook has to stand in its cfg.json, under metadata, as hook_name.",
            )
        source = Source(model=name, hooks=(hook,), n_ctx=metadata.get("context_size") or 128)
    mean = torch.tensor(told["mean"]) if "mean" in told else None
    return Finished(coder.requires_grad_(False), dataclasses.replace(source, model=model or source.model), mean)


def newest(run: Path) -> tuple[SparseCoder, list[Normalisation], dict[str, Any]]:
    """The coder of a run's newest checkpoint, in normalised units; a normalisation for each hook; the run's state."""
    path = run / CHECKPOINT
    if not path.exists():
        raise RefractError(f"There is no run in {run}.", "Give the folder that `sae train --out` wrote.")
    tensors, state = checkpoint.load(path)
    coder = architectures.ARCHITECTURES[state["config"]["architecture"]](**state["coder"])
    named = {name.removeprefix("coder."): value for name, value in tensors.items() if name.startswith("coder.")}
    coder.load_state_dict(named)
    hooks = state["hooks"]
    return coder.eval(), [Normalisation(tensors[f"mean.{h}"], float(tensors[f"scale.{h}"])) for h in hooks], state


def export(run: Path, to: Path, *, dtype: Literal["float32", "float16"] = "float32") -> Path:
    """A run's newest checkpoint as a coder in the model's own units, in SAELens's format."""
    done, state = finished(run), newest(run)[2]
    reads, writes = done.hooks
    point = state["curve"][-1] if state["curve"] else {}
    assert done.mean is not None
    metadata = {
        "model_name": done.source.model,
        "hook_name": reads,
        **({} if writes is None else {"hook_name_out": writes}),
        "context_size": done.source.n_ctx,
        "prepend_bos": False,
        "refract": {
            "source": dataclasses.asdict(done.source),
            "config": state["config"],
            "trained": {name: point[name] for name in ("tokens", "fve", "l0", "dead", "held_out_fve") if name in point},
            "mean": [round(value, 5) for value in done.mean.tolist()],
        },
    }
    if state["config"]["kind"] == "crosscoder":
        raise RefractError(
            "SAELens has no crosscoders, so there is no format to export this one to.",
            f"It is in {run / CHECKPOINT}; refract.sae.run.finished reads it.",
        )
    saelens.save(done.coder, to, metadata, dtype=dtype)
    return to


def evaluate(
    folder: Path,
    *,
    contexts: int = 128,
    model: str | None = None,
    top: int = 0,
    seed: int = 0,
    latents: Sequence[int] = (),
    out: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> str:
    """The table of a coder's metrics on held-out text, and the top contexts of some latents.

    These are ``latents``, and with ``top`` so many more, drawn at random.
    """
    from refract import models
    from refract.sae.evaluate import evaluate as measure

    if threads is not None:
        torch.set_num_threads(threads)
    done = finished(folder, model)
    if missing := [latent for latent in latents if not 0 <= latent < done.coder.n_latents]:
        raise RefractError(
            f"The coder has no latent {missing[0]}.", f"They are numbered from 0 to {done.coder.n_latents - 1}."
        )
    language_model = models.load(done.source.model, device=device)
    held_out = _first(packed(done.source, "held-out", language_model), contexts)
    reads, writes = done.hooks
    mean = done.mean if done.mean is not None else _mean(done.source, language_model)
    report = measure(done.coder, language_model, reads, held_out, mean=mean, output=writes, on_progress=bars())
    text = report.table()
    if latents or top:
        text += "\n\n" + _shown(done, language_model, held_out, latents=latents, more=top, seed=seed)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        atomic.write_text(out / "metrics.json", report.to_json())
        atomic.write_text(out / "metrics.md", report.table(markdown=True) + text[len(report.table()) :] + "\n")
    return text


def _shown(
    done: Finished,
    model: TransformerBridge,
    contexts: list[Contexts],
    *,
    latents: Sequence[int],
    more: int,
    seed: int,
) -> str:
    """The tokens on which latents fire most: of these, and of the first of a random order that fire here at all."""
    from refract.sae.examples import top_contexts

    order = torch.randperm(done.coder.n_latents, generator=torch.Generator().manual_seed(seed))[: 20 * more].tolist()
    order = [latent for latent in order if latent not in latents]
    both = [*latents, *order]
    examples = top_contexts(done.coder, model, done.hooks[0], contexts, both, n=5, around=8, on_progress=bars())
    lines = []
    for latent in [*latents, *[latent for latent in order if examples[latent]][:more]]:
        lines.append(f"latent {latent}" + ("" if examples[latent] else ": silent in these contexts"))
        for each in examples[latent]:
            lines.append(f"  {each.activation:7.2f}  {' '.join(each.text().split())}")
    return "\n".join(lines)


def _mean(source: Source, model: TransformerBridge) -> Tensor:
    """The mean activation in the first 64 contexts of the text to train on, where a coder does not bring its own."""
    first = _first(packed(source, "train", model), 64)
    return torch.cat([rows.float() for rows in stream(model, first, source.hooks[-1])]).mean(dim=0)


def _first(batches: Iterator[Contexts], count: int) -> list[Contexts]:
    """The first contexts of a stream, in the batches in which they come."""
    found: list[Contexts] = []
    for batch in batches:
        found.append(type(batch)(*(field[:count] for field in batch)))
        count -= len(batch.tokens)
        if count <= 0:
            break
    return found


def _source(run: Path) -> Source:
    told = json.loads((run / SOURCE).read_text(encoding="utf-8"))
    return Source(**told | {"hooks": tuple(told["hooks"])})
