"""The contexts in which a latent fires most: the right ones, whole, from one document, as readable text."""

import pytest
import tokenizers
import torch
from transformers import PreTrainedTokenizerFast

from refract.data import Contexts, Document, pack
from refract.errors import RefractError
from refract.sae.examples import decoded, top_contexts
from refract.sae.relu import ReLU
from refract.sae.topk import TopK
from tests.course.activations_toy import HEADS, MIDDLE, N_CTX, RESIDUAL, bridge, pieces, text

pytestmark = pytest.mark.usefixtures("one_thread")

D = 16
CONTEXTS = text(60)


@pytest.fixture(scope="module")
def model():
    return bridge()


def random_coder(d=D, n_latents=40):
    return TopK(d, n_latents, k=3, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def latents_of(coder, model, contexts, hook=RESIDUAL):
    """Zero on separators, where the coder is not asked."""
    found = coder.encode(model.run_with_cache(contexts.tokens)[1][hook].flatten(2).flatten(0, 1))
    return found.view(*contexts.tokens.shape, -1) * ~contexts.special[..., None]


def in_full(latents, latent, n):
    """From all activations at once: the contexts with the largest peaks."""
    peak, position = latents[..., latent].max(dim=1)
    order = sorted(range(len(peak)), key=lambda context: (-peak[context].item(), context))
    return [
        (context, int(position[context]), pytest.approx(peak[context].item(), rel=1e-5))
        for context in order
        if peak[context] > 0
    ][:n]


@pytest.mark.parametrize(("size", "batch"), [(60, 60), (7, 8), (1, 3)])
def test_they_are_the_largest_of_all(size, batch, model):
    coder = random_coder()
    expected = latents_of(coder, model, CONTEXTS)
    firing = (expected.amax(dim=1) > 0).sum(dim=0)
    assert firing.min() < 4 < firing.max(), "some latents fire in fewer contexts than are asked for, others in more"
    found = top_contexts(coder, model, RESIDUAL, pieces(CONTEXTS, size), range(40), n=4, batch=batch)
    assert list(found) == list(range(40))
    for latent, examples in found.items():
        assert [(one.context, one.position, one.activation) for one in examples] == in_full(expected, latent, 4)
        assert all(one.latent == latent for one in examples)


@pytest.mark.parametrize("batch", [1, 12])
def test_of_equal_activations_the_earlier_come_first(batch, model):
    """The same context twelve times over."""
    same = Contexts(*(column[:1].expand(12, -1) for column in text(1, special=0)))
    latents = latents_of(random_coder(), model, same)[0].amax(dim=0).topk(3).indices.tolist()
    found = top_contexts(random_coder(), model, RESIDUAL, pieces(same), latents, n=4, batch=batch)
    assert [[one.context for one in examples] for examples in found.values()] == [[0, 1, 2, 3]] * 3


def test_what_stands_around_is_from_the_same_document(model):
    coder = random_coder()
    expected = latents_of(coder, model, CONTEXTS)
    cut_short = 0
    for latent, examples in top_contexts(coder, model, RESIDUAL, [CONTEXTS], range(40), n=5, around=3).items():
        for one in examples:
            row = CONTEXTS.tokens[one.context]
            begin = one.position - one.marked
            end = begin + len(one.tokens)
            assert one.tokens == row[begin:end].tolist()
            assert 0 not in one.tokens, "a separator"
            assert begin == max(0, one.position - 3) or row[begin - 1] == 0
            assert end == min(N_CTX, one.position + 4) or row[end] == 0
            cut_short += len(one.tokens) < 7
            assert one.activations == pytest.approx(expected[one.context, begin:end, latent].tolist(), rel=1e-5)
            assert one.activations[one.marked] == one.activation == max(one.activations)
            place = (one.context, one.position)
            assert one.document == CONTEXTS.document[place]
            assert (one.start, one.end) == (CONTEXTS.start[place], CONTEXTS.end[place])
            assert one.pieces == [f"⟨{token}⟩" for token in one.tokens], "without a tokenizer, numbers"
    assert cut_short


def test_documents_that_meet_without_a_separator_are_kept_apart(model):
    """Positions 0 to 5 are of document 0, the others of document 1."""
    contexts = text(5, special=0)
    document = (torch.arange(N_CTX) > 5).int().expand(5, -1)
    found = top_contexts(random_coder(), model, RESIDUAL, [contexts._replace(document=document)], range(40), n=5)
    examples = [one for some in found.values() for one in some]
    assert {one.document for one in examples} == {0, 1}
    assert all(len(one.tokens) == 6 for one in examples)


def test_separators_and_first_positions_are_no_examples(model):
    coder = random_coder()
    with torch.no_grad():
        coder.b_enc += 100  # so that every latent may fire anywhere
    found = top_contexts(coder, model, RESIDUAL, [CONTEXTS], range(40), n=60, skip_first=2)
    examples = [one for some in found.values() for one in some]
    assert min(one.position for one in examples) == 2
    assert all(one.start != -1 for one in examples)


def test_several_hooks_and_heads(model):
    coder = random_coder(2 * D)
    with torch.no_grad():
        cache = model.run_with_cache(CONTEXTS.tokens)[1]
        x = torch.cat([cache[HEADS].flatten(2), cache[MIDDLE]], dim=-1)
        expected = coder.encode(x.flatten(0, 1)).view(60, N_CTX, -1) * ~CONTEXTS.special[..., None]
    found = top_contexts(coder, model, [HEADS, MIDDLE], [CONTEXTS], [3, 1], n=4)
    assert list(found) == [3, 1]
    for latent, examples in found.items():
        assert [(one.context, one.position, one.activation) for one in examples] == in_full(expected, latent, 4)


def test_memory_is_bounded(model):
    """Of each group nothing is kept but its examples: not the tensors that they were cut from."""
    from refract.sae.examples import _Largest

    largest = _Largest(3, n=2, around=1)
    for seed in range(20):
        group = text(10, seed=seed)
        largest.add(torch.rand(10, N_CTX, 3) * ~group.special[..., None], group)
    for heap in largest.heaps:
        assert len(heap) == 2
        for _, _, cut in heap:
            assert len(cut["tokens"]) == len(cut["activations"]) <= 3
            assert not any(isinstance(value, torch.Tensor) for value in cut.values())


def test_progress_is_told_in_tokens(model):
    heard = []
    groups = pieces(CONTEXTS)
    top_contexts(random_coder(), model, RESIDUAL, groups, [0], batch=32, on_progress=lambda *a: heard.append(a))
    assert heard == [("top contexts", 384, 720), ("top contexts", 720, 720)]
    heard.clear()
    top_contexts(random_coder(), model, RESIDUAL, iter(groups), [0], batch=32, on_progress=lambda *a: heard.append(a))
    assert heard == [("top contexts", 384, None), ("top contexts", 720, None), ("top contexts", 720, 720)]


def test_what_does_not_fit_is_refused(model):
    coder = random_coder()
    for latents, n, around in (([0, 40], 1, 0), ([-1], 1, 0), ([0], 0, 0), ([0], 1, -1)):
        with pytest.raises(RefractError, match="latents 0 to 39"):
            top_contexts(coder, model, RESIDUAL, [CONTEXTS], latents, n=n, around=around)
    with pytest.raises(RefractError, match="give 32 dimensions; the coder has d_in = 16"):
        top_contexts(coder, model, [RESIDUAL, MIDDLE], [CONTEXTS], [0])
    with pytest.raises(RefractError, match="no hook"):
        top_contexts(coder, model, "nowhere", [CONTEXTS], [0])
    assert top_contexts(coder, model, RESIDUAL, [], [2]) == {2: []}
    assert top_contexts(coder, model, RESIDUAL, [CONTEXTS], []) == {}


# --- text --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE that knows one pair of letters: every other byte is a token of its own."""
    vocabulary = {letter: number for number, letter in enumerate(["<|endoftext|>", *sorted(_bytes())])}
    vocabulary["th"] = len(vocabulary)
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("t", "h")]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")


def _bytes():
    return tokenizers.pre_tokenizers.ByteLevel.alphabet()


def test_a_character_of_several_tokens_stands_at_the_last(tokenizer):
    """é has two bytes, € three."""
    tokens = tokenizer.encode("thé €.", add_special_tokens=False)
    assert decoded(tokens, tokenizer) == ["th", "", "é", " ", "", "", "€", "."]
    assert decoded(tokens[:2], tokenizer) == ["th", "\N{REPLACEMENT CHARACTER}"]
    assert "".join(decoded(tokens[2:], tokenizer)) == tokenizer.decode(tokens[2:])
    assert decoded([], tokenizer) == []


def test_examples_are_the_text_of_their_documents(tokenizer):
    """A latent that reads the embedding of "x" alone: it fires on every x and nowhere else."""
    texts = ["the fox €", "no such letter here, in all of this", "exit: näxt"]
    documents = [Document("d", str(number), each) for number, each in enumerate(texts)]
    contexts = list(pack(documents, tokenizer, N_CTX, batch=2))
    model = bridge(d_vocab=len(tokenizer))
    model.tokenizer = tokenizer
    coder = ReLU(D, 1)
    embedding = model.embed.W_E[tokenizer.convert_tokens_to_ids("x")].detach()
    with torch.no_grad():
        coder.W_enc.copy_(embedding[None] / embedding.square().sum())
        coder.b_enc.fill_(-0.999)
    found = top_contexts(coder, model, "hook_embed", contexts, [0], n=9)[0]
    assert len({one.context for one in found}) == len(found) == 2
    for one in found:
        document = texts[one.document]
        assert document[one.start : one.end] == one.pieces[one.marked] == "x"
        assert "".join(one.pieces).strip("\N{REPLACEMENT CHARACTER}") in document
        assert one.text("«", "»").count("«x»") == 1
