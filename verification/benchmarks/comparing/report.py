"""A comparison as a table and lines. Nothing here judges anything."""

import math
from collections.abc import Iterator

from verification.benchmarks.comparing.compare import FIRST, Comparison, Pair
from verification.benchmarks.comparing.costs import COSTS, cost_ratios
from verification.benchmarks.comparing.records import Records, named

# Layer errors are geometric means over the layers: every layer has the same weight in a change.
HEADINGS = [
    "run",
    "layer error",
    FIRST,
    "with dense inputs",
    "perplexity",
    "pruning s",
    "peak MiB",
    "sparsity",
    "verdict",
]


def rows(comparison: Comparison) -> list[list[str]]:
    """A row a run that both files have: what is after, and how it differs from before."""
    return [_row(pair) for pair in comparison.pairs]


def _row(pair: Pair) -> list[str]:
    by_measure = {change.measure: change for change in pair.changes}
    cells = []
    for measure in ("layer error", f"layer error, {FIRST}", "with dense inputs", "perplexity"):
        change = by_measure.get(measure)
        digits = 2 if measure == "perplexity" else 4
        cells.append(_moved(change.before, change.after, digits) if change else "")
    for name, unit, digits in (("pruning time", 1, 1), ("peak memory", 2**20, 0)):
        before, after = (_mean(side, name) / unit for side in (pair.before, pair.after))
        cells.append(_moved(before, after, digits))
    before, after = (
        100 * sum(record.get("sparsity", 0.0) for record in side.values()) / len(side)
        for side in (pair.before, pair.after)
    )
    cells.append(f"{after:.2f} %" if before == after else f"{before:.2f} → {after:.2f} %")
    return [pair.key.label, *cells, verdict(pair)]


def verdict(pair: Pair) -> str:
    """One word or two."""
    if pair.regressions:
        return "REGRESSION"
    if pair.improvements:
        return "better"
    return "same" if pair.judged else "not judged"


def _mean(side: Records, cost: str) -> float:
    known = [value for record in side.values() if (value := COSTS[cost](record)) is not None]
    return sum(known) / len(known) if known else math.nan


def _moved(before: float, after: float, digits: int) -> str:
    """The number after, and by how much it moved."""
    if math.isnan(before) or math.isnan(after):
        return ""
    change = f" {100 * (after / before - 1):+.2f} %" if before > 0 else ""
    return f"{after:.{digits}f}{change}"


def lines(comparison: Comparison) -> Iterator[str]:
    """What the table does not say, the verdict last."""
    for name, (before, after) in comparison.settings.items():
        yield f"setting  {name}: {before} → {after}"
    for (before, after), runs in comparison.evaluations.items():
        yield f"setting  evaluation of {named(runs)}: {before} → {after}; perplexity is NOT JUDGED"
    for name, ratio in cost_ratios(comparison.before, comparison.after).items():
        yield f"cost     {name} of all runs: {100 * (ratio.value - 1):+.1f} %"
    for what in comparison.new:
        yield f"new      {what}"
    for basis in sorted({change.basis for pair in comparison.pairs for change in pair.changes}):
        yield f"judged   {basis}"
    for what in comparison.unjudged:
        yield f"NOT JUDGED  {what}"
    for what in comparison.improvements:
        yield f"better   {what}"
    for what in comparison.regressions:
        yield f"REGRESSION  {what}"
    yield _conclusion(comparison)


def _conclusion(comparison: Comparison) -> str:
    """How many regressions, and of how many runs that is said."""
    count, runs = len(comparison.regressions), len(comparison.pairs)
    found = f"{count or 'No'} regression{'s' if count > 1 else ''} beyond noise"
    unjudged = len(comparison.unjudged)
    gaps = [f"{unjudged} of {runs} runs are NOT JUDGED"] if unjudged else []
    other = sum(map(len, comparison.evaluations.values()))
    if other:
        gaps.append(f"perplexity of {other} of {runs} runs is NOT JUDGED: another evaluation")
    return f"{found}, but {', and '.join(gaps)}." if gaps else f"{found}."
