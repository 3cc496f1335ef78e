"""An answer as bytes: what it is, what it refers to, and the lines of source its traceback will need."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import linecache
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from refract.errors import RefractError

_LARGEST = 256 * 2**20  # bytes of an answer with everything it carries
_MOST_NAMES = 5_000


@dataclass(frozen=True)
class PackedAnswer:
    """An answer that can cross to another process without being run in this one."""

    data: bytes = field(repr=False)
    sources: dict[str, list[str]] = field(default_factory=dict, repr=False)  # file of the code -> its lines, if known
    source: str = field(default="", repr=False)  # the answer's own text, for the progress file
    skipped: dict[str, str] = field(default_factory=dict, repr=False)  # variable -> the cell that makes it
    path: list[str] = field(default_factory=list)  # where the answer's own modules are found
    names: list[str] = field(default_factory=list, repr=False)  # what its namespace holds: a typo may mean one of them
    functions: list[str] = field(default_factory=list, repr=False)  # those of them that the learner defined
    problem: str = ""  # why there is no answer, for the learner

    def to_message(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "data": base64.b64encode(self.data).decode(),
            "sources": self.sources,
            "source": self.source,
            "skipped": self.skipped,
            "path": self.path,
            "names": self.names,
            "functions": self.functions,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> PackedAnswer:
        """The inverse of :meth:`to_message`."""
        return cls(
            base64.b64decode(message["data"]),
            message["sources"],
            message["source"],
            message["skipped"],
            message["path"],
            message["names"],
            message["functions"],
        )


class Unpackable(RefractError):
    """The answer cannot be handed over; ``problem`` says which variable is in the way."""


def pack(answer: Any) -> PackedAnswer:
    """Pickle an answer by value, with the globals it uses. Raises :class:`Unpackable`."""
    with _by_value(_modules(answer)):
        try:
            data = _dump(answer)
        except Exception as error:
            raise _culprit(answer, error) from error
    names, functions = _namespace(answer)
    return PackedAnswer(data, _sources(answer), _source(answer), names=names, functions=functions)


class _Full(Exception):
    pass


class _Bounded(io.BytesIO):
    """A buffer that refuses to grow without end: a forgotten dataset among the globals must not hang the kernel."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > _LARGEST:
            raise _Full
        return super().write(data)


class _Pickler(cloudpickle.Pickler):
    """Cached functions too are sent by value: pickle would send their name alone."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, functools._lru_cache_wrapper) and not belongs_to_library(obj):
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        return super().reducer_override(obj)


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _dump(value: Any) -> bytes:
    buffer = _Bounded()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def _culprit(answer: Any, error: Exception) -> Unpackable:
    """Name the variable that cannot cross."""
    # A function fails for what it refers to: name that first.
    for name, value in sorted(referenced(answer), key=lambda pair: callable(pair[1])):
        try:
            _dump(value)
        except _Full:
            return Unpackable(
                f"Your answer uses the variable `{name}`, which holds more than {_LARGEST // 2**20} MB.",
                "Pass it in as an argument, or make a small one inside.",
            )
        except Exception:
            return Unpackable(
                f"Your answer uses the variable `{name}` ({_kind(value)}), which cannot be handed to the checker.",
                "Pass it in as an argument, or make it inside.",
            )
    reason = "it holds too much" if isinstance(error, _Full) else f"{type(error).__name__}: {error}"
    return Unpackable(f"Your answer cannot be handed to the checker ({reason}).", "Give check() a function or a class.")


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def referenced(answer: Any) -> Iterator[tuple[str, Any]]:
    """The variables from outside that an answer uses: globals by name, and what its closures hold."""
    seen: set[str] = set()
    for function in functions_of(answer):
        for name in _global_names(function.__code__):
            if name in function.__globals__ and name not in seen:
                seen.add(name)
                yield name, function.__globals__[name]
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                if name not in seen and cell.cell_contents is not answer:
                    seen.add(name)
                    yield name, cell.cell_contents


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def functions_of(answer: Any) -> list[types.FunctionType]:
    """Every Python function an answer is made of or carries: methods, helpers, what a partial or a closure holds.

    Functions of importable modules (torch, the course) are left alone: they are carried by name.
    """
    found: list[types.FunctionType] = []
    seen: set[int] = set()
    waiting: list[Any] = [answer]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, types.ModuleType | types.BuiltinFunctionType):
            continue
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            if belongs_to_library(value):
                continue
            found.append(value)
            waiting += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            waiting += [value.__globals__[name] for name in _global_names(value.__code__) if name in value.__globals__]
            waiting += [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
            waiting += list(vars(value).values())
        elif isinstance(value, type):
            if not belongs_to_library(value):
                waiting += [*vars(value).values(), *value.__bases__]
        elif isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, types.MethodType):
            waiting += [value.__func__, value.__self__]
        elif isinstance(value, staticmethod | classmethod | functools.cached_property):
            waiting.append(getattr(value, "__func__", None) or getattr(value, "func", None))
        elif isinstance(value, property):
            waiting += [value.fget, value.fset]
        elif isinstance(value, list | tuple | set | frozenset) and len(value) <= 1000:
            waiting += list(value)
        elif isinstance(value, dict) and len(value) <= 1000:
            waiting += list(value.values())
        elif hasattr(value, "__wrapped__"):
            waiting.append(value.__wrapped__)
        elif not belongs_to_library(type(value)):
            waiting += [type(value), *getattr(value, "__dict__", {}).values()]
    return found


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def belongs_to_library(value: Any) -> bool:
    """Whether a function or class can be found by name in the worker too: torch, the standard library, the course."""
    name = getattr(value, "__module__", None)
    if not isinstance(name, str) or name in ("__main__", ""):
        return False
    if name == "builtins":
        return True
    module = sys.modules.get(name)
    if module is None or (isinstance(value, types.FunctionType) and value.__globals__ is not vars(module)):
        return False
    file = getattr(module, "__file__", None)
    return file is None or is_library_file(file) or name.partition(".")[0] in ("refract", "solutions")


@functools.cache
def _library_folders() -> tuple[str, ...]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(str(Path(folder).resolve()) for folder in folders if folder)


@functools.cache
def is_library_file(file: str) -> bool:
    path = str(Path(file).resolve())
    return any(path.startswith((folder + "/", folder + "\\")) for folder in _library_folders())


def _modules(answer: Any) -> set[types.ModuleType]:
    """The learner's own modules that the answer comes from: sent by value, as the worker may see another version."""
    names = {function.__module__ for function in functions_of(answer)}
    names |= {
        value.__module__ for value in (answer, type(answer)) if isinstance(getattr(value, "__module__", None), str)
    }
    modules = {sys.modules[name] for name in names if name in sys.modules and name not in ("__main__", "builtins")}
    return {module for module in modules if not _importable(module)}


def _importable(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or is_library_file(file) or module.__name__.partition(".")[0] in ("refract", "solutions")


@contextlib.contextmanager
def _by_value(modules: set[types.ModuleType]) -> Iterator[None]:
    already = set(cloudpickle.list_registry_pickle_by_value())
    new = [module for module in modules if module.__name__ not in already]
    for module in new:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in new:
            cloudpickle.unregister_pickle_by_value(module)


def _namespace(answer: Any) -> tuple[list[str], list[str]]:
    """The names around an answer, and those of them that are functions and classes of the learner's own."""
    found: dict[str, Any] = {}
    for function in functions_of(answer):
        found |= {name: value for name, value in function.__globals__.items() if not name.startswith("_")}
    own = [name for name, value in found.items() if is_definition(value) and not belongs_to_library(value)]
    return sorted(found)[:_MOST_NAMES], sorted(own)[:_MOST_NAMES]


def is_definition(value: Any) -> bool:
    """Whether a value was made by ``def`` or ``class``."""
    return isinstance(value, types.FunctionType | type)


def _sources(answer: Any) -> dict[str, list[str]]:
    """The lines of the files that the answer's functions come from, as this process knows them."""
    files = {function.__code__.co_filename for function in functions_of(answer)}
    return {file: linecache.getlines(file)[:20_000] for file in files}


def _source(answer: Any) -> str:
    import inspect

    try:
        return inspect.getsource(answer.func if isinstance(answer, functools.partial) else answer)
    except (OSError, TypeError, IndentationError):
        return ""
