"""SIGTERM ends every command as an error does: nothing half-written stays, and no child."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import cross_entropy

from tests.models.conftest import SMALL, Thanos
from tests.models.observed import own_code
from tests.test_imports import ROOT
from thanos_torch.checkpoint import packed_format, shards
from thanos_torch.cli import certify as certify_command
from thanos_torch.cli import prune as prune_command
from thanos_torch.evaluation import perplexity
from thanos_torch.models import pack_checkpoint
from verification import certify

ENDED = 128 + signal.SIGTERM
# The judge is the parent of the process that supervises the program.
PROGRAM = """
import os, signal, sys, time
if "--describe" not in sys.argv:
    open({file!r}, "w").write(str(os.getpid()))
    judge = open("/proc/%d/stat" % os.getppid()).read().rpartition(")")[2].split()[1]
    os.kill(int(judge), signal.SIGTERM)
    time.sleep(60)
"""


def interrupted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; somebody sends SIGTERM at its first call."""
    calls: list[None] = []

    def called(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **options)

    return called


# Where the signal comes: in a module's function, or in a method.
AT = {
    "pack": (shards, "write_shard"),
    "unpack": (packed_format.ExactFile, "write"),
    "reapply": (shards, "write_shard"),
}


@pytest.mark.parametrize("command", AT)
def test_no_half_written_folder_stays(
    thanos: Thanos,
    kept: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    _, pruned, _ = kept
    source = tmp_path / "packed" if command == "unpack" else pruned
    if command == "unpack":
        pack_checkpoint(pruned, source)
    before = sorted(tmp_path.iterdir())
    where, name = AT[command]
    monkeypatch.setattr(where, name, interrupted(getattr(where, name)))
    more = ("--masks", pruned) if command == "reapply" else ()
    done = thanos(command, source, "--out", tmp_path / "out", *more)
    assert done.status == ENDED
    assert done.err.strip() == "thanos: ended by SIGTERM"
    assert sorted(tmp_path.iterdir()) == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_run_goes_on_after_it(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    grams = ("--keep-gram", tmp_path / "grams")
    monkeypatch.setattr(prune_command, "certify", interrupted(certify))
    assert thanos(*command, *grams).status == ENDED
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("lock"))
    assert thanos(*command, *grams).status == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["grams", "out"]


def test_certify_judges_no_more_layers(
    thanos: Thanos, kept: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, pruned, grams = kept
    judged: list[int] = []

    def judge(*args: Any, **options: Any) -> Any:
        judged.append(0)
        return certify(*args, **options)

    monkeypatch.setattr(certify_command, "judge", interrupted(judge))
    assert thanos("certify", dense, pruned, "--gram", grams).status == ENDED
    assert len(judged) < 20


def test_eval_ends_at_once_and_writes_nothing(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def of_window(*args: Any, **options: Any) -> Any:
        measured.append(0)
        return cross_entropy(*args, **options)

    monkeypatch.setattr(perplexity, "cross_entropy", interrupted(of_window))
    given = ("--seqlen", 32, "--max-windows", 20, "--json", tmp_path / "result.json")
    done = thanos("eval", dense, *given)
    assert (done.status, done.err.strip()) == (ENDED, "thanos: ended by SIGTERM")
    assert len(measured) < 2
    assert not list(tmp_path.iterdir())


def test_a_model_that_raises_exit_ends_nothing_but_the_run(thanos: Thanos, tmp_path: Path) -> None:
    dense = own_code(tmp_path / "dense", "exits")
    done = thanos("eval", dense, "--seqlen", 32, "--trust-remote-code")
    assert done.status == 1
    assert "cannot run window 0 of the text: SystemExit: 0 (--debug" in done.err


@pytest.mark.parametrize("way", ["thanos verify", "python -m verification"])
def test_the_program_under_test_is_ended(
    thanos: Thanos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    program, scratch = tmp_path / "program.py", tmp_path / "scratch"
    program.write_text(PROGRAM.format(file=str(tmp_path / "id")))
    scratch.mkdir()
    options = ["--command", f"{sys.executable} {program}", "--only", "unstructured"]
    if way == "thanos verify":
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        assert thanos("verify", *options).status == ENDED
    else:
        command = [sys.executable, "-m", "verification", *options]
        given = {**os.environ, "TMPDIR": str(scratch)}
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, check=False)
        assert done.returncode == ENDED, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)
    assert not list(scratch.iterdir())
