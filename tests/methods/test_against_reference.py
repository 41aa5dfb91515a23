"""PyTorch against the reference, by the bound of T8: with equal masks each row differs by at most

    (g_torch + g_ref)/λ

in its first block. Behind it the two start from different columns before the block, Δ_< apart,
which moves the gradient by Δ_< M_k<ᵀ M_kk, and the norm of that is added to g_torch + g_ref.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from reference import Pruned, SemiStructured, Structured
from tests.implementations import (
    MOVING,
    REFERENCE,
    TORCH64,
    Implementation,
    each_method,
    each_switch,
    each_torch,
)
from tests.mathematics import Array, Judged, Mask, blocks
from tests.ratios import T8_BOUND, check_bits, check_ratio, check_same_numbers
from verification import certify
from verification.strategies import Problem, problems

each_torch64 = pytest.mark.parametrize("implementation", TORCH64, ids=str)

# T8's g has rounding errors of its own, in units of the terms that it is a difference of.
ROUNDING = 64 * 2.0**-53


def both(
    implementation: Implementation, method: str, problem: Problem
) -> tuple[Pruned, Pruned, Array, Array]:
    """torch's result, the reference's for what torch saw, and the layer as torch saw it."""
    W, G = (a.astype(implementation.dtype) for a in (problem.weight, problem.gram))
    options: dict[str, Any] = {"block_size": problem.block_size, "damping": problem.damping}
    seen = W.astype(np.float64), G.astype(np.float64)
    return (
        implementation.prune(method, W, G, problem.pattern, **options),
        REFERENCE.prune(method, *seen, problem.pattern, **options),
        *seen,
    )


def first_block(method: str, problem: Problem) -> int:
    """Columns that are chosen before anything moves."""
    columns = len(problem.gram)
    if method in ("magnitude", "wanda"):
        return columns
    if method == "thanos" and isinstance(problem.pattern, Structured):
        return columns
    if method == "sparsegpt" and isinstance(problem.pattern, SemiStructured):
        return problem.pattern.m
    return min(problem.block_size, columns)


def certificate(
    problem: Problem,
    method: str,
    pruned: Pruned,
    layer: tuple[Array, Array],
) -> Any:
    return certify(
        *layer,
        pruned.weight,
        problem.pattern,
        method=method,
        block_size=problem.block_size,
        damping=problem.damping,
        mask=pruned.mask,
        arithmetic="float64",
    )


@each_torch64
@each_method
@given(problem=problems(outlier_rows=False))
def test_float64_masks_are_equal_or_both_certified(
    method: str, implementation: Implementation, problem: Problem
) -> None:
    ours, theirs, *layer = both(implementation, method, problem)
    # SparseGPT's score has a pivot of H⁻¹ in it, which rounds differently from the start.
    if method != "sparsegpt":
        first = first_block(method, problem)
        assert (ours.mask[:, :first] == theirs.mask[:, :first]).all()
    certificates = [certificate(problem, method, p, (layer[0], layer[1])) for p in (ours, theirs)]
    assert all(c.passed for c in certificates), certificates
    undecidable = not certificates[1]["masks"].note.startswith("0 of the weights undecidable")
    assert undecidable or (ours.mask == theirs.mask).all()


@each_torch64
@pytest.mark.parametrize("method", ["thanos", "magnitude", "wanda"])
@given(problem=problems(ties=False, outlier_rows=False))
def test_float64_masks_without_ties_are_equal(
    method: str, implementation: Implementation, problem: Problem
) -> None:
    ours, theirs, *_ = both(implementation, method, problem)
    assert (ours.mask == theirs.mask).all()


@each_torch
@pytest.mark.parametrize("method", MOVING)
@given(problem=problems(outlier_rows=False))
def test_rows_differ_by_no_more_than_t8_allows(
    method: str, implementation: Implementation, problem: Problem
) -> None:
    check_t8(implementation, method, problem)


@each_torch
@given(problem=problems(kinds=("semi-structured", "structured")))
def test_rows_differ_by_no_more_than_t8_allows_beside_outlier_rows(
    implementation: Implementation, problem: Problem
) -> None:
    check_t8(implementation, "thanos", problem)


def check_t8(implementation: Implementation, method: str, problem: Problem) -> None:
    ours, theirs, W, G = both(implementation, method, problem)
    ours_judged, theirs_judged = (Judged(W, G, problem.damping, p.weight) for p in (ours, theirs))
    M, lam = ours_judged.M, ours_judged.lam
    width = first_block(method, problem) if method == "thanos" else 1
    # Where the masks part, inside the rounding margin, the two answer different questions.
    same = (ours.mask == theirs.mask).all(axis=0)
    equal = len(M) if same.all() else int(np.argmin(same)) // width * width
    difference = ours.weight - theirs.weight
    for j1, j2 in blocks(equal, width):
        kept = ~ours.mask[:, j1:j2]
        before = difference[:, :j1] @ M[j1:j2, :j1].T @ M[j1:j2, j1:j2]
        allowed = sum(
            (norms(g, kept) for g in (before, gradient(ours_judged, j1, j2))),
            start=norms(gradient(theirs_judged, j1, j2), kept),
        )
        far = lam * norms(difference[:, j1:j2], kept)
        ratios = np.divide(far, allowed, out=np.zeros_like(far), where=far > 0)
        check_ratio("distance λ over g_torch + g_ref", float(ratios.max()), T8_BOUND)


def gradient(result: Judged, j1: int, j2: int) -> Array:
    """|G_k| with the rounding errors of its own computation."""
    return np.asarray(np.abs(result.gradient(j1, j2)) + ROUNDING * result.sizes(j1, j2))


def norms(matrix: Array, kept: Mask) -> Array:
    """Of each row, over its kept entries."""
    return np.asarray(np.linalg.norm(np.where(kept, matrix, 0.0), axis=1))


@each_torch
@pytest.mark.parametrize("method", ["magnitude", "wanda"])
@given(problem=problems(outlier_rows=False))
def test_zeroing_methods_are_equal_bit_for_bit_where_masks_are(
    method: str, implementation: Implementation, problem: Problem
) -> None:
    ours, _, W, _ = both(implementation, method, problem)
    check_bits("weight", ours.weight, np.where(ours.mask, 0.0, W))


@each_torch64
@each_switch
@given(problem=problems(ties=False))
def test_switches_agree(
    switches: dict[str, Any], implementation: Implementation, problem: Problem
) -> None:
    ours, theirs = (
        i.prune(
            "thanos",
            problem.weight,
            problem.gram,
            problem.pattern,
            block_size=problem.block_size,
            damping=problem.damping,
            **switches,
        )
        for i in (implementation, REFERENCE)
    )
    assert (ours.mask == theirs.mask).all()
    check_same_numbers("weight", ours.weight, theirs.weight)
    total = np.array([theirs.block_losses.sum()])
    check_same_numbers(
        "losses",
        np.append(ours.block_losses, total),
        np.append(theirs.block_losses, total),
    )
