"""What a sparse coder is judged by, added up batch by batch in float64.

Every metric takes batches of any size (``update``) and gives one number at the end (``result``), the same as for all
rows at once: sums are kept, never means of batches. In the formulas E is the mean over rows, and y_hat is the coder's
reconstruction of y.

    fraction of variance explained   1 - E‖y - y_hat‖² / (E‖y‖² - ‖E y‖²)
    reconstruction bias γ            E‖y_hat‖² / E[y · y_hat]
    cross-entropy recovered          1 - (CE_spliced - CE_clean) / (CE_ablated - CE_clean)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refract.errors import RefractError

_ROWS = 512  # rows of logits at a time: a vocabulary of 50,000 then takes 100 MB


class VarianceExplained:
    """The fraction of variance explained: 1 for perfect reconstructions, 0 for the mean of y, below 0 for worse.

    A constant error counts. It does not in 1 - Var(y - y_hat) / Var(y), which some libraries compute, and it is not the
    mean of a ratio per row or per batch. Without variance there is no fraction of it: ``result`` is then nan.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._error = self._squares = 0.0
        self._origin = self._sum = torch.zeros(())

    def update(self, y: Float[Tensor, "*row d"], y_hat: Float[Tensor, "*row d"]) -> None:
        y, y_hat = _rows(y, y_hat)
        if not len(y):
            return
        if not self.rows:
            self._origin, self._sum = y[0], torch.zeros_like(y[0])
        self.rows += len(y)
        self._error += float((y - y_hat).square().sum())
        # Variance is the same about any origin; about one of the rows, a large mean costs no digits.
        y = y - self._origin
        self._sum = self._sum + y.sum(dim=0)
        self._squares += float(y.square().sum())

    @property
    def error(self) -> float:
        """E‖y - y_hat‖²."""
        return self._error / _counted(self.rows)

    @property
    def variance(self) -> float:
        """E‖y‖² - ‖E y‖²: the variance of y, over all dimensions together."""
        rows = _counted(self.rows)
        return self._squares / rows - float((self._sum / rows).square().sum())

    def result(self) -> float:
        variance = self.variance
        return 1 - self.error / variance if variance > 0 else math.nan


class ReconstructionBias:
    """The relative reconstruction bias γ (Rajamanoharan et al., 2024a): below 1 if reconstructions are too small.

    1/γ is the number that brings y_hat nearest to y: E‖g y_hat - y‖² is least at g = E[y · y_hat] / E‖y_hat‖². With a
    ``centre``, both are measured from there: a mean that is large, and reconstructed by a bias, hides what the latents
    do. ``result`` is nan if all y_hat are zero.
    """

    def __init__(self, centre: Float[Tensor, "d"] | None = None) -> None:
        self.rows = 0
        self.centre = centre
        self._squares = self._products = 0.0

    def update(self, y: Float[Tensor, "*row d"], y_hat: Float[Tensor, "*row d"]) -> None:
        y, y_hat = _rows(y, y_hat)
        if self.centre is not None:
            centre = self.centre.to(y)
            y, y_hat = y - centre, y_hat - centre
        self.rows += len(y)
        self._squares += float(y_hat.square().sum())
        self._products += float((y * y_hat).sum())

    def result(self) -> float:
        _counted(self.rows)
        if self._products == 0:
            return math.inf if self._squares else math.nan
        return self._squares / self._products


class Cosine:
    """The mean cosine between y and y_hat; a row in which one of them is zero counts as 0."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0.0

    def update(self, y: Float[Tensor, "*row d"], y_hat: Float[Tensor, "*row d"]) -> None:
        y, y_hat = _rows(y, y_hat)
        lengths = y.norm(dim=-1) * y_hat.norm(dim=-1)
        products = torch.linalg.vecdot(y, y_hat)
        self.rows += len(y)
        self._sum += float(torch.where(lengths > 0, products / torch.where(lengths > 0, lengths, 1), 0).sum())

    def result(self) -> float:
        return self._sum / _counted(self.rows)


class Histogram(NamedTuple):
    """How many latents fire how often: ``counts[i]`` of them from ``edges[i]`` to below ``edges[i + 1]``."""

    edges: list[float]
    counts: list[int]


class Firing:
    """How often every latent fires. A latent fires on a row if it is not zero there."""

    def __init__(self, n_latents: int) -> None:
        self.rows = 0
        self._counts = torch.zeros(n_latents, dtype=torch.float64)

    def update(self, latents: Float[Tensor, "*row latent"]) -> None:
        latents = latents.detach().flatten(0, -2)
        self.add((latents != 0).sum(dim=0), len(latents))

    def add(self, fired: Float[Tensor, "latent"] | Int[Tensor, "latent"], rows: int) -> None:
        """On how many of so many rows each latent fired: what a coder's ``Step`` says."""
        if fired.shape != self._counts.shape:
            raise RefractError(
                f"These are the counts of {tuple(fired.shape)} latents; {len(self._counts)} are measured here.",
                "Make a `Firing(n_latents)` for each coder.",
            )
        self.rows += rows
        self._counts += fired.detach().to("cpu", torch.float64)

    def result(self) -> Float[Tensor, "latent"]:
        """The share of rows on which each latent fired."""
        return self._counts / _counted(self.rows)

    @property
    def l0(self) -> float:
        """How many latents fire on a row, on average."""
        return float(self.result().sum())

    @property
    def dead(self) -> float:
        """The share of latents that fired on none of these rows. With few rows, a rare latent counts as dead."""
        return float((self.result() == 0).double().mean())

    def histogram(self, per_decade: int = 2) -> Histogram:
        """Firing frequencies in bins of equal width in log10; the last bin includes 1. Dead latents are in none."""
        import numpy as np

        decades = math.ceil(math.log10(_counted(self.rows)))
        edges = np.array([10.0 ** (i / per_decade) for i in range(-max(1, decades) * per_decade, 1)])
        frequencies = self.result()[self._counts > 0].numpy()  # at least 1 / rows, so none is below the first edge
        return Histogram(edges.tolist(), np.histogram(frequencies, edges)[0].tolist())


class CrossEntropy:
    """The mean cross-entropy of next tokens, in nats."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0.0

    def update(self, logits: Float[Tensor, "row vocab"], targets: Int[Tensor, "row"]) -> None:
        """Logits of any precision; they are made float32, as a mean in bf16 has two digits."""
        self.rows += len(targets)
        for part, target in zip(logits.split(_ROWS), targets.split(_ROWS), strict=True):
            losses = torch.nn.functional.cross_entropy(part.float(), target, reduction="none")
            self._sum += float(_double(losses).sum())

    def result(self) -> float:
        return self._sum / _counted(self.rows)


class Divergence:
    """The mean over tokens of KL(p ‖ q) = Σ p (log p - log q), in nats: p is the clean model's, q the spliced one's."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0.0

    def update(self, clean: Float[Tensor, "row vocab"], spliced: Float[Tensor, "row vocab"]) -> None:
        _same_shape(clean, spliced)
        self.rows += len(clean)
        for one, other in zip(clean.split(_ROWS), spliced.split(_ROWS), strict=True):
            log_p, log_q = one.float().log_softmax(dim=-1), other.float().log_softmax(dim=-1)
            # Where p is 0 its logarithm may be -inf, and the term is 0.
            terms = torch.where(log_p > -math.inf, log_p.exp() * (log_p - log_q), 0)
            self._sum += float(_double(terms.sum(dim=-1)).sum())

    def result(self) -> float:
        return self._sum / _counted(self.rows)


def recovered(clean: float, spliced: float, ablated: float) -> float:
    """Which part of the loss between an ablation and the clean model the reconstructions save, of cross-entropies.

    1 if splicing costs nothing, 0 if it costs as much as the ablation, below 0 if it costs more. An ablation to the
    *mean* is the fairer one: activations of zero are far from anything the model has seen, so everything looks good
    beside them. nan if the ablation costs nothing.
    """
    return 1 - (spliced - clean) / (ablated - clean) if ablated != clean else math.nan


def _double(x: Tensor) -> Tensor:
    """In float64, without a gradient; on the CPU where the device has no such numbers."""
    return x.detach().cpu().double() if x.device.type == "mps" else x.detach().double()


def _same_shape(y: Tensor, y_hat: Tensor) -> None:
    if y.shape != y_hat.shape or y.ndim < 2:
        raise RefractError(
            f"A tensor of shape {tuple(y_hat.shape)} cannot be compared with one of shape {tuple(y.shape)}.",
            "Give two tensors of one shape, with a row for each token.",
        )


def _rows(y: Tensor, y_hat: Tensor) -> tuple[Float[Tensor, "row d"], Float[Tensor, "row d"]]:
    _same_shape(y, y_hat)
    return _double(y).flatten(0, -2), _double(y_hat).flatten(0, -2)


def _counted(rows: int) -> int:
    if not rows:
        raise RefractError("Nothing has been measured yet.", "Call `update` with at least one row before `result`.")
    return rows
