"""Calls that every implementation must refuse, for each bullet of spec section 2.

Each is (case, call, argument named, value named). The call takes an implementation and must raise
ValueError with a message that holds the last two. Cases of verification/vectors/refusals.py, which
implementations outside of Python refuse too, name less.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from reference import SemiStructured, Structured, Unstructured, parse_pattern
from reference.arrays import Pruned
from tests.implementations import Implementation


class Refusal(NamedTuple):
    case: str
    call: Callable[[Implementation], object]
    argument: str
    value: str


WEIGHT = np.ones((2, 4))
GRAM = np.eye(4)
HALF = Unstructured(0.5)
PRUNED = Pruned(WEIGHT, np.zeros((2, 4), dtype=bool), np.zeros(1))


def pattern(case: str, build: Callable[[], object], argument: str, value: str) -> Refusal:
    """A pattern that cannot be made, whatever the implementation."""
    return Refusal(case, lambda _: build(), argument, value)


def prune(
    case: str,
    argument: str,
    value: str,
    *,
    weight: Any = WEIGHT,
    gram: Any = GRAM,
    pattern: Any = HALF,
    method: str = "thanos",
    **options: Any,
) -> Refusal:
    """A call of a method that is refused."""
    return Refusal(
        case,
        lambda implementation: implementation.prune(method, weight, gram, pattern, **options),
        argument,
        value,
    )


def changed(matrix: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    copy = matrix.copy()
    copy[place] = value
    return copy


# Its eigenvalues are 3 and −1, and a damping of 0.01 leaves the second negative.
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])

REFUSALS = [
    # p outside [0, 1)
    pattern("p is 1", lambda: Unstructured(1.0), "sparsity", "1.0"),
    pattern("p negative", lambda: Structured(-0.1), "sparsity", "-0.1"),
    pattern("p is NaN", lambda: Unstructured(float("nan")), "sparsity", "nan"),
    pattern("p no number", lambda: Unstructured("half"), "sparsity", "half"),
    pattern("p is n/0", lambda: Unstructured("1/0"), "sparsity", "1/0"),
    pattern("p endless", lambda: Unstructured("1e-99999"), "sparsity", "1e-99999"),
    # α outside [0, 1)
    pattern("alpha is 1", lambda: SemiStructured(2, 4, 1), "outlier_rows", "1"),
    pattern("alpha negative", lambda: Structured(0.5, -0.5), "outlier_rows", "-0.5"),
    # m < 1, n outside [0, m]
    pattern("m is 0", lambda: SemiStructured(0, 0), "m", "0"),
    pattern("n above m", lambda: SemiStructured(5, 4), "n", "5"),
    pattern("n negative", lambda: SemiStructured(-1, 4), "n", "-1"),
    pattern("n no whole number", lambda: SemiStructured(1.5, 4), "n", "1.5"),  # type: ignore[arg-type]
    pattern("m a bool", lambda: SemiStructured(0, True), "m", "True"),
    pattern("text of no pattern", lambda: parse_pattern("2:4:6"), "pattern", "2:4:6"),
    # b not divisible by m, B not divisible by m where B < b
    prune("b by m", "m", "3", pattern=SemiStructured(1, 3)),
    prune("B by m", "block_size", "3", pattern=SemiStructured(1, 2), block_size=3),
    # s > b
    prune("s above b", "sparsity", "0.9", pattern=Structured(0.9, 0.5)),
    # B < 1
    prune("B is 0", "block_size", "0", block_size=0),
    prune("B is 0, structured", "block_size", "0", pattern=Structured(0.5), block_size=0),
    prune("B no whole number", "block_size", "2.5", block_size=2.5),
    # γ ≤ 0
    prune("damping is 0", "damping", "0", damping=0.0),
    prune("damping negative", "damping", "-1", damping=-1.0),
    prune("damping is NaN", "damping", "nan", damping=float("nan")),
    prune("damping infinite", "damping", "inf", damping=float("inf")),
    # shapes that do not match
    prune("gram too small", "gram", "3", gram=np.eye(3)),
    prune("gram not square", "gram", "3", gram=np.ones((4, 3))),
    prune("weight a vector", "weight", "(4,)", weight=np.ones(4)),
    prune("weight a stack", "weight", "(1, 2, 4)", weight=np.ones((1, 2, 4))),
    # an empty or integer matrix
    prune("weight without rows", "weight", "(0, 4)", weight=np.ones((0, 4))),
    prune("weight without columns", "weight", "(2, 0)", weight=np.ones((2, 0)), gram=np.eye(0)),
    prune("weight of integers", "weight", "int64", weight=np.ones((2, 4), dtype=np.int64)),
    prune("gram of integers", "gram", "int64", gram=np.eye(4, dtype=np.int64)),
    # NaN or infinity anywhere
    prune("weight NaN", "weight", "nan", weight=changed(WEIGHT, (1, 2), np.nan)),
    prune("weight infinite", "weight", "-inf", weight=changed(WEIGHT, (1, 2), -np.inf)),
    prune("gram NaN", "gram", "nan", gram=changed(GRAM, (3, 3), np.nan)),
    prune("gram infinite", "gram", "inf", gram=changed(GRAM, (0, 1), np.inf)),
    # |G_ij − G_ji| > 1e-5 sqrt(G_ii G_jj)
    prune("gram asymmetric", "gram", "2e-05", gram=changed(GRAM, (0, 1), 2e-5)),
    # G_jj < 0, G_jj = 0 with a nonzero row
    prune("gram negative", "gram[2, 2]", "-1.0", gram=changed(GRAM, (2, 2), -1.0)),
    prune(
        "gram dead but not empty",
        "gram[0, 0]",
        "0",
        gram=np.array([[0.0, 1e-9], [1e-9, 1.0]]),
        weight=np.ones((1, 2)),
    ),
    # H not positive definite even in float64
    *(
        prune(
            f"gram indefinite, {method}",
            "gram",
            "damping",
            gram=INDEFINITE,
            weight=np.ones((1, 2)),
            method=method,
        )
        for method in ("thanos", "magnitude", "wanda", "sparsegpt")
    ),
    # section 6: the baselines know no outlier rows
    *(
        prune(
            f"outlier rows, {method}",
            "outlier_rows",
            "0.1",
            method=method,
            pattern=SemiStructured(2, 4, 0.1),
        )
        for method in ("magnitude", "wanda", "sparsegpt")
    ),
    # section 7
    prune("unknown adaptive", "adaptive", "'never'", adaptive="never"),
    prune("unknown residual", "residual", "'near'", residual="near"),
    prune("unknown update", "update", "'half'", update="half"),
    prune("unknown metric", "metric", "'l2'", metric="l2"),
    prune("unknown outlier score", "outlier_score", "'l2'", outlier_score="l2"),
    Refusal(
        "refit steps negative", lambda i: i.refit(WEIGHT, GRAM, PRUNED, steps=-1), "steps", "-1"
    ),
    Refusal(
        "refit of another shape",
        lambda i: i.refit(np.ones((3, 4)), GRAM, PRUNED, steps=1),
        "pruned.weight",
        "(2, 4)",
    ),
    Refusal(
        "refit of no matrix", lambda i: i.refit(np.ones(4), GRAM, PRUNED, steps=1), "weight", "(4,)"
    ),
    Refusal(
        "objective of another shape",
        lambda i: i.objective(WEIGHT, GRAM, np.ones((3, 4))),
        "pruned_weight",
        "(3, 4)",
    ),
    Refusal(
        "objective of no matrix", lambda i: i.objective(np.ones(4), GRAM, WEIGHT), "weight", "(4,)"
    ),
    Refusal("gram of no columns", lambda i: i.gram(0, []), "columns", "0"),
    Refusal("batch too narrow", lambda i: i.gram(4, [np.ones((2, 3))]), "batch", "(2, 3)"),
    Refusal("batch of no rows", lambda i: i.gram(4, [np.array(1.0)]), "batch", "()"),
    Refusal("batch NaN", lambda i: i.gram(2, [np.array([[1.0, np.nan]])]), "batch", "NaN"),
]
