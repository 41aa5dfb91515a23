"""Draws the calls with which properties are tested, as cases of the judge."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st

from reference.patterns import Pattern, SemiStructured, parse_pattern
from verification.catalogue import HardInput
from verification.conformance.cases import Case
from verification.conformance.implementation import Output
from verification.conformance.made import made_case, remade
from verification.conformance.storage import stored
from verification.fresh.drawn import exact_answer
from verification.fresh.moved import in_other_units
from verification.strategies import Problem, problems
from verification.vectors.expected import condition_of

# Kinds of patterns, each with an example that decides whether the kind is supported.
KINDS = {
    "unstructured": "unstructured:0.5",
    "n:m": "2:4",
    "structured": "structured:0.5",
    "n:m+outliers": "2:4+outliers:0.25",
    "structured+outliers": "structured:0.5+outliers:0.25",
}
_STRATEGY_KINDS = {"n:m": "semi-structured"}

Back: TypeAlias = Callable[[Output], Output]


@dataclass(frozen=True)
class SizeLimits:
    """The largest numbers of rows and columns of a drawn layer."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Precision:
    """The type of the arithmetic, and the half-precision type of stored weights, if any."""

    dtype: str
    storage: str | None = None

    def __str__(self) -> str:
        return self.storage or self.dtype


PRECISIONS = (
    Precision("float64"),
    Precision("float32"),
    Precision("float32", "float16"),
    Precision("float32", "bfloat16"),
)


def case_of(problem: Problem, method: str, precision: Precision) -> Case:
    """The case of a drawn problem in one precision."""
    return made_case(
        stored(problem.weight, precision.storage or precision.dtype),
        problem.gram.astype(precision.dtype),
        problem.pattern,
        method=method,
        block_size=problem.block_size,
        damping=problem.damping,
        storage=precision.storage,
    )


def representative(method: str, kind: str, precision: Precision) -> Case:
    """A case that is supported if all calls of its method, kind and precision are."""
    weight = stored(np.ones((4, 4)), precision.storage or precision.dtype)
    gram = np.eye(4).astype(precision.dtype)
    return made_case(weight, gram, KINDS[kind], method=method, storage=precision.storage)


def calls(
    method: str, kind: str, precision: Precision, sizes: SizeLimits, *, ties: bool = True
) -> st.SearchStrategy[Case]:
    """Calls of a kind of pattern; without `ties` no saliencies are equal."""
    plain, _, outliers = kind.partition("+")
    drawn = problems(
        kinds=(_STRATEGY_KINDS.get(plain, plain),),
        outlier_rows=bool(outliers),
        max_rows=sizes.rows,
        max_columns=sizes.columns,
        ties=ties,
    )
    if outliers:
        drawn = drawn.filter(lambda problem: _outlier_rows(problem.pattern) > 0)
    return drawn.map(lambda problem: case_of(problem, method, precision))


def _outlier_rows(pattern: Pattern) -> float:
    return float(getattr(pattern, "outlier_rows", 0))


def exact_case(case: Case) -> Case:
    """The case with its exact answer if right code must find it, otherwise the case itself."""
    condition = condition_of(case.gram, case.damping)
    answer = exact_answer(case, condition)
    if not answer:
        return case
    return remade(case, mask=answer["mask"], exact=answer["weight"], condition=condition)


def removing_nothing(case: Case) -> Case:
    """The case with a pattern that removes nothing."""
    pattern = parse_pattern(case.pattern)
    nothing: Pattern = (
        replace(pattern, n=0)
        if isinstance(pattern, SemiStructured)
        else replace(pattern, sparsity=Fraction(0))
    )
    return remade(case, pattern=nothing)


@st.composite
def transformed(draw: st.DrawFn, cases: st.SearchStrategy[Case]) -> tuple[Case, Case, Back]:
    """A case, its transformation by T7, and a function that transforms the answer back.

    X is multiplied by t, W by s, and rows are reordered; t and s are powers of two, so that
    nothing is rounded.
    """
    case = draw(cases)
    t = 2.0 ** draw(st.integers(-6, 6), label="exponent of t")
    s = 1.0 if case.storage else 2.0 ** draw(st.integers(-6, 6), label="exponent of s")
    s *= draw(st.sampled_from((1.0, -1.0)), label="sign of s")
    order = np.array(draw(st.permutations(range(len(case.weight))), label="order of rows"))

    def back(output: Output) -> Output:
        weight, mask = np.empty_like(output.weight), np.empty_like(output.mask)
        weight[order], mask[order] = output.weight / np.asarray(s, output.weight.dtype), output.mask
        weight[mask & (weight == 0)] = 0.0  # 0 over a negative number is -0
        return Output(weight, mask)

    # A zero G has λ = 1, which does not scale: section 1 fixes it so.
    return case, in_other_units(case, order, s, t), back


@st.composite
def spoiled(draw: st.DrawFn, cases: st.SearchStrategy[Case]) -> Case:
    """A case with one argument that section 2 refuses."""
    case = draw(cases)
    argument = draw(st.sampled_from(("damping", "block_size", "weight", "gram", "asymmetry")))
    if argument == "damping":
        damping = draw(st.sampled_from((0.0, -0.01, float("nan"), float("inf"))))
        return remade(case, damping=damping, refused=("damping",))
    if argument == "block_size":
        return remade(case, block_size=draw(st.integers(-9, 0)), refused=("block_size",))
    name = "weight" if argument == "weight" else "gram"
    matrix = (case.weight if name == "weight" else case.gram).copy()
    place = tuple(draw(st.integers(0, size - 1)) for size in matrix.shape)
    if argument == "asymmetry" and place[0] != place[1]:
        matrix[place] += 1 + np.abs(matrix).max()
    else:
        matrix[place] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
    return remade(case, refused=(name,), **{name: matrix})


def hard_cases(hard: HardInput, method: str, kinds: tuple[str, ...]) -> Iterator[Case]:
    """The cases of a catalogue entry with its patterns of these kinds."""
    layer = (
        "from verification.catalogue import catalogue\n"
        f"hard = catalogue({hard.gram.dtype.name!r})[{hard.number - 1}]\n"
        "weight, gram = hard.weight, hard.gram"
    )
    for pattern in hard.patterns():
        if kind_of(pattern) in kinds:
            yield made_case(
                hard.weight,
                hard.gram,
                pattern,
                method=method,
                block_size=hard.block_size,
                damping=hard.damping,
                name=str(hard),
                layer=layer,
            )


def kind_of(pattern: Pattern) -> str:
    """The key of a pattern in KINDS."""
    plain = str(pattern).partition(":")[0]
    plain = plain if plain in KINDS else "n:m"
    return plain + ("+outliers" if _outlier_rows(pattern) else "")
