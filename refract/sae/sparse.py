"""Products with a sparse matrix of latents, and their gradients.

A batch in which a few latents of thousands are active for each example is a matrix ``Z`` of shape (batch, latent) with
one entry in a hundred not zero. All that a sparse autoencoder does after its encoder's product is four more products:

    decode      Z @ W_dec          dW_dec = Zᵀ @ g         dZ = g @ W_decᵀ, where Z is not zero
    encode      (the values were found while choosing)     dW_enc = dZᵀ @ x

Done densely, each of them costs as much as the encoder. Done sparsely, all of them together cost less than it does.
Gradients come out dense, as every optimizer wants them. The tests hold these functions against finite differences, and
every architecture that uses them against its own dense path (``sparse=False``).
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)


class Active:
    """Which latents are active in which example: the places where ``Z`` is not zero, row after row."""

    def __init__(self, rows: Int[Tensor, "active"], latents: Int[Tensor, "active"], shape: tuple[int, int]) -> None:
        """``rows`` must ascend; ``shape`` is (batch, n_latents)."""
        self.rows, self.latents, self.shape = rows, latents, shape

    @classmethod
    def of(cls, indices: Int[Tensor, "batch k"], n_latents: int) -> Active:
        """The same number of latents in every example."""
        batch, k = indices.shape
        rows = torch.arange(batch, device=indices.device)[:, None].expand(-1, k).reshape(-1)
        return cls(rows, indices.flatten(), (batch, n_latents))

    @functools.cached_property
    def _by_row(self) -> tuple[Tensor, Tensor]:
        return _starts(self.rows, self.shape[0]), self.latents.to(torch.int32)

    @functools.cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor, Tensor]:
        # Stable, so that the rows of each latent ascend; int32, for which torch has a radix sort.
        latents, order = torch.sort(self._by_row[1], stable=True)
        return _starts(latents, self.shape[1]), self.rows[order].to(torch.int32), order

    def matrix(self, values: Float[Tensor, "active"]) -> Tensor:
        """``Z`` with these values, in compressed rows."""
        return torch.sparse_csr_tensor(*self._by_row, values, self.shape, check_invariants=False)

    def transposed(self, values: Float[Tensor, "active"]) -> Tensor:
        """``Zᵀ`` with these values, in compressed rows."""
        starts, rows, order = self._by_latent
        return torch.sparse_csr_tensor(starts, rows, values[order], self.shape[::-1], check_invariants=False)

    def times(self, values: Float[Tensor, "active"], right: Float[Tensor, "latent d"]) -> Float[Tensor, "batch d"]:
        """``Z @ right``."""
        return _product(self.matrix(values), right)

    def transposed_times(
        self, values: Float[Tensor, "active"], right: Float[Tensor, "batch d"]
    ) -> Float[Tensor, "latent d"]:
        """``Zᵀ @ right``."""
        return _product(self.transposed(values), right)

    def products(self, left: Float[Tensor, "batch d"], right: Float[Tensor, "latent d"]) -> Float[Tensor, "active"]:
        """The entries of ``left @ rightᵀ`` at the active places, and no others."""
        pattern = self.matrix(left.new_zeros(len(self.latents)))
        return torch.sparse.sampled_addmm(pattern, left, right.mT).values()

    def sum_by_latent(self, values: Float[Tensor, "active"]) -> Float[Tensor, "latent"]:
        """The sum of every latent's values over the batch."""
        return values.new_zeros(self.shape[1]).index_add_(0, self.latents, values)


def _product(matrix: Tensor, right: Tensor) -> Tensor:
    # With `out` and without `beta` there is no array of zeros to be made, filled, and added: a third of the time.
    out = right.new_empty(matrix.shape[0], right.shape[1])
    return torch.addmm(out, matrix, right, beta=0, out=out)


def _starts(places: Int[Tensor, "active"], count: int) -> Int[Tensor, "count+1"]:
    """Where each row of a compressed matrix begins; ``places``, the rows of its entries, ascend."""
    # By comparisons: `bincount` would have the host ask a GPU for the largest of them.
    return torch.searchsorted(places, torch.arange(count + 1, dtype=places.dtype, device=places.device), out_int32=True)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values, x, b_pre, W_enc, b_enc, active):  # noqa: PLR0917
        ctx.save_for_backward(x, b_pre, W_enc)
        ctx.active = active
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        x, b_pre, W_enc = ctx.saved_tensors
        active: Active = ctx.active
        db_enc = active.sum_by_latent(grad)
        dx = active.times(grad, W_enc) if ctx.needs_input_grad[1] else None
        # The gradients of b_pre are added up over the batch before the product with W_enc: one row, not thousands.
        db_pre = -(db_enc @ W_enc) if ctx.needs_input_grad[2] else None
        dW_enc = active.transposed_times(grad, x - b_pre) if ctx.needs_input_grad[3] else None
        return None, dx, db_pre, dW_enc, db_enc, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values, W_dec, active):
        ctx.save_for_backward(values, W_dec)
        ctx.active = active
        return active.times(values, W_dec)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        values, W_dec = ctx.saved_tensors
        active: Active = ctx.active
        grad = grad.contiguous()
        dvalues = active.products(grad, W_dec) if ctx.needs_input_grad[0] else None
        dW_dec = active.transposed_times(values, grad) if ctx.needs_input_grad[1] else None
        return dvalues, dW_dec, None


def encode(  # noqa: PLR0917
    values: Float[Tensor, "active"],
    x: Float[Tensor, "batch d_in"],
    b_pre: Float[Tensor, "d_in"],
    W_enc: Float[Tensor, "latent d_in"],
    b_enc: Float[Tensor, "latent"],
    active: Active,
) -> Float[Tensor, "active"]:
    """``values``, which must be the active entries of (x - b_pre) @ W_encᵀ + b_enc, with the gradient of that."""
    return _Encode.apply(values, x, b_pre, W_enc, b_enc, active)


def decode(
    values: Float[Tensor, "active"], W_dec: Float[Tensor, "latent d_out"], active: Active
) -> Float[Tensor, "batch d_out"]:
    """Z @ W_dec: the active latents' directions, each times its value, added up for every example."""
    return _Decode.apply(values, W_dec, active)
