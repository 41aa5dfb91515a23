"""The checks of a certificate, in their order, and how they hang together. docs/certificate.md."""

import math
from dataclasses import dataclass, replace

import numpy as np

from verification.certificate.case import (
    Array,
    Mask,
    ScaledCase,
    row_squares,
    times_lower_transposed,
)
from verification.certificate.factors import is_definite
from verification.certificate.outliers import outlier_rows
from verification.certificate.refit import Refit, check_refit
from verification.certificate.replay import Replay
from verification.certificate.report import Check, first_place
from verification.certificate.rules import MethodRules
from verification.certificate.storage import before_rounding
from verification.certificate.updates import (
    Moved,
    check_losses,
    check_updates,
    not_finite,
    over,
)
from verification.thresholds import (
    EIGENVALUE_SHARES,
    FARTHEST_ROWS,
    LARGEST_LOSS,
    LARGEST_REPLAY,
    OWN_ROUNDINGS,
    REPLAY_EXCESS,
    ROUNDINGS,
    SMALL_DAMPING,
    SMALLEST_WEIGHT,
    UNIT_ROUNDOFF,
)

# The usual reasons for NaN, which hides what made it.
WILD = "without damping H may be singular; the norm of a dead column is 0"


@dataclass(frozen=True)
class Standard:
    """How exactly this layer can be judged. T13.

    excess  ε: the most that a row may be away from its replay, as a share of its loss
    own     ρ: the relative error of the judge's own arithmetic, in the norm of H
    doubt   why nothing can be decided; empty if something can
    """

    excess: float = REPLAY_EXCESS
    own: float = 0.0
    doubt: str = ""

    def check(self) -> Check:
        """Whether the judge's own rounding is small beside what it measures."""
        value = math.inf if self.doubt else self.own / (math.sqrt(self.excess) / 2)
        return Check("decidable", "T13", value, 1.0, "", self.doubt, decides=False)


def judge(
    case: ScaledCase,
    rules: MethodRules,
    mask: Mask | None,
    losses: Array | None,
    refit: Refit | None,
) -> list[Check]:
    """All checks of one layer; fewer where one makes others meaningless.

    mask  (c, b), or None to infer it from the zeros of Ŵ
    """
    wild = ~np.isfinite(case.pruned)
    checks = [Check("finite", "section 2", int(wild.sum()), 0, first_place(wild), WILD)]
    strangers = case.strangers + (refit.strangers if refit else 0)
    if case.storage or (refit and refit.storage):
        checks.append(Check("storage", "T13", strangers, 0, "", "entries of another type"))
    if not all(check.passed for check in checks):
        return checks
    unreal = [] if losses is None else not_finite(losses)
    checks += unreal  # also where the rest cannot be decided
    outliers = outlier_rows(case, rules)
    standard = Standard(doubt=_out_of_range(case, rules))
    if not standard.doubt and (rules.moves or refit):
        standard = _standard(case)
    replay = Replay(case, rules, outliers, mask, blind=bool(standard.doubt))
    if len(replay.apart) and not rules.moves:
        standard = _standard(case)  # the masks of a method that only zeroes need no H otherwise
    checks += [*outliers.checks, *replay.tally.checks(replay.found), _zeros(case, replay.found)]
    if not rules.moves:
        checks.append(_kept(~replay.found & ~case.unchanged))
    checks.append(standard.check())
    if standard.doubt:
        return checks
    if replay.grown or not float(np.abs(replay.weights).max()) <= LARGEST_REPLAY:
        note = "weights of the exact run itself grow without bounds"
        return [*checks, Check("growth", "T13", math.inf, 1.0, "", note, decides=False)]
    moved = Moved(case, rules, replay.E[: replay.rows], replay.T, replay.found)
    if rules.moves:
        moved, measured = _moved(moved, replay, standard)
        checks += measured
    checks += _choices(case, replay)
    if losses is not None and not unreal:
        checks.append(check_losses(moved, losses, case.storage))
    if refit is not None:
        checks += check_refit(moved, _energies(case, replay)[: replay.rows], refit)
    return checks


def _out_of_range(case: ScaledCase, rules: MethodRules) -> str:
    """Why squares of this layer's numbers would leave float64, where what is lost becomes 0."""
    sizes = np.abs(case.W)
    if float(np.where(sizes > 0, sizes, 1.0).min()) < SMALLEST_WEIGHT:
        return "weights of one row differ by more than float64 can square"
    if np.ptp(case.row_exponents) > FARTHEST_ROWS and not rules.within_rows:
        return "rows that compete differ by more than float64 can compare"
    diagonal = np.diag(case.G)
    if case.vanished or float(np.where(diagonal > 0, diagonal, 1.0).min()) < SMALLEST_WEIGHT**2:
        return "inputs differ by more than float64 can square"
    return ""


def _standard(case: ScaledCase) -> Standard:
    """ε and ρ of T13, and whether the least eigenvalue of H is surely about λ."""
    case.factorise()  # what is not positive definite is refused, whatever else there is to say
    least, most = EIGENVALUE_SHARES
    excess = REPLAY_EXCESS
    if case.damping < SMALL_DAMPING:
        excess += case.u**2 * case.trace_over_damping
    own = OWN_ROUNDINGS * len(case.G) * UNIT_ROUNDOFF["float64"] * case.trace_over_damping
    share = max(least, own / (math.sqrt(excess) / 2))  # of λ, that makes ρ small enough
    if not (1 + math.sqrt(excess)) ** 2 <= LARGEST_LOSS or share > most:
        why = f"damping {case.damping:.3g} is too small for {len(case.G)} inputs"
        return Standard(excess, doubt=why)
    if not is_definite(case.shifted(1 - share)):
        why = f"gram has an eigenvalue below -{1 - share:.2f} times the damping term"
        return Standard(excess, doubt=why)
    return Standard(excess, own / share)


def _moved(moved: Moved, replay: Replay, standard: Standard) -> tuple[Moved, list[Check]]:
    """P in the place of T, and the checks of a method that moves weights."""
    case = moved.case
    storage = case.storage or ("float64" if case.u == UNIT_ROUNDOFF["float64"] else "float32")
    narrower = case.storage is not None
    P = before_rounding(case.pruned, replay.T, storage, case.row_exponents, narrower)
    distance = times_lower_transposed(P - replay.T, case.M)
    of_P = replace(moved, E=moved.E + distance)
    excess, updates = check_updates(of_P, decides=not narrower)
    untouched = ~replay.found.any(axis=1, keepdims=True)
    changed = P != case.W if narrower else ~case.unchanged
    return of_P, [
        *_replayed(case, replay, standard, distance, excess),
        *updates,
        _kept(untouched & changed),
    ]


def _replayed(
    case: ScaledCase, replay: Replay, standard: Standard, distance: Array, excess: Array
) -> list[Check]:
    """How far rows are from their replay, T13.

    distance  (P − T) Mᵀ, (c, b)
    excess    of every row of P, as the run that it is from its own states, squared, (c,)
    """
    E = replay.E[: replay.rows]
    every_exact, every_energy = row_squares(replay.E), _energies(case, replay)
    exact = every_exact[: replay.rows]
    rounding = (ROUNDINGS * case.u) ** 2 * every_energy[: replay.rows]
    ratios = over(row_squares(distance), standard.excess * exact + rounding)
    row = int(np.argmax(ratios))  # the first NaN, if there is one
    # As exact a run as rounding allows, and yet another: the method multiplies rounding here.
    far = ~(ratios <= 1)
    unstable = (excess <= standard.own**2 * exact + rounding)[far].all()
    half = case.storage is not None and case.damping < SMALL_DAMPING
    decides = not (far.any() and (unstable or half))
    bound = (1 + math.sqrt(standard.excess)) ** 2 - 1
    own_rounding = ROUNDINGS * UNIT_ROUNDOFF["float64"] * np.sqrt(every_energy)
    own = over(np.sqrt(replay.error), standard.own * np.sqrt(every_exact) + own_rounding)
    rounded = distance
    if case.storage is not None:
        rounded = times_lower_transposed(case.pruned - replay.T, case.M)
    loss, least = case.totals(row_squares(E + rounded), exact)
    ratio = 1.0 if loss == least else float(over(loss, least))
    return [
        Check(
            "replay", "T13", float(ratios[row]), 1.0, f"worst in row {row}",
            f"loss within {bound:.2%} of the exact run's", decides=decides,
        ),
        Check("own error", "T13", float(own.max()), 1.0, "", "of the replay", decides=False),
        Check("loss", "T13", ratio, None, "", "times that of the exact run with these masks"),
    ]  # fmt: skip


def _choices(case: ScaledCase, replay: Replay) -> list[Check]:
    """What the masks lose beside the judge's own, where rounding left both open."""
    if not len(replay.apart):
        return []
    loss, own = case.totals(
        row_squares(replay.E[: replay.rows]), row_squares(replay.E[replay.star])
    )
    ratio = float(over(loss, own))
    note = f"times the loss with the judge's own masks, which differ in {len(replay.apart)} rows"
    return [Check("choices", "T13", ratio, LARGEST_LOSS, "", note, decides=False)]


def _energies(case: ScaledCase, replay: Replay) -> Array:
    """N_i of T13, (rows,), those of T* behind; 0 for rows of which nothing is removed."""
    energies = replay.weights**2 @ case.H_diagonal
    return np.where(replay.mask.any(axis=1), energies, 0.0)


def _zeros(case: ScaledCase, mask: Mask) -> Check:
    """Every removed weight is +0.0."""
    wrong = mask & (~case.zeros | np.signbit(case.pruned))
    return Check("zeros", "section 2", int(wrong.sum()), 0, first_place(wrong))


def _kept(wrong: Mask) -> Check:
    """Methods that only zero keep weights, and all keep rows that lose none, bit for bit."""
    return Check("kept", "sections 4, 6", int(wrong.sum()), 0, first_place(wrong))
