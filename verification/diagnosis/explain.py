"""Finds the known mistakes that reproduce a wrong output, the likeliest first."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import floor, log10
from typing import TypeAlias

import numpy as np
from scipy.optimize import minimize_scalar

import reference
from verification.diagnosis.baseline_suspects import of_baselines
from verification.diagnosis.evidence import Array, Evidence, Mask, rounded
from verification.diagnosis.noise import of_noise
from verification.diagnosis.seen import of_details, of_losses
from verification.diagnosis.simulation import simulate
from verification.diagnosis.suspect import Suspect
from verification.diagnosis.thanos_suspects import of_thanos
from verification.diagnosis.update_suspects import times_damping, with_damping

METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")
DECADES = 3.0  # range of the fitted damping: this many powers of ten either way
STEP_CLOSER = 0.9  # distance on a grid of dampings, relative to that of the right one
CLOSEST = 1e-5  # distances below this are equally close
# Checks of what is reported beside weights and mask.
BESIDE = frozenset({"losses"})
# Checks that fail where the same case has a right answer under other circumstances: the algorithm
# is right.
DISTURBED = frozenset({"layout", "state"})
# Checks of kept weights, which alone fail if the arithmetic is too coarse.
OF_WEIGHTS = frozenset({"updates", "replay", "vector weights"})

FITTED_DAMPING = ("damping-off", "")
Mistake: TypeAlias = tuple[str, str]  # what is the same for a mistake on every layer
# The names of the checks that a weight and a mask would fail.
Judged: TypeAlias = Callable[[Array, Mask], Collection[str]]


@dataclass(frozen=True)
class Explanation:
    """A mistake that reproduces the output, and fails the checks that the output fails.

    key       stable name of the mistake
    rule      equation or section that it breaks
    text      description with the first place where it shows
    distance  distance from the output to the result of the mistake, in units of what the precision
              can tell apart; 0 for mistakes that are seen without running them
    mistake   key and description without what differs between layers
    kind      "run", "fitted" or "seen", as of a `Suspect`
    value     the fitted number
    """

    key: str
    rule: str
    text: str
    distance: float
    mistake: Mistake
    kind: str
    value: float

    @property
    def likeliness(self) -> tuple[int, bool]:
        """Sorts the likeliest first: by closeness in powers of ten, then what needs no fit."""
        return floor(log10(max(self.distance, CLOSEST))), self.kind == "fitted"


def explain(
    e: Evidence, failed: Collection[str], judged: Judged, only: Collection[Mistake] | None = None
) -> list[Explanation]:
    """The known mistakes that reproduce an output, the likeliest first; may be empty.

    failed  the names of the checks that the output failed
    judged  the names of those that another output would fail
    only    mistakes to try, if not all
    """
    with np.errstate(all="ignore"):
        found = _explained(e, failed, judged, only)
    chosen = [x for x in found if only is None or x.mistake in only]
    return sorted(chosen, key=lambda explanation: explanation.likeliness)  # stable


def _explained(
    e: Evidence, failed: Collection[str], judged: Judged, only: Collection[Mistake] | None
) -> list[Explanation]:
    try:
        right = right_output(e)
    except ValueError:  # there is no right output
        return []
    if DISTURBED & set(failed):
        return []
    if not set(failed) - BESIDE:
        return [_explanation(suspect, "", 0.0) for suspect in of_losses(e)]
    trial = _Trial(e, right, frozenset(failed) - BESIDE, judged)
    found = [trial.seen(suspect) for suspect in of_details(e, *right)]
    for suspect in () if found else suspects(e, right[0]):
        if (only is None or suspect.mistake in only) and (one := trial.tried(suspect)):
            found.append(one)
    fit = only is None or FITTED_DAMPING in only
    if not found and fit and _first_block_is_plain(e, right[1]):
        found = [x for suspect in _fitted_damping(e) if (x := trial.tried(suspect))]
    if not found and trial.failed <= OF_WEIGHTS:
        found = [trial.seen(suspect) for suspect in of_noise(e, *right)]
    return found


def right_output(e: Evidence) -> tuple[Array, Mask]:
    """What right code gives, rounded as the output is. Raises ValueError if there is nothing."""
    weight, mask = _by_reference(e, e.method)
    return rounded(weight, e.precision), mask


def suspects(e: Evidence, right: Array) -> Iterator[Suspect]:
    """All mistakes that are tried. Of two that explain an output equally well, the first is named.

    right  the right pruned weight
    """
    yield from of_thanos(e, right) if e.method == "thanos" else of_baselines(e)
    if not getattr(e.pattern, "outlier_rows", 0):
        for method in METHODS:
            if method != e.method:
                yield Suspect("another-method", "section 6", f"this is what {method} does",
                              lambda method=method: _by_reference(e, method))  # type: ignore[misc]  # fmt: skip
    yield Suspect("nothing-removed", "section 2", "no weight was removed",
                  lambda: (e.weight, np.zeros_like(e.mask)))  # fmt: skip


def result_of(e: Evidence, suspect: Suspect) -> tuple[Array, Mask] | None:
    """What a mistake gives, rounded as the output is; None if it gives nothing for this layer."""
    try:
        with np.errstate(all="ignore"):
            weights, mask = suspect.make()
            return rounded(weights, e.precision), mask
    except (np.linalg.LinAlgError, ValueError):
        return None


def _by_reference(e: Evidence, method: str) -> tuple[Array, Mask]:
    pruned = getattr(reference, method)(
        e.weight, e.given_gram, e.pattern, block_size=e.block_size, damping=e.damping
    )
    return pruned.weight, pruned.mask


@dataclass(frozen=True)
class _Trial:
    """An output, the right one, the checks that failed, and what others would fail."""

    e: Evidence
    right: tuple[Array, Mask]
    failed: frozenset[str]
    judged: Judged

    def seen(self, suspect: Suspect) -> Explanation:
        """The explanation for a mistake of which the output itself is the evidence."""
        return _explanation(suspect, self._where(), 0.0)

    def tried(self, suspect: Suspect) -> Explanation | None:
        """An explanation, if the suspect reproduces the output and the checks that failed."""
        result = result_of(self.e, suspect)
        if result is None or (result[1] != self.e.mask).any():
            return None
        weights, right = result[0], self.right[0]
        if (self.right[1] == self.e.mask).all() and not self.e.reproduced_by(weights, right):
            return None
        if not self.e.same_weights(weights):
            return None
        if frozenset(self.judged(*result)) - BESIDE != self.failed:
            return None
        return _explanation(suspect, self._where(), self.e.apart(weights)[0])

    def _where(self) -> str:
        return first_place(self.e, *self.right)


def _explanation(suspect: Suspect, where: str, distance: float) -> Explanation:
    text = f"{suspect.text}; {where}" if where else suspect.text
    return Explanation(
        suspect.key, suspect.rule, text, distance, suspect.mistake, suspect.kind, suspect.value
    )


def first_place(e: Evidence, right: Array, mask: Mask) -> str:
    """The first place where the output differs from the right one, in words."""
    differs = mask != e.mask
    if not differs.any():
        with np.errstate(invalid="ignore"):
            differs = ~(np.abs(e.pruned - right) <= 1e-9 * e.sizes)
    if not differs.any():
        return ""
    column = int(np.argmax(differs.any(axis=0)))
    row = int(np.argmax(differs[:, column]))
    return f"first in block {column // e.width}, row {row}, column {column}"


def _first_block_is_plain(e: Evidence, mask: Mask) -> bool:
    """Whether the first block has the right mask, so that a damping can be fitted to its moves."""
    first = slice(0, e.width)
    same = bool((e.mask[:, first] == mask[:, first]).all())
    return e.method == "thanos" and same and bool(np.isfinite(e.pruned).all())


def _fitted_damping(e: Evidence) -> Iterator[Suspect]:
    """The damping whose kept weights of the first block come closest to those of the output.

    None if another damping comes hardly closer than the right one. Slower than all other mistakes.
    """
    first = slice(0, e.width)

    def apart(decades: float) -> float:
        try:
            weights, _ = simulate(e, times_damping(10.0**decades), blocks=1)
        except np.linalg.LinAlgError:  # too little for H to be definite
            return np.inf
        return float(np.max(np.abs(weights[:, first] - e.pruned[:, first])))

    grid = np.linspace(-DECADES, DECADES, 25)
    distances = [apart(decades) for decades in grid]
    best = grid[int(np.argmin(distances))]
    if not min(distances) <= STEP_CLOSER * apart(0.0):
        return
    step = grid[1] - grid[0]
    found = minimize_scalar(apart, bounds=(best - step, best + step), method="bounded",
                            options={"xatol": 1e-6})  # fmt: skip
    yield with_damping(e, float(10.0**found.x))
