"""The benchmark of trainers: what it measures, and the tables; of the libraries only ours runs here."""

import argparse
import importlib.util
import json
import math
import sys

import numpy as np
import pytest
import torch

from benchmarks import sae_training
from benchmarks.sae_libraries import data, environments, tables
from refract.sae.activations import own

SIZE = (64, 32)


@pytest.fixture(scope="module")
def common():
    """The runners' shared module; they import it from their own folder, in environments without this course."""
    spec = importlib.util.spec_from_file_location("benchmark_common", environments.HERE / "common.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return data.made(tmp_path_factory.mktemp("rows"), 2000, 16)


def job(rows, **settings):
    """The JSON of a small run."""
    base = {"train": str(rows[0]), "held_out": str(rows[1]), "latents": 64, "k": 4, "batch": 32, "steps": 12}
    return base | settings


def test_rows_of_a_store_are_centred_and_scaled_and_split(tmp_path):
    x = 3 * torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0)) + 7
    store = own.write(tmp_path / "store", {"hook": x})
    train, held_out = data.from_store(tmp_path / "store", None, tmp_path, 3000)
    normal = ((x.numpy() - store.mean["hook"].numpy()) * store.scale["hook"]).astype(np.float16)
    assert np.array_equal(np.load(held_out), normal[-data.HELD_OUT :])
    found = np.load(train)
    assert found.shape == (3000, 5)
    assert set(map(bytes, found)) <= set(map(bytes, normal[: -data.HELD_OUT]))
    assert np.load(held_out).astype(np.float64).std() == pytest.approx(1, abs=0.01)


# --- the runners' shared part ---------------------------------------------------------------------


def test_made_rows_are_centred_and_scaled(rows):
    x = np.load(rows[0]).astype(np.float64)
    assert x.shape == (2000, 16)
    assert abs(x.mean()) < 0.02
    assert x.std() == pytest.approx(1, abs=0.02)
    assert np.load(rows[1]).shape == (500, 16)


def test_score_by_hand(common):
    x = np.array([[2, 0], [0, 4]], np.float32)  # around their mean (1, 2): 2 · (1 + 4) = 10
    latents = torch.tensor([[1.0, 0, 0, 2], [0, 0, 0, 3]])

    def reconstruct(_):
        return torch.tensor([[2.0, 1], [0, 3]]), latents  # off by 1 twice

    found = common.score(x, reconstruct)
    assert found == {"fve": pytest.approx(0.8), "l0": 1.5, "dead": 0.5}


def test_score_does_not_depend_on_the_pieces(common, monkeypatch, rows):
    x = np.load(rows[1]).astype(np.float32)
    whole = common.score(x, lambda part: (part / 2, part > 2))
    monkeypatch.setattr(common, "SCORED_AT_ONCE", 37)
    assert common.score(x, lambda part: (part / 2, part > 2)) == pytest.approx(whole)


def test_batches_are_the_same_for_everyone_and_cover_an_epoch(common, rows):
    first, second = (common.Feed(common.Job(**job(rows, steps=62))) for _ in range(2))
    batches = [next(first) for _ in range(62)]
    assert torch.equal(torch.stack(batches), torch.stack([next(second) for _ in range(62)]))
    seen = torch.cat(batches).numpy()
    assert len(np.unique(seen, axis=0)) == len(np.unique(np.load(rows[0]).astype(np.float32), axis=0)) - 2000 % 32
    with pytest.raises(common.Finished):
        next(first)


def test_every_epoch_and_every_seed_has_an_order_of_its_own(common, rows):
    first, other = (common.Feed(common.Job(**job(rows, steps=200, seed=seed))) for seed in (0, 1))
    batches = [next(first) for _ in range(63)]
    orders = [torch.from_numpy(np.load(rows[0])[:32]).float(), batches[0], batches[62], next(other)]
    assert not any(torch.equal(one, two) for place, one in enumerate(orders) for two in orders[:place])


class Clock:
    """Stands still, but where it is told."""

    def __init__(self):
        self.now = 5.0

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.now / 2


@pytest.fixture
def clock(common, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(common, "time", clock)
    return clock


def takes(clock, feed, seconds):
    """A library whose steps take so long."""

    def train():
        for _ in feed:
            clock.now += seconds

    return train


def test_the_clock_counts_the_step_and_not_the_score(common, clock, rows):
    feed = common.Feed(common.Job(**job(rows, steps=4, warm_up=1, score_at=[2, 4])))

    def reconstruct(x):
        clock.now += 100
        return x, x

    feed.reconstruct = reconstruct
    common.run(feed, takes(clock, feed, 2))
    assert feed.done == 4
    assert feed.step_seconds == [2, 2, 2, 2]
    assert feed.cpu_seconds == [1, 1, 1, 1]
    assert feed.timed == [2, 2, 2]
    assert [(point["step"], point["seconds"], point["fve"]) for point in feed.points] == [(2, 4, 1), (4, 8, 1)]


def test_a_slow_run_ends_early_but_not_before_three_steps(common, clock, rows):
    for seconds, steps in ((0.001, 3), (9, 5), (1000, 20)):
        feed = common.Feed(common.Job(**job(rows, steps=22, warm_up=2, seconds=seconds)))
        common.run(feed, takes(clock, feed, 2))
        assert len(feed.timed) == steps


def test_where_reading_the_clock_is_slow_it_is_read_once_in_a_block(common, clock, rows, monkeypatch):
    monkeypatch.setitem(common.STEPS_IN_A_BLOCK, "cpu", 10)
    feed = common.Feed(common.Job(**job(rows, steps=31, warm_up=5, score_at=[7])))

    def reconstruct(x):
        clock.now += 100
        return x, x

    feed.reconstruct = reconstruct
    common.run(feed, takes(clock, feed, 2))
    assert (feed.done, feed.step_seconds, len(feed.timed)) == (40, [2] * 40, 30)
    assert [(point["step"], point["seconds"]) for point in feed.points] == [(10, 20)]


def test_a_library_that_stops_by_itself_is_an_error(common, rows):
    feed = common.Feed(common.Job(**job(rows)))
    with pytest.raises(SystemExit, match="after 0 of 12"):
        common.run(feed, lambda: next(feed))


# --- our runner -----------------------------------------------------------------------------------


def test_our_runner_trains(rows, tmp_path):
    result = sae_training.start("refract", job(rows, steps=200, score_at=[1, 200], learning_rate=3e-3), tmp_path)
    assert "died" not in result, result
    early, late = result["points"]
    assert late["fve"] > early["fve"] + 0.05
    assert result["fve"] == pytest.approx(late["fve"])
    assert 0 < result["l0"] <= 4
    assert result["steps"] == 200
    assert len(result["step_ms"]) == 195
    assert result["seconds"] >= sum(result["step_ms"]) / 1000
    assert result["peak_mb"] >= result["start_mb"] > 0
    assert result["learning_rate"] == 3e-3


def test_the_memory_of_a_run_is_its_own_and_not_of_the_process_that_started_it(rows, tmp_path):
    """As `ru_maxrss` it would be: on Linux a new process inherits that of the one that started it."""
    alone = sae_training.start("refract", job(rows), tmp_path)["peak_mb"]
    ballast = np.ones(1_500_000_000, np.uint8)  # more than the runner needs
    beside = sae_training.start("refract", job(rows), tmp_path)["peak_mb"]
    assert 50 < alone < ballast.nbytes / 1e6
    assert beside == pytest.approx(alone, rel=0.2)


def test_what_a_runner_does_not_know_is_told(rows, tmp_path):
    result = sae_training.start("refract", job(rows, mode=["magic"]), tmp_path)
    assert "has no mode magic" in result["died"]


def test_a_killed_runner_is_told(rows, tmp_path, monkeypatch):
    script = tmp_path / "killed.py"
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)", encoding="utf-8")
    monkeypatch.setitem(environments.LIBRARIES, "refract", str(script))
    assert sae_training.start("refract", job(rows), tmp_path) == {"died": "died (SIGILL)"}


# --- the order of runs ----------------------------------------------------------------------------


def arguments(tmp_path, *words):
    return sae_training.parse(["--environments", str(tmp_path), "--libraries", "refract", "sae-lens", *words])


def fake(times):
    """Instead of a process: results of these step times; None: it died."""
    calls = []

    def started(library, full, *_):
        mode = "+".join(full["mode"]) or "shipped"
        calls.append((library, mode))
        ms = times.get((library, mode))
        return {"died": "died (SIGILL)"} if ms is None else {"step_ms": [ms, ms, 9 * ms]}

    return started, calls


def test_all_modes_once_then_the_shipped_and_the_fastest_in_turn(tmp_path, monkeypatch):
    started, calls = fake({("refract", "shipped"): 1, ("sae-lens", "shipped"): 9, ("sae-lens", "sparse"): 4})
    monkeypatch.setattr(sae_training, "start", started)
    bench = sae_training.Bench(
        arguments(tmp_path, "--rounds", "3", "--modes", "sparse", "medium", "exact"), (tmp_path,) * 2
    )
    bench.speed(SIZE)
    turn = [("refract", "shipped"), ("sae-lens", "shipped"), ("sae-lens", "sparse")]
    scouted = [("refract", "shipped"), ("refract", "exact"), *turn[1:], ("sae-lens", "medium")]
    assert calls == scouted + turn + turn


def test_a_run_that_is_written_down_is_not_made_again(tmp_path, monkeypatch):
    started, calls = fake({("refract", "shipped"): 1, ("sae-lens", "shipped"): 9})
    monkeypatch.setattr(sae_training, "start", started)
    words = ("--rounds", "2", "--modes", "shipped", "--out", str(tmp_path / "results"))
    for expected in (4, 4):
        bench = sae_training.Bench(arguments(tmp_path, *words), (tmp_path,) * 2)
        bench.speed(SIZE)
        assert len(calls) == expected
    assert len((tmp_path / "results").read_text(encoding="utf-8").splitlines()) == 4


def test_bf16_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(sae_training, "MODES", {name: list(modes) for name, modes in sae_training.MODES.items()})
    given = arguments(tmp_path, "--no-bf16")
    assert isinstance(given, argparse.Namespace)
    assert sae_training.Bench(given, (tmp_path,) * 2).modes() == {
        "refract": ["shipped", "exact"],
        "sae-lens": ["shipped", *sae_training.SAE_LENS],
    }


# --- the tables -----------------------------------------------------------------------------------


def result(library, mode="shipped", **fields):
    known = {"part": "speed", "library": library, "mode": mode, "latents": 64, "batch": 32, "k": 4, "d_in": 16}
    known |= {"step_ms": [9.0, 10, 99], "cpu_ms": [18.0], "peak_mb": 300.0, "start_mb": 200.0, "product_ms": 4.0}
    return known | fields


def test_speed_table():
    results = [
        result("refract"),
        result("refract", step_ms=[30.0]),
        result("refract", step_ms=[8.0]),  # medians of runs: 10, 30, 8
        result("sae-lens", step_ms=[50.0], peak_mb=500.0),
        result("sae-lens", "sparse", step_ms=[25.0]),
        {key: value for key, value in result("eai-sparsify", died="died (SIGILL)").items() if key != "step_ms"},
    ]
    table = tables.speed(results)
    assert "| refract | shipped | 10.0 | 18.0 | 3 | 3,200 | 1.00 | 40% | 300 | 100 |" in table
    assert "| sae-lens | shipped | 50.0 | 18.0 | 1 | 640 | 5.00 | 8% | 500 | 300 |" in table
    assert "| eai-sparsify | shipped | died (SIGILL) | | 0 |" in table
    assert "as shipped: sae-lens (shipped), 50.0 ms a step; ours (shipped) 10.0 ms: **5.00 times**" in table
    assert "in any mode: sae-lens (sparse), 25.0 ms a step; ours (shipped) 10.0 ms: **2.50 times**" in table
    assert "The least memory of the others: 300 MB; ours: 300 MB." in table


def curve(*pairs):
    return [{"seconds": float(seconds), "fve": fve, "step": 1} for seconds, fve in pairs]


def test_seconds_to_a_target_lie_between_points():
    points = curve((1, 0.2), (3, 0.6), (5, 0.5), (9, 0.9))
    assert tables.seconds_to(0.1, points) == 1
    assert tables.seconds_to(0.4, points) == pytest.approx(2)
    assert tables.seconds_to(0.75, points) == pytest.approx(7.5)
    assert tables.seconds_to(0.95, points) is None


def test_fve_table():
    def ended(library, times_rate, *pairs):
        fields = {"part": "fve", "times_rate": times_rate, "points": curve(*pairs), "fve": pairs[-1][1], "l0": 4.0}
        more = {"dead": 0.1, "seconds": float(pairs[-1][0]), "learning_rate": 1e-3 * times_rate, "steps": 9}
        return result(library, held_out_rows=500, **fields, **more)

    results = [
        ended("refract", 1, (1, 0.0), (3, 0.8)),
        ended("refract", 3, (1, 0.0), (3, 0.7)),
        ended("sae-lens", 1, (10, 0.0), (30, 0.3)),
        ended("sae-lens", 3, (10, 0.0), (30, 0.6)),
    ]
    assert tables.targets(results) == (0.54, 0.6)
    table = tables.time_to_fve(results)
    assert "| refract | shipped | 0.001 (default) | 0.8000 | 4.0 | 10.0% | 3 | 2.4 | 1.00 | 2.5 | 1.00 |" in table
    assert "| sae-lens | shipped | 0.001 (default) | 0.3000 | 4.0 | 10.0% | 30 | never |  | never |  |" in table
    assert "| sae-lens | shipped | 0.003 (best, at the edge) | 0.6000 | 4.0 | 10.0% | 30 | 28.0 | 11.91 |" in table
    assert table.count("| refract | shipped |") == 2


def test_the_readme_has_the_tables_of_the_committed_results(monkeypatch, capsys):
    folder = environments.HERE.parent
    results = folder / "results" / "sae_training.jsonl"
    monkeypatch.setattr(sys, "argv", ["sae_training", "--report", str(results)])
    sae_training.main()
    report = capsys.readouterr().out.strip()
    assert report.count("####") == 6  # four sizes, and two with longer runs
    assert f"\n{report}\n" in (folder / "README.md").read_text(encoding="utf-8")


def test_no_results_no_table():
    assert tables.speed([]) == tables.time_to_fve([]) == tables.profiles([]) == ""
    assert math.isnan(tables.step_ms([]))


def test_results_are_json(common, rows):
    feed = common.Feed(common.Job(**json.loads(json.dumps(job(rows)))))
    assert feed.d_in == 16
