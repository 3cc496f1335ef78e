"""The set-up cell, as it stands in the learner's notebook, run where a learner would run it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from packaging.requirements import Requirement

from refract import bootstrap
from refract.errors import RefractError
from refract.paths import SectionPaths, project, repository, revision, root

SECTION = SectionPaths.parse("s1_toy_models")
EXERCISE = "sample_features"


def cell(name: str) -> str:
    """A cell of the real learner's notebook, unmodified."""
    cells = nbformat.read(SECTION.notebook, as_version=4).cells
    return next(item["source"] for item in cells if item["id"] == name)


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without what would lead a new Python, or git, back to this checkout."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "REFRACT", "GIT_", "VIRTUAL_ENV"))
    }
    return kept | settings


def run(python: Path | str, folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-c", script],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- on a bare machine -------------------------------------------------------------------------


def distributions(*names: str) -> list[importlib.metadata.Distribution]:
    """The named distributions and all that they require here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # torch names a few that only some machines have
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return list(found.values())


def link(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    """Make one installed distribution, with its metadata, visible in ``folder``."""
    for top in {Path(file).parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        if not (folder / top).exists():
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def bare_python(folder: Path, *, with_pip: bool) -> Path:
    venv.create(folder, with_pip=with_pip, symlinks=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(python: Path) -> Path:
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(run(python, python.parent, script).stdout.strip())


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> dict[str, str]:
    """A repository with this checkout's commit under the set-up cell's tag; git takes it for the real one."""
    folder = tmp_path_factory.mktemp("origin") / "course.git"
    trust = ["git", "-c", "safe.directory=*"]
    for command in (
        [*trust, "clone", "-q", "--bare", "--no-local", str(root()), str(folder)],
        [*trust, "-C", str(folder), "tag", "-f", revision(), "HEAD"],
    ):
        subprocess.run(command, env=clean_environment(), check=True, capture_output=True)
    return {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository(),
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of torch and numpy."""
    found = {}
    for name in ("torch", "numpy"):
        for path in (folder / name).resolve().rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                stat = path.stat()
                found[str(path)] = (stat.st_size, stat.st_mtime_ns)
    return found


REPORT = """
import importlib.metadata, json, sys, time
began = time.perf_counter()
exec(compile({setup!r}, "set-up", "exec"))
took = time.perf_counter() - began
began = time.perf_counter()
exec(compile({setup!r}, "set-up again", "exec"))
again = time.perf_counter() - began
exec(compile({imports!r}, "imports", "exec"))
exec(compile({stub!r}, "stub", "exec"))
result = check({exercise})
import refract
print("REPORT" + json.dumps({{
    "took": took, "again": again, "status": result.status, "text": repr(result), "refract": refract.__file__,
    "versions": {{name: importlib.metadata.version(name) for name in ("torch", "numpy", "einops", "jaxtyping")}},
}}))
"""


def report(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("REPORT"))
    return json.loads(line.removeprefix("REPORT"))


def test_on_a_bare_machine_the_cell_fetches_the_course_and_installs_only_what_is_missing(tmp_path, origin):
    python = bare_python(tmp_path / "bare", with_pip=True)
    held = tmp_path / "held"
    held.mkdir()
    for distribution in distributions("torch", "numpy"):
        link(distribution, held)
    site = site_packages(python)
    (site / "held.pth").write_text(f"{held}\n", encoding="utf-8")
    before, untouched = {path.name for path in site.iterdir()}, files(held)
    folder = tmp_path / "content"
    folder.mkdir()
    script = REPORT.format(
        setup=cell("top-setup"),
        imports=cell("top-imports"),
        stub=cell(f"exercise-{EXERCISE}-answer"),
        exercise=EXERCISE,
    )
    home = str(tmp_path / "home")
    first = report(run(python, folder, script, **origin, REFRACT_HOME=home))
    course = folder / "refract-course"
    assert Path(first["refract"]).is_relative_to(course)
    assert first["status"] == "not attempted"
    assert f"{EXERCISE}: not attempted yet." in first["text"]
    assert first["again"] < 5  # in the same kernel, no restart
    for name in ("torch", "numpy"):
        assert first["versions"][name] == importlib.metadata.version(name)

    installed = {path.name for path in site.iterdir()} - before
    assert not [name for name in installed if re.match(r"(torch|numpy|nvidia|triton)\b", name, flags=re.IGNORECASE)]
    assert {"einops", "jaxtyping", "plotly"} <= installed
    assert files(held) == untouched

    # A new kernel, with neither the index nor the repository within reach: nothing is fetched any more.
    cut_off = {"PIP_NO_INDEX": "1", "GIT_ALLOW_PROTOCOL": "none", "REFRACT_HOME": home}
    second = report(run(python, folder, script, **cut_off))
    assert second["took"] < 10
    assert second["status"] == "not attempted"
    assert second["versions"] == first["versions"]
    assert {path.name for path in site.iterdir()} - before == installed


def test_without_torch_the_cell_says_so(tmp_path, origin):
    python = bare_python(tmp_path / "bare", with_pip=False)
    done = run(python, tmp_path, cell("top-setup"), **origin)
    assert done.returncode == 1
    assert "RefractError: torch and numpy are not installed here." in done.stderr
    assert "pytorch.org" in done.stderr
    assert [path.name for path in site_packages(python).iterdir()] == []


def test_a_clone_that_fails_leaves_a_clear_error(tmp_path):
    nowhere = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{(tmp_path / 'nowhere').as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository(),
    }
    python = bare_python(tmp_path / "bare", with_pip=False)
    done = run(python, tmp_path, cell("top-setup"), **nowhere)
    assert done.returncode == 1
    assert f"RuntimeError: The course could not be fetched from {repository()}" in done.stderr
    assert "nowhere" in done.stderr  # git's own reason
    assert not (tmp_path / "refract-course").exists()  # so that running the cell again starts afresh


# --- on a learner's own machine ----------------------------------------------------------------

WATCHED = """
import json, sys
started = []
sys.addaudithook(lambda event, arguments: started.append(event) if event in (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect") else None)
exec(compile({setup!r}, "set-up", "exec"))
import refract
names = [check, hint, predict, record, reveal, setup, show, solution]
print("REPORT" + json.dumps({{"started": started, "refract": refract.__file__, "names": len(names)}}))
"""


@pytest.mark.parametrize("place", ["", "work", "chapters/ch1_superposition", "solutions/ch1_superposition"])
def test_in_a_checkout_the_cell_only_imports(place):
    folder = root() / place
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    before = set(folder.iterdir())
    try:
        done = report(run(sys.executable, folder, WATCHED.format(setup=cell("top-setup"))))
        assert done == {"started": [], "refract": str(root() / "refract/__init__.py"), "names": 8}
        assert {path for path in folder.iterdir() if path.name != "__pycache__"} <= before
    finally:
        if made:
            folder.rmdir()


def test_with_refract_installed_the_cell_only_imports_anywhere(tmp_path):
    done = report(run(sys.executable, tmp_path, WATCHED.format(setup=cell("top-setup")), PYTHONPATH=str(root())))
    assert done == {"started": [], "refract": str(root() / "refract/__init__.py"), "names": 8}
    assert list(tmp_path.iterdir()) == []


# --- its parts ---------------------------------------------------------------------------------


def absent(monkeypatch, *names: str) -> None:
    """Pretend that only these are missing."""

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(importlib.metadata, "version", version)


def commands(monkeypatch, returncode: int = 0, stderr: str = "") -> list[list[str]]:
    """Collect the commands that would be run, and the constraints that they were given."""
    ran: list[list[str]] = []

    def fake(command, **how):
        held = Path(command[command.index("--constraint") + 1]).read_text().split()
        ran.append([*command, *held])
        return SimpleNamespace(returncode=returncode, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", fake)
    return ran


def test_what_is_missing_is_installed_with_torch_and_numpy_held(monkeypatch, capsys):
    absent(monkeypatch, "einops", "typer")
    ran = commands(monkeypatch)
    assert bootstrap.install_missing() == ["einops", "typer"]
    assert "Installing einops, typer." in capsys.readouterr().out
    ((*_, einops, typer, torch, numpy),) = ran
    wanted = project()["project"]["dependencies"]
    assert [einops, typer] == [text for text in wanted if text.startswith(("einops", "typer"))]
    assert [torch, numpy] == ["torch==9.9", "numpy==9.9"]
    assert not any(item.startswith(("torch>", "numpy>", "--upgrade", "-U", "--force")) for item in ran[0])


def test_nothing_missing_runs_nothing(monkeypatch):
    absent(monkeypatch)
    ran = commands(monkeypatch)
    assert bootstrap.missing() == []
    assert bootstrap.install_missing() == []
    assert ran == []


def test_an_extra_is_installed_when_asked_for(monkeypatch):
    absent(monkeypatch, "transformer-lens", "einops")
    ran = commands(monkeypatch)
    assert bootstrap.missing() == [text for text in project()["project"]["dependencies"] if text.startswith("einops")]
    assert bootstrap.install_missing("models") == ["einops", "transformer-lens"]
    ((*_, einops, lens, _torch, _numpy),) = ran
    assert einops.startswith("einops>=")
    assert lens in project()["project"]["optional-dependencies"]["models"]


@pytest.mark.parametrize(("names", "verb"), [(("torch",), "torch is"), (("torch", "numpy"), "torch and numpy are")])
def test_torch_and_numpy_are_never_installed(monkeypatch, names, verb):
    absent(monkeypatch, "einops", *names)
    ran = commands(monkeypatch)
    with pytest.raises(RefractError, match=f"{verb} not installed here"):
        bootstrap.install_missing()
    assert ran == []


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [("WARNING: x\nERROR: No matching distribution\n", "ERROR: No matching distribution"), ("", "pip gave no reason")],
)
def test_pip_s_reason_is_passed_on(monkeypatch, stderr, reason):
    absent(monkeypatch, "einops")
    commands(monkeypatch, returncode=1, stderr=stderr)
    with pytest.raises(RefractError) as caught:
        bootstrap.install_missing()
    assert caught.value.problem == f"Installing einops failed: {reason}"


def test_the_bootstrap_needs_nothing_but_the_standard_library():
    script = "import sys; sys.path.insert(0, sys.argv[1]); import refract.bootstrap; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", script, str(root())], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) - {"__main__"} == {"refract"}
