"""The tutorials of docs/tutorials run word for word, but `smollm2-135m` is a tiny model."""

import contextlib
import doctest
import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import ENVIRONMENT, OPTIONS, ROOT, check_python, commands
from thanos_torch import cli
from thanos_torch.checkpoint.named import DEFAULT_MODEL, NAMED

TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which a random model stands where SmolLM2 would be."""
    folder = tmp_path_factory.mktemp("cache")
    tiny = [sys.executable, str(ROOT / "docs" / "examples" / "models" / "tiny.py")]
    model = folder / NAMED[DEFAULT_MODEL].folder
    subprocess.run([*tiny, str(model)], env=ENVIRONMENT, check=True, capture_output=True)
    return folder


@pytest.fixture
def reader(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of the tutorial, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THANOS_CACHE", str(cache))


@pytest.mark.usefixtures("reader")
def test_the_tutorial_for_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, because starting a new one for every command takes most of the time."""
    for command, expected in commands(TUTORIALS / "command-line.md"):
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as end:
            cli.main()
        assert doctest.OutputChecker().check_output(expected, printed.getvalue(), OPTIONS), command
        assert not end.value.code, command


@pytest.mark.usefixtures("reader")
def test_the_tutorial_for_python() -> None:
    check_python(TUTORIALS / "python.md")
