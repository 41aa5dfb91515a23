"""Ranks the mistakes that explain many failures of one implementation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verification.diagnosis.evidence import Evidence
from verification.diagnosis.explain import (
    Explanation,
    Mistake,
    result_of,
    right_output,
    suspects,
)

NEARLY_ALL = 0.9  # share of failures beyond which a mistake is named although other cases pass


@dataclass(frozen=True)
class Ranked:
    """A mistake with the failures that it explains.

    example   its likeliest explanation of a single failure
    failures  indices of the failures, the one of `example` first
    against   how many passed cases would fail with this mistake; some only are tried
    """

    example: Explanation
    failures: tuple[int, ...]
    against: int = 0


def ranked(
    explained: Sequence[Sequence[Explanation]], passed: Sequence[Evidence] = ()
) -> list[Ranked]:
    """The mistakes that explain the failures, those that explain most of them first.

    A mistake is left out if another explains its failures and more, or the same failures better.
    One with which most of the passed cases would fail is left out unless it explains nearly all,
    and so is one with a fitted number unless it explains half of what is left.

    explained  the explanations of every failure
    passed     some cases that passed
    """
    sets = _by_mistake(explained)
    some = sum(bool(of_one) for of_one in explained)
    found: list[Ranked] = []
    covered: set[int] = set()
    while sets:
        mistake = min(sets, key=lambda m: (-len(sets[m]), _likeliness(sets[m])))
        by_failure = sets.pop(mistake)
        if not set(by_failure) - covered:
            continue
        fitted = next(iter(by_failure.values())).kind == "fitted"
        if fitted and 2 * len(set(by_failure) - covered) < len(explained) - len(covered):
            continue
        against, most = _against(mistake, passed) if passed else (0, False)
        if most and len(by_failure) < NEARLY_ALL * some:
            continue
        covered |= set(by_failure)
        first = min(by_failure)
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
    return sets


def _likeliness(explanations: dict[int, Explanation]) -> float:
    """Mean distance in powers of ten, and a bit more for a fitted number; less is likelier."""
    values = [e.likeliness[0] + 0.5 * e.likeliness[1] for e in explanations.values()]
    return float(np.mean(values))


def _against(mistake: Mistake, passed: Sequence[Evidence]) -> tuple[int, bool]:
    """How many passed cases would fail with a mistake, and whether most do that it applies to."""
    tried = failing = 0
    for e in passed:
        try:
            right, mask = right_output(e)
        except ValueError:
            continue
        for suspect in suspects(e, right):
            if suspect.mistake == mistake and suspect.kind == "run":
                tried += 1
                result = result_of(e, suspect)
                failing += result is None or (result[1] != mask).any() or not e.same_weights(
                    result[0])  # fmt: skip
                break
    return failing, failing > tried / 2
