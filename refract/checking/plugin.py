"""The pytest plugin: a fixture per exercise, isolation of each test, and ``--answers FILE``.

In a section's test file, a test takes an exercise by its name. What the fixture returns depends on who asks:
the reference (plain ``pytest``), or the answer under check (the worker). With ``--answers FILE`` the answers of
a notebook or module are judged in the worker, and each test reports what became of it there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from refract import reference
from refract.paths import SectionPaths, root


class Provider:
    """What the fixtures of one section return: an answer where there is one, else the reference."""

    def __init__(self, paths: SectionPaths, exercises: Sequence[str], answers: Mapping[str, Any] | None = None) -> None:
        self.paths, self.exercises, self.answers = paths, tuple(exercises), dict(answers or {})

    def get(self, name: str) -> Any:
        return self.answers[name] if name in self.answers else reference.get(self.paths, name)

    def judges(self, name: str) -> bool:
        """Whether it is this exercise that is under check; all are if no answers were given."""
        return name in self.answers or not self.answers


_PROVIDER = pytest.StashKey[Provider]()
_SHEET = pytest.StashKey[Any]()
_WITNESS = pytest.StashKey[Any]()


class Provided:
    """A plugin that hands a provider to the session: how the worker puts an answer under check."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[_PROVIDER] = self._provider


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("refract").addoption(
        "--answers", metavar="FILE", help="judge the answers in this notebook or module instead of the reference"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "refract_mistake(name): the known mistake that this test catches")
    config.addinivalue_line(
        "markers", "refract_may_change(*names, exercise): inputs that an answer may change in place"
    )
    config.addinivalue_line("markers", "refract_title(text): what the learner reads in place of the test's name")
    file = config.getoption("--answers", default=None)
    if file is not None:
        from refract.checking.sheet import AnswerSheet

        sheet = AnswerSheet.open(Path(file), config)
        config.stash[_SHEET] = sheet
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(sheet.paths.tests)]


def section_of(path: Path) -> SectionPaths | None:
    """The section whose checkers this file holds, if it is such a file."""
    if not path.name.startswith("test_") or path.parent.parent != root() / "tests":
        return None
    paths = SectionPaths(path.parent.name, path.stem.removeprefix("test_"))
    return paths if paths.source.is_file() else None


def provider_for(config: pytest.Config, paths: SectionPaths) -> Provider:
    """The session's provider for a section."""
    given = config.stash.get(_PROVIDER, None)
    if given is not None and given.paths == paths:
        return given
    from refract.authoring.source import load

    return Provider(paths, [exercise.name for exercise in load(paths).exercises])


class SectionModule(pytest.Module):
    """A section's test file: a pytest module with one fixture per exercise of the section."""

    refract_paths: SectionPaths
    exercises: tuple[str, ...] = ()

    def collect(self) -> Any:
        provider = provider_for(self.config, self.refract_paths)
        self.exercises = provider.exercises
        for name in provider.exercises:
            if not hasattr(self.obj, name):
                setattr(self.obj, name, _fixture(provider, name))
        return super().collect()


def _fixture(provider: Provider, name: str) -> Any:
    def exercise(request: pytest.FixtureRequest) -> Iterator[Any]:
        answer = provider.get(name)
        if not provider.judges(name):
            yield answer
            return
        from refract.checking import watching

        with watching.watched(answer, watching.allowed_by(request.node, name)) as watched:
            yield watched

    exercise.__doc__ = f"The answer to the exercise {name}."
    return pytest.fixture(name=name)(exercise)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    paths = section_of(module_path)
    if paths is None:
        return None
    module: SectionModule = SectionModule.from_parent(parent, path=module_path)
    module.refract_paths = paths
    return module


def exercises_of(item: pytest.Item) -> tuple[str, ...]:
    """The exercises a test needs, directly or through other fixtures."""
    module = item.getparent(SectionModule)
    names = getattr(item, "fixturenames", ())
    return tuple(name for name in module.exercises if name in names) if module is not None else ()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
    if isinstance(item, pytest.Function) and exercises_of(item):
        from refract.checking import guard

        with guard.isolated(item.nodeid.split("::", 1)[-1]):
            # A test that patches has its own reasons: its patches are undone after it.
            item.stash[_WITNESS] = guard.Witness(patched_by_test="monkeypatch" in item.fixturenames)
            return (yield)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test's own fixtures may call the answer too."""
    return (yield from _met(item))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    return (yield from _met(pyfuncitem))


def _met(item: pytest.Item) -> Generator[None, Any, Any]:
    """Meet every way out of a test, and name what the answer left changed."""
    witness = item.stash.get(_WITNESS, None)
    if witness is None:
        return (yield)
    ended: BaseException | None = None
    value: Any = None
    try:
        value = yield
    except BaseException as error:
        ended = error
    complaint = witness.complaint()  # first of all: what was replaced is put back
    from refract.checking.expect import Malformed

    if complaint is not None:
        raise Malformed(complaint) from None
    if isinstance(ended, SystemExit | KeyboardInterrupt | GeneratorExit | pytest.exit.Exception):
        what = "sys.exit() (SystemExit)" if isinstance(ended, SystemExit) else type(ended).__name__
        raise Malformed(f"Your code ends with {what} in the middle of a call. Return a value instead.") from ended
    if ended is not None:
        raise ended
    return value


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    sheet = config.stash.get(_SHEET, None)
    if sheet is not None:
        judged = [sheet.item(item) for item in items if _belongs(item, sheet.paths)]
        config.hook.pytest_deselected(items=[item for item in items if not _belongs(item, sheet.paths)])
        items[:] = judged


def _belongs(item: pytest.Item, paths: SectionPaths) -> bool:
    module = item.getparent(SectionModule)
    return module is not None and module.refract_paths == paths and bool(exercises_of(item))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    sheet = config.stash.get(_SHEET, None)
    if sheet is not None:
        sheet.summarise(terminalreporter)
