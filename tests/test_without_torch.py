"""What `pip install thanos-pruning` brings: the reference and the judge, without PyTorch."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_imports import ROOT

NUMERIC = ("numpy", "scipy")
PROGRAM = """
import numpy as np
from reference import parse_pattern, thanos
from verification import certify
rng = np.random.default_rng(0)
weight, inputs = rng.standard_normal((6, 16)), rng.standard_normal((16, 40))
gram, pattern = inputs @ inputs.T, parse_pattern("2:4+outliers:0.2")
pruned = thanos(weight, gram, pattern, block_size=8)
assert certify(weight, gram, pruned.weight, pattern, block_size=8).passed
assert not certify(weight, gram, np.where(pruned.mask, 0, weight), pattern, block_size=8).passed
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with this project, installed by pip, NumPy and SciPy.

    The two libraries are links to ours, so that no test needs a network.
    """
    folder = tmp_path_factory.mktemp("without-torch")
    source, home = folder / "source", folder / "environment"
    venv.create(home, with_pip=False)
    copy_project(source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    into = ("--python", str(home / "bin" / "python"))
    pip(*into, "install", "--no-index", "--no-deps", "--no-compile", str(wheel))
    packages = next(home.glob("lib/python*/site-packages"))
    for name in NUMERIC:
        link_package(name, packages)
    yield home
    shutil.rmtree(folder)  # the wheel has some thousand files


def copy_project(source: Path) -> None:
    """Copy what the wheel is built from; building writes into its folder."""
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("reference", "thanos_torch", "verification"):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)


def link_package(name: str, packages: Path) -> None:
    """Link the top-level files of an installed package into another environment."""
    installed = distribution(name)
    tops = {file.parts[0] for file in installed.files or () if not file.parts[0].startswith(".")}
    for top in sorted(tops):
        (packages / top).symlink_to(str(installed.locate_file(top)))


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = start(command, ROOT)
    assert done.returncode == 0, done.stderr


def run(environment: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment, in a folder where no package of ours lies."""
    return start([str(environment / "bin" / command[0]), *command[1:]], environment)


def start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program without variables such as PYTHONPATH, which would show it this checkout."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def test_no_other_package_is_there(environment: Path) -> None:
    names = "from importlib.metadata import distributions as d; print(*(x.name for x in d()))"
    found = run(environment, "python", "-c", names).stdout.split()
    assert sorted(found) == ["numpy", "scipy", "thanos-pruning"]


def test_the_package_asks_for_no_more(environment: Path) -> None:
    wanted = "import importlib.metadata as m; print(*m.requires('thanos-pruning'), sep='\\n')"
    requirements = map(Requirement, run(environment, "python", "-c", wanted).stdout.splitlines())
    plain = [each.name for each in requirements if not each.marker]
    assert sorted(plain) == sorted(NUMERIC)


def test_the_reference_prunes_and_the_certificate_judges(environment: Path) -> None:
    done = run(environment, "python", "-c", PROGRAM)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", [("thanos", "verify"), ("python", "-m", "verification")])
def test_vectors_and_fresh_cases_are_judged(environment: Path, program: tuple[str, ...]) -> None:
    done = run(environment, *program, "reference", "--only", "thanos-float64-1", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout


def test_commands_that_need_more_say_how_to_get_it(environment: Path) -> None:
    extras = "pip install 'thanos-pruning[models,verification]'"
    pruning = run(environment, "thanos", "prune", "folder")
    assert pruning.returncode == 1
    assert pruning.stderr.startswith(f"thanos: typer is missing: {extras}")
    shown = run(environment, "thanos", "--help")
    assert shown.returncode == 0
    assert extras in shown.stdout
    assert "no torch" in run(environment, "thanos", "--version").stdout


def test_the_fast_version_names_its_extra(environment: Path) -> None:
    extra = "needs PyTorch: pip install 'thanos-pruning[torch]'"
    for done in (
        run(environment, "python", "-c", "from thanos_torch import thanos"),
        run(environment, "thanos", "verify", "torch"),
    ):
        assert done.returncode != 0
        assert extra in done.stderr
