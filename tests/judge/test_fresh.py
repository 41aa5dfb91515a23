"""Fresh cases: a seed repeats them, right code passes them, and no table of answers does."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from reference.patterns import parse_pattern
from tests.judge import cheats
from verification.conformance import Case, judge, load_cases
from verification.conformance.callables import PythonFunction, load_callable
from verification.conformance.made import MadeCase
from verification.conformance.verify import verify
from verification.exact import exact_prune
from verification.fresh import fresh_case, fresh_cases, fresh_ids

PRECISIONS = ("float64", "float32", "float16", "bfloat16")
KINDS = ("unstructured", "nm", "structured", "nm-outliers", "structured-outliers")


def test_a_seed_repeats_the_cases_and_another_draws_others() -> None:
    first, again, other = fresh_cases(1), fresh_cases(1), fresh_cases(2)
    assert [case.id for case in first] == list(fresh_ids(1))
    assert len({case.id for case in first}) == len(first)
    for one, two in zip(first, again, strict=True):
        assert one.input.metadata == two.input.metadata
        assert one.weight.tobytes() == two.weight.tobytes()
        assert one.gram.tobytes() == two.gram.tobytes()
    known = {(case.weight.tobytes(), case.gram.tobytes()) for case in (*first, *load_cases())}
    new = [case for case in other if (case.weight.tobytes(), case.gram.tobytes()) not in known]
    assert len(new) > 0.9 * len(other)


def test_a_case_is_found_by_its_id_and_its_code_makes_it() -> None:
    case = fresh_case("fresh-thanos-bfloat16-nm-outliers-2", seed=5)
    names: dict[str, Any] = {}
    exec(case.as_python(), names)
    assert names["case"].weight.tobytes() == case.weight.tobytes()
    with pytest.raises(ValueError, match="'no-such-case'"):
        fresh_case("no-such-case", seed=5)


def test_every_method_kind_of_pattern_and_precision_has_cases_with_exact_answers() -> None:
    cases = [case for case in fresh_cases(3) if case.expected != "refusal"]
    for method in ("thanos", "magnitude", "wanda", "sparsegpt"):
        for kind in KINDS if method == "thanos" else KINDS[:3]:
            for precision in PRECISIONS:
                of_it = [c for c in cases if f"{method}-{precision}-{kind}-" in f"{c.id}-"
                         and c.id.startswith("fresh")]  # fmt: skip
                assert len([c for c in of_it if c.id[-2:] in ("-1", "-2", "-3", "-4")]) >= 4
    faults = Counter(case.method for case in fresh_cases(3, "fresh-refusal"))
    assert min(faults.values()) >= 23


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["reference", "torch"])
def test_right_code_passes(seed: int, name: str) -> None:
    function = PythonFunction(load_callable(name), "thanos", name)
    report = verify(function, fresh_cases(seed), seed)
    assert [failure.verdict.case.id for failure in report.failures] == []
    assert report.counts["not decidable"] < 10


@pytest.mark.parametrize("seed", [1, 2])
def test_a_moved_vector_has_the_exact_answer(seed: int) -> None:
    """Where that is fast; the answer itself is transformed, not computed."""
    for case in fresh_cases(seed, "moved-"):
        assert isinstance(case, MadeCase)
        if case.weight.size <= 30:
            exact = exact_prune(case.weight, case.gram, parse_pattern(case.pattern),
                                method=case.method, block_size=int(case.block_size),
                                damping=case.damping)  # fmt: skip
            assert (np.array(exact.mask) == case.answer["mask"]).all(), case.id


def other_ties(weight: Any, gram: Any, pattern: str, *rest: Any, **options: Any) -> Any:
    """The last of equal scores goes first."""
    turn: Any = np.s_[::-1]
    if options["method"] in ("magnitude", "wanda"):  # these compare columns of one row only
        turn, gram = np.s_[::-1, ::-1], gram[::-1, ::-1]
    pruned, mask, *_ = load_callable("reference")(weight[turn], gram, pattern, *rest, **options)
    return pruned[turn], mask[turn]


def never_refusing(weight: Any, *rest: Any, **options: Any) -> Any:
    try:
        return load_callable("reference")(weight, *rest, **options)
    except ValueError:
        return weight, np.zeros(weight.shape, dtype=bool)


def one_message(*arguments: Any, **options: Any) -> Any:
    try:
        return load_callable("reference")(*arguments, **options)
    except ValueError:
        raise ValueError("damping -1.0") from None


@cache
def table() -> Any:
    return cheats.table()


def failures(otherwise: Callable[..., Any], cases: tuple[Case, ...]) -> set[str]:
    """What fails of a table of all vectors with a wrong answer to everything else."""
    table().otherwise = otherwise
    function = PythonFunction(table(), "thanos", "table")
    found = [judge(case, function) for case in cases]
    return {verdict.case.id for verdict in found if verdict.failures}


@pytest.mark.long
def test_a_table_of_the_vectors_passes_the_vectors() -> None:
    assert failures(cheats.only_zeroed, load_cases()) == set()


SEEDS = [21, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_fails_for_every_kind_of_pattern_and_precision(seed: int) -> None:
    precisions = PRECISIONS if seed != SEEDS[0] else ("float64", "bfloat16")
    cases = [fresh_cases(seed, f"fresh-thanos-{precision}") for precision in precisions]
    zeroed = failures(cheats.only_zeroed, sum(cases, ()))
    for kind, precision in product(KINDS, precisions):
        group = {f"fresh-thanos-{precision}-{kind}-{number}" for number in (1, 2, 3, 4)}
        assert group & zeroed, (kind, precision)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_of_refusals_fails(seed: int) -> None:
    for wrong in (never_refusing, one_message):
        for method in ("thanos", "wanda"):
            cases = fresh_cases(seed, f"fresh-refusal-{method}")
            assert len(failures(wrong, cases)) >= len(cases) - 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_with_other_ties_fails(seed: int) -> None:
    for method in ("thanos", "sparsegpt", "wanda", "magnitude"):
        cases = fresh_cases(seed, f"fresh-{method}-float64-unstructured")
        if not failures(other_ties, cases):
            cases = fresh_cases(seed, f"fresh-{method}-")
            assert failures(other_ties, cases), method
