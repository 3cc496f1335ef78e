"""Where a latent fires most: the contexts in which its activation is largest, as text with the token marked."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from refract.errors import RefractError
from refract.sae.activations.forward import check_hooks, evaluation, how_many_tokens, kept, regroup, run
from refract.sae.coder import SparseCoder

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from refract.data import Contexts
    from refract.sae.activations.manifest import OnProgress

STAGE = "top contexts"  # what ``on_progress`` is told that it hears of


@dataclass(frozen=True)
class Example:
    """A token on which a latent fires, what stands around it in the same document, and where it is from."""

    latent: int
    activation: float
    context: int
    """The number of the context in the stream, from 0."""
    position: int
    """Of the token in its context."""
    document: int
    """The number of the document in the stream."""
    start: int
    end: int
    """The token's characters in the document's text."""
    marked: int
    """Which of the tokens below it is."""
    tokens: list[int]
    activations: list[float]
    """The latent's activation on each of them."""
    pieces: list[str]
    """The text of each; together they are the text of all. A character of several tokens stands at the last one."""

    def text(self, left: str = "[", right: str = "]") -> str:
        """The text, with the token marked."""
        before, after = "".join(self.pieces[: self.marked]), "".join(self.pieces[self.marked + 1 :])
        return f"{before}{left}{self.pieces[self.marked]}{right}{after}"


@torch.no_grad()
def top_contexts(
    coder: SparseCoder,
    model: TransformerBridge,
    hook: str | Sequence[str],
    contexts: Iterable[Contexts],
    latents: Sequence[int],
    *,
    n: int = 10,
    around: int = 20,
    batch: int = 8,
    skip_first: int = 0,
    on_progress: OnProgress | None = None,
) -> dict[int, list[Example]]:
    """The ``n`` contexts in which each of the latents fires most, the largest first; of equal ones the earlier.

    A context counts once, with its largest activation, and not at all if the latent is silent in it: so a latent may
    have fewer than ``n``. ``around`` tokens of the same document are kept on either side. The stream may be of any
    length: no more than these examples and ``batch`` contexts are held in memory. The coder is in the model's own
    units. ``on_progress("top contexts", done, total)`` counts tokens.

    Raises:
        RefractError: a hook that the model lacks, a latent that the coder lacks, activations of another size.
    """
    hooks = check_hooks(model, hook)
    wrong = [latent for latent in latents if not 0 <= latent < coder.n_latents]
    if wrong or n < 1 or around < 0:
        raise RefractError(
            f"The coder has the latents 0 to {coder.n_latents - 1}; asked for were the top {n} contexts of "
            f"{wrong or 'some'}, with {around} tokens around.",
            "Ask for latents that it has, for one context or more, and for no less than no tokens around.",
        )
    latents = list(dict.fromkeys(latents))
    largest = _Largest(len(latents), n, around)
    device = next(model.parameters()).device
    done, total = 0, how_many_tokens(contexts)
    with evaluation(model):
        for group in regroup(contexts, batch):
            keep = kept(group, skip_first)
            x = torch.cat([seen[keep.to(device)] for seen in run(model, group.tokens.to(device), hooks)], dim=-1)
            if x.shape[-1] != coder.d_in:
                raise RefractError(
                    f"The hooks give {x.shape[-1]} dimensions; the coder has d_in = {coder.d_in}.",
                    "Name the hooks that it was trained on.",
                )
            activations = torch.zeros(*keep.shape, len(latents))
            activations[keep] = coder.encode(x.to(coder.W_enc))[:, latents].float().cpu()
            largest.add(activations, group)
            done += keep.numel()
            if on_progress is not None:
                on_progress(STAGE, done, total)
    if on_progress is not None and total is None:
        on_progress(STAGE, done, done)
    return {
        latent: [_example(latent, found, model.tokenizer) for found in sorted(heap, reverse=True)]
        for latent, heap in zip(latents, largest.heaps, strict=True)
    }


# --- while the stream goes by ------------------------------------------------------------------------

_Found = tuple[float, int, dict[str, Any]]
"""An activation, minus the number of its context, and what an example is made of. No two have the first two alike."""


class _Largest:
    """For each latent a heap of what was largest so far: its smallest member is the first to go."""

    def __init__(self, n_latents: int, n: int, around: int) -> None:
        self.n, self.around = n, around
        self.heaps: list[list[_Found]] = [[] for _ in range(n_latents)]
        self.floor = torch.zeros(n_latents)  # what an activation must exceed to be kept
        self.contexts = 0

    def add(self, activations: Float[Tensor, "context pos latent"], group: Contexts) -> None:
        peak, position = activations.max(dim=1)
        for context, place in (peak > self.floor).nonzero().tolist():
            value, heap = peak[context, place].item(), self.heaps[place]
            if len(heap) == self.n and value <= heap[0][0]:  # a context of this group has raised the floor
                continue
            cut = _cut(activations[context, :, place], group, context, int(position[context, place]), self.around)
            found = (value, -(self.contexts + context), cut)
            if len(heap) < self.n:
                heapq.heappush(heap, found)
            else:
                heapq.heapreplace(heap, found)
            if len(heap) == self.n:
                self.floor[place] = heap[0][0]
        self.contexts += len(activations)


def _cut(
    activations: Float[Tensor, "pos"], group: Contexts, context: int, position: int, around: int
) -> dict[str, Any]:
    """The token and its neighbours, as far as they belong to the same document."""
    same = (group.document[context] == group.document[context, position]) & ~group.special[context]
    begin = end = position
    while begin > max(0, position - around) and same[begin - 1]:
        begin -= 1
    while end + 1 < min(len(same), position + around + 1) and same[end + 1]:
        end += 1
    return {
        "position": position,
        "document": int(group.document[context, position]),
        "start": int(group.start[context, position]),
        "end": int(group.end[context, position]),
        "marked": position - begin,
        "tokens": group.tokens[context, begin : end + 1].tolist(),
        "activations": activations[begin : end + 1].tolist(),
    }


# --- as text -----------------------------------------------------------------------------------------


def _example(latent: int, found: _Found, tokenizer: Any) -> Example:
    value, minus_context, rest = found
    pieces = decoded(rest["tokens"], tokenizer)
    return Example(latent=latent, activation=value, context=-minus_context, pieces=pieces, **rest)


def decoded(tokens: Sequence[int], tokenizer: Any) -> list[str]:
    """The text that each token adds to those before it. Without a tokenizer: its number in angle brackets.

    Tokens of byte-level vocabularies may hold parts of a character: then the last of them has the character, and the
    others nothing.
    """
    if tokenizer is None:
        return [f"⟨{token}⟩" for token in tokens]
    pieces, so_far = [], 0
    for count in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[:count], clean_up_tokenization_spaces=False)
        if count < len(tokens):
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")  # the bytes of a character that is not complete yet
        pieces.append(text[so_far:])
        so_far = len(text)
    return pieces
