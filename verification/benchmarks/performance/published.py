"""SparseGPT with the operations of its authors' published code, as the base of the speed limits.

Time in units of matrix products depends on the machine: the faster it multiplies, the more units
its memory traffic costs. The limits are therefore shares of the time of the published procedure, on
the same machine in the same run. The original is tied to CUDA and to a layer object, so it is
written anew here, operation by operation: three Cholesky calls for the inverse's factor, a sort
for each block's threshold, a rank-one update of the rest of the block for each column, one product
for the columns behind the block, and the sum of the losses.
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
