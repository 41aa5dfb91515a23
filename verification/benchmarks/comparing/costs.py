"""Time and memory: judged only where they are asked about, and on one machine."""

import math

from verification.benchmarks.comparing.records import Results
from verification.benchmarks.statistics import Estimate, paired_ratio


def pruning_seconds(record: dict[str, object]) -> float | None:
    """Of one run's pruning alone; None if it is not recorded."""
    seconds = record.get("seconds")
    value = seconds.get("pruning") if isinstance(seconds, dict) else None
    return float(value) if value else None


def peak_memory(record: dict[str, object]) -> float | None:
    """In bytes; None if it is not recorded."""
    value = record.get("peak_memory_bytes")
    return float(value) if isinstance(value, int | float) and value else None


COSTS = {"pruning time": pruning_seconds, "peak memory": peak_memory}


def cost_ratios(before: Results, after: Results) -> dict[str, Estimate]:
    """After / before over all runs with the same draw: one run's time is noise, many are not."""
    found = {}
    for name, cost in COSTS.items():
        pairs = [
            (cost(record), cost(after.runs[key][draw]))
            for key, records in before.runs.items()
            for draw, record in records.items()
            if draw in after.runs.get(key, {})
        ]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            found[name] = paired_ratio([a for a, _ in known], [b for _, b in known])
    return found


def cost_regressions(before: Results, after: Results, allowed: float) -> list[str]:
    """Costs that grew by more than the share `allowed`, beyond the spread over the runs.

    ValueError if the machines differ, if `allowed` is no share, or if nothing can be compared.
    """
    if not 0 <= allowed < math.inf:
        raise ValueError(f"times must be a share of 0 or more, got {allowed}")
    machines = [side.origin("machine") for side in (before, after)]
    if machines[0] != machines[1]:
        raise ValueError(f"times compare on one machine only, got {machines[0]} and {machines[1]}")
    ratios = cost_ratios(before, after)
    if not ratios:
        raise ValueError("times must be of runs with the same draw in both files, got none")
    return [
        f"{name} {100 * (ratio.value - 1):+.1f} % over {ratio.count} runs, more than "
        f"{100 * allowed:g} % beyond their spread"
        for name, ratio in ratios.items()
        if (ratio.value if ratio.low is None else ratio.low) > 1 + allowed
    ]
