"""Every choice that a mask consists of: which values, how many of them. Spec sections 3 and 6."""

from collections.abc import Iterator

import numpy as np

from reference.patterns import SemiStructured, Structured, Unstructured, column_blocks
from verification.certificate.case import Array, Case, Mask
from verification.certificate.contest import contest
from verification.certificate.rebuild import at_every_block, at_own_block
from verification.certificate.rules import Rules
from verification.certificate.scores import scores
from verification.certificate.selection import Selection

JUDGED = 2**22  # weights: their scores, margins and bounds then take 32 MB each


def selections(
    case: Case, rules: Rules, rows: np.ndarray, mask: Mask, given: bool
) -> Iterator[Selection]:
    """All choices, left to right.

    A mask that is not given is read up to the columns that the next choice decides.
    """
    if rules.original_scores:
        yield from _from_original(case, rules, rows)
    elif rules.over_all_columns:
        for rebuilt in at_every_block(case, rules.block):
            yield contest(case, rules, rebuilt, mask, given)
    else:
        weights, spread = at_own_block(case, rules.mask_width)
        for j1, j2 in column_blocks(rules.columns, _width_judged(rules, len(case.W))):
            parts = [
                scores(case, rules, k1, weights[:, k1:k2], spread[:, k1:k2] if k1 else None)
                for k1, k2 in _own_blocks(rules, j1, j2)
            ]
            S, margins = (np.hstack(part) for part in zip(*parts, strict=True))
            yield _own(rules, rows, (j1, j2), S[rows], margins[rows], case.u)


def _width_judged(rules: Rules, rows: int) -> int:
    """Columns that are judged at one time, in whole blocks: for groups of n:m it may be several.

    One group of all rows is too little work for a step, all columns take too much memory.
    """
    width = rules.mask_width
    several = max(1, JUDGED // (rows * width))
    return width * several if isinstance(rules.pattern, SemiStructured) else width


def _own_blocks(rules: Rules, j1: int, j2: int) -> Iterator[tuple[int, int]]:
    """The blocks that masks are chosen in, of columns [j1, j2)."""
    return ((j1 + k1, j1 + k2) for k1, k2 in column_blocks(j2 - j1, rules.mask_width))


def _from_original(case: Case, rules: Rules, rows: np.ndarray) -> Iterator[Selection]:
    """Masks that follow from W alone; block by block only where the counts are."""
    S, margins = scores(case, rules, 0, case.W, None)
    whole = (0, rules.columns)
    if rules.method == "wanda" and isinstance(rules.pattern, Unstructured):
        count = rules.pattern.removed(rules.columns)
        yield Selection(whole, rows, S, margins, rules.columns, count, rules.columns)
        return
    by_block = rules.ablation.residual == "local" and isinstance(rules.pattern, Unstructured)
    for j1, j2 in column_blocks(rules.columns, rules.block) if by_block else [whole]:
        J = slice(j1, j2)
        yield _own(rules, rows, (j1, j2), S[rows, J], margins[rows, J], case.u)


def _own(
    rules: Rules, rows: np.ndarray, block: tuple[int, int], S: Array, margins: Array, u: float
) -> Selection:
    """A choice among the block's own columns only."""
    j1, j2 = block
    pattern = rules.pattern
    if isinstance(pattern, SemiStructured):
        return Selection(block, rows, S, margins, pattern.m, pattern.n, j2 - j1)
    if isinstance(pattern, Unstructured):
        count = rules.block_count(len(rows), j1, j2)
        return Selection(block, rows, S, margins, S.size, count, j2 - j1)
    if rules.method == "thanos":
        count = pattern.removed(rules.columns)
    else:
        count = rules.block_count(len(rows), j1, j2)
    value, margin = _column_sums(rules, S, margins, u)
    return Selection(block, rows, value, margin, j2 - j1, count, j2 - j1)


def _column_sums(rules: Rules, S: Array, margins: Array, u: float) -> tuple[Array, Array]:
    """One value a column, (1, width): Σ S² for Thanos (5) and SparseGPT, Σ S for the others.

    Sums and means have the same order. Adding up n terms in any order makes a relative error of
    at most n u.
    """
    assert isinstance(rules.pattern, Structured)
    if rules.moves:
        margins = 2 * S * margins + margins**2
        S = S**2
    value = S.sum(axis=0, keepdims=True)
    return value, margins.sum(axis=0, keepdims=True) + len(S) * u * value
