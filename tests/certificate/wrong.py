"""Deliberately wrong implementations, one bug each, with the check that must name it.

All start from the reference, so that nothing but the bug is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

import reference
from reference import Pattern, Pruned, SemiStructured, Unstructured
from reference.masks import saliency, smallest
from reference.patterns import column_blocks
from reference.problem import damped
from reference.update import inverse
from tests.mathematics import Array, Mask

BLOCK, DAMPING = 16, 0.01
HALF = Unstructured(0.5)
SEMI = SemiStructured(2, 4, 0.2)


def layer() -> tuple[Array, Array]:
    """A weight and the Gram matrix of correlated inputs with a loud column, as models have them."""
    rng = np.random.default_rng(7)
    mixing = rng.standard_normal((64, 64)) + 2 * rng.standard_normal((64, 1))
    X = mixing @ rng.standard_normal((64, 200)) * rng.lognormal(size=(64, 1))
    return rng.standard_normal((12, 64)), X @ X.T


WEIGHT, GRAM = layer()


@dataclass(frozen=True)
class Wrong:
    """A bug: how it computes, what it claims to be, and the check that names it.

    judge  further arguments of `certify`
    """

    bug: str
    check: str
    run: Callable[[], Pruned]
    pattern: Pattern = HALF
    method: str = "thanos"
    judge: dict[str, Any] = field(default_factory=dict)


def right(method: str = "thanos", pattern: Pattern = HALF, **options: Any) -> Pruned:
    options = {"block_size": BLOCK, "damping": DAMPING, **options}
    result: Pruned = getattr(reference, method)(WEIGHT, GRAM, pattern, **options)
    return result


def moved_with(step: float = 1.0, stale: bool = False) -> Pruned:
    """Thanos with all multipliers times `step`, or with R out of H⁻¹ instead of (H_JJ)⁻¹."""
    H = damped(GRAM, DAMPING)
    W, mask = WEIGHT.copy(), np.zeros(WEIGHT.shape, dtype=bool)
    for j1, j2 in column_blocks(W.shape[1], BLOCK):
        r = HALF.removed(W.size) - int(mask.sum())
        block = smallest(saliency(W[:, j1:], GRAM[j1:, j1:]), r)[:, : j2 - j1]
        R = inverse(H)[j1:, j1:] if stale else inverse(H[j1:, j1:])
        for i, row in enumerate(block):
            q = np.flatnonzero(row)
            mu = np.linalg.solve(R[np.ix_(q, q)], W[i, j1 + q])
            W[i, j1:] -= step * mu @ R[q]
            W[i, j1 + q] = 0.0
        mask[:, j1:j2] = block
    return Pruned(W, mask, right().block_losses)


def touched(pruned: Pruned, where: Mask, value: float) -> Pruned:
    """One entry, the first of `where`, set to another value."""
    weight = pruned.weight.copy()
    weight[tuple(np.argwhere(where)[0])] = value
    return replace(pruned, weight=weight)


def removed_entry(value: float) -> Pruned:
    pruned = right()
    return touched(pruned, pruned.mask, value)


def kept_entry_changed(method: str) -> Pruned:
    pruned = right(method)
    value = pruned.weight[~pruned.mask][0]
    return touched(pruned, ~pruned.mask, float(np.nextafter(value, np.inf)))


def outlier_row_changed() -> Pruned:
    pruned = right(pattern=SEMI)
    row = ~pruned.mask.any(axis=1, keepdims=True) & np.ones_like(pruned.mask)
    value = pruned.weight[row][0]
    return touched(pruned, row, float(np.nextafter(value, np.inf)))


def wrong_outlier_rows() -> Pruned:
    """The rows of the smallest outputs are spared instead of those of the largest."""
    lone = right(pattern=SemiStructured(2, 4))
    h = np.sum((WEIGHT @ GRAM) * WEIGHT, axis=1)
    spared = np.argsort(h)[: SEMI.outliers(len(h))]
    weight, mask = lone.weight.copy(), lone.mask.copy()
    weight[spared], mask[spared] = WEIGHT[spared], False
    return replace(lone, weight=weight, mask=mask)


def swapped_pick() -> Pruned:
    """Zeroing methods: the smallest of a row stays, the largest goes."""
    pruned = right("wanda")
    S = saliency(WEIGHT, GRAM)
    mask = pruned.mask.copy()
    mask[0, [np.argmin(S[0]), np.argmax(S[0])]] = False, True
    return replace(pruned, weight=np.where(mask, 0.0, WEIGHT), mask=mask)


def dead_columns_outside_the_budget() -> Pruned:
    """The published code's habit: a column is zeroed beforehand, and the count is met elsewhere."""
    mask = right("magnitude").mask.copy()
    mask[:, 5] = True
    return Pruned(np.where(mask, 0.0, WEIGHT), mask, right("magnitude").block_losses)


def one_more(pattern: Unstructured) -> Pattern:
    count = pattern.removed(WEIGHT.size) + 1
    return Unstructured(Fraction(count, WEIGHT.size))


def refit_moving_support() -> dict[str, Any]:
    pruned = right()
    return {"refitted_weight": touched(pruned, pruned.mask, 1e-3).weight}


def refit_moving_outliers() -> dict[str, Any]:
    """f falls, but a row that lost nothing has to stay as it is."""
    return {"refitted_weight": outlier_row_changed().weight}


def refit_raising_f() -> dict[str, Any]:
    pruned = right()
    return {"refitted_weight": pruned.weight + 0.5 * (pruned.weight - WEIGHT) * ~pruned.mask}


def losses_swapped() -> dict[str, Any]:
    """The sum is right (T4 would be), the order is not."""
    return {"block_losses": right().block_losses[::-1]}


WRONG = [
    Wrong("mu off by 1e-4", "updates", lambda: moved_with(1 + 1e-4)),
    Wrong("mu off by 1e-3", "updates", lambda: moved_with(1 + 1e-3)),
    Wrong("half the step", "updates", lambda: moved_with(0.5)),
    Wrong("half the step, far from the exact run", "replay", lambda: moved_with(0.5)),
    Wrong("not of the type that is said", "storage", right, judge={"storage": "bfloat16"}),
    Wrong("stale inverse", "updates", lambda: moved_with(stale=True)),
    Wrong("damping 1 % too large", "updates", lambda: right(damping=1.01 * DAMPING)),
    Wrong("damping halved", "updates", lambda: right(damping=DAMPING / 2)),
    Wrong("sequential instead of joint", "updates", lambda: right(update="sequential")),
    Wrong("wider blocks than said", "updates", lambda: right(block_size=2 * BLOCK)),
    Wrong("only zeroed", "updates", lambda: right("magnitude")),
    Wrong("SparseGPT called Thanos", "updates", lambda: right("sparsegpt")),
    Wrong("Thanos called SparseGPT", "updates", right, method="sparsegpt"),
    Wrong("SparseGPT's mask called Thanos's", "masks", lambda: right("sparsegpt")),
    Wrong("mask of the original weights", "masks", lambda: right(adaptive=False)),
    Wrong("mask by magnitude", "masks", lambda: right(metric="magnitude")),
    Wrong("mask local to the block", "masks", lambda: right(residual="local")),
    Wrong("the largest goes", "masks", swapped_pick, method="wanda"),
    Wrong("Wanda called magnitude", "masks", lambda: right("wanda"), method="magnitude"),
    Wrong("one weight too many", "counts", lambda: right(pattern=one_more(HALF))),
    Wrong("dead column extra", "counts", dead_columns_outside_the_budget, method="magnitude"),
    Wrong(
        "one outlier row too many",
        "counts",
        lambda: right(pattern=SemiStructured(2, 4, 0.3)),
        pattern=SEMI,
    ),
    Wrong("outlier row off by one ulp", "outliers", outlier_row_changed, pattern=SEMI),
    Wrong("the wrong outlier rows", "outliers", wrong_outlier_rows, pattern=SEMI),
    Wrong(
        "outlier rows by the norms of weights",
        "outliers",
        lambda: right(pattern=SEMI, outlier_score="wanda"),
        pattern=SEMI,
    ),
    Wrong(
        "outlier rows by outputs where norms are said",
        "outliers",
        lambda: right(pattern=SEMI),
        pattern=SEMI,
        judge={"outlier_score": "wanda"},
    ),
    Wrong("nearly zero", "zeros", lambda: removed_entry(1e-30)),
    Wrong("negative zero", "zeros", lambda: removed_entry(-0.0)),
    Wrong("NaN", "finite", lambda: removed_entry(np.nan)),
    Wrong("infinite", "finite", lambda: removed_entry(np.inf)),
    Wrong("Wanda moves", "kept", lambda: kept_entry_changed("wanda"), method="wanda"),
    Wrong("magnitude moves", "kept", lambda: kept_entry_changed("magnitude"), method="magnitude"),
    Wrong("losses in another order", "losses", right, judge=losses_swapped()),
    Wrong("losses doubled", "losses", right, judge={"block_losses": 2 * right().block_losses}),
    Wrong("one loss too few", "losses", right, judge={"block_losses": right().block_losses[:-1]}),
    Wrong("losses negative", "losses", right, judge={"block_losses": -right().block_losses}),
    Wrong("loss NaN", "losses", right, judge={"block_losses": 0 * right().block_losses * np.nan}),
    Wrong("refit of other support", "support", right, judge=refit_moving_support()),
    Wrong(
        "refit of an outlier row",
        "support",
        lambda: right(pattern=SEMI),
        pattern=SEMI,
        judge=refit_moving_outliers(),
    ),
    Wrong("refit that raises f", "refit", right, judge=refit_raising_f()),
    Wrong("refit NaN", "refit", right, judge={"refitted_weight": np.full_like(WEIGHT, np.nan)}),
]
