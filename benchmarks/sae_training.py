"""Time the course's trainer of sparse autoencoders against SAELens, dictionary_learning and sparsify.

    python -m benchmarks.sae_training --activations STORE        # or, without a store, on made rows
    python -m benchmarks.sae_training --quick

Each library trains in an environment and a process of its own, by its own training loop, on the same rows in the same
order. Short runs of all libraries alternate for the time of a step; longer ones give FVE against seconds. What is
measured, and what is fair about it and what is not, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.sae_libraries import data, environments, tables

SHIPPED = "shipped"
# What a user might turn on: settings that the library has, and torch's own. A mode is joined by "+".
SAE_LENS = ["sparse", "sparse+unscaled", "compile", "compile+unscaled", "sparse+compile+unscaled"]
MODES = {
    "refract": [SHIPPED, "exact", "exact+medium"],
    "sae-lens": [SHIPPED, *SAE_LENS, "medium", "autocast", "autocast+compile"],
    "dictionary-learning": [SHIPPED, "compile", "medium", "autocast", "autocast+compile"],
    "eai-sparsify": [SHIPPED, "adam", "compile", "medium", "autocast"],
}
BF16 = {"medium", "autocast"}
SIZES = [(4608, 2048), (4608, 4096), (18432, 2048), (18432, 4096)]
RATES = (1.0, 3.0, 10.0)
POINTS = 24
RUN_SECONDS = 4 * 3600


class Bench:
    """Runs of libraries; every result is written down at once, and a run that is written down is not made again."""

    def __init__(self, arguments: argparse.Namespace, rows: tuple[Path, Path]) -> None:
        self.arguments, self.rows = arguments, rows
        self.results: list[tables.Result] = []
        self.file: Path | None = arguments.out
        if self.file is not None and self.file.exists():
            self.results = read(self.file)

    def run(self, part: str, library: str, mode: str, size: tuple[int, int], number: int, **job: Any) -> tables.Result:
        """One run of one library, or what is written down of it."""
        latents, batch = size
        what = {"part": part, "library": library, "mode": mode, "latents": latents, "batch": batch, "number": number}
        what |= {"k": self.arguments.k, "times_rate": job.get("times_rate", 1.0)}
        for known in self.results:
            if all(known.get(name) == value for name, value in what.items()):
                return known
        full = {"train": str(self.rows[0]), "held_out": str(self.rows[1]), "latents": latents, "batch": batch}
        full |= {"k": self.arguments.k, "mode": [] if mode == SHIPPED else mode.split("+")}
        full |= {"threads": self.arguments.threads, "device": self.arguments.device, **job}
        print(f"{part}: {library} ({mode}), {latents:,} latents, batch {batch:,}", file=sys.stderr, flush=True)
        result = what | start(library, full, self.arguments.environments, self.arguments.isa)
        self.results.append(result)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        return result

    def speed(self, size: tuple[int, int]) -> None:
        """Every mode once; then each library as shipped and in its fastest mode, in turn."""
        arguments, fastest = self.arguments, {}
        settings = {"steps": arguments.steps + arguments.warm_up, "warm_up": arguments.warm_up}
        settings["seconds"] = arguments.seconds
        for library, modes in self.modes().items():
            runs = {mode: self.run("speed", library, mode, size, 0, **settings) for mode in modes}
            fastest[library] = min(modes, key=lambda mode, runs=runs: _ms(runs[mode]))  # type: ignore[misc]
        for number in range(1, arguments.rounds):
            for library, mode_of_its_own in fastest.items():
                for mode in dict.fromkeys((SHIPPED, mode_of_its_own)):
                    if any("died" not in known for known in self.of("speed", library, mode, size)):
                        self.run("speed", library, mode, size, number, **settings)

    def fve(self, size: tuple[int, int]) -> None:
        """Each library as shipped, and in its fastest mode if that is another, at each learning rate."""
        steps = self.arguments.fve_steps
        score_at = sorted({round(steps * (place / POINTS) ** 1.5) for place in range(1, POINTS + 1)} - {0})
        for times_rate in self.arguments.rates:
            for library, modes in self.modes().items():
                timed = {mode: tables.step_ms(self.of("speed", library, mode, size)) for mode in modes}
                known = [mode for mode in modes if not math.isnan(timed[mode])]
                fastest = min(known, key=timed.__getitem__) if known else SHIPPED
                for mode in dict.fromkeys((SHIPPED, fastest)):
                    job = {"steps": steps, "warm_up": 0, "score_at": score_at, "times_rate": times_rate}
                    self.run("fve", library, mode, size, 0, **job)

    def profile(self, size: tuple[int, int]) -> None:
        """One step of each library as shipped, operation by operation."""
        for library in self.modes():
            self.run("profile", library, SHIPPED, size, 0, steps=4, warm_up=2, profile=True)

    def modes(self) -> dict[str, list[str]]:
        """The libraries and modes that were asked for."""
        wanted = set(self.arguments.modes or [])
        return {
            library: [mode for mode in MODES[library] if not wanted or mode in wanted or mode == SHIPPED]
            for library in self.arguments.libraries
        }

    def of(self, part: str, library: str, mode: str, size: tuple[int, int]) -> list[tables.Result]:
        """The results so far."""
        names = ("part", "library", "mode", "latents", "batch")
        return [each for each in self.results if tuple(each[name] for name in names) == (part, library, mode, *size)]


def read(file: Path) -> list[tables.Result]:
    """The results in a file that ``--out`` wrote."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def start(library: str, job: dict[str, Any], folder: Path, isa: str | None = None) -> tables.Result:
    """Run a library in its own process: what it reports, or why it died."""
    threads = str(job.get("threads", 1))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    environment["HF_HUB_OFFLINE"] = "1"
    if isa is not None:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    runner = environments.HERE / environments.LIBRARIES[library]
    command = [str(environments.python(library, folder)), str(runner), json.dumps(job)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"died": f"stopped after {RUN_SECONDS} s"}
    if done.returncode < 0:
        return {"died": f"died ({signal.Signals(-done.returncode).name})"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        # A progress bar may come after the message.
        told = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return {"died": f"failed: {(told or lines)[-1][:160]}".replace("|", "/")}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _ms(result: tables.Result) -> float:
    ms = tables.step_ms([result])
    return math.inf if math.isnan(ms) else ms


def header(arguments: argparse.Namespace, results: list[tables.Result]) -> str:
    """The machine, the versions, the settings."""
    versions = {each["package"]: f"{each['version']} (torch {each['torch']})" for each in results if "package" in each}
    device = next((each["device"] for each in results if "device" in each), arguments.device)
    lines = [f"- {name}: {version}" for name, version in versions.items()]
    if arguments.isa:
        lines.append(f"- ONEDNN_MAX_CPU_ISA={arguments.isa} for all")
    rows = arguments.activations or "made rows"
    return "\n".join(
        [f"{platform.platform()}, {device}, {arguments.threads} thread(s); rows: {Path(rows).name}\n", *lines]
    )


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--activations", type=Path, help="a store of activations at one hook; without it, rows are made")
    add("--held-out", type=Path, help="another store to score on; without it, the last rows of the first")
    add("--rows", type=int, default=400_000, help="rows to train on, in memory (default 400,000)")
    add("--d", type=int, default=576, help="length of made rows (default 576)")
    add("--k", type=int, default=32)
    add("--sizes", nargs="+", type=_size, default=SIZES, metavar="LATENTSxBATCH")
    add("--libraries", nargs="+", choices=list(MODES), default=list(MODES))
    add("--modes", nargs="+", help=f"which modes beside '{SHIPPED}'; all unless given")
    add("--no-bf16", action="store_true", help="leave out the modes that use bf16")
    add("--parts", nargs="+", choices=["speed", "fve", "profile"], default=["speed", "fve"])
    add("--rounds", type=int, default=5, help="how often each is timed, in turn (default 5)")
    add("--steps", type=int, default=30, help="steps to time in a run (default 30)")
    add("--seconds", type=float, default=15.0, help="a run's timed steps end after so long (default 15)")
    add("--warm-up", type=int, default=5, help="steps before them (default 5)")
    add("--fve-sizes", nargs="+", type=_size, default=SIZES[:1], metavar="LATENTSxBATCH")
    add("--fve-steps", type=int, default=1000, help="steps of the longer runs (default 1,000)")
    add("--rates", nargs="+", type=float, default=RATES, help="times each library's default learning rate")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--device", default="cpu")
    add("--isa", help="ONEDNN_MAX_CPU_ISA for all, such as AVX512_CORE_FP16 where AMX does not work")
    add("--environments", type=Path, help="where the libraries' environments are (default: the user's cache)")
    add("--out", type=Path, help="a file of results, a line each; what it holds already is not run again")
    add("--report", type=Path, metavar="FILE", help="print the tables of such a file, and run nothing")
    add("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.rows, arguments.d, arguments.k = 20_000, 64, 8
        arguments.sizes = arguments.fve_sizes = [(512, 256)]
        arguments.rounds, arguments.steps, arguments.seconds, arguments.fve_steps = 2, 10, 1.0, 200
        arguments.modes, arguments.rates = arguments.modes or [SHIPPED], [1.0]
    if arguments.no_bf16:
        for library, modes in MODES.items():
            MODES[library] = [mode for mode in modes if not BF16 & set(mode.split("+"))]
    if arguments.environments is None:
        from refract import cache

        arguments.environments = cache.folder() / "benchmarks"
    return arguments


def _size(text: str) -> tuple[int, int]:
    latents, _, batch = text.partition("x")
    return int(latents), int(batch)


def main() -> None:
    """Run what is asked for, and print the tables."""
    arguments = parse()
    if arguments.report is not None:
        print(report(read(arguments.report)))
        return
    for library in arguments.libraries:
        environments.make(library, arguments.environments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.activations is None:
            rows = data.made(folder, arguments.rows, arguments.d)
        else:
            rows = data.from_store(arguments.activations, arguments.held_out, folder, arguments.rows)
        bench = Bench(arguments, rows)
        for part, sizes in (
            ("speed", arguments.sizes),
            ("fve", arguments.fve_sizes),
            ("profile", arguments.sizes[:1]),
        ):
            if part in arguments.parts:
                for size in sizes:
                    getattr(bench, part)(size)
    print(header(arguments, bench.results), report(bench.results), sep="\n\n")


def report(results: list[tables.Result]) -> str:
    """All tables of some results."""
    parts = {
        "Speed": tables.speed(results),
        "Time to a given FVE": tables.time_to_fve(results),
        "One step": tables.profiles(results),
    }
    return "\n\n".join(f"### {title}\n{table}" for title, table in parts.items() if table)


if __name__ == "__main__":
    main()
