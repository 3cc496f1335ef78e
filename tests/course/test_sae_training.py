"""Training: it finds known features, resumes to the same bits, is killed without loss, stops when it goes wrong."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from refract.errors import RefractError
from refract.sae import architectures, precision, rough, topk
from refract.sae.activations import own
from refract.sae.batch_topk import BatchTopK
from refract.sae.config import Config
from refract.sae.group import device_of_this_process
from refract.sae.sparse import Active
from refract.sae.training import CHECKPOINT, CURVE, Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

D, FEATURES = 16, 40
CONFIG = Config(
    n_latents=48,
    settings={"k": 3, "aux_k": 8},
    tokens=40 * 256,
    batch=256,
    learning_rate=3e-3,
    dead_after=2000,
    log_every=5,
    checkpoint_every=10,
    window=1024,
)


def rows(count, seed=0):
    """Sparse sums of known directions, off centre and not of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(
        torch.randn(FEATURES, D, generator=torch.Generator().manual_seed(9)), dim=1
    )
    present = torch.rand(count, FEATURES, generator=generator) < 0.05
    return 3.0 + 5 * (present * torch.rand(count, FEATURES, generator=generator)) @ directions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return own.write(tmp_path_factory.mktemp("rows") / "store", {"x": rows(4000)}, shard_rows=1500)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return own.write(tmp_path_factory.mktemp("held_out") / "store", {"x": rows(1000, seed=1)})


def changed(**changes):
    return Config(**CONFIG.to_dict() | changes)


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state(trainer):
    named = dict(trainer.coder.named_parameters())
    optimizer = {
        f"{name}/{key}": value for name, p in named.items() for key, value in trainer.optimizer.state[p].items()
    }
    return trainer.coder.state_dict() | optimizer | {"fired": trainer._last_fired, "dead": trainer._dead}


def test_it_explains_held_out_rows_and_keeps_a_curve(store, held_out, tmp_path):
    trainer = Trainer(changed(tokens=400 * 256), store, tmp_path, held_out=held_out)
    coder = trainer.run()
    assert not coder.training
    curve = json.loads((tmp_path / CURVE).read_text())
    assert [point["step"] for point in curve] == list(range(5, 401, 5))
    # Of the step that a point is about, and not of the next.
    assert curve[-1]["learning_rate"] == trainer.config.learning_rate_at(399) > 0
    assert curve[-1]["held_out_fve"] > 0.8 > curve[0]["fve"]
    assert curve[-1]["l0"] == pytest.approx(3, abs=0.3)
    assert curve[-1]["held_out_l0"] == pytest.approx(3, abs=0.3)
    # The curve's number is the coder's, computed again from the store's rows.
    x = (held_out.take(range(1000)) - store.mean["x"].float()) * store.scale["x"]
    with torch.no_grad():
        fve = 1 - (coder(x) - x).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert curve[-1]["held_out_fve"] == pytest.approx(float(fve), abs=1e-5)


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "relu", "jumprelu", "gated", "matryoshka"])
def test_resuming_gives_the_same_bits(store, tmp_path, architecture):
    settings = CONFIG.settings if "top" in architecture or architecture == "matryoshka" else {"sparsity": 0.01}
    config = changed(architecture=architecture, settings=settings)
    whole = Trainer(config, store, tmp_path / "whole")
    whole.run()

    class Stopped(Exception):
        pass

    def stop(point):
        if point["step"] == 20:
            raise Stopped

    with pytest.raises(Stopped):
        Trainer(config, store, tmp_path / "parts").run(stop)
    again = Trainer(config, store, tmp_path / "parts")
    assert again.resume()
    assert again.done == 20
    again.run()
    assert same_tensors(state(whole), state(again))
    without_time = [[{k: v for k, v in p.items() if k != "seconds"} for p in t.curve] for t in (whole, again)]
    assert without_time[0] == without_time[1]


def test_a_run_that_is_killed_loses_one_interval_at_most(store, tmp_path):
    """Killed (kill -9) while it trains, several times, then to the end: the same bits as without."""
    program = f"""
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from refract.sae.activations import Store
from refract.sae.config import Config
from refract.sae.sparse import Active
from refract.sae.training import Trainer
trainer = Trainer(Config(**{CONFIG.to_dict()!r}), Store.open({str(store.folder)!r}), Path(sys.argv[1]))
trainer.resume()
trainer.run(lambda point: print(int(point["step"]), flush=True))
"""
    folder = tmp_path / "killed"
    for kill_at in (7, 15, 30):
        process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        seen = 0
        while seen < kill_at:
            seen = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (folder / CHECKPOINT).exists():
            trainer = Trainer(CONFIG, store, folder)
            trainer.resume()
            assert trainer.done >= seen // 10 * 10 - 10
    last = Trainer(CONFIG, store, folder)
    assert last.resume()
    last.run()
    whole = Trainer(CONFIG, store, tmp_path / "whole")
    whole.run()
    assert same_tensors(last.coder.state_dict(), whole.coder.state_dict())


def test_a_checkpoint_of_another_run_is_refused(store, held_out, tmp_path):
    Trainer(changed(tokens=10 * 256), store, tmp_path).run()
    with pytest.raises(RefractError, match=r"learning_rate was 0\.003, is 0\.1"):
        Trainer(changed(tokens=10 * 256, learning_rate=0.1), store, tmp_path).resume()
    with pytest.raises(RefractError, match=r"settings: k was 3, is 4\."):
        Trainer(changed(tokens=10 * 256, settings={"k": 4, "aux_k": 8}), store, tmp_path).resume()
    with pytest.raises(RefractError, match=r"data was [0-9a-f]{64}"):
        Trainer(changed(tokens=10 * 256), held_out, tmp_path).resume()


def test_a_run_whose_usual_settings_have_changed_since_is_not_continued(store, tmp_path, monkeypatch):
    """Nothing was given for the threshold's decay, and what it is unless given has become another number."""
    config = changed(architecture="batch_topk", settings={"k": 3}, tokens=10 * 256)
    Trainer(config, store, tmp_path).run()
    usual = (BatchTopK.__init__.__kwdefaults__ or {}) | {"threshold_decay": 0.5}
    monkeypatch.setattr(BatchTopK.__init__, "__kwdefaults__", usual)
    with pytest.raises(RefractError, match=r"threshold_decay was 0\.99, is 0\.5"):
        Trainer(config, store, tmp_path).resume()


def test_a_damaged_checkpoint_is_refused_by_name(store, tmp_path):
    Trainer(changed(tokens=10 * 256), store, tmp_path).run()
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RefractError, match=r"checkpoint\.safetensors is damaged"):
        Trainer(changed(tokens=10 * 256), store, tmp_path).resume()
    assert not Trainer(CONFIG, store, tmp_path / "nothing").resume()


def test_a_resumed_run_goes_on_counting_its_time(store, tmp_path):
    Trainer(CONFIG, store, tmp_path).run(lambda point: None)
    again = Trainer(changed(tokens=40 * 256), store, tmp_path)
    assert again.resume()
    again.done, again.seconds, again.curve = 20, 1000.0, []
    again.run()
    assert 1000 < again.curve[-1]["seconds"] < 1100


@pytest.mark.parametrize(("dead_after", "dead"), [(1024, 1 / 48), (1025, 0)])
def test_a_latent_is_dead_after_so_many_silent_rows(store, tmp_path, dead_after, dead):
    """After 4 batches of 256, one latent has been silent for 1,024."""
    settings = {"k": 48, "aux_k": 0}  # all others are active somewhere
    config = changed(tokens=4 * 256, log_every=4, dead_after=dead_after, settings=settings)
    trainer = Trainer(config, store, tmp_path)
    with torch.no_grad():
        trainer.coder.b_enc[5] = -1e6
    trainer.run()
    assert trainer.curve[-1]["dead"] == pytest.approx(dead)


def test_a_direction_is_not_asked_to_change_its_length(store, tmp_path, monkeypatch):
    """The optimizer sees gradients at right angles to the rows of W_dec, all of which have a length of 1."""
    trainer, along = Trainer(changed(tokens=10 * 256), store, tmp_path), []

    def watched(*given, step=trainer.optimizer.step):
        W_dec, gradient = trainer.coder.W_dec.detach(), trainer.coder.W_dec.grad
        assert gradient is not None
        along.append(float((gradient * W_dec).sum(dim=1).abs().max() / gradient.norm(dim=1).max()))
        return step(*given)

    monkeypatch.setattr(trainer.optimizer, "step", watched)
    trainer.run()
    assert len(along) == 10 and max(along) < 1e-5


def test_a_gradient_is_clipped_where_that_was_asked_for(store, tmp_path, monkeypatch):
    lengths = {}
    for clip in (1e-3, None):
        trainer = Trainer(changed(tokens=256, clip=clip), store, tmp_path / str(clip))

        def watched(*given, trainer=trainer, step=trainer.optimizer.step, clip=clip):
            gradients = [each.grad.flatten() for each in trainer.coder.parameters() if each.grad is not None]
            lengths[clip] = float(torch.cat(gradients).norm())
            return step(*given)

        monkeypatch.setattr(trainer.optimizer, "step", watched)
        trainer.run()
    assert lengths[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert lengths[None] > 0.01


def test_auxk_revives_dead_latents(store, tmp_path):
    """Latents that point away from the data never fire; AuxK turns them round, and without it they stay dead."""
    dead = {}
    for aux_k in (0, 16):
        config = changed(tokens=300 * 256, settings={"k": 3, "aux_k": aux_k}, dead_after=1000)
        trainer = Trainer(config, store, tmp_path / str(aux_k))
        with torch.no_grad():
            trainer.coder.b_enc[24:] = -4.0
        trainer.run()
        dead[aux_k] = trainer.curve[-1]["dead"]
    assert dead[0] > 0.4
    assert dead[16] < dead[0] / 2


@pytest.mark.parametrize(
    ("settings", "break_it", "words"),
    [
        ({}, lambda coder: coder.W_dec.fill_(float("nan")), "not finite"),
        ({}, lambda coder: coder.b_enc.fill_(-1e6), "no latent was active"),
        (
            {"architecture": "relu", "settings": {"sparsity": 0.0}},
            lambda coder: coder.b_enc.fill_(1e3),
            "all 48 latents",
        ),
        ({"learning_rate": 100.0, "warm_up": 0.0}, lambda coder: None, "diverges|not finite|no latent"),
    ],
)
def test_a_run_that_goes_wrong_is_stopped(store, tmp_path, settings, break_it, words):
    trainer = Trainer(changed(**settings), store, tmp_path)
    with torch.no_grad():
        break_it(trainer.coder)
    with pytest.raises(RefractError, match=words):
        trainer.run()


@pytest.mark.parametrize(
    ("done", "before", "fve", "stops"),
    [
        (41, [], -3.0, True),
        (40, [], -3.0, False),  # twice the warm-up is not over
        (41, [], -1.5, False),  # 2.5 times the variance, and not three times the best so far, which is 1
        (41, [0.9], -1.5, True),
        (41, [0.9], -0.9, False),  # less than twice what the mean would do
        (41, [-0.5], -3.0, False),
    ],
)
def test_what_counts_as_divergence(store, tmp_path, done, before, fve, stops):  # noqa: PLR0917
    trainer = Trainer(changed(tokens=1000 * 256), store, tmp_path)  # 20 steps of warm-up
    trainer.done, trainer.curve = done, [{"fve": best} for best in before]
    with pytest.raises(RefractError, match="diverges") if stops else contextlib.nullcontext():
        trainer._stop_if_wrong({"fve": fve, "l0": 3.0})


def test_all_latents_may_be_active_where_that_was_asked_for(store, tmp_path):
    every = {"fve": 0.5, "l0": 48.0}
    Trainer(changed(settings={"k": 48}), store, tmp_path)._stop_if_wrong(every)
    with pytest.raises(RefractError, match="all 48 latents"):
        Trainer(changed(settings={"k": 47}), store, tmp_path)._stop_if_wrong(every)


def test_a_threshold_goes_on_moving_after_a_look_at_held_out_rows(store, held_out, tmp_path):
    trainer = Trainer(changed(architecture="batch_topk"), store, tmp_path, held_out=held_out)
    coder, seen = trainer.coder, []
    assert isinstance(coder, BatchTopK)
    trainer.run(lambda point: seen.append(float(coder.threshold)))
    assert len(set(seen)) == len(seen) == 8  # a checkpoint, and with it a look, at every second point


def test_transcoders_and_crosscoders(tmp_path):
    """The second layer is the first one turned round and stretched: a transcoder can learn it, hook by hook scaled."""
    x = rows(3000)
    pair = own.write(tmp_path / "pair", {"before": x, "after": 10 - 2 * x.flip(1)})
    config = changed(kind="transcoder", tokens=300 * 256)
    trainer = Trainer(config, pair, tmp_path / "transcoder", held_out=pair)
    trainer.run()
    assert (trainer.coder.d_in, trainer.coder.d_out) == (D, D)
    assert trainer.curve[-1]["held_out_fve"] > 0.7
    both = Trainer(changed(kind="crosscoder", tokens=300 * 256), pair, tmp_path / "crosscoder", held_out=pair)
    both.run()
    assert both.coder.d_in == 2 * D and both.coder.d_out is None
    assert both.curve[-1]["held_out_fve"] > 0.7
    with pytest.raises(RefractError, match="An autoencoder needs one hook; here there are 2: before, after"):
        Trainer(CONFIG, pair, tmp_path / "none")


def test_a_penalty_rises_during_the_run(store, tmp_path):
    """Ten steps, of which the first five have 1/5 to 5/5 of it."""
    config = changed(architecture="relu", settings={"sparsity": 0.4}, tokens=10 * 256, penalty_warm_up=0.5)
    trainer = Trainer(config, store, tmp_path)
    shares = []
    make_step = trainer._step
    trainer._step = lambda batch: (make_step(batch), shares.append(trainer.coder.penalty_share))[0]  # type: ignore
    trainer.run()
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 6])


def test_batches_that_cannot_be(store, tmp_path):
    with pytest.raises(RefractError, match="A batch has 8,192 rows"):
        Trainer(changed(batch=8192, tokens=8192), store, tmp_path)


def test_two_processes_train_what_one_trains(store, tmp_path):
    """With torchrun and gloo, each has half of every batch, and the loss is that of one process with all of it."""
    program = tmp_path / "run.py"
    program.write_text(f"""
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from refract.sae.activations import Store
from refract.sae.config import Config
from refract.sae.group import joined
from refract.sae.sparse import Active
from refract.sae.training import Trainer
store = Store.open({str(store.folder)!r})
with joined(torch.device("cpu")) as group:
    Trainer(Config(**{CONFIG.to_dict()!r}), store, Path(sys.argv[1]), group=group).run()
""")
    began = time.monotonic()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    result = subprocess.run([*command, str(tmp_path / "two")], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    one = Trainer(CONFIG, store, tmp_path / "one")
    one.run()
    two = json.loads((tmp_path / "two" / CURVE).read_text())
    for mine, theirs in zip(one.curve, two, strict=True):
        assert theirs["loss/reconstruction"] == pytest.approx(mine["loss/reconstruction"], rel=1e-3)
        assert theirs["l0"] == pytest.approx(mine["l0"], rel=1e-3)
        assert theirs["dead"] == pytest.approx(mine["dead"], abs=0.05)
    assert time.monotonic() - began < 300


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    for available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        named = [str(device_of_this_process(device)) for device in ("cuda", "cuda:3", "cpu")]
        assert named == ["cuda:1", "cuda:3", "cpu"]
        assert str(device_of_this_process()) == ("cuda:1" if available else "cpu")


def test_a_process_waits_for_one_that_harvests_longer_than_torch_would(tmp_path):
    program = tmp_path / "run.py"
    program.write_text("""
import time
from datetime import timedelta
import torch
import torch.distributed as dist
from refract.sae.group import joined
begin = dist.init_process_group
dist.init_process_group = lambda backend: begin(backend, timeout=timedelta(seconds=3))
with joined(torch.device("cpu")) as group:
    group.wait()
    if group.leads:
        time.sleep(6)
    group.wait()
    print("together")
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("together") == 2


@pytest.mark.parametrize(
    ("architecture", "product"), [*((name, None) for name in architectures.ARCHITECTURES), ("topk", rough.bfloat16)]
)
def test_no_step_waits_for_the_device(store, tmp_path, monkeypatch, architecture, product):
    """On the device "meta" there are no numbers: what would have the host read one, or a size, from a GPU is an error.

    It has no sparse products, no autocast and no fused optimizer: torch's own, which read nothing. The products give
    something of their size, and what they are made of is made.
    """

    def times(active, values, right):
        return right.new_empty(active.matrix(values).shape[0], right.shape[1])

    def transposed_times(active, values, right):
        return right.new_empty(active.transposed(values).shape[0], right.shape[1])

    def products(active, left, right):
        return active.matrix(left.new_empty(len(active.latents))).values()

    for stand_in in (times, transposed_times, products):
        monkeypatch.setattr(Active, stand_in.__name__, stand_in)
    monkeypatch.setattr(precision, "products_in", lambda numbers, device: contextlib.nullcontext())
    monkeypatch.setattr(topk, "best_product", lambda x, n_latents, k: product)
    settings = {} if architecture in {"relu", "gated", "jumprelu"} else {"k": 4}
    trainer = Trainer(changed(architecture=architecture, settings=settings), store, tmp_path, device="meta")
    trainer.numbers = "fp32"  # asked for once, at the first step
    trainer._dead = torch.zeros(9, dtype=torch.long, device="meta")
    monkeypatch.setattr(trainer.optimizer, "step", lambda: None)
    result = trainer._step(trainer._normalised(torch.zeros(CONFIG.batch, D)))
    assert ("auxiliary" in result.losses) == (architecture not in {"relu", "jumprelu"})
    with pytest.raises(RuntimeError, match="meta"):
        result.loss.item()
