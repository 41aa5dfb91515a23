"""Mistakes that are seen without running them: outputs that are right but for one detail."""

from collections.abc import Callable, Iterator

import numpy as np

from reference.patterns import column_blocks
from verification.diagnosis.evidence import Array, Evidence, Mask
from verification.diagnosis.simulation import mean_damping
from verification.diagnosis.suspect import Suspect

LOSSES = 1e-6  # relative error of losses that are taken for equal; float32 code is off by less


def of_details(e: Evidence, right: Array, mask: Mask) -> Iterator[Suspect]:
    """Details of the weights and the mask. `right` and `mask` are the right output."""
    zeroed = np.where(e.mask, 0.0, e.pruned)
    bits = (e.pruned != 0) | np.signbit(e.pruned)
    if (e.mask & bits).any() and _same(e, zeroed, right, mask):
        row, column = np.argwhere(e.mask & bits)[0]
        value = float(e.pruned[row, column])
        yield _as_seen(e, "zeros-not-exact", "section 2",
                       f"removed weights are not +0.0: {value!r} at row {row}, column {column}",
                       )  # fmt: skip
    changed = ~mask.any(axis=1) & (e.pruned != e.weight).any(axis=1)
    if e.outlier_count and changed.any():
        restored = np.where(changed[:, None], e.weight, e.pruned)
        if _same(e, restored, right, mask):
            yield _as_seen(e, "outlier-row-changed", "section 2",
                           f"outlier row {int(np.argmax(changed))} is not bit for bit what it was",
                           )  # fmt: skip
    zero = e.pruned == 0
    if (~mask).any() and (e.mask == ~mask).all() and zero[mask].all() and not zero.all():
        yield _as_seen(e, "mask-inverted", "section 2", "the mask is True where weights stay")


def _same(e: Evidence, weights: Array, right: Array, mask: Mask) -> bool:
    if (e.mask != mask).any() or not np.isfinite(weights).all():
        return False
    apart = np.abs(weights - right) / e.sizes
    return bool(np.max(apart) <= 1e-6) or e.same_weights(np.where(e.mask, e.pruned, right))


def _as_seen(e: Evidence, key: str, rule: str, text: str) -> Suspect:
    """A mistake of which the output itself is the evidence."""
    return Suspect(key, rule, text, lambda: (e.pruned, e.mask), kind="seen")


def of_losses(e: Evidence) -> Iterator[Suspect]:
    """What block losses of right weights may be instead of ‖E_k‖²."""
    losses = e.losses
    if losses is None:
        return
    if not np.isfinite(losses).all():
        block = int(np.argmax(~np.isfinite(losses)))
        yield _as_seen(e, "losses-not-finite", "section 4",
                       f"the loss of block {block} is {losses[block]}; weights and mask are right",
                       )  # fmt: skip
        return
    blocks = list(column_blocks(e.shape[1], e.width))
    if len(losses) != len(blocks):
        yield _as_seen(e, "losses-of-other-blocks", "section 4", f"{len(losses)} losses of blocks "
                       f"are reported, for {len(blocks)} blocks")  # fmt: skip
        return
    with np.errstate(all="ignore"):
        known = _wrong_losses(e)
        for key, text, make in known:
            if np.allclose(losses, make(), rtol=LOSSES, atol=0):
                yield _as_seen(e, key, "section 4", text)


def _wrong_losses(e: Evidence) -> Iterator[tuple[str, str, Callable[[], Array]]]:
    D, lam = e.pruned - e.weight, mean_damping(e)
    starts = [j1 for j1, _ in column_blocks(e.shape[1], e.width)]

    def of_blocks(columns: Array) -> Array:
        return np.asarray(np.add.reduceat(columns, starts))

    def right() -> Array:
        H = e.gram + lam * np.eye(e.shape[1])
        transposed = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1]  # Mᵀ
        return of_blocks(np.sum((D @ transposed) ** 2, axis=0))

    yield ("losses-without-damping", "losses are those of G, without the damping",
           lambda: of_blocks(np.sum((D @ e.gram) * D, axis=0)))  # fmt: skip
    yield ("losses-of-columns", "losses are shares of tr(D H Dᵀ) by column instead of ‖E_k‖²",
           lambda: of_blocks(np.sum((D @ e.gram + lam * D) * D, axis=0)))  # fmt: skip
    yield ("losses-scaled", "losses are half of what they should be", lambda: right() / 2)
    yield ("losses-scaled", "losses are twice what they should be", lambda: right() * 2)
    yield ("losses-rooted", "losses are norms: they are to be squared", lambda: np.sqrt(right()))
    yield ("losses-cumulated", "losses are sums over all blocks so far", lambda: right().cumsum())
