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


def _conditions(before: Results, after: Results) -> dict[str, list[str]]:
    """What times depend on besides, in words: of all pruned runs of either side."""
    return {
        name: [_values(name, side) for side in (before, after)]
        for name in ("machine", "number of threads", "number of jobs")
    }


def _values(name: str, side: Results) -> str:
    key = name.rpartition(" ")[2]
    found = {
        str(record.get(key, side.origin(key)))
        for records in side.runs.values()
        for record in records.values()
        if "layers" in record
    }
    return ", ".join(sorted(found))


def cost_regressions(before: Results, after: Results, allowed: float) -> list[str]:
    """Costs that grew by more than the share `allowed`, beyond the spread over the runs.

    ValueError if the machines, threads or jobs differ, if `allowed` is no share, or if nothing can
    be compared.
    """
    if not 0 <= allowed < math.inf:
        raise ValueError(f"times must be a share of 0 or more, got {allowed}")
    for name, values in _conditions(before, after).items():
        if values[0] != values[1]:
            raise ValueError(f"times compare with one {name} only, got {' and '.join(values)}")
    ratios = cost_ratios(before, after)
    if not ratios:
        raise ValueError("times must be of runs with the same draw in both files, got none")
    return [
        f"{name} {100 * (ratio.value - 1):+.1f} % over {ratio.count} runs, more than "
        f"{100 * allowed:g} % beyond their spread"
        for name, ratio in ratios.items()
        if (ratio.value if ratio.low is None else ratio.low) > 1 + allowed
    ]
