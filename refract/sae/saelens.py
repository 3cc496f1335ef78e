"""Sparse coders in SAELens's file format: written for its users, and read from what they share.

A folder with ``cfg.json`` and ``sae_weights.safetensors``. Encoder and decoder are stored as (d_in, d_sae) and (d_sae,
d_in). What differs by architecture:

    here                       there                  tensors besides W_enc, W_dec, b_dec
    ReLU                       standard, transcoder             b_enc
    TopK                       topk                             b_enc; ``k`` stands in cfg.json
    Gated                      gated                            b_gate (our b_enc), b_mag, r_mag
    JumpReLU                   jumprelu, jumprelu_transcoder    b_enc, threshold
    BatchTopK, Matryoshka      the same, the threshold being one number; what they were stands in the metadata

SAELens has no transcoders with the k largest latents or with gates. What a file says beyond this is folded into the
weights where that gives exactly the same function, and refused by name where it does not.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from refract.errors import RefractError
from refract.sae.batch_topk import BatchTopK
from refract.sae.coder import SparseCoder
from refract.sae.gated import Gated
from refract.sae.jumprelu import JumpReLU
from refract.sae.relu import ReLU
from refract.sae.topk import TopK

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
VERSION = "6.54.12"
"""The release of SAELens that this is held against. Without a version in the metadata it would ignore the rest."""

_KINDS: dict[str, type[SparseCoder]] = {
    "standard": ReLU,
    "topk": TopK,
    "gated": Gated,
    "jumprelu": JumpReLU,
    "transcoder": ReLU,
    "jumprelu_transcoder": JumpReLU,
}
_TRANSCODERS = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}
_TRAINED_AS = {"batch_topk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
_DTYPES = {"float32": torch.float32, "float16": torch.float16}

_OTHER_NORMALISATIONS = {
    "expected_average_only_in": "The factor is not in the folder. In SAELens, call "
    "`sae.fold_activation_norm_scaling_factor(factor)`, save again, and load that.",
    "covariance_whitening": "The matrix is not in the folder. In SAELens, call `sae.fold_activation_whitening(...)`, "
    "save again, and load that.",
}


# --- saving ------------------------------------------------------------------------------------------


def save(
    coder: SparseCoder,
    folder: Path | str,
    metadata: Mapping[str, Any] | None = None,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> Path:
    """Write the folder that ``sae_lens.SAE.load_from_disk`` reads. It appears whole or not at all.

    Fold the normalisation into the coder first (``refract.sae.normalisation.fold``): the format has none that centres.
    SAELens looks in ``metadata`` for ``model_name``, ``hook_name``, ``context_size`` and ``prepend_bos``, and keeps
    whatever else stands there. Architecture and settings in training are added to it.

    Raises:
        RefractError: SAELens has no such coder; weights are not finite, or too large for float16; the metadata are no
            JSON; the folder holds something already.
    """
    folder = Path(folder)
    architecture = _architecture(coder)
    config = {
        "architecture": architecture,
        "d_in": coder.d_in,
        "d_sae": coder.n_latents,
        "dtype": dtype,
        "apply_b_dec_to_input": coder.d_out is None,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if coder.d_out is not None:
        config["d_out"] = coder.d_out
    if architecture == "topk":
        config |= {"k": coder.settings["k"], "rescale_acts_by_decoder_norm": False}
    config["metadata"] = {
        "training_architecture": _TRAINED_AS.get(coder.architecture, architecture),
        "training_architecture_details": coder.settings,
        "sae_lens_training_version": None,
        **(metadata or {}),
        "sae_lens_version": VERSION,
    }
    try:
        text = json.dumps(config, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RefractError(
            f"The metadata cannot be written as JSON: {error}.",
            "Give texts, finite numbers, lists and dictionaries of these.",
        ) from error
    _write(folder, text, _rounded(_tensors(coder), dtype))
    return folder


def _architecture(coder: SparseCoder) -> str:
    kind = JumpReLU if isinstance(coder, BatchTopK) else type(coder)
    name = next((name for name, known in _KINDS.items() if known is kind), None)
    if coder.d_out is not None:
        name = _TRANSCODERS.get(name or "")
    if name is None:
        what = f"{coder.architecture} {'autoencoder' if coder.d_out is None else 'transcoder'}"
        raise RefractError(
            f"SAELens has no {what}.",
            f"What it has: {', '.join(_KINDS)}. To keep this coder for yourself, save a checkpoint.",
        )
    return name


@torch.no_grad()
def _tensors(coder: SparseCoder) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {"W_enc": coder.W_enc.mT, "W_dec": coder.W_dec, "b_dec": coder.b_dec}
    tensors["b_gate" if isinstance(coder, Gated) else "b_enc"] = coder.b_enc
    if isinstance(coder, Gated):
        tensors |= {"b_mag": coder.b_mag, "r_mag": coder.r_mag}
    elif isinstance(coder, JumpReLU):
        tensors["threshold"] = coder.threshold
    elif isinstance(coder, BatchTopK):
        tensors["threshold"] = coder.threshold.clamp_min(0).expand(coder.n_latents)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _rounded(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    if dtype not in _DTYPES:
        raise RefractError(f"Weights cannot be saved as {dtype!r}.", f"Choose one of {', '.join(_DTYPES)}.")
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RefractError(
                f"{name} holds numbers that are not finite.",
                "Nothing was written. Go back to an earlier checkpoint, or train again with a lower learning rate.",
            )
    rounded = {name: tensor.to(_DTYPES[dtype]).contiguous() for name, tensor in tensors.items()}
    for name, tensor in rounded.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RefractError(
                f"{name} holds numbers up to {float(tensors[name].abs().max()):.3g}, which {dtype} does not reach.",
                "Nothing was written. Save it as float32.",
            )
    return rounded


def _write(folder: Path, text: str, tensors: dict[str, Tensor]) -> None:
    partial = None
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # an empty folder may become this one
        if folder.exists():
            raise RefractError(
                f"{folder} exists already.", "Nothing was written. Choose another folder, or move that one away."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        save_file(tensors, partial / WEIGHTS)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp's are private
        partial.replace(folder)
    except (OSError, SafetensorError) as error:
        raise RefractError(
            f"{folder} cannot be written: {error}.", "Free some space, or choose a folder that you can write."
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


# --- loading -----------------------------------------------------------------------------------------


def load(folder: Path | str) -> tuple[SparseCoder, dict[str, Any]]:
    """The coder in such a folder, in float32, and its metadata.

    Folders that SAELens wrote before version 6 are read too. A coder that was trained elsewhere may have decoder rows
    of any length: they are kept, as another length would change which latents are the k largest. What comes back is
    for use; settings of training (penalties, AuxK) are this package's defaults.

    Raises:
        RefractError: the folder is incomplete or damaged; its architecture is unknown; tensors are missing, too many,
            of another shape, or not finite; its inputs are normalised in a way that no weights can express.
    """
    folder = Path(folder)
    config, metadata = _modern(_config(folder))
    kind = _kind(folder, config)
    d_in, n_latents, d_out = (_size(folder, config, name) for name in ("d_in", "d_sae", "d_out"))
    _refuse_what_cannot_be_folded(folder, config)
    tensors = _weights(folder, kind, d_in, n_latents, d_out)
    settings = {"k": config["k"]} if kind is TopK else {}
    try:
        with torch.device("meta"):  # no weights are drawn that the file's would replace
            coder = kind(d_in, n_latents, d_out=d_out, **settings)
    except RefractError as error:
        raise RefractError(f"{folder / CONFIG}: {error.problem}", _DAMAGED) from error
    coder.load_state_dict(_state(config, tensors), assign=True)
    return coder, metadata


_DAMAGED = "The folder is damaged, or was written by something else. Fetch or save it again."


def _config(folder: Path) -> dict[str, Any]:
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise RefractError(
            f"{folder} holds no {' and no '.join(missing)}.",
            f"Give the folder that holds both {CONFIG} and {WEIGHTS}; what is missing can only be fetched or saved "
            "again.",
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RefractError(f"{folder / CONFIG} cannot be read: {error}.", _DAMAGED) from error
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise RefractError(f"{folder / CONFIG} is no description of a sparse autoencoder.", _DAMAGED)
    return config


def _modern(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration as version 6 writes it, and the metadata. Earlier ones have all in one place."""
    metadata = dict(config.get("metadata", {}))
    version = str(config.get("sae_lens_version") or metadata.get("sae_lens_version") or "0").split(".")[0]
    if not version.isdigit() or int(version) >= 6:
        return config, metadata
    config = {"architecture": "standard", **config}
    normalisation = config.get("normalize_activations")
    if normalisation is None or isinstance(normalisation, bool):
        config["normalize_activations"] = "expected_average_only_in" if normalisation else "none"
    arguments = config.get("activation_fn_kwargs")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if activation == "topk" and isinstance(arguments, dict) and "k" in arguments:
        config |= {"architecture": "topk", "k": arguments["k"]}
    elif activation != "relu":
        config["architecture"] = f"{config['architecture']} with {activation}"  # which is none that is known
    renamed = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
    about = {renamed.get(name, name): value for name, value in config.items()}
    kept = ("model_name", "hook_name", "hook_layer", "hook_head_index", "context_size", "prepend_bos", "dataset_path")
    return config, {name: about[name] for name in kept if name in about} | metadata


def _kind(folder: Path, config: dict[str, Any]) -> type[SparseCoder]:
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or architecture not in _KINDS:
        raise RefractError(
            f"{folder} holds a coder of the architecture {architecture!r}, which is not known here.",
            f"Known architectures: {', '.join(_KINDS)}. In SAELens, `save_inference_model` turns a BatchTopK or "
            "Matryoshka autoencoder in training into one of these.",
        )
    return _KINDS[architecture]


def _size(folder: Path, config: dict[str, Any], name: str) -> Any:
    if name == "d_out" and not config["architecture"].endswith("transcoder"):
        return None
    size = config.get(name)
    if type(size) is not int or size < 1:
        raise RefractError(f"{folder / CONFIG} says that {name} is {size!r}.", _DAMAGED)
    return size


def _refuse_what_cannot_be_folded(folder: Path, config: dict[str, Any]) -> None:
    normalisation = config.get("normalize_activations", "none")
    if normalisation != "none":
        raise RefractError(
            f"{folder}: the coder's inputs are normalised ({normalisation!r}).",
            _OTHER_NORMALISATIONS.get(
                str(normalisation),
                "Each input is rescaled by its own size, which no fixed weights can do. Use this coder in SAELens.",
            ),
        )
    reshaping = config.get("reshape_activations", "none")
    if reshaping not in ("none", "hook_z"):  # hook_z: heads are laid side by side, which is up to the caller
        raise RefractError(f"{folder}: the coder's inputs are reshaped ({reshaping!r}).", "Use this coder in SAELens.")
    if config["architecture"].endswith("transcoder") and config.get("apply_b_dec_to_input", True):
        raise RefractError(
            f"{folder}: apply_b_dec_to_input is true, but a transcoder's b_dec belongs to its output.", _DAMAGED
        )
    k = config.get("k")
    if config["architecture"] == "topk" and (type(k) is not int or k < 1):
        raise RefractError(f"{folder / CONFIG} says that k is {k!r}.", _DAMAGED)


def _weights(folder: Path, kind: type[SparseCoder], d_in: int, n_latents: int, d_out: int | None) -> dict[str, Tensor]:
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RefractError(f"{folder / WEIGHTS} cannot be read: {error}.", _DAMAGED) from error
    if "scaling_factor" in tensors and bool((tensors["scaling_factor"] == 1).all()):
        del tensors["scaling_factor"]  # early versions wrote it, and left it at 1
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_in, n_latents),
        "W_dec": (n_latents, d_out or d_in),
        "b_dec": (d_out or d_in,),
    }
    biases = {Gated: ("b_gate", "b_mag", "r_mag"), JumpReLU: ("b_enc", "threshold")}
    shapes |= dict.fromkeys(biases.get(kind, ("b_enc",)), (n_latents,))
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        found = [f"lacks {', '.join(missing)}"] if missing else []
        found += [f"has {', '.join(extra)} beyond what is known"] if extra else []
        raise RefractError(f"{folder / WEIGHTS} {' and '.join(found)}.", _DAMAGED)
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise RefractError(
                f"{folder / WEIGHTS}: {name} has the shape {tuple(tensors[name].shape)}; by {CONFIG} it is {shape}.",
                _DAMAGED,
            )
        if not tensors[name].is_floating_point() or not bool(torch.isfinite(tensors[name]).all()):
            raise RefractError(f"{folder / WEIGHTS}: {name} holds what is no finite number.", _DAMAGED)
    return tensors


def _state(config: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The coder's own tensors. Sums are made in float64, and rounded to float32 once."""
    state = {name: tensor.double() for name, tensor in tensors.items()}
    if "b_gate" in state:
        state["b_enc"] = state.pop("b_gate")
    if config.get("rescale_acts_by_decoder_norm"):
        # There, latents are compared as if decoder rows had unit length: so give them unit length.
        norms = state["W_dec"].norm(dim=1)
        if not bool((norms > 0).all()):
            raise RefractError(
                f"{int((norms == 0).sum())} decoder rows are zero, but rescale_acts_by_decoder_norm divides by them.",
                _DAMAGED,
            )
        state["W_dec"] /= norms[:, None]
        state["W_enc"] *= norms
        state["b_enc"] *= norms
    if not config.get("apply_b_dec_to_input", True) and not config["architecture"].endswith("transcoder"):
        # Here b_dec is taken from the input: what that takes from a latent is given back by its bias.
        taken = state["b_dec"] @ state["W_enc"]
        state["b_enc"] += taken
        if "b_mag" in state:
            state["b_mag"] += taken * state["r_mag"].exp()
    if "threshold" in state:
        # Below 0 a threshold does nothing there; here its logarithm is kept.
        state["log_threshold"] = state.pop("threshold").clamp_min(0).log()
    state["W_enc"] = state["W_enc"].mT
    return {name: tensor.float().contiguous() for name, tensor in state.items()}
