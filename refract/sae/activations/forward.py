"""From contexts to activations: the model's part of a harvest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from refract.errors import RefractError
from refract.names import suggestion

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from refract.data import Contexts


class Harvested(NamedTuple):
    """The kept rows of some contexts, in order."""

    contexts: Contexts
    keep: Bool[Tensor, "context pos"]
    activations: list[Float[Tensor, "row d_in"]]  # for each hook, on the model's device


class _Enough(Exception):
    """Every hook has been met: the rest of the forward pass is not needed."""


def check_hooks(model: TransformerBridge, hooks: str | Sequence[str]) -> tuple[str, ...]:
    """The hooks as a tuple. Raises ``RefractError`` for one that the model does not have, and for one named twice."""
    names = (hooks,) if isinstance(hooks, str) else tuple(hooks)
    if not names or len(set(names)) < len(names):
        raise RefractError(f"The hooks are {list(names)}.", "Name at least one hook, and each of them once.")
    known = model.hook_dict
    for name in names:
        if name not in known:
            raise RefractError(
                f"The model has no hook {name!r}.",
                f"{suggestion(name, known)}A residual stream is called 'blocks.1.hook_resid_post'{_blocks(known)}; "
                "in Python, `model.hook_dict` lists all hooks.",
            )
    return names


def _blocks(hooks: Iterable[str]) -> str:
    """Which blocks there are, in words."""
    numbers = [int(name.split(".")[1]) for name in hooks if re.match(r"blocks\.\d+\.", name)]
    return f", and blocks go from 0 to {max(numbers)}" if numbers else ""


def regroup(contexts: Iterable[Contexts], size: int, n_ctx: int | None = None) -> Iterator[Contexts]:
    """The same contexts in groups of ``size``, the last one possibly smaller.

    Raises ``RefractError`` if the contexts are not all equally long.
    """
    held: list[Contexts] = []
    count = 0
    for some in contexts:
        length = some.tokens.shape[-1]
        n_ctx = length if n_ctx is None else n_ctx
        if some.tokens.ndim != 2 or length != n_ctx:
            raise RefractError(
                f"A group of contexts has the shape {list(some.tokens.shape)}; expected [context, {n_ctx}].",
                "Cut the text into contexts of one length: `pack` does, and drops what is left at the end.",
            )
        held.append(some)
        count += len(some.tokens)
        while count >= size:
            whole = _join(held)
            yield _slice(whole, 0, size)
            held, count = [_slice(whole, size, count)], count - size
    if count:
        yield _join(held)


def how_many_tokens(contexts: Iterable[Contexts]) -> int | None:
    """In all contexts together, where that is known before they have been gone through."""
    return sum(some.tokens.numel() for some in contexts) if isinstance(contexts, list) else None


def _join(some: list[Contexts]) -> Contexts:
    return some[0] if len(some) == 1 else type(some[0])(*map(torch.cat, zip(*some, strict=True)))


def _slice(some: Contexts, begin: int, end: int) -> Contexts:
    return type(some)(*(column[begin:end] for column in some))


def kept(contexts: Contexts, skip_first: int) -> Bool[Tensor, "context pos"]:
    """Which positions are harvested: not the separators, and not the first ``skip_first`` of each context."""
    keep = ~contexts.special
    keep[:, :skip_first] = False
    return keep


def at_most(keep: Bool[Tensor, "context pos"], rows: int) -> Bool[Tensor, "context pos"]:
    """The first ``rows`` of the kept positions."""
    return keep & (keep.flatten().cumsum(0).view_as(keep) <= rows)


@torch.no_grad()
def run(
    model: TransformerBridge, tokens: Int64[Tensor, "context pos"], hooks: Sequence[str]
) -> list[Float[Tensor, "context pos d_in"]]:
    """What the hooks see, for each hook in turn; heads are put side by side. The model computes nothing after the last.

    A run with ``stop_at_layer`` can only stop before a whole layer, and after the last layer not at all: there it
    computes the logits, which take SmolLM2 as long as eight layers. So the last hook to be met ends the run itself.
    """
    seen: dict[str, Tensor] = {}

    def look(name: str):
        def hook_function(value: Tensor, hook: object) -> None:
            seen[name] = value.detach()
            if len(seen) == len(hooks):
                raise _Enough

        return hook_function

    try:
        model.run_with_hooks(tokens, fwd_hooks=[(name, look(name)) for name in hooks], return_type=None)
    except _Enough:
        pass
    except (ValueError, NotImplementedError) as error:  # how the bridge says that a hook is switched off
        if any(name in str(error) for name in hooks):
            raise RefractError(str(error), "Do as it says, or choose another hook.") from error
        raise
    for name in hooks:
        if name not in seen:
            raise RefractError(
                f"The hook {name!r} was not met when the model ran.",
                "The bridge knows it, but this kind of model does not have it. Choose another hook.",
            )
        if seen[name].ndim < 3 or seen[name].shape[:2] != tokens.shape or name.endswith(("_pattern", "_scores")):
            raise RefractError(
                f"The hook {name!r} gives the shape {list(seen[name].shape)} for {list(tokens.shape)} tokens.",
                "Choose a hook that gives one vector for each position.",
            )
    return [seen[name].flatten(2) for name in hooks]


@contextlib.contextmanager
def evaluation(model: TransformerBridge) -> Iterator[None]:
    """Without dropout, whatever the model was set to; it is set back at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def harvested(
    model: TransformerBridge, groups: Iterable[tuple[Contexts, Tensor]], hooks: Sequence[str], first_context: int = 0
) -> Iterator[Harvested]:
    """Run the model on each group of contexts and keep what is to be kept.

    Raises ``RefractError`` for tokens that the model does not have, and for activations that are not finite.
    """
    device = next(model.parameters()).device
    with evaluation(model):
        for contexts, keep in groups:
            _check_tokens(model, contexts.tokens, first_context)
            values = run(model, contexts.tokens.to(device), hooks)
            on_device = keep.to(device)
            rows = [value[on_device] for value in values]
            for name, value in zip(hooks, rows, strict=True):
                _check_finite(name, value, keep, first_context)
            yield Harvested(contexts, keep, rows)
            first_context += len(keep)


def stream(
    model: TransformerBridge,
    contexts: Iterable[Contexts],
    hooks: str | Sequence[str],
    *,
    batch: int = 32,
    skip_first: int = 0,
) -> Iterator[Float[Tensor, "row d_in"] | Float[Tensor, "row hook d_in"]]:
    """Activations straight from the model, ``batch`` contexts at a time, in order; nothing is kept. See ``harvest``.

    With several hooks the rows have an axis for the hook, in the order in which they are named.
    """
    names = check_hooks(model, hooks)
    groups = ((group, kept(group, skip_first)) for group in regroup(contexts, batch))
    for _, _, activations in harvested(model, groups, names):
        yield activations[0] if isinstance(hooks, str) else torch.stack(activations, dim=1)


def _check_tokens(model: TransformerBridge, tokens: Tensor, first_context: int) -> None:
    longest, vocabulary = getattr(model.cfg, "n_ctx", None), getattr(model.cfg, "d_vocab", None)
    if longest and tokens.shape[1] > longest:
        raise RefractError(
            f"The contexts have {tokens.shape[1]} tokens; the model reads {longest} at most.",
            f"Cut the text into contexts of {longest} tokens or fewer.",
        )
    if vocabulary and vocabulary > 0:
        wrong = ((tokens < 0) | (tokens >= vocabulary)).any(dim=1).nonzero()
        if len(wrong):
            context = first_context + int(wrong[0])
            raise RefractError(
                f"Context {context} holds a token that is none of the model's {vocabulary}.",
                "Encode the text with the tokenizer that belongs to this model: `model.tokenizer`.",
            )


def _check_finite(name: str, value: Tensor, keep: Tensor, first_context: int) -> None:
    if bool(value.isfinite().all()):
        return
    row = int((~value.isfinite()).any(dim=1).nonzero()[0])
    context = first_context + int(keep.nonzero()[row, 0])
    raise RefractError(
        f"The activations at {name!r} are not finite in context {context}.",
        "Load the model as fp32 or bf16 if it runs in fp16; otherwise look at that context, or at the weights.",
    )
