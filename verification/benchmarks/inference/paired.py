"""Repeated measurements that alternate, and what they allow to say."""

import random
import time
from collections.abc import Callable, Mapping
from math import comb
from statistics import quantiles
from typing import Any

import torch

CONFIDENCE = 0.95


def alternate(
    runs: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every run in every round. One warm-up each; rounds have orders of their own."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffled = list(runs), random.Random(0)
    for _ in range(repeats):
        shuffled.shuffle(order)
        for name in order:
            seconds[name].append(clock(runs[name], device))
    return seconds


def clock(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call; on a GPU, until its work is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(values: list[float]) -> dict[str, Any]:
    """Median and quartiles, JSON-able."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [
        values[0]
    ] * 3  # fmt: skip
    return {"median": middle, "quartiles": [low, high], "repeats": len(values)}


def compare(values: list[float], base: list[float]) -> dict[str, Any]:
    """The ratio to `base`, round by round: median, quartiles, interval of the median, verdict.

    The interval holds the median with CONFIDENCE, whatever the distribution: order statistics.
    verdict  faster or slower only where the interval leaves out 1; else `no difference`
    """
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    interval = median_interval(ratios)
    verdict = "no difference"
    if interval:
        verdict = "faster" if interval[1] < 1 else "slower" if interval[0] > 1 else verdict
    return {**summary(ratios), "interval": interval, "verdict": verdict}


def median_interval(values: list[float]) -> list[float] | None:
    """Bounds of the median of what `values` were drawn from; None where there are too few.

    Between the k-th smallest and the k-th largest, k the largest for which fewer than k of them
    fall below the median by chance with at most (1 - CONFIDENCE) / 2.
    """
    count, tail, k = len(values), 0.0, 0
    while k < count:
        tail += comb(count, k) / 2**count
        if tail > (1 - CONFIDENCE) / 2:
            break
        k += 1
    if not k:
        return None
    ordered = sorted(values)
    return [ordered[k - 1], ordered[-k]]
