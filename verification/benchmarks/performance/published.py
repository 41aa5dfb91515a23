"""SparseGPT and Thanos with the operations of their authors' published code, to compare with.

Time in units of matrix products depends on the machine: the faster it multiplies, the more units
its memory traffic costs. The limits are therefore shares of the time of the published procedure, on
the same machine in the same run. The original is tied to CUDA and to a layer object, so it is
written anew here, operation by operation: three Cholesky calls for the inverse's factor, a sort
for each block's threshold, a rank-one update of the rest of the block for each column, one product
for the columns behind the block, and the sum of the losses.

So is Thanos: H inverted anew for every block, the rows of the inverse gathered for every row's
picks, systems padded to the size of the largest, and a batch of 64 rows at a time. It waits for the
device twice a block. Masks are the specification's, because those of the published code have a few
weights more or less (docs/differences.md).
"""

import torch
from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Unstructured


def published_sparsegpt(
    weight: Tensor, gram: Tensor, pattern: Pattern, block_size: int = 128, damping: float = 0.01
) -> Tensor:
    """The pruned weight, (c, b); for unstructured and n:m patterns. Inputs stay as they are."""
    W, H = weight.clone(), gram.clone()
    dead = H.diagonal() == 0
    H.diagonal()[dead] = 1
    W[:, dead] = 0
    H.diagonal().add_(damping * H.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(inverse, upper=True)
    losses = torch.zeros(len(W), device=W.device)
    for start in range(0, W.shape[1], block_size):
        block = slice(start, min(start + block_size, W.shape[1]))
        kept, errors, lost = _block(W[:, block].clone(), U[block, block], pattern)
        W[:, block] = kept
        losses += lost.sum(dim=1) / 2
        W[:, block.stop :] -= errors @ U[block, block.stop :]
    return W


def _block(W: Tensor, U: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor, Tensor]:
    """The block's kept weights, its scaled errors, and the losses of its weights."""
    kept, errors, lost = torch.zeros_like(W), torch.zeros_like(W), torch.zeros_like(W)
    picks = torch.zeros_like(W, dtype=torch.bool)
    pivots = U.diagonal()
    if isinstance(pattern, Unstructured):
        score = W**2 / pivots**2
        picks = score <= score.flatten().sort().values[int(score.numel() * float(pattern.sparsity))]
    for j in range(W.shape[1]):
        if isinstance(pattern, SemiStructured) and j % pattern.m == 0:
            group = slice(j, j + pattern.m)
            score = W[:, group] ** 2 / pivots[group] ** 2
            least = score.topk(pattern.n, dim=1, largest=False).indices
            picks.scatter_(1, j + least, True)
        column = W[:, j]
        rest = column.clone()
        rest[picks[:, j]] = 0
        kept[:, j] = rest
        lost[:, j] = (column - rest) ** 2 / pivots[j] ** 2
        error = (column - rest) / pivots[j]
        W[:, j:] -= error[:, None] @ U[j, None, j:]
        errors[:, j] = error
    return kept, errors, lost


ROWS = 64  # of Thanos' systems that are solved at one time


def published_thanos(
    weight: Tensor, gram: Tensor, pattern: Pattern, block_size: int = 128, damping: float = 0.01
) -> Tensor:
    """The pruned weight, (c, b); for unstructured and n:m patterns. Inputs stay as they are."""
    W, H = weight.clone(), gram.clone()
    norms = H.diagonal().sqrt()
    H.diagonal().add_(damping * H.diagonal().mean())
    left = pattern.removed(W.numel()) if isinstance(pattern, Unstructured) else 0
    for start in range(0, W.shape[1], block_size):
        width = min(block_size, W.shape[1] - start)
        score = W[:, start:].abs() * norms[start:]
        picks = _picks(score, width, left, pattern)
        left -= int(picks.sum())
        _remove(W[:, start:], torch.linalg.inv(H[start:, start:]), picks)
    return W


def _picks(score: Tensor, width: int, left: int, pattern: Pattern) -> Tensor:
    """The mask of the first `width` columns, from the scores of all that is left."""
    picks = torch.zeros_like(score, dtype=torch.bool)
    if isinstance(pattern, SemiStructured):
        groups = score[:, :width].reshape(len(score), -1, pattern.m)
        least = groups.topk(pattern.n, dim=2, largest=False).indices
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(2, least, True).flatten(1)
    picks.view(-1)[score.flatten().topk(left, largest=False).indices] = True
    return picks[:, :width]


def _remove(W: Tensor, inverse: Tensor, picks: Tensor) -> None:
    """Remove the picks of the first columns of W, and move all others to make up for them."""
    counts = picks.sum(dim=1)
    most = int(counts.max())
    if not most:
        return
    valid = torch.arange(most, device=W.device) < counts[:, None]  # (c, most)
    padded = torch.zeros(valid.shape, dtype=torch.int64, device=W.device)
    padded.masked_scatter_(valid, picks.nonzero()[:, 1])
    right = W.gather(1, padded) * valid
    identity = torch.eye(most, dtype=W.dtype, device=W.device)
    for start in range(0, len(W), ROWS):
        rows = slice(start, start + ROWS)
        own, inside = padded[rows], valid[rows]
        R = inverse[own]  # (rows, most, columns left)
        system = R.gather(2, own[:, None, :].expand(-1, most, -1))
        system = torch.where(inside[:, :, None] & inside[:, None, :], system, identity)
        multipliers = torch.linalg.solve(system, right[rows])
        W[rows] -= (multipliers[:, None, :] @ R)[:, 0]
    W[:, : picks.shape[1]][picks] = 0
