"""``python -m refract sae``: harvest activations, train a sparse coder on them, evaluate it, export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from refract.errors import RefractError

app = typer.Typer(
    no_args_is_help=True, help="Train sparse autoencoders on a language model, and see what they are worth."
)

Model = Annotated[str, typer.Option(help="smollm2, course, a folder in Hugging Face format, or a name on the Hub.")]
Hooks = Annotated[
    list[str] | None,
    typer.Option(
        "--hook",
        help="The hook point. A transcoder has two: where it reads, such as blocks.2.mlp.hook_in, and what it "
        "predicts, such as blocks.2.hook_mlp_out. A crosscoder has two or more.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …; the fastest at hand unless given.")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch; all cores unless given.")]


@app.command()
def train(  # noqa: PLR0917
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoint, curve and the finished coder.")],
    model: Model = "smollm2",
    hook: Hooks = None,
    rows: Annotated[int, typer.Option(help="How many activations to harvest.")] = 1_000_000,
    held_out_rows: Annotated[int, typer.Option(help="How many to harvest from held-out text.")] = 32_768,
    n_ctx: Annotated[int, typer.Option(help="Tokens in a context.")] = 128,
    dataset: Annotated[
        str | None, typer.Option(help="A dataset on the Hub, or a local folder, in place of the course's text.")
    ] = None,
    activations: Annotated[
        Path | None, typer.Option(help="Where activations are kept, to be used again; the course's cache unless given.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of these settings and of --set's; flags override it.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="relu, gated, jumprelu, topk (unless given), batch_topk, matryoshka.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="autoencoder (unless given), transcoder or crosscoder.")] = None,
    latents: Annotated[int | None, typer.Option(help="The size of the dictionary; 4,608 unless given.")] = None,
    k: Annotated[int | None, typer.Option(help="Active latents, for the TopK family; 32 unless given.")] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            help="The penalty's weight, for the others: 0.2 unless given for relu and gated, 0.003 for jumprelu "
            "(1 with --set target_l0=...). More of it, fewer active latents (L0)."
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Activations to train on, in all epochs together; 4,000,000 unless given.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Activations in a step; 2,048 unless given.")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Its largest value; unless given 8e-4 / √(latents / 16,384)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first weights and the order of the data; 0 unless given.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting, as name=value: warm_up, decay, penalty_warm_up (shares of the run), beta1, beta2, "
            "clip, bf16, dead_after, window, log_every, checkpoint_every, and the architecture's own, such as aux_k or "
            "target_l0.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, if there is one.")
    ] = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Harvest activations of real text, train a sparse coder on them, and save it.

    What was harvested is kept and used again. A run that was interrupted goes on with --resume, to the same bits.
    """
    from refract.sae import config as configs
    from refract.sae import run

    flags: dict[str, Any] = {
        "architecture": architecture,
        "kind": kind,
        "n_latents": latents,
        "tokens": tokens,
        "batch": batch,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    settings = {name: value for name, value in (("k", k), ("sparsity", sparsity)) if value is not None}
    for assignment in set_ or []:
        name, value = _assignment(assignment)
        if name in {field for field in configs.NAMES if field != "settings"}:
            flags[name] = value
        else:
            settings[name] = value
    chosen = configs.load(config, flags | ({"settings": settings} if settings else {}))
    source = run.Source(
        model=model, hooks=tuple(hook or ()), rows=rows, held_out_rows=held_out_rows, n_ctx=n_ctx, dataset=dataset
    )
    run.train(chosen, source, out, activations=activations, resume=resume, device=device, threads=threads)


@app.command()
def evaluate(  # noqa: PLR0917
    coder: Annotated[Path, typer.Argument(help="A run's folder, or a saved coder's.")],
    contexts: Annotated[int, typer.Option(help="Held-out contexts to measure on.")] = 128,
    model: Annotated[str | None, typer.Option(help="The model; the one it was trained on unless given.")] = None,
    top: Annotated[int, typer.Option(help="Show the top contexts of so many latents, drawn at random.")] = 0,
    seed: Annotated[int, typer.Option(help="Which latents are drawn.")] = 0,
    latent: Annotated[
        list[int] | None, typer.Option(help="Show the top contexts of this latent; may be given more than once.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table and the numbers into this folder.")] = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Measure a coder on held-out text: variance explained, L0, dead latents, and what it does to the model's loss."""
    from refract.sae import run

    typer.echo(
        run.evaluate(
            coder,
            contexts=contexts,
            model=model,
            top=top,
            seed=seed,
            latents=latent or (),
            out=out,
            device=device,
            threads=threads,
        )
    )


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    to: Annotated[Path, typer.Argument(help="A new folder, in SAELens's format.")],
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Of the file.")] = "float32",
) -> None:
    """Write a run's coder in SAELens's format, from its newest checkpoint, in the model's own units."""
    from refract.sae import run

    typer.echo(run.export(run_folder, to, dtype=dtype))


def _assignment(text: str) -> tuple[str, Any]:
    """``"aux_k=256"`` as a name and a value, by the rules of TOML; what is no TOML value is a text."""
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise RefractError(f"--set {text!r} is not an assignment.", "Write for example --set aux_k=256.")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
