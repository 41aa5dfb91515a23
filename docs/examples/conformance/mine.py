"""A Thanos of thirty lines, as a stranger would write it: unstructured only, with one mistake."""

from fractions import Fraction

import numpy as np
from scipy.linalg import cho_factor, cho_solve


def prune(weight, gram, pattern, block_size, damping, adaptive=False):
    """Prune one layer; the mistake is the default of `adaptive`."""
    sparsity = Fraction(pattern.removeprefix("unstructured:"))  # the decimal, exactly
    rows, columns = weight.shape
    mean = np.mean(np.diag(gram))
    hessian = (gram + gram.T) / 2 + (damping * mean if mean else 1.0) * np.eye(columns)
    norms = np.sqrt(np.diag(gram))
    pruned, mask = weight.copy(), np.zeros(weight.shape, dtype=bool)
    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        scored = pruned if adaptive else weight  # the block needs the weights as they are now
        scores = np.abs(scored[:, start:]) * norms[start:]
        left = int(sparsity * rows * columns) - int(mask.sum())
        chosen = np.zeros(scores.size, dtype=bool)
        chosen[np.argsort(scores, axis=None, kind="stable")[:left]] = True
        mask[:, start:stop] = chosen.reshape(scores.shape)[:, : stop - start]
        factor = cho_factor(hessian[start:, start:], lower=True)
        inverse = cho_solve(factor, np.eye(columns - start))
        for row, picks in enumerate(mask[:, start:stop]):
            q = np.flatnonzero(picks)
            if len(q):
                multipliers = np.linalg.solve(inverse[np.ix_(q, q)], pruned[row, start + q])
                pruned[row, start:] -= multipliers @ inverse[q]
                pruned[row, start + q] = 0.0
    return pruned, mask


prune.patterns = ["unstructured"]


def fixed(weight, gram, pattern, block_size, damping):
    """The same without the mistake."""
    return prune(weight, gram, pattern, block_size, damping, adaptive=True)


fixed.patterns = ["unstructured"]
