"""Text for language models: the course's corpus, any dataset of the Hugging Face hub, and contexts cut from either."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from refract import checksums
from refract.errors import RefractError
from refract.paths import root

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DOMAINS = ("speeches", "novels", "scripture", "python-docs")
ONE_IN = 20  # one document in so many is held out
SALT = b"1\n"  # the first of 0, 1, 2, ... that holds out 4 to 6 % of the documents and of the text of every domain
END_OF_TEXT = "<|endoftext|>"
SEPARATOR = -1  # start and end of a token that stands between documents


@dataclass(frozen=True)
class Document:
    """One text: where it is from, what it is called, and what it says."""

    domain: str
    title: str
    text: str


# --- the corpus that comes with the course -----------------------------------------------------------------


def held_out(text: str) -> bool:
    """Whether a document belongs to the held-out part: about one in twenty, known from the text alone.

    A hash decides, so the answer needs no list of documents and no seed, and exact copies are never parted.
    """
    return int.from_bytes(hashlib.sha256(SALT + text.encode()).digest()[:8], "big") % ONE_IN == 0


def corpus(
    split: Literal["train", "held-out", "all"] = "all", *, domains: Sequence[str] | None = None
) -> Iterator[Document]:
    """The documents of ``assets/corpus``, in the order of the file, one at a time.

    ``domains`` picks some of ``DOMAINS``. The file is checked against its checksum before the first document.
    Raises RefractError if the file or its checksum is missing or damaged, or if there is no such split or domain.
    """
    if split not in ("train", "held-out", "all"):
        raise RefractError(f"The corpus has no split {split!r}.", 'Take "train", "held-out" or "all".')
    domains = [domains] if isinstance(domains, str) else domains
    unknown = sorted(set(domains or ()) - set(DOMAINS))
    if unknown:
        raise RefractError(
            f"The corpus has no domain {', '.join(map(repr, unknown))}.", f"Its domains are {', '.join(DOMAINS)}."
        )
    file = root() / "assets" / "corpus" / "corpus.jsonl.xz"
    _check(file)
    wanted = set(DOMAINS if domains is None else domains)
    return (
        document
        for document in _read(file)
        if document.domain in wanted and (split == "all" or held_out(document.text) == (split == "held-out"))
    )


def _check(file: Path) -> None:
    """Compare a file with the checksum beside it (in the format of ``sha256sum``)."""
    beside = file.with_name(file.name + ".sha256")
    remedy = f"Fetch it again: `git checkout -- {file.parent.relative_to(root()).as_posix()}` in the course's folder."
    for path in (file, beside):
        if not path.is_file():
            raise RefractError(f"The corpus is not complete: {path} is missing.", remedy)
    if beside.read_text(encoding="ascii", errors="replace").split()[:1] != [checksums.sha256(file)]:
        raise RefractError(f"The corpus is damaged: {file} differs from its checksum.", remedy)


def _read(file: Path) -> Iterator[Document]:
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield Document(**json.loads(line))


# --- any dataset of the Hugging Face hub -------------------------------------------------------------------


def hub(name: str, *, split: str = "train", text_field: str = "text", config: str | None = None) -> Iterator[Document]:
    """The documents of a dataset in the Hugging Face format, streamed: nothing is downloaded ahead of its use.

    ``name`` is a dataset of the hub (``"roneneldan/TinyStories"``) or a local folder of JSON Lines, Parquet or text
    files. A document's domain is the dataset's name, its title the number of its row; rows without text are left out.
    Raises RefractError if `datasets` is not installed, if there is no such dataset, split, configuration or field of
    text, or if the network fails, also in the middle of the stream.
    """
    try:
        import datasets
    except ImportError as error:
        raise RefractError(
            "Datasets of the Hugging Face hub need the library `datasets`, which is not installed.",
            "Install it (`python -m pip install datasets`), or use the course's own text: `data.corpus()`.",
        ) from error
    with _told(name, config, split):
        rows = iter(datasets.load_dataset(name, config, split=split, streaming=True))
        first = next(rows, None)
    if first is None:
        raise RefractError(f"The split {split!r} of the dataset {name!r} is empty.", "Choose another split.")
    fields = [field for field, value in first.items() if isinstance(value, str)]
    if text_field not in first or (text_field not in fields and first[text_field] is not None):
        raise RefractError(
            f"The dataset {name!r} has no field of text called {text_field!r}.",
            f"Pass one of its fields of text as `text_field`: {', '.join(map(repr, fields)) or 'it has none'}.",
        )

    def documents() -> Iterator[Document]:
        with _told(name, config, split):
            for number, row in enumerate(itertools.chain([first], rows)):
                if row[text_field]:
                    yield Document(name, f"{split} {number}", row[text_field])

    return documents()


@contextlib.contextmanager
def _told(name: str, config: str | None, split: str) -> Iterator[None]:
    """Say what went wrong with a dataset in a line, and what to do."""
    what = f"{name!r}" + (f" ({config})" if config else "") + f", split {split!r},"
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:  # DatasetNotFoundError is one, and so is a wrong folder
        raise RefractError(
            f"There is no dataset {name!r}, or it is not to be had without a login. ({_first_line(error)})",
            "Check the name (owner/name, as the hub spells it) or the folder's path.",
        ) from error
    except ValueError as error:  # a split, configuration or format that does not exist
        raise RefractError(
            f"The dataset {what} cannot be read: {_first_line(error)}",
            "Mend the file, or pass what the message offers.",
        ) from error
    except (OSError, RuntimeError) as error:
        raise RefractError(
            f"The dataset {what} cannot be reached: {_first_line(error)}",
            "Check the network and try again, or use the course's own text: `data.corpus()`.",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- contexts ----------------------------------------------------------------------------------------------


class Contexts(NamedTuple):
    """A batch of contexts, and where in which text each token stands.

    ``documents[document].text[start:end]`` is the text of a token: ``document`` counts the documents of the stream
    from 0, ``start`` and ``end`` count characters. A separator belongs to the document before it and has start and end
    -1. Byte-level BPE splits rare characters: a token that has some bytes of a character has the place of the whole
    character, and so have the tokens with its other bytes. ``<|endoftext|>`` spelled out in a text is a token like
    the separator, but no separator: it has a place.
    """

    tokens: Int64[Tensor, "context pos"]
    document: Int32[Tensor, "context pos"]
    start: Int32[Tensor, "context pos"]
    end: Int32[Tensor, "context pos"]

    @property
    def special(self) -> Bool[Tensor, "context pos"]:
        """Which tokens are separators."""
        return self.start == SEPARATOR


def end_of_text(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that stands between documents: ``<|endoftext|>`` where the vocabulary has it, else the eos token.

    The two differ in models that were tuned to chat: there the eos token ends a turn, and what stood between the
    documents that the model was trained on is still ``<|endoftext|>``.
    """
    known = tokenizer.get_vocab().get(END_OF_TEXT, tokenizer.eos_token_id)
    if known is None:
        raise RefractError(
            "This tokenizer has no end-of-text token to put between documents.",
            "Name one of its tokens: `tokenizer.eos_token = ...`.",
        )
    return known


def pack(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast, n_ctx: int, *, batch: int = 32
) -> Iterator[Contexts]:
    """Cut a stream of documents into contexts of ``n_ctx`` tokens, ``batch`` of them at a time (fewer at the end).

    The documents stand one after another with the tokenizer's ``end_of_text`` between them; a context may hold
    several of them, or a part of one. What is left at the end and fills no context is dropped: at most ``n_ctx - 1``
    tokens. No more is held in memory than a batch and one document. No beginning-of-text token is added.
    Raises RefractError if the tokenizer has no offsets (a "slow" one) or no end-of-text token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise RefractError(
            "This tokenizer does not tell where in the text its tokens stand.",
            "Load a fast one: `transformers.AutoTokenizer.from_pretrained(name, use_fast=True)`.",
        )
    if n_ctx < 1 or batch < 1:
        raise RefractError(
            f"Contexts of {n_ctx} tokens, {batch} at a time, cannot be cut.",
            "Pass 1 or more for both `n_ctx` and `batch`.",
        )
    return _cut(_encode(documents, tokenizer, end_of_text(tokenizer)), n_ctx, batch)


def _encode(documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast, separator: int) -> Iterator[np.ndarray]:
    """Each document as rows of token, document, start and end; a separator first if a document came before."""
    last = None
    for number, document in enumerate(documents):
        encoded = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        tokens = encoded["input_ids"]
        if not tokens:
            continue
        start, end = np.array(encoded["offset_mapping"]).T
        rows = np.stack([tokens, np.full(len(tokens), number), start, end])
        if last is not None:
            yield np.array([[separator], [last], [SEPARATOR], [SEPARATOR]])
        yield rows
        last = number


def _cut(pieces: Iterable[np.ndarray], n_ctx: int, batch: int) -> Iterator[Contexts]:
    held: list[np.ndarray] = []
    n_held, full = 0, batch * n_ctx
    for piece in pieces:
        held.append(piece)
        n_held += piece.shape[1]
        if n_held >= full:
            rows = np.concatenate(held, axis=1)
            for first in range(0, n_held - full + 1, full):
                yield _contexts(rows[:, first : first + full], n_ctx)
            held = [rows[:, n_held - n_held % full :]]
            n_held %= full
    if n_held >= n_ctx:
        yield _contexts(np.concatenate(held, axis=1)[:, : n_held - n_held % n_ctx], n_ctx)


def _contexts(rows: np.ndarray, n_ctx: int) -> Contexts:
    tokens, document, start, end = (torch.tensor(row).view(-1, n_ctx) for row in rows)
    return Contexts(tokens.long(), document.int(), start.int(), end.int())
