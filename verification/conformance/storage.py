"""Rounds weights to the type that they are stored in, including bfloat16, which NumPy lacks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stored(weight: NDArray[Any], dtype: str) -> NDArray[Any]:
    """`weight` rounded to nearest, ties to even; bfloat16 as float32 with the same value."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return weight.astype(dtype)
    single = weight.astype(np.float32)
    bits = single.view(np.uint32)
    # Add half of the last kept bit, less one if that bit is even; the carry rounds.
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
