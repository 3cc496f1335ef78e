"""A run's settings: from files and flags, what is refused, and the learning rate's course."""

import dataclasses
import inspect
import json
import re

import pytest

from refract import paths
from refract.errors import RefractError
from refract.sae import architectures, config
from refract.sae.config import Config


def test_flags_go_before_the_file_and_settings_are_joined(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('architecture = "batch_topk"\nbatch = 64\nlearning_rate = 1\n[settings]\nk = 8\naux_k = 4\n')
    found = config.load(path, {"batch": 128, "seed": None, "settings": {"k": 16}})
    assert (found.architecture, found.batch, found.seed, found.learning_rate) == ("batch_topk", 128, 0, 1)
    assert found.settings == {"k": 16, "aux_k": 4}
    assert config.from_mapping(found.to_dict()) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n_latent = 5", "Did you mean n_latents"),
        ('batch = "many"', "batch = 'many' is of the wrong type"),
        ("batch = true", "wrong type"),
        ("bf16 = 1", "type bool"),
        ("batch = 0", "batch = 0"),
        ("warm_up = 0.9", "warm_up [+] decay"),
        ('kind = "encoder"', "autoencoder, transcoder, crosscoder"),
        ("learning_rate = -1.0", "learning_rate"),
        ("tokens = 5", "tokens = 5"),
        ("batch 7", "is not TOML"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "run.toml"
    path.write_text(text + "\n")
    with pytest.raises(RefractError, match=words):
        config.load(path, {})


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(RefractError, match="no file"):
        config.load(tmp_path / "none.toml", {})


def test_learning_rate_by_hand():
    """100 steps, 10 up and 20 down: 0.1, 0.2, ... 1 at the tenth step; level; 20/20 at step 80, 1/20 at the last."""
    found = Config(tokens=6400, batch=64, learning_rate=1.0, warm_up=0.1, decay=0.2)
    rates = [found.learning_rate_at(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9:81] == [1.0] * 72
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_the_usual_learning_rate_falls_with_the_root_of_the_size():
    assert Config(n_latents=2**14).peak_learning_rate == pytest.approx(8e-4)
    assert Config(n_latents=2**12).peak_learning_rate == pytest.approx(2 * 8e-4)
    assert Config(n_latents=2**12, learning_rate=0.3).peak_learning_rate == 0.3


def test_the_penalty_rises_to_its_full_weight():
    shares = [Config(tokens=100, batch=1, penalty_warm_up=0.1).penalty_share_at(step) for step in range(100)]
    assert shares[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert shares[9:] == [1.0] * 91
    assert Config(tokens=100, batch=1, penalty_warm_up=0).penalty_share_at(0) == 1
    with pytest.raises(RefractError, match="penalty_warm_up"):
        Config(penalty_warm_up=2)


def test_every_field_has_a_type_that_is_checked():
    assert set(config.NAMES) == {field.name for field in dataclasses.fields(Config)}
    assert config._TYPES["architecture"] is str and config._TYPES["batch"] is int and config._TYPES["settings"] is dict


def test_architectures_by_name():
    coder = architectures.make("topk", 4, 8, {"k": 2, "variance": 4.0})
    assert (coder.architecture, coder.k, coder.variance) == ("topk", 2, 4.0)
    with pytest.raises(RefractError, match="Did you mean jumprelu"):
        architectures.make("jump_relu", 4, 8)
    with pytest.raises(RefractError, match="no setting 'aux'"):
        architectures.make("topk", 4, 8, {"aux": 3})
    assert architectures.settings_of("matryoshka")[:2] == ["prefixes", "threshold_decay"]
    assert architectures.settings_of("relu") == ["sparsity", "variance"]


def documented() -> list[list[str]]:
    """The rows of the tables in the page on settings, cell by cell."""
    page = (paths.root() / "refract" / "sae" / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:3] == "| `"]
    assert len(rows) > 20
    return rows


def test_the_page_on_settings_has_every_setting_of_a_run_and_what_it_is_unless_given():
    told = {row[0].strip("`"): row[1] for row in documented() if len(row) == 3}
    fields = {field.name: field.default for field in dataclasses.fields(Config) if field.name != "settings"}
    assert set(told) == set(fields)
    for name, default in fields.items():
        if default is not None:
            assert told[name] == f"`{default if isinstance(default, str) else json.dumps(default)}`", name


def test_the_page_on_settings_has_every_setting_of_every_architecture():
    everything = " ".join(f"`{architecture}`" for architecture in architectures.ARCHITECTURES)
    told = [
        ({*re.findall(r"`(\w+)`", row[1].replace("all", everything))}, row[0].strip("`"), row[2])
        for row in documented()
        if len(row) == 4
    ]
    for architecture, kind in architectures.ARCHITECTURES.items():
        defaults = {
            name: parameter.default
            for cls in reversed(kind.__mro__)
            if hasattr(cls, "step")
            for name, parameter in inspect.signature(cls).parameters.items()
        }
        known = {*architectures.settings_of(architecture)} - ({"multi"} if architecture == "matryoshka" else set())
        assert {name for kinds, name, _ in told if architecture in kinds} == known
        for kinds, name, default in told:
            if architecture in kinds and defaults[name] is not None and name != "variance":
                assert default == f"`{json.dumps(defaults[name])}`", (architecture, name)


def test_what_the_hooks_decide_cannot_be_set():
    with pytest.raises(RefractError, match="the hooks decide it"):
        Config(settings={"d_out": 3})
    with pytest.raises(RefractError, match="no Multi-TopK"):
        architectures.make("matryoshka", 4, 16, {"k": 2, "multi": 2})
