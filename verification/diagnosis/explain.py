"""Finds the known mistakes that reproduce a wrong output, the likeliest first."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

import reference
from verification.diagnosis.baseline_suspects import of_baselines
from verification.diagnosis.evidence import Array, Evidence, Mask
from verification.diagnosis.simulation import simulate
from verification.diagnosis.suspect import Suspect
from verification.diagnosis.thanos_suspects import (
    of_thanos,
    times_damping,
    with_damping,
    with_fitted_step,
)

METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")
# A suspect must come this much closer to the output than right code does.
CLOSER = 0.1
DECADES = 3.0  # range of the fitted damping: this many powers of ten either way


@dataclass(frozen=True)
class Explanation:
    """A mistake that reproduces the output.

    key       stable name of the mistake
    rule      equation or section that it breaks
    text      description with the first place where it shows
    distance  distance from the output to the result of the mistake, in units of what the precision
              can tell apart; 0 for mistakes that are seen without running them
    """

    key: str
    rule: str
    text: str
    distance: float


def explain(e: Evidence) -> list[Explanation]:
    """The known mistakes that reproduce an output, the likeliest first; may be empty."""
    try:
        right = _by_reference(e, e.method)
    except ValueError:  # there is no right output
        return []
    seen = list(_seen(e, *right))
    if seen:
        return seen
    found = [x for suspect in _suspects(e, right[0]) if (x := _tried(e, suspect, *right))]
    if not found and _first_block_is_plain(e, right[1]):
        fitted = _tried(e, _fitted_damping(e), *right)  # slower than all others together
        found = [fitted] if fitted else []
    return sorted(found, key=lambda explanation: explanation.distance > 1e-2)  # stable


def first_place(e: Evidence, right: Array, mask: Mask) -> str:
    """The first place where the output differs from the right one, in words."""
    differs = mask != e.mask
    if not differs.any():
        size = float(np.max(np.abs(e.weight))) or 1.0
        with np.errstate(invalid="ignore"):
            differs = ~(np.abs(e.pruned - right) <= 1e-9 * size)
    if not differs.any():
        return ""
    column = int(np.argmax(differs.any(axis=0)))
    row = int(np.argmax(differs[:, column]))
    return f"first in block {column // e.width}, row {row}, column {column}"


def _by_reference(e: Evidence, method: str) -> tuple[Array, Mask]:
    pruned = getattr(reference, method)(
        e.weight, e.gram, e.pattern, block_size=e.block_size, damping=e.damping
    )
    return pruned.weight, pruned.mask


def _seen(e: Evidence, right: Array, mask: Mask) -> Iterator[Explanation]:
    """Mistakes that are seen without running them: outputs that are right but for one detail."""
    zeroed = np.where(e.mask, 0.0, e.pruned)
    bits = (e.pruned != 0) | np.signbit(e.pruned)
    if _same(e, zeroed, right, mask) and (e.mask & bits).any():
        row, column = np.argwhere(e.mask & bits)[0]
        yield Explanation(
            "zeros-not-exact", "section 2", f"removed weights are not +0.0: "
            f"{e.pruned[row, column]!r} at row {row}, column {column}", 0.0,
        )  # fmt: skip
    spared = ~mask.any(axis=1)
    changed = spared & (e.pruned != e.weight).any(axis=1)
    if e.outlier_count and changed.any():
        restored = np.where(changed[:, None], e.weight, e.pruned)
        if _same(e, restored, right, mask):
            yield Explanation(
                "outlier-row-changed", "section 2",
                f"outlier row {int(np.argmax(changed))} is not bit for bit what it was", 0.0,
            )  # fmt: skip
    dead = np.diag(e.gram) == 0
    if dead.any() and e.mask[:, dead].all() and int(e.mask.sum()) > int(mask.sum()):
        yield Explanation(
            "dead-columns-extra", "section 1", "dead columns are removed outside the budget: "
            f"{int(e.mask.sum())} weights go instead of {int(mask.sum())}", 0.0,
        )  # fmt: skip
    if not mask.any() or not (~mask).any():
        return
    if (e.mask == ~mask).all() and not e.pruned[~e.mask].any():
        yield Explanation("mask-inverted", "section 2", "the mask is True where weights stay", 0.0)


def _same(e: Evidence, weights: Array, right: Array, mask: Mask) -> bool:
    if (e.mask != mask).any() or not np.isfinite(weights).all():
        return False
    size = float(np.max(np.abs(e.weight))) or 1.0
    return bool(np.max(np.abs(weights - right)) <= 1e-6 * size) or e.distance(right, mask)[1] <= 1


def _suspects(e: Evidence, right: Array) -> Iterator[Suspect]:
    """The likelier first: if two of them reproduce an output, the first is reported."""
    yield from of_thanos(e) if e.method == "thanos" else of_baselines(e)
    yield from _other_methods(e)
    step = with_fitted_step(e, right) if e.method == "thanos" else None
    if step:
        yield step


def _other_methods(e: Evidence) -> Iterator[Suspect]:
    if getattr(e.pattern, "outlier_rows", 0):
        return
    for method in METHODS:
        if method != e.method:
            yield Suspect("another-method", "section 6", f"this is what {method} does",
                          lambda method=method: _by_reference(e, method))  # type: ignore[misc]  # fmt: skip


def _first_block_is_plain(e: Evidence, mask: Mask) -> bool:
    """Whether the first block has the right mask, so that a damping can be fitted to its moves."""
    first = slice(0, e.width)
    same = bool((e.mask[:, first] == mask[:, first]).all())
    return e.method == "thanos" and same and bool(np.isfinite(e.pruned).all())


def _fitted_damping(e: Evidence) -> Suspect:
    """The damping whose kept weights of the first block come closest to those of the output."""
    first = slice(0, e.width)

    def apart(decades: float) -> float:
        try:
            weights, _ = simulate(e, times_damping(10.0**decades), blocks=1)
        except np.linalg.LinAlgError:  # too little for H to be definite
            return np.inf
        return float(np.max(np.abs(weights[:, first] - e.pruned[:, first])))

    grid = np.linspace(-DECADES, DECADES, 25)
    best = grid[int(np.argmin([apart(decades) for decades in grid]))]
    step = grid[1] - grid[0]
    found = minimize_scalar(apart, bounds=(best - step, best + step), method="bounded",
                            options={"xatol": 1e-6})  # fmt: skip
    return with_damping(e, float(10.0**found.x))


def _tried(e: Evidence, suspect: Suspect, right: Array, mask: Mask) -> Explanation | None:
    """An explanation, if the suspect reproduces the output and right code does not."""
    try:
        with np.errstate(all="ignore"):
            weights, picks = suspect.make()
    except (np.linalg.LinAlgError, ValueError):
        return None  # with this mistake there is no result for this input
    wrong, distance = e.distance(weights, picks)
    rightly_wrong, plain = e.distance(right, mask)
    if wrong or distance > 1:
        return None
    if not rightly_wrong and distance > CLOSER * plain:
        return None
    where = first_place(e, right, mask)
    text = f"{suspect.text}; {where}" if where else suspect.text
    return Explanation(suspect.key, suspect.rule, text, distance)
