"""The files of the wheel, the extras in the README, and the exit statuses in the docs."""

import tomllib
from pathlib import Path

import pytest
from setuptools import Distribution

from tests.test_imports import ROOT
from thanos_torch.cli.display import MEANINGS, ExitStatus
from verification.conformance import command
from verification.conformance.cases import FOLDER


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The files that setuptools would put into the wheel, which is not built."""
    monkeypatch.chdir(ROOT)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files(["pyproject.toml"])
    distribution.include_package_data = False  # adds nothing, and writes an egg-info folder
    building = distribution.get_command_obj("build_py")
    building.ensure_finalized()
    root = Path(str(building.build_lib))
    return {Path(name).relative_to(root).as_posix() for name in building.get_outputs(False)}


def test_the_wheel_holds_the_three_packages_with_their_data_and_no_test(files: set[str]) -> None:
    packages = {"reference", "thanos_torch", "verification"}
    assert {name.partition("/")[0] for name in files} == packages
    assert {f"{package}/py.typed" for package in packages} <= files
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in [
            *(module for package in packages for module in (ROOT / package).rglob("*.py")),
            *(ROOT / "verification").rglob("*.toml"),
            *(vector for vector in FOLDER.rglob("*") if vector.suffix in (".json", ".safetensors")),
        ]
    }
    assert len(wanted) > 1000
    assert wanted <= files


def test_every_extra_is_explained_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()
    for extra in project["optional-dependencies"].keys() - {"dev", "docs"}:
        assert f"`{extra}`" in readme, extra


def test_exit_statuses_are_those_of_the_docs_and_of_the_judge() -> None:
    page = (ROOT / "docs" / "pruning-models.md").read_text()
    for status in ExitStatus:
        assert f"| {status.value} | {MEANINGS[status]} |" in page
    assert command.USAGE == ExitStatus.USAGE


def test_the_citation_and_the_changelog_name_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert version in (ROOT / "CHANGELOG.md").read_text()
