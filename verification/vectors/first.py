"""The five vectors of docs/first-five.md: each asks for one step more than the one before it."""

from collections.abc import Iterator

import numpy as np

from verification.vectors.special import Special

WEIGHT = np.array([[-4.0, -2.0, 9.0, 9.0], [3.0, -3.0, -8.0, 7.0]])
# Norms 1, 3, 3, 1. With the damping, lambda is 1.25 and every entry of H has two decimals at most.
GRAM = np.array(
    [[1.0, 2.0, -2.0, 1.0], [2.0, 9.0, -4.0, 2.0], [-2.0, -4.0, 9.0, -2.0], [1.0, 2.0, -2.0, 1.0]]
)
DAMPING = 0.25
WHOLE, HALF = 4, 2  # block sizes: one block, two blocks


def first_five() -> Iterator[Special]:
    """Copy; choose by score; move one weight's loss, then two at once; then two blocks."""
    alone = np.diag(np.diag(GRAM))  # no column can make up for another one
    for number, (gram, pattern, block_size) in enumerate(
        (
            (GRAM, "unstructured:0", WHOLE),
            (alone, "2:4", WHOLE),
            (GRAM, "1:4", WHOLE),
            (GRAM, "2:4", WHOLE),
            (GRAM, "unstructured:0.5", HALF),
        ),
        start=1,
    ):
        yield Special(f"first-{number}", "first-steps", WEIGHT, gram, (pattern,), block_size,
                      DAMPING, dtypes=("float64",))  # fmt: skip
