"""`thanos prune` on several ranks: who writes what, and what happens if one is lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import tiny
from tests.models.processes import environment, free_port
from tests.stress.program import differing_files, fork_program, wait_for
from tests.test_imports import ROOT
from thanos_torch.models import RECORD

OPTIONS = (
    *("--pattern", "unstructured:0.5", "--block-size", 8),
    *("--dataset", tiny.TEXT, "--nsamples", 7, "--seqlen", 32),
)
WAIT = ("--rank-timeout", 60)


def on_three_ranks(dense: Path, out: Path, *more: object, fail: str = "", at: int = 1) -> list[int]:
    """The program on three ranks, one of which may be made to fail; their exit statuses."""
    port = free_port()
    arguments = ("prune", dense, "--out", out, *OPTIONS, *WAIT, *more)
    children = [
        fork_program(
            arguments,
            {**environment(rank, 3, port), "THANOS_FAILPOINT": fail if rank == at else ""},
        )
        for rank in range(3)
    ]
    return [wait_for(child) for child in children]


@pytest.fixture(scope="module")
def undisturbed(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ranks") / "undisturbed"
    assert on_three_ranks(dense, out) == [0, 0, 0]
    return out


def test_shares_are_recorded(undisturbed: Path) -> None:
    record = json.loads((undisturbed / RECORD).read_text())
    assert record["verified"]
    shares = record["ranks"]
    assert [share["rank"] for share in shares] == [0, 1, 2]
    assert sum(share["layers"] for share in shares) == len(record["layers"]) == 21
    assert [share["batches"] for share in shares] == [1, 1, 2]
    assert {layer["rank"] for layer in record["layers"]} == {0, 1, 2}
    assert [entry.name for entry in undisturbed.parent.iterdir() if "undist" in entry.name] == [
        "undisturbed"
    ]


@pytest.mark.parametrize(
    ("at", "fail", "more"),
    [  # all in the second block
        pytest.param(0, "calibration:3:kill", (), marks=pytest.mark.long),
        (2, "calibration:5:kill", ()),
        (0, "solve:2:kill", ()),
        pytest.param(2, "solve:4:kill", (), marks=pytest.mark.long),
        (1, "solve:4:kill", ("--activations", "memory")),
    ],
)
def test_a_lost_rank_ends_the_run_and_the_next_goes_on(
    dense: Path,
    undisturbed: Path,
    tmp_path: Path,
    fail: str,
    at: int,
    more: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    statuses = on_three_ranks(dense, out, *more, fail=fail, at=at)
    assert statuses == [-signal.SIGKILL if rank == at else 1 for rank in range(3)]
    assert not out.exists()
    said = capfd.readouterr().err
    for rank in {0, 1, 2} - {at}:
        assert f"rank {rank} of 3 lost another rank" in said
    assert (f"{out}.partial: the same command goes on from there" in said) == (at != 0)
    journal = {file.name for file in (tmp_path / "out.partial" / "journal").glob("*.json")}
    assert "00000.json" in journal
    assert "00002.json" not in journal
    assert on_three_ranks(dense, out, *more) == [0, 0, 0]
    assert differing_files(undisturbed, out) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_another_number_of_ranks_is_another_run(
    dense: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    on_three_ranks(dense, out, fail="solve:5:kill")
    alone = fork_program(("prune", dense, "--out", out, *OPTIONS), {"THANOS_FAILPOINT": ""})
    assert wait_for(alone) == 1
    assert "options ranks: 3 there, 1 here" in capfd.readouterr().err


def test_ranks_that_were_told_other_things_are_refused(
    dense: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port, out = free_port(), tmp_path / "out"
    children = [
        fork_program(
            ("prune", dense, "--out", out, *OPTIONS, *WAIT, "--seed", seed),
            {**environment(rank, 2, port), "THANOS_FAILPOINT": ""},
        )
        for rank, seed in enumerate([0, 5])
    ]
    assert [wait_for(child) for child in children] == [1, 1]
    said = capfd.readouterr().err
    assert "rank 1 and rank 0 differ: data: another one; options seed: 5 there, 0 here" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_torchrun_starts_it(dense: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 3]
    command += ["--master-port", free_port(), "-m", "thanos_torch"]
    command += ["prune", dense, "--out", out, *OPTIONS]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        list(map(str, command)),
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("every layer certified") == 1
    assert differing_files(undisturbed, out) == []
