"""Evaluation on a tiny model: coders whose scores are known, a slow loop, what is not counted, and what is refused."""

import dataclasses
import json
import math

import pytest
import torch

from refract.data import Contexts
from refract.errors import RefractError
from refract.sae.config import Config
from refract.sae.evaluate import Report, evaluate, table
from refract.sae.metrics import Histogram
from refract.sae.normalisation import Normalisation, fold
from refract.sae.relu import ReLU
from refract.sae.topk import TopK
from refract.sae.training import Trainer
from tests.course.activations_toy import HEADS, MIDDLE, RESIDUAL, bridge, gather, pieces, text

pytestmark = pytest.mark.usefixtures("one_thread")

D = 16
CONTEXTS = text(10)


@pytest.fixture(scope="module")
def model():
    return bridge(n_layers=3)


@pytest.fixture(scope="module")
def mean(model):
    return activations(model, text(40, seed=1), RESIDUAL).mean(dim=0)


@torch.no_grad()
def activations(model, contexts, hook):
    return model.run_with_cache(contexts.tokens)[1][hook].flatten(2)[~contexts.special]


def identity(d=D):
    """It gives back relu(x) - relu(-x), which is x exactly."""
    coder = ReLU(d, 2 * d)
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    with torch.no_grad():
        coder.W_enc.copy_(both)
        coder.W_dec.copy_(both)
    return coder


def constant(value, d=D, n_latents=8):
    """No latent ever fires, and b_dec is given back."""
    coder = ReLU(d, n_latents)
    with torch.no_grad():
        coder.b_enc.fill_(-1e6)
        coder.b_dec.copy_(value)
    return coder


def random_coder(seed=0, d=D, n_latents=40, **settings):
    generator = torch.Generator().manual_seed(seed)
    coder = TopK(d, n_latents, k=3, generator=generator, **settings)
    with torch.no_grad():
        coder.b_dec.normal_(0, 0.3, generator=generator)
        coder.b_enc.normal_(0, 0.1, generator=generator)
    return coder


# --- scores that are known -----------------------------------------------------------------------------


def test_the_identity_loses_nothing(model, mean):
    report = evaluate(identity(), model, RESIDUAL, pieces(CONTEXTS), mean=mean)
    assert report.recovered_zero == report.recovered_mean == 1
    assert report.kl == report.ce_increase == 0
    assert report.variance_explained == report.bias == 1
    assert report.cosine == pytest.approx(1)
    assert report.l0 == D
    assert report.ce_clean != report.ce_zero != report.ce_mean


def test_zeros_recover_nothing_of_zero_ablation(model, mean):
    report = evaluate(constant(torch.zeros(D)), model, RESIDUAL, pieces(CONTEXTS), mean=mean)
    assert report.recovered_zero == 0
    assert report.recovered_mean != 0
    assert report.kl > 0
    assert report.dead == 1
    assert report.l0 == 0
    assert math.isnan(report.bias)
    assert report.cosine == 0


def test_the_mean_recovers_nothing_of_mean_ablation(model, mean):
    report = evaluate(constant(mean), model, RESIDUAL, pieces(CONTEXTS), mean=mean)
    assert report.recovered_mean == 0
    assert report.recovered_zero != 0
    own = evaluate(
        constant(activations(model, CONTEXTS, RESIDUAL).mean(dim=0)), model, RESIDUAL, pieces(CONTEXTS), mean=mean
    )
    assert own.variance_explained == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def slow(coder, model, hook, contexts, mean):
    """One context and one position at a time, in float64, with the model's own cache for the clean run."""
    losses: dict[str, list] = {name: [] for name in ("clean", "spliced", "zero", "mean")}
    errors, squares, rows, divergences, made = [], [], [], [], []
    for tokens, special in zip(contexts.tokens, contexts.special, strict=True):
        clean_logits, cache = model.run_with_cache(tokens[None])
        y = cache[hook][0]
        y_hat, zero, ablated = y.clone(), y.clone(), y.clone()
        for position in range(len(tokens)):
            if not special[position]:
                y_hat[position] = coder(y[position][None])[0]
                zero[position] = 0
                ablated[position] = mean
                errors.append((y[position] - y_hat[position]).double().square().sum())
                squares.append(y[position].double().square().sum())
                rows.append(y[position].double())
                made.append(y_hat[position].double())
        logits = {"clean": clean_logits[0]}
        for name, value in (("spliced", y_hat), ("zero", zero), ("mean", ablated)):
            put = [(hook, lambda _, hook, value=value: value[None])]
            logits[name] = model.run_with_hooks(tokens[None], fwd_hooks=put)[0]
        for position in range(len(tokens) - 1):
            if special[position] or special[position + 1]:
                continue
            log_p = {name: value[position].double().log_softmax(dim=0) for name, value in logits.items()}
            for name, value in log_p.items():
                losses[name].append(-value[tokens[position + 1]])
            divergences.append((log_p["clean"].exp() * (log_p["clean"] - log_p["spliced"])).sum())
    average = torch.stack(rows).mean(dim=0).square().sum()
    centred, centred_made = torch.stack(rows) - mean, torch.stack(made) - mean
    return {
        "rows": len(rows),
        "predictions": len(divergences),
        "variance_explained": 1 - sum(errors) / len(rows) / (sum(squares) / len(rows) - average),
        "bias": torch.stack(made).square().sum() / (torch.stack(made) * torch.stack(rows)).sum(),
        "bias_about_mean": centred_made.square().sum() / (centred_made * centred).sum(),
        "kl": sum(divergences) / len(divergences),
    } | {f"ce_{name}": sum(values) / len(values) for name, values in losses.items()}


@pytest.mark.parametrize("hook", [RESIDUAL, MIDDLE])
def test_a_slow_loop_gives_the_same(hook, model, mean):
    coder = random_coder()
    report = evaluate(coder, model, hook, pieces(CONTEXTS, 3), mean=mean, batch=4)
    for name, value in slow(coder, model, hook, CONTEXTS, mean).items():
        assert getattr(report, name) == pytest.approx(float(value), rel=1e-5), name
    assert report.contexts == 10
    latents = coder.encode(activations(model, CONTEXTS, hook))
    assert report.l0 == pytest.approx(float((latents != 0).sum(dim=1).double().mean()))
    assert report.dead == pytest.approx(float(((latents != 0).sum(dim=0) == 0).double().mean()))
    assert sum(report.density.counts) == round((1 - report.dead) * 40)


def test_batches_make_no_difference(model, mean):
    coder = random_coder()
    one = evaluate(coder, model, RESIDUAL, [CONTEXTS], mean=mean, batch=10)
    other = evaluate(coder, model, RESIDUAL, iter(pieces(CONTEXTS, 3)), mean=mean, batch=4)
    assert one.tokens_sha256 == other.tokens_sha256
    for field in dataclasses.fields(Report):
        expected = getattr(one, field.name)
        found = getattr(other, field.name)
        assert found == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected)


# --- what is not counted ---------------------------------------------------------------------------------


def test_separators_are_neither_replaced_nor_counted(model, mean):
    """With every position a separator but the last three of each context, only these count."""
    start = CONTEXTS.start.clone()
    start[:, :-3] = -1
    start[:, -3:] = 5
    report = evaluate(random_coder(), model, RESIDUAL, [CONTEXTS._replace(start=start)], mean=mean)
    assert (report.rows, report.predictions) == (30, 20)
    everywhere = evaluate(
        random_coder(), model, RESIDUAL, [CONTEXTS._replace(start=torch.full_like(start, 5))], mean=mean
    )
    assert (everywhere.rows, everywhere.predictions) == (120, 110)
    assert report.tokens_sha256 != everywhere.tokens_sha256
    # A prediction depends on what comes before it, and there nothing was replaced.
    assert abs(report.kl) < abs(everywhere.kl)


def test_the_first_positions_can_be_left_out(model, mean):
    start = torch.full_like(CONTEXTS.start, 5)
    report = evaluate(random_coder(), model, RESIDUAL, [CONTEXTS._replace(start=start)], mean=mean, skip_first=2)
    assert (report.rows, report.predictions) == (100, 90)
    start[:, :2] = -1
    other = evaluate(random_coder(), model, RESIDUAL, [CONTEXTS._replace(start=start)], mean=mean)
    assert report == dataclasses.replace(other, tokens_sha256=report.tokens_sha256)


def test_training_and_gradients_are_left_as_they_were(model, mean):
    """While it runs there is no dropout and no graph; after it all is as before."""
    coder, during = random_coder(), []

    class Watched(TopK):
        def encode(self, x):
            during.append((model.training, torch.is_grad_enabled()))
            return super().encode(x)

    coder.__class__ = Watched
    model.train()
    evaluate(coder, model, RESIDUAL, [CONTEXTS], mean=mean)
    assert during == [(False, False)] * 2
    assert model.training
    model.eval()
    assert coder.W_enc.grad is None
    assert torch.is_grad_enabled()
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


# --- other coders, other hooks, other precision ------------------------------------------------------------


def test_heads_are_put_side_by_side(model):
    report = evaluate(identity(), model, HEADS, [CONTEXTS], mean=torch.zeros(D))
    assert report.recovered_zero == 1
    assert report.ce_zero == report.ce_mean != report.ce_clean


def test_a_crosscoder(model, mean):
    """Two hooks: the identity of both loses nothing; zeros at both are worse than at one."""
    both = [RESIDUAL, "blocks.2.hook_resid_mid"]
    zeros = torch.zeros(2 * D)
    report = evaluate(identity(2 * D), model, both, [CONTEXTS], mean=zeros)
    assert report.recovered_zero == report.variance_explained == 1
    assert report.hooks == both
    with torch.no_grad():
        cache = model.run_with_cache(CONTEXTS.tokens)[1]
        put = [
            (hook, lambda value, hook: torch.where(CONTEXTS.special[..., None], value, torch.zeros_like(value)))
            for hook in both
        ]
        logits = model.run_with_hooks(CONTEXTS.tokens, fwd_hooks=put)
    counted = ~(CONTEXTS.special[:, :-1] | CONTEXTS.special[:, 1:])
    expected = torch.nn.functional.cross_entropy(logits[:, :-1][counted], CONTEXTS.tokens[:, 1:][counted])
    assert report.ce_zero == pytest.approx(expected.item(), rel=1e-5)
    assert cache[RESIDUAL].shape[-1] == D


def test_a_transcoder(model):
    """What enters the MLP is read, what it gives is predicted and replaced; the coder is wrong on purpose."""
    reads, writes = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
    coder = random_coder(d_out=D)
    zeros = torch.zeros(D)
    report = evaluate(coder, model, reads, [CONTEXTS], mean=zeros, output=writes)
    assert report.hooks == [reads, writes]
    with torch.no_grad():
        cache = model.run_with_cache(CONTEXTS.tokens)[1]
        kept = ~CONTEXTS.special
        y, y_hat = cache[writes][kept], coder(cache[reads][kept])

        def put(value, hook):
            value = value.clone()
            value[kept] = y_hat
            return value

        logits = model.run_with_hooks(CONTEXTS.tokens, fwd_hooks=[(writes, put)])
    counted = kept[:, :-1] & kept[:, 1:]
    expected = torch.nn.functional.cross_entropy(logits[:, :-1][counted], CONTEXTS.tokens[:, 1:][counted])
    assert report.ce_spliced == pytest.approx(expected.item(), rel=1e-5)
    error = (y - y_hat).square().sum(dim=1).mean() / y.var(dim=0, correction=0).sum()
    assert report.variance_explained == pytest.approx(1 - error.item(), rel=1e-4)


def test_half_precision_models_are_judged_in_float32(mean):
    """Logits in float16 have three digits; the cross-entropy is that of these logits, with all its own."""
    half = bridge(n_layers=1).to(torch.float16)
    report = evaluate(identity(), half, RESIDUAL, [CONTEXTS], mean=mean)
    with torch.no_grad():
        logits = half(CONTEXTS.tokens)
    assert logits.dtype == torch.float16
    counted = ~(CONTEXTS.special[:, :-1] | CONTEXTS.special[:, 1:])
    expected = torch.nn.functional.cross_entropy(logits[:, :-1][counted].double(), CONTEXTS.tokens[:, 1:][counted])
    assert report.ce_clean == pytest.approx(expected.item(), rel=1e-6)
    assert report.recovered_mean == 1


def test_from_activations_to_a_report(tmp_path, model):
    """Harvest, train, fold, evaluate: the coder explains on held-out text what it did in its own units."""
    store = gather(tmp_path / "store", contexts=text(200, seed=2), model=model, hooks=[RESIDUAL])
    held_out = gather(tmp_path / "held_out", contexts=CONTEXTS, model=model, hooks=[RESIDUAL])
    config = Config(n_latents=64, settings={"k": 4}, tokens=60 * 128, batch=128, learning_rate=3e-3, log_every=20)
    trainer = Trainer(config, store, tmp_path / "run", held_out=held_out)
    coder = trainer.run()
    normalisation = Normalisation(store.mean[RESIDUAL], store.scale[RESIDUAL])
    report = evaluate(fold(coder, normalisation), model, RESIDUAL, [CONTEXTS], mean=store.mean[RESIDUAL])
    assert report.rows == held_out.rows
    assert report.variance_explained == pytest.approx(trainer.curve[-1]["held_out_fve"], rel=1e-4)
    assert report.l0 == pytest.approx(trainer.curve[-1]["held_out_l0"], rel=1e-3)
    assert report.variance_explained > 0.3


# --- the report ------------------------------------------------------------------------------------------

REPORT = Report(
    architecture="topk",
    hooks=["h"],
    d_in=2,
    n_latents=4096,
    contexts=3,
    rows=12345,
    predictions=12000,
    tokens_sha256="00",
    variance_explained=0.81264,
    bias=math.nan,
    bias_about_mean=0.9,
    cosine=0.95,
    l0=32.0,
    dead=0.0125,
    density=Histogram([0.1, 1.0], [4045]),
    ce_clean=3.0,
    ce_spliced=3.5,
    ce_zero=13.0,
    ce_mean=8.0,
    kl=0.25,
)


def test_the_table_in_text():
    lines = table({"mine": REPORT, "theirs": dataclasses.replace(REPORT, l0=7.0)}).splitlines()
    assert lines[0].split() == ["mine", "theirs"]
    assert "L0" in lines[5]
    assert lines[5].split() == ["L0", "32.00", "7.00"]
    assert len({len(line) for line in lines}) == 1, "aligned on the right"
    found = {line.rsplit("  ", 1)[0].strip(): line.rsplit("  ", 1)[1] for line in REPORT.table().splitlines()[1:]}
    assert found["recovered against zeros"] == "0.9500"
    assert found["recovered against the mean"] == "0.9000"
    assert found["dead on these tokens"].strip() == "1.25%"
    assert found["activations"] == "12,345"
    assert found["reconstruction bias γ"].strip() == "nan"


def test_the_table_in_markdown():
    lines = REPORT.table(markdown=True).splitlines()
    assert all(line.startswith("| ") and line.endswith(" |") and line.count("|") == 3 for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == set("|-: ")
    assert lines[1].endswith("-: |")
    assert [cell.strip() for cell in lines[5].split("|")[1:-1]] == ["cosine", "0.9500"]


def test_json_there_and_back():
    text = REPORT.to_json()
    values = json.loads(text)
    assert values["bias"] is None
    assert (values["recovered_zero"], values["ce_increase"]) == (0.95, 0.5)
    assert values["density"] == {"edges": [0.1, 1.0], "counts": [4045]}
    again = Report.from_json(text)
    assert again.to_json() == text
    assert math.isnan(again.bias)
    assert again.density == REPORT.density


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"architecture": "topk"}', '{"density": 3}'])
def test_what_is_no_report(text):
    with pytest.raises(RefractError, match="no report"):
        Report.from_json(text)


@pytest.mark.parametrize(("contexts", "total"), [(list, 120), (iter, None)])
def test_progress_is_told_in_tokens(model, mean, contexts, total):
    heard = []
    given = contexts(pieces(CONTEXTS, 3))
    evaluate(random_coder(), model, RESIDUAL, given, mean=mean, batch=4, on_progress=lambda *a: heard.append(a))
    assert heard[:3] == [("evaluate", done, total) for done in (48, 96, 120)]
    assert heard[-1] == ("evaluate", 120, 120)  # so a bar is closed
    assert len(heard) == (4 if total is None else 3)


# --- refusing ------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(model, mean):
    def run(coder, hook=RESIDUAL, contexts=(CONTEXTS,), **settings):
        return evaluate(coder, model, hook, contexts, **({"mean": mean} | settings))

    with pytest.raises(RefractError, match=r"no hook 'blocks.0.hook_resid_pots'.\n.*hook_resid_post"):
        run(random_coder(), "blocks.0.hook_resid_pots")
    with pytest.raises(RefractError, match="gives the shape"):
        run(random_coder(), "blocks.0.attn.hook_pattern")
    with pytest.raises(RefractError, match="give 32 dimensions to read and 32 to predict; the coder has d_in = 16"):
        run(random_coder(), [RESIDUAL, MIDDLE])
    with pytest.raises(RefractError, match=r"mean has the shape \(3,\), but the coder gives 16"):
        run(random_coder(), mean=torch.zeros(3))
    with pytest.raises(RefractError, match="Give `output`"):
        run(random_coder(d_out=D))
    with pytest.raises(RefractError, match="Give `output`"):
        run(random_coder(), output=MIDDLE)
    nothing = Contexts(*(column[:0] for column in CONTEXTS))
    separators = CONTEXTS._replace(start=torch.full_like(CONTEXTS.start, -1))
    for contexts in ([], [nothing], [separators]):
        with pytest.raises(RefractError, match="no token to count"):
            run(random_coder(), contexts=contexts)
    with pytest.raises(RefractError, match="no token to count"):
        run(random_coder(), skip_first=11)
