"""SparseGPT as its authors published it: `SparseGPT.fasterprune` of `sparsegpt.py`.

Their class gets a layer, and the Gram matrix in the place of the one that it sums up itself. It
runs on the CPU: `torch.cuda.synchronize`, which waits for a GPU, does nothing. Their code computes
in float32 throughout. The mask is observed while they set weights to zero.
"""

from typing import Any

import torch
from sparsegpt import SparseGPT

from verification.scoreboard.adapters.layer import array, float32, hessian, linear, options
from verification.scoreboard.adapters.observed import Zeroed

torch.cuda.synchronize = lambda *_: None


@float32("unstructured", "n:m")
def prune(
    weight: Any,
    gram: Any,
    pattern: str,
    block_size: int,
    damping: float,
    *,
    storage: str | None = None,
) -> tuple[Any, Any]:
    """Prune with the arguments of their command line: sparsity, or zeros in a group."""
    asked, layer = options(pattern), linear(weight, storage)
    run = SparseGPT(layer)
    run.H = hessian(gram)
    with Zeroed(len(weight)) as zeroed:
        run.fasterprune(
            asked.sparsity, prunen=asked.n, prunem=asked.m, blocksize=block_size, percdamp=damping
        )
    return array(layer.weight), zeroed.mask().numpy()
