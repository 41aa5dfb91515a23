"""Known mistakes of Thanos, each with the output that it gives."""

from collections.abc import Iterator
from math import ceil, floor

import numpy as np

from reference.patterns import SemiStructured, Structured, Unstructured
from verification.diagnosis.evidence import Array, Evidence
from verification.diagnosis.simulation import Score, Variation, mean_damping, removed, simulate
from verification.diagnosis.suspect import Suspect

_Listed = tuple[str, str, str, Variation]


def of_thanos(e: Evidence) -> Iterator[Suspect]:
    """The listed mistakes; those with a fitted number are functions of their own below."""
    for theme in (_of_masks, _of_counts, _of_outliers, _of_updates, _of_damping):
        for key, rule, text, variation in theme(e):
            yield Suspect(key, rule, text, lambda v=variation: simulate(e, v))  # type: ignore[misc]


def _of_masks(e: Evidence) -> Iterator[_Listed]:
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
    lam = mean_damping(e)
    scores: tuple[tuple[str, str, Score], ...] = (
        ("mask-by-magnitude", "|W|, without the norms of the inputs",
         lambda W, norms, pivots: np.abs(W)),
        ("norm-not-rooted", "|W| G_jj: the norm is the root of G_jj",
         lambda W, norms, pivots: np.abs(W) * norms**2),
        ("mask-by-obs", "W² / ((H_JJ)⁻¹)_jj instead of |W| ‖X_j‖",
         lambda W, norms, pivots: np.abs(W) / np.sqrt(pivots)),
        ("norms-with-damping", "norms that were read off H, with its damping",
         lambda W, norms, pivots: np.abs(W) * np.sqrt(norms**2 + lam)),
        ("score-with-sign", "W ‖X_j‖ with its sign", lambda W, norms, pivots: W * norms),
        ("largest-go", "the largest scores instead of the smallest",
         lambda W, norms, pivots: -np.abs(W) * norms),
    )  # fmt: skip
    for key, what, score in scores:
        yield key, "(2)", f"the mask is chosen by {what}", Variation(score=score)
    if isinstance(e.pattern, Structured):
        yield ("structured-over-all-rows", "(5)", "columns are scored over all rows, "
               "outlier rows included", Variation(score_rows="all"))  # fmt: skip
        yield ("structured-unsquared", "(5)", "columns are scored by Σ S instead of Σ S²",
               Variation(power=1))  # fmt: skip


def _of_counts(e: Evidence) -> Iterator[_Listed]:
    if isinstance(e.pattern, SemiStructured):
        n, m = e.pattern.n, e.pattern.m
        yield ("n-kept", "section 2", f"{n} of {m} are kept: n counts the zeros",
               Variation(zeros=m - n))  # fmt: skip
        for shift in range(1, m):
            yield ("group-misaligned", "section 2", f"groups begin {shift} columns late",
                   Variation(shift=shift))  # fmt: skip
        return
    p = e.pattern.sparsity
    if isinstance(e.pattern, Structured):
        alpha = e.pattern.outlier_rows
        yield ("structured-count", "section 2", "the count of columns leaves out 1/(1 − α)",
               Variation(removed=lambda _, k: ceil(p * k)))  # fmt: skip
        yield ("count-off-by-one", "section 2", "the count of columns is rounded down",
               Variation(removed=lambda _, k: floor(p * k / (1 - alpha))))  # fmt: skip
    else:
        yield ("count-in-binary", "section 2", "the count is taken in binary floating point",
               Variation(removed=lambda _, k: int(float(p) * k)))  # fmt: skip
        yield ("count-rounded-up", "section 2", "the count is rounded up",
               Variation(removed=lambda _, k: ceil(p * k)))  # fmt: skip
    for more, word in ((1, "many"), (-1, "few")):
        yield ("count-off-by-one", "section 2", f"one weight or column too {word} goes",
               Variation(removed=lambda e, k, more=more: removed(e, k) + more))  # type: ignore[misc]  # fmt: skip


def _of_outliers(e: Evidence) -> Iterator[_Listed]:
    if isinstance(e.pattern, Unstructured):
        return
    count = e.outlier_count
    alpha = e.pattern.outlier_rows
    yield ("outlier-rows-one-too-many", "section 2", "one outlier row too many",
           Variation(outliers=lambda _: count + 1))  # fmt: skip
    if count:
        yield ("outlier-rows-by-norms", "section 2", "outlier rows are chosen by Σ_j W_ij² G_jj "
               "instead of h_i = ‖W_i X‖²",
               Variation(spared=lambda e: np.asarray(e.weight**2 @ np.diag(e.gram))))  # fmt: skip
        yield ("outlier-rows-smallest", "section 2", "the rows of the smallest h are spared",
               Variation(spared=lambda e: -e.h))  # fmt: skip
        yield ("outlier-rows-rounded-down", "section 2", "⌊αc⌋ outlier rows instead of ⌈αc⌉",
               Variation(outliers=lambda e: floor(alpha * e.shape[0])))  # fmt: skip
        yield ("no-outlier-rows", "section 2", "no row is spared",
               Variation(outliers=lambda _: 0))  # fmt: skip


def _of_updates(e: Evidence) -> Iterator[_Listed]:
    for key, update, text in (
        ("stale-inverse", "stale", "R is cut out of H⁻¹: of (H_JJ)⁻¹ only the free columns count"),
        ("sequential-update", "sequential", "columns of a block go one after another, not jointly"),
        ("only-zeroed", "none", "kept weights make up for nothing"),
        ("frozen-columns-moved", "all", "columns before the block move once more"),
        ("frozen-columns-moved", "anew", "every block solves anew for all kept weights"),
        ("wrong-triangle", "triangle", "R is U Uᵀ instead of Uᵀ U: the wrong triangle of a factor"),
        ("transposed-update", "transposed", "R_kJ is U_kk U_kJ: a transpose is missing"),
    ):
        yield key, "(6)", text, Variation(update=update)
    b = e.shape[1]
    if isinstance(e.pattern, Structured) and e.block_size < b:
        yield ("wrong-block-size", "(6)", "structured pruning goes block by block: it is one block",
               Variation(update="blockwise"))  # fmt: skip
    for width in dict.fromkeys((2 * e.width, e.width // 2, b, e.block_size, 128, 1)):
        width = min(max(width // e.group, 1) * e.group, b)
        if width != e.width:
            yield ("wrong-block-size", "section 3", f"blocks are {width} columns wide",
                   Variation(width=lambda _, width=width: width))  # type: ignore[misc]  # fmt: skip


def _of_damping(e: Evidence) -> Iterator[_Listed]:
    diagonal = np.diag(e.gram)
    live = diagonal[diagonal > 0] if diagonal.any() else diagonal
    as_one = np.where(diagonal == 0, 1.0, diagonal)
    lam = mean_damping(e)
    for key, what, value in (
        ("no-damping", "0: the damping is missing", 0.0),
        ("damping-mean-of-live-columns", "of a mean over live columns", e.damping * live.mean()),
        ("damping-off", "half of what it should be", lam / 2),
        ("damping-off", "twice what it should be", lam * 2),
        ("damping-off", "1 % too large", lam * 1.01),
        ("damping-off", "γ times the trace, not the mean", lam * len(diagonal)),
        ("damping-off", "γ times the largest G_jj, not their mean", e.damping * diagonal.max()),
        ("damping-off", "γ itself", e.damping),
        ("damping-off", "of a mean in which dead columns count as 1", e.damping * as_one.mean()),
    ):
        if value != lam:
            yield (key, "section 1", f"λ is {what}",
                   Variation(damping=lambda _, value=float(value): value))  # type: ignore[misc]  # fmt: skip


def with_fitted_step(e: Evidence, right: Array) -> Suspect | None:
    """Moves multiplied by the factor that fits the first block best; None if no factor does."""
    J = slice(0, e.width)
    kept = ~e.mask[:, J]
    wanted = (right - e.weight)[:, J][kept]
    found = (e.pruned - e.weight)[:, J][kept]
    if not wanted.any() or not np.isfinite(found).all():
        return None
    step = float(wanted @ found / (wanted @ wanted))
    variation = Variation(step=step)
    return Suspect("half-step", "(6)", f"the moves are {step:.4g} times as long as they should be",
                   lambda: simulate(e, variation))  # fmt: skip


def with_damping(e: Evidence, factor: float) -> Suspect:
    """The mistake of a damping that is `factor` times too large."""
    variation = times_damping(factor)
    return Suspect("damping-off", "section 1", f"λ is {factor:.3g} times what it should be",
                   lambda: simulate(e, variation))  # fmt: skip


def times_damping(factor: float) -> Variation:
    """Thanos with λ multiplied by a factor, all else right."""
    return Variation(damping=lambda e: factor * mean_damping(e))
