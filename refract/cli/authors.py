"""``build`` and ``site``: for authors, and for whoever wants the pages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Annotated

import typer

from refract.errors import RefractError
from refract.paths import root


def build(
    sections: Annotated[list[str] | None, typer.Argument(help="Only these; else all.", metavar="SECTION...")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if anything differs from its source.")
    ] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Run the worked notebook even if it is fresh.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the worked notebook elsewhere and compare its values; change nothing.")
    ] = False,
) -> None:
    """Write notebooks and figures from the sections' sources (for authors)."""
    from refract.authoring.build import build as build_sections

    raise typer.Exit(build_sections(sections or None, check=check, execute=execute, verify=verify))


def site(
    port: Annotated[
        int | None, typer.Option(help="The port; Streamlit's own choice if left out.", min=1, max=65535)
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """Open the course's site. Ctrl-C ends it."""
    page = root() / "streamlit_app" / "app.py"
    if not page.is_file():
        raise RefractError(f"There is no site at {page}.", "Run this in a checkout of the course.")
    if importlib.util.find_spec("streamlit") is None:
        raise RefractError("The site needs the package streamlit.", "Install it: pip install -r requirements.txt")
    command = [sys.executable, "-m", "streamlit", "run", str(page), "--browser.gatherUsageStats", "false"]
    if port is not None:
        command += ["--server.port", str(port)]
    if headless:
        command += ["--server.headless", "true"]
    try:
        code = subprocess.call(command, cwd=root())
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)
