"""The clock of everything that is timed in torch."""

import time
from collections.abc import Callable

import torch


def clock(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call; on a device, until its work is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start
