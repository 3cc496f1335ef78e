"""Choosing active latents, and the sparse products with their gradients, against sorting and finite differences."""

from functools import partial

import pytest
import torch

from refract.sae import sparse
from refract.sae.selection import batch_top_k, batch_top_k_at_once, top_k
from refract.sae.sparse import Active


def some_active(batch, n_latents, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    indices = torch.rand(batch, n_latents, generator=generator).topk(k, dim=-1).indices
    return Active.of(indices, n_latents)


@pytest.mark.parametrize(
    ("batch", "latents", "k"),
    [(3, 5, 5), (1, 7, 1), (4, 64, 1), (9, 1024, 8), (5, 1024, 16), (2, 1000, 3), (3, 4096, 64)],
)
def test_top_k_is_what_sorting_gives(batch, latents, k):
    pre = torch.randn(batch, latents, generator=torch.Generator().manual_seed(latents + k))
    values, indices = top_k(pre, k)
    expected = pre.sort(dim=-1, descending=True).values[:, :k]
    assert torch.equal(values.sort(dim=-1, descending=True).values, expected)
    assert torch.equal(pre.gather(1, indices), values)
    assert all(len(row.unique()) == k for row in indices)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_top_k_in_other_numbers(dtype):
    """NumPy, which does the work in fp32, has no bf16."""
    pre = torch.randn(9, 1024, generator=torch.Generator().manual_seed(0)).to(dtype)
    values, indices = top_k(pre, 8)
    assert torch.equal(values.sort(dim=-1).values, pre.sort(dim=-1).values[:, -8:])
    assert torch.equal(pre.gather(1, indices), values)


def test_top_k_of_neighbours_in_one_group():
    """All k largest numbers in one group, where the maxima of the other groups say little."""
    pre = torch.zeros(2, 1024)
    pre[0, 5::64] = torch.arange(16.0) + 1  # 1024 / 16 = 64 groups: these sixteen share one
    pre[1] = -torch.arange(1024.0)
    values, indices = top_k(pre, 4)
    assert sorted(values[0].tolist()) == [13, 14, 15, 16]
    assert sorted(indices[0].tolist()) == [5 + 64 * j for j in (12, 13, 14, 15)]
    assert sorted(indices[1].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(("batch", "latents", "k"), [(8, 32, 2), (6, 2048, 4), (4, 10, 10)])
def test_batch_top_k_is_what_sorting_gives(batch, latents, k):
    pre = torch.randn(batch, latents, generator=torch.Generator().manual_seed(k))
    values, rows, places = batch_top_k(partial(top_k, pre), k, latents)
    expected = pre.flatten().sort(descending=True).values[: k * batch]
    assert torch.equal(values.sort(descending=True).values, expected)
    assert torch.equal(pre[rows, places], values)
    assert torch.equal(rows, rows.sort().values)
    assert len(set(zip(rows.tolist(), places.tolist(), strict=True))) == k * batch


@pytest.mark.parametrize(("batch", "latents"), [(16, 2048), (5, 50)])  # 50: twice the first width is more than all
def test_batch_top_k_when_one_row_has_nearly_all(batch, latents):
    """One example has more large numbers than the first look at it would find."""
    pre = torch.randn(batch, latents, generator=torch.Generator().manual_seed(0))
    pre[3] += 100
    values, rows, _ = batch_top_k(partial(top_k, pre), 8, latents)
    assert (rows == 3).all()
    assert torch.equal(values.sort().values, pre[3].sort().values[-8 * batch :])


@pytest.mark.parametrize(("batch", "latents", "k"), [(8, 32, 2), (4, 10, 10)])
def test_batch_top_k_at_once_chooses_what_row_by_row_does(batch, latents, k):
    """The GPU's way and the CPU's."""
    pre = torch.randn(batch, latents, generator=torch.Generator().manual_seed(k))
    pre[1] += 2
    values, rows, places = batch_top_k_at_once(pre, k)
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(pre[rows, places], values)
    _, other_rows, other_places = batch_top_k(partial(top_k, pre), k, latents)
    chosen = [set(zip(r.tolist(), p.tolist(), strict=True)) for r, p in ((rows, places), (other_rows, other_places))]
    assert chosen[0] == chosen[1] and len(chosen[0]) == k * batch


def test_places_of_a_sparse_matrix():
    """Z = [[0, 2, 0], [3, 0, 4]] by hand, and its transpose."""
    active = Active(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 2]), (2, 3))
    values = torch.tensor([2.0, 3.0, 4.0])
    dense = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]])
    assert torch.equal(active.matrix(values).to_dense(), dense)
    assert torch.equal(active.transposed(values).to_dense(), dense.T)
    assert torch.equal(active.sum_by_latent(values), dense.sum(dim=0))
    left, right = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert active.products(left, right).tolist() == [2, 3, 7]


def test_an_example_without_latents_and_a_latent_without_examples():
    active = Active(torch.tensor([0, 2]), torch.tensor([3, 3]), (4, 5))
    values = torch.tensor([1.0, 2.0])
    assert active.matrix(values).to_dense().sum(dim=1).tolist() == [1, 0, 2, 0]
    assert active.transposed(values).to_dense().sum(dim=1).tolist() == [0, 0, 0, 3, 0]


def test_gradients_of_encoding_and_decoding():
    """Finite differences in float64, of every argument."""
    active = some_active(batch=6, n_latents=9, k=3)
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    def encoded(x, b_pre, W_enc, b_enc):
        with torch.no_grad():
            values = active.products(x - b_pre, W_enc) + b_enc[active.latents]
        return sparse.encode(values, x, b_pre, W_enc, b_enc, active)

    def decoded(values, W_dec):
        return sparse.decode(values, W_dec, active)

    assert torch.autograd.gradcheck(encoded, (random(6, 4), random(4), random(9, 4), random(9)))
    assert torch.autograd.gradcheck(decoded, (random(18), random(9, 4)))


def test_a_gradient_that_is_not_contiguous():
    active = some_active(batch=5, n_latents=7, k=2)
    values, W_dec = torch.rand(10, requires_grad=True), torch.rand(7, 4, requires_grad=True)
    sparse.decode(values, W_dec, active).sum().backward()  # the gradient of a sum is one number, expanded
    dense = torch.zeros(5, 7).index_put((active.rows, active.latents), values.detach())
    assert W_dec.grad is not None
    assert torch.allclose(W_dec.grad, dense.sum(dim=0)[:, None].expand(-1, 4))
