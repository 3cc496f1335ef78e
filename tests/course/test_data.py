"""The corpus, datasets of the hub's format, and contexts that know where in the text each token stands."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import lzma
import os
import re
import subprocess
import sys
import tracemalloc
import types

import datasets
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from refract import data
from refract.data import Document
from refract.errors import RefractError
from refract.paths import root

STRANGE = "the naïve café — “日本語”, 👩‍🚀 and\u00a0Ελλάδα\n\n\t  the\u200bend é"


@pytest.fixture(scope="module")
def texts():
    """The first document of each domain."""
    found: dict[str, str] = {}
    for document in data.corpus("train"):
        found.setdefault(document.domain, document.text[:20_000])
    return found


@pytest.fixture(scope="module")
def tokenizer(texts):
    """Byte-level BPE with few merges, so that rare characters are split."""
    return byte_level(vocab=600, texts=texts.values())


def byte_level(vocab=257, texts=(), end="<|endoftext|>"):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab, special_tokens=[end], initial_alphabet=alphabet, show_progress=False, min_frequency=1
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end)


def documents(*texts):
    return [Document("test", str(number), text) for number, text in enumerate(texts)]


def joined(batches):
    """All the contexts of a stream as one."""
    return data.Contexts(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


# --- the corpus --------------------------------------------------------------------------------------------


def test_the_corpus_is_the_one_that_its_readme_describes():
    folder = root() / "assets" / "corpus"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    plain = lzma.decompress((folder / "corpus.jsonl.xz").read_bytes())
    assert hashlib.sha256(plain).hexdigest() in readme
    counted = collections.Counter(document.domain for document in data.corpus())
    sizes: collections.Counter[str] = collections.Counter()
    for document in data.corpus():
        sizes[document.domain] += len(document.text.encode())
    assert set(counted) == set(data.DOMAINS)
    for domain, n_documents in counted.items():
        assert re.search(rf"^\| {domain} \| {n_documents:,} \| {sizes[domain] / 1e6:.1f} \|", readme, re.MULTILINE)


def test_train_and_held_out_are_the_whole_and_share_nothing():
    whole, train, held_out = list(data.corpus()), list(data.corpus("train")), list(data.corpus("held-out"))
    assert {document.text for document in train}.isdisjoint(document.text for document in held_out)
    assert len(train) + len(held_out) == len(whole) == 2198
    assert [document for document in whole if not data.held_out(document.text)] == train  # in the file's order


def test_a_twentieth_of_every_domain_is_held_out():
    n_documents: collections.Counter = collections.Counter()
    n_characters: collections.Counter = collections.Counter()
    for split in ("all", "held-out"):
        for document in data.corpus(split):
            n_documents[document.domain, split] += 1
            n_characters[document.domain, split] += len(document.text)
    for counted in (n_documents, n_characters):
        for domain in data.DOMAINS:
            assert 0.04 < counted[domain, "held-out"] / counted[domain, "all"] < 0.06


def test_the_split_is_a_fair_coin_of_the_text_alone():
    assert data.held_out("as") == data.held_out("a" + "s")
    sides = [data.held_out(f"text number {number}") for number in range(20_000)]
    assert abs(sum(sides) - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5


def test_domains_are_picked():
    assert {document.domain for document in data.corpus(domains=["novels", "scripture"])} == {"novels", "scripture"}
    assert {document.domain for document in data.corpus(domains="novels")} == {"novels"}
    assert list(data.corpus(domains=[])) == []


@pytest.mark.parametrize(("arguments", "said"), [({"split": "test"}, "held-out"), ({"domains": ["poems"]}, "novels")])
def test_an_unknown_part_of_the_corpus_is_told_at_the_call(arguments, said):
    with pytest.raises(RefractError, match=said):
        data.corpus(**arguments)


@pytest.fixture
def small_corpus(tmp_path, monkeypatch):
    """A course that has only a corpus: two exact copies in different domains among its texts."""
    folder = tmp_path / "assets" / "corpus"
    folder.mkdir(parents=True)
    rows = [{"domain": data.DOMAINS[i % 4], "title": str(i), "text": f"text {i % 150}"} for i in range(300)]
    packed = lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (folder / "corpus.jsonl.xz").write_bytes(packed)
    (folder / "corpus.jsonl.xz.sha256").write_text(hashlib.sha256(packed).hexdigest() + "  corpus.jsonl.xz\n")
    monkeypatch.setenv("REFRACT_ROOT", str(tmp_path))
    return folder


def test_exact_copies_stay_on_one_side(small_corpus):
    train = collections.Counter(document.text for document in data.corpus("train"))
    held_out = collections.Counter(document.text for document in data.corpus("held-out"))
    assert set(train.values()) == set(held_out.values()) == {2}


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "no checksum", "empty checksum"])
def test_a_damaged_corpus_is_told_before_the_first_document(small_corpus, damage):
    file, checksum = small_corpus / "corpus.jsonl.xz", small_corpus / "corpus.jsonl.xz.sha256"
    content = file.read_bytes()
    if damage == "flipped":
        file.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    elif damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "missing":
        file.unlink()
    elif damage == "no checksum":
        checksum.unlink()
    else:
        checksum.write_text("")
    with pytest.raises(RefractError, match="git checkout -- assets/corpus"):
        data.corpus()


# --- contexts ----------------------------------------------------------------------------------------------


def test_contexts_by_hand():
    tokenizer = byte_level()  # one token a byte
    a, b, c, d, e, end = tokenizer.convert_tokens_to_ids([*"abcde", "<|endoftext|>"])
    (contexts,) = data.pack(documents("abc", "", "de", "a"), tokenizer, 4)
    assert contexts.tokens.tolist() == [[a, b, c, end], [d, e, end, a]]
    assert contexts.document.tolist() == [[0, 0, 0, 0], [2, 2, 2, 3]]
    assert contexts.start.tolist() == [[0, 1, 2, -1], [0, 1, -1, 0]]
    assert contexts.end.tolist() == [[1, 2, 3, -1], [1, 2, -1, 1]]
    assert contexts.special.tolist() == [[False, False, False, True], [False, False, True, False]]
    assert [part.dtype for part in contexts] == [torch.int64, torch.int32, torch.int32, torch.int32]


def test_what_fills_no_context_is_dropped():
    tokenizer = byte_level()
    assert joined(data.pack(documents("abcdefg"), tokenizer, 3)).end.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert list(data.pack(documents("ab"), tokenizer, 3)) == []
    assert list(data.pack([], tokenizer, 3)) == []


@pytest.mark.parametrize("n_ctx", [1, 7, 64])
def test_the_batch_decides_nothing_but_the_batch(tokenizer, texts, n_ctx):
    stream = documents(*(text[:3000] for text in texts.values()), STRANGE)
    whole = joined(data.pack(stream, tokenizer, n_ctx, batch=10_000))
    for batch in (1, 3, 32):
        batches = list(data.pack(iter(stream), tokenizer, n_ctx, batch=batch))
        assert {len(contexts.tokens) for contexts in batches[:-1]} == {batch}
        assert 1 <= len(batches[-1].tokens) <= batch
        assert all(torch.equal(one, other) for one, other in zip(joined(batches), whole, strict=True))


def spelled(tokenizer, token):
    """The bytes of a token, from its name in the vocabulary: byte-level BPE writes each byte as one character."""
    return bytes(BYTES[character] for character in tokenizer.convert_ids_to_tokens(token))


def _bytes_of_characters():
    """GPT-2's table: printable bytes stand for themselves, the others for characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTES = _bytes_of_characters()


def test_places_give_back_the_text_of_every_token(tokenizer, texts):
    stream = documents(*texts.values(), STRANGE, "ﷺ" * 40)
    n_split = 0
    contexts = joined(data.pack(stream, tokenizer, 1))
    for token, document, start, end in torch.cat(contexts, dim=1).tolist():
        if start == -1:
            assert (token, end) == (tokenizer.eos_token_id, -1)
            continue
        text = stream[document].text[start:end].encode()
        assert spelled(tokenizer, token) in text
        if spelled(tokenizer, token) != text:  # a part of a character
            assert any(byte >= 0x80 for byte in spelled(tokenizer, token))
            n_split += 1
    assert n_split > 100  # so that split characters were among them


def test_nothing_of_the_text_is_passed_over(tokenizer, texts):
    stream = documents(*texts.values(), STRANGE)
    contexts = joined(data.pack(stream, tokenizer, 1))
    for number, document in enumerate(stream):
        here = (contexts.document[:, 0] == number) & ~contexts.special[:, 0]
        start, end = contexts.start[here, 0], contexts.end[here, 0]
        assert start[0] == 0 and end[-1] == len(document.text)
        same_character = (start[1:] < end[:-1]) & (end[:-1] - start[1:] == 1)
        assert bool(((start[1:] == end[:-1]) | same_character).all())
        spelt = b"".join(spelled(tokenizer, token) for token in contexts.tokens[here, 0].tolist())
        assert spelt.decode() == document.text


def test_the_end_of_text_spelled_out_is_no_separator(tokenizer):
    (contexts,) = data.pack(documents("a<|endoftext|>a"), tokenizer, 3)
    assert contexts.tokens[0, 1] == tokenizer.eos_token_id
    assert contexts.start.tolist() == [[0, 1, 14]]
    assert not contexts.special.any()


def test_no_token_is_put_before_the_text():
    tokenizer = byte_level()
    a, b, c, end = tokenizer.convert_tokens_to_ids([*"abc", "<|endoftext|>"])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", end)]
    )
    assert tokenizer("ab")["input_ids"] == [end, a, b]
    (contexts,) = data.pack(documents("ab", "c"), tokenizer, 4)
    assert contexts.tokens.tolist() == [[a, b, end, c]]


def test_a_long_stream_is_read_no_further_than_needed(tokenizer):
    read = 0

    def endless():
        nonlocal read
        for number in itertools.count():
            read += 1
            yield Document("test", str(number), "the word of the Lord came unto " * 10)

    a_document = len(tokenizer(documents("the word of the Lord came unto " * 10)[0].text)["input_ids"]) + 1
    n_ctx, batch = 16, 4
    for n_batches, contexts in enumerate(itertools.islice(data.pack(endless(), tokenizer, n_ctx, batch=batch), 500), 1):
        assert contexts.tokens.shape == (batch, n_ctx)
        assert read * a_document < n_batches * n_ctx * batch + 2 * a_document


def test_memory_does_not_grow_with_the_stream(tokenizer):
    def peak(n_documents):
        stream = (Document("test", "", f"{number} is the number of this one. " * 50) for number in range(n_documents))
        tracemalloc.start()
        for _ in data.pack(stream, tokenizer, 32, batch=8):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(5)
    short, long = peak(10), peak(100)
    assert long < 1.3 * short


def test_separators_of_models_that_were_tuned_to_chat():
    tokenizer = byte_level(vocab=300)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    assert data.end_of_text(tokenizer) == tokenizer.convert_tokens_to_ids("<|endoftext|>") != tokenizer.eos_token_id
    other = byte_level(end="</s>")
    assert data.end_of_text(other) == other.eos_token_id


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer": types.SimpleNamespace(is_fast=False)}, "use_fast=True"),
        ({"tokenizer": PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))}, "tokenizer.eos_token ="),
        ({"n_ctx": 0}, "n_ctx"),
        ({"batch": 0}, "batch"),
    ],
)
def test_what_cannot_be_packed_is_told_at_the_call(tokenizer, change, said):
    with pytest.raises(RefractError, match=said):
        data.pack(**{"documents": documents("abc"), "tokenizer": tokenizer, "n_ctx": 4} | change)


# --- datasets of the hub's format --------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    """The library keeps its files in a folder of the test's own, and looks for nothing in the network."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


ROWS = [{"text": f"row {number}", "body": f"body {number}", "likes": number} for number in range(50)]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_local_folder_is_a_dataset(tmp_path, offline, kind):
    if kind == "jsonl":
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    else:
        datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    found = list(data.hub(str(tmp_path)))
    assert [document.text for document in found] == [row["text"] for row in ROWS]
    assert found[3] == Document(str(tmp_path), "train 3", "row 3")
    assert next(data.hub(str(tmp_path), text_field="body")).text == "body 0"


def test_splits_are_found_by_name(tmp_path, offline):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": split}) + "\n")
    assert [document.text for document in data.hub(str(tmp_path), split="test")] == ["test"]
    with pytest.raises(RefractError, match="train"):
        data.hub(str(tmp_path), split="validation")


def test_rows_without_text_are_left_out_and_counted(tmp_path, offline):
    rows = [{"text": None}, {"text": "one"}, {"text": ""}, {"text": "three"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(document.title, document.text) for document in data.hub(str(tmp_path))] == [
        ("train 1", "one"),
        ("train 3", "three"),
    ]


def test_a_dataset_is_streamed(tmp_path, offline):
    """What is damaged further on is met only there; what came before it has come."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "b.jsonl").write_text('{"text": "not the')
    stream = data.hub(str(tmp_path))
    assert next(stream).text == "row 0"
    with pytest.raises(RefractError, match="cannot be re"):
        list(stream)


@pytest.mark.parametrize("field", ["txt", "likes"])
def test_a_field_that_holds_no_text_is_told_with_those_that_do(tmp_path, offline, field):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(RefractError, match="'text', 'body'"):
        data.hub(str(tmp_path), text_field=field)


def test_no_such_dataset(tmp_path, offline):
    for name in (tmp_path / "nowhere", tmp_path):  # no folder, and a folder without data
        with pytest.raises(RefractError, match="There is no dataset"):
            data.hub(str(name))


def test_no_such_dataset_on_the_hub(monkeypatch):
    def absent(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr(datasets, "load_dataset", absent)
    with pytest.raises(RefractError, match="There is no dataset 'a/b'"):
        data.hub("a/b")


def test_no_network():
    """A process of its own: the library reads the switch when it is imported."""
    code = "from refract import data\ntry: data.hub('roneneldan/TinyStories')\nexcept data.RefractError as e: print(e)"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root(), env=environment, capture_output=True, text=True, check=True
    )
    assert "cannot be reached" in done.stdout and "Check the network" in done.stdout


def test_a_network_that_fails_in_the_middle(monkeypatch):
    def rows():
        yield from ROWS[:2]
        raise ConnectionError("the line is dead\nand more")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    stream = data.hub("a/b", config="small")
    assert [next(stream).text, next(stream).text] == ["row 0", "row 1"]
    with pytest.raises(
        RefractError, match=re.escape("'a/b' (small), split 'train', cannot be reached: the line is dead")
    ):
        next(stream)


def test_the_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RefractError, match="pip install datasets"):
        data.hub("a/b")


def test_an_error_of_the_caller_is_left_alone(tmp_path, offline):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with pytest.raises(ValueError, match="mine"):
        for _ in data.hub(str(tmp_path)):
            raise ValueError("mine")
