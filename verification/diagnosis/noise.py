"""Recognises arithmetic with too few bits by the size of its random errors."""

from collections.abc import Iterator
from math import log2

import numpy as np

from verification.diagnosis.evidence import Array, Evidence, Mask
from verification.diagnosis.simulation import Variation, simulate
from verification.diagnosis.suspect import Suspect

# Errors within this factor of the simulated ones have the same cause: how many products a sum has,
# and where they are rounded, differs between right programs.
NEAR = 2.5
ROW_NEAR = 8.0  # the same for single rows, of which most must agree
# Random errors do not point where the weights moved; errors of a wrong factor do.
LARGEST_COSINE = 0.7
KINDS = {
    "float32": ("float32-arithmetic", "float32"),
    "tf32": ("reduced-products", "TF32 or float16, with 10 bits behind the point"),
    "bfloat16": ("reduced-products", "bfloat16, with 7 bits behind the point"),
}


def of_noise(e: Evidence, right: Array, mask: Mask) -> Iterator[Suspect]:
    """Products in float32 (of float64 layers), TF32 or bfloat16, if the errors look like them."""
    if e.method != "thanos" or (e.mask != mask).any() or e.precision not in ("float64", "float32"):
        return
    error = np.where(mask, 0.0, (e.pruned - right) / e.sizes)
    moves = np.where(mask, 0.0, (right - e.weight) / e.sizes)
    cosine = abs(float(np.sum(error * moves))) / float(
        np.linalg.norm(error) * np.linalg.norm(moves) or 1.0
    )
    if not cosine <= LARGEST_COSINE:
        return
    names = ["float32"] if e.precision == "float64" else ["tf32", "bfloat16"]
    found = [(abs(log2(ratio)), name) for name in names if (ratio := _ratio(e, name, right, error))]
    if found and min(found)[0] <= log2(NEAR):
        name = min(found)[1]
        key, words = KINDS[name]
        yield Suspect(key, "section 4", "only rounding is too coarse: the errors are random, and "
                      f"as large as those of products in {words}",
                      lambda: _with_products(e, name), kind="fitted")  # fmt: skip


def _with_products(e: Evidence, name: str) -> tuple[Array, Mask]:
    return simulate(e, Variation(products=name))


def _ratio(e: Evidence, name: str, right: Array, error: Array) -> float:
    """How many times larger the errors are than those of such products; 0 if they look unlike."""
    try:
        simulated = (_with_products(e, name)[0] - right) / e.sizes
    except (np.linalg.LinAlgError, ValueError):
        return 0.0
    rows = np.linalg.norm(simulated, axis=1) > 0
    if not rows.any():
        return 0.0
    ratio = float(np.linalg.norm(error) / np.linalg.norm(simulated))
    of_rows = np.linalg.norm(error[rows], axis=1) / np.linalg.norm(simulated[rows], axis=1)
    alike = (of_rows <= ROW_NEAR * ratio) & (of_rows >= ratio / ROW_NEAR)
    return ratio if alike.mean() >= 0.8 and error[rows].any() else 0.0
