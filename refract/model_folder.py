"""A model's folder in Hugging Face format: whether all of it is there, and which weights these are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from refract import checksums
from refract.errors import RefractError


def complete(folder: Path) -> None:
    """Check that all the files of a model are there.

    Raises:
        RefractError: says which are missing.
    """
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        missing.append("a tokenizer (tokenizer.json)")
    missing += _missing_weights(folder)
    if missing:
        raise RefractError(
            f"{folder} is not a whole model in Hugging Face format. Missing: {', '.join(missing)}.",
            "Fetch the model again, or write it with `save_pretrained`, the tokenizer too.",
        )


def _missing_weights(folder: Path) -> list[str]:
    """One file, or all that an index names; safetensors, or what older models have."""
    for file in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{file}.index.json"
        if (folder / file).is_file():
            return []
        if index.is_file():
            try:
                parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RefractError(f"{index} is damaged: {error!r}.", "Fetch or save the model again.") from error
            return sorted(part for part in parts if not (folder / part).is_file())
    return ["weights (model.safetensors)"]


def weights(folder: Path) -> list[Path]:
    """The files with the weights: safetensors, else what older models have."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def revision(folder: Path) -> str:
    """The SHA-256 of the weights; of several files, that of the list that ``sha256sum`` prints for them.

    Raises:
        RefractError: a file is missing, or is not what the folder's ``SHA256SUMS`` says.
    """
    complete(folder)
    if (folder / checksums.NAME).exists():
        checksums.verify(folder)
    files = weights(folder)
    if len(files) == 1:
        return checksums.sha256(files[0])
    return hashlib.sha256(checksums.listing(files).encode()).hexdigest()
