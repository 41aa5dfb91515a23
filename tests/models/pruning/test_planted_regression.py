"""`thanos bench compare` on the real model: a bug in the code shows, another seed does not.

The first decoder block of SmolLM2-135M, calibrated as in docs/results/draws.json.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.conftest import Thanos
from tests.test_imports import ROOT
from thanos_torch.methods.solver import BlockSystem, MaskedSolver
from verification.benchmarks.quality.draws import DrawSettings, pruned
from verification.benchmarks.quality.records import Resources

DRAWS = ROOT / "docs" / "results" / "draws.json"
# The multipliers of update (6) are all 6 % too small.
SHRUNK = 0.94


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Writes a results file of Thanos and its control, pruned to 2:4 with some seed."""
    folder = tmp_path_factory.mktemp("results")
    settings = DrawSettings(blocks=1)
    runs = [{"method": method, "pattern": "2:4"} for method in ("thanos", "sparsegpt")]

    def measure(name: str, seed: int) -> Path:
        records = [pruned(settings, run, seed, nudged=False, resources=Resources()) for run in runs]
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"commit": name, "runs": records}))
        return file

    return measure


@pytest.fixture(scope="module")
def before(measured: Callable[[str, int], Path]) -> Path:
    # A seed that was not used to record the spread.
    return measured("before", 100)


def mean_error(file: Path) -> float:
    layers = json.loads(file.read_text())["runs"][0]["layers"]
    return float(torch.tensor([layer["error"] for layer in layers]).log().mean().exp())


@pytest.mark.long
def test_two_percent_more_layer_error_are_caught(
    thanos: Thanos,
    measured: Callable[[str, int], Path],
    before: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = MaskedSolver.multipliers

    def wrong(solver: MaskedSolver, block: BlockSystem, mask: Tensor, W: Tensor) -> Tensor:
        return right(solver, block, mask, W) * SHRUNK

    monkeypatch.setattr(MaskedSolver, "multipliers", wrong)
    after = measured("after", 100)
    assert 1.015 < mean_error(after) / mean_error(before) < 1.025

    found = thanos("bench", "compare", before, after, "--json", after.with_suffix(".changes"))
    assert found.status == 1
    assert "REGRESSION  thanos 2:4: layer error, first 3 blocks +" in found.out
    changes = json.loads(after.with_suffix(".changes").read_text())
    assert not any("sparsegpt 2:4: layer" in what for what in changes["regressions"])


@pytest.mark.long
def test_another_seed_is_silent(
    thanos: Thanos, measured: Callable[[str, int], Path], before: Path
) -> None:
    after = measured("seed", 101)
    assert abs(mean_error(after) / mean_error(before) - 1) > 0.01  # more than what is caught above
    found = thanos("bench", "compare", before, after, "--draws", DRAWS)
    assert found.status == 0, found.out
    assert "NOT JUDGED" not in found.out
    assert "No regression beyond noise." in found.out
