"""The launch budget of a layer on a GPU, counted with fake tensors. docs/gpu.md has the table."""

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from thanos_torch import FactorCache, thanos
from thanos_torch.methods.checks import Checks
from verification.benchmarks.performance.launches import Launches, SlicesByNarrow, counted

pytestmark = pytest.mark.triton

BLOCK = 32
N_M, OUTLIERS, FREE = SemiStructured(2, 4), SemiStructured(2, 4, 0.1), Unstructured(0.5)
# Launches of one block, at most, and the method.
BUDGET: list[tuple[str, Pattern, int]] = [
    ("thanos", N_M, 12),
    ("thanos", OUTLIERS, 12),
    ("thanos", FREE, 24),
    ("sparsegpt", N_M, 8),
    ("sparsegpt", FREE, 8),
    ("sparsegpt", Structured(0.3), 24),
]
LAYER = 60  # launches beside those of the blocks


@pytest.mark.parametrize("rows", [3, 4096])
@pytest.mark.parametrize("rest", [0, 12], ids=["whole blocks", "ragged"])
@pytest.mark.parametrize(
    ("method", "pattern", "budget"),
    BUDGET,
    ids=lambda each: getattr(each, "__name__", str(each)),  # the same in every worker
)
def test_a_layer_is_a_few_launches(
    method: str, pattern: Pattern, budget: int, rest: int, rows: int
) -> None:
    of_block, beside = launches_of(method, pattern, rows, rest)
    assert of_block <= budget
    assert beside <= LAYER


def launches_of(method: str, pattern: Pattern, rows: int, rest: int) -> tuple[int, int]:
    """Launches of one block, and of a layer beside its blocks, the last of `rest` columns."""
    few, many = (
        counted(method, pattern, rows, blocks * BLOCK + rest, block_size=BLOCK).counts
        for blocks in (2, 5)
    )
    of_block, remainder = divmod(many.total() - few.total(), 3)
    assert remainder == 0
    return of_block, few.total() - (3 if rest else 2) * of_block


def test_the_page_has_what_is_counted() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text(encoding="utf-8")
    table = page.partition("## Launches")[2].partition("What is counted")[0]
    told = [
        tuple(map(int, row))
        for row in re.findall(r"(\d+) \| (\d+) \| (\d+) \| (\d+) \|$", table, re.M)
    ]
    found = []
    for method, pattern, budget in BUDGET:
        of_block, beside = launches_of(method, pattern, 4096, 12)
        found.append((budget, of_block, LAYER, beside))
    assert told == found


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
