"""Bugs of layers that are padded with zeros: these have the smallest scores, and go first."""

from typing import Any

import numpy as np

from tests.judge.wrong.bug import Wrong, with_step
from tests.judge.wrong.right import Right


def padded(rows: int = 1, columns: bool = False, counted: bool = True) -> type[Right]:
    """Rows padded to a multiple, or columns to whole blocks.

    counted  whether the padding counts as weights of the layer
    """

    def run(self: Right, method: str) -> tuple[Any, Any]:
        (c, b), asked = self.given_weight.shape, Right.weights_removed
        more = -c % rows, -b % self.block_size if columns else 0
        self.given_weight = np.pad(self.given_weight, ((0, more[0]), (0, more[1])))
        self.given_gram = np.pad(self.given_gram, (0, more[1]))
        if not counted:
            self.weights_removed = lambda weights: asked(self, c * b)  # type: ignore[method-assign]
        weight, mask = Right.run(self, method)
        return weight[:c, :b], mask[:c, :b]

    return with_step(run=run)


LAYER, RAGGED = ("unstructured",), ("ragged-last-block", "many-blocks")

WRONG = [
    Wrong("rows padded and counted", padded(rows=16), "counts", "rows-padded", patterns=LAYER),
    Wrong("rows padded", padded(rows=16, counted=False), "counts", "rows-padded", patterns=LAYER),
    Wrong("columns padded and counted", padded(columns=True), "counts", "columns-padded",
        patterns=LAYER, features=RAGGED),
    Wrong("columns padded", padded(columns=True, counted=False), "counts", "columns-padded",
        patterns=LAYER, features=RAGGED),
    # The counts of n:m are right: the mean of λ runs over the padding as well.
    Wrong("columns padded in groups", padded(columns=True), "updates", "columns-padded",
        patterns=("n:m",), features=RAGGED),
]  # fmt: skip
