"""Two results files against each other: every run that both have, what is lost, and what is new."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from verification.benchmarks.comparing.losses import (
    OF_LAYERS,
    PERPLEXITY,
    broken,
    evaluation_change,
    held,
    lost_runs,
)
from verification.benchmarks.comparing.noise import (
    FIRST_BLOCKS,
    ROUNDING,
    ROUNDING_AT_DEPTH,
    ROUNDING_OF_A_LAYER,
    ROUNDING_OF_PERPLEXITY,
    Change,
    Samples,
    against,
    first_blocks,
    is_deep,
    other_draws,
    same_draw,
)
from verification.benchmarks.results import (
    Key,
    Records,
    Results,
    common_layers,
    layer_values,
    named,
    perplexity_values,
)
from verification.benchmarks.statistics import Estimate, paired_ratio

# A draw that is easy for one method is easy for its control: both move the kept weights, or none.
CONTROLS = {
    "thanos": "sparsegpt",
    "sparsegpt": "thanos",
    "wanda": "magnitude",
    "magnitude": "wanda",
}
MEASURES = {"layer error": "error", "with dense inputs": "dense_error"}
FIRST = f"first {FIRST_BLOCKS} blocks"
# A measure, its samples before and after, others for their spread, and what rounding may do to it.
Unpaired = tuple[str, Samples, Samples, Samples, float]


@dataclass(frozen=True)
class Pair:
    """A run that both files have: its records by draw, what changed, and what broke.

    evaluation  what perplexities are of, before and after, where that differs: they are not judged
    """

    key: Key
    before: Records
    after: Records
    changes: list[Change]
    broken: list[str] = field(default_factory=list)
    evaluation: tuple[str, str] | None = None

    @property
    def regressions(self) -> list[str]:
        """In words, what got worse."""
        return self.broken + [_words(change) for change in self.changes if change.worse]

    @property
    def improvements(self) -> list[str]:
        """In words, what got better by more than noise."""
        return [_words(change) for change in self.changes if change.verdict == "lower"]

    @property
    def judged(self) -> bool:
        """Whether any measure has a verdict."""
        return any(change.verdict != "no verdict" for change in self.changes)

    @property
    def pruned(self) -> bool:
        """Whether it is of a pruned model: the dense one is the same on every draw."""
        return any("layers" in record for record in self.before.values())


@dataclass(frozen=True)
class Comparison:
    """All of it; `regressions` are what the exit status is about."""

    before: Results
    after: Results
    pairs: list[Pair]
    lost: list[str]
    new: list[str]
    settings: dict[str, tuple[Any, Any]]
    costs: list[str]

    @property
    def regressions(self) -> list[str]:
        """In words: lost runs, then by run what got worse, then costs if they are judged."""
        found = [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.regressions]
        return [f"{what}: the run is lost" for what in self.lost] + found + self.costs

    @property
    def improvements(self) -> list[str]:
        """In words, by run."""
        return [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.improvements]

    @property
    def unjudged(self) -> list[str]:
        """Runs whose changes could be noise or not: nothing tells."""
        return [pair.key.label for pair in self.pairs if not pair.judged]

    @property
    def evaluations(self) -> dict[tuple[str, str], list[str]]:
        """Evaluations that differ, and the runs whose perplexity is not judged for that."""
        found: dict[tuple[str, str], list[str]] = {}
        for pair in self.pairs:
            if pair.evaluation:
                found.setdefault(pair.evaluation, []).append(pair.key.label)
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "settings": {name: list(values) for name, values in self.settings.items()},
            "regressions": self.regressions,
            "improvements": self.improvements,
            "unjudged": self.unjudged,
            "lost": self.lost,
            "new": self.new,
            "runs": [
                {
                    "model": pair.key.model,
                    "run": dict(pair.key.options),
                    "changes": [change.as_dict() for change in pair.changes],
                    "broken": pair.broken,
                    "evaluation": pair.evaluation and list(pair.evaluation),
                }
                for pair in self.pairs
            ],
        }


def compare(
    before: Results, after: Results, recorded: Results, costs: list[str] | None = None
) -> Comparison:
    """Compare two results files.

    recorded  several draws a run, whose spread judges runs of the same model and kind of
              calibration that have too few draws of their own
    costs     regressions in time and memory, in words, where they are judged

    Raises ValueError if no run is in both, or none of a pruned model can be judged: that would
    pass whatever came.
    """
    keys = [key for key in before.runs if key in after.runs]
    if not keys:
        raise ValueError(f"{before.file} and {after.file} have no run in common")
    tests = max(1, sum(1 for key in keys for _ in _unpaired(key, before, after, recorded)))
    pairs = [_pair(key, before, after, recorded, tests) for key in keys]
    asked = [pair for pair in pairs if pair.pruned] or pairs
    if not any(pair.judged for pair in asked):
        reasons = sorted({reason for pair in asked for reason in _reasons(pair)})
        raise ValueError(f"nothing can be judged: {'; '.join(reasons) or 'no numbers in common'}")
    new = [key.label for key in after.runs if key not in before.runs]
    lost, settings = lost_runs(before, after), _settings(before, after)
    return Comparison(before, after, pairs, lost, new, settings, costs or [])


def _reasons(pair: Pair) -> list[str]:
    """In words, why nothing of an unjudged run is judged."""
    evaluation = (
        [f"perplexities of other windows, {' → '.join(pair.evaluation)}"] if pair.evaluation else []
    )
    return [*pair.broken, *evaluation, *(change.basis for change in pair.changes)]


def _pair(key: Key, before: Results, after: Results, recorded: Results, tests: int) -> Pair:
    """What changed in one run."""
    first, second = before.runs[key], after.runs[key]
    changes = []
    for measure, a, b in _measured(first, second):
        if not a.keys() & b.keys():
            continue
        tolerance = ROUNDING_AT_DEPTH if measure in MEASURES else ROUNDING_OF_PERPLEXITY
        changes.append(same_draw(measure, a, b, tolerance))
        if measure in MEASURES:
            shallow = first_blocks(a), first_blocks(b)
            if common_layers(chain(*(side.values() for side in shallow))):
                name = f"{measure}, {FIRST}"
                changes.append(same_draw(name, *shallow, ROUNDING, ROUNDING_OF_A_LAYER))
    for measure, a, b, spread, tolerance in _unpaired(key, before, after, recorded):
        changes.append(other_draws(measure, a, b, spread, tolerance, tests))
    found = list(broken(first, second, after.unmeasured))
    return Pair(key, first, second, changes, found, evaluation_change(first, second))


def _measured(first: Records, second: Records) -> Iterator[tuple[str, Samples, Samples]]:
    """The measures that both sides have."""
    for measure, name in MEASURES.items():
        a, b = layer_values(first, name), layer_values(second, name)
        if a and b and common_layers([*a.values(), *b.values()]):
            yield measure, a, b
    a, b = perplexity_values(first), perplexity_values(second)
    if a and b and not evaluation_change(first, second):
        yield PERPLEXITY, a, b


def _unpaired(key: Key, before: Results, after: Results, recorded: Results) -> Iterator[Unpaired]:
    """What has to be judged between different draws: measures, and their ratios to a control."""
    kinds = {draw.kind for side in (before, after) for draw in side.runs[key]}
    known = {
        draw: record for draw, record in recorded.runs.get(key, {}).items() if draw.kind in kinds
    }
    if kinds != {draw.kind for draw in known}:
        known = {}
    spreads = {
        **{measure: layer_values(known, name) for measure, name in MEASURES.items()},
        PERPLEXITY: perplexity_values(known),
    }
    control = key.with_method(CONTROLS.get(dict(key.options).get("method", ""), ""))
    for measure, a, b in _measured(before.runs[key], after.runs[key]):
        if a.keys() & b.keys():
            continue
        spread = spreads[measure]
        if not common_layers([*a.values(), *b.values(), *spread.values()]):
            spread = {}  # of a model whose layers have other names
        if measure not in MEASURES:
            yield measure, a, b, spread, ROUNDING_OF_PERPLEXITY
            continue
        yield from _by_depth(measure, a, b, spread)
        controls = [layer_values(side.runs.get(control, {}), MEASURES[measure])
                    for side in (before, after, recorded)]  # fmt: skip
        sides = [against(*both) for both in zip((a, b, spread), controls, strict=True)]
        if sides[0] and sides[1]:
            yield from _by_depth(f"{measure} / {dict(control.options)['method']}'s", *sides)


def _by_depth(measure: str, a: Samples, b: Samples, spread: Samples) -> Iterator[Unpaired]:
    """All layers, and the first blocks by themselves where there are more.

    Rounding moves those less: they show what it would hide in all layers.
    """
    if not is_deep([*a.values(), *b.values(), *spread.values()]):
        yield measure, a, b, spread, ROUNDING
        return
    yield measure, a, b, spread, ROUNDING_AT_DEPTH
    first, second, others = (first_blocks(side) for side in (a, b, spread))
    if common_layers(chain(first.values(), second.values(), others.values())):
        yield f"{measure}, {FIRST}", first, second, others, ROUNDING


def _words(change: Change) -> str:
    percent = 100 * (change.ratio.value - 1)
    layers = f"; worse by themselves: {', '.join(change.layers)}" if change.layers else ""
    return f"{change.measure} {percent:+.2f} % ({change.basis}){layers}"


def _settings(before: Results, after: Results) -> dict[str, tuple[Any, Any]]:
    """Settings, versions and measures that differ: often the whole explanation."""
    first, second = (
        {
            **side.content.get("settings", {}),
            "python": side.origin("python"),
            **(side.origin("versions") or {}),
        }
        for side in (before, after)
    )
    found = {
        name: (first.get(name), second.get(name))
        for name in first | second
        if first.get(name) != second.get(name)
    }
    records = [record for records in before.runs.values() for record in records.values()]
    for measure in sorted(after.unmeasured):
        if any(held(record, measure) for record in records):
            found[OF_LAYERS.get(measure, measure)] = ("measured", "not measured")
    return found


def write_comparison(comparison: Comparison, file: Path) -> None:
    """As JSON."""
    file.write_text(json.dumps(comparison.as_dict(), indent=1, allow_nan=False) + "\n")


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
