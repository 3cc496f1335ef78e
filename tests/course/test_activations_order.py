"""The order of a store's rows, batches in that order, the thread that fetches them, and the shuffle buffer."""

import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from refract.errors import RefractError
from refract.paths import root
from refract.sae.activations import Order, ShuffleBuffer, batches, prefetch, steps_per_epoch
from tests.course.activations_toy import MIDDLE, RESIDUAL, ROWS, gather


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return gather(tmp_path_factory.mktemp("store") / "a")


@pytest.fixture(scope="module")
def rows(store):
    return store.take(range(store.rows))


def taken(store, batch, **settings):
    return [x.clone() for x in batches(store, batch, **settings)]


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


# --- the order -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "window", "run"), [(1000, 1000, 32), (1000, 128, 32), (1003, 100, 7), (5, 64, 8), (1, 1, 1)]
)
def test_an_epoch_has_every_row_once(rows, window, run):
    order = Order(rows, 0, window, run)
    epochs = [order.part(epoch, 0, rows) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(rows))
    if rows > 5:
        assert not np.array_equal(epochs[0], epochs[1])


def test_any_part_of_any_epoch_can_be_had_in_any_order():
    whole = {epoch: Order(1003, 5, 100, 7).part(epoch, 0, 1003) for epoch in range(3)}
    order, random = Order(1003, 5, 100, 7), np.random.default_rng(0)
    for _ in range(200):
        epoch, begin = int(random.integers(3)), int(random.integers(1003))
        end = begin + int(random.integers(1004 - begin))
        assert np.array_equal(order.part(epoch, begin, end), whole[epoch][begin:end])


def test_the_order_is_a_function_of_the_seed():
    assert np.array_equal(Order(1000, 1).part(2, 0, 1000), Order(1000, 1).part(2, 0, 1000))
    assert not np.array_equal(Order(1000, 1).part(2, 0, 1000), Order(1000, 2).part(2, 0, 1000))


def test_a_window_reads_whole_runs_and_no_more_than_it_holds():
    order = Order(10_000, 0, window=1024, run=32)
    for number in range(10_000 // 1024):
        rows = np.sort(order.part(0, number * 1024, (number + 1) * 1024))
        assert 1 + np.count_nonzero(np.diff(rows) != 1) <= 1024 // 32 + 1  # one run may be cut by the end of the store


def test_a_run_is_permuted_anew_and_begins_elsewhere_in_every_epoch():
    order = Order(10_000, 0, window=320, run=32)
    firsts = {tuple(np.sort(order.part(epoch, 0, 320)) % 32) for epoch in range(20)}
    assert len(firsts) > 15


def test_a_window_as_large_as_the_store_is_a_complete_shuffle():
    """Each row is as likely at each place: a chi-squared test of 64 cells with a fixed seed."""
    places = np.concatenate([np.argsort(Order(512, seed).part(0, 0, 512)) for seed in range(400)])
    rows = np.tile(np.arange(512), 400)
    counts = np.histogram2d(rows, places, bins=8)[0]
    expected = 512 * 400 / 64
    assert ((counts - expected) ** 2 / expected).sum() < 49 + 4 * (2 * 49) ** 0.5


def test_rows_of_one_context_are_spread_as_the_docstring_says():
    n_ctx, run, window, batch, rows = 128, 32, 8192, 256, 131_072
    order = Order(rows, 0, window, run)
    met = []
    for epoch in range(2):
        for begin in range(0, rows, batch):
            _, counts = np.unique(order.part(epoch, begin, begin + batch) // n_ctx, return_counts=True)
            met.append((counts * (counts - 1)).sum() / batch)  # the others of its context that a row meets
    most = (run - 1) * (batch - 1) / (window - 1) + (n_ctx - run) * batch / rows
    assert 0.85 * most < np.mean(met) < 1.02 * most


# --- batches -------------------------------------------------------------------------------------


def test_an_epoch_of_batches_has_every_row_once_but_the_last_few(store, rows):
    assert steps_per_epoch(ROWS, 50) == 8
    found = torch.cat(taken(store, 50, seed=0, steps=8))
    assert torch.equal(found, rows[Order(ROWS, 0).part(0, 0, 400)])
    assert not torch.equal(torch.cat(taken(store, 50, seed=0, start=8, steps=8)), found)  # the next epoch


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_any_step_is_reached_without_those_before(store, ahead):
    everything = taken(store, 50, seed=3, steps=30, window=100, run=8, ahead=0)
    for start in (0, 1, 7, 8, 25):
        found = taken(store, 50, seed=3, start=start, steps=5, window=100, run=8, ahead=ahead)
        assert torch.equal(torch.stack(found), torch.stack(everything[start : start + 5]))


@pytest.mark.parametrize("world", [2, 5])
def test_several_processes_see_together_what_one_sees(store, world):
    alone = taken(store, 50, seed=1, steps=20)
    parts = [taken(store, 50, seed=1, steps=20, rank=rank, world=world) for rank in range(world)]
    for step, whole in enumerate(alone):
        assert torch.equal(torch.cat([part[step] for part in parts]), whole)


def test_two_real_processes_see_together_what_one_sees(store, tmp_path):
    code = (
        "import sys, torch; from refract.sae.activations import Store, batches\n"
        "folder, rank, result = sys.argv[1:]\n"
        "found = batches(Store.open(folder), 50, seed=1, steps=20, rank=int(rank), world=2)\n"
        "torch.save(torch.stack([x.clone() for x in found]), result)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, store.folder, str(rank), tmp_path / f"{rank}.pt"], cwd=root())
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.equal(torch.cat(parts, dim=1), torch.stack(taken(store, 50, seed=1, steps=20)))


def test_one_hook_or_all(store):
    both = taken(store, 10, seed=0, steps=3)
    assert both[0].shape == (10, 2, 16)
    for place, hook in enumerate((RESIDUAL, MIDDLE)):
        found = taken(store, 10, seed=0, steps=3, hook=hook)
        assert torch.equal(torch.stack(found), torch.stack(both)[:, :, place])


def test_a_batch_lasts_until_the_next_one_and_may_be_changed(store):
    expected = taken(store, 10, seed=0, steps=60, ahead=0)
    for ahead in (0, 1, 2):
        addresses = set()
        for x, right in zip(batches(store, 10, seed=0, steps=60, ahead=ahead), expected, strict=True):
            time.sleep(0.001)  # the thread may run ahead meanwhile
            assert torch.equal(x, right)
            addresses.add(x.data_ptr())
            x.fill_(7)
        assert len(addresses) <= (ahead + 2 if ahead else 1)  # bounded memory


def test_pinned_batches_have_memory_of_their_own(store, monkeypatch):
    """A copy to a GPU may still be under way when the next batch is asked for."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # there may be no GPU to pin it for
    pinned = list(batches(store, 10, seed=0, steps=8, pin=True))
    assert all(torch.equal(*both) for both in zip(pinned, taken(store, 10, seed=0, steps=8), strict=True))
    assert len({x.data_ptr() for x in pinned}) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": ROWS + 1}, "harvest more rows"),
        ({"batch": 0}, "A batch of 0"),
        ({"batch": 9, "world": 2}, "multiple of their number"),
        ({"rank": 1}, "numbered from 0"),
        ({"start": -1}, "start=-1"),
        ({"ahead": -1}, "ahead=-1"),
        ({"window": 0}, "window=0"),
        ({"hook": "blocks.7.hook_resid_post"}, "holds nothing from the hook"),
    ],
)
def test_bad_settings_are_refused_before_the_first_batch(store, settings, message):
    with pytest.raises(RefractError, match=message):
        batches(store, **{"batch": 10, "seed": 0, **settings})


def test_fetching_is_quick(tmp_path):
    """Well under 10 ms for 2,048 rows of length 576, on one thread, out of several shards in the page cache."""
    from tests.course.activations_toy import bridge, text

    store = gather(
        tmp_path / "a", model=bridge(d_model=576, d_head=288, d_mlp=8), contexts=text(2000), hooks="hook_embed",
        batch=250, shard_rows=6000, dtype="float16",
    )  # fmt: skip
    assert len(store.manifest.shards) == 8 // 2
    out, spent = torch.empty(2048, 576), []
    for step in range(30):
        index = Order(store.rows, 0).part(step // 10, step % 10 * 2048, (step % 10 + 1) * 2048)
        begin = time.thread_time()
        store.take(index, out=out)
        spent.append(time.thread_time() - begin)
    assert sorted(spent)[15] < 0.010


# --- the thread ----------------------------------------------------------------------------------


def test_a_few_items_are_ready_in_advance_and_no_more():
    made = []

    def source():
        for number in range(20):
            made.append(number)
            yield number

    items = prefetch(source(), ahead=3)
    assert next(items) == 0
    deadline = time.monotonic() + 60
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(made) == 1 + 3 + 1  # taken, ready, and waiting for a place
    assert list(items) == list(range(1, 20))
    assert threads() == 0


def test_an_exception_comes_after_the_items_before_it():
    def source():
        yield from range(3)
        raise OSError("the disk is gone")

    items, found = prefetch(source(), ahead=2), []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in items:
            found.append(item)
    assert found == [0, 1, 2]
    assert threads() == 0


@pytest.mark.parametrize("how", ["closed", "forgotten", "failed", "never begun"])
def test_the_thread_ends_with_its_consumer(store, how):
    before = threads()
    items = batches(store, 10, seed=0)
    if how != "never begun":
        next(items)
        assert threads() == before + 1
    if how == "closed":
        items.close()
    elif how == "failed":
        with pytest.raises(ZeroDivisionError):
            for _ in items:
                1 / 0  # noqa: B018
    del items
    assert threads() == before


@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", 130), ("1 / 0", 1)])
def test_a_program_ends_although_batches_are_left(store, end, code):
    program = (
        "import sys; from refract.sae.activations import Store, batches\n"
        f"items = batches(Store.open(sys.argv[1]), 10, seed=0)\nnext(items)\n{end}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, store.folder], cwd=root(), check=False, capture_output=True, timeout=120
    )
    assert done.returncode in (code, -2), done.stderr
    assert b"Fatal" not in done.stderr


def test_a_program_ends_while_the_thread_is_inside_pytorch():
    program = (
        "import torch; from refract.sae.activations import prefetch\n"
        "x = torch.randn(300, 300); items = prefetch((x @ x for _ in iter(int, 1)), 10_000)\nnext(items)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root(), check=False, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


# --- the shuffle buffer --------------------------------------------------------------------------


def numbered(count: int, piece: int) -> list[torch.Tensor]:
    return list(torch.arange(count, dtype=torch.float32).view(-1, 1).repeat(1, 3).split(piece))


@pytest.mark.parametrize(
    ("count", "piece", "rows", "batch"),
    [
        (1000, 7, 100, 10), (1000, 999, 64, 32), (95, 10, 100, 10), (100, 100, 100, 50), (1003, 50, 90, 44),
        (3, 1, 100, 10),
    ],
)  # fmt: skip
def test_every_row_comes_out_once(count, piece, rows, batch):
    found = list(ShuffleBuffer(rows, seed=0).batches(numbered(count, piece), batch))
    assert [len(x) for x in found[:-1]] == [batch] * (len(found) - 1)
    assert sorted(torch.cat(found)[:, 1].tolist()) == list(range(count))
    whole = list(ShuffleBuffer(rows, seed=0).batches(numbered(count, piece), batch, drop_last=True))
    assert len(whole) == count // batch
    assert all(torch.equal(a, b) for a, b in zip(whole, found, strict=False))


def test_the_order_depends_on_the_seed_and_not_on_the_pieces():
    def found(piece, seed):
        return torch.cat(list(ShuffleBuffer(100, seed=seed).batches(iter(numbered(1000, piece)), 10)))

    assert torch.equal(found(7, 0), found(450, 0))
    assert not torch.equal(found(7, 0), found(7, 1))


def test_no_more_is_read_than_fits():
    read = []

    def source():
        for number in itertools.count():
            read.append(number)
            yield torch.full((10, 2), float(number))

    mixed = ShuffleBuffer(100, seed=0).batches(source(), 10)
    assert next(mixed).shape == (10, 2)
    assert len(read) == 10
    next(mixed)
    assert len(read) == 11


def test_a_row_waits_as_long_as_the_docstring_says():
    rows, batch = 400, 20
    found = torch.cat(list(ShuffleBuffer(rows, seed=0).batches(numbered(40_000, 100), batch)))[:, 0].long()
    out = torch.empty(40_000, dtype=torch.long)
    out[found] = torch.arange(40_000) // batch  # the step at which each row comes out
    entered = (torch.arange(40_000) - rows) // batch  # and after which it went in
    waited = (out - entered)[rows : -4 * rows].float()
    assert float(waited.mean()) == pytest.approx(rows / batch, rel=0.03)  # geometric, from 1
    assert float((waited > 20).float().mean()) == pytest.approx((1 - batch / rows) ** 20, abs=0.02)


def test_a_batch_is_not_changed_afterwards_and_keeps_its_type():
    source = [x.half() for x in numbered(200, 30)]
    found = list(ShuffleBuffer(40, seed=0).batches(source, 8))
    assert found[0].dtype == torch.float16
    assert sorted(torch.cat(found)[:, 0].tolist()) == list(range(200))
    assert torch.cat(source)[:, 0].tolist() == list(range(200))


def test_rows_of_several_hooks_stay_together():
    source = torch.arange(60.0).view(60, 1, 1).expand(60, 2, 4) + torch.tensor([0.0, 0.5]).view(1, 2, 1)
    for x in ShuffleBuffer(20, seed=0).batches(source.split(9), 5):
        assert torch.equal(x[:, 1], x[:, 0] + 0.5)


def test_a_shuffle_buffer_refuses_what_it_cannot_mix():
    for make, message in (
        (lambda: ShuffleBuffer(0, seed=0), "0 rows"),
        (lambda: ShuffleBuffer(19, seed=0).batches([], 10), "twice as large as a batch"),
        (lambda: list(ShuffleBuffer(20, seed=0).batches([], 10)), "can be read only once"),
        (lambda: list(ShuffleBuffer(20, seed=0).batches([torch.ones(5, 2), torch.ones(5, 3)], 10)), "rows of one kind"),
    ):
        with pytest.raises(RefractError, match=message):
            make()
