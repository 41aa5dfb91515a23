"""Known mistakes of Thanos in what it removes, each with the output that it gives."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil, floor

import numpy as np

from reference.patterns import SemiStructured, Structured, Unstructured
from verification.diagnosis.evidence import Array, Evidence, Mask, rounded
from verification.diagnosis.simulation import (
    Score,
    Variation,
    mean_damping,
    plain_score,
    removed,
    simulate,
)
from verification.diagnosis.suspect import Suspect
from verification.diagnosis.update_suspects import Listed, of_updates

PADDED = (8, 16, 32)  # multiples to which kernels like to pad rows


def of_thanos(e: Evidence, right: Array) -> Iterator[Suspect]:
    """All listed mistakes of Thanos. `right` is the right pruned weight."""
    for theme in (_of_masks, _of_counts, _of_outliers):
        for key, rule, text, variation in theme(e):
            yield Suspect(key, rule, text, lambda v=variation: simulate(e, v))  # type: ignore[misc]
    yield from of_updates(e, right)
    yield from dead_columns_extra(
        e, lambda e, live: simulate(e, Variation(score=live(plain_score)))
    )
    yield from _of_padding(e)


def _of_masks(e: Evidence) -> Iterator[Listed]:
    yield ("tie-to-higher-index", "section 2", "ties are broken towards the higher index",
           Variation(ties="high"))  # fmt: skip
    if not isinstance(e.pattern, Structured):
        key, text = "mask-of-original-weights", "the mask is the one of the original weights"
        if isinstance(e.pattern, SemiStructured):
            key, text = "nm-chosen-once", "n:m is chosen once, from the original weights"
        yield (key, "(3), (4)", f"{text}: later blocks did not use the updated ones",
               Variation(adaptive=False))  # fmt: skip
    if isinstance(e.pattern, Unstructured):
        yield ("block-local-mask", "(3)", "every block gives its own share of the count: "
               "the residual mask is to be chosen among all columns that are left",
               Variation(local=True))  # fmt: skip
    for key, what, score in _scores(e):
        yield key, "(2)", f"the mask is chosen by {what}", Variation(score=score)
    yield ("largest-go", "(2)", "the largest scores go instead of the smallest",
           Variation(ties="largest"))  # fmt: skip
    if isinstance(e.pattern, Structured):
        yield ("structured-over-all-rows", "(5)", "columns are scored over all rows, "
               "outlier rows included", Variation(score_rows="all"))  # fmt: skip
        yield ("structured-unsquared", "(5)", "columns are scored by Σ S instead of Σ S²",
               Variation(power=1))  # fmt: skip


def _scores(e: Evidence) -> Iterator[tuple[str, str, Score]]:
    lam = mean_damping(e)
    # First, for where scores are close many a mistake looks like this one.
    if e.precision == "float64":
        yield "scores-in-float32", "scores that were computed in float32", score_in_float32
        yield ("scores-in-float32", "scores that were rounded to float32",
               lambda W, norms, pivots: rounded(np.abs(W) * norms, "float32"))  # fmt: skip
        yield ("scores-in-float32", "norms that were rounded to float32",
               lambda W, norms, pivots: np.abs(W) * rounded(norms, "float32"))  # fmt: skip
    yield ("mask-by-magnitude", "|W|, without the norms of the inputs",
           lambda W, norms, pivots: np.abs(W))  # fmt: skip
    yield ("norm-not-rooted", "|W| G_jj: the norm is the root of G_jj",
           lambda W, norms, pivots: np.abs(W) * norms**2)  # fmt: skip
    yield ("mask-by-obs", "W² / ((H_JJ)⁻¹)_jj instead of |W| ‖X_j‖",
           lambda W, norms, pivots: np.abs(W) / np.sqrt(pivots))  # fmt: skip
    yield ("norms-with-damping", "norms that were read off H, with its damping",
           lambda W, norms, pivots: np.abs(W) * np.sqrt(norms**2 + lam))  # fmt: skip
    yield "score-with-sign", "W ‖X_j‖ with its sign", lambda W, norms, pivots: W * norms


def score_in_float32(weights: Array, norms: Array, pivots: Array) -> Array:
    """S of spec (2), computed in float32."""
    with np.errstate(all="ignore"):
        S = np.abs(weights).astype(np.float32) * norms.astype(np.float32)
    return S.astype(np.float64)


def _of_counts(e: Evidence) -> Iterator[Listed]:
    if isinstance(e.pattern, SemiStructured):
        n, m = e.pattern.n, e.pattern.m
        yield ("n-kept", "section 2", "n of m are kept: n counts the zeros",
               Variation(zeros=m - n))  # fmt: skip
        for shift in range(1, m):
            yield ("group-misaligned", "section 2", f"groups begin {shift} columns late",
                   Variation(shift=shift))  # fmt: skip
        return
    p = e.pattern.sparsity
    if isinstance(e.pattern, Structured):
        alpha = e.pattern.outlier_rows
        yield ("count-in-binary", "section 2", "counts are taken in binary floating point",
               Variation(removed=lambda _, k: ceil(float(p) * k / (1 - float(alpha))),
                         outliers=lambda e: ceil(float(alpha) * e.shape[0])))  # fmt: skip
        yield ("count-in-binary", "section 2", "the count of columns is taken in binary "
               "floating point",
               Variation(removed=lambda _, k: ceil(float(p) * k / (1 - float(alpha)))))  # fmt: skip
        yield ("structured-count", "section 2", "the count of columns leaves out 1/(1 − α)",
               Variation(removed=lambda _, k: ceil(p * k)))  # fmt: skip
        yield ("count-off-by-one", "section 2", "the count of columns is rounded down",
               Variation(removed=lambda _, k: floor(p * k / (1 - alpha))))  # fmt: skip
    else:
        yield ("count-in-binary", "section 2", "counts are taken in binary floating point",
               Variation(removed=lambda _, k: int(float(p) * k)))  # fmt: skip
        yield ("count-in-binary", "section 2", "the count of kept weights is taken in binary "
               "floating point",
               Variation(removed=lambda _, k: k - ceil((1 - float(p)) * k)))  # fmt: skip
        yield ("count-rounded-up", "section 2", "the count is rounded up",
               Variation(removed=lambda _, k: ceil(p * k)))  # fmt: skip
        yield ("count-rounded-up", "section 2", "the count is rounded to the nearest number",
               Variation(removed=lambda _, k: round(p * k)))  # fmt: skip
    for more, word in ((1, "many"), (-1, "few")):
        yield ("count-off-by-one", "section 2", f"one weight or column too {word} goes",
               Variation(removed=lambda e, k, more=more: removed(e, k) + more))  # type: ignore[misc]  # fmt: skip


def _of_outliers(e: Evidence) -> Iterator[Listed]:
    if isinstance(e.pattern, Unstructured):
        return
    count = e.outlier_count
    alpha = e.pattern.outlier_rows
    yield ("count-in-binary", "section 2", "the count of outlier rows is taken in binary "
           "floating point",
           Variation(outliers=lambda e: ceil(float(alpha) * e.shape[0])))  # fmt: skip
    yield ("outlier-rows-one-too-many", "section 2", "one outlier row too many",
           Variation(outliers=lambda _: count + 1))  # fmt: skip
    if not count:
        return
    for key, text, spared in (
        ("outlier-rows-by-norms", "Σ_j W_ij² G_jj instead of h_i = ‖W_i X‖²",
         lambda e: np.sum(e.weight**2 * np.diag(e.gram), axis=1)),
        ("outlier-rows-with-damping", "(W H Wᵀ)_ii, with the damping: h_i is (W G Wᵀ)_ii",
         lambda e: e.h + mean_damping(e) * np.sum(e.weight**2, axis=1)),
    ):  # fmt: skip
        yield key, "section 2", f"outlier rows are chosen by {text}", Variation(spared=spared)
    if e.precision == "float64":
        yield ("outlier-rows-in-float32", "section 2", "outlier rows are chosen in float32",
               Variation(spared=lambda e: rounded(e.h, "float32")))  # fmt: skip
    yield ("outlier-rows-ties", "section 2", "ties of outlier rows go to the higher index",
           Variation(row_ties="high"))  # fmt: skip
    yield ("outlier-rows-smallest", "section 2", "the rows of the smallest h are spared",
           Variation(spared=lambda e: -e.h))  # fmt: skip
    yield ("outlier-rows-rounded-down", "section 2", "⌊αc⌋ outlier rows instead of ⌈αc⌉",
           Variation(outliers=lambda e: floor(alpha * e.shape[0])))  # fmt: skip
    yield "no-outlier-rows", "section 2", "no row is spared", Variation(outliers=lambda _: 0)


def _of_padding(e: Evidence) -> Iterator[Suspect]:
    """Layers that are padded with zeros, which have the smallest scores and so go first."""
    c, b = e.shape
    if b % e.block_size:
        yield from _padded(e, "columns-padded", "columns are padded with zeros to whole blocks",
                           (c, -(-b // e.block_size) * e.block_size))  # fmt: skip
    if isinstance(e.pattern, Unstructured) or e.outlier_count:
        for multiple in PADDED:
            if c % multiple:
                yield from _padded(
                    e, "rows-padded", f"rows are padded with zeros to a multiple of {multiple}",
                    (-(-c // multiple) * multiple, b),
                )  # fmt: skip


def dead_columns_extra(
    e: Evidence, prune: Callable[[Evidence, Callable[[Score], Score]], tuple[Array, Mask]]
) -> Iterator[Suspect]:
    """Dead columns are zeroed, and the budget is spent on the others.

    prune  runs the method with a score that is changed by the function it gets
    """
    dead = np.diag(e.gram) == 0
    if not dead.any():
        return

    def live(score: Score) -> Score:
        return lambda W, norms, pivots: np.where(norms == 0, np.inf, score(W, norms, pivots))

    def make() -> tuple[Array, Mask]:
        weights, mask = prune(replace(e, mask=e.mask & ~dead), live)
        zeroed = dead & e.mask.any(axis=1, keepdims=True)
        return np.where(zeroed, 0.0, weights), (mask & ~dead) | zeroed

    yield Suspect("dead-columns-extra", "section 1", "dead columns are removed outside of the "
                   "budget, which is spent on the others", make)  # fmt: skip


def _padded(e: Evidence, key: str, text: str, shape: tuple[int, int]) -> Iterator[Suspect]:
    (c, b), (rows, columns) = e.shape, shape
    grown = replace(
        e,
        weight=np.pad(e.weight, ((0, rows - c), (0, columns - b))),
        given_gram=np.pad(e.given_gram, (0, columns - b)),
    )
    given = mean_damping(e)
    among = b if isinstance(e.pattern, Structured) else c * b
    as_given = Variation(removed=lambda *_: removed(e, among), outliers=lambda _: e.outlier_count)
    for how, variation in (
        ("which count as weights of the layer", Variation()),
        ("which take the place of weights that should go", as_given),
    ):
        for damping, more in ((given, ""), (None, ", also in the mean of λ")):
            if damping is None and columns == b:
                continue
            v = variation if damping is None else replace(
                variation, damping=lambda *_, lam=damping: lam)  # fmt: skip

            def make(v: Variation = v) -> tuple[Array, Mask]:
                weights, mask = simulate(grown, v)
                return weights[:c, :b], mask[:c, :b]

            yield Suspect(key, "section 2", f"{text}, {how}{more}", make)
