"""What a sparse coder is worth to the model: reconstructions, and what the model predicts from them.

Four runs of the model on held-out text: as it is (clean), with the coder's reconstructions in the place of the
activations (spliced), with zeros there, and with the activations' mean. A coder of which nothing is lost leaves the
predictions what they were; one that knows only the mean is as good as the last run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from refract.errors import RefractError
from refract.sae.activations.forward import check_hooks, evaluation, how_many_tokens, kept, regroup
from refract.sae.coder import SparseCoder
from refract.sae.metrics import (
    Cosine,
    CrossEntropy,
    Divergence,
    Firing,
    Histogram,
    ReconstructionBias,
    VarianceExplained,
    recovered,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from refract.data import Contexts
    from refract.sae.activations.manifest import OnProgress

STAGE = "evaluate"  # what ``on_progress`` is told that it hears of


@dataclass(frozen=True)
class Report:
    """Measures of one coder on one set of tokens. Cross-entropies and divergences are in nats."""

    architecture: str
    hooks: list[str]
    """Where the coder reads, and, of a transcoder, where it writes."""
    d_in: int
    n_latents: int
    contexts: int
    rows: int
    """How many activations were reconstructed."""
    predictions: int
    """How many next tokens were predicted: where an activation was reconstructed and a token of the text follows."""
    tokens_sha256: str
    """Of all tokens and of which of them counted: two reports with the same one are about the same text."""
    variance_explained: float
    bias: float
    """γ = E‖y_hat‖² / E[y · y_hat]; below 1 for reconstructions that are too small."""
    bias_about_mean: float
    """γ of what is left of y and y_hat without the mean of the training activations."""
    cosine: float
    l0: float
    dead: float
    """The share of latents that fired on none of these rows."""
    density: Histogram
    """How many latents fire how often."""
    ce_clean: float
    ce_spliced: float
    ce_zero: float
    ce_mean: float
    kl: float
    """KL(clean ‖ spliced), per token."""

    @property
    def ce_increase(self) -> float:
        return self.ce_spliced - self.ce_clean

    @property
    def recovered_zero(self) -> float:
        """The part of the loss between zero ablation and the clean model that reconstructions save."""
        return recovered(self.ce_clean, self.ce_spliced, self.ce_zero)

    @property
    def recovered_mean(self) -> float:
        """The same against mean ablation: the fairer number, and the lower one."""
        return recovered(self.ce_clean, self.ce_spliced, self.ce_mean)

    def table(self, *, markdown: bool = False) -> str:
        """Aligned text, or a table in Markdown."""
        return table({self.architecture: self}, markdown=markdown)

    def to_json(self) -> str:
        """What ``from_json`` reads, and for other readers the derived numbers as well. A nan is written as null."""
        values = dataclasses.asdict(self) | {name: getattr(self, name) for name in _DERIVED}
        values["density"] = self.density._asdict()
        return json.dumps(
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in values.items()
            },
            indent=1,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Raises RefractError if this is no report."""
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            values: dict[str, Any] = {
                name: math.nan if value is None else value for name, value in json.loads(text).items() if name in names
            }
            values["density"] = Histogram(**values["density"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RefractError(f"This is no report of an evaluation: {error}.", "Evaluate the coder again.") from error


_DERIVED = ("ce_increase", "recovered_zero", "recovered_mean")
_LINES = (
    ("variance explained", "variance_explained", ".4f"),
    ("reconstruction bias γ", "bias", ".4f"),
    ("the same about the mean", "bias_about_mean", ".4f"),
    ("cosine", "cosine", ".4f"),
    ("L0", "l0", ".2f"),
    ("latents", "n_latents", ",d"),
    ("dead on these tokens", "dead", ".2%"),
    ("cross-entropy, clean", "ce_clean", ".4f"),
    ("with reconstructions", "ce_spliced", ".4f"),
    ("with the mean", "ce_mean", ".4f"),
    ("with zeros", "ce_zero", ".4f"),
    ("increase by reconstructions", "ce_increase", ".4f"),
    ("recovered against the mean", "recovered_mean", ".4f"),
    ("recovered against zeros", "recovered_zero", ".4f"),
    ("KL(clean ‖ spliced)", "kl", ".4f"),
    ("activations", "rows", ",d"),
    ("predictions", "predictions", ",d"),
)


def table(reports: Mapping[str, Report], *, markdown: bool = False) -> str:
    """Several reports side by side, a line for each measure: aligned text, or a table in Markdown."""
    rows = [["", *reports]]
    for label, name, how in _LINES:
        rows.append([label, *(format(getattr(report, name), how) for report in reports.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    if not markdown:
        return "\n".join("  ".join(cells).rstrip() for cells in lines)
    rule = ["-" * (width - 1) + (":" if place else "-") for place, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [lines[0], rule, *lines[1:]])


@torch.no_grad()
def evaluate(
    coder: SparseCoder,
    model: TransformerBridge,
    hook: str | Sequence[str],
    contexts: Iterable[Contexts],
    *,
    mean: Float[Tensor, "d_out"],
    output: str | Sequence[str] | None = None,
    batch: int = 8,
    skip_first: int = 0,
    on_progress: OnProgress | None = None,
) -> Report:
    """Measure a coder in the model's own units (fold its normalisation first) on contexts that it was not trained on.

    ``mean`` is that of the *training* activations which the coder reconstructs. Several hooks are a crosscoder's: their
    activations are put side by side. A transcoder reads ``hook`` and replaces what is at ``output``.

    Separators, and the first ``skip_first`` positions of each context, keep their activations in all runs and are not
    counted; nor is the prediction of a separator. ``batch`` contexts are run at a time: twice their logits, and the
    coder's latents for them, are all that is held in memory. Cross-entropies are taken of logits in float32, whatever
    the model's precision. ``on_progress("evaluate", done, total)`` counts tokens.

    Raises:
        RefractError: a hook that the model lacks; sizes that do not fit the coder; no token to count.
    """
    sources = check_hooks(model, hook)
    targets = _targets(coder, model, sources, output)
    measures = _Measures(coder, mean)
    parameters = next(model.parameters())
    digest, n_contexts, done, total = hashlib.sha256(), 0, 0, how_many_tokens(contexts)
    with evaluation(model):
        for group in regroup(contexts, batch):
            keep = kept(group, skip_first)
            digest.update(torch.where(keep, group.tokens, ~group.tokens).long().cpu().numpy().tobytes())
            n_contexts += len(keep)
            run = _Run(model, group.tokens.to(parameters.device), keep, group.special, targets)
            measures.update(run, *run.clean(sources))
            done += group.tokens.numel()
            if on_progress is not None:
                on_progress(STAGE, done, total)
    if not measures.variance.rows or not measures.ce["clean"].rows:
        raise RefractError(
            f"In these {n_contexts} contexts there is no token to count.",
            "Give at least one context of two tokens or more that are no separators and not among `skip_first`.",
        )
    if on_progress is not None and total is None:
        on_progress(STAGE, done, done)
    return Report(
        architecture=coder.architecture,
        hooks=list(dict.fromkeys([*sources, *targets])),
        contexts=n_contexts,
        tokens_sha256=digest.hexdigest(),
        **measures.result(),
    )


def _targets(
    coder: SparseCoder, model: TransformerBridge, sources: tuple[str, ...], output: str | Sequence[str] | None
) -> tuple[str, ...]:
    if (coder.d_out is None) != (output is None):
        raise RefractError(
            "An autoencoder reconstructs what it reads; a transcoder reads one thing and predicts another.",
            "Give `output`, the hook of what it predicts, for a transcoder and for no other coder.",
        )
    return sources if output is None else check_hooks(model, output)


class _Run:
    """The model on one group of contexts: clean, and with something else at the target hooks."""

    def __init__(
        self,
        model: TransformerBridge,
        tokens: Int64[Tensor, "context pos"],
        keep: Bool[Tensor, "context pos"],
        special: Bool[Tensor, "context pos"],
        targets: tuple[str, ...],
    ) -> None:
        self.model, self.tokens, self.targets = model, tokens, targets
        self.keep = keep.to(tokens.device)
        # Where an activation was reconstructed and a token of the text comes next.
        self.predicted = self.keep[:, :-1] & ~special.to(tokens.device)[:, 1:]
        self.next_tokens = tokens[:, 1:][self.predicted]
        self.widths: list[int] = []

    def clean(self, sources: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """What the coder reads and what it should give, a row for each position that is kept; and the logits."""
        seen: dict[str, Tensor] = {}

        def look(name: str):
            def hook_function(value: Tensor, hook: object) -> None:
                if value.ndim < 3 or value.shape[:2] != self.tokens.shape:
                    raise RefractError(
                        f"The hook {name!r} gives the shape {list(value.shape)} for {list(self.tokens.shape)} tokens.",
                        "Choose a hook that gives one vector for each position.",
                    )
                seen[name] = value.flatten(2)[self.keep]  # heads side by side

            return hook_function

        logits = self._logits({name: look(name) for name in dict.fromkeys([*sources, *self.targets])})
        for name in (*sources, *self.targets):
            if name not in seen:
                raise RefractError(f"The hook {name!r} was not met when the model ran.", "Choose another hook.")
        self.widths = [seen[name].shape[-1] for name in self.targets]
        x = torch.cat([seen[name] for name in sources], dim=-1)
        y = torch.cat([seen[name] for name in self.targets], dim=-1)
        return x, y, logits

    def spliced(self, y_hat: Float[Tensor, "row d_out"]) -> Float[Tensor, "prediction vocab"]:
        """The logits with these rows in the place of the activations; every other position keeps its own."""

        def put(rows: Tensor):
            def hook_function(value: Tensor, hook: object) -> Tensor:
                flat = value.flatten(2).clone()
                flat[self.keep] = rows.to(flat)
                return flat.view_as(value)

            return hook_function

        parts = y_hat.split(self.widths, dim=-1)
        return self._logits({name: put(rows) for name, rows in zip(self.targets, parts, strict=True)})

    def _logits(self, hooks: Mapping[str, Any]) -> Float[Tensor, "prediction vocab"]:
        logits = self.model.run_with_hooks(self.tokens, fwd_hooks=list(hooks.items()), return_type="logits")
        return logits[:, :-1][self.predicted]


class _Measures:
    """All metrics of a report."""

    def __init__(self, coder: SparseCoder, mean: Tensor) -> None:
        d_out = coder.d_out or coder.d_in
        if mean.shape != (d_out,):
            raise RefractError(
                f"The mean has the shape {tuple(mean.shape)}, but the coder gives {d_out} dimensions.",
                "Pass the mean of the training activations that it reconstructs.",
            )
        self.coder, self.mean = coder, mean
        self.variance, self.cosine, self.firing = VarianceExplained(), Cosine(), Firing(coder.n_latents)
        self.bias, self.bias_about_mean = ReconstructionBias(), ReconstructionBias(mean)
        self.ce = {name: CrossEntropy() for name in ("clean", "spliced", "zero", "mean")}
        self.kl = Divergence()

    def update(self, run: _Run, x: Tensor, y: Tensor, clean: Tensor) -> None:
        if x.shape[-1] != self.coder.d_in or y.shape[-1] != len(self.mean):
            raise RefractError(
                f"The hooks give {x.shape[-1]} dimensions to read and {y.shape[-1]} to predict; the coder has "
                f"d_in = {self.coder.d_in} and gives {len(self.mean)}.",
                "Name the hooks that it was trained on.",
            )
        latents = self.coder.encode(x.to(self.coder.W_enc))
        y_hat = self.coder.decode(latents)
        self.firing.update(latents)
        for metric in (self.variance, self.cosine, self.bias, self.bias_about_mean):
            metric.update(y.to(y_hat), y_hat)
        self.ce["clean"].update(clean, run.next_tokens)
        spliced = run.spliced(y_hat)
        self.ce["spliced"].update(spliced, run.next_tokens)
        self.kl.update(clean, spliced)
        del clean, spliced  # each may take hundreds of megabytes
        self.ce["zero"].update(run.spliced(torch.zeros_like(y)), run.next_tokens)
        self.ce["mean"].update(run.spliced(self.mean.to(y).expand_as(y)), run.next_tokens)

    def result(self) -> dict[str, Any]:
        return {
            "d_in": self.coder.d_in,
            "n_latents": self.coder.n_latents,
            "rows": self.variance.rows,
            "predictions": self.kl.rows,
            "variance_explained": self.variance.result(),
            "bias": self.bias.result(),
            "bias_about_mean": self.bias_about_mean.result(),
            "cosine": self.cosine.result(),
            "l0": self.firing.l0,
            "dead": self.firing.dead,
            "density": self.firing.histogram(),
            "kl": self.kl.result(),
        } | {f"ce_{name}": metric.result() for name, metric in self.ce.items()}
