"""A run that ended because of its model: what is said, and how the repaired model starts over."""

from pathlib import Path

import pytest
import torch

from tests.models import tiny
from tests.models.conftest import SMALL, Outcome, Thanos
from tests.stress.program import differing_files


def save(folder: Path, value: float | None) -> Path:
    """A checkpoint whose last block has a wrong number in its norm, or none."""
    model = tiny.random_model(tiny.llama_config(num_hidden_layers=2), torch.float16)
    if value is not None:
        model.model.layers[1].input_layernorm.weight.data[3] = value
    return tiny.save_checkpoint(model, folder)


@pytest.mark.parametrize("value", [float("nan"), 6e4])
def test_a_repaired_model_starts_over_by_one_option(
    thanos: Thanos, tmp_path: Path, value: float
) -> None:
    dense, grams = save(tmp_path / "dense", value), tmp_path / "grams"

    def prune(out: str, *more: object) -> Outcome:
        command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / out, *SMALL)
        return thanos(*command, "--keep-gram", grams, *more)

    work = f"{tmp_path / 'out'}.partial"
    failed = prune("out")
    assert failed.status == 1
    assert f"What is done so far is kept in {work}; --start-over discards it" in failed.err
    assert "the same command" not in failed.err
    assert prune("out").said == failed.said  # nothing was lost
    assert list(grams.glob("*.0.*"))

    save(dense, None)
    differs = prune("out")
    assert differs.status == 1
    assert f"{work} holds an unfinished run that differs: " in differs.err
    assert "model file model.safetensors: changed" in differs.err
    assert "or choose another --out, or discard it with --start-over" in differs.err
    (grams / "of.a.layer.that.is.excluded.safetensors").write_bytes(b"")
    done = prune("out", "--start-over")
    assert done.status == 0, done.err
    assert not Path(work).exists()
    assert not (grams / "of.a.layer.that.is.excluded.safetensors").exists()
    assert thanos("certify", dense, tmp_path / "out", "--gram", grams).status == 0
    assert "holds the result of this very run already" in prune("out", "--start-over").out


def test_files_of_others_are_not_discarded(thanos: Thanos, tmp_path: Path) -> None:
    dense, out = save(tmp_path / "dense", float("nan")), tmp_path / "out"
    command = ("prune", dense, "--pattern", "2:4", "--out", out, *SMALL)
    assert thanos(*command).status == 1
    mine = tmp_path / "out.partial" / "notes.txt"
    mine.write_text("mine")
    held = {file.name for file in mine.parent.rglob("*")}
    refused = thanos(*command, "--start-over")
    assert f"{mine.parent} is needed for the progress, but has notes.txt" in refused.err
    assert {file.name for file in mine.parent.rglob("*")} == held
    mine.unlink()

    grams = tmp_path / "grams"
    grams.mkdir()
    (grams / "of.another.run.safetensors").write_bytes(b"")
    save(dense, None)
    refused = thanos(*command, "--start-over", "--keep-gram", grams)
    assert f"must be a new or empty folder, got {grams}" in refused.err
    assert list(grams.iterdir())
    assert (tmp_path / "out.partial" / "run.json").exists()
    assert thanos(*command, "--start-over").status == 0
    fresh = tmp_path / "fresh"
    assert thanos(*command[:5], fresh, *SMALL).status == 0
    assert differing_files(fresh, out) == []
