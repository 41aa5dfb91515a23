"""Compare two results files: the runs that both have, the runs that are lost, and new runs."""

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
    lost_runs,
)
from verification.benchmarks.comparing.noise import (
    FIRST_BLOCKS,
    ROUNDING,
    ROUNDING_AT_DEPTH,
    ROUNDING_OF_A_LAYER,
    ROUNDING_OF_PERPLEXITY,
    MeasureChange,
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
    ResultsFile,
    common_layers,
    measured,
    named,
    write_results,
)
from verification.benchmarks.statistics import Estimate, added_percent, paired_ratio

# A draw that is easy for a method is easy for its control: both update kept weights, or neither.
CONTROLS = {
    "thanos": "sparsegpt",
    "sparsegpt": "thanos",
    "wanda": "magnitude",
    "magnitude": "wanda",
}
# Headings of the measures, and their names in a results file.
MEASURES = {"layer error": "error", "with dense inputs": "dense_error", PERPLEXITY: PERPLEXITY}
FIRST = f"first {FIRST_BLOCKS} blocks"
# A measure, its samples before and after, recorded ones for their spread, the rounding tolerance.
Unpaired = tuple[str, Samples, Samples, Samples, float]


@dataclass(frozen=True)
class RunComparison:
    """A run that both files have: its records by draw, what changed, and what broke.

    evaluation  the evaluation texts before and after if they differ; perplexity is then not judged
    """

    key: Key
    before: Records
    after: Records
    changes: list[MeasureChange]
    broken: list[str] = field(default_factory=list)
    evaluation: tuple[str, str] | None = None

    @property
    def regressions(self) -> list[str]:
        """What got worse, in words."""
        return self.broken + [_words(change) for change in self.changes if change.worse]

    @property
    def improvements(self) -> list[str]:
        """What got better by more than noise, in words."""
        return [_words(change) for change in self.changes if change.verdict == "lower"]

    @property
    def judged(self) -> bool:
        """Whether any measure has a verdict."""
        return any(change.verdict != "no verdict" for change in self.changes)

    @property
    def pruned(self) -> bool:
        """Whether the model was pruned: a dense one is the same on every draw."""
        return any(record.pruned for record in self.before.values())


@dataclass(frozen=True)
class ResultsComparison:
    """The comparison of two files; the exit status is 1 if there are `regressions`."""

    before: ResultsFile
    after: ResultsFile
    pairs: list[RunComparison]
    lost: list[str]
    new: list[str]
    settings: dict[str, tuple[Any, Any]]
    costs: list[str]

    @property
    def regressions(self) -> list[str]:
        """In words: lost runs, what got worse by run, then costs if they are judged."""
        found = [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.regressions]
        return [f"{what}: the run is lost" for what in self.lost] + found + self.costs

    @property
    def improvements(self) -> list[str]:
        """What got better, in words, by run."""
        return [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.improvements]

    @property
    def unjudged(self) -> list[str]:
        """Runs without any verdict."""
        return [pair.key.label for pair in self.pairs if not pair.judged]

    @property
    def evaluations(self) -> dict[tuple[str, str], list[str]]:
        """Evaluation texts that differ, with the runs whose perplexity is therefore not judged."""
        found: dict[tuple[str, str], list[str]] = {}
        for pair in self.pairs:
            if pair.evaluation:
                found.setdefault(pair.evaluation, []).append(pair.key.label)
        return found

    def as_dict(self) -> dict[str, Any]:
        """The comparison, for JSON."""
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
    before: ResultsFile, after: ResultsFile, recorded: ResultsFile, costs: list[str] | None = None
) -> ResultsComparison:
    """Compare two results files.

    recorded  several draws a run. Their spread judges runs of the same model and kind of
              calibration that have too few draws of their own.
    costs     regressions in time and memory, in words, if they are judged

    Raises ValueError if no run is in both files, or if no run of a pruned model can be judged:
    such a comparison would always pass.
    """
    keys = [key for key in before.runs if key in after.runs]
    if not keys:
        raise ValueError(f"{before.file} and {after.file} have no run in common")
    tests = max(1, sum(1 for key in keys for _ in _unpaired(key, before, after, recorded)))
    pairs = [_compare_run(key, before, after, recorded, tests) for key in keys]
    asked = [pair for pair in pairs if pair.pruned] or pairs
    if not any(pair.judged for pair in asked):
        reasons = sorted({reason for pair in asked for reason in _reasons(pair)})
        raise ValueError(f"nothing can be judged: {'; '.join(reasons) or 'no numbers in common'}")
    new = [key.label for key in after.runs if key not in before.runs]
    lost, settings = lost_runs(before, after), _settings(before, after)
    return ResultsComparison(before, after, pairs, lost, new, settings, costs or [])


def _reasons(pair: RunComparison) -> list[str]:
    """Why nothing of an unjudged run is judged, in words."""
    evaluation = (
        [f"perplexities of other windows, {' → '.join(pair.evaluation)}"] if pair.evaluation else []
    )
    return [*pair.broken, *evaluation, *(change.basis for change in pair.changes)]


def _compare_run(
    key: Key, before: ResultsFile, after: ResultsFile, recorded: ResultsFile, tests: int
) -> RunComparison:
    """What changed in one run."""
    first, second = before.runs[key], after.runs[key]
    changes = []
    for measure, a, b in _measured(first, second):
        if not a.keys() & b.keys():
            continue
        if measure == PERPLEXITY:
            changes.append(same_draw(measure, a, b, ROUNDING_OF_PERPLEXITY))
        else:
            changes.append(same_draw(measure, a, b, ROUNDING_AT_DEPTH))
            shallow = first_blocks(a), first_blocks(b)
            if common_layers(chain(*(side.values() for side in shallow))):
                name = f"{measure}, {FIRST}"
                changes.append(same_draw(name, *shallow, ROUNDING, ROUNDING_OF_A_LAYER))
    for measure, a, b, spread, tolerance in _unpaired(key, before, after, recorded):
        changes.append(other_draws(measure, a, b, spread, tolerance, tests))
    found = list(broken(first, second, after.unmeasured))
    return RunComparison(key, first, second, changes, found, evaluation_change(first, second))


def _measured(first: Records, second: Records) -> Iterator[tuple[str, Samples, Samples]]:
    """The measures that both sides have, perplexity only of the same evaluation text."""
    for measure, name in MEASURES.items():
        if measure == PERPLEXITY and evaluation_change(first, second):
            continue
        a, b = measured(first, name), measured(second, name)
        if a and b and common_layers([*a.values(), *b.values()]):
            yield measure, a, b


def _unpaired(
    key: Key, before: ResultsFile, after: ResultsFile, recorded: ResultsFile
) -> Iterator[Unpaired]:
    """What different draws must judge: measures without a shared draw, and ratios to a control."""
    kinds = {draw.kind for side in (before, after) for draw in side.runs[key]}
    known = {
        draw: record for draw, record in recorded.runs.get(key, {}).items() if draw.kind in kinds
    }
    if kinds != {draw.kind for draw in known}:
        known = {}
    control = key.with_method(CONTROLS.get(dict(key.options).get("method", ""), ""))
    for measure, a, b in _measured(before.runs[key], after.runs[key]):
        if a.keys() & b.keys():
            continue
        spread = measured(known, MEASURES[measure])
        if not common_layers([*a.values(), *b.values(), *spread.values()]):
            spread = {}  # recorded of a model whose layers have other names
        if measure == PERPLEXITY:
            yield measure, a, b, spread, ROUNDING_OF_PERPLEXITY
            continue
        yield from _by_depth(measure, a, b, spread)
        controls = [measured(side.runs.get(control, {}), MEASURES[measure])
                    for side in (before, after, recorded)]  # fmt: skip
        sides = [against(*both) for both in zip((a, b, spread), controls, strict=True)]
        if sides[0] and sides[1]:
            yield from _by_depth(f"{measure} / {dict(control.options)['method']}'s", *sides)


def _by_depth(measure: str, a: Samples, b: Samples, spread: Samples) -> Iterator[Unpaired]:
    """All layers together, then the first blocks alone if there are more blocks.

    Rounding moves the first blocks less, so they show changes that it hides in the mean of all.
    """
    if not is_deep([*a.values(), *b.values(), *spread.values()]):
        yield measure, a, b, spread, ROUNDING
        return
    yield measure, a, b, spread, ROUNDING_AT_DEPTH
    first, second, others = (first_blocks(side) for side in (a, b, spread))
    if common_layers(chain(first.values(), second.values(), others.values())):
        yield f"{measure}, {FIRST}", first, second, others, ROUNDING


def _words(change: MeasureChange) -> str:
    percent = added_percent(change.ratio.value)
    layers = f"; worse by themselves: {', '.join(change.layers)}" if change.layers else ""
    return f"{change.measure} {percent:+.2f} % ({change.basis}){layers}"


def _settings(before: ResultsFile, after: ResultsFile) -> dict[str, tuple[Any, Any]]:
    """Settings, versions and measures that differ, as they often explain a change."""
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
    for measure in sorted(after.unmeasured):
        if any(record.measured(measure) for record in before.records):
            found[OF_LAYERS.get(measure, measure)] = ("measured", "not measured")
    return found


def write_comparison(comparison: ResultsComparison, file: Path) -> None:
    """Write the comparison as JSON."""
    write_results(file, comparison.as_dict(), indent=1)


# Costs in words, and the fields of a run's record.
COSTS = {"pruning time": "pruning_seconds", "peak memory": "peak_memory_bytes"}


def cost_ratios(before: ResultsFile, after: ResultsFile) -> dict[str, Estimate]:
    """After / before over all runs with the same draw: one run's time is noise, many are not."""
    found = {}
    for name, field_name in COSTS.items():
        pairs = [
            (getattr(record, field_name), getattr(after.runs[key][draw], field_name))
            for key, records in before.runs.items()
            for draw, record in records.items()
            if draw in after.runs.get(key, {})
        ]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            found[name] = paired_ratio([a for a, _ in known], [b for _, b in known])
    return found


def cost_regressions(before: ResultsFile, after: ResultsFile, allowed: float) -> list[str]:
    """Costs that grew by more than the share `allowed`, beyond the spread over the runs.

    Raises ValueError if machines, numbers of threads or numbers of jobs differ, if `allowed` is
    negative or infinite, or if no run has the same draw in both files.
    """
    if not 0 <= allowed < math.inf:
        raise ValueError(f"times must be a share of 0 or more, got {allowed}")
    for name in ("machine", "number of threads", "number of jobs"):
        field_name = name.rpartition(" ")[2]
        first, second = (
            ", ".join(sorted({getattr(each, field_name) for each in side.records if each.pruned}))
            for side in (before, after)
        )
        if first != second:
            raise ValueError(f"times compare with one {name} only, got {first} and {second}")
    ratios = cost_ratios(before, after)
    if not ratios:
        raise ValueError("times must be of runs with the same draw in both files, got none")
    return [
        f"{name} {added_percent(ratio.value):+.1f} % over {ratio.count} runs, more than "
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


def rows(comparison: ResultsComparison) -> list[list[str]]:
    """Table rows, one for each run that both files have: the numbers after, and their changes."""
    return [_row(pair) for pair in comparison.pairs]


def _row(pair: RunComparison) -> list[str]:
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
        100 * sum(record.sparsity for record in side.values()) / len(side)
        for side in (pair.before, pair.after)
    )
    cells.append(f"{after:.2f} %" if before == after else f"{before:.2f} → {after:.2f} %")
    return [pair.key.label, *cells, verdict(pair)]


def verdict(pair: RunComparison) -> str:
    """The verdict on a run, in one or two words."""
    if pair.regressions:
        return "REGRESSION"
    if pair.improvements:
        return "better"
    return "same" if pair.judged else "not judged"


def _mean(side: Records, cost: str) -> float:
    values = [getattr(record, COSTS[cost]) for record in side.values()]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _moved(before: float, after: float, digits: int) -> str:
    """The number after, and its relative change."""
    if math.isnan(before) or math.isnan(after):
        return ""
    change = f" {added_percent(after / before):+.2f} %" if before > 0 else ""
    return f"{after:.{digits}f}{change}"


def lines(comparison: ResultsComparison) -> Iterator[str]:
    """The lines below the table, with the verdict last."""
    for name, (before, after) in comparison.settings.items():
        yield f"setting  {name}: {before} → {after}"
    for (before, after), runs in comparison.evaluations.items():
        yield f"setting  evaluation of {named(runs)}: {before} → {after}; perplexity is NOT JUDGED"
    for name, ratio in cost_ratios(comparison.before, comparison.after).items():
        yield f"cost     {name} of all runs: {added_percent(ratio.value):+.1f} %"
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


def _conclusion(comparison: ResultsComparison) -> str:
    """The number of regressions, and what was not judged."""
    count, runs = len(comparison.regressions), len(comparison.pairs)
    found = f"{count or 'No'} regression{'s' if count > 1 else ''} beyond noise"
    unjudged = len(comparison.unjudged)
    gaps = [f"{unjudged} of {runs} runs are NOT JUDGED"] if unjudged else []
    other = sum(map(len, comparison.evaluations.values()))
    if other:
        gaps.append(f"perplexity of {other} of {runs} runs is NOT JUDGED: another evaluation")
    return f"{found}, but {', and '.join(gaps)}." if gaps else f"{found}."
