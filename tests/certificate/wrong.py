"""Results with one mistake each that no implementation of tests/judge/wrong makes.

All start from the reference, so that nothing but the mistake is wrong: a single bit, a type that is
said, reported losses, and refits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import reference
from reference import Pattern, Pruned, SemiStructured, Unstructured
from tests.judge.wrong.updates import multipliers_times
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


def moved_with(step: float) -> Pruned:
    """Thanos with all multipliers times `step`."""
    run = multipliers_times(step)(WEIGHT, GRAM, str(HALF), BLOCK, DAMPING)
    return Pruned(*run.run("thanos"), right().block_losses)


def touched(pruned: Pruned, where: Mask, value: float) -> Pruned:
    """One entry, the first of `where`, set to another value."""
    weight = pruned.weight.copy()
    weight[tuple(np.argwhere(where)[0])] = value
    return replace(pruned, weight=weight)


def kept_entry_changed(method: str) -> Pruned:
    pruned = right(method)
    value = pruned.weight[~pruned.mask][0]
    return touched(pruned, ~pruned.mask, float(np.nextafter(value, np.inf)))


def outlier_row_changed() -> Pruned:
    pruned = right(pattern=SEMI)
    row = ~pruned.mask.any(axis=1, keepdims=True) & np.ones_like(pruned.mask)
    value = pruned.weight[row][0]
    return touched(pruned, row, float(np.nextafter(value, np.inf)))


RIGHT = right()
WRONG = [
    Wrong("mu off by 1e-4", "updates", lambda: moved_with(1 + 1e-4)),
    Wrong("half the step, far from the exact run", "replay", lambda: moved_with(0.5)),
    Wrong("not of the type that is said", "storage", right, judge={"storage": "bfloat16"}),
    Wrong(
        "outlier rows by outputs where norms are said",
        "outliers",
        lambda: right(pattern=SEMI),
        pattern=SEMI,
        judge={"outlier_score": "wanda"},
    ),
    Wrong("infinite", "finite", lambda: touched(RIGHT, RIGHT.mask, np.inf)),
    Wrong("Wanda moves", "kept", lambda: kept_entry_changed("wanda"), method="wanda"),
    Wrong("magnitude moves", "kept", lambda: kept_entry_changed("magnitude"), method="magnitude"),
    # The sum is right (T4 would be), the order is not.
    Wrong(
        "losses in another order", "losses", right, judge={"block_losses": RIGHT.block_losses[::-1]}
    ),
    Wrong("losses doubled", "losses", right, judge={"block_losses": 2 * RIGHT.block_losses}),
    Wrong("one loss too few", "losses", right, judge={"block_losses": RIGHT.block_losses[:-1]}),
    Wrong("losses negative", "losses", right, judge={"block_losses": -RIGHT.block_losses}),
    Wrong("loss NaN", "losses", right, judge={"block_losses": 0 * RIGHT.block_losses * np.nan}),
    Wrong(
        "refit of other support",
        "support",
        right,
        judge={"refitted_weight": touched(RIGHT, RIGHT.mask, 1e-3).weight},
    ),
    Wrong(
        "refit of an outlier row",  # f falls, but a row that lost nothing has to stay as it is
        "support",
        lambda: right(pattern=SEMI),
        pattern=SEMI,
        judge={"refitted_weight": outlier_row_changed().weight},
    ),
    Wrong(
        "refit that raises f",
        "refit",
        right,
        judge={"refitted_weight": RIGHT.weight + 0.5 * (RIGHT.weight - WEIGHT) * ~RIGHT.mask},
    ),
    Wrong("refit NaN", "refit", right, judge={"refitted_weight": np.full_like(WEIGHT, np.nan)}),
]
