"""Ranks the mistakes that explain many failures of one implementation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from verification.diagnosis.evidence import Evidence
from verification.diagnosis.explain import (
    Explanation,
    Mistake,
    result_of,
    right_output,
    suspects,
)

MAX_OTHERS = 24  # failures without this explanation, in which the mistake would show as well
# Shares of the failures that are left: what explains less does so by chance.
LEAST, LEAST_FITTED = 0.2, 0.5
ALIKE = 0.02  # relative difference of fitted numbers that are taken for one
NEARLY_ALL = 0.9  # share of failures beyond which a mistake is named although other cases pass


@dataclass(frozen=True)
class Ranked:
    """A mistake with the failures that it explains.

    example   its likeliest explanation of a single failure
    failures  indices of the failures, the one of `example` first
    against   in how many other cases it would show and does not; some only are tried
    """

    example: Explanation
    failures: tuple[int, ...]
    against: int = 0


def ranked(
    explained: Sequence[Sequence[Explanation]],
    failed: Sequence[Evidence | None] = (),
    passed: Sequence[Evidence] = (),
) -> list[Ranked]:
    """The mistakes that explain the failures, those that explain most of them first.

    A mistake is left out if others explain its failures and more, or the same failures better; if
    it explains few of those that are left, or not half of them with a fitted number; and if it
    would show in most other cases, or in more than it explains. The last is named all the same,
    with that remark, if it explains nearly all failures.

    explained  the explanations of every failure
    failed     its evidence
    passed     some cases that passed
    """
    sets = _by_mistake(explained)
    found: list[Ranked] = []
    covered: set[int] = set()
    while sets:
        mistake = min(sets, key=lambda m: (-len(sets[m]), _likeliness(sets[m])))
        by_failure = sets.pop(mistake)
        new = set(by_failure) - covered
        if not new:
            continue
        fitted = next(iter(by_failure.values())).kind == "fitted"
        if len(new) < (LEAST_FITTED if fitted else LEAST) * (len(explained) - len(covered)):
            continue
        left = [k for k, e in enumerate(failed) if e and k not in by_failure]
        others = [failed[k] for k in left[:: -(-len(left) // MAX_OTHERS) or 1]]
        against, most = _against(mistake, [*passed, *(e for e in others if e)])
        most = most or against > len(by_failure)
        if most and len(by_failure) < NEARLY_ALL * len(explained):
            continue
        covered |= new
        first = min(new)
        places = (first, *(k for k in by_failure if k != first))
        found.append(Ranked(by_failure[first], places, against if most else 0))
    return found


def _by_mistake(
    explained: Sequence[Sequence[Explanation]],
) -> dict[Mistake, dict[int, Explanation]]:
    """For every mistake the failures that it explains."""
    sets: dict[Mistake, dict[int, Explanation]] = {}
    for place, of_one in enumerate(explained):
        for explanation in of_one:
            sets.setdefault(explanation.mistake, {}).setdefault(place, explanation)
    return {mistake: _alike(by_failure) for mistake, by_failure in sets.items()}


def _alike(explanations: dict[int, Explanation]) -> dict[int, Explanation]:
    """Those with the number that most agree on: a mistake has one, and a fit finds many."""
    values = np.array([each.value for each in explanations.values()])
    near = np.abs(values[:, None] - values) <= ALIKE * np.abs(values)
    agree = near[:, int(near.sum(axis=0).argmax())]
    return {
        place: explanations[place] for place, same in zip(explanations, agree, strict=True) if same
    }


def _likeliness(explanations: dict[int, Explanation]) -> float:
    """Mean distance in powers of ten, and a bit more for a fitted number; less is likelier."""
    values = [e.likeliness[0] + 0.5 * e.likeliness[1] for e in explanations.values()]
    return float(np.mean(values))


def _against(mistake: Mistake, others: Sequence[Evidence]) -> tuple[int, bool]:
    """In how many other cases a mistake would show, and whether in most that it applies to."""
    shown = [s for e in others if (s := _shows(mistake, e)) is not None]
    return sum(shown), 2 * sum(shown) > len(shown)


def _shows(mistake: Mistake, case: Evidence) -> bool | None:
    """Whether right code with this mistake gives something else; None if it does not apply."""
    try:
        right, mask = right_output(case)
    except ValueError:
        return None
    e = replace(case, pruned=right, mask=mask)
    for suspect in suspects(e, right):
        if suspect.mistake == mistake:
            result = result_of(e, suspect) if suspect.kind == "run" else (right, mask)
            return result is None or bool((result[1] != mask).any()) or not e.same_weights(
                result[0])  # fmt: skip
    return None
