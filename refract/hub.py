"""A model from the Hugging Face hub: fetched once, by its name, pinned to the commit that was found."""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refract import cache
from refract.errors import RefractError

SECONDS = 10.0  # to answer the first question; without it, a network that swallows everything holds us for minutes
_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
_IGNORED = ["*/*", "consolidated*"]  # other formats of the same weights


def fetch(name: str, *, also: Sequence[str] = ()) -> tuple[str, Path, str]:
    """The model's name on the hub, the folder with its files, and their commit.

    Without a network, the files of an earlier time serve. ``also`` are names, not of the hub, to suggest where this one
    may be a slip of the keyboard.

    Raises:
        RefractError: the hub does not know the name, wants a login, cannot be reached, or the disk is full.
    """
    from huggingface_hub import HfApi, errors

    official = _aliases().get(name, name)
    guess = suggestion(name, also)
    try:
        found = HfApi().model_info(official, timeout=SECONDS)
    except errors.GatedRepoError as error:
        raise RefractError(
            f"{official} asks for your consent before it can be fetched.",
            f"Accept its terms on its page on the hub, run `hf auth login`, and try again.{guess}",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise RefractError(
            f"The Hugging Face hub has no model called {official!r}, or none that you may see.",
            f"Check the spelling: names are like 'EleutherAI/pythia-70m'.{guess}",
        ) from error
    except Exception as error:  # whichever way the network failed: each HTTP library has its own errors
        return official, *_earlier(official, guess, error)
    return official, *_download(official, found)


def _download(name: str, found: Any) -> tuple[Path, str]:
    from huggingface_hub import constants, snapshot_download

    files = [sibling.rfilename for sibling in found.siblings or []]
    wanted = _FILES if any(file.endswith(".safetensors") for file in files) else [*_FILES, "pytorch_model*.bin"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=_IGNORED))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise cache.trouble(error, Path(constants.HF_HUB_CACHE)) from error
        raise RefractError(
            f"Fetching {name} from the hub failed: {_line(error)}", "Try again: what has arrived is kept."
        ) from error
    return folder, folder.name  # the folder is named after the commit


def _earlier(name: str, guess: str, reason: Exception) -> tuple[Path, str]:
    """What an earlier call fetched, if it is whole."""
    from huggingface_hub import errors, snapshot_download

    with contextlib.suppress(errors.LocalEntryNotFoundError):
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=_FILES, ignore_patterns=_IGNORED))
        return folder, folder.name
    raise RefractError(
        f"The Hugging Face hub cannot be reached, and {name!r} has not been fetched before ({_line(reason)}).",
        f"Connect and try again, or load 'smollm2', which needs no hub.{guess}",
    ) from reason


def suggestion(name: str, also: Sequence[str]) -> str:
    """A question with the names that are near, or nothing."""
    known = {choice.lower(): choice for choice in [*also, *_aliases(), *_aliases().values()]}
    short = {choice.rsplit("/", maxsplit=1)[-1]: full for choice, full in known.items() if "/" in choice}
    near = difflib.get_close_matches(name.lower(), [*known, *short], n=3, cutoff=0.75)
    choices = list(dict.fromkeys(known.get(choice) or short[choice] for choice in near))
    return f" Did you mean {' or '.join(map(repr, choices))}?" if choices else ""


def _aliases() -> dict[str, str]:
    """TransformerLens's short names ("gpt2-small"), each with the name on the hub."""
    from transformer_lens.tools.model_registry.registry_io import load_model_aliases

    return {alias: name for name, aliases in load_model_aliases().items() for alias in aliases}


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
