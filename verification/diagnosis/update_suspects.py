"""Known mistakes of Thanos in how kept weights move, each with the output that it gives."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from reference.patterns import Structured
from verification.diagnosis.evidence import SAME, Array, Evidence
from verification.diagnosis.simulation import Block, Variation, blocks_of, mean_damping, simulate
from verification.diagnosis.suspect import Suspect

Listed: TypeAlias = tuple[str, str, str, Variation]  # key, rule, text, what differs

# Types in which weights may lie between blocks although the result has another.
COARSER = {"float64": ("float32", "float16", "bfloat16"), "float32": ("float16", "bfloat16")}


def of_updates(e: Evidence, right: Array) -> Iterator[Suspect]:
    """Listed mistakes, and those with one fitted number. `right` is the right pruned weight."""
    for theme in (_of_formulas, _of_blocks, _of_damping, _of_gram, _of_storage):
        for key, rule, text, variation in theme(e):
            yield Suspect(key, rule, text, lambda v=variation: simulate(e, v))  # type: ignore[misc]
    yield from _of_rows(e, right)
    yield from _fitted_step(e, right)


def _of_formulas(e: Evidence) -> Iterator[Listed]:
    for key, update, text in (
        ("stale-inverse", "stale", "R is cut out of H⁻¹: of (H_JJ)⁻¹ only the free columns count"),
        ("sequential-update", "sequential", "columns of a block go one after another, not jointly"),
        ("only-zeroed", "none", "kept weights make up for nothing"),
        ("frozen-columns-moved", "all", "columns before the block move once more"),
        ("frozen-columns-moved", "anew", "every block solves anew for all kept weights"),
        ("update-within-block", "inside", "columns behind the block do not move"),
        ("update-within-block", "alone", "a block is solved without the columns behind it, which "
         "do not move"),
        ("wrong-triangle", "triangle", "R is U Uᵀ instead of Uᵀ U: the wrong triangle of a factor"),
        ("transposed-update", "transposed", "R_kJ is U_kk U_kJ: a transpose is missing"),
    ):  # fmt: skip
        yield key, "(6)", text, Variation(update=update)


def _of_blocks(e: Evidence) -> Iterator[Listed]:
    b = e.shape[1]
    if isinstance(e.pattern, Structured):
        if e.block_size < b:
            yield ("wrong-block-size", "(6)", "structured pruning goes block by block: it is one "
                   "block", Variation(update="blockwise"))  # fmt: skip
        return
    for width, words in (
        (2 * e.block_size, "2 B columns wide"),
        (e.block_size // 2, "B / 2 columns wide"),
        (b, "as wide as the layer"),
        (128, "128 columns wide"),
        (1, "1 column wide"),
    ):
        width = min(max(width // e.group, 1) * e.group, b)
        if width != e.width:
            yield ("wrong-block-size", "section 3", f"blocks are {words}",
                   Variation(blocks=blocks_of(width)))  # fmt: skip
    if b % e.block_size:
        yield ("last-block-left-out", "section 3", "the last block, narrower than B, is left out",
               Variation(blocks=lambda e: blocks_of(e.width)(e)[: b // e.block_size]))  # fmt: skip
    if b % e.width:
        yield ("last-block-shifted", "section 3", "the last block is [b − B, b): it begins inside "
               "of the block before it", Variation(blocks=_shifted))  # fmt: skip


def _shifted(e: Evidence) -> list[Block]:
    b = e.shape[1]
    return [*blocks_of(e.width)(e)[:-1], (b - e.width, b)]


def _of_damping(e: Evidence) -> Iterator[Listed]:
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
                   Variation(damping=lambda *_, value=float(value): value))  # fmt: skip
    if e.width < e.shape[1]:
        for what, behind in (("remaining columns", True), ("block's columns", False)):
            yield ("damping-per-block", "section 1", f"λ is taken anew for every block, of the "
                   f"mean over the {what}",
                   Variation(damping=_damping_of_columns(behind)))  # fmt: skip


def _damping_of_columns(behind: bool) -> Callable[[Evidence, Block], float]:
    """λ from the diagonal of a block's columns, or from all that remain."""

    def damping(e: Evidence, block: Block) -> float:
        mean = float(np.diag(e.gram)[block[0] : None if behind else block[1]].mean())
        return e.damping * mean if mean > 0 else 1.0

    return damping


def _of_gram(e: Evidence) -> Iterator[Listed]:
    G = e.given_gram
    if (G == G.T).all():
        return
    lower, upper = np.tril(G) + np.tril(G, -1).T, np.triu(G) + np.triu(G, 1).T
    for what, gram in (
        ("the lower triangle of G is read alone", lower),
        ("the upper triangle of G is read alone, or G is used as it is", upper),
        ("G is used as it is", G),
        ("G is used as it is, transposed", G.T),
    ):
        yield ("gram-not-symmetrised", "section 2", f"{what} instead of (G + Gᵀ) / 2",
               Variation(gram=lambda _, gram=gram: gram))  # type: ignore[misc]  # fmt: skip


def _of_storage(e: Evidence) -> Iterator[Listed]:
    if e.width == e.shape[1]:
        return
    for kind in COARSER.get(e.precision, (e.precision,)):
        yield ("weights-stored-between-blocks", "section 4", f"weights are rounded to {kind} after "
               "every block, not once at the end", Variation(stored=kind))  # fmt: skip


def _of_rows(e: Evidence, right: Array) -> Iterator[Suspect]:
    """Rows whose kept weights stand where they stood, although they should have moved."""
    kept = ~e.mask
    near = 0.1 * SAME[e.precision] * e.sizes
    with np.errstate(invalid="ignore"):
        stood = ((np.abs(e.pruned - e.weight) <= near) | e.mask).all(axis=1)
        moves = ((np.abs(right - e.weight) > near) & kept).any(axis=1)
    rows = tuple(int(i) for i in np.flatnonzero(stood & moves & e.mask.any(axis=1)))
    if rows and (moves & ~stood).any():
        which = f"row {rows[0]} is" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]} are"
        yield Suspect("rows-not-solved", "(6)", f"{which} zeroed on the mask and not solved for",
                      lambda: simulate(e, Variation(unsolved=rows)), kind="fitted")  # fmt: skip


def _fitted_step(e: Evidence, right: Array) -> Iterator[Suspect]:
    """Moves multiplied by the factor that fits the first block best, if there is one."""
    J = slice(0, e.width)
    kept = ~e.mask[:, J]
    wanted = ((right - e.weight) / e.sizes)[:, J][kept]
    found = ((e.pruned - e.weight) / e.sizes)[:, J][kept]
    if not wanted.any() or not np.isfinite(found).all():
        return
    step = float(wanted @ found / (wanted @ wanted))
    yield Suspect("half-step", "(6)", f"the moves are {step:.4g} times as long as they should be",
                  lambda: simulate(e, Variation(step=step)), "fitted", step)  # fmt: skip


def with_damping(e: Evidence, factor: float) -> Suspect:
    """The mistake of a damping that is `factor` times too large."""
    return Suspect("damping-off", "section 1", f"λ is {factor:.3g} times what it should be",
                   lambda: simulate(e, times_damping(factor)), "fitted", factor)  # fmt: skip


def times_damping(factor: float) -> Variation:
    """Thanos with λ multiplied by a factor, all else right."""
    return Variation(damping=lambda e, _: factor * mean_damping(e))
