"""Models of language that count: what a transformer has to beat before it can be said to have learnt more than pairs.

Interpolated Kneser-Ney smoothing with one discount an order: Kneser and Ney, "Improved backing-off for m-gram language
modeling" (1995), in the interpolated form of Chen and Goodman, "An empirical study of smoothing techniques for language
modeling" (1999), section 2.7. With c the count of an n-gram and h the tokens before its last one, w,

    p(w | h) = max(c(h w) - D, 0) / c(h ·) + D N(h ·) / c(h ·) · p(w | h without its first token)

where N(h ·) is the number of different tokens seen after h. Below the highest order, c(h w) is the number of different
tokens seen before "h w" instead of its count: "Francisco" is frequent, but follows one word. Below the single tokens
stands the uniform distribution. D = n1 / (n1 + 2 n2), with n1 and n2 the numbers of n-grams whose c is 1 and 2 (Ney,
Essen and Kneser, 1994), so that nothing is fitted on text other than what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from refract.errors import RefractError


@dataclass(frozen=True)
class _Order:
    """The counts of one order. An n-gram is a number: its tokens are the digits in base ``vocab``."""

    grams: Int64[np.ndarray, " gram"]  # sorted
    counts: Int64[np.ndarray, " gram"]
    histories: Int64[np.ndarray, " history"]  # sorted
    totals: Int64[np.ndarray, " history"]  # of the counts of what follows
    followers: Int64[np.ndarray, " history"]  # how many different tokens follow
    discount: float


class NGrams:
    """Unigrams, bigrams, trigrams, ... of one stream of tokens, smoothed into a model of the next token.

    ``tokens`` is the stream, ``vocab`` the number of tokens there are, ``order`` the length of the longest n-grams:
    2 sees one token back, 3 sees two. Counting 7 million trigrams takes seconds and some hundred MB.
    """

    def __init__(self, tokens: Int64[np.ndarray, " pos"], vocab: int, order: int = 3) -> None:
        tokens = np.asarray(tokens, dtype=np.int64)
        if order < 1 or vocab**order > np.iinfo(np.int64).max:
            raise RefractError(
                f"N-grams of {order} tokens out of {vocab} cannot be counted.",
                "Pass an order of 1 or more, and not above 5.",
            )
        if tokens.ndim != 1 or len(tokens) < order:
            raise RefractError(
                f"A stream of the shape {list(tokens.shape)} has no n-gram of {order} tokens.",
                "Pass the tokens as one long row.",
            )
        if tokens.min() < 0 or tokens.max() >= vocab:
            raise RefractError(
                f"The stream has tokens from {tokens.min()} to {tokens.max()}; the vocabulary ends at {vocab - 1}.",
                "Pass the size of the tokenizer's vocabulary as `vocab`: `len(tokenizer)`.",
            )
        self.vocab, self.order = vocab, order
        grams, counts = np.unique(_grams(tokens, vocab, order), return_counts=True)
        orders = [_order(grams, counts, vocab)]
        for length in range(order - 1, 0, -1):
            grams, counts = np.unique(grams % vocab**length, return_counts=True)  # how many tokens came before each
            orders.insert(0, _order(grams, counts, vocab))
        self._orders = orders

    def probabilities(
        self, history: Int64[np.ndarray, "row back"], tokens: Int64[np.ndarray, " row"]
    ) -> Float64[np.ndarray, " row"]:
        """The probability of each token after its history, of which the last ``order - 1`` tokens are looked at.

        A shorter history is answered by the lower orders alone.
        """
        history, tokens = np.asarray(history, dtype=np.int64), np.asarray(tokens, dtype=np.int64)
        p = np.full(len(tokens), 1 / self.vocab)
        for back, counted in enumerate(self._orders[: history.shape[1] + 1]):
            before = np.zeros_like(tokens)
            for digit in history[:, history.shape[1] - back :].T:
                before = before * self.vocab + digit
            p = _interpolate(counted, before, before * self.vocab + tokens, p)
        return p

    def losses(self, tokens: Int64[np.ndarray, "context pos"]) -> Float64[np.ndarray, "context pos-1"]:
        """The loss, in nats, of every token of a context but the first, given what stands before it in the context."""
        tokens = np.asarray(tokens, dtype=np.int64)
        losses = np.empty((tokens.shape[0], tokens.shape[1] - 1))
        for pos in range(1, tokens.shape[1]):
            losses[:, pos - 1] = -np.log(self.probabilities(tokens[:, :pos], tokens[:, pos]))
        return losses


def _grams(tokens: np.ndarray, vocab: int, order: int) -> np.ndarray:
    """Every run of ``order`` tokens as one number."""
    grams = np.zeros(len(tokens) - order + 1, dtype=np.int64)
    for place in range(order):
        grams = grams * vocab + tokens[place : place + len(grams)]
    return grams


def _order(grams: np.ndarray, counts: np.ndarray, vocab: int) -> _Order:
    histories, first, followers = np.unique(grams // vocab, return_index=True, return_counts=True)
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    discount = once / (once + 2 * twice) if once else 0.5  # without n-grams seen once there is nothing to estimate from
    return _Order(grams, counts, histories, np.add.reduceat(counts, first), followers, float(discount))


def _interpolate(counted: _Order, before: np.ndarray, grams: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """One step of the recursion above: counts less the discount, and what it saved spread as the lower order says."""
    known, place = _find(counted.histories, before)
    total = np.where(known, counted.totals[place], 1)
    saved = np.where(known, counted.discount * counted.followers[place], 1)  # after an unknown history, all of it
    seen, place = _find(counted.grams, grams)
    kept = np.where(seen, counted.counts[place] - counted.discount, 0)
    return (kept + saved * lower) / total


def _find(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether and where the wanted numbers stand among the sorted known ones."""
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return known[place] == wanted, place
