"""The launch budget of a layer on a GPU, counted with fake tensors. docs/gpu.md has the table."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from tests.methods.fake_device import Launches, SlicesByNarrow
from thanos_torch import FactorCache, sparsegpt, thanos
from thanos_torch.methods.checks import Checks

pytestmark = pytest.mark.triton

BLOCK = 32
N_M, OUTLIERS, FREE = SemiStructured(2, 4), SemiStructured(2, 4, 0.1), Unstructured(0.5)
# Launches of one block, at most, and the method.
BUDGET: list[tuple[Any, Pattern, int]] = [
    (thanos, N_M, 12),
    (thanos, OUTLIERS, 12),
    (thanos, FREE, 24),
    (sparsegpt, N_M, 8),
    (sparsegpt, FREE, 8),
    (sparsegpt, Structured(0.3), 24),
]
LAYER = 60  # launches beside those of the blocks


def kernels(dtype: torch.dtype) -> dict[str, int]:
    """Kernels of one call of each operation of ours."""
    from thanos_torch.methods.kernels import groups, smallest, sweep, systems

    return {
        "smallest": smallest.launches(dtype),
        "smallest_of_groups": groups.launches(),
        "joint_update": systems.launches(),
        "sweep": sweep.launches(),
    }


def counted(
    method: Any, pattern: Pattern, rows: int, columns: int, dtype: torch.dtype, **options: Any
) -> Launches:
    """A whole layer, from its arguments to its result, none of which is looked at."""
    launches = Launches(kernels(dtype))
    with FakeTensorMode(), SlicesByNarrow():
        W = torch.empty(rows, columns, dtype=dtype, device="cuda")
        G = torch.empty(columns, columns, dtype=dtype, device="cuda")
        with launches:
            pruned = method(W, G, pattern, block_size=BLOCK, checks=Checks(), **options)
        assert pruned.weight.device.type == "cuda"
    return launches


@pytest.mark.parametrize("rows", [3, 4096])
@pytest.mark.parametrize("rest", [0, 12], ids=["whole blocks", "ragged"])
@pytest.mark.parametrize(
    ("method", "pattern", "budget"),
    BUDGET,
    ids=lambda each: getattr(each, "__name__", str(each)),  # the same in every worker
)
def test_a_layer_is_a_few_launches(
    method: Any, pattern: Pattern, budget: int, rest: int, rows: int
) -> None:
    few, many = (
        counted(method, pattern, rows, blocks * BLOCK + rest, torch.float32).counts
        for blocks in (2, 5)
    )
    of_block, remainder = divmod(many.total() - few.total(), 3)
    assert remainder == 0
    assert of_block <= budget, many - few
    assert few.total() - (3 if rest else 2) * of_block <= LAYER, few


def test_layers_that_share_a_factor_make_it_once() -> None:
    factors, checks = FactorCache(), Checks()
    launches = Launches({})
    with FakeTensorMode(), SlicesByNarrow():
        G = torch.empty(64, 64, device="cuda")
        with launches:
            for rows in (8, 16, 24):
                W = torch.empty(rows, 64, device="cuda")
                thanos(W, G, N_M, block_size=BLOCK, factors=factors, checks=checks)
    assert launches.counts["linalg_cholesky_ex"] == 1
