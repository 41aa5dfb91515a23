"""Check 2: every choice was right, as far as rounding lets anybody tell. Spec sections 3 and 5."""

from dataclasses import dataclass

import numpy as np

from verification.certificate.case import Array, Case, Mask
from verification.certificate.report import Check
from verification.certificate.rules import Rules
from verification.certificate.selection import Selection
from verification.certificate.selections import selections


@dataclass
class Tally:
    """What the choices of a layer add up to."""

    miscounted: int = 0
    wrong: int = 0
    deviating: int = 0
    undecidable: int = 0
    closest: float = 0.0  # a choice on the wrong side of the threshold, in units of its margin
    decided: int = 0
    first_miscount: str = ""
    first_wrong: str = ""


def check_masks(
    case: Case, rules: Rules, outliers: Mask, mask: Mask | None
) -> tuple[Mask, list[Check]]:
    """Counts (T1) and choices (2) to (5); a mask that is not given is inferred and returned."""
    rows = np.flatnonzero(~outliers)
    full = np.zeros(case.W.shape, dtype=bool) if mask is None else mask
    tally = Tally()
    if len(rows):
        for selection in selections(case, rules, rows, full, mask is not None):
            if mask is None:
                _infer(case, selection, full)
            _judge(selection, full, tally)
    stray = int(full[outliers].sum())
    if stray:
        tally.miscounted += stray
        tally.first_miscount = tally.first_miscount or f"{stray} weights of outlier rows removed"
    share = tally.undecidable / max(tally.decided, 1)
    note = f"{share:.2g} of the weights undecidable, {tally.deviating} of them not as computed here"
    return full, [
        Check("counts", "T1", tally.miscounted, 0, tally.first_miscount, f"{full.sum()} removed"),
        Check("masks", "(2) to (5), T9", tally.wrong, 0, tally.first_wrong, note),
        Check("margin", "T9", tally.closest, None, "", "in units of what rounding explains"),
    ]


def _judge(selection: Selection, mask: Mask, tally: Tally) -> None:
    picks = selection.picks(mask)
    _count(selection, picks, mask, tally)
    tally.decided += selection.size
    lowest, highest = selection.values - selection.margins, selection.values + selection.margins
    # The count-th smallest of S − δ and of S + δ enclose the threshold of right code.
    low, high = _threshold(selection, lowest), _threshold(selection, highest)
    contested = _contested(selection, lowest <= high)[:, : selection.decided]
    lowest, highest, low, high = (
        part[:, : selection.decided] for part in (lowest, highest, low, high)
    )
    wrong = np.where(picks, lowest > high, highest < low)
    undecidable = contested & (lowest <= high) & (highest >= low)
    if undecidable.any() or wrong.any():
        values = selection.values[:, : selection.decided]
        plain = _threshold(selection, selection.values)[:, : selection.decided]
        # Where none or all should go the threshold is infinite, and no margin makes up for that.
        with np.errstate(invalid="ignore"):
            beyond = np.where(picks, values - plain, plain - values)
            room = np.where(picks, values - lowest + high - plain, highest - values + plain - low)
        deviating = beyond > 0
        tally.undecidable += int(undecidable.sum())
        tally.deviating += int((undecidable & deviating).sum())
        ratios = np.divide(
            beyond,
            room,
            out=np.where(deviating, np.inf, 0.0),
            where=deviating & (room > 0) & np.isfinite(beyond),
        )
        tally.closest = max(tally.closest, float(ratios.max(initial=0.0)))
    if wrong.any():
        tally.wrong += int(wrong.sum())
        tally.first_wrong = tally.first_wrong or _describe(selection, picks, wrong)


def _describe(selection: Selection, picks: Mask, wrong: Mask) -> str:
    """Where the first wrong choice is, for people."""
    row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    done = "removed" if picks[row, column] else "kept"
    score = selection.values[row, column]
    return f"first at {selection.place(int(row), int(column))}: {done}, S = {score:.6g}"


def _contested(selection: Selection, candidates: Mask) -> Mask:
    """Groups in which more weights may be among the smallest than can be, (rows, width)."""
    groups = candidates.reshape(-1, selection.group)
    contested = groups.sum(axis=1, keepdims=True) > selection.count
    return np.broadcast_to(contested, groups.shape).reshape(candidates.shape)


def _count(selection: Selection, picks: Mask, mask: Mask, tally: Tally) -> None:
    """T1 for this choice."""
    off = selection.miscounted(mask, picks)
    if off:
        j1, j2 = selection.columns.start, selection.columns.stop
        tally.miscounted += off
        tally.first_miscount = tally.first_miscount or (
            f"first in columns {j1} to {j2 - 1}: off by {off}"
        )


def _threshold(selection: Selection, values: Array) -> Array:
    """The count-th smallest of every group, in the shape of `values`; -inf if none goes."""
    if selection.count <= 0:
        return np.full_like(values, -np.inf)
    groups = values.reshape(-1, selection.group)
    if selection.count > groups.shape[1]:
        return np.full_like(values, np.inf)
    k = selection.count - 1
    threshold = np.partition(groups, k, axis=1)[:, k : k + 1]  # a selection, not a sort
    return np.broadcast_to(threshold, groups.shape).reshape(values.shape)


def _infer(case: Case, selection: Selection, mask: Mask) -> None:
    """Of the zeros of Ŵ, mark those that the rule selects; margins speak for the zeros."""
    zero = selection.picks(case.zeros)
    favoured = selection.values + selection.margins
    favoured[:, : selection.decided] -= np.where(
        zero, 2 * selection.margins[:, : selection.decided], 0.0
    )
    groups = favoured.reshape(-1, selection.group)
    order = np.argsort(groups, axis=1, kind="stable")[:, : max(selection.count, 0)]
    chosen = np.zeros(groups.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    selection.fill(mask, chosen.reshape(favoured.shape)[:, : selection.decided] & zero)
