"""Answers of "Correlation": wrong ones that must fail as named, right ones that must pass."""

from __future__ import annotations

import math

import numpy as np
import torch

from refract.checking.examples import right, wrong

# --- sample_correlated -------------------------------------------------------------------------


@wrong("sample_correlated", mistake="independent_presence")
def every_feature_its_own_coin(batch, feature_probability, set_size):
    """Ignores the sets."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability) * torch.rand(shape)


@wrong("sample_correlated", mistake="sizes_shared")
def one_size_a_set(batch, feature_probability, set_size):
    """The whole product is repeated, size and all."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    return ((torch.rand_like(p) < p) * torch.rand_like(p)).repeat_interleave(set_size, dim=-1)


@wrong("sample_correlated", mistake="all_sets_together")
def one_coin_an_instance(batch, feature_probability, set_size):
    """One coin for all sets of an instance."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(batch, len(feature_probability), 1) < feature_probability) * torch.rand(shape)


@wrong("sample_correlated", mistake="all_sets_together")
def same_in_every_instance(batch, feature_probability, set_size):
    """All instances share their coins."""
    n = feature_probability.shape[1]
    coin = torch.rand(batch, 1, n // set_size).repeat_interleave(set_size, dim=-1)
    return (coin < feature_probability) * torch.rand(batch, *feature_probability.shape)


@wrong("sample_correlated", mistake="interleaved_sets")
def repeat_instead_of_interleave(batch, feature_probability, set_size):
    """Tensor.repeat puts partners far apart."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    present = (torch.rand_like(p) < p).repeat(1, 1, set_size)
    return present * torch.rand_like(feature_probability.expand(batch, -1, -1))


@wrong("sample_correlated", mistake="whole_set_only_with_product")
def all_coins_must_agree(batch, feature_probability, set_size):
    """A set is on if every one of its features is."""
    shape = (batch, *feature_probability.shape)
    present = (torch.rand(shape) < feature_probability).unflatten(-1, (-1, set_size))
    together = present.all(dim=-1).repeat_interleave(set_size, dim=-1)
    return together * torch.rand(shape)


@wrong("sample_correlated", fails="test_correlated_probability")
def absent_with_p(batch, feature_probability, set_size):
    """Present with 1 - p."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    on = (torch.rand_like(p) > p).repeat_interleave(set_size, dim=-1)
    return on * torch.rand_like(feature_probability.expand(batch, -1, -1))


@wrong("sample_correlated", fails="test_correlated_probability")
def shared_by_the_set(batch, feature_probability, set_size):
    """Divides p by the size of the set."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1) / set_size
    on = (torch.rand_like(p) < p).repeat_interleave(set_size, dim=-1)
    return on * torch.rand_like(feature_probability.expand(batch, -1, -1))


@wrong("sample_correlated", fails="test_correlated_uniform")
def one_draw_for_both(batch, feature_probability, set_size):
    """A partner's size is the draw that decided presence."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    u = torch.rand_like(p).repeat_interleave(set_size, dim=-1)
    size = torch.rand(batch, *feature_probability.shape)
    size[..., ::set_size] = u[..., ::set_size]
    return (u < feature_probability) * size


@wrong("sample_correlated", fails="test_correlated_rows")
def presence_once(batch, feature_probability, set_size):
    """One draw of presence for the whole batch."""
    p = feature_probability[:, ::set_size]
    on = (torch.rand_like(p) < p).repeat_interleave(set_size, dim=-1)
    return on * torch.rand(batch, *feature_probability.shape)


@wrong("sample_correlated", fails="test_correlated_shape")
def one_column_a_set(batch, feature_probability, set_size):
    """Returns sets, not features."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    return (torch.rand_like(p) < p) * torch.rand_like(p)


@wrong("sample_correlated", fails="test_correlated_together")
def always_pairs(batch, feature_probability, set_size):
    """Ignores set_size: always pairs."""
    coin = torch.rand(batch, len(feature_probability), (feature_probability.shape[1] + 1) // 2)
    coin = coin.repeat_interleave(2, dim=-1)[..., : feature_probability.shape[1]]
    return (coin < feature_probability) * torch.rand(batch, *feature_probability.shape)


@wrong("sample_correlated", fails="test_correlated_device")
def always_float32(batch, feature_probability, set_size):
    """Ignores the dtype."""
    p = feature_probability[:, ::set_size].float().expand(batch, -1, -1)
    on = (torch.rand_like(p) < p).repeat_interleave(set_size, dim=-1)
    return on * torch.rand(batch, *feature_probability.shape)


@right("sample_correlated")
def a_coin_for_each_set(batch, feature_probability, set_size):
    """One coin a set, compared with every feature's own p."""
    instances, n = feature_probability.shape
    coin = torch.rand(batch, instances, n // set_size, 1, dtype=feature_probability.dtype)
    coin = coin.expand(-1, -1, -1, set_size).reshape(batch, instances, n)
    return torch.where(coin < feature_probability, torch.rand_like(coin), 0.0)


@right("sample_correlated")
def set_by_set(batch, feature_probability, set_size):
    """A loop over sets."""
    x = torch.rand((batch, *feature_probability.shape), dtype=feature_probability.dtype)
    for start in range(0, feature_probability.shape[1], set_size):
        on = torch.bernoulli(feature_probability[:, start].expand(batch, -1))
        x[..., start : start + set_size] *= on[..., None]
    return x


@right("sample_correlated")
def with_index(batch, feature_probability, set_size):
    """Each feature looks up the coin of its set."""
    instances, n = feature_probability.shape
    group = torch.arange(n) // set_size
    coin = torch.rand(batch, instances, n // set_size, dtype=feature_probability.dtype)[..., group]
    return (coin < feature_probability).to(coin.dtype) * torch.empty_like(coin).uniform_()


# --- sample_anticorrelated ---------------------------------------------------------------------


def _parts(batch, feature_probability, set_size):
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    size = torch.rand_like(feature_probability.expand(batch, -1, -1))
    return p, torch.arange(set_size), size


@wrong("sample_anticorrelated", mistake="p_of_the_set")
def p_switches_the_set(batch, feature_probability, set_size):
    """The paper's convention: p is the set's."""
    p, places, size = _parts(batch, feature_probability, set_size)
    chosen = torch.randint(set_size, p.shape)
    return ((torch.rand_like(p) < p)[..., None] & (chosen[..., None] == places)).flatten(-2) * size


@wrong("sample_anticorrelated", mistake="sometimes_together")
def independent_after_all(batch, feature_probability, set_size):
    """Ignores the sets."""
    shape = (batch, *feature_probability.shape)
    return (torch.rand(shape) < feature_probability) * torch.rand(shape)


@wrong("sample_anticorrelated", mistake="first_of_set_favoured")
def the_first_wins(batch, feature_probability, set_size):
    """Draws independently and silences all but the first present one."""
    shape = (batch, *feature_probability.shape)
    present = (torch.rand(shape) < feature_probability).unflatten(-1, (-1, set_size))
    first = present & (present.cumsum(-1) == 1)
    return first.flatten(-2) * torch.rand(shape)


@wrong("sample_anticorrelated", mistake="first_of_set_favoured")
def choice_never_last(batch, feature_probability, set_size):
    """Draws with an upper end one too low."""
    p, places, size = _parts(batch, feature_probability, set_size)
    chosen = torch.randint(max(set_size - 1, 1), p.shape)
    return ((torch.rand_like(p) < set_size * p)[..., None] & (chosen[..., None] == places)).flatten(-2) * size


@wrong("sample_anticorrelated", mistake="one_choice_for_all_sets")
def one_choice_a_row(batch, feature_probability, set_size):
    """One choice for all sets of an instance."""
    p, places, size = _parts(batch, feature_probability, set_size)
    chosen = torch.randint(set_size, (*p.shape[:2], 1))
    return ((torch.rand_like(p) < set_size * p)[..., None] & (chosen[..., None] == places)).flatten(-2) * size


@wrong("sample_anticorrelated", mistake="always_one")
def a_set_is_always_on(batch, feature_probability, set_size):
    """Only chooses."""
    p, places, size = _parts(batch, feature_probability, set_size)
    return (torch.randint(set_size, p.shape)[..., None] == places).flatten(-2) * size


@wrong("sample_anticorrelated", fails="test_anti_probability")
def both_silenced(batch, feature_probability, set_size):
    """Draws independently, and where several are present none is."""
    shape = (batch, *feature_probability.shape)
    present = (torch.rand(shape) < feature_probability).unflatten(-1, (-1, set_size))
    alone = present & (present.sum(-1, keepdim=True) == 1)
    return alone.flatten(-2) * torch.rand(shape)


@wrong("sample_anticorrelated", mistake="sometimes_together")
def choices_of_features(batch, feature_probability, set_size):
    """Each feature of a set that is on flips a coin of its own."""
    p, _, size = _parts(batch, feature_probability, set_size)
    on = (torch.rand_like(p) < set_size * p).repeat_interleave(set_size, dim=-1)
    return on * (torch.rand_like(size) < 1 / set_size) * size


@wrong("sample_anticorrelated", mistake="sometimes_together")
def interleaved(batch, feature_probability, set_size):
    """Partners are half the features apart."""
    p, places, size = _parts(batch, feature_probability, set_size)
    chosen = torch.randint(set_size, p.shape)
    present = (torch.rand_like(p) < set_size * p)[..., None] & (chosen[..., None] == places)
    return present.transpose(-1, -2).flatten(-2) * size


@wrong("sample_anticorrelated", fails="test_anti_uniform")
def size_from_the_coin(batch, feature_probability, set_size):
    """The coin is also the size."""
    p, places, _ = _parts(batch, feature_probability, set_size)
    coin = torch.rand_like(p)
    chosen = torch.randint(set_size, p.shape)
    present = (coin < set_size * p)[..., None] & (chosen[..., None] == places)
    return (present * coin[..., None]).flatten(-2)


@wrong("sample_anticorrelated", fails="test_anti_sets_apart")
def one_coin_a_row(batch, feature_probability, set_size):
    """All sets of an instance are on together."""
    p, places, size = _parts(batch, feature_probability, set_size)
    coin = torch.rand(batch, p.shape[1], 1)
    chosen = torch.randint(set_size, p.shape)
    return ((coin < set_size * p)[..., None] & (chosen[..., None] == places)).flatten(-2) * size


@wrong("sample_anticorrelated", fails="test_anti_never_together")
def signs_instead(batch, feature_probability, set_size):
    """Only knows pairs."""
    p = feature_probability[:, ::2]
    u = torch.rand(batch, *p.shape)
    present = torch.stack([u < p, u > 1 - p], dim=-1).flatten(-2)[..., : feature_probability.shape[1]]
    return present * torch.rand(batch, *feature_probability.shape)


@wrong("sample_anticorrelated", fails="test_anti_device")
def never_float64(batch, feature_probability, set_size):
    """Always float32."""
    p, places, size = _parts(batch, feature_probability.float(), set_size)
    chosen = torch.randint(set_size, p.shape)
    return ((torch.rand_like(p) < set_size * p)[..., None] & (chosen[..., None] == places)).flatten(-2) * size


@right("sample_anticorrelated")
def one_draw_cut_up(batch, feature_probability, set_size):
    """One uniform draw a set: each feature has an interval of length p."""
    p = feature_probability[:, ::set_size]
    u = torch.rand(batch, *p.shape, 1, dtype=p.dtype)
    lower = p[..., None] * torch.arange(set_size, dtype=p.dtype)
    present = (u >= lower) & (u < lower + p[..., None])
    x = present.flatten(-2)
    return x * torch.rand(x.shape, dtype=p.dtype)


@right("sample_anticorrelated")
def with_one_hot(batch, feature_probability, set_size):
    """one_hot for the choice."""
    p = feature_probability[:, ::set_size].expand(batch, -1, -1)
    on = torch.bernoulli((set_size * p).clamp(max=1))
    chosen = torch.nn.functional.one_hot(torch.randint(set_size, p.shape), set_size)
    x = (on[..., None] * chosen).flatten(start_dim=2)
    return x * torch.rand_like(x)


@right("sample_anticorrelated")
def with_multinomial(batch, feature_probability, set_size):
    """One draw from each feature and "none"."""
    p = feature_probability.unflatten(-1, (-1, set_size))
    none = (1 - p.sum(-1, keepdim=True)).clamp_min(0)
    table = torch.cat([p, none], dim=-1)
    drawn = torch.multinomial(table.flatten(0, 1), batch, replacement=True)
    chosen = torch.nn.functional.one_hot(drawn, set_size + 1)[..., :-1]
    present = chosen.unflatten(0, p.shape[:2]).permute(2, 0, 1, 3).flatten(-2)
    return present * torch.rand(present.shape, dtype=feature_probability.dtype)


@right("sample_anticorrelated")
def ranked_draws(batch, feature_probability, set_size):
    """The feature with the largest draw of its set is the chosen one."""
    shape = (batch, *feature_probability.shape)
    draws = torch.rand(shape, dtype=torch.float64).unflatten(-1, (-1, set_size))
    chosen = (draws == draws.amax(-1, keepdim=True)).flatten(-2)
    coin = torch.rand(batch, shape[1], shape[2] // set_size, dtype=torch.float64).repeat_interleave(set_size, -1)
    x = torch.rand(shape, dtype=feature_probability.dtype)
    return torch.where(chosen & (coin < set_size * feature_probability), x, 0)


# --- presence_correlation ----------------------------------------------------------------------


def _centred(x):
    present = (x > 0).to(x.dtype)
    return present - present.mean(dim=0)


def _safe(covariance):
    spread = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    scale = spread[..., :, None] * spread[..., None, :]
    return torch.where(scale > 0, covariance / scale, 0)


@wrong("presence_correlation", mistake="sizes_not_presence")
def of_the_values(x):
    """Correlates the sizes."""
    c = x - x.mean(dim=0)
    return _safe(torch.einsum("bij,bik->ijk", c, c) / len(x))


@wrong("presence_correlation", mistake="not_centred")
def uncentred(x):
    """The cosine of the presences."""
    c = (x > 0).to(x.dtype)
    return _safe(torch.einsum("bij,bik->ijk", c, c) / len(x))


@wrong("presence_correlation", mistake="not_centred")
def share_together(x):
    """How often both are present."""
    c = (x > 0).to(x.dtype)
    return torch.einsum("bij,bik->ijk", c, c) / len(x)


@wrong("presence_correlation", mistake="covariance_only")
def covariance(x):
    """Not divided by the deviations."""
    c = _centred(x)
    return torch.einsum("bij,bik->ijk", c, c) / len(x)


@wrong("presence_correlation", mistake="two_denominators")
def std_of_a_sample(x):
    """The covariance divides by n, .std() by n - 1."""
    c = _centred(x)
    spread = c.std(dim=0)
    scale = spread[:, :, None] * spread[:, None, :]
    covariance = torch.einsum("bij,bik->ijk", c, c) / len(x)
    return torch.where(scale > 0, covariance / scale, 0)


@wrong("presence_correlation", mistake="two_denominators")
def covariance_of_a_sample(x):
    """The covariance divides by n - 1, the deviations by n."""
    c = _centred(x)
    spread = c.std(dim=0, correction=0)
    scale = spread[:, :, None] * spread[:, None, :]
    covariance = torch.einsum("bij,bik->ijk", c, c) / (len(x) - 1)
    return torch.where(scale > 0, covariance / scale, 0)


@wrong("presence_correlation", mistake="nan_for_constant")
def divides_by_zero(x):
    """No guard for constant features."""
    c = _centred(x)
    covariance = torch.einsum("bij,bik->ijk", c, c) / len(x)
    spread = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    return covariance / (spread[:, :, None] * spread[:, None])


@wrong("presence_correlation", mistake="instances_pooled")
def pooled(x):
    """All instances are thrown together."""
    c = _centred(x).flatten(0, 1)
    return _safe((c.T @ c / len(c)).expand(x.shape[1], -1, -1))


@wrong("presence_correlation", fails="test_presence_constant")
def diagonal_always_one(x):
    """A feature that never varies is given correlation 1 with itself."""
    c = _centred(x)
    result = _safe(torch.einsum("bij,bik->ijk", c, c) / len(x))
    result.diagonal(dim1=-2, dim2=-1).fill_(1)
    return result


@wrong("presence_correlation", fails="test_presence_by_hand_unequal")
def divided_by_one_variance(x):
    """Divides by the variance of the first feature: a regression slope."""
    c = _centred(x)
    covariance = torch.einsum("bij,bik->ijk", c, c) / len(x)
    variance = covariance.diagonal(dim1=-2, dim2=-1)[:, :, None].expand_as(covariance)
    return torch.where(variance > 0, covariance / variance, 0)


@wrong("presence_correlation", fails="test_presence_by_hand")
def absolute(x):
    """The absolute value."""
    c = _centred(x)
    return _safe(torch.einsum("bij,bik->ijk", c, c) / len(x)).abs()


@wrong("presence_correlation", fails="test_presence_small_sizes")
def present_above_a_half(x):
    """Counts a feature as present only above 0.001."""
    c = (x > 1e-3).to(x.dtype)
    c = c - c.mean(dim=0)
    return _safe(torch.einsum("bij,bik->ijk", c, c) / len(x))


@wrong("presence_correlation", fails="test_presence_dtype")
def single_precision(x):
    """Always float32."""
    c = _centred(x.float())
    return _safe(torch.einsum("bij,bik->ijk", c, c) / len(x))


@right("presence_correlation")
def with_corrcoef(x):
    """torch.corrcoef, one instance at a time."""
    results = [torch.corrcoef((x[:, i] > 0).to(x.dtype).T).reshape(x.shape[2], -1) for i in range(x.shape[1])]
    return torch.stack(results).nan_to_num(0)


@right("presence_correlation")
def by_probabilities(x):
    """P(both) - P(a) P(b), over the deviations of a coin."""
    present = (x > 0).to(x.dtype)
    p = present.mean(dim=0)
    both = torch.einsum("bij,bik->ijk", present, present) / len(x)
    deviation = (p * (1 - p)).sqrt()
    scale = deviation[:, :, None] * deviation[:, None, :]
    return torch.where(scale == 0, torch.zeros_like(scale), (both - p[:, :, None] * p[:, None, :]) / scale)


@right("presence_correlation")
def standardised_first(x):
    """Divides each column by its deviation first."""
    c = (x > 0).to(x.dtype)
    c = c - c.mean(dim=0, keepdim=True)
    deviation = c.std(dim=0, correction=0)
    z = c / torch.where(deviation > 0, deviation, 1)
    return (z.permute(1, 2, 0) @ z.permute(1, 0, 2)) / x.shape[0]


# --- partner_angles ----------------------------------------------------------------------------


def _cosine(W):
    a, b = W[..., 0::2], W[..., 1::2]
    return (a * b).sum(-2) / (a.norm(dim=-2) * b.norm(dim=-2)).clamp_min(1e-30)


def _stored(W, above):
    norms = W.norm(dim=-2)
    return (norms[:, 0::2] > above) & (norms[:, 1::2] > above)


@wrong("partner_angles", mistake="not_normalised")
def product_only(W, stored_above=0.5):
    """The arc cosine of the plain product."""
    product = (W[..., 0::2] * W[..., 1::2]).sum(-2).clamp(-1, 1)
    return torch.where(_stored(W, stored_above), product.acos().rad2deg(), torch.nan)


@wrong("partner_angles", mistake="radians")
def in_radians(W, stored_above=0.5):
    """Radians."""
    return torch.where(_stored(W, stored_above), _cosine(W).clamp(-1, 1).acos(), torch.nan)


@wrong("partner_angles", mistake="acos_out_of_range")
def without_clamp(W, stored_above=0.5):
    """The arc cosine of a cosine past 1."""
    return torch.where(_stored(W, stored_above), _cosine(W).acos().rad2deg(), torch.nan)


@wrong("partner_angles", mistake="wrong_partners")
def halves(W, stored_above=0.5):
    """Partners are half the features apart."""
    n = W.shape[-1] // 2
    order = torch.arange(2 * n).reshape(2, n).T.flatten()
    V = W[..., order]
    return torch.where(_stored(V, stored_above), _cosine(V).clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", mistake="faint_not_nan")
def all_have_angles(W, stored_above=0.5):
    """Never nan."""
    return _cosine(W).clamp(-1, 1).acos().rad2deg()


@wrong("partner_angles", mistake="faint_not_nan")
def one_partner_is_enough(W, stored_above=0.5):
    """An angle unless both are faint."""
    norms = W.norm(dim=-2)
    stored = (norms[:, 0::2] > stored_above) | (norms[:, 1::2] > stored_above)
    return torch.where(stored, _cosine(W).clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", mistake="faint_not_nan")
def at_least_instead_of_above(W, stored_above=0.5):
    """A column exactly as long as stored_above counts as stored."""
    norms = W.norm(dim=-2)
    stored = (norms[:, 0::2] >= stored_above) & (norms[:, 1::2] >= stored_above)
    return torch.where(stored, _cosine(W).clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", mistake="folded_to_90")
def between_lines(W, stored_above=0.5):
    """The angle between lines, not directions."""
    return torch.where(_stored(W, stored_above), _cosine(W).abs().clamp(max=1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", fails="test_angles_rounding")
def rows_for_columns(W, stored_above=0.5):
    """Takes hidden units for features."""
    a, b = W[:, 0::2], W[:, 1::2]
    norms = a.norm(dim=-1), b.norm(dim=-1)
    cosine = (a * b).sum(-1) / (norms[0] * norms[1]).clamp_min(1e-30)
    stored = (norms[0] > stored_above) & (norms[1] > stored_above)
    return torch.where(stored, cosine.clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", fails="test_angles_rounding")
def some_nan_for_another_reason(W, stored_above=0.5):
    """The product of the lengths, not each of them, against the threshold; and the angle to the next column."""
    V = torch.cat([W[..., 1:], W[..., :1]], dim=-1)
    norms = V.norm(dim=-2)
    stored = norms[:, 0::2] * norms[:, 1::2] > 2 * stored_above
    return torch.where(stored, _cosine(V).clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", fails="test_angles_dtype")
def angles_in_single_precision(W, stored_above=0.5):
    """Always float32."""
    return torch.where(_stored(W, stored_above), _cosine(W.float()).clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", fails="test_angles_threshold")
def threshold_fixed(W, stored_above=0.5):
    """Ignores stored_above."""
    return torch.where(_stored(W, 0.5), _cosine(W).clamp(-1, 1).acos().rad2deg(), torch.nan)


@wrong("partner_angles", fails="test_angles_not_stored")
def zero_for_faint(W, stored_above=0.5):
    """0 instead of nan."""
    return torch.where(_stored(W, stored_above), _cosine(W).clamp(-1, 1).acos().rad2deg(), 0.0)


@wrong("partner_angles", fails="test_angles_by_hand")
def cosines(W, stored_above=0.5):
    """The cosine itself."""
    return torch.where(_stored(W, stored_above), _cosine(W), torch.nan)


@wrong("partner_angles", fails="test_angles_by_hand")
def signed_in_the_plane(W, stored_above=0.5):
    """The signed difference of two angles in the first two hidden units."""
    turn = torch.atan2(W[:, 1 % W.shape[1]], W[:, 0]).rad2deg()
    return torch.where(_stored(W, stored_above), turn[:, 1::2] - turn[:, 0::2], torch.nan)


@right("partner_angles")
def with_cosine_similarity(W, stored_above=0.5):
    """PyTorch's cosine_similarity."""
    a, b = W[:, :, 0::2], W[:, :, 1::2]
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1, eps=1e-12).clamp(min=-1, max=1)
    angle = torch.rad2deg(torch.acos(cosine))
    faint = (a.norm(dim=1) <= stored_above) | (b.norm(dim=1) <= stored_above)
    return angle.masked_fill(faint, float("nan"))


@right("partner_angles")
def through_half_angles(W, stored_above=0.5):
    """Twice the arc tangent of half chords: exact near 0 and 180."""
    norms = W.norm(dim=1, keepdim=True)
    unit = W / norms.clamp_min(1e-30)
    a, b = unit[..., 0::2], unit[..., 1::2]
    angle = 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))
    stored = (norms > stored_above)[:, 0]
    angle[~(stored[:, 0::2] & stored[:, 1::2])] = float("nan")
    return angle * 180 / math.pi


@right("partner_angles")
def through_the_gram_matrix(W, stored_above=0.5):
    """Reads the angle off WᵀW."""
    gram = W.mT @ W
    length = gram.diagonal(dim1=1, dim2=2).sqrt()
    even = torch.arange(0, W.shape[2], 2)
    cosine = gram[:, even, even + 1] / (length[:, even] * length[:, even + 1]).clamp_min(1e-30)
    stored = torch.minimum(length[:, even], length[:, even + 1]) > stored_above
    return torch.where(stored, torch.rad2deg(cosine.clamp(-1, 1).acos()), torch.nan)


@right("partner_angles")
def with_a_loop_in_numpy(W, stored_above=0.5):
    """One pair at a time, in numpy."""
    result = np.full((len(W), W.shape[2] // 2), np.nan)
    for i, instance in enumerate(W.detach().numpy()):
        for k in range(result.shape[1]):
            a, b = instance[:, 2 * k], instance[:, 2 * k + 1]
            length = np.linalg.norm(a), np.linalg.norm(b)
            if min(length) > stored_above:
                result[i, k] = np.degrees(np.arccos(np.clip(a @ b / length[0] / length[1], -1, 1)))
    return torch.tensor(result, dtype=W.dtype)


# --- pair_loss ---------------------------------------------------------------------------------


def _obtuse(k):
    return 2 * (k**2 / 3 - k**3 / 6)


@wrong("pair_loss", mistake="no_relu")
def obtuse_alone_pays(cosine, both, one):
    """Without the ReLU, one present."""
    k = cosine.abs()
    return both * torch.where(cosine >= 0, 2 * k**2 / 3, _obtuse(k)) + one * k**2 / 3


@wrong("pair_loss", mistake="one_output_only")
def a_single_output(cosine, both, one):
    """One output's error where both are present."""
    k = cosine.abs()
    return torch.where(cosine >= 0, (both + one) * k**2 / 3, both * _obtuse(k) / 2)


@wrong("pair_loss", mistake="obtuse_like_acute")
def no_floor(cosine, both, one):
    """An obtuse pair pays like an acute one."""
    k = cosine.abs()
    return both * 2 * k**2 / 3 + torch.where(cosine >= 0, one * k**2 / 3, 0)


@wrong("pair_loss", mistake="no_relu")
def linear_model(cosine, both, one):
    """No ReLU at all."""
    return (2 * both + one) * cosine**2 / 3


@wrong("pair_loss", mistake="one_counted_twice")
def either_of_them(cosine, both, one):
    """Counts the one present twice."""
    k = cosine.abs()
    return torch.where(cosine >= 0, (both + one) * 2 * k**2 / 3, both * _obtuse(k))


@wrong("pair_loss", mistake="conditional_swapped")
def swapped(cosine, both, one):
    """The two probabilities exchanged."""
    k = cosine.abs()
    return torch.where(cosine >= 0, one * 2 * k**2 / 3 + both * k**2 / 3, one * _obtuse(k))


@wrong("pair_loss", mistake="acute_obtuse_swapped")
def wrong_way_round(cosine, both, one):
    """The cases of the acute and the obtuse pair exchanged."""
    k = cosine.abs()
    return torch.where(cosine < 0, (2 * both + one) * k**2 / 3, both * _obtuse(k))


@wrong("pair_loss", fails="test_pair_form")
def loss_in_single_precision(cosine, both, one):
    """Always float32."""
    c = cosine.float()
    k = c.abs()
    return torch.where(c >= 0, (2 * both + one) * k**2 / 3, both * _obtuse(k))


@wrong("pair_loss", fails="test_pair_both")
def obtuse_is_free(cosine, both, one):
    """An obtuse pair never pays."""
    return torch.where(cosine >= 0, (2 * both + one) * cosine**2 / 3, 0)


@wrong("pair_loss", fails="test_pair_one")
def not_squared(cosine, both, one):
    """Absolute errors."""
    k = cosine.abs()
    return torch.where(cosine >= 0, (2 * both + one) * k / 2, both * (k - k**2 / 3))


@wrong("pair_loss", fails="test_pair_one")
def forgets_one(cosine, both, one):
    """Only counts both."""
    k = cosine.abs()
    return both * torch.where(cosine >= 0, 2 * k**2 / 3, _obtuse(k))


@wrong("pair_loss", fails="test_pair_both")
def cubic_with_sign(cosine, both, one):
    """Uses the cosine with its sign in the cubic term."""
    c = cosine
    return torch.where(c >= 0, (2 * both + one) * c**2 / 3, both * 2 * (c**2 / 3 - c**3 / 6))


@wrong("pair_loss", fails="test_pair_one")
def sizes_of_one(cosine, both, one):
    """Takes every size to be 1."""
    k = cosine.abs()
    return torch.where(cosine >= 0, (2 * both + one) * k**2, 2 * both * k**2)


@wrong("pair_loss", fails="test_pair_form")
def a_number(cosine, both, one):
    """The mean over the angles."""
    k = cosine.abs()
    return torch.where(cosine >= 0, (2 * both + one) * k**2 / 3, both * _obtuse(k)).mean()


@wrong("pair_loss", fails="test_pair_form")
def no_gradient(cosine, both, one):
    """Detached."""
    k = cosine.detach().abs()
    return torch.where(cosine >= 0, (2 * both + one) * k**2 / 3, both * _obtuse(k))


@right("pair_loss")
def with_relus(cosine, both, one):
    """Acute and obtuse parts by ReLUs."""
    acute, obtuse = cosine.relu(), (-cosine).relu()
    return (2 * both + one) * acute**2 / 3 + both * (2 * obtuse**2 - obtuse**3) / 3


@right("pair_loss")
def with_a_mask(cosine, both, one):
    """A mask instead of where."""
    is_acute = (cosine > 0).to(cosine.dtype)
    square, cube = cosine**2, cosine.abs() ** 3
    return is_acute * square * (2 * both / 3 + one / 3) + (1 - is_acute) * both * (2 * square / 3 - cube / 3)


@right("pair_loss")
def on_a_grid(cosine, both, one):
    """Integrates on a grid instead."""
    middle = (torch.arange(120, dtype=cosine.dtype) + 0.5) / 120
    x, y = torch.cartesian_prod(middle, middle).T
    c = cosine[:, None]
    together = (torch.relu(x + c * y) - x).square().mean(1) + (torch.relu(y + c * x) - y).square().mean(1)
    # the mean square on the midpoints falls short of 1/3 by 1/(12 N²)
    alone = torch.relu(cosine) ** 2 / 3
    return both * together * (1 / 3) / middle.square().mean() + one * alone


# --- crossing ----------------------------------------------------------------------------------


def _line(x, gap, k):
    return (x[k] + gap[k] / (gap[k] - gap[k + 1]) * (x[k + 1] - x[k])).item()


def _changes(gap):
    return [k for k in range(len(gap) - 1) if gap[k] * gap[k + 1] <= 0]


@wrong("crossing", mistake="nearest_point")
def smallest_gap(x, first, second):
    """The point at which the curves are nearest."""
    return x[(first - second).abs().argmin()].item()


@wrong("crossing", mistake="nearest_point")
def point_before(x, first, second):
    """The point before the change of sign."""
    changes = _changes(first - second)
    return x[changes[0]].item() if changes else math.nan


@wrong("crossing", mistake="midpoint")
def middle_of_the_interval(x, first, second):
    """The middle of the interval."""
    changes = _changes(first - second)
    return ((x[changes[0]] + x[changes[0] + 1]) / 2).item() if changes else math.nan


@wrong("crossing", mistake="last_crossing")
def the_last_one(x, first, second):
    """The last crossing."""
    gap = first - second
    changes = _changes(gap)
    return _line(x, gap, changes[-1]) if changes else math.nan


@wrong("crossing", mistake="no_crossing")
def the_end_if_none(x, first, second):
    """The last point if there is no crossing."""
    gap = first - second
    changes = _changes(gap)
    return _line(x, gap, changes[0]) if changes else x[-1].item()


@wrong("crossing", mistake="no_crossing")
def minus_one_if_none(x, first, second):
    """-1 if there is no crossing."""
    gap = first - second
    changes = _changes(gap)
    return _line(x, gap, changes[0]) if changes else -1.0


@wrong("crossing", mistake="one_direction_only")
def from_below_only(x, first, second):
    """Only sees the first curve rise through the second."""
    gap = first - second
    changes = [k for k in range(len(gap) - 1) if gap[k] <= 0 < gap[k + 1]]
    return _line(x, gap, changes[0]) if changes else math.nan


@wrong("crossing", fails="test_crossing_by_hand")
def share_from_the_far_end(x, first, second):
    """Measures the share from the wrong end."""
    gap = first - second
    changes = _changes(gap)
    if not changes:
        return math.nan
    k = changes[0]
    return (x[k + 1] + gap[k] / (gap[k + 1] - gap[k]) * (x[k + 1] - x[k]) * -1).item()


@wrong("crossing", mistake="length_forgotten")
def step_of_one(x, first, second):
    """Takes the points to be one apart."""
    gap = first - second
    changes = _changes(gap)
    return (x[changes[0]] + gap[changes[0]] / (gap[changes[0]] - gap[changes[0] + 1])).item() if changes else math.nan


@wrong("crossing", mistake="equal_point_missed")
def misses_a_zero(x, first, second):
    """Only sees a strict change of sign."""
    gap = first - second
    changes = [k for k in range(len(gap) - 1) if gap[k] * gap[k + 1] < 0]
    return _line(x, gap, changes[0]) if changes else math.nan


@wrong("crossing", mistake="equal_point_missed")
def crossing_before_touching(x, first, second):
    """A change of sign goes before an earlier touch."""
    gap = first - second
    flips = ((gap.sign()[:-1] * gap.sign()[1:]) < 0).nonzero().flatten()
    if len(flips):
        return _line(x, gap, int(flips[0]))
    return x[(gap == 0).int().argmax()].item() if bool((gap == 0).any()) else math.nan


@wrong("crossing", fails="test_crossing_by_hand")
def never_finds_any(x, first, second):
    """Always nan."""
    return math.nan


@wrong("crossing", fails="test_crossing_by_hand")
def returns_nothing(x, first, second):
    """No return."""


@wrong("crossing", fails="test_crossing_by_hand")
def height_instead_of_place(x, first, second):
    """The height at which the curves cross."""
    gap = first - second
    changes = _changes(gap)
    if not changes:
        return math.nan
    k = changes[0]
    return (second[k] + 0.5 * (second[k + 1] - second[k]) + gap[k] * 0.5).item()


@right("crossing")
def with_sign(x, first, second):
    """Signs: where two neighbours do not have the same one, they are equal, or differ in sign."""
    gap = first - second
    meets = (gap.sign()[:-1] != gap.sign()[1:]).nonzero().flatten()
    return _line(x, gap, int(meets[0])) if len(meets) else float("nan")


@right("crossing")
def as_a_tensor(x, first, second):
    """A tensor without dimensions."""
    gap = second - first
    for k in range(len(x) - 1):
        if gap[k] * gap[k + 1] <= 0 and gap[k] != gap[k + 1]:
            weight = gap[k + 1] / (gap[k + 1] - gap[k])
            return weight * x[k] + (1 - weight) * x[k + 1]
    return torch.tensor(float("nan"))


@right("crossing")
def in_numpy(x, first, second):
    """numpy, and np.interp on the difference."""
    gap = (first - second).numpy()
    for k in range(len(gap) - 1):
        low, high = sorted((k, k + 1), key=lambda j: gap[j])
        if gap[low] <= 0 <= gap[high] and gap[low] < gap[high]:
            return float(np.interp(0.0, gap[[low, high]], x.numpy()[[low, high]]))
    return float("nan")
