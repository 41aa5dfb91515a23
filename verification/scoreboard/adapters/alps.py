"""ALPS as its authors published it: `ALPS_prune.ALPS_admm` of `alps.py`.

Their class gets a layer, and the Gram matrix in the place of the one that it sums up itself. It
runs on the CPU: what their code moves to `cuda:0` stays where it is, and `torch.cuda.synchronize`
does nothing. Their n counts kept weights. The mask is observed: it is their last choice of the
smallest weights, before they solve for the kept ones.
"""

from collections.abc import Callable
from typing import Any

import alps as published
import torch

from verification.scoreboard.adapters.layer import Given, adapter
from verification.scoreboard.adapters.observed import Observer

OWN = torch.Tensor.to

torch.cuda.synchronize = lambda *_: None
published.dev = "cpu"


def _to(self: torch.Tensor, *where: Any, **options: Any) -> torch.Tensor:
    return self if where == ("cuda:0",) else OWN(self, *where, **options)


torch.Tensor.to = _to  # type: ignore[method-assign, assignment]


class LastChoice(Observer):
    """Records the indices that the last call of `torch.topk` returned."""

    def after(self, func: Callable[..., Any], returned: Any) -> None:
        """Record what was chosen."""
        if func is torch.topk:
            self.indices = returned[1]


@adapter("unstructured", "n:m")
def prune(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune with the arguments of their command line; they have no block size and damping."""
    asked, layer = given.asked, given.layer
    rows, columns = given.rows, given.columns
    run = published.ALPS_prune(layer, nsamples=1, seqlen=1)
    run.XtX = given.gram
    kept = asked.m - asked.n if asked.m else 0
    with LastChoice() as last:
        run.ALPS_admm(sp=asked.sparsity, nm_n=kept, nm_m=asked.m)
    if kept:
        groups = torch.zeros(rows * columns // asked.m, asked.m, dtype=torch.bool)
        mask = groups.scatter(1, last.indices, True).reshape(rows, columns)
    else:  # they choose in the transposed weight
        flat = torch.zeros(rows * columns, dtype=torch.bool)
        flat[last.indices] = True
        mask = flat.reshape(columns, rows).T
    return layer.weight, mask
