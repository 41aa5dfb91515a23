"""Known vectors in other units and with their rows in another order, T7; so are their answers."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.patterns import parse_pattern
from verification.conformance.capabilities import pattern_kinds
from verification.conformance.cases import Case
from verification.conformance.made import remade
from verification.conformance.tensors import Tensor, TensorFile
from verification.fresh.drawn import DrawnCase, drawn_case

TIED = 1e-9  # relative difference of scores that are taken for a tie


def candidates(known: Sequence[Case]) -> Iterator[Case]:
    """The vectors that can be chosen: those with an answer."""
    return (case for case in known if case.expected in ("weights", "mask"))


def chosen(known: Sequence[Case], seed: int) -> Iterator[Case]:
    """One vector of every method, kind of pattern and precision, chosen by the seed."""
    groups: dict[object, list[Case]] = {}
    for case in sorted(candidates(known), key=lambda case: case.id):
        kinds = pattern_kinds(case.pattern)
        groups.setdefault((case.method, kinds, case.dtype, case.storage), []).append(case)
    for key, group in groups.items():
        yield Random(f"{seed}/{key}").choice(group)


def name_of(case: Case) -> str:
    """The id of a vector that is moved."""
    return f"moved-{case.id}"


def moved_case(case: Case, seed: int) -> DrawnCase:
    """X is multiplied by t, W by s, and rows are reordered; t and s are powers of two."""
    rng = Random(f"{seed}/{case.id}")
    at_the_edge = any(flag.startswith("near-") and "flow" in flag for flag in case.flags)
    widest = 0 if at_the_edge else 6
    t = 2.0 ** rng.randint(-widest, widest)
    s = rng.choice((1.0, -1.0)) * 2.0 ** (0 if case.storage else rng.randint(-widest, widest))
    order = np.arange(len(case.weight))
    if not tied_rows(case):
        order = np.array(rng.sample(range(len(order)), len(order)))
    made = in_other_units(case, order, s, t, name=name_of(case))
    moved = drawn_case(made, seed, condition=case.condition, flags=case.flags)
    moved.__dict__["answer"] = _answer(case.answer, order, s)
    return moved


def in_other_units(case: Case, order: NDArray[np.intp], s: float, t: float, **changes: Any) -> Case:
    """A case with its rows in another order, W times s, and X times t.

    s, t     powers of two, or their negatives, so that nothing is rounded
    changes  further arguments of `made_case`
    """
    return remade(
        case,
        weight=case.weight[order] * np.asarray(s, case.weight.dtype),
        gram=case.gram * np.asarray(t * t, case.gram.dtype),
        **changes,
    )


def _answer(answer: TensorFile, order: NDArray[np.intp], s: float) -> TensorFile:
    moved = TensorFile({}, {})
    moved.update({name: tensor[order] for name, tensor in answer.items()})
    if "weight" in moved:
        moved["weight"] = moved["weight"] * s
    return moved


def tied_rows(case: Case) -> bool:
    """Whether two rows have equal scores, so that the order of rows decides what is removed."""
    W, G = np.asarray(case.weight, float), np.asarray(case.gram, float)
    unit = np.abs(W).max() or 1.0
    scores = np.abs(W / unit) * np.sqrt(np.diag(G) / (np.diag(G).max() or 1.0))
    if case.method in ("magnitude", "sparsegpt"):
        scores = np.abs(W / unit)
    places = np.repeat(np.arange(len(W)), W.shape[1])
    if getattr(parse_pattern(case.pattern), "outlier_rows", 0):
        V = W / unit
        if _tied(np.einsum("ij,jk,ik->i", V, G / (G.max() or 1.0), V), np.arange(len(W))):
            return True
    return _tied(scores.ravel(), places)


def _tied(values: Tensor, rows: Tensor) -> bool:
    """Whether two neighbours in order are equal and of two rows."""
    order = np.argsort(values, kind="stable")
    values, rows = values[order], rows[order]
    equal = values[1:] - values[:-1] <= TIED * np.abs(values[1:])
    return bool((equal & (rows[1:] != rows[:-1])).any())
