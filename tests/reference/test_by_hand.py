"""A 2 x 4 layer that is pruned by hand, for every pattern and method.

Columns 0, 1 and columns 2, 3 are two uncorrelated pairs. Within a pair
G = [[2, 1], [1, 2]], and γ = 1/2 makes λ = 1, so H = [[3, 1], [1, 3]]. If one weight w of a pair
goes, its neighbour moves by w/3 and the loss is w² (3 − 1/3) = 8/3 w²; if nothing moves, 3 w².
All norms are equal, so saliencies are in the order of |W|; −6 and 6 tie.
"""

from typing import Any

import numpy as np
import pytest

from reference import Pattern, Pruned, parse_pattern
from tests.implementations import Implementation, each_float64
from tests.mathematics import Array
from tests.ratios import check_bits, check_same_numbers

WEIGHT = np.array([[3.0, 12.0, -6.0, 24.0], [-9.0, 30.0, 18.0, 6.0]])
INPUTS = np.array(
    [
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 0.0, 1.0],
    ]
)

# h = 1314 and 2358: row 1 is the outlier row.
EXAMPLES: list[tuple[str, str, list[list[float]], list[float]]] = [
    # 2 of 8 go: 3, and of the ties the one in the upper row; 9 · 8/3 and 36 · 8/3
    ("thanos", "unstructured:0.25", [[0, 13, 0, 22], [-9, 30, 18, 6]], [24, 96]),
    # 3, −6, −9, 6; the first block loses (9 + 81) · 8/3, the second (36 + 36) · 8/3
    ("thanos", "1:2", [[0, 13, 0, 22], [0, 27, 20, 0]], [240, 192]),
    ("thanos", "1:2+outliers:0.5", [[0, 13, 0, 22], [-9, 30, 18, 6]], [24, 96]),
    # v = 2 (9 + 81) is the smallest of the columns
    ("thanos", "structured:0.25", [[0, 13, -6, 24], [0, 27, 18, 6]], [240]),
    # s = 0.25 · 4 / 0.5 = 2 columns of row 0, one block
    ("thanos", "structured:0.25+outliers:0.5", [[0, 13, 0, 22], [-9, 30, 18, 6]], [120]),
    ("magnitude", "unstructured:0.25", [[0, 12, 0, 24], [-9, 30, 18, 6]], [27, 108]),
    ("magnitude", "1:2", [[0, 12, 0, 24], [0, 30, 18, 0]], [270, 216]),
    ("magnitude", "structured:0.25", [[0, 12, -6, 24], [0, 30, 18, 6]], [270, 0]),
    # one of every row
    ("wanda", "unstructured:0.25", [[0, 12, -6, 24], [-9, 30, 18, 0]], [27, 108]),
    ("wanda", "1:2", [[0, 12, 0, 24], [0, 30, 18, 0]], [270, 216]),
    ("wanda", "structured:0.25", [[0, 12, -6, 24], [0, 30, 18, 6]], [270, 0]),
    # one in each block; W²/(U_jj)² is 8/3 W² in a pair's first column, 3 W² in its second
    ("sparsegpt", "unstructured:0.25", [[0, 13, 0, 22], [-9, 30, 18, 6]], [24, 96]),
    # 20 and 0: the sweep has passed 18 when 6 goes, and 18 is frozen, so 36 · 3 is lost
    ("sparsegpt", "1:2", [[0, 13, 0, 22], [0, 27, 18, 0]], [240, 204]),
    # ⌈p · 2⌉ = 1 column in block 0, ⌈p · 4⌉ − 1 = 0 in block 1
    ("sparsegpt", "structured:0.25", [[0, 13, -6, 24], [0, 27, 18, 6]], [240, 0]),
]


@each_float64
@pytest.mark.parametrize(
    ("method", "pattern", "pruned", "losses"), EXAMPLES, ids=[f"{e[0]}-{e[1]}" for e in EXAMPLES]
)
def test_two_by_four(
    method: str,
    pattern: str,
    pruned: list[list[float]],
    losses: list[float],
    implementation: Implementation,
) -> None:
    result = prune(implementation, method, parse_pattern(pattern), block_size=2)
    check(result, pruned, losses)


# Row 0 has the larger weights, Σ_j W_ij² G_jj = 450 and 372, but −6 takes from what 6 gives:
# h = 450 and 504.
OPPOSED = np.array([[6.0, -6.0, 3.0, 12.0], [6.0, 3.0, 12.0, 3.0]])
SPARED: list[tuple[str, str, list[list[float]], list[float]]] = [
    ("output", "1:2+outliers:0.5", [[0, -4, 0, 13], [6, 3, 12, 3]], [96, 24]),
    ("wanda", "1:2+outliers:0.5", [[6, -6, 3, 12], [7, 0, 13, 0]], [24, 24]),
    ("output", "structured:0.25+outliers:0.5", [[0, -4, 0, 13], [6, 3, 12, 3]], [120]),
    ("wanda", "structured:0.25+outliers:0.5", [[6, -6, 3, 12], [7, 0, 13, 0]], [48]),
]


@each_float64
@pytest.mark.parametrize(
    ("score", "pattern", "pruned", "losses"), SPARED, ids=[f"{e[0]}-{e[1]}" for e in SPARED]
)
def test_the_outlier_row_is_that_of_the_largest_score(
    score: str,
    pattern: str,
    pruned: list[list[float]],
    losses: list[float],
    implementation: Implementation,
) -> None:
    options: dict[str, Any] = {"weight": OPPOSED, "block_size": 2, "outlier_score": score}
    result = prune(implementation, "thanos", parse_pattern(pattern), **options)
    check(result, pruned, losses)


@each_float64
@pytest.mark.parametrize("score", ["output", "wanda"])
def test_of_rows_that_tie_the_upper_one_stays(score: str, implementation: Implementation) -> None:
    pattern = parse_pattern("1:2+outliers:0.25")
    W = np.array([[1.0, 2.0], [3.0, -4.0], [-3.0, 4.0], [3.0, -4.0]])
    result = implementation.prune("thanos", W, np.diag([4.0, 1.0]), pattern, outlier_score=score)
    assert result.mask.any(axis=1).tolist() == [True, False, True, True]


def test_refit_by_hand() -> None:
    """Magnitude's 1:2 result, its kept weights made up afterwards: Thanos's."""
    implementation = Implementation("reference", "float64")
    zeroed = prune(implementation, "magnitude", parse_pattern("1:2"), block_size=2)
    refitted = implementation.refit(WEIGHT, INPUTS @ INPUTS.T, zeroed, steps=2, damping=0.5)
    expected = np.array([[0.0, 13.0, 0.0, 22.0], [0.0, 27.0, 20.0, 0.0]])
    check_same_numbers("weight", refitted.weight, expected, threshold=1e-14)


@each_float64
def test_objective_by_hand(implementation: Implementation) -> None:
    """D = (−3, −12, 0, 0) in row 0: 3 · 9 + 2 · 36 + 3 · 144."""
    pruned = WEIGHT.copy()
    pruned[0, :2] = 0
    found = implementation.objective(WEIGHT, INPUTS @ INPUTS.T, pruned, damping=0.5)
    assert found == 531.0


@each_float64
def test_streamed_gram_by_hand(implementation: Implementation) -> None:
    batches = [INPUTS.T[:2], INPUTS.T[2:].reshape(2, 2, 4)]
    check_bits("gram", implementation.gram(4, batches), INPUTS @ INPUTS.T)


def check(result: Pruned, pruned: list[list[float]], losses: list[float]) -> None:
    """Compare a result with weights, whose zeros are the mask, and block losses."""
    expected = np.array(pruned, dtype=float)
    check_same_numbers("weight", result.weight, expected, threshold=1e-14)
    check_same_numbers("losses", result.block_losses, np.array(losses, float), threshold=1e-14)
    assert (result.mask == (expected == 0)).all()
    check_bits("removed", result.weight[result.mask], expected[result.mask])


def prune(
    implementation: Implementation,
    method: str,
    pattern: Pattern,
    weight: Array = WEIGHT,
    **options: Any,
) -> Pruned:
    return implementation.prune(method, weight, INPUTS @ INPUTS.T, pattern, damping=0.5, **options)
