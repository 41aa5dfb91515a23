"""Runs that die and go on: nothing is lost, and the bits are those of a run left in peace."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.models import tiny
from tests.stress.program import differing_files, fork_program, wait_for
from tests.test_imports import ROOT
from thanos_torch.cli import main
from thanos_torch.models import RECORD
from thanos_torch.runtime import files
from thanos_torch.runtime.progress import work_folder

OPTIONS = (
    *("--pattern", "2:4", "--block-size", "8"),
    *("--dataset", str(tiny.TEXT), "--nsamples", "70", "--seqlen", "32"),
)
Run = Callable[..., str]


@pytest.fixture
def run(dense: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `thanos prune`; returns its error, or nothing if all went well."""

    def prune(out: Path, *more: str, fail: str = "") -> str:
        files._begun.clear()
        monkeypatch.setenv("THANOS_FAILPOINT", fail)
        arguments = ["thanos", "prune", str(dense), "--out", str(out), *OPTIONS, *more]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        capsys.readouterr()
        return "" if ended.value.code == 0 else str(ended.value.code)

    return prune


@pytest.fixture(scope="module")
def undisturbed(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resume") / "undisturbed"
    assert forked(dense, out) == 0
    return out


def forked(dense: Path, out: Path, fail: str = "") -> int:
    """The program in a fork of this process; its exit status."""
    arguments = ("prune", dense, "--out", out, *OPTIONS)
    return wait_for(fork_program(arguments, {"THANOS_FAILPOINT": fail}))


@pytest.mark.parametrize(
    "stage",
    ["calibration:4", "solve:9", "shard write:3", "rename:8", "drop:1"],
)
def test_a_killed_run_goes_on(
    dense: Path,
    undisturbed: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace"
    assert forked(dense, out, f"{stage}:kill") == -signal.SIGKILL
    assert not out.exists()
    journal = tmp_path / "out.partial" / "journal"
    blocks = sum((journal / f"{index:05}.json").exists() for index in range(3))
    monkeypatch.setenv("THANOS_TRACE", str(trace))
    assert run(out) == ""
    assert trace.read_text().split("\n").count("solve") == 7 * (3 - blocks)
    assert differing_files(undisturbed, out) == []
    assert not (tmp_path / "out.partial").exists()


def test_kept_gram_matrices_go_on_in_the_same_folder(run: Run, dense: Path, tmp_path: Path) -> None:
    whole, grams = tmp_path / "whole", tmp_path / "grams"
    assert run(tmp_path / "undisturbed", "--keep-gram", str(whole)) == ""
    more = ("--exclude", "*.0.*v_proj", "--keep-gram", str(grams))
    assert "No space left" in run(tmp_path / "out", *more, fail="solve:16:enospc")
    held = {file.name: file.stat().st_mtime_ns for file in grams.iterdir()}
    assert run(tmp_path / "out", *more) == ""
    assert all(
        (grams / name).stat().st_mtime_ns == then
        for name, then in held.items()
        if ".0." in name or ".1." in name  # of finished blocks
    )
    assert {file.name for file in grams.iterdir()} == {file.name for file in whole.iterdir()}
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert [layer["name"] for layer in record["layers"] if layer["asked_dense"]] == [
        "model.layers.0.self_attn.v_proj"
    ]
    assert sum(bool(layer["options"]) for layer in record["layers"]) == 20
    fresh = run(tmp_path / "other", "--keep-gram", str(grams))
    assert f"keep_gram must be a new or empty folder, got {grams}" in fresh


def test_a_fresh_process_goes_on_to_the_same_bits(
    dense: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert forked(dense, out, "solve:12:kill") == -signal.SIGKILL
    command = [sys.executable, "-c", "from thanos_torch.cli import main; main()"]
    command += ["prune", str(dense), "--out", str(out), *OPTIONS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert differing_files(undisturbed, out) == []


@pytest.mark.parametrize("more", [(), ("--activations", "memory")], ids=["disk", "memory"])
@pytest.mark.parametrize(
    "stage",
    ["shard write:3", "activations:2", "journal:3", "rename:3", "rename:6", "join:1", "finish:1"],
)
def test_a_full_disk_loses_nothing(
    undisturbed: Path, run: Run, tmp_path: Path, stage: str, more: tuple[str, ...]
) -> None:
    if more and stage == "activations:2":
        stage = "solve:20"  # in memory there are none to write
    out = tmp_path / "out"
    error = run(out, *more, fail=f"{stage}:enospc")
    assert "No space left on device" in error
    assert f"What is done so far is kept in {out}.partial: the same command goes on" in error
    assert "\n" not in error
    assert run(out, *more) == ""
    assert differing_files(undisturbed, out) == []


@pytest.fixture(scope="module")
def broken_off(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a run that ended in its last block."""
    out = tmp_path_factory.mktemp("resume") / "out"
    assert forked(dense, out, "solve:16:enospc") == 1
    return out.with_name("out.partial")


@pytest.fixture
def halfway(broken_off: Path, tmp_path: Path) -> Path:
    """A copy of it, for a run whose result will be `out`."""
    return Path(shutil.copytree(broken_off, tmp_path / "out.partial"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def change_a_byte(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated part": ("parts/00000.safetensors", cut),
    "changed part": ("parts/00001.safetensors", change_a_byte),
    "missing part": ("parts/00001.safetensors", Path.unlink),
    "changed copy": ("parts/00003.safetensors", change_a_byte),
    "missing masks": ("masks/00000.safetensors", Path.unlink),
    "truncated outputs": ("activations/00002/00001.safetensors", cut),
    "missing outputs": ("activations/00002/00000.safetensors", Path.unlink),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found_and_made_good(
    undisturbed: Path, run: Run, halfway: Path, tmp_path: Path, case: str
) -> None:
    out = tmp_path / "out"
    name, damage = DAMAGE[case]
    file = halfway / name
    damage(file)
    error = run(out)
    assert str(file) in error
    assert "\n" not in error
    assert not out.exists()
    assert run(out) == ""
    assert differing_files(undisturbed, out) == []


def test_a_vanished_input_loses_nothing(
    dense: Path, undisturbed: Path, run: Run, halfway: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", dense / "model.safetensors"
    file.rename(tmp_path / "elsewhere")
    try:
        assert "holds no model.safetensors" in run(out)
    finally:
        (tmp_path / "elsewhere").rename(file)
    assert run(out) == ""
    assert differing_files(undisturbed, out) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--pattern", "4:8"), "options asked default pattern: 2:4 there, 4:8 here"),
        (("--seed", "7"), "data: another one; options seed: 0 there, 7 here"),
        (("--ablation", "metric=obs"), "ablation: None there, {'metric': 'obs'} here"),
        (("--block-size", "16"), "options asked default block_size: 8 there, 16 here"),
    ],
)
def test_another_run_is_not_mixed_in(
    run: Run, halfway: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    before = {file: file.stat() for file in halfway.rglob("*") if file.is_file()}
    error = run(out, *more)
    assert f"{out}.partial holds an unfinished run that differs: " in error
    assert f"{message}. Repeat" in error
    after = {file: file.stat() for file in halfway.rglob("*") if file.is_file()}
    assert after.keys() == before.keys()
    assert all(after[file].st_mtime_ns == facts.st_mtime_ns for file, facts in before.items())


@pytest.mark.usefixtures("halfway")
def test_a_changed_model_is_not_mixed_in(dense: Path, run: Run, tmp_path: Path) -> None:
    out, weights = tmp_path / "out", dense / "model.safetensors"
    facts = weights.stat()
    os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    try:
        assert "model file model.safetensors: changed" in run(out)
    finally:
        os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert run(out) == ""


@pytest.mark.usefixtures("halfway")
def test_other_arithmetic_is_not_mixed_in(run: Run, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        assert "arithmetic threads: 1 there, 2 here" in run(tmp_path / "out")
    finally:
        torch.set_num_threads(1)
    assert run(tmp_path / "out") == ""


def test_two_runs_at_once_are_refused(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with work_folder(out):
        assert f"another run is at work in {out}.partial" in run(out)
    assert run(out) == ""


def test_a_strangers_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("precious")
    assert "is needed for the progress, but has thesis.txt" in run(tmp_path / "out")
    assert (tmp_path / "out.partial" / "thesis.txt").read_text() == "precious"


def test_half_written_files_are_swept_away(
    undisturbed: Path, run: Run, halfway: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name in ("checkpoint/.tmpA1b2", "checkpoint/config.json.unfinished", "masks/.tmpC3"):
        (halfway / name).write_text("half")  # as safetensors and this program leave them
    assert run(out) == ""
    assert differing_files(undisturbed, out) == []


def test_what_a_finished_run_left_is_removed(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(out) == ""
    with work_folder(out):
        pass
    assert (tmp_path / "out.partial").exists()
    assert run(out) == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_every_stage_is_traced(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THANOS_TRACE", str(tmp_path / "trace"))
    assert run(tmp_path / "out") == ""
    assert set((tmp_path / "trace").read_text().split()) == set(" ".join(files.STAGES).split())
