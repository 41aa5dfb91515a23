"""Every refusal among the vectors has one offence; pairs of offences judge the order."""

from itertools import combinations

import pytest

from tests.judge.offences import ARGUMENTS, Call, offences
from verification.vectors.refusals import Refusal, refusals

ALL = list(refusals())
PAIRS = [each for each in ALL if each.id.startswith("refusal-first-")]

# Rows that no file can offend both, with the reason. Rows with the same argument are left out.
NEVER_TOGETHER: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "a text that is no pattern has no n, m, p and alpha": [((1,), (2, 3, 4, 5, 6, 18, 19, 20))],
    "n:m has no p, and the others no n and m": [((2, 3), (4, 20)), ((4,), (18, 19)),
                                                ((18, 19), (20,))],
    "m divides something only if it is at least 1": [((2,), (18, 19))],
    "s is a number only if p and alpha are": [((4, 5), (20,))],
    "the columns are counted of a matrix only": [((9,), (13, 18, 19, 20))],
    "a block has a width only if B is a whole number above 0": [((17,), (19,))],
    "H needs a legal damping": [((8,), (21,))],
}  # fmt: skip


def offences_of(refusal: Refusal) -> list[int]:
    return offences(Call(refusal.method, refusal.pattern, refusal.weight, refusal.gram,
                         refusal.block_size, refusal.damping))  # fmt: skip


@pytest.mark.parametrize(
    "refusal", [each for each in ALL if each not in PAIRS], ids=lambda each: each.id
)
def test_a_refusal_has_one_offence(refusal: Refusal) -> None:
    (row,) = offences_of(refusal)
    assert ARGUMENTS[row] in refusal.names


@pytest.mark.parametrize("refusal", PAIRS, ids=lambda each: each.id)
def test_a_pair_names_the_first_of_two_offences(refusal: Refusal) -> None:
    first, second = offences_of(refusal)
    assert ARGUMENTS[first] in refusal.names
    assert ARGUMENTS[second] not in refusal.names


def test_legal_calls_have_no_offence() -> None:
    plain = Refusal("legal", ())
    for pattern in ("unstructured:5e-1", "0:4", "2:4+outliers:.5", "structured:0.5+outliers:0.5"):
        call = Call("thanos", pattern, plain.weight, plain.gram, 8, 0.5)
        assert offences(call) == []


def impossible(pair: tuple[int, int]) -> bool:
    groups = [each for reasons in NEVER_TOGETHER.values() for each in reasons]
    return any(pair[0] in one and pair[1] in other for one, other in groups)


def demanded() -> set[tuple[int, int]]:
    """Each row with the nearest earlier and later row that a file can offend beside it."""
    pairs = [pair for pair in combinations(sorted(ARGUMENTS), 2)
             if ARGUMENTS[pair[0]] != ARGUMENTS[pair[1]] and not impossible(pair)]  # fmt: skip
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for one, other in sorted(pairs, key=lambda pair: pair[1] - pair[0]):
        found.setdefault(("after", one), (one, other))
        found.setdefault(("before", other), (one, other))
    return set(found.values())


def test_all_neighbours_in_the_table_are_judged() -> None:
    judged = {tuple(offences_of(refusal)) for refusal in PAIRS}
    assert demanded() - judged == set()
    assert not any(impossible((pair[0], pair[1])) for pair in judged)
