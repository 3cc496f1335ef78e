"""Execute a file as far as its definitions, inside the worker, and pack the answers it holds.

Run are: imports; functions and classes; assignments whose value is a literal, a name, arithmetic on these, a
lambda, or a call of a few cheap constructors (``CHEAP``); ``if`` and ``try`` around such statements; and
``name = solution("name")``, which means the reference. Everything else is left out: bare calls (``check``,
``hint``, plots), training, loops, magics and shell lines. An error in one statement loses that statement only, and
there is a note of it; but not of the course's own statements, which the learner has not touched.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import sys
import types
from collections.abc import Callable
from typing import Any

from refract.checking import given
from refract.checking.packing import Unpackable, belongs_to_library, is_definition, pack
from refract.checking.spelling import near, slip_for
from refract.paths import SectionPaths

_CHEAP = """
int float bool str complex len range tuple list dict set frozenset slice min max abs round sorted object
partial functools.partial namedtuple collections.namedtuple TypeVar typing.TypeVar NewType ParamSpec
Path pathlib.Path math.sqrt math.log math.exp math.prod
torch.device torch.tensor torch.as_tensor torch.arange torch.linspace torch.logspace torch.zeros torch.ones
torch.eye torch.full torch.empty torch.Size torch.Generator
torch.cuda.is_available torch.backends.mps.is_available torch.get_default_device
np.array np.arange np.linspace np.logspace np.zeros np.ones np.eye np.random.default_rng
"""
_METHODS = "to float double long view reshape unsqueeze squeeze flatten clone tolist item repeat expand"
CHEAP, CHEAP_METHODS = frozenset(_CHEAP.split()), frozenset(_METHODS.split())
_TIMED = ("%%time", "%%timeit", "%%capture", "%%prun")  # cell magics around code that is the learner's all the same


def load(request: dict[str, Any], begin: Callable[[str], None]) -> dict[str, Any]:
    """Execute ``request["cells"]`` (pairs of label and source); ``begin`` is told of each.

    Returns the packed answers by exercise, the sources of their definitions, which of them are the reference,
    and notes.
    """
    session = _Session(request)
    for label, source in request["cells"]:
        begin(label)
        session.run(label, source)
    return session.report()


class _Session:
    """One namespace, as a kernel has, and what happened to it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request, self._flags = request, 0
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main  # classes look their own module up
        self.space: dict[str, Any] = vars(main)
        self.notes: list[str] = []
        self.sources: dict[str, str] = {}
        self.shown: set[str] = set()
        self.skipped: dict[str, str] = {}  # variable -> where it would have been made
        self.problems: dict[str, str] = {}  # exercise -> why its definition failed
        self.defined: dict[str, str] = {}  # function or class -> where the learner defines it
        self._left_out: list[str] = []  # variables that code of the learner's own would have made
        self._paths = SectionPaths(request["chapter"], request["section"])
        self._given = given.statements(self._paths)

    def run(self, label: str, source: str) -> None:
        try:
            text = _plain(source, notebook=self._request["notebook"])
            tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f"{label}, line {line}" if line else label
            words = error.msg if isinstance(error, SyntaxError) else error
            self.notes.append(f"{where}: {words}. This cell was not run.")
            for name in self._request["exercises"]:
                if f"def {name}(" in source or f"class {name}" in source:
                    self._failed(name, f"It is in {where}, which is no valid Python: {error}")
            return
        linecache.cache[label] = (len(text), None, text.splitlines(keepends=True), label)
        for statement in tree.body:
            self._statement(label, text, statement)

    def _statement(self, label: str, text: str, statement: ast.stmt) -> None:
        names = assigned(statement)
        # An answer is the learner's even where it is still the stub.
        untouched = given.fingerprint(statement) in self._given and not set(names) & set(self._request["exercises"])
        shown = _solution(statement)
        kept = None if shown else definitions_of(statement)
        if shown in self._request["exercises"]:
            from refract import reference

            assert shown is not None
            self.space[names[0]] = reference.get(self._paths, shown)
            if names[0] == shown:
                self.shown.add(shown)
                self.problems.pop(shown, None)
                self.sources[shown] = ast.get_source_segment(text, statement) or ""
            return
        if kept is None:
            self._leave_out(label, names, untouched)
            return
        if isinstance(kept, ast.ImportFrom) and kept.module == "__future__":
            for alias in kept.names:
                self._flags |= getattr(__future__, alias.name).compiler_flag
        try:
            code = compile(ast.Module([kept], []), label, "exec", flags=self._flags, dont_inherit=True)
            exec(code, self.space)
        except BaseException as error:
            answers = set(names) & set(self._request["exercises"])
            if isinstance(error, NameError) and error.name in self.skipped and not answers:
                self._leave_out(label, names, untouched)  # it leans on what was left out: no fault of the statement
                return
            words = f"{type(error).__name__}: {error}"
            if isinstance(error, NameError) and (meant := self._meant(error)):
                words += f". Did you mean `{meant}`?"
            imports = isinstance(statement, ast.Import | ast.ImportFrom)
            if not untouched or imports:  # of the course's own, only a library that is missing is worth a note
                self.notes.append(f"{label}, line {statement.lineno}: {words}")
            for name in names:
                self._failed(name, f"Its definition in {label} raises {words}")
                if untouched:
                    self.skipped[name] = label
            return
        for name in names:
            if not untouched and is_definition(self.space.get(name)) and not belongs_to_library(self.space[name]):
                self.defined[name] = label
            self.skipped.pop(name, None)
            self.shown.discard(name)
            self.problems.pop(name, None)
            if name in self._request["exercises"]:
                self.sources[name] = _segment(text, statement)

    def _leave_out(self, label: str, names: list[str], untouched: bool) -> None:
        self.skipped |= {name: label for name in names}
        self._left_out += [] if untouched else names

    def _failed(self, name: str, problem: str) -> None:
        self.space.pop(name, None)
        self.sources.pop(name, None)
        self.shown.discard(name)
        if name in self._request["exercises"]:
            self.problems[name] = f"This could not be defined. {problem}"

    def _meant(self, error: NameError) -> str | None:
        """The name that a name without a meaning is near to."""
        return near(error.name, [*self.space, *given.names(self._paths)]) if error.name else None

    def _misnamed(self, exercise: str) -> str | None:
        """Why there is no such exercise, if what the learner defines has nearly its name."""
        slip = slip_for(exercise, [name for name in self.defined if name not in self._request["exercises"]])
        if slip is None:
            return None
        return (
            f"You define `{slip}` in {self.defined[slip]}; the exercise is called `{exercise}`. "
            f"Rename yours to `{exercise}`, then check again."
        )

    def report(self) -> dict[str, Any]:
        answers = {}
        for name in self._request["exercises"]:
            if name not in self.space:
                problem = None if name in self.problems else self._misnamed(name)
                self.problems |= {name: problem} if problem else {}
                continue
            try:
                message = pack(self.space[name]).to_message()
            except Unpackable as error:
                self.problems[name] = f"{error.problem}\n{error.remedy}"
                continue
            message |= {"source": self.sources.get(name, ""), "skipped": self.skipped, "path": self._request["path"]}
            answers[name] = message
        missing = [name for name in dict.fromkeys(self._left_out) if name not in self.space]
        if missing:
            listed = ", ".join(f"`{name}`" for name in missing[:6]) + (", …" if len(missing) > 6 else "")
            self.notes.append(f"Only definitions were run; variables that other code makes were left out: {listed}")
        self.notes += [f"{name} is the reference (solution shown)." for name in sorted(self.shown)]
        return {
            "answers": answers,
            "problems": self.problems,
            "sources": self.sources,
            "shown": sorted(self.shown),
            "notes": self.notes,
        }


def _plain(source: str, notebook: bool) -> str:
    """A cell without IPython's syntax: magics become calls, which are left out with all other calls."""
    if not notebook:
        return source
    first, _, rest = source.lstrip().partition("\n")
    if first.startswith("%%"):
        if not first.startswith(_TIMED):
            return ""
        source = rest
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def definitions_of(statement: ast.stmt) -> ast.stmt | None:
    """The statement if it is a definition, the part of it that is, or None."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return statement
        case ast.Assign(targets=targets, value=value) if all(map(_is_name, targets)) and is_cheap(value):
            return statement
        case ast.AnnAssign(target=ast.Name(), value=value) if value is None or is_cheap(value):
            return statement
        case ast.If(test=test, body=body, orelse=other) if is_cheap(test):
            return ast.copy_location(ast.If(test, _kept(body) or [_nothing(statement)], _kept(other)), statement)
        case ast.Try(body=body, handlers=handlers, orelse=other, finalbody=final):
            kept = [
                ast.copy_location(ast.ExceptHandler(each.type, each.name, _kept(each.body) or [_nothing(each)]), each)
                for each in handlers
            ]
            inside = _kept(body)
            return ast.copy_location(ast.Try(inside, kept, _kept(other), _kept(final)), statement) if inside else None
    return None


def _kept(body: list[ast.stmt]) -> list[ast.stmt]:
    return [kept for each in body if (kept := definitions_of(each)) is not None]


def _nothing(node: ast.stmt | ast.ExceptHandler) -> ast.stmt:
    return ast.copy_location(ast.Pass(), node)


def _is_name(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_name, target.elts))
    return isinstance(target, ast.Name)


def is_cheap(node: ast.expr) -> bool:
    """Whether evaluating an expression is sure to be quick: no calls but those in ``CHEAP``."""
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.Call):
        name = _dotted(node.func)
        method = isinstance(node.func, ast.Attribute) and node.func.attr in CHEAP_METHODS and is_cheap(node.func.value)
        if name not in CHEAP and not method:
            return False
        return all(map(is_cheap, [*node.args, *(keyword.value for keyword in node.keywords)]))
    if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr | ast.comprehension | ast.GeneratorExp):
        return False
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp):
        return False
    return all(is_cheap(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def assigned(statement: ast.stmt) -> list[str]:
    """The names that a statement binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    # What a comprehension binds stays inside it.
    parts = [statement] if not isinstance(statement, ast.Assign) else statement.targets
    nodes = [node for part in parts for node in ast.walk(part)]
    bound = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    inside = [node.name for node in ast.walk(statement) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return list(dict.fromkeys([*bound, *inside]))


def _solution(statement: ast.stmt) -> str | None:
    """The exercise in ``name = solution("exercise")``."""
    match statement:
        case ast.Assign(targets=[ast.Name()], value=ast.Call(func=function, args=[ast.Constant(value=str(name))])):
            return name if _dotted(function).rpartition(".")[2] == "solution" else None
    return None


def _segment(text: str, statement: ast.stmt) -> str:
    """A statement's own lines, decorators included."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(text.split("\n")[first - 1 : statement.end_lineno])
