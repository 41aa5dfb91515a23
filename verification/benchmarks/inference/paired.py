"""Repeated measurements that alternate, and what they allow to say."""

import random
from collections.abc import Callable, Mapping
from statistics import quantiles
from typing import Any

from verification.benchmarks.clock import clock
from verification.benchmarks.statistics import Estimate, difference, in_words, median


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


def summary(values: list[float]) -> dict[str, Any]:
    """Median and quartiles, JSON-able."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [
        values[0]
    ] * 3  # fmt: skip
    return {"median": middle, "quartiles": [low, high], "repeats": len(values)}


def compare(values: list[float], base: list[float]) -> dict[str, Any]:
    """The ratio to `base`, round by round: median, quartiles, interval of the median.

    The interval is that of `statistics.median`; None where there are too few ratios.
    """
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    found = median(ratios)
    interval = None if found.low is None or found.high is None else [found.low, found.high]
    return {**summary(ratios), "interval": interval}


def verdict(ratio: Mapping[str, Any]) -> str:
    """Of what `compare` found for times: faster or slower only if the interval leaves out 1."""
    low, high = ratio["interval"] or (None, None)
    said = in_words(difference(Estimate(ratio["median"], low, high, ratio["repeats"])))
    return {"lower": "faster", "higher": "slower"}.get(said, said)
