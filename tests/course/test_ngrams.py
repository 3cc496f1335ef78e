"""Counting models of language: values by hand, a slow implementation by the book, and what holds for any text."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from refract.errors import RefractError
from refract.ngrams import NGrams


def test_bigrams_by_hand():
    """0 1 0 1 0 2: the pairs 01 and 10 twice, 02 once; so D = 1/5, and three tokens have one predecessor each.

    Of single tokens all three counts are 1: D = 1, all is saved, and the uniform third remains.
    """
    model = NGrams(np.array([0, 1, 0, 1, 0, 2]), vocab=3, order=2)
    p = model.probabilities(np.array([[0], [0], [0], [1], [2]]), np.array([0, 1, 2, 0, 1]))
    saved = 0.2 * 2 / 3 / 3
    expected = [saved, 1.8 / 3 + saved, 0.8 / 3 + saved, 1.8 / 2 + 0.2 / 2 / 3, 1 / 3]
    assert np.allclose(p, expected, rtol=1e-12)


def test_a_token_that_follows_only_one_other_is_not_expected_elsewhere():
    """7 stands often, but after 6 alone; 5 stands as often, after many. After the unseen history 9 they differ."""
    rng = np.random.default_rng(0)
    stream = [token for _ in range(50) for token in (6, 7, int(rng.integers(5)), 5)]
    p = NGrams(np.array(stream), vocab=10, order=2).probabilities(np.array([[9], [9]]), np.array([7, 5]))
    assert p[1] > 3 * p[0]


def by_the_book(stream, vocab, order):
    """Chen and Goodman's recursion with dictionaries and loops."""
    counts: list[collections.Counter] = [collections.Counter() for _ in range(order + 1)]  # by length
    for i in range(len(stream) - order + 1):
        counts[order][tuple(stream[i : i + order])] += 1
    for length in range(order - 1, 0, -1):
        for gram in counts[length + 1]:
            counts[length][gram[1:]] += 1

    def p(history, token):
        length = len(history) + 1
        lower = p(history[1:], token) if history else 1 / vocab
        c = counts[length]
        once, twice = (sum(count == n for count in c.values()) for n in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        after = {gram: count for gram, count in c.items() if gram[:-1] == history}
        if not after:
            return lower
        total = sum(after.values())
        return (max(c[(*history, token)] - discount, 0) + discount * len(after) * lower) / total

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_agrees_with_the_book(order):
    rng = np.random.default_rng(order)
    stream = rng.geometric(0.4, size=150).clip(max=6) - 1
    model, expected = NGrams(stream, vocab=7, order=order), by_the_book(stream.tolist(), 7, order)
    history = rng.integers(7, size=(200, order - 1))
    tokens = rng.integers(7, size=200)
    wanted = [expected(tuple(h), t) for h, t in zip(history.tolist(), tokens.tolist(), strict=True)]
    assert np.allclose(model.probabilities(history, tokens), wanted, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("stream", ["random", "constant", "all different", "short"])
def test_probabilities_sum_to_one_and_none_is_zero(order, stream):
    vocab = 12
    rows = {"random": np.random.default_rng(0).integers(8, size=500), "constant": np.zeros(9, dtype=int)}
    rows |= {"all different": np.arange(12), "short": np.array([1, 2, 3])}
    model = NGrams(rows[stream], vocab, order)
    for history in np.random.default_rng(1).integers(vocab, size=(30, 3)):
        p = model.probabilities(np.tile(history, (vocab, 1)), np.arange(vocab))
        assert math.isclose(p.sum(), 1, rel_tol=1e-12)
        assert p.min() > 0


def test_losses_see_no_further_back_than_the_order_nor_than_the_context():
    rng = np.random.default_rng(0)
    model = NGrams(rng.integers(5, size=400), vocab=5, order=3)
    tokens = rng.integers(5, size=(4, 9))
    losses = model.losses(tokens)
    assert losses.shape == (4, 8)
    assert np.allclose(losses[:, 0], -np.log(model.probabilities(tokens[:, :1], tokens[:, 1])))
    for pos in range(2, 9):
        p = model.probabilities(tokens[:, pos - 2 : pos], tokens[:, pos])
        assert np.allclose(losses[:, pos - 1], -np.log(p))


def test_a_language_of_trigrams_is_learnt_by_trigrams_alone():
    """The next token is a function of the last two, each of which alone tells nothing (7 is prime)."""
    rng = np.random.default_rng(0)
    stream = [3, 5]
    while len(stream) < 30_000:
        stream.append((stream[-1] * 3 + stream[-2] * 2 + int(rng.random() < 0.1)) % 7)
    train, test = np.array(stream[:25_000]), np.array(stream[25_000:]).reshape(-1, 100)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    loss = [NGrams(train, 7, order).losses(test)[:, 1:].mean() for order in (1, 2, 3)]
    assert abs(loss[0] - math.log(7)) < 0.01 and abs(loss[1] - math.log(7)) < 0.01
    assert abs(loss[2] - entropy) < 0.02


@pytest.mark.parametrize(
    ("tokens", "vocab", "order", "said"),
    [
        ([0, 1], 2, 3, "no n-gram of 3 tokens"),
        ([[0, 1]], 2, 1, "one long row"),
        ([0, 5], 5, 1, "ends at 4"),
        ([0, -1], 5, 1, "from -1"),
        ([0, 1, 2], 5, 0, "order of 1"),
        ([0, 1, 2], 50_000, 5, "cannot be counted"),
    ],
)
def test_what_cannot_be_counted_is_told(tokens, vocab, order, said):
    with pytest.raises(RefractError, match=said):
        NGrams(np.array(tokens), vocab, order)
