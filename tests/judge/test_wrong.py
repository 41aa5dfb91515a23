"""Every wrong implementation is rejected by the check that names its bug, and explained."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from reference.patterns import parse_pattern
from tests.judge.wrong import WRONG, Wrong
from tests.judge.wrong.layers import REFUSED, STORED, Showcase, layer, showcases
from tests.judge.wrong.right import Right
from verification.conformance import Case, Verdict, judge
from verification.conformance.callables import PythonFunction
from verification.conformance.made import made_case
from verification.conformance.storage import stored
from verification.conformance.verify import explanations
from verification.exact import exact_prune

Size = tuple[int, int, int, int]  # seed, rows, columns and B
# No threshold was tuned on layers of these sizes.
SMALL, LARGER, ANOTHER = (102, 9, 40, 8), (101, 12, 48, 16), (105, 8, 36, 12)
BY_SIZE = pytest.mark.parametrize(
    "size",
    [SMALL, *(pytest.param(size, marks=pytest.mark.long) for size in (LARGER, ANOTHER))],
    ids=["small", "larger", "another"],
)
BY_BUG = pytest.mark.parametrize("wrong", WRONG, ids=[wrong.bug for wrong in WRONG])


def function(wrong: Wrong) -> PythonFunction:
    """The wrong implementation as a user would hand it in, with its declarations."""

    def run(*arguments: Any, method: str, storage: str = "") -> Any:
        assert method == wrong.method
        if not storage:
            return wrong.run(*arguments)
        weight, mask = wrong.run(*arguments)
        return stored(weight, storage), mask

    run.methods = (wrong.method,)  # type: ignore[attr-defined]
    run.dtypes = ("float64", "float32")  # type: ignore[attr-defined]
    run.storage = STORED  # type: ignore[attr-defined]
    run.refusals = True  # type: ignore[attr-defined]
    return PythonFunction(run, wrong.method, wrong.bug)


def cases(wrong: Wrong, size: Size) -> Iterator[Case]:
    seed, rows, columns, block_size = size
    for shown in showcases(wrong, rows, columns, block_size):
        yield case_of(wrong.method, shown, seed, rows, columns)


@cache  # exact masks take seconds, and many bugs show on one layer
def case_of(method: str, shown: Showcase, seed: int, rows: int, columns: int) -> Case:
    W, G = layer(seed, rows, columns, features=shown.features, refused=shown.refused)
    options: dict[str, Any] = {
        "method": method,
        "block_size": shown.block_size,
        "damping": shown.damping,
    }
    mask = None
    # The same numbers in any arithmetic.
    if {"tied-rows", "tied-columns", "tied-products"} & set(shown.features):
        mask = Right(W, G, shown.pattern, shown.block_size, shown.damping).run(method)[1]
    if "ties" in shown.features:  # only the exact mask shows how ties are broken
        mask = np.array(exact_prune(W, G, parse_pattern(shown.pattern), **options).mask)
    storage = next((one for one in STORED if f"stored-{one}" in shown.features), None)
    refused = REFUSED[shown.refused] if shown.refused else ()
    return made_case(W, G, shown.pattern, mask=mask, refused=refused, storage=storage, **options)


@cache
def verdict_on_right_code(
    method: str, shown: Showcase, seed: int, rows: int, columns: int
) -> Verdict:
    right = Wrong("none", Right, "", None, method)
    return judge(case_of(method, shown, seed, rows, columns), function(right))


def verdicts(wrong: Wrong, size: Size) -> list[Verdict]:
    found = [judge(case, function(wrong)) for case in cases(wrong, size)]
    assert found
    assert not any(verdict.unsupported for verdict in found)
    return found


@BY_SIZE
@BY_BUG
def test_bug_is_caught_by_the_check_that_names_it_and_explained(wrong: Wrong, size: Size) -> None:
    for verdict in verdicts(wrong, size):
        failed = {check.name for check in verdict.failures}
        assert wrong.check in failed, (verdict.case.pattern, failed)
        found = [x.key for x in explanations(verdict, function(wrong).capabilities)]
        assert found[:1] == [wrong.diagnosis] * bool(wrong.diagnosis), (verdict.case.pattern, found)


@BY_SIZE
@BY_BUG
def test_right_code_passes_on_the_same_layers(wrong: Wrong, size: Size) -> None:
    seed, rows, columns, block_size = size
    for shown in showcases(wrong, rows, columns, block_size):
        verdict = verdict_on_right_code(wrong.method, shown, seed, rows, columns)
        assert verdict.passed, (shown.pattern, verdict.failures)


def test_there_are_enough_bugs_and_every_check_catches_one() -> None:
    assert len({wrong.bug for wrong in WRONG}) >= 45
    assert {wrong.check for wrong in WRONG} == {
        "output", "input", "refusals", "finite", "outliers", "counts", "masks", "zeros",
        "updates", "kept", "vector mask", "replay",
    }  # fmt: skip
