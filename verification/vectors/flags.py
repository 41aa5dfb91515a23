"""What the flags of the manifest mean."""

FLAGS = {
    "zero-weight": "W is 0 everywhere: every score ties, nothing is lost",
    "zero-gram": "G is 0 everywhere: lambda is 1, H the identity, and every score ties",
    "dead-columns": "some columns of G are 0: they are removed first and never move",
    "fewer-tokens-than-columns": "G has rank 3: only the damping makes H definite",
    "equal-columns": "columns of W and rows of X are copies of others: their scores tie",
    "half-precision-ties": "a coarse grid and equal norms: many exact ties",
    "condition-1-over-root-u": "the condition number of H is about 1/sqrt(u)",
    "condition-0.1-over-u": "the condition number of H is about 0.1/u",
    "near-underflow": "products of the numbers underflow unless they are scaled",
    "near-overflow": "products of the numbers overflow unless they are scaled",
    "one-row": "c = 1",
    "one-column": "b = 1",
    "ragged-last-block": "B does not divide b",
    "blocks-of-one-column": "B = 1",
    "block-wider-than-the-layer": "B > b",
    "one-weight": "c = b = 1",
    "loud-column": "one input is 64 times as large as the others",
    "storage": "W is stored in half precision, and so is the answer",
    "large": "more rows and columns, several blocks; only the mask is compared",
}
