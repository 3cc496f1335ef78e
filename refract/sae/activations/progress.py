"""Progress bars for what takes long: harvesting, and reading a store once through."""

from __future__ import annotations

from typing import Any

from refract.sae.activations.manifest import OnProgress

UNITS = {"harvest": "row", "verify": "B", "statistics": "row", "evaluate": "token", "top contexts": "token"}


def bars() -> OnProgress:
    """An ``on_progress`` that shows a bar for each stage that lasts longer than two seconds."""
    from tqdm import tqdm  # the plain bar: the one with widgets warns where they are not installed

    shown: dict[str, Any] = {}

    def on_progress(stage: str, done: int, total: int | None) -> None:
        bar = shown.get(stage)
        if bar is None:
            unit = UNITS.get(stage, "it")
            bar = shown[stage] = tqdm(total=total, desc=stage, unit=unit, unit_scale=True, delay=2, mininterval=0.2)
        bar.update(done - bar.n)
        if done == total:
            bar.close()
            del shown[stage]

    return on_progress
