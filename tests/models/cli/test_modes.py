"""Files and folders have the mode that the umask gives, whatever command or library writes them."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint import load
from thanos_torch.models import load_model, prune_model, save_checkpoint
from verification.benchmarks.results import write_results
from verification.conformance.tensors import write_tensors
from verification.writing import write_text


@pytest.fixture(params=[pytest.param(0o022, marks=pytest.mark.long), 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def refuse_other_modes(folder: Path, umask: int) -> None:
    """Fail for a file or a folder below another one that has not the mode of the umask."""
    for path in folder.rglob("*"):
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_commands(
    umask: int, dense: Path, thanos: Thanos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grams, pattern = ("--keep-gram", "grams"), ("--pattern", "2:4")
    for command in (
        ("prune", dense, *pattern, "--out", "out", *grams, *SMALL),
        ("prune", dense, *pattern, "--out", "half", "--dtype", "bfloat16", *SMALL),
        ("inspect", "out", "--json", "inspected.json"),
        ("certify", dense, "out", "--gram", "grams", "--json", "certified.json"),
        ("reapply", "out", "--masks", "out", "--out", "again"),
        ("pack", "out", "--out", "packed"),
        ("unpack", "packed", "--out", "unpacked"),
        ("eval", "out", "--seqlen", 32, "--max-windows", 1, "--json", "evaluated.json"),
    ):
        done = thanos(*command)
        assert done.status == 0, done.err
    refuse_other_modes(tmp_path, umask)


def test_a_run_that_goes_on_later(
    umask: int, dense: Path, thanos: Thanos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thanos_torch.runtime.files._begun", Counter())
    monkeypatch.setenv("THANOS_FAILPOINT", "join:1:enospc")
    done = thanos("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    assert done.status == 1
    assert list((tmp_path / "out.partial" / "parts").iterdir())
    refuse_other_modes(tmp_path, umask)


def test_functions(
    umask: int, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(dense))
    # As the default model and GGUF files get into the cache folder.
    monkeypatch.setattr(load, "_from_gguf", lambda *_: loaded)
    load._dequantised(tmp_path / "cache" / "model", lambda: tmp_path / "x.gguf")
    report = prune_model(loaded.model, tiny.random_windows(), "2:4", judge=None)
    record = {"settings": {}, **report.as_dict()}
    save_checkpoint(loaded, tmp_path / "saved", record=record, masks=report.masks)
    write_results(tmp_path / "bench" / "results.json", {"a": 1})
    write_text(tmp_path / "verdict.json", "{}")
    write_tensors(tmp_path / "input.safetensors", {"weight": np.ones((2, 2))}, {})
    refuse_other_modes(tmp_path, umask)
