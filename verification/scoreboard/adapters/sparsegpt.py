"""SparseGPT as its authors published it: `SparseGPT.fasterprune` of `sparsegpt.py`.

Their class gets a layer, and the Gram matrix in the place of the one that it sums up itself. It
runs on the CPU: `torch.cuda.synchronize`, which waits for a GPU, does nothing. Their code computes
in float32 throughout. The mask is observed while they set weights to zero.
"""

import torch
from sparsegpt import SparseGPT

from verification.scoreboard.adapters.layer import Given, adapter
from verification.scoreboard.adapters.observed import Zeroed

torch.cuda.synchronize = lambda *_: None


@adapter("unstructured", "n:m")
def prune(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune with the arguments of their command line: sparsity, or zeros in a group."""
    asked, layer = given.asked, given.layer
    run = SparseGPT(layer)
    run.H = given.gram
    with Zeroed(given.rows) as zeroed:
        run.fasterprune(
            asked.sparsity,
            prunen=asked.n,
            prunem=asked.m,
            blocksize=given.block_size,
            percdamp=given.damping,
        )
    return layer.weight, zeroed.mask()
