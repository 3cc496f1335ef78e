"""Run an exercise that is not written yet, and the notebook says which one, and what to do."""

from __future__ import annotations

from types import TracebackType
from typing import Any


def explain() -> None:
    """From now on this kernel puts a sentence below the traceback of an unwritten exercise."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((NotImplementedError,), _show)


def _show(shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None) -> None:
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    name = _exercise(error, trace)
    if name is not None:
        print(
            f"{name} is not written yet. Write it in its cell, run that cell, and come back to this one.\n"
            f'To go on without writing it: {name} = solution("{name}")'
        )


def _exercise(error: BaseException, trace: TracebackType | None) -> str | None:
    """The function or class whose stub stopped here; ``None`` if something else was not implemented."""
    from refract.authoring.stubs import UNWRITTEN

    if str(error) != UNWRITTEN or trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_code.co_qualname.split(".")[0]
    return name if name.isidentifier() else None  # "<module>": a line of the notebook's own
