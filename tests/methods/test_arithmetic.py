"""What only the fast implementation has: storage types, a float64 fallback, solvers, selection."""

import json

import numpy as np
import pytest
import torch

import thanos_torch
from reference import Pattern, SemiStructured, Structured, Unstructured
from reference.masks import smallest as reference_smallest
from reference.masks import smallest_of_each_group as reference_groups
from tests.certificate.wrong import BLOCK, GRAM, WEIGHT
from tests.implementations import DEVICES
from tests.methods.judging import certified
from tests.ratios import check_same_numbers
from thanos_torch.methods.masks import (
    smallest,
    smallest_of_each_group,
    smallest_of_each_row,
    smallest_on_device,
)

each_device = pytest.mark.parametrize("device", DEVICES)
each_pattern = pytest.mark.parametrize(
    "pattern", [Unstructured(0.5), SemiStructured(2, 4), Structured(0.3)], ids=str
)


@each_device
@each_pattern
@pytest.mark.parametrize("method", ["thanos", "magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_float32_rounded_once(
    storage: torch.dtype, method: str, pattern: Pattern, device: str
) -> None:
    weight = torch.from_numpy(WEIGHT).to(device, storage)
    gram = torch.from_numpy(GRAM).to(device, torch.float32)
    prune = getattr(thanos_torch, method)
    half = prune(weight, gram, pattern, block_size=BLOCK)
    single = prune(weight.float(), gram, pattern, block_size=BLOCK)
    assert half.weight.dtype == storage
    assert torch.equal(half.weight, single.weight.to(storage))
    assert torch.equal(half.mask, single.mask)
    assert torch.equal(half.block_losses, single.block_losses)


@each_device
@each_pattern
def test_factorisation_is_made_in_float64(pattern: Pattern, device: str) -> None:
    """Of rank 1, and γ = 1e-8: float32's rounding makes H indefinite, float64's does not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 1))
    gram = torch.from_numpy(x @ x.T).to(device)
    weight = torch.from_numpy(rng.standard_normal((4, 64))).to(device, torch.float32)
    H = gram.float() + 1e-8 * gram.diagonal().mean() * torch.eye(64, device=device)
    assert int(torch.linalg.cholesky_ex(H.float().flip(0, 1)).info) > 0
    pruned = thanos_torch.thanos(weight, gram, pattern, damping=1e-8)
    assert pruned.weight.dtype == torch.float32
    assert bool(torch.isfinite(pruned.weight).all())


@each_device
def test_diagnostics_are_json(device: str) -> None:
    weight, gram = (torch.from_numpy(a).to(device) for a in (WEIGHT, GRAM))
    pruned = thanos_torch.thanos(weight, gram, Unstructured(0.5), block_size=BLOCK)
    found = json.loads(json.dumps(pruned.diagnostics.as_dict(), allow_nan=False))
    assert len(found["solver_steps"]) == -(-weight.shape[1] // BLOCK)
    assert found["direct_rows"] == 0


@each_device
@each_pattern
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_direct_solver_does_as_well(
    dtype: torch.dtype, pattern: Pattern, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conjugate gradients that may not take a step leave all rows to the direct solver."""
    weight, gram = (torch.from_numpy(a).to(device, dtype) for a in (WEIGHT, GRAM))
    iterated = thanos_torch.thanos(weight, gram, pattern, block_size=BLOCK)
    monkeypatch.setattr("thanos_torch.methods.solver.HostSolver.max_steps", 0)
    direct = thanos_torch.thanos(weight, gram, pattern, block_size=BLOCK)
    for pruned in (iterated, direct):
        certificate = certified(weight, gram, pruned, pattern, BLOCK)
        assert certificate.passed, certificate
    one_block = isinstance(pattern, Structured)  # least squares without multipliers
    assert (direct.diagnostics.direct_rows > 0) is not one_block
    assert iterated.diagnostics.direct_rows == 0
    if dtype == torch.float64:
        check_same_numbers(
            "weight", iterated.weight.cpu().numpy(), direct.weight.cpu().numpy(), 1e-9
        )


@each_device
@pytest.mark.parametrize("tie_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("share", [0.0, 1e-5, 0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 400)])
def test_selection_is_the_stable_sort(
    shape: tuple[int, int], share: float, tie_share: float, device: str
) -> None:
    """Sizes on both sides of the one from which a sample is drawn."""
    rng = np.random.default_rng(3)
    values = rng.random(shape)
    ties = rng.random(shape) < tie_share
    values[ties] = np.round(values[ties] * 4) / 4
    given = torch.from_numpy(values).to(device)
    count = int(share * values.size)
    found = smallest(given, count).cpu().numpy()
    assert (found == reference_smallest(values, count)).all()
    width = max(1, shape[1] // 3)
    part = smallest_on_device(given, torch.tensor(count), width).numpy()
    assert (part == reference_smallest(values, count)[:, :width]).all()
    of_row = int(share * shape[1])
    rows = smallest_of_each_row(given, of_row).cpu().numpy()
    assert (rows == [reference_smallest(row, of_row) for row in values]).all()


@each_device
@pytest.mark.parametrize(("n", "m"), [(0, 3), (1, 1), (2, 4), (4, 4), (3, 12)])
def test_selection_in_groups_is_the_stable_sort(n: int, m: int, device: str) -> None:
    values = np.random.default_rng(4).integers(0, 5, (7, 24)).astype(float)
    found = smallest_of_each_group(torch.from_numpy(values).to(device), n, m).cpu().numpy()
    assert (found == reference_groups(values, n, m)).all()
