"""The command line as a function, and a checkpoint to use it on."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.models import tiny
from thanos_torch.cli import main

SMALL = ("--nsamples", 4, "--seqlen", 32, "--block-size", 8, "--dataset", tiny.TEXT)


@dataclass
class Outcome:
    status: int
    out: str
    err: str


Thanos = Callable[..., Outcome]


def run_thanos(*arguments: object) -> Outcome:
    """Run the program with some arguments, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["thanos", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    if isinstance(code, str):  # what Python prints on the error stream, with exit status 1
        return Outcome(1, out.getvalue(), err.getvalue() + code)
    return Outcome(int(code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def thanos(monkeypatch: pytest.MonkeyPatch, thanos_once: Thanos) -> Thanos:
    """Runs the program with some arguments."""
    monkeypatch.setenv("COLUMNS", "120")
    return thanos_once


@pytest.fixture(scope="session")
def thanos_once() -> Thanos:
    """The same, for fixtures that several tests share."""
    return run_thanos


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "dense"
    return tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), folder)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, thanos_once: Thanos) -> tuple[Path, Path, Path]:
    """A float32 checkpoint, what `certifying.RECIPE` makes of it, and the Gram matrices."""
    from tests.models.certifying.kept import make

    return make(tmp_path_factory.mktemp("kept"), torch.float32, thanos_once)
