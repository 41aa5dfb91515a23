"""Choosing the smallest exactly, and how close the choice was. Spec sections 2, 3 and 6."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

Place = tuple[int, int]


@dataclass
class Closeness:
    """The smallest relative gaps between squared scores that were taken and others.

    original  where both weights are as they were given: only the rounding of scores matters
    moved     where an update has gone before
    Ties that are exact in any order of summation count for neither; others are gaps of 0.
    """

    original: Fraction = field(default_factory=lambda: Fraction(1))
    moved: Fraction = field(default_factory=lambda: Fraction(1))


@dataclass(frozen=True)
class Candidate:
    """One that may be chosen: a weight, a column or a row.

    place    decides ties, the lower first
    score    squared
    settled  not moved by any update so far
    same     equal scores with the same value here are equal in floating point too; None: never
    """

    place: Place
    score: Fraction
    settled: bool
    same: object


def choose(candidates: Sequence[Candidate], count: int, closeness: Closeness) -> list[Place]:
    """The places of the `count` smallest, ties to the lower place."""
    ordered = sorted(candidates, key=lambda candidate: (candidate.score, candidate.place))
    if 0 < count < len(ordered):
        _note(ordered, count, closeness)
    return [candidate.place for candidate in ordered[: max(count, 0)]]


def choose_largest(
    candidates: Sequence[Candidate], count: int, closeness: Closeness
) -> list[Place]:
    """The places of the `count` largest, ties to the lower place."""
    ordered = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.place))
    if 0 < count < len(ordered):
        _note(ordered, count, closeness)
    return [candidate.place for candidate in ordered[:count]]


def _note(ordered: Sequence[Candidate], count: int, closeness: Closeness) -> None:
    """Hold all that were taken against the first that was not, and the others against the last."""
    last, following = ordered[count - 1], ordered[count]
    pairs = [(taken, following) for taken in ordered[:count]]
    pairs += [(last, left) for left in ordered[count:]]
    for one, other in pairs:
        settled = one.settled and other.settled
        if one.score != other.score:
            gap = abs(one.score - other.score) / max(abs(one.score), abs(other.score))
            _lower(closeness, gap, settled)
        elif not (settled and one.same is not None and one.same == other.same):
            _lower(closeness, Fraction(0), settled)


def _lower(closeness: Closeness, gap: Fraction, original: bool) -> None:
    if original:
        closeness.original = min(closeness.original, gap)
    else:
        closeness.moved = min(closeness.moved, gap)
