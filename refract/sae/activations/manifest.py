"""``manifest.json``: what a folder of activations holds, from which model and text, and its checksums."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from refract.errors import RefractError
from refract.sae.activations import files

OnProgress = Callable[[str, int, int | None], None]  # the stage's name, how much is done, and of how much if known

NAME = "manifest.json"
FORMAT = "refract activations"
VERSION = 1
MEAN = "mean.npy"
COLUMNS = ("token", "document", "start", "end", "position", "context")  # of a shard's table of rows
LARGEST = {"float16": float(np.finfo(np.float16).max), "float32": float(np.finfo(np.float32).max)}


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a harvest. Who goes on with one must have them all alike."""

    model: str
    revision: str  # of the model: the weights' SHA-256, or the hub's commit
    model_dtype: str
    hooks: tuple[str, ...]
    source: str  # the text and its settings, in words
    n_ctx: int
    skip_first: int  # positions that are left out at the beginning of every context
    rows: int | None  # the most rows that were wanted
    batch: int  # contexts in a forward pass: with 16-bit models the activations depend on it a little
    shard_rows: int
    dtype: str  # of the files: float16 or float32

    @property
    def shard_contexts(self) -> int:
        """How many contexts a shard holds: whole batches, so that a shard can be made without its neighbours."""
        return max(1, self.shard_rows // (self.n_ctx * self.batch)) * self.batch

    def check(self, others: Settings, folder: Path) -> None:
        """Raise ``RefractError`` with the first setting in which ``others`` differ."""
        for name in (item.name for item in fields(self)):
            mine, other = getattr(self, name), getattr(others, name)
            if mine != other:
                raise RefractError(
                    f"{folder} was begun with {name}={mine!r}, and this harvest has {name}={other!r}.",
                    f"Harvest into another folder, or with {name}={mine!r} to go on with this one.",
                )


@dataclass
class Shard:
    """Some contexts' rows: a file for every hook, and one that tells where each row comes from."""

    rows: int
    contexts: str  # SHA-256 of the contexts that it was made from
    files: dict[str, str]  # each file's name and its SHA-256; the hooks in their order, then the rows


@dataclass
class Manifest:
    """What is in the folder."""

    settings: Settings
    d_in: tuple[int, ...] = ()  # for each hook
    shards: list[Shard] = field(default_factory=list)
    complete: bool = False
    scale: tuple[float, ...] = ()  # for each hook
    mean: str = ""  # the SHA-256 of mean.npy, in which the hooks' means follow each other
    versions: list[dict[str, str]] = field(default_factory=list)  # of the software; several if it changed on the way

    @property
    def rows(self) -> int:
        """The rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``, in place of the one before."""
        values = {"format": FORMAT, "version": VERSION, "rows": self.rows, **asdict(self)}
        files.write(folder / NAME, lambda file: file.write((json.dumps(values, indent=1) + "\n").encode()))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read ``manifest.json``. Raises ``RefractError`` if it is not there, damaged, or of another kind."""
        path = folder / NAME
        if not path.is_file():
            missing = "has no manifest.json" if folder.is_dir() else "is not a folder"
            raise RefractError(f"{folder} {missing}.", "Give the folder of a harvest, or harvest into it first.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            kind, version = values.pop("format"), values.pop("version")
            if (kind, version) == (FORMAT, VERSION):
                rows, manifest = values.pop("rows"), cls._from_json(values)
                if rows != manifest.rows:
                    raise ValueError("the rows do not add up")
                return manifest
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefractError(
                f"{path} is damaged: {error}.",
                "Put the original back. Without it the folder is of no use: delete it and harvest again.",
            ) from error
        raise RefractError(
            f"{path} is of the format {kind!r}, version {version!r}; this is {FORMAT!r}, version {VERSION}.",
            "Use the version of this course that wrote it, or harvest into another folder.",
        )

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> Manifest:
        settings = dict(values.pop("settings"))
        settings["hooks"] = tuple(settings["hooks"])
        shards = [Shard(**shard) for shard in values.pop("shards")]
        for name in ("d_in", "scale"):
            values[name] = tuple(values[name])
        return cls(Settings(**settings), shards=shards, **values)

    def shapes(self, shard: Shard) -> Iterator[tuple[str, tuple[int, int], str]]:
        """Name, shape and type of each of a shard's files."""
        *hooks, rows = shard.files
        for name, width in zip(hooks, self.d_in, strict=True):
            yield name, (shard.rows, width), self.settings.dtype
        yield rows, (shard.rows, len(COLUMNS)), "int32"

    def note_versions(self) -> None:
        """Add the versions of the software that runs now, unless they are noted already."""
        names = ("refract-course", "torch", "transformer-lens", "numpy")
        now = {name: version for name in names if (version := _version(name))}
        if now not in self.versions:
            self.versions.append(now)


def file_names(number: int, hooks: tuple[str, ...]) -> list[str]:
    """The files of a shard: one for every hook, and the rows' provenance."""
    return [f"{number:05d}.{part}.npy" for part in (*hooks, "rows")]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
