"""What a training run is made of, from a TOML file and flags."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refract import names
from refract.errors import RefractError


@dataclass(frozen=True)
class Config:
    """The settings of a run. All of them are written beside its results."""

    architecture: str = "topk"
    n_latents: int = 4608
    settings: dict[str, Any] = field(default_factory=dict)
    """The architecture's own, such as ``k``."""
    kind: str = "autoencoder"
    """``autoencoder``; ``transcoder``: the second hook from the first; ``crosscoder``: all hooks at once."""
    tokens: int = 4_000_000
    """How many rows are trained on, in all epochs together."""
    batch: int = 2048
    learning_rate: float | None = None
    """8e-4 / √(n_latents / 2¹⁴) unless given: Gao et al. (2024) found the best rate to fall like that, with 2e-4. Four
    times as much learns faster in runs of some million rows (benchmarks/README.md)."""
    warm_up: float = 0.02
    """The share of the run in which the learning rate rises to its full size."""
    decay: float = 0.2
    """The share at the end in which it falls to 0."""
    penalty_warm_up: float = 0.5
    """The share of the run in which an architecture's penalty rises to its full weight."""
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float | None = None
    """The gradient's largest length; longer ones are scaled down. Unless given they are left as they are."""
    bf16: bool = True
    """Whether ReLU and gated coders may use bf16 in their products, on hardware that is fast at it and if the loss
    agrees (see ``precision``). A run's checkpoint remembers what was chosen."""
    dead_after: int = 500_000
    """A latent that has been silent for so many rows is dead, and AuxK takes care of it."""
    window: int = 262_144
    """Rows are mixed within windows of so many."""
    seed: int = 0
    log_every: int = 25
    """Steps between two points of the curve."""
    checkpoint_every: int = 500
    """Steps that a killed run loses at most; rounded up to a multiple of ``log_every``."""

    def __post_init__(self) -> None:
        at_least_one = ("n_latents", "tokens", "batch", "dead_after", "window", "log_every", "checkpoint_every")
        for name in at_least_one:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number from 1 on")
        for name in ("warm_up", "decay", "penalty_warm_up"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share between 0 and 1")
        _require(self.warm_up + self.decay <= 1, "warm_up + decay", self.warm_up + self.decay, "at most 1")
        _require(self.kind in KINDS, "kind", self.kind, f"one of {', '.join(KINDS)}")
        _require(self.learning_rate is None or self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(self.clip is None or self.clip > 0, "clip", self.clip, "above 0, or left out")
        _require("d_out" not in self.settings, "d_out", self.settings.get("d_out"), "left out: the hooks decide it")
        _require(self.tokens >= self.batch, "tokens", self.tokens, f"at least one batch ({self.batch:,})")

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    @property
    def checkpoint_steps(self) -> int:
        return -(-self.checkpoint_every // self.log_every) * self.log_every

    @property
    def peak_learning_rate(self) -> float:
        return self.learning_rate or 8e-4 / (self.n_latents / 2**14) ** 0.5

    def learning_rate_at(self, step: int) -> float:
        """Up in a line, level, and down in a line to 0 at the end."""
        up = min(1.0, (step + 1) / max(1.0, self.warm_up * self.steps))
        down = min(1.0, (self.steps - step) / max(1.0, self.decay * self.steps))
        return self.peak_learning_rate * min(up, down)

    def penalty_share_at(self, step: int) -> float:
        """How much of the penalty counts: up in a line to 1."""
        return min(1.0, (step + 1) / max(1.0, self.penalty_warm_up * self.steps))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


NAMES = [each.name for each in dataclasses.fields(Config)]
KINDS = ("autoencoder", "transcoder", "crosscoder")
_ONE_TYPE: dict[str, type] = {"str": str, "int": int, "bool": bool, "dict[str, Any]": dict}
_TYPES: dict[str, type | tuple[type, ...]] = {
    each.name: _ONE_TYPE.get(str(each.type), (int, float, type(None))) for each in dataclasses.fields(Config)
}


def from_mapping(values: Mapping[str, Any], where: str = "the configuration") -> Config:
    """A ``Config`` from names and values; a name or type that is not known is an error that says so."""
    for name, value in values.items():
        if name not in _TYPES:
            raise RefractError(
                f"{where} has a setting {name!r}, which is none of a training run.",
                f"{names.suggestion(name, _TYPES)}They are {', '.join(_TYPES)}.",
            )
        expected = _TYPES[name]
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            kinds = expected if isinstance(expected, tuple) else (expected,)
            wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
            raise RefractError(f"{where}: {name} = {value!r} is of the wrong type.", f"It should be of type {wanted}.")
    return Config(**values)


def load(path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """The settings of a TOML file, with those in ``overrides`` in their place; ``None`` there means: not given."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RefractError(
                f"There is no file {path}.", "Give the path of a TOML file, or leave --config out."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RefractError(f"{path} is not TOML: {error}.", "Write lines such as `n_latents = 4608`.") from error
    given = {name: value for name, value in overrides.items() if value is not None}
    settings = values.get("settings", {})
    if isinstance(settings, dict) and "settings" in given:
        given["settings"] = settings | given["settings"]
    return from_mapping(values | given, str(path) if path else "the configuration")


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise RefractError(f"{name} = {value} cannot be.", f"It should be {wanted}.")
