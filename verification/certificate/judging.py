"""The checks of a certificate, in their order, and how they hang together. docs/certificate.md."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from verification.certificate.case import Array, Case, Mask, row_squares, times_lower_transposed
from verification.certificate.outliers import outlier_rows
from verification.certificate.refit import Refit, check_refit
from verification.certificate.replay import Replay
from verification.certificate.report import Check, first_place
from verification.certificate.rules import Rules
from verification.certificate.storage import before_rounding
from verification.certificate.updates import Moved, check_losses, check_updates, over
from verification.thresholds import (
    EIGENVALUE_SHARES,
    LARGEST_LOSS,
    LARGEST_REPLAY,
    REPLAY_EXCESS,
    ROUNDINGS,
    SMALL_DAMPING,
    UNIT_ROUNDOFF,
)


@dataclass(frozen=True)
class Standard:
    """How exactly this layer can be judged. T13.

    excess  ε: the most that a row may be away from its replay, as a share of its loss
    own     ρ: the relative error of the judge's own arithmetic, in the norm of H
    doubt   why nothing can be decided; empty if something can
    """

    excess: float
    own: float = math.inf
    doubt: str = ""

    def check(self) -> Check:
        """Whether the judge's own rounding is small beside what it measures."""
        value = self.own / (math.sqrt(self.excess) / 2)
        return Check("decidable", "T13", value, 1.0, "", self.doubt, decides=False)


def judge(
    case: Case, rules: Rules, mask: Mask | None, losses: Array | None, refit: Refit | None
) -> list[Check]:
    """All checks of one layer; fewer where one makes others meaningless.

    mask  (c, b), or None to infer it from the zeros of Ŵ
    """
    checks = [Check("finite", "section 2", int((~np.isfinite(case.pruned)).sum()), 0)]
    if case.storage:
        checks.append(Check("storage", "T13", case.strangers, 0, "", case.storage))
    if not all(check.passed for check in checks):
        return checks
    outliers = outlier_rows(case, rules)
    standard = _standard(case) if rules.moves else None
    doubtful = standard is not None and bool(standard.doubt)
    replay = Replay(case, rules, outliers, mask, blind=doubtful)
    checks += [*outliers.checks, *replay.tally.checks(replay.found), _zeros(case, replay.found)]
    if standard is not None:
        checks.append(standard.check())
    if doubtful:
        return checks
    if replay.grown or not float(np.abs(replay.weights).max()) <= LARGEST_REPLAY:
        note = "weights of the exact run itself grow without bounds"
        return [*checks, Check("growth", "T13", math.inf, 1.0, "", note, decides=False)]

    E = replay.E[: replay.rows]
    if standard is not None:
        distance = _distance(case, replay)
        E = E + distance
        moved = Moved(case, rules, E, replay.T, replay.found)
        excess, updates = check_updates(moved, decides=case.storage is None)
        checks += [*_replayed(case, replay, standard, distance, excess), *updates]
    if standard is None or not replay.found.any():
        checks.append(_kept(case, replay.found))
    checks += _choices(case, replay)
    moved = Moved(case, rules, E, replay.T, replay.found)
    if losses is not None:
        checks.append(check_losses(moved, losses, case.storage))
    if refit is not None:
        checks += check_refit(moved, _energies(case, replay), refit)
    return checks


def _standard(case: Case) -> Standard:
    """ε and ρ of T13, and whether the least eigenvalue of H is surely about λ."""
    case.factorise()  # what is not positive definite is refused, whatever else there is to say
    least, most = EIGENVALUE_SHARES
    excess = REPLAY_EXCESS
    if case.damping < SMALL_DAMPING:
        excess += case.u**2 * case.trace_over_damping
    own = 4 * len(case.G) * UNIT_ROUNDOFF["float64"] * case.trace_over_damping
    share = max(least, own / (math.sqrt(excess) / 2))  # of λ, that makes ρ small enough
    if not (1 + math.sqrt(excess)) ** 2 <= LARGEST_LOSS or share > most:
        why = f"damping {case.damping:.3g} is too small for {len(case.G)} inputs"
        return Standard(excess, doubt=why)
    _, info = lapack.dpotrf(case.shifted(1 - share).T, lower=1, overwrite_a=1)
    if info:
        why = f"gram has an eigenvalue below -{1 - share:.2f} times the damping term"
        return Standard(excess, doubt=why)
    return Standard(excess, own / share)


def _distance(case: Case, replay: Replay) -> Array:
    """(P − T) Mᵀ, (c, b)."""
    storage = case.storage or ("float64" if case.u == UNIT_ROUNDOFF["float64"] else "float32")
    narrower = case.storage is not None
    P = before_rounding(case.pruned, replay.T, storage, case.row_exponents, narrower)
    return times_lower_transposed(P - replay.T, case.M)


def _replayed(
    case: Case, replay: Replay, standard: Standard, distance: Array, excess: Array
) -> list[Check]:
    """How far rows are from their replay, T13.

    distance  (P − T) Mᵀ, (c, b)
    excess    of every row of P, as the run that it is from its own states, squared, (c,)
    """
    E = replay.E[: replay.rows]
    exact, energies = row_squares(E), _energies(case, replay)
    rounding = (ROUNDINGS * case.u) ** 2 * energies
    ratios = over(row_squares(distance), standard.excess * exact + rounding)
    row = int(np.argmax(ratios))  # the first NaN, if there is one
    # As exact a run as rounding allows, and yet another: the method multiplies rounding here.
    far = ~(ratios <= 1)
    unstable = (excess <= standard.own**2 * exact + rounding)[far].all()
    half = case.storage is not None and case.damping < SMALL_DAMPING
    decides = not (far.any() and (unstable or half))
    bound = (1 + math.sqrt(standard.excess)) ** 2 - 1
    own_rounding = ROUNDINGS * UNIT_ROUNDOFF["float64"] * np.sqrt(energies)
    own = over(np.sqrt(replay.error[: replay.rows]), standard.own * np.sqrt(exact) + own_rounding)
    rounded = distance
    if case.storage is not None:
        rounded = times_lower_transposed(case.pruned - replay.T, case.M)
    loss, least = case.totals(row_squares(E + rounded), exact)
    ratio = 1.0 if loss == least else float(over(np.asarray(loss), np.asarray(least)))
    return [
        Check(
            "replay", "T13", float(ratios[row]), 1.0, f"worst in row {row}",
            f"loss within {bound:.2%} of the exact run's", decides=decides,
        ),
        Check("own error", "T13", float(own.max()), 1.0, "", "of the replay", decides=False),
        Check("loss", "T13", ratio, None, "", "times that of the exact run with these masks"),
    ]  # fmt: skip


def _choices(case: Case, replay: Replay) -> list[Check]:
    """What the masks lose beside the judge's own, where rounding left both open."""
    if not len(replay.apart):
        return []
    loss, own = case.totals(
        row_squares(replay.E[: replay.rows]), row_squares(replay.E[replay.star])
    )
    ratio = float(over(np.asarray(loss), np.asarray(own)))
    note = f"times the loss with the judge's own masks, which differ in {len(replay.apart)} rows"
    return [Check("choices", "T13", ratio, LARGEST_LOSS, "", note, decides=False)]


def _energies(case: Case, replay: Replay) -> Array:
    """N_i of T13, (c,); 0 for rows of which nothing is removed, which stay as they are."""
    energies = replay.T**2 @ case.H_diagonal
    return np.where(replay.found.any(axis=1), energies, 0.0)


def _zeros(case: Case, mask: Mask) -> Check:
    """Every removed weight is +0.0."""
    wrong = mask & (~case.zeros | np.signbit(case.pruned))
    return Check("zeros", "section 2", int(wrong.sum()), 0, first_place(wrong))


def _kept(case: Case, mask: Mask) -> Check:
    """Methods that only zero, and runs that remove nothing, keep W's weights bit for bit."""
    wrong = ~mask & ~case.unchanged
    return Check("kept", "section 6", int(wrong.sum()), 0, first_place(wrong))
