"""Bugs in the arithmetic: too coarse, too short, or a division by zero."""

import numpy as np

from tests.judge.wrong.arrays import Array, Indices, Mask
from tests.judge.wrong.bug import IN_BLOCKS, Wrong, with_step
from tests.judge.wrong.right import Right


class StoppedTooEarly(Right):
    """Two steps of conjugate gradients for the multipliers, and no look at the residual."""

    def multipliers(self, R_qq: Array, removed: Array) -> Array:
        solution, residual = np.zeros_like(removed), removed
        direction = residual
        for _ in range(2):
            if not residual.any():
                break
            product = R_qq @ direction
            step = residual @ residual / (direction @ product)
            solution = solution + step * direction
            previous, residual = residual, residual - step * product
            direction = residual + residual @ residual / (previous @ previous) * direction
        return solution


class UnguardedSolver(Right):
    """Conjugate gradients for all rows at once divide 0 by 0 in a row that loses nothing."""

    def update(self, weights: Array, mask: Mask, j1: int, j2: int) -> Array:
        R, picked = self.inverse_rows(j1, j2), mask[:, j1:j2]
        residual = np.where(picked, weights[:, j1:j2], 0.0)
        direction, multipliers = residual, np.zeros_like(residual)
        squares = _of_each_row(residual, residual)
        with np.errstate(invalid="ignore", divide="ignore"):
            for _ in range(2 * (j2 - j1)):
                product = np.where(picked, direction @ R[:, : j2 - j1], 0.0)
                step = squares / _of_each_row(direction, product)
                multipliers = multipliers + step * direction
                residual = residual - step * product
                previous, squares = squares, _of_each_row(residual, residual)
                direction = residual + squares / previous * direction
        updated = weights.copy()
        updated[:, j1:] -= multipliers @ R
        updated[:, j1:j2][picked] = 0.0
        return updated


def _of_each_row(left: Array, right: Array) -> Array:
    return np.asarray((left * right).sum(axis=1, keepdims=True))


class HalfPrecision(Right):
    """The current weights are kept in float16, and updates are added up in it."""

    def made_up(self, row: Array, q: Indices, R: Array) -> Array:
        change = super().made_up(row, q, R) - row
        return (row.astype(np.float16) + change.astype(np.float16)).astype(np.float64)


class HalfPrecisionNorms(Right):
    """Squares of inputs are added up in float16, as in the published code: they overflow."""

    def norms(self) -> Array:
        with np.errstate(over="ignore"):
            squares = np.diag(self.G).astype(np.float16)
        return np.sqrt(squares.astype(np.float64))


class DividedByDead(Right):
    """(6) in units in which all inputs have the norm 1: a dead column is divided by zero."""

    def made_up(self, row: Array, q: Indices, R: Array) -> Array:
        norms = np.sqrt(np.diag(self.G))[-len(row) :]
        with np.errstate(invalid="ignore"):
            moved = super().made_up(row, q, R) * norms / norms
        moved[q] = 0.0
        return np.asarray(moved)


def single(values: Array) -> Array:
    """Values rounded to float32, in units in which they neither overflow nor underflow."""
    unit = 2.0 ** np.frexp(np.abs(values).max())[1]
    return np.asarray((values / unit).astype(np.float32) * unit, np.float64)


SINGLE_SCORES = with_step(
    smallest=lambda self, values, count: Right.smallest(self, single(values), count)
)


class CutOff(Right):
    """Weights are rounded to the storage type towards zero, as by dropping bits."""

    def handed_back(self, weights: Array, mask: Mask) -> tuple[Array, Mask]:
        nearest, mask = super().handed_back(weights, mask)
        lower = np.nextafter(nearest, np.zeros_like(nearest))
        return np.where(np.abs(nearest) > np.abs(weights), lower, nearest), mask


WRONG = [
    Wrong("solver stopped too early", StoppedTooEarly, "updates", None),
    Wrong("solver divides 0 by 0", UnguardedSolver, "finite", None,
        patterns=("unstructured", "outlier-rows"), features=("few-removed",)),
    Wrong("float16 accumulation", HalfPrecision, "updates", None),
    # The multipliers are solved for in float32, although the arrays are float64.
    Wrong("float32 solver in float64",
        with_step(multipliers=lambda self, R_qq, removed: np.linalg.solve(
            R_qq.astype(np.float32), removed.astype(np.float32)).astype(np.float64)),
        "updates", "float32-arithmetic"),
    # Scores are computed in float32, although the arrays are float64.
    Wrong("scores in float32", SINGLE_SCORES, "masks", "scores-in-float32",
        patterns=("unstructured", "n:m"), features=("close-scores",)),
    Wrong("scores of columns in float32", SINGLE_SCORES, "masks", None,
        patterns=("structured",), features=("close-scores",)),
    Wrong("norms in float32",
        with_step(norms=lambda self: single(Right.norms(self))),
        "masks", "scores-in-float32", patterns=("unstructured", "n:m"), features=("close-scores",)),
    Wrong("outputs of rows in float32",
        with_step(row_values=lambda self: single(Right.row_values(self))),
        "outliers", "outlier-rows-in-float32", patterns=("outlier-rows",),
        features=("close-scores",)),
    Wrong("magnitude: scores in float32", SINGLE_SCORES, "masks", "scores-in-float32",
        method="magnitude", patterns=("unstructured", "n:m", "structured"),
        features=("close-scores",)),
    Wrong("Wanda: scores in float32", SINGLE_SCORES, "masks", "scores-in-float32", method="wanda",
        patterns=("unstructured", "n:m"), features=("close-scores",)),
    Wrong("Wanda: scores of columns in float32", SINGLE_SCORES, "masks", None, method="wanda",
        patterns=("structured",), features=("close-scores",)),
    Wrong("SparseGPT: scores in float32", SINGLE_SCORES, "masks", "scores-in-float32",
        method="sparsegpt", patterns=("unstructured",), features=("close-scores",)),
    Wrong("storage cut off", CutOff, "replay", None, features=("stored-float16",)),
    Wrong("norms in float16", HalfPrecisionNorms, "masks", None, patterns=IN_BLOCKS,
        features=("loud-inputs",)),
    Wrong("dead column divided by zero", DividedByDead, "finite", None,
        patterns=("unstructured", "n:m"), features=("dead-columns", "many-blocks")),
    # Removed weights are marked with NaN and never turned into zeros.
    Wrong("NaN for removed",
        with_step(handed_back=lambda self, weights, mask: Right.handed_back(
            self, np.where(mask, np.nan, weights), mask)),
        "finite", None),
]  # fmt: skip
