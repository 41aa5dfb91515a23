"""Operations of layers small enough to be counted by hand."""

import pytest

from thanos_torch.runtime.clock import FEW_COLUMNS
from verification.benchmarks.performance.laws import COUNTS, Work, factor_bytes

# Three rows, five columns in blocks of two: widths 2, 2, 1; behind them 3, 1, 0 columns.
LAYER = Work(rows=3, columns=5, block_size=2, steps=7.0, last_steps=20.0, refit_steps=10)
BY_HAND = {
    "blocks": 3,
    "c b": 15,
    "b²": 25,
    "b³": 125,
    "c b²": 75,
    "c B": 6,
    "last block²": 1,
    "last block / b": 0.2,
    "width / rest": (2 / 5 + 2 / 3) / 2,  # the last block is not among them
    "b³ / threads": 125,
    "c b² / threads": 75,
    "trailing": 2 * 3 * 2 * 3 + 2 * 3 * 2 * 1,
    "within": 2 * 3 * 4 + 2 * 3 * 4 + 2 * 3 * 1,
    "steps": 7 * 2 * 48 + 20 * 2 * 6,  # two products of its width a step
    "passes": 7 * 12 + 20 * 3,
    "systems": 8 + 8 + 1,
    "looks": 3 * 5 + 3 * 3 + 3 * 1,
    "sweeps": 3 * 1 + 3 * 1 + 0,
    "trailing / threads": 2 * 3 * 2 * 3 + 2 * 3 * 2 * 1,
    "lengths": 0 + 2 * 3 + 4 * 1,
    "spreads": 0 + 3 * 2 * 3 + 3 * 4 * 1,
    "refit products": 11 * 2 * 3 * 25,
    "refit passes": 11 * 15,
    "part": 3,  # all rows of the last block, which is one column wide
}


@pytest.mark.parametrize("name", BY_HAND)
def test_counts_of_a_layer(name: str) -> None:
    assert COUNTS[name](LAYER) == pytest.approx(BY_HAND[name], rel=1e-15)


def test_structured_takes_the_columns_that_go() -> None:
    # 0.3 of 10 columns are 3: 7 stay. A triangular solve with 7, two products.
    work = Work(rows=2, columns=10, pattern="structured:0.3")
    assert COUNTS["least squares"](work) == 2 * 7 * 7 + 2 * 2 * 7 * 3 + 2 * 2 * 3 * 3


def test_a_block_wider_than_the_layer_is_the_layer() -> None:
    wide, whole = (Work(rows=3, columns=5, block_size=B, last_steps=2) for B in (512, 5))
    names = [name for name in COUNTS if name != "least squares"]  # of structured patterns only
    assert {n: COUNTS[n](wide) for n in names} == {n: COUNTS[n](whole) for n in names}
    assert COUNTS["trailing"](wide) == 0
    assert COUNTS["width / rest"](wide) == 0  # no block before the last
    assert COUNTS["steps"](wide) == 2 * 4 * 3 * 5 * 5


def test_only_large_layers_are_judged_on_all_threads() -> None:
    small, large = (Work(rows=3, columns=b, threads=2) for b in (FEW_COLUMNS - 1, FEW_COLUMNS))
    for name in ("b³", "c b²", "trailing"):
        assert COUNTS[f"{name} / threads"](small) == COUNTS[name](small)
        assert COUNTS[f"{name} / threads"](large) == COUNTS[name](large) / 2


def test_bytes_of_the_factor() -> None:
    assert factor_bytes(Work(rows=3, columns=4)) == 4 * 12 + 10.5 * 16
