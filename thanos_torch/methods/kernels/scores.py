"""Scores of weights inside of kernels, rounded as PyTorch rounds them. Spec (2), sections 6 and 7.

    metric              score                factors of the columns
    MAGNITUDE           |W|                  none
    WANDA               |W| f                ‖X_j‖
    OBS                 W² / f               ((H_JJ)⁻¹)_jj
    SPARSEGPT           (W / f)²             U_jj

Every score is made of single operations, each rounded once, in the order of the columns above.
Triton's `/` is not rounded to the nearest number for float32, therefore `divided`. Nothing is added
after a product, so no compiler can fuse the two into one rounding.

All scores are at least +0.0. The bits of such floats, read as whole numbers, are in the order of
the floats: `key` makes exact comparisons of scores comparisons of whole numbers.
"""

import triton
import triton.language as tl

MAGNITUDE, WANDA, OBS, SPARSEGPT = range(4)


@triton.jit
def divided(x, y):
    """X / y, rounded to nearest."""
    if x.dtype == tl.float32:  # noqa: SIM108 -- the other branch must not be compiled
        quotient = tl.div_rn(x, y)
    else:
        quotient = x / y
    return quotient


@triton.jit
def score(w, f, METRIC: tl.constexpr):
    """The scores of weights `w` in columns with the factors `f`."""
    if METRIC == 0:
        found = tl.abs(w)
    elif METRIC == 1:
        found = tl.abs(w) * f
    elif METRIC == 2:
        found = divided(w * w, f)
    else:
        root = divided(w, f)
        found = root * root
    return found


@triton.jit
def key(scores):
    """The bits of scores, as whole numbers in the order of the scores."""
    if scores.dtype == tl.float32:
        bits = scores.to(tl.int32, bitcast=True)
    else:
        bits = scores.to(tl.int64, bitcast=True)
    return bits
