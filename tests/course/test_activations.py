"""Harvested activations: what is kept, that it is what the model says, and that no accident loses or repeats a row."""

import dataclasses
import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import tqdm

from refract.data import Contexts
from refract.errors import RefractError
from refract.paths import root
from refract.sae.activations import Settings, Store, bars, harvest, statistics, stream
from refract.sae.activations import files as activation_files
from refract.sae.activations.forward import run
from tests.course.activations_toy import HEADS, IDENTITY, MIDDLE, N_CTX, RESIDUAL, ROWS, bridge, gather, pieces, text


def contents(folder: Path) -> dict[str, str]:
    """Every file but the lock, by its checksum."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != ".lock"
    }


def cached(model, contexts, hook):
    """The reference: the bridge's own cache of all contexts, heads side by side, at the positions that are kept."""
    with torch.no_grad():
        _, cache = model.run_with_cache(contexts.tokens)
    return cache[hook].flatten(2)[~contexts.special]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished harvest, for reading."""
    return gather(tmp_path_factory.mktemp("whole") / "a").folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it, for damaging."""
    return Path(shutil.copytree(whole, tmp_path / "a"))


class Counting:
    """Counts what a bridge computes."""

    def __init__(self, model):
        self.contexts = self.layers = self.logits = 0
        model.blocks[0].register_forward_pre_hook(self._contexts, with_kwargs=True)
        for block in model.blocks:
            block.mlp.register_forward_pre_hook(self._layer, with_kwargs=True)
        model.unembed.register_forward_pre_hook(self._logits, with_kwargs=True)

    def _contexts(self, module, inputs, named):
        self.contexts += len(inputs[0] if inputs else named["hidden_states"])

    def _layer(self, module, inputs, named):
        self.layers += 1

    def _logits(self, module, inputs, named):
        self.logits += 1


# --- what is harvested ---------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["hook_embed", "blocks.0.hook_resid_pre", RESIDUAL, MIDDLE, "blocks.1.mlp.hook_post"])
def test_a_harvest_is_what_the_bridge_caches(tmp_path, hook):
    model, contexts = bridge(), text(21)
    store = gather(tmp_path / "a", model=model, contexts=contexts, hooks=hook)
    expected = cached(model, contexts, hook)
    assert store.rows == len(expected) == int((~contexts.special).sum())
    assert store.d_in == expected.shape[1]
    torch.testing.assert_close(store.take(range(store.rows)), expected, atol=1e-5, rtol=0)


def test_several_hooks_are_harvested_in_one_pass_with_their_rows_aligned(tmp_path):
    model, contexts = bridge(), text(21)
    counting = Counting(model)
    store = gather(tmp_path / "a", model=model, contexts=contexts, hooks=[MIDDLE, HEADS, RESIDUAL])
    assert counting.contexts == 21
    expected = torch.stack([cached(model, contexts, hook) for hook in store.hooks], dim=1)
    torch.testing.assert_close(store.take(range(store.rows)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(store.take([7, 3], HEADS), expected[[7, 3], 1], atol=1e-5, rtol=0)


def test_hooks_of_different_widths_are_taken_one_at_a_time(tmp_path):
    model, contexts = bridge(), text(21)
    store = gather(tmp_path / "a", model=model, contexts=contexts, hooks=[RESIDUAL, "blocks.0.mlp.hook_post"])
    post = store.take(range(store.rows), "blocks.0.mlp.hook_post")
    torch.testing.assert_close(post, cached(model, contexts, "blocks.0.mlp.hook_post"), atol=1e-5, rtol=0)
    for ask in (lambda: store.take([0]), lambda: store.d_in):
        with pytest.raises(RefractError, match="differ in d_in"):
            ask()


def test_float16_files_hold_the_nearest_float16(tmp_path):
    model, contexts = bridge(), text(21)
    store = gather(tmp_path / "a", model=model, contexts=contexts, hooks=RESIDUAL, dtype="float16")
    assert np.load(tmp_path / "a" / f"00000.{RESIDUAL}.npy").dtype == np.float16
    found = store.take(range(store.rows))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, cached(model, contexts, RESIDUAL), atol=1e-6, rtol=2**-11)


@pytest.mark.parametrize(
    ("hooks", "layers", "logits"),
    [(["hook_embed"], 0, 0), (["blocks.1.hook_resid_pre"], 1, 0), ([RESIDUAL, MIDDLE], 1, 0),
     (["blocks.1.hook_resid_post"], 2, 0),
     (["blocks.1.hook_resid_post", "hook_embed"], 2, 0), (["unembed.hook_in"], 2, 1)],
)  # fmt: skip
def test_the_model_computes_nothing_after_the_last_hook(hooks, layers, logits):
    model = bridge()
    counting = Counting(model)
    run(model, text(3).tokens, hooks)
    assert (counting.layers, counting.logits) == (layers, logits)
    with torch.no_grad():
        assert model(text(3).tokens).shape == (3, N_CTX, 50)  # and it works as before
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_every_row_knows_where_it_comes_from(tmp_path):
    contexts = text(21)
    store = gather(tmp_path / "a", contexts=contexts, skip_first=2)
    context, position = torch.cartesian_prod(torch.arange(21), torch.arange(N_CTX)).T.view(2, 21, N_CTX)
    keep = ~contexts.special & (position >= 2)
    expected = (*(column[keep] for column in (contexts.tokens, contexts.document, contexts.start, contexts.end)),
                position[keep], context[keep])  # fmt: skip
    assert store.rows == int(keep.sum())
    for found, column in zip(store.where(range(store.rows)), expected, strict=True):
        assert found.dtype == torch.int32
        assert torch.equal(found.long(), column.long())


@pytest.mark.parametrize("rows", [2, 85, 86, 200, ROWS - 1])
def test_as_many_rows_as_were_asked_for(tmp_path, rows):
    whole = gather(tmp_path / "whole")
    some = gather(tmp_path / "some", rows=rows)
    assert some.rows == rows < whole.rows == ROWS
    torch.testing.assert_close(some.take(range(rows)), whole.take(range(rows)), atol=1e-6, rtol=0)
    assert torch.equal(torch.stack(some.where(range(rows))), torch.stack(whole.where(range(rows))))


def test_the_model_runs_for_no_more_rows_than_were_asked_for(tmp_path):
    model = bridge()
    counting = Counting(model)
    gather(tmp_path / "a", model=model, rows=9)
    assert counting.contexts == 4  # one batch

    def endless():
        while True:
            yield text(8)

    assert harvest(bridge(), endless(), RESIDUAL, tmp_path / "b", source="", rows=300, identity=IDENTITY).rows == 300


def test_a_text_that_ends_early_is_told(tmp_path):
    with pytest.warns(UserWarning, match=f"The text ended after {ROWS} of 5,000 rows"):
        assert gather(tmp_path / "a", rows=5000).rows == ROWS


def test_the_pieces_in_which_contexts_come_make_no_difference(tmp_path):
    gather(tmp_path / "a")
    contexts, model = text(40), bridge()
    for name, size in (("b", 1), ("c", 17), ("d", 40)):
        gather(tmp_path / name, model=model, contexts=iter(pieces(contexts, size)))
        assert contents(tmp_path / name) == contents(tmp_path / "a")


def test_a_model_in_training_is_harvested_in_evaluation_mode_and_set_back(tmp_path):
    model = bridge()
    dropout = torch.nn.Dropout(0.5)
    model.blocks[0].mlp.add_module("dropout", dropout)
    model.blocks[0].mlp.register_forward_hook(lambda module, inputs, output: dropout(output))
    model.train()
    model.blocks[1].eval()
    store = gather(tmp_path / "a", model=model)
    torch.testing.assert_close(store.take([5]), gather(tmp_path / "b").take([5]), atol=1e-6, rtol=0)
    assert (model.training, dropout.training, model.blocks[1].training) == (True, True, False)


def test_the_manifest_says_what_the_folder_holds(tmp_path):
    store = gather(tmp_path / "a", rows=300, dtype="float16")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["settings"] == {
        "model": "tiny", "revision": "0123abcd", "model_dtype": "fp32", "hooks": [RESIDUAL, MIDDLE],
        "source": "random", "n_ctx": N_CTX, "skip_first": 0, "rows": 300, "batch": 4, "shard_rows": 96,
        "dtype": "float16",
    }  # fmt: skip
    assert (manifest["rows"], manifest["complete"], manifest["d_in"]) == (300, True, [16, 16])
    assert sum(shard["rows"] for shard in manifest["shards"]) == 300
    listed = {name: digest for shard in manifest["shards"] for name, digest in shard["files"].items()}
    assert listed | {"mean.npy": manifest["mean"]} == {
        name: digest for name, digest in contents(tmp_path / "a").items() if name != "manifest.json"
    }
    assert manifest["versions"][0]["torch"] == torch.__version__
    assert store.manifest.settings.shard_contexts == 8


def test_contexts_without_a_kept_position_do_no_harm(tmp_path):
    contexts = text(40)
    for column in (contexts.start, contexts.end):
        column[:9] = -1
    contexts.start[32:] = -1
    store = gather(tmp_path / "a", contexts=contexts)
    assert [shard.rows == 0 for shard in store.manifest.shards] == [True, False, False, False, True]
    torch.testing.assert_close(
        store.take(range(store.rows), RESIDUAL), cached(bridge(), contexts, RESIDUAL), atol=1e-5, rtol=0
    )


# --- mean and scale ------------------------------------------------------------------------------


def test_mean_and_scale_are_those_of_all_rows(tmp_path):
    store = gather(tmp_path / "a", dtype="float16")
    for hook in store.hooks:
        x = store.take(range(store.rows), hook).double()
        torch.testing.assert_close(store.mean[hook], x.mean(0), atol=1e-12, rtol=1e-12)
        scaled = (x - store.mean[hook]) * store.scale[hook]
        assert float(scaled.var(dim=0, correction=0).mean()) == pytest.approx(1, abs=1e-12)


def test_moments_by_hand():
    moments = statistics.Moments(2)
    for piece in ([[1, 10]], [[3, 10], [5, 16]], np.empty((0, 2))):
        moments.add(np.array(piece))
    assert moments.mean.tolist() == [3, 12]  # squares: (4 + 0 + 4) + (4 + 4 + 16) = 32, over 6 numbers
    assert moments.squares == pytest.approx(32)
    assert moments.scale == pytest.approx((6 / 32) ** 0.5)


def test_a_mean_far_from_zero_costs_no_accuracy():
    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    moments = statistics.Moments(3)
    for begin in range(0, 5000, 70):
        moments.add(x[begin : begin + 70].astype(np.float64) + 1e7)
    assert moments.scale == pytest.approx(1 / x.astype(np.float64).var(axis=0).mean() ** 0.5, rel=1e-8)


# --- interruptions -------------------------------------------------------------------------------


def test_killed_at_any_moment_and_gone_on_with_it_is_the_same_harvest(tmp_path):
    command = [sys.executable, "-m", "tests.course.activations_toy", "kill", str(tmp_path)]
    subprocess.run(command, cwd=root(), check=True)
    whole, *others = sorted(tmp_path.iterdir(), key=lambda path: path.name != "whole")
    assert len(others) == 3 * (1 + 3 * 3 + 2)  # writing, before and after renaming: each shard, and each manifest
    expected = contents(whole)
    assert len(expected) == 3 * 2 + 2
    for folder in others:
        assert contents(folder) == expected, folder.name


def test_killed_from_outside_it_holds_no_lock(tmp_path):
    folder = tmp_path / "a"
    process = subprocess.Popen([sys.executable, "-m", "tests.course.activations_toy", "wait", folder], cwd=root())
    deadline = time.monotonic() + 300
    while len(list(folder.glob("*.rows.npy"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(RefractError, match="Another process harvests into"):
        gather(folder)
    process.kill()
    process.wait()
    with pytest.raises(RefractError, match=r"not finished: it has \d+ rows so far"):
        Store.open(folder)
    model = bridge()
    counting = Counting(model)
    gather(folder, model=model)
    assert counting.contexts == 40 - 2 * 8
    Store.open(folder).verify()


def test_an_error_in_the_middle_loses_nothing(tmp_path):
    def failing():
        yield from pieces(text(40))[:5]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        gather(tmp_path / "a", contexts=failing())
    model = bridge()
    counting = Counting(model)
    gather(tmp_path / "a", model=model)
    assert counting.contexts == 16
    gather(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_finished_harvest_is_opened_without_the_model(folder):
    before, model = contents(folder), bridge()
    counting, stages = Counting(model), []
    gather(folder, model=model, on_progress=lambda *now: stages.append(now))
    assert counting.contexts == 0
    assert {stage for stage, _, _ in stages} == {"verify"}
    assert stages[-1][1] == stages[-1][2] == sum(
        path.stat().st_size for path in folder.glob("*.npy")
    )  # fmt: skip
    assert contents(folder) == before


def test_progress_is_told_in_rows(tmp_path):
    told: list[tuple[str, int, int | None]] = []
    gather(tmp_path / "a", rows=300, on_progress=lambda *now: told.append(now))
    done = [n for stage, n, total in told if stage == "harvest"]
    assert done == sorted(done)
    assert ("harvest", 300, 300) in told
    assert told[-1] == ("statistics", 600, 600)


def test_a_bar_for_each_stage_shows_how_much_is_done_and_is_closed(tmp_path, monkeypatch):
    shown = []

    class Bar(tqdm.tqdm):
        def __init__(self, **settings):
            super().__init__(**settings | {"disable": True})
            self.title, self.open, self.counted = settings["desc"], True, 0
            shown.append(self)

        def update(self, n=1):
            self.counted += n
            self.n = self.counted

        def close(self):
            self.open = False

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    gather(tmp_path / "a", on_progress=bars())
    assert [(bar.title, bar.counted, bar.open) for bar in shown] == [
        ("harvest", ROWS, False), ("statistics", 2 * ROWS, False),
    ]  # fmt: skip
    gather(tmp_path / "a", on_progress=bars())
    assert (shown[-1].title, shown[-1].open) == ("verify", False)


CHANGES: dict[str, dict] = {
    "hooks": {"hooks": [RESIDUAL]}, "source": {"source": "other"}, "skip_first": {"skip_first": 1},
    "rows": {"rows": 99},
    "batch": {"batch": 8}, "shard_rows": {"shard_rows": 48}, "dtype": {"dtype": "float16"},
    "n_ctx": {"contexts": text(48, n_ctx=10)},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_are_refused_by_name(folder, name):
    before = contents(folder)
    with pytest.raises(RefractError, match=f"begun with {name}=.*and this harvest has {name}="):
        gather(folder, **CHANGES[name])
    assert contents(folder) == before


@pytest.mark.parametrize(("name", "value"), [("name", "other"), ("revision", "4567"), ("dtype", "bf16")])
def test_another_model_is_refused_by_name(folder, name, value):
    with pytest.raises(RefractError, match=f"{value!r}"):
        gather(folder, identity=dataclasses.replace(IDENTITY, **{name: value}))


def test_another_text_is_refused(folder):
    (folder / f"00001.{MIDDLE}.npy").unlink()
    for other in (text(40, seed=1), Contexts(*(column[:24] for column in text(40)))):
        with pytest.raises(RefractError, match=r"begun with another text: the contexts of shard [03]"):
            gather(folder, contexts=other)


def test_a_model_of_another_width_is_refused(folder):
    (folder / f"00001.{MIDDLE}.npy").unlink()
    with pytest.raises(RefractError, match=r"begun with d_in \[16, 16\], and the model now gives \[24, 24\]"):
        gather(folder, model=bridge(d_model=24))


# --- damaged folders -----------------------------------------------------------------------------


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def _empty(path):
    path.write_bytes(b"")


def _another_width(path):
    np.save(path, np.load(path)[..., :-1])


def _another_dtype(path):
    np.save(path, np.load(path).astype(np.int64))


def _no_npy(path):
    path.write_bytes(b"0" * path.stat().st_size)


ACCIDENTS = {
    "cut short": _cut, "too long": _lengthen, "no header": _empty, "header of an npy": _no_npy,
    "does not belong here": _another_width, "and the manifest says": _another_dtype, "is missing": Path.unlink,
}  # fmt: skip


@pytest.mark.parametrize("what", ACCIDENTS)
@pytest.mark.parametrize("name", [f"00001.{MIDDLE}.npy", "00002.rows.npy", "mean.npy"])
def test_a_damaged_file_is_refused_by_name_and_made_again(folder, what, name):
    before = contents(folder)
    path = folder / name
    ACCIDENTS[what](path)
    with pytest.raises(RefractError, match=what) as caught:
        Store.open(folder)
    assert str(path) in caught.value.problem
    assert "call harvest again" in caught.value.remedy
    if what != "is missing":
        with pytest.raises(RefractError, match=what):
            gather(folder)
        path.unlink()  # as the remedy says
    model = bridge()
    counting = Counting(model)
    gather(folder, model=model)
    assert counting.contexts == (0 if name == "mean.npy" else 8)
    assert contents(folder) == before


@pytest.mark.parametrize("name", [f"00001.{MIDDLE}.npy", "00002.rows.npy", "mean.npy"])
def test_a_changed_byte_is_found_when_the_store_is_verified(folder, name):
    path = folder / name
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    for check in (Store.open(folder).verify, lambda: gather(folder)):
        with pytest.raises(RefractError, match=r"is damaged, or belongs to another harvest.*checksum") as caught:
            check()
        assert str(path) in caught.value.problem


def test_a_shard_of_another_hook_is_found_when_the_store_is_verified(folder):
    (folder / f"00001.{MIDDLE}.npy").write_bytes((folder / f"00001.{RESIDUAL}.npy").read_bytes())
    with pytest.raises(RefractError, match="belongs to another harvest"):
        Store.open(folder).verify()


@pytest.mark.parametrize(
    "damage",
    [lambda t: t[: len(t) // 2], lambda t: "", lambda t: "[]", lambda t: t.replace(f'"rows": {ROWS}', '"rows": 1'),
     lambda t: t.replace('"settings"', '"setting"'), lambda t: t.replace('"n_ctx"', '"n_context"')],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(folder, damage):
    path = folder / "manifest.json"
    path.write_text(damage(path.read_text()))
    for ask in (Store.open, gather):
        with pytest.raises(RefractError, match=r"manifest\.json is damaged"):
            ask(folder)


def test_folders_that_are_no_harvests_are_refused(tmp_path):
    gather(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    (tmp_path / "b").mkdir()
    (tmp_path / "c").write_text("")
    for name, message in (
        ("a", "version 2; this is"),
        ("b", "no manifest.json"),
        ("c", "not a folder"),
        ("d", "not a"),
    ):
        with pytest.raises(RefractError, match=message):
            Store.open(tmp_path / name)


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RefractError, match=r"holds something else: thesis\.tex"):
        gather(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RefractError, match="is a file"):
        gather(tmp_path / "thesis.tex")


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    (tmp_path / f"00000.{RESIDUAL}.npy.partial").write_text("half")
    gather(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_a_full_disk_is_told_and_the_harvest_goes_on_afterwards(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RefractError, match=r"The disk is full(.|\n)*Free some space, and call harvest again"):
        gather(tmp_path / "a")
    assert not list((tmp_path / "a").glob("*.partial"))
    gather(tmp_path / "a")
    gather(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_write_that_the_system_refuses_is_told(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(RefractError, match="File too large"):
            activation_files.write_array(tmp_path / "x.npy", np.zeros(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_what_cannot_fit_on_the_disk_is_not_begun(tmp_path):
    with pytest.raises(RefractError, match=r"rows take .* GB free"):
        gather(tmp_path / "a", rows=10**13)
    assert not list((tmp_path / "a").glob("*.npy"))


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hooks": "blocks.0.hook_resid_pst"},
            r"no hook 'blocks.0.hook_resid_pst'(.|\n)*Did you mean blocks.0.hook_resid_post",
        ),
        ({"hooks": "blocks.9.hook_resid_post"}, "blocks go from 0 to 1"),
        ({"hooks": []}, "at least one hook"),
        ({"hooks": [RESIDUAL, RESIDUAL]}, "each of them once"),
        ({"hooks": "blocks.0.attn.hook_pattern"}, r"gives the shape \[4, 2, 12, 12\]"),
        ({"hooks": "embed.hook_in"}, r"gives the shape \[4, 12\]"),
        ({"hooks": "blocks.0.hook_mlp_in"}, r"Cannot add hook blocks.0.hook_mlp_in(.|\n)*Do as it says"),
        ({"hooks": "blocks.0.attn.hook_hidden_states"}, "was not met"),
        ({"dtype": "bfloat16"}, "Choose one of 'float16', 'float32'"),
        ({"rows": 1}, "rows is 1"),
        ({"rows": 2.5}, "rows is 2.5"),
        ({"batch": 0}, "batch is 0"),
        ({"skip_first": -1}, "skip_first is -1"),
        ({"shard_rows": 0}, "shard_rows is 0"),
        ({"skip_first": N_CTX}, "0 rows were harvested"),
        ({"contexts": text(10, special=1.1)}, "0 rows were harvested"),
        ({"contexts": text(0)}, "no contexts"),
        ({"contexts": text(10, n_ctx=N_CTX + 1)}, "13 tokens; the model reads 12 at most"),
    ],
)
def test_bad_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(RefractError, match=message):
        gather(tmp_path / "a", **settings)


def test_contexts_of_different_lengths_are_refused(tmp_path):
    several = [text(3), text(3, n_ctx=11)]
    with pytest.raises(RefractError, match=r"\[3, 11\]; expected \[context, 12\]"):
        harvest(bridge(), several, RESIDUAL, tmp_path / "a", source="", identity=IDENTITY)
    with pytest.raises(RefractError, match="can be read only once"):
        harvest(bridge(), iter([]), RESIDUAL, tmp_path / "b", source="", identity=IDENTITY)


@pytest.mark.parametrize("token", [-1, 50])
def test_tokens_of_another_tokenizer_are_refused_with_their_context(tmp_path, token):
    contexts = text(40)
    contexts.tokens[21, 5] = token
    with pytest.raises(RefractError, match="Context 21 holds a token that is none of the model's 50"):
        gather(tmp_path / "a", contexts=contexts)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused_with_their_context(tmp_path, value):
    model, contexts = bridge(), text(40)
    contexts.tokens[contexts.tokens == 49] = 48
    contexts.tokens[21, 5], contexts.start[21, 5] = 49, 7
    with torch.no_grad():
        model.embed.weight[49] = value
    with pytest.raises(RefractError, match=r"blocks\.0\.hook_resid_post' are not finite in context 21"):
        gather(tmp_path / "a", model=model, contexts=contexts)


def test_float16_refuses_what_it_cannot_hold_and_names_the_remedy(tmp_path):
    model = bridge()
    with torch.no_grad():
        model.embed.weight.mul_(1e6)
    with pytest.raises(RefractError, match=r'float16 ends at 6\.55e\+04(.|\n)*dtype="float32"'):
        gather(tmp_path / "a", model=model, hooks="hook_embed", dtype="float16")
    assert gather(tmp_path / "b", model=model, hooks="hook_embed").rows == ROWS


def test_rows_that_are_all_alike_are_refused(tmp_path):
    model = bridge()
    with torch.no_grad():
        model.embed.weight.zero_()
    with pytest.raises(RefractError, match="All rows at 'hook_embed' are alike"):
        gather(tmp_path / "a", model=model, hooks="hook_embed")


# --- the store -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(whole):
    return Store.open(whole)


def test_rows_come_in_the_order_that_was_asked_for(store):
    shards = [[np.load(store.folder / name) for name in shard.files] for shard in store.manifest.shards]
    *hooks, _ = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*shards, strict=True))
    everything = torch.stack(hooks, dim=1)
    chosen = np.random.default_rng(0).integers(0, store.rows, 700)
    for indices in (chosen, chosen.astype(np.int32), torch.from_numpy(chosen), chosen.tolist()):
        assert torch.equal(store.take(indices), everything[chosen])
        assert torch.equal(store.take(indices, MIDDLE), everything[chosen, 1])
        assert torch.equal(store.where(indices).start, store.where(range(store.rows)).start[chosen])
    one, where = store.take([7]), store.where([7])
    store.take([8]), store.where([8])
    assert torch.equal(one, everything[[7]])
    assert where == store.where([7])  # and nothing that was taken is overwritten
    assert store.take([]).shape == (0, 2, 16)
    assert len(store) == store.rows == ROWS


def test_many_rows_are_taken_a_part_at_a_time(store, monkeypatch):
    everything = store.take(range(store.rows))
    monkeypatch.setattr("refract.sae.activations.store.AT_ONCE", 50)
    assert torch.equal(store.take(range(store.rows)), everything)


def test_rows_can_be_written_into_memory_of_ones_own(store):
    out = torch.empty(3, 16)
    assert store.take([5, 400, 5], RESIDUAL, out=out) is out
    assert torch.equal(out, store.take([5, 400, 5], RESIDUAL))
    for wrong in (torch.empty(4, 16), torch.empty(3, 16, dtype=torch.float64), torch.empty(16, 3).T):
        with pytest.raises(RefractError, match=r"contiguous float32 tensor of shape \[3, 16\]"):
            store.take([1, 2, 3], RESIDUAL, out=wrong)


@pytest.mark.parametrize("indices", [[-1], [ROWS], [0.5], [[1]], [True]])
def test_indices_that_are_none_are_refused(store, indices):
    with pytest.raises(RefractError, match=r"no row|whole numbers"):
        store.take(indices)


def test_a_store_says_what_it_does_not_hold(store):
    store.require(identity=IDENTITY, hooks=[MIDDLE], d_in=16)
    for wrong, message in (
        ({"identity": dataclasses.replace(IDENTITY, revision="4567")}, "and not of tiny 4567 fp32"),
        ({"hooks": [HEADS]}, f"It holds {RESIDUAL}, {MIDDLE}"),
        ({"d_in": 17}, "rows of length 16"),
    ):
        with pytest.raises(RefractError, match=message):
            store.require(**wrong)
    with pytest.raises(RefractError, match="holds nothing from the hook"):
        store.take([0], HEADS)


def test_a_fingerprint_tells_stores_apart(store, folder, tmp_path):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"numpy"', '"another"'))
    assert Store.open(folder).fingerprint == store.fingerprint  # a copy, noted by other software
    others: list[dict] = [{"source": "other"}, {"contexts": text(40, seed=1)}, {"model": bridge(1)}, {"rows": 99}]
    found = {gather(tmp_path / str(number), **other).fingerprint for number, other in enumerate(others)}
    assert len(found | {store.fingerprint}) == 5


def test_opening_many_shards_keeps_no_files_open(tmp_path):
    gather(tmp_path / "a", batch=1, shard_rows=1)
    descriptors = Path("/proc/self/fd")  # on Linux
    before = list(descriptors.glob("*"))
    opened = Store.open(tmp_path / "a")
    assert len(opened.manifest.shards) == 40
    assert len(list(descriptors.glob("*"))) <= len(before)
    assert opened.take(range(ROWS)).isfinite().all()


# --- straight from the model ---------------------------------------------------------------------


def test_a_stream_gives_the_rows_that_a_harvest_keeps(store):
    rows = torch.cat(list(stream(bridge(), pieces(text(40)), [RESIDUAL, MIDDLE], batch=4)))
    torch.testing.assert_close(rows, store.take(range(store.rows)), atol=1e-6, rtol=0)
    one = torch.cat(list(stream(bridge(), pieces(text(40)), MIDDLE, batch=7)))
    torch.testing.assert_close(one, store.take(range(store.rows), MIDDLE), atol=1e-6, rtol=0)


def test_settings_are_compared_one_by_one(store):
    assert isinstance(store.manifest.settings, Settings)
    store.manifest.settings.check(store.manifest.settings, store.folder)
