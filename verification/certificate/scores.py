"""What a mask was chosen by, with the rounding error of right code. Spec (2) and section 5."""

import numpy as np

from verification.certificate.case import Array, Case, Sizes
from verification.certificate.rules import Rules
from verification.thresholds import ROUNDINGS


def column_factors(case: Case, rules: Rules, j1: int) -> tuple[Array, Array | None]:
    """The f_j with S_ij = |W_ij| f_j for the columns J = [j1, b), and their relative errors.

    No errors are counted for ‖X_j‖: it is as exact as the rounding of `scores` allows for.

    Scores that are squares, W²/((H_JJ)⁻¹)_jj, are judged by their roots: the order is the same.
    """
    norms = np.sqrt(np.diag(case.G))
    if rules.method == "sparsegpt":
        # U_jj = 1 / M_jj. Cholesky makes errors of u Σ_l M_lj² in M_jj², which is H_jj.
        pivots = np.diag(case.M)
        return pivots[j1:], (4 * case.u * (norms**2 + case.lam) / pivots**2)[j1:]
    if rules.method == "thanos" and rules.ablation.metric == "obs":
        U = case.U[j1:, j1:]
        R_jj = np.sum(U**2, axis=0)
        # An error of u |M|ᵀ|M| in H changes R_jj by at most R (u |M|ᵀ|M|) R, its j-th entry.
        spread = np.sum((np.abs(case.M[j1:, j1:]) @ np.abs(U.T @ U)) ** 2, axis=0)
        return 1 / np.sqrt(R_jj), 4 * case.u * spread / R_jj
    plain = rules.method == "magnitude" or rules.ablation.metric == "magnitude"
    factors = np.ones_like(norms) if plain else norms
    return factors[j1:], None


def scores(
    case: Case, rules: Rules, j1: int, weights: Array, spread: Sizes | None
) -> tuple[Array, Array]:
    """S and its margin δ for weights of the columns from j1 on, (c, width).

    `spread` is |Ŵ_<| |N|, or None for original weights, which storage has not rounded.
    """
    factors, errors = column_factors(case, rules, j1)
    width = weights.shape[1]
    errors = None if errors is None else errors[:width]
    return scored(case, weights, spread, factors[:width], errors, case.factor_rounding)


def scored(
    case: Case,
    weights: Array,
    spread: Sizes | None,
    factors: Array,
    errors: Array | None,
    factor_rounding: Array,
) -> tuple[Array, Array]:
    """The same, of any weights, with what belongs to their rows and columns; shapes broadcast."""
    S = np.abs(weights) * factors
    u = rounding(case, moved=spread is not None)
    margins = u * S
    if spread is not None:
        margins += spread * (u * factors)
        margins += factor_rounding * factors
    if errors is not None:
        margins += errors * S
    return S, margins


def rounding(case: Case, moved: bool) -> float:
    """What right code may be off by, relative to the sizes that it adds up."""
    return ROUNDINGS * case.u + (case.u_storage if moved else 0.0)
