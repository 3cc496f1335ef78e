"""The whole course at once: lint, format, types, what is generated is in step, and runs again to the same numbers."""

import datetime
import subprocess
import sys

import pytest

from refract.authoring.build import build
from refract.paths import all_sections, root


def _run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=root(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_lint():
    _run("ruff", "check", "--no-cache")


def test_format():
    _run("ruff", "format", "--check", "--no-cache")


def test_types():
    _run("mypy")


def test_everything_generated_is_in_step(capsys):
    assert build(check=True) == 0, capsys.readouterr().out


def due(sections: list[str], day: int) -> list[str]:
    """The sections whose worked notebooks are executed again today: a quarter, rounded up, each in its turn."""
    period = min(4, len(sections))
    return [section for place, section in enumerate(sections) if place % period == day % period]


@pytest.mark.parametrize("count", [1, 3, 7, 30])
def test_every_section_has_its_turn(count):
    sections = [str(number) for number in range(count)]
    turns = [section for day in range(700, 704) for section in due(sections, day)]
    assert set(turns) == set(sections)
    assert max(len(due(sections, day)) for day in range(4)) <= -(-count // 4)


def test_worked_notebooks_give_the_same_numbers_again(capsys):
    today = due([paths.id for paths in all_sections()], datetime.date.today().toordinal())
    assert today
    assert build(today, verify=True) == 0, capsys.readouterr().out


def test_the_repository_is_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root(), capture_output=True, text=True, check=True).stdout
    files = [root() / name for name in listed.split("\0") if name]
    size = sum(file.stat().st_size for file in files if file.is_file())
    assert size < 60e6, f"tracked files are {size / 1e6:.0f} MB; the limit is 60 MB"


@pytest.mark.parametrize("module", ["refract", "refract.session", "refract.checking"])
def test_importing_the_course_loads_no_heavy_neighbours(module):
    code = f"import sys, {module}; sys.exit(bool({{'streamlit', 'transformer_lens', 'torch'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=root(), check=False).returncode == 0
