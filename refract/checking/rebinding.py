"""Judge each exercise alone: in an answer's globals, the names of the other exercises mean the reference."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Any

from refract.checking.packing import functions_of


def rebind(answer: Any, references: Mapping[str, Any]) -> None:
    """Bind ``references`` in the globals and closures of every function that ``answer`` carries.

    Only dictionaries that unpickling made are touched, never a module's own.
    """
    modules = {id(vars(module)) for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)}
    for function in functions_of(answer):
        if id(function.__globals__) not in modules:
            function.__globals__.update(references)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name in references:
                cell.cell_contents = references[name]


def kind_problem(name: str, answer: Any, reference: Any) -> str | None:
    """A sentence if the answer is not the kind of thing that is due, else None."""
    from refract.checking.expect import describe

    due = "class" if isinstance(reference, type) else "function"
    if isinstance(answer, type):
        came = "class"
    elif callable(answer):
        came = "function"
    else:
        called = "" if answer is None else " Hand over the function itself, without calling it." * (due == "function")
        return f"`{name}` should be a {due}; it is {describe(answer).replace(' (is a `return` missing?)', '')}.{called}"
    if came == due:
        return None
    return f"`{name}` should be a {due}; it is a {came}."
