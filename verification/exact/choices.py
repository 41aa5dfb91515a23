"""Exact choices of the smallest or largest scores, and how close they were. Spec 2, 3 and 6."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

Place = tuple[int, int]


@dataclass
class Closeness:
    """The smallest relative gaps between squared scores that were chosen and those that were not.

    original  between weights as they were given, where only the rounding of scores matters
    moved     between weights of which an update has moved at least one
    A tie that is exact in every order of summation does not count; any other tie is a gap of 0.
    """

    original: Fraction = field(default_factory=lambda: Fraction(1))
    moved: Fraction = field(default_factory=lambda: Fraction(1))


@dataclass(frozen=True)
class Candidate:
    """A weight, a column or a row that may be chosen.

    place    decides ties, the lower first
    score    squared score
    settled  whether no update has moved it so far
    same     candidates with equal scores and equal `same` tie in floating point too; None: never
    """

    place: Place
    score: Fraction
    settled: bool
    same: object


def choose(
    candidates: Sequence[Candidate], count: int, closeness: Closeness, *, largest: bool = False
) -> list[Place]:
    """The places of the `count` smallest or largest scores; ties go to the lower place."""
    sign = -1 if largest else 1
    ordered = sorted(candidates, key=lambda candidate: (sign * candidate.score, candidate.place))
    if 0 < count < len(ordered):
        _note(ordered, count, closeness)
    return [candidate.place for candidate in ordered[: max(count, 0)]]


def _note(ordered: Sequence[Candidate], count: int, closeness: Closeness) -> None:
    """Compare the chosen with the first that was left, and the others with the last chosen."""
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
