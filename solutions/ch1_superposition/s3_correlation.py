"""Reference for "Correlation".

Features that come together, that exclude each other, and one unlike the rest.

The experiments are those of Elhage et al., 2022, *Toy Models of Superposition*,
https://transformer-circuits.pub/2022/toy_model/index.html
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor


def sample_correlated(
    batch: int,
    feature_probability: Float[Tensor, "instance feature"],
    set_size: int,
) -> Float[Tensor, "batch instance feature"]:
    """Draw features that come in sets: all features of a set are present, or none is.

    A set is ``set_size`` neighbours: features 0 to ``set_size`` - 1, and so on.
    ``feature_probability`` is how often each feature is present, and is the same
    throughout a set. Sizes are uniform on [0, 1] and independent of everything, within
    a set too. Device and dtype are those of ``feature_probability``.
    """
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    set_is_on = torch.rand_like(p) < p
    present = set_is_on.repeat_interleave(set_size, dim=-1)
    size = torch.rand_like(feature_probability.expand(batch, -1, -1))
    return present * size


def sample_anticorrelated(
    batch: int,
    feature_probability: Float[Tensor, "instance feature"],
    set_size: int,
) -> Float[Tensor, "batch instance feature"]:
    """Draw features that come in sets of which at most one feature is present.

    A set is ``set_size`` neighbours. ``feature_probability`` is how often each
    *feature* is present, is the same throughout a set, and is at most 1 /
    ``set_size``. All features of a set are equally likely. Sizes are uniform on [0, 1].
    Device and dtype are those of ``feature_probability``.
    """
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    set_is_on = torch.rand_like(p) < set_size * p
    chosen = torch.randint(set_size, p.shape, device=p.device)
    is_chosen = chosen[..., None] == torch.arange(set_size, device=p.device)
    present = (set_is_on[..., None] & is_chosen).flatten(start_dim=-2)
    size = torch.rand_like(feature_probability.expand(batch, -1, -1))
    return present * size


def presence_correlation(
    x: Float[Tensor, "batch instance feature"],
) -> Float[Tensor, "instance feature feature"]:
    """The correlation, over the batch, between one feature's presence and another's.

    A feature is present where it is above 0. One that is present always, or never,
    varies with nothing: its row and column are 0, the diagonal included. The dtype is
    that of ``x``.
    """
    present = (x > 0).to(x.dtype)
    centred = present - present.mean(dim=0)
    covariance = einsum(
        centred, centred, "batch instance i, batch instance j -> instance i j"
    ) / len(x)
    spread = torch.diagonal(covariance, dim1=-2, dim2=-1).sqrt()
    scale = spread[:, :, None] * spread[:, None, :]
    return torch.where(
        scale > 0, covariance / scale.clamp_min(torch.finfo(x.dtype).tiny), 0
    )


def partner_angles(
    W: Float[Tensor, "instance hidden feature"], stored_above: float = 0.5
) -> Float[Tensor, "instance pair"]:
    """The angle between partners, in degrees from 0 to 180. Features come in pairs.

    Features 0 and 1 are partners, 2 and 3, and so on. Where one partner's column is not
    longer than ``stored_above`` there is no angle to speak of: nan. The dtype is that
    of ``W``.
    """
    norms = W.norm(dim=-2)
    product = (W[..., 0::2] * W[..., 1::2]).sum(dim=-2)
    lengths = norms[:, 0::2] * norms[:, 1::2]
    both_stored = (norms[:, 0::2] > stored_above) & (norms[:, 1::2] > stored_above)
    cosine = (product / lengths.clamp_min(torch.finfo(W.dtype).tiny)).clamp(-1, 1)
    return torch.where(both_stored, cosine.acos().rad2deg(), torch.nan)


def pair_loss(
    cosine: Float[Tensor, "angle"], both: float, one: float
) -> Float[Tensor, "angle"]:
    """The expected loss of two features with unit columns and no bias.

    ``cosine`` is that of the angle between the columns; there may be many. ``both`` is
    the probability that both features are present, ``one`` that exactly one is.
    Importance is 1, sizes are independent and uniform on [0, 1]. The dtype is that of
    ``cosine``, and autograd can follow the loss back to it.
    """
    overlap = cosine.abs()
    acute_both = 2 * overlap**2 / 3
    obtuse_both = 2 * (overlap**2 / 3 - overlap**3 / 6)
    acute_one = overlap**2 / 3
    return torch.where(
        cosine >= 0, both * acute_both + one * acute_one, both * obtuse_both
    )


def crossing(
    x: Float[Tensor, "point"],
    first: Float[Tensor, "point"],
    second: Float[Tensor, "point"],
) -> float:
    """The first ``x`` at which two curves are equal; nan if they never are.

    They are known at the points ``x``, which rise; between two neighbours both are
    straight. Where they only touch, at one of the points, they are equal as well.
    """
    gap = first - second
    for k in range(len(x)):
        if gap[k] == 0:
            return x[k].item()
        if k + 1 < len(x) and gap[k] * gap[k + 1] < 0:
            share = gap[k] / (gap[k] - gap[k + 1])
            return (x[k] + share * (x[k + 1] - x[k])).item()
    return float("nan")
