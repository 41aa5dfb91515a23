"""The theorems of docs/specification.md, T1 to T13, tested on the implementations."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import Pruned, SemiStructured, Structured, Unstructured
from reference.update import joint_update, sequential_update
from tests.implementations import (
    MOVING,
    REFERENCE,
    Implementation,
    each_float64,
    each_implementation,
    each_method,
)
from tests.mathematics import Array, Judged, Mask, best_from, blocks
from tests.ratios import (
    SAME_NUMBERS,
    check_at_most,
    check_bits,
    check_certified,
    check_optimal,
    check_ratio,
    check_same_numbers,
    check_zeros,
)
from verification import certify
from verification.strategies import Problem, problems


def judged(problem: Problem, pruned: Array) -> Judged:
    return Judged(problem.weight, problem.gram, problem.damping, pruned)


def best_for(problem: Problem, mask: Mask) -> Array:
    """The least-squares optimum of all kept weights."""
    nothing = np.zeros((len(problem.weight), 0))
    return best_from(problem.weight, mask, problem.layer.inputs, problem.damping, nothing)


def width_of(problem: Problem) -> int:
    """Columns of a block: Structured is one block."""
    columns = len(problem.gram)
    whole = isinstance(problem.pattern, Structured)
    return columns if whole else min(problem.block_size, columns)


def counts(mask: Mask, pattern: Unstructured | SemiStructured | Structured) -> tuple[Any, Any]:
    """Found and expected numbers of removed weights, by the formulas of section 2."""
    c, b = mask.shape
    if isinstance(pattern, Unstructured):
        return int(mask.sum()), floor(pattern.sparsity * c * b)
    ordinary = c - ceil(pattern.outlier_rows * c)
    if isinstance(pattern, SemiStructured):
        by_group = mask.reshape(c, -1, pattern.m).sum(axis=2)
        touched = np.sort(by_group.max(axis=1))[::-1].tolist()
        assert (by_group == by_group[:, :1]).all()
        return touched, [pattern.n] * ordinary + [0] * (c - ordinary)
    columns = ceil(pattern.sparsity * b / (1 - Fraction(pattern.outlier_rows)))
    removed = mask.any(axis=0)
    sizes = np.sort(mask.sum(axis=1))[::-1].tolist()
    assert (mask[mask.any(axis=1)] == removed).all()
    return sizes, [columns] * ordinary + [0] * (c - ordinary)


@each_implementation
@given(problem=problems())
def test_t1_counts_are_exact(implementation: Implementation, problem: Problem) -> None:
    pruned = implementation.prune_problem(problem)
    found, expected = counts(pruned.mask, problem.pattern)
    assert found == expected
    check_zeros(pruned)
    untouched = ~pruned.mask.any(axis=1)
    check_bits(
        "rows that lose nothing",
        pruned.weight[untouched],
        implementation.given(problem.weight)[untouched],
    )


def disturbed(pruned: Pruned, size: float, seed: int) -> Array:
    """The weight with noise on the kept entries."""
    noise = size * np.random.default_rng(seed).standard_normal(pruned.weight.shape)
    return np.where(pruned.mask, 0.0, pruned.weight + noise)


@each_float64
@given(problem=problems())
def test_t2_no_kept_weight_of_a_block_has_a_gradient(
    implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem)
    check_optimal(judged(problem, pruned.weight), pruned.mask, width_of(problem))


@each_float64
@given(problem=problems())
def test_t3_loss_of_a_block_is_multipliers_times_removed_weights(
    implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem)
    result = judged(problem, pruned.weight)
    states = traced(problem, pruned.mask)
    inverse_of = {j1: np.linalg.inv(result.H[j1:, j1:]) for j1, _ in states}
    expected = []
    for (j1, j2), W in states.items():
        loss = 0.0
        for i in range(len(W)):
            q = np.flatnonzero(pruned.mask[i, j1:j2])
            mu = np.linalg.solve(inverse_of[j1][np.ix_(q, q)], W[i, j1 + q])
            loss += float(mu @ W[i, j1 + q])
        expected.append(loss)
    check_losses("block losses", pruned.block_losses, expected, result.loss)


def check_losses(name: str, found: Array, expected: Sequence[float], total: float) -> None:
    """Compare relative to the total loss, as one block may lose nothing but rounding."""
    check_same_numbers(name, np.append(found, total), np.append(np.array(expected), total))


def traced(problem: Problem, mask: Mask) -> dict[tuple[int, int], Array]:
    """The weights at the start of every block, by running (6) with a given mask."""
    H = judged(problem, problem.weight).H
    W, b = problem.weight.copy(), problem.weight.shape[1]
    states = {}
    for j1, j2 in blocks(b, width_of(problem)):
        states[j1, j2] = W.copy()
        W[:, j1:] = joint_update(W[:, j1:], mask[:, j1:j2], H[j1:, j1:])
    return states


@each_float64
@each_method
@given(problem=problems(outlier_rows=False))
def test_t4_block_losses_add_up(
    method: str, implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem, method)
    result = judged(problem, pruned.weight)
    total = np.array([result.loss])
    check_same_numbers("sum of block losses", np.array([pruned.block_losses.sum()]), total)
    width = width_of(problem) if method == "thanos" else problem.block_size
    expected = [np.sum(result.E[:, j1:j2] ** 2) for j1, j2 in blocks(len(result.M), width)]
    check_losses("block losses", pruned.block_losses, expected, result.loss)


@given(problem=problems(outlier_rows=False))
def test_t5_joint_loses_least_from_a_common_state(problem: Problem) -> None:
    mask = REFERENCE.prune_problem(problem).mask
    result = judged(problem, problem.weight)
    for (j1, j2), W in traced(problem, mask).items():
        H, block, M = result.H[j1:, j1:], mask[:, j1:j2], result.M[j1:j2, j1:j2]
        zeroed = np.where(block, 0.0, W[:, j1:j2])
        moves = {
            "joint": joint_update(W[:, j1:], block, H)[:, : j2 - j1],
            "sequential": sequential_update(W[:, j1:], block, H)[:, : j2 - j1],
            "zeroing": zeroed,
        }
        loss = {
            name: np.sum(((moved - W[:, j1:j2]) @ M.T) ** 2, axis=1)
            for name, moved in moves.items()
        }
        for i, joint in enumerate(loss["joint"]):
            for other in ("sequential", "zeroing"):
                check_at_most(f"joint against {other}", joint, loss[other][i], loss[other][i])


@each_float64
@given(problem=problems(kinds=("unstructured", "structured"), outlier_rows=False))
def test_t5_joint_loses_least_when_masks_are_fixed_and_one_block(
    implementation: Implementation, problem: Problem
) -> None:
    whole = Problem(problem.layer, problem.pattern, problem.weight.shape[1], problem.damping)
    joint = implementation.prune_problem(whole)
    sequential = implementation.prune_problem(whole, update="sequential")
    assert (joint.mask == sequential.mask).all()
    losses = [judged(whole, pruned.weight).loss for pruned in (joint, sequential)]
    check_at_most("joint against sequential", losses[0], losses[1], losses[1])
    zeroed = judged(whole, np.where(joint.mask, 0.0, whole.weight)).loss
    check_at_most("joint against zeroing", losses[0], zeroed, zeroed)


@each_float64
@given(problem=problems())
def test_t6_one_block_is_the_least_squares_optimum(
    implementation: Implementation, problem: Problem
) -> None:
    whole = Problem(problem.layer, problem.pattern, problem.weight.shape[1] + 1, problem.damping)
    pruned = implementation.prune_problem(whole)
    check_same_numbers("kept weights", pruned.weight, best_for(problem, pruned.mask))


@each_implementation
@pytest.mark.parametrize("method", MOVING)
@given(problem=problems(outlier_rows=False), exponent=st.integers(-12, 12))
def test_t7_powers_of_two_scale_exactly(
    method: str, implementation: Implementation, problem: Problem, exponent: int
) -> None:
    t = 2.0**exponent
    plain = implementation.prune_problem(problem, method)
    W, G = (a.astype(implementation.dtype) for a in (problem.weight, problem.gram))
    # A zero G has λ = 1, which does not scale: section 1 fixes it so.
    grown = implementation.prune_problem(problem, method, gram=G * t**2)
    check_bits("W from tX", grown.weight, plain.weight)
    check_bits("losses from tX", grown.block_losses, plain.block_losses * (t**2 if G.any() else 1))
    assert (grown.mask == plain.mask).all()
    scaled = implementation.prune_problem(problem, method, weight=W * t)
    check_bits("W from tW", scaled.weight, plain.weight * t)
    assert (scaled.mask == plain.mask).all()


@each_float64
@pytest.mark.parametrize("method", MOVING)
@given(
    problem=problems(outlier_rows=False),
    seed=st.integers(0, 2**32 - 1),
    t=st.sampled_from((-3.0, 0.1, 7.0)),
)
def test_t7_any_scale_rotation_or_order_of_rows_passes_the_first_certificate(
    method: str, implementation: Implementation, problem: Problem, seed: int, t: float
) -> None:
    rng = np.random.default_rng(seed)
    X = problem.layer.inputs
    Q = np.linalg.qr(rng.standard_normal((X.shape[1], X.shape[1])))[0]
    order = rng.permutation(len(problem.weight))
    rotated = (t * X @ Q) @ (t * X @ Q).T
    pruned = implementation.prune_problem(
        problem, method, weight=problem.weight[order] * t, gram=rotated
    )
    back, mask = np.empty_like(pruned.weight), np.empty_like(pruned.mask)
    back[order], mask[order] = pruned.weight / t, pruned.mask
    # Rows that lose nothing have to be W's, bit for bit, which W t / t is not.
    back = np.where(mask.any(axis=1, keepdims=True), back, problem.weight)
    # Arithmetic "float32", because X Q has rounding errors of its own, far below those of float32.
    certificate = certify(
        problem.weight,
        problem.gram,
        np.where(back == 0, 0.0, back),  # -0.0 / t
        problem.pattern,
        method=method,
        block_size=problem.block_size,
        damping=problem.damping,
        mask=mask,
        arithmetic="float32",
    )
    check_certified(certificate)


@each_implementation
@given(problem=problems(ties=False), seed=st.integers(0, 2**32 - 1))
def test_t7_permuted_rows_permute_the_mask(
    implementation: Implementation, problem: Problem, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(problem.weight))
    plain = implementation.prune_problem(problem)
    permuted = implementation.prune_problem(problem, weight=problem.weight[order])
    assert (permuted.mask == plain.mask[order]).all()


@each_float64
@given(problem=problems(), size=st.sampled_from((1e-9, 1e-3, 1.0)), seed=st.integers(0, 999))
def test_t8_gradient_bounds_the_distance_to_the_best_weights(
    implementation: Implementation, problem: Problem, size: float, seed: int
) -> None:
    pruned = implementation.prune_problem(problem)
    wrong = judged(problem, disturbed(pruned, size, seed))
    lam, X = wrong.lam, problem.layer.inputs
    for j1, j2 in blocks(X.shape[0], width_of(problem)):
        kept = ~pruned.mask[:, j1:j2]
        g = np.linalg.norm(np.where(kept, wrong.gradient(j1, j2), 0.0), axis=1)
        # Entries behind the block are free, so only the masked ones of the block itself count.
        mask = pruned.mask.copy()
        mask[:, j2:] = False
        best = best_from(problem.weight, mask, X, problem.damping, wrong.pruned[:, :j1])
        least = judged(problem, best).E[:, j1:j2]
        for i, bound in enumerate(g / lam):
            far = float(np.linalg.norm((wrong.pruned - best)[i, j1:j2][kept[i]]))
            check_at_most("distance", far, float(bound), float(np.abs(wrong.pruned[i]).max() + far))
            loss = float(np.sum(wrong.E[i, j1:j2] ** 2))
            excess = loss - float(np.sum(least[i] ** 2))
            check_at_most("excess loss", excess, float(g[i] * bound), loss)


@each_float64
@pytest.mark.parametrize("update", ["joint", "sequential"])
@given(problem=problems())
def test_t9_weights_at_the_start_of_every_block_follow_from_the_result(
    update: str, implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem, update=update)
    result = judged(problem, pruned.weight)
    U = np.linalg.inv(result.M).T
    W = problem.weight.copy()  # rebuilt
    truth = problem.weight.copy()  # simulated, by (6)
    run = {"joint": joint_update, "sequential": sequential_update}[update]
    for j1, j2 in blocks(len(U), width_of(problem)):
        check_same_numbers(f"weights before column {j1}", W[:, j1:], truth[:, j1:])
        delta = pruned.weight[:, j1:j2] - W[:, j1:j2]
        W[:, j1:] += delta @ result.M[j1:j2, j1:j2].T @ U[j1:j2, j1:]
        truth[:, j1:] = run(truth[:, j1:], pruned.mask[:, j1:j2], result.H[j1:, j1:])


@each_float64
@each_method
@given(problem=problems(outlier_rows=False), steps=st.integers(0, 12))
def test_t10_refit_keeps_the_mask_and_never_raises_f(
    method: str, implementation: Implementation, problem: Problem, steps: int
) -> None:
    pruned = implementation.prune_problem(problem, method)
    refitted = implementation.refit(
        problem.weight, problem.gram, pruned, steps=steps, damping=problem.damping
    )
    before = judged(problem, pruned.weight).loss
    after = judged(problem, refitted.weight).loss
    check_at_most("f after the refit", after, before, before)
    check_zeros(refitted)
    assert (refitted.mask == pruned.mask).all()
    check_losses("loss of the refit", refitted.block_losses, [after], before)


@each_float64
@given(problem=problems())
def test_t10_enough_steps_reach_the_optimum(
    implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem)
    refitted = implementation.refit(
        problem.weight, problem.gram, pruned, steps=60, damping=problem.damping
    )
    touched = pruned.mask.any(axis=1, keepdims=True)
    best = np.where(touched, best_for(problem, pruned.mask), problem.weight)
    f_best, f = (judged(problem, weight).loss for weight in (best, refitted.weight))
    check_at_most("f after 60 steps", f, f_best, f)


@each_float64
@given(problem=problems(), size=st.floats(1e-3, 10), seed=st.integers(0, 2**32 - 1))
def test_t11_the_residual_bounds_the_distance_to_the_best_for_the_mask(
    implementation: Implementation, problem: Problem, size: float, seed: int
) -> None:
    pruned = implementation.prune_problem(problem)
    wrong = judged(problem, disturbed(pruned, size, seed))
    best = judged(problem, best_for(problem, pruned.mask))
    r = np.where(pruned.mask, 0.0, (wrong.pruned - problem.weight) @ wrong.H)
    bound = float(np.sum((r @ np.linalg.inv(wrong.M)) ** 2))
    check_at_most("excess over the best", wrong.loss - best.loss, bound, wrong.loss)
    # In one block, with its columns alone free to move, T2's gradient takes the place of r.
    j2 = width_of(problem)
    first = judged(problem, best_for(problem, pruned.mask[:, :j2]))
    M_kk = wrong.M[:j2, :j2]
    g = np.where(pruned.mask[:, :j2], 0.0, wrong.gradient(0, j2))
    excess = float(np.sum(wrong.E[:, :j2] ** 2)) - first.loss
    check_at_most(
        "excess of a block", excess, float(np.sum((g @ np.linalg.inv(M_kk)) ** 2)), wrong.loss
    )


@each_float64
@given(
    problem=problems(),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from((1e-8, 1e-3, 1.0)),
    u=st.sampled_from((2.0**-24, 2.0**-11)),  # far above the rounding of float64
)
def test_t13_rows_near_the_exact_run_bound_the_loss(
    implementation: Implementation, problem: Problem, seed: int, share: float, u: float
) -> None:
    pruned = implementation.prune_problem(problem)
    exact, rng = judged(problem, pruned.weight), np.random.default_rng(seed)
    noise = np.where(pruned.mask, 0.0, rng.standard_normal(pruned.weight.shape))
    lengths = np.linalg.norm(noise @ exact.M.T, axis=1)
    energies = np.sum(pruned.weight**2 * np.diag(exact.H), axis=1)
    allowed = share * np.sum(exact.E**2, axis=1) + (8 * u) ** 2 * energies
    steps = np.divide(np.sqrt(allowed), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    near = judged(problem, pruned.weight + steps[:, None] * noise)  # as far as T13 allows
    bound = (1 + share**0.5) * exact.loss**0.5 + 8 * u * float(energies.sum()) ** 0.5
    if bound:  # steps of 8u are 1e-9 off themselves, as weights of float64
        check_ratio("root of the loss over its bound", near.loss**0.5 / bound - 1, SAME_NUMBERS)
    # A distance of rounding errors is made of rounding errors itself: only a large one adds up.
    one_block = width_of(problem) == pruned.weight.shape[1]
    if one_block and share == 1.0 and exact.loss > 1e-6 * energies.sum():
        apart = float(np.sum((near.E - exact.E) ** 2))
        check_same_numbers(
            "loss of one block", np.array([near.loss]), np.array([exact.loss + apart])
        )
