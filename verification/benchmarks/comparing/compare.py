"""Compares two results files: what changed in each run, what got lost, and what it cost."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from verification.benchmarks.comparing.noise import MEASURES, Change, judge
from verification.benchmarks.results import Key, MeasuredRun, Records, ResultsFile, named
from verification.benchmarks.statistics import Estimate, added_percent, paired_ratio


@dataclass(frozen=True)
class RunComparison:
    """A run that both files have, on all its draws.

    pruned  False for a dense model
    broken  regressions that no noise excuses, in words
    """

    key: Key
    pruned: bool
    changes: list[Change]
    broken: list[str]

    @property
    def regressions(self) -> list[str]:
        """What got worse, in words."""
        return self.broken + [_words(change) for change in self.changes if change.worse]

    @property
    def improvements(self) -> list[str]:
        """What got better by more than noise, in words."""
        return [_words(change) for change in self.changes if change.verdict == "lower"]

    @property
    def unjudged(self) -> list[str]:
        """Measures without a verdict, with the reason."""
        reasons: dict[str, list[str]] = {}
        for change in self.changes:
            if change.verdict == "no verdict":
                reasons.setdefault(change.basis, []).append(change.measure)
        return [f"{', '.join(measures)} ({reason})" for reason, measures in reasons.items()]

    @property
    def judged(self) -> bool:
        """Whether any measure has a verdict."""
        return any(change.verdict != "no verdict" for change in self.changes)

    @property
    def verdict(self) -> str:
        """The verdict on the run, in one or two words."""
        if self.regressions:
            return "REGRESSION"
        if self.improvements:
            return "better"
        return "same" if self.judged else "not judged"


@dataclass(frozen=True)
class ResultsComparison:
    """The comparison of two files; the exit status is 1 if there are `regressions`.

    pairs  runs that both files have
    lost   runs and draws that AFTER lacks, in words
    costs  growth of time and memory, in words, if it is judged
    """

    before: ResultsFile
    after: ResultsFile
    pairs: list[RunComparison]
    lost: list[str]
    costs: list[str]

    @property
    def regressions(self) -> list[str]:
        """Lost runs, what got worse in each run, and costs; in words."""
        found = [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.regressions]
        return [f"{what}: the run is lost" for what in self.lost] + found + self.costs

    @property
    def improvements(self) -> list[str]:
        """What got better in each run, in words."""
        return [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.improvements]

    @property
    def unjudged(self) -> list[str]:
        """Measures of runs without a verdict, in words."""
        return [f"{pair.key.label}: {what}" for pair in self.pairs for what in pair.unjudged]

    @property
    def new(self) -> list[str]:
        """Runs that only AFTER has."""
        return [key.label for key in self.after.runs if key not in self.before.runs]

    @property
    def versions(self) -> dict[str, tuple[Any, Any]]:
        """Versions of Python and packages that differ, as they often explain a change."""
        first, second = (
            {"python": side.content.get("python"), **side.content.get("versions", {})}
            for side in (self.before, self.after)
        )
        values = {name: (first.get(name), second.get(name)) for name in first | second}
        return {name: both for name, both in values.items() if both[0] != both[1]}

    def as_dict(self) -> dict[str, Any]:
        """The comparison, for JSON."""
        names = ("lost", "new", "regressions", "improvements", "unjudged", "versions")
        return {
            "before": self.before.origin(),
            "after": self.after.origin(),
            **{name: getattr(self, name) for name in names},
            "runs": [
                {
                    "model": pair.key.model,
                    "run": dict(pair.key.options),
                    "changes": [asdict(change) for change in pair.changes],
                }
                for pair in self.pairs
            ],
        }


def compare(
    before: ResultsFile,
    after: ResultsFile,
    recorded: Mapping[Key, Records],
    times: float | None = None,
) -> ResultsComparison:
    """Compare two results files.

    recorded  several draws a run, whose spread judges runs that share no draw
    times     share by which costs may grow; None if they are not judged

    Raises ValueError if no run is in both files, or if no run of a pruned model can be judged:
    such a comparison would always pass. For `times` see `cost_regressions`.
    """
    keys = [key for key in before.runs if key in after.runs]
    if not keys:
        raise ValueError(f"{before.file} and {after.file} have no run in common")
    pairs = [_run(key, before.runs[key], after.runs[key], recorded.get(key, {})) for key in keys]
    asked = [pair for pair in pairs if pair.pruned] or pairs
    if not any(pair.judged for pair in asked):
        reasons = dict.fromkeys(what for pair in asked for what in pair.broken + pair.unjudged)
        raise ValueError(f"nothing can be judged: {'; '.join(reasons) or 'no numbers in common'}")
    lost = [what for key in before.runs for what in _lost(key, before, after)]
    costs = [] if times is None else cost_regressions(before, after, times)
    return ResultsComparison(before, after, pairs, lost, costs)


def _run(key: Key, before: Records, after: Records, recorded: Records) -> RunComparison:
    changes = [judge(measure, before, after, recorded) for measure in MEASURES]
    first, *_ = before.values()
    shared = [(before[draw], after[draw]) for draw in before if draw in after]
    broken = []
    # Another draw removes as many weights, and has to be certified as well.
    for old, new in shared or [(first, record) for record in after.values()]:
        seed = f", seed {new.draw.seed}" if len(after) > 1 else ""
        broken += [what + seed for what in _broken(old, new)]
    return RunComparison(key, first.pruned, [change for change in changes if change], broken)


def _lost(key: Key, before: ResultsFile, after: ResultsFile) -> list[str]:
    """A run that AFTER lacks, or the seeds that AFTER lacks of a run if the files share a draw."""
    first, second = before.runs[key], after.runs.get(key, {})
    if not second:
        return [key.label]
    lost = [f"{key.label}, seed {draw.seed}" for draw in first if draw not in second]
    return lost if len(lost) < len(first) else []


def _broken(before: MeasuredRun, after: MeasuredRun) -> Iterator[str]:
    """Describe what a run lost."""
    old, new = ({layer.name: layer for layer in run.layers or ()} for run in (before, after))
    if lost := [name for name in old if name not in new]:
        yield f"layers lost: {named(lost)}"
    kept = [name for name in old if name in new]
    if failed := [name for name in kept if old[name].passed and not new[name].passed]:
        yield f"certificates lost: {named(failed)}"
    if failed := [name for name in new if not new[name].passed and name not in failed]:
        yield f"not certified: {named(failed)}"
    counts = {name: (old[name].removed, new[name].removed) for name in kept}
    if moved := [f"{name} {a} → {b}" for name, (a, b) in counts.items() if a != b]:
        yield f"removed weights changed: {named(moved)}"
    for measure in MEASURES[1:]:
        first, second = (run.measured(measure.field) for run in (before, after))
        if first and not second:
            yield f"{measure.name} is lost"
        elif lost := [name for name in first if name in kept and name not in second]:
            yield f"{measure.name} is lost: {named(lost)}"


def _words(change: Change) -> str:
    layers = f"; worse by themselves: {named(change.layers)}" if change.layers else ""
    return f"{change.measure} {change.percent or 0:+.2f} % ({change.basis}){layers}"


# Costs in words, and the fields of a run's record.
COSTS = {"pruning time": "pruning_seconds", "peak memory": "peak_memory_bytes"}


def cost_ratios(before: ResultsFile, after: ResultsFile) -> dict[str, Estimate]:
    """After / before over all runs with the same draw: one run's time is noise, many are not."""
    found = {}
    for name, field in COSTS.items():
        pairs = [
            (getattr(record, field), getattr(after.runs[key][draw], field))
            for key, records in before.runs.items()
            for draw, record in records.items()
            if draw in after.runs.get(key, {})
        ]
        known = [(a, b) for a, b in pairs if a and b]
        if known:
            found[name] = paired_ratio([a for a, _ in known], [b for _, b in known])
    return found


def cost_regressions(before: ResultsFile, after: ResultsFile, allowed: float) -> list[str]:
    """Costs that grew by more than the share `allowed`, beyond the spread over the runs.

    Raises ValueError if the CONDITIONS of timings differ, if `allowed` is negative or infinite, or
    if no run has the same draw in both files.
    """
    if not 0 <= allowed < math.inf:
        raise ValueError(f"times must be a share of 0 or more, got {allowed}")
    first, second = (
        "; ".join(sorted({run.conditions for run in side.records if run.pruned}))
        for side in (before, after)
    )
    if first != second:
        raise ValueError(f"times must be measured alike, got {first} and {second}")
    ratios = cost_ratios(before, after)
    if not ratios:
        raise ValueError("times must be of runs with the same draw in both files, got none")
    return [
        f"{name} {added_percent(ratio.value):+.1f} % over {ratio.count} runs, more than "
        f"{100 * allowed:g} % beyond their spread"
        for name, ratio in ratios.items()
        if (ratio.low or ratio.value) > 1 + allowed
    ]


HEADINGS = ["run", *(measure.name for measure in MEASURES), "verdict"]


def rows(comparison: ResultsComparison) -> list[list[str]]:
    """Table rows, one for each run that both files have: the values after, and their changes."""
    found = []
    for pair in comparison.pairs:
        changes = {change.measure: change for change in pair.changes}
        cells = [_cell(changes.get(measure.name)) for measure in MEASURES]
        found.append([pair.key.label, *cells, pair.verdict])
    return found


def _cell(change: Change | None) -> str:
    if not change or change.after is None:
        return ""
    return f"{change.after:.4g} {change.percent:+.2f} %"


def lines(comparison: ResultsComparison) -> Iterator[str]:
    """The lines below the table, with the conclusion last."""
    for name, (before, after) in comparison.versions.items():
        yield f"version  {name}: {before} → {after}"
    for name, ratio in cost_ratios(comparison.before, comparison.after).items():
        yield f"cost     {name} of all runs: {added_percent(ratio.value):+.1f} %"
    for what in comparison.new:
        yield f"new      {what}"
    for what in comparison.unjudged:
        yield f"NOT JUDGED  {what}"
    for what in comparison.improvements:
        yield f"better   {what}"
    for what in comparison.regressions:
        yield f"REGRESSION  {what}"
    count, runs = len(comparison.regressions), len(comparison.pairs)
    found = f"{count or 'No'} regression{'s' if count > 1 else ''} beyond noise"
    partly = sum(1 for pair in comparison.pairs if pair.unjudged)
    yield f"{found}, but {partly} of {runs} runs are NOT JUDGED in full." if partly else f"{found}."
