"""The command line. A module per group of commands; each imports what it needs only when it runs."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from refract.cli import answers, authors, export, progress, sae, stuck, watch, work
from refract.errors import RefractError


class _Commands(TyperGroup):
    """Commands whose RefractErrors are told in two lines, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RefractError as error:
            typer.echo(f"{error.problem}\n  {error.remedy}", err=True)
            raise typer.Exit(2) from error

    def list_commands(self, ctx: Any) -> list[str]:
        order = ["start", "check", "watch", "hint", "solution", "progress", "export", "reset", "sae", "site", "build"]
        return sorted(self.commands, key=order.index)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Refract: a course that is worked, not read. Begin with `python -m refract start`.",
)
app.command()(work.start)
app.command()(answers.check)
app.command()(watch.watch)
app.command()(stuck.hint)
app.command()(stuck.solution)
app.add_typer(progress.app, name="progress")
app.add_typer(sae.app, name="sae")
app.command()(export.export)
app.command()(work.reset)
app.command()(authors.site)
app.command()(authors.build)


def main() -> None:
    """Run the command line, and exit with its code: 0, 1 for failed answers, 2 for a problem of use."""
    app(prog_name="python -m refract")
