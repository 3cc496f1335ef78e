"""Results, a line of JSON each, and the tables made of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Result = dict[str, Any]
"""What a runner reported, or ``{"died": why}``, with ``part``, ``library``, ``mode``, ``latents``, ``batch``, ``k``."""

OURS = "refract"


def speed(results: Sequence[Result]) -> str:
    """For each size: step time of every library and mode, and how many times ours is as fast."""
    lines = []
    for latents, batch in _sizes(results, "speed"):
        here = [each for each in results if each["part"] == "speed" and _size(each) == (latents, batch)]
        d_in = next((each["d_in"] for each in here if "d_in" in each), "?")
        lines += [
            f"\n#### d {d_in}, {latents:,} latents, k {here[0]['k']}, batch {batch:,}\n",
            "| library | mode | ms a step | of CPU time | runs | rows a second | ours is faster "
            "| of the product's limit | peak MB | of these, training |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += _speed_rows(here, batch)
        lines += ["", *_verdict(here)]
    return "\n".join(lines)


def _speed_rows(here: Sequence[Result], batch: int) -> list[str]:
    ours = step_ms(_of(here, OURS, "shipped"))
    limits = [each["product_ms"] for each in _of(here, OURS, "shipped")]
    lines = []
    for library, mode in _who(here):
        mine = _of(here, library, mode)
        if not mine:
            died = next(each["died"] for each in here if (each["library"], each["mode"]) == (library, mode))
            lines.append(f"| {library} | {mode} | {died} | | 0 | | | | | |")
            continue
        ms = step_ms(mine)
        limit = f"{statistics.median(limits) / ms:.0%}" if limits else ""
        ratio = f"{ms / ours:.2f}" if not math.isnan(ours) else ""
        cpu = step_ms(mine, "cpu_ms")
        peak, start = (statistics.median(each[name] for each in mine) for name in ("peak_mb", "start_mb"))
        lines.append(
            f"| {library} | {mode} | {ms:.1f} | {cpu:.1f} | {len(mine)} | {1000 * batch / ms:,.0f} | {ratio} "
            f"| {limit} | {peak:,.0f} | {peak - start:,.0f} |"
        )
    return lines


def _verdict(here: Sequence[Result]) -> list[str]:
    """Against the fastest as shipped, against the fastest in any mode, and against the smallest memory."""
    times = {who: step_ms(_of(here, *who)) for who in _who(here)}
    times = {who: ms for who, ms in times.items() if not math.isnan(ms)}
    lines = []
    for name, modes in (("as shipped", {"shipped"}), ("in any mode", {mode for _, mode in times})):
        others = [who for who in times if who[0] != OURS and who[1] in modes]
        ours = [who for who in times if who[0] == OURS and who[1] in modes]
        if others and ours:
            first, us = min(others, key=times.__getitem__), min(ours, key=times.__getitem__)
            lines.append(
                f"The fastest of the others {name}: {first[0]} ({first[1]}), {times[first]:.1f} ms a step; "
                f"ours ({us[1]}) {times[us]:.1f} ms: **{times[first] / times[us]:.2f} times** as fast.  "
            )
    lowest = min((each["peak_mb"] for each in here if "peak_mb" in each and each["library"] != OURS), default=None)
    us_peak = [each["peak_mb"] for each in _of(here, OURS, "shipped")]
    if lowest and us_peak:
        lines.append(f"The least memory of the others: {lowest:,.0f} MB; ours: {statistics.median(us_peak):,.0f} MB.")
    return lines


def time_to_fve(results: Sequence[Result]) -> str:
    """For each size: the end of every run, and when it passed two values of FVE that all libraries reach."""
    lines = []
    for latents, batch in _sizes(results, "fve"):
        here = [each for each in results if each["part"] == "fve" and _size(each) == (latents, batch)]
        died = [f"{each['library']} ({each['mode']}): {each['died']}.  " for each in here if "died" in each]
        here = [each for each in here if "died" not in each]
        if not here:
            lines += ["", *died]
            continue
        low, high = targets(here)
        lines += [
            f"\n#### d {here[0]['d_in']}, {latents:,} latents, k {here[0]['k']}, batch {batch:,}: "
            f"{here[0]['steps']:,} steps, scored on {here[0]['held_out_rows']:,} held-out rows\n",
            f"| library | mode | learning rate | FVE | L0 | dead | s in all | s to {low:.3f} | ours is faster "
            f"| s to {high:.3f} | ours is faster |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for pick, name in ((_default, "default"), (_best, "best")):
            chosen = {who: pick([each for each in here if _by(each) == who]) for who in _who(here)}
            ours = chosen.get((OURS, "shipped"))
            for (library, mode), each in chosen.items():
                if each is None:
                    continue
                row = f"| {library} | {mode} | {each['learning_rate']:.2g} ({name}{_edge(each, here, name)}) "
                row += f"| {each['fve']:.4f} | {each['l0']:.1f} | {each['dead']:.1%} | {each['seconds']:.0f} "
                for target in (low, high):
                    mine, theirs = (seconds_to(target, which["points"]) if which else None for which in (ours, each))
                    row += f"| {_number(theirs)} | {f'{theirs / mine:.2f}' if mine and theirs else ''} "
                lines.append(row + "|")
        lines += ["", *died]
    return "\n".join(lines)


def targets(here: Sequence[Result]) -> tuple[float, float]:
    """Nine tenths of, and all of, the lowest FVE at which any library ends with its best learning rate."""
    ends = [_best([each for each in here if _by(each) == who]) for who in _who(here)]
    lowest = min(each["points"][-1]["fve"] for each in ends if each is not None)
    high = math.floor(lowest * 1000) / 1000
    return math.floor(high * 900) / 1000, high


def seconds_to(target: float, points: Sequence[dict[str, float]]) -> float | None:
    """When the curve first passes ``target``, in a straight line between its points; ``None``: never."""
    before: dict[str, float] | None = None
    for point in points:
        if point["fve"] >= target:
            if before is None:
                return point["seconds"]
            share = (target - before["fve"]) / (point["fve"] - before["fve"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        before = point
    return None


def profiles(results: Sequence[Result]) -> str:
    """Where one step's time goes."""
    wanted = [each for each in results if each["part"] == "profile" and each.get("profile")]
    return "\n".join(
        f"\n#### {each['library']} ({each['mode']}), {each['latents']:,} latents, batch {each['batch']:,}\n\n"
        f"```\n{each['profile']}\n```"
        for each in wanted
    )


def step_ms(runs: Iterable[Result], which: str = "step_ms") -> float:
    """The median over runs of each run's median step, in ms; not a number where there is none."""
    medians = [statistics.median(each[which]) for each in runs if each.get(which)]
    return statistics.median(medians) if medians else math.nan


def _default(runs: Sequence[Result]) -> Result | None:
    return next((each for each in runs if each["times_rate"] == 1), None)


def _best(runs: Sequence[Result]) -> Result | None:
    return max(runs, key=lambda each: each["fve"], default=None)


def _edge(each: Result, here: Sequence[Result], name: str) -> str:
    """Whether the best learning rate is the lowest or the highest that was tried: a better one may lie beyond."""
    tried = [other["times_rate"] for other in here if _by(other) == _by(each)]
    at_edge = name == "best" and len(tried) > 1 and each["times_rate"] in (min(tried), max(tried))
    return ", at the edge" if at_edge else ""


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


def _of(results: Iterable[Result], library: str, mode: str) -> list[Result]:
    return [each for each in results if _by(each) == (library, mode) and "died" not in each]


def _by(result: Result) -> tuple[str, str]:
    return result["library"], result["mode"]


def _who(results: Iterable[Result]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(map(_by, results)))


def _size(result: Result) -> tuple[int, int]:
    return result["latents"], result["batch"]


def _sizes(results: Iterable[Result], part: str) -> list[tuple[int, int]]:
    return list(dict.fromkeys(_size(each) for each in results if each["part"] == part))
