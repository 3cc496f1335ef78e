"""What is measured of the course's model, and what is written about it: everything the README says comes from here."""

from __future__ import annotations

import copy
import json
import math
import shutil
import string
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from tqdm import tqdm
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from refract import checksums, data
from refract.errors import RefractError
from refract.ngrams import NGrams
from refract.plots import style

HERE = Path(__file__).resolve().parent
FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
PROMPTS = {  # written down before any output was seen; every sample is the first one drawn
    "speeches": "Fellow-citizens, the state of the Union",
    "novels": "Elizabeth walked to the window and",
    "scripture": "And it came to pass that",
    "python-docs": ".. function:: open(file, mode)\n\n",
}
SAMPLE = {"seed": 0, "temperature": 0.8, "tokens": 60}
NAMES = {3: "trigrams", 2: "bigrams", 1: "unigrams"}
CLOSE = 1e-3  # nats a token: half precision may change the loss by so much


# --- measure ------------------------------------------------------------------------------------------------


class HeldOut:
    """The held-out text in contexts, and which tokens of it are scored: all but the first of a context and separators.

    Every model predicts the same tokens, from what stands before them in the same context.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, n_ctx: int) -> None:
        documents = list(data.corpus("held-out"))
        batches = zip(*data.pack(documents, tokenizer, n_ctx), strict=True)
        self.contexts = data.Contexts(*(torch.cat(parts) for parts in batches))
        self.scored: Bool[Tensor, "context pos-1"] = ~self.contexts.special[:, 1:]
        self.document = self.contexts.document[:, 1:][self.scored].numpy()
        self.domains = np.array([document.domain for document in documents])
        # byte-level BPE writes each byte of a token as one character
        n_bytes = np.array([len(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))])
        self.n_bytes = n_bytes[self.contexts.tokens[:, 1:][self.scored].numpy()]

    def summary(self, losses: Float64[np.ndarray, " scored"]) -> dict[str, dict[str, float]]:
        """Mean loss, its standard error and bits per byte, of all the text and of each domain."""
        found = {}
        for domain in ("all", *data.DOMAINS):
            chosen = np.flatnonzero(self.domains == domain) if domain != "all" else np.arange(len(self.domains))
            here = np.isin(self.document, chosen)
            mean, error = mean_and_error(losses[here], self.document[here])
            per_byte = here.sum() / self.n_bytes[here].sum() / math.log(2)
            found[domain] = {
                "nats_per_token": mean,
                "standard_error": error,
                "bits_per_byte": mean * per_byte,
                "bits_per_byte_standard_error": error * per_byte,
                "tokens": int(here.sum()),
                "bytes": int(self.n_bytes[here].sum()),
                "documents": len(np.unique(self.document[here])),
            }
        return found


def mean_and_error(
    losses: Float64[np.ndarray, " row"], document: Int64[np.ndarray, " row"], resamples: int = 2000
) -> tuple[float, float]:
    """The mean over tokens, and its standard error by the bootstrap over documents (Efron, 1979).

    Tokens of one document are alike, so documents are drawn, with replacement, and not tokens.
    """
    _, index = np.unique(document, return_inverse=True)
    total, count = np.bincount(index, weights=losses), np.bincount(index)
    drawn = np.random.default_rng(0).integers(len(count), size=(resamples, len(count)))
    return float(losses.mean()), float((total[drawn].sum(1) / count[drawn].sum(1)).std())


@torch.no_grad()
def losses(model: GPT2LMHeadModel, tokens: Int64[Tensor, "context pos"]) -> Float64[np.ndarray, "context pos-1"]:
    """The model's loss of every token of a context but the first, in nats."""
    rows = []
    for part in tqdm(tokens.split(4), desc="held-out text", leave=False, disable=None):
        logits = model(part[:, :-1], use_cache=False).logits.float()
        rows.append(F.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none"))
    return torch.cat(rows).double().numpy()


def sample(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The first text drawn after a prompt."""
    torch.manual_seed(SAMPLE["seed"])
    tokens = tokenizer(prompt, return_tensors="pt")["input_ids"]
    drawn = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=SAMPLE["tokens"],
        do_sample=True,
        temperature=SAMPLE["temperature"],
        top_k=0,
        pad_token_id=tokenizer.eos_token_id,
    )
    return tokenizer.decode(drawn[0])


# --- write --------------------------------------------------------------------------------------------------


def export(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, stream: Int64[np.ndarray, " pos"], run: dict, to: Path
) -> None:
    """Write the model to the folder ``to``, with ``results.json``, ``curve.png``, ``SHA256SUMS`` and ``README.md``.

    ``stream`` is the train split as tokens, for the n-grams; ``run`` says how the model was trained, and how far. The
    weights are written in half precision if that leaves the held-out loss as it is to ``CLOSE``, else in full.
    """
    held_out = HeldOut(tokenizer, model.config.n_positions)
    tokens, scored = held_out.contexts.tokens, held_out.scored.numpy()
    some = slice(None, None, 8)  # enough to see whether rounding matters
    full = losses(model, tokens[some])[scored[some]].mean()
    new = to / "export.new"
    shutil.rmtree(new, ignore_errors=True)
    for dtype in (torch.float16, torch.float32):
        copy.deepcopy(model).to(dtype).save_pretrained(new)
        loaded = GPT2LMHeadModel.from_pretrained(new, dtype=torch.float32).eval()
        rounded = losses(loaded, tokens[some])[scored[some]].mean()
        if abs(rounded - full) < CLOSE:
            break
    found = losses(loaded, tokens)
    tokenizer.save_pretrained(new)

    checked = [0, len(tokens) // 4, len(tokens) // 2, 3 * len(tokens) // 4]
    models = {"model": found[scored]}
    models |= {
        name: NGrams(stream, len(tokenizer), order).losses(tokens.numpy())[scored] for order, name in NAMES.items()
    }
    gain, error = mean_and_error(models["trigrams"] - models["model"], held_out.document)
    results = {
        "run": run,
        "parameters": sum(p.numel() for p in loaded.parameters()),
        "train_tokens": len(stream),
        "dtype": str(dtype).removeprefix("torch."),
        "rounding": {"before": float(full), "after": float(rounded)},
        "held_out": {name: held_out.summary(rows) for name, rows in models.items()},
        "trigrams_minus_model": {"nats_per_token": gain, "standard_error": error},
        "check": {"contexts": checked, "nats_per_token": float(found[checked][scored[checked]].mean())},
        "samples": {domain: sample(loaded, tokenizer, prompt) for domain, prompt in PROMPTS.items()},
        "versions": {library.__name__: library.__version__ for library in (torch, __import__("transformers"))},
        "bytes": {file: (new / file).stat().st_size for file in FILES},
        "sha256": checksums.sha256(new / "model.safetensors"),
    }
    draw_curve(results).write_image(new / "curve.png", width=800, height=420, scale=1.5)
    (new / checksums.NAME).write_text(checksums.listing(new / file for file in FILES), encoding="utf-8")
    (new / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (new / "README.md").write_text(readme(results), encoding="utf-8")
    for file in [*FILES, checksums.NAME, "curve.png", "results.json", "README.md"]:
        (new / file).replace(to / file)
    shutil.rmtree(new)


def write(path: Path, text: str) -> None:
    """Under another name first: there is never half a file."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def load(folder: Path) -> dict:
    """``results.json`` of an exported model."""
    try:
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RefractError(f"There is no exported model in {folder}.", "Export one: `train.py export`.") from error


def draw_curve(results: dict) -> go.Figure:
    """The losses during the run, and the trigrams' loss on the whole held-out text to compare with."""
    curve = results["run"]["curve"]
    tokens = [point["tokens"] / 1e6 for point in curve]
    trigrams = results["held_out"]["trigrams"]["all"]["nats_per_token"]
    figure = go.Figure(layout={"template": style.template(), "legend": {"orientation": "h", "y": 1.1}})
    figure.add_scatter(x=tokens, y=[point["train"] for point in curve], name="train: one batch", line_color=style.SKY)
    figure.add_scatter(x=tokens, y=[point["held_out"] for point in curve], name="held out", line_color=style.BLUE)
    figure.add_hline(
        trigrams,
        line={"color": style.GREY, "dash": "dash"},
        annotation={"text": "trigrams, on all the held-out text", "yanchor": "bottom"},
    )
    figure.update_xaxes(title="tokens seen (millions)", rangemode="tozero")
    figure.update_yaxes(title="loss (nats per token)")
    return figure


def readme(results: dict) -> str:
    """The README: ``README.template.md`` with the results' numbers in it."""
    run, held_out, gain = results["run"], results["held_out"], results["trigrams_minus_model"]
    recipe = run["recipe"]
    complete = run["step"] == run["n_steps"]
    values = {
        **recipe,
        "vocab": f"{recipe['vocab']:,}",
        "epochs": f"{recipe['epochs']:g}",
        "clip": f"{recipe['clip']:g}",
        "heads": recipe["d_model"] // recipe["d_head"],
        "millions": f"{results['parameters'] / 1e6:.2f}",
        "train_tokens": f"{results['train_tokens'] / 1e6:.2f}",
        "tokens_seen": f"{run['tokens_seen'] / 1e6:.1f}",
        "passes": f"{run['tokens_seen'] / results['train_tokens']:.2f}",
        "minutes": f"{run['seconds'] / 60:.0f}",
        "threads": "one thread" if run["threads"] == 1 else f"{run['threads']} threads",
        "steps": f"{run['step']:,} of {run['n_steps']:,} steps ({run['step'] / run['n_steps']:.0%})",
        "state": "it is complete" if complete else "**it is not complete**, and its learning rate is still high",
        "versions": ", ".join(f"{library} {version}" for library, version in results["versions"].items()),
        "glance": run["n_glance"],
        "nats": _table(held_out, "nats_per_token", "standard_error", "tokens"),
        "bits": _table(held_out, "bits_per_byte", "bits_per_byte_standard_error", "bytes"),
        "gain": f"{gain['nats_per_token']:.3f} ± {gain['standard_error']:.3f}",
        "samples": "\n\n".join(
            f"**{domain}**\n\n```text\n{text.strip()}\n```" for domain, text in results["samples"].items()
        ),
        "sample_seed": SAMPLE["seed"],
        "temperature": SAMPLE["temperature"],
        "sample_tokens": SAMPLE["tokens"],
        "files": "\n".join(f"| `{file}` | {size:,} |" for file, size in results["bytes"].items()),
        "dtype": results["dtype"],
        "before": f"{results['rounding']['before']:.5f}",
        "after": f"{results['rounding']['after']:.5f}",
        "sha256": results["sha256"],
    }
    return string.Template((HERE / "README.template.md").read_text(encoding="utf-8")).substitute(values)


def _table(held_out: dict, value: str, error: str, size: str) -> str:
    """A row for all the text and for each domain, a column for each model."""
    rows = []
    for text, of_model in held_out["model"].items():
        cells = [f"{rows_of[text][value]:.3f} ± {rows_of[text][error]:.3f}" for rows_of in held_out.values()]
        rows.append(f"| {text} | {of_model['documents']} | {of_model[size]:,} | {' | '.join(cells)} |")
    head = f"| text | documents | {size} | {' | '.join(held_out)} |\n|---|---:|---:|{'---:|' * len(held_out)}\n"
    return head + "\n".join(rows)
