"""Studies as pages read them: runs by method, pattern and calibration draw, and their comparisons."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from verification.benchmarks.quality.families import FAMILIES, SEEDS
from verification.benchmarks.quality.plan import family, label
from verification.benchmarks.quality.profiles import (
    ABLATIONS,
    HEADLINES,
    family_parts,
    paper_studies,
)
from verification.benchmarks.results import RESULTS, read_content
from verification.benchmarks.statistics import (
    Estimate,
    Spread,
    Verdict,
    difference,
    geometric_mean,
    mean,
    paired_ratio,
    perplexity_ratio,
)

Record = dict[str, Any]

# The results folders that make up each study. Each calibration draw has a folder of its own.
PARTS: dict[str, tuple[str, ...]] = {
    "quick": ("quick",),
    "sweep": ("sweep-low", "sweep-high"),
    "outliers": ("outliers",),
    "patterns": ("patterns",),
    **{topic: tuple(f"{topic}-{seed}" for seed in SEEDS) for topic, *_ in ABLATIONS},
    "headline": tuple(f"{topic}-{seed}" for seed in SEEDS for topic, _ in HEADLINES),
    **{name: (name,) for name in paper_studies()},
    **{model.study: family_parts(model) for model in FAMILIES},
}
# Standard deviation of the logarithm of a perplexity ratio that rounding alone causes. Measured on
# runs of SmolLM2-135M with the same tokens on two machines or at two commits: five in unstructured
# pruning by 50 %, five in 2:4, four in structured pruning by 30 % (`tests/test_results.py`).
ROUNDING = {
    "unstructured": Spread(0.007, 5),
    "semi-structured": Spread(0.0243, 5),
    "structured": Spread(0.025, 4),
}
# Names of ablation switches for people.
SWITCHES = {
    "adaptive False": "fixed mask",
    "residual local": "block-local mask",
    "update sequential": "sequential update",
    "metric magnitude": "magnitudes as scores",
    "metric obs": "OBS scores",
    "outlier_score wanda": "rows by Wanda's score",
    "block_size": "blocks of",
}
RUINED = 10  # times the dense model's perplexity; above it no comparison counts as evidence
USELESS = 100.0  # perplexity of a dense model; above it no comparison counts as evidence


class NotMeasuredError(LookupError):
    """A page asks for results that do not exist."""


@dataclass(frozen=True)
class Comparison:
    """One way to prune against another one, on the calibration draws that both have.

    own, base  their records, in the same order
    dense      perplexity of the model before pruning
    """

    own: Sequence[Record]
    base: Sequence[Record]
    dense: float

    @property
    def perplexity(self) -> Estimate:
        """Ratio of perplexities: over the draws, or over evaluation windows if there is one draw."""
        if len(self.own) > 1:
            return self._ratio(_perplexity)
        (before,), (after,) = self.base, self.own
        spread = rounding(after["run"]["pattern"])
        return perplexity_ratio(before["window_losses"], after["window_losses"], spread)

    @property
    def error(self) -> Estimate:
        """Ratio of layer errors with dense inputs; no interval if there is one draw."""
        return self._ratio(lambda record: float(record["dense_error"]))

    @property
    def seconds(self) -> float:
        """Ratio of pruning seconds."""
        return self._ratio(lambda record: float(record["seconds"]["pruning"])).value

    @property
    def verdict(self) -> Verdict:
        """Whether the perplexity differs."""
        return difference(self.perplexity)

    @property
    def usable(self) -> bool:
        """Whether the better model is good enough for the comparison to count as evidence."""
        best = min(geometric(self.own), geometric(self.base))
        return best <= RUINED * self.dense and self.dense <= USELESS

    def accuracy(self, tasks: Sequence[str]) -> Estimate:
        """Difference of the mean accuracy over some tasks, in percentage points."""
        pairs = zip(self.own, self.base, strict=True)
        return mean([100 * (accuracy(own, tasks) - accuracy(base, tasks)) for own, base in pairs])

    def _ratio(self, measure: Callable[[Record], float]) -> Estimate:
        return paired_ratio(
            [measure(each) for each in self.base], [measure(each) for each in self.own]
        )


@dataclass(frozen=True)
class StudyRuns:
    """The runs of a study's results files; what several files measured is taken once."""

    parts: tuple[Mapping[str, Any], ...]

    @cached_property
    def records(self) -> list[Record]:
        """Records of all runs, dense models first."""
        found: dict[str, Record] = {}
        for record in (record for part in self.parts for record in part["runs"]):
            what = ["run", "model", "evaluation", *(["calibration"] if "layers" in record else [])]
            found.setdefault(str([record[name] for name in what]), record)
        return sorted(found.values(), key=pruned)

    @property
    def dense(self) -> Record:
        """The record of the dense model."""
        return next(record for record in self.records if not pruned(record))

    @cached_property
    def runs(self) -> dict[str, list[Record]]:
        """Pruned runs by name, such as "thanos + refit 2:4", with a record for each draw."""
        found: dict[str, list[Record]] = {}
        for record in filter(pruned, self.records):
            found.setdefault(self.name(record), []).append(record)
        return found

    def name(self, record: Record) -> str:
        """The name of a pruned run: its method with its settings, then its pattern."""
        return f"{self.setting(record)} {family(record['run'])}"

    def setting(self, record: Record) -> str:
        """Method and settings in words, with the calibration where it is not the study's usual one."""
        text = label(record["run"])
        for switch, words in SWITCHES.items():
            text = text.replace(switch, words)
        text = re.sub(r"outlier rows 0\.(\d)", r"\g<1>0 % outlier rows", text)
        own, usual = record["calibration"], next(filter(pruned, self.records))["calibration"]
        if own["dataset"] != usual["dataset"]:
            text += f", calibrated on {own['dataset']}"
        if (tokens := own["nsamples"] * own["seqlen"]) != usual["nsamples"] * usual["seqlen"]:
            text += f", {tokens:,} tokens"
        return text

    def of(self, run: str) -> list[Record]:
        """The records of a run by its name. Raises NotMeasuredError for an unknown name."""
        if run not in self.runs:
            raise NotMeasuredError(f"run must be one of {', '.join(self.runs)}, got {run!r}")
        return self.runs[run]

    def compare(self, run: str, base: str) -> Comparison:
        """A run against another one on the draws that both have."""
        own, usual = (_by_draw(self.of(name)) for name in (run, base))
        # Magnitude reads no calibration text: its one run stands for every draw.
        if run.startswith("magnitude"):
            own = dict.fromkeys(usual, *own.values())
        if base.startswith("magnitude"):
            usual = dict.fromkeys(own, *usual.values())
        shared = sorted(own.keys() & usual.keys())
        if not shared:
            raise NotMeasuredError(f"{run!r} and {base!r} have no calibration draw in common")
        pairs = [own[seed] for seed in shared], [usual[seed] for seed in shared]
        return Comparison(*pairs, self.dense["perplexity"])

    def best(self, run: str, methods: Sequence[str]) -> str:
        """The run with the lowest perplexity among some methods in the pattern of `run`."""
        pattern = run.rpartition(" ")[2]
        names = [f"{method} {pattern}" for method in methods if f"{method} {pattern}" in self.runs]
        if not names:
            raise NotMeasuredError(f"none of {', '.join(methods)} was measured in {pattern}")
        return max(names, key=lambda name: self.compare(run, name).perplexity.value)


class Results:
    """All results files of a folder, which are read when a page asks for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, dict[str, Any]] = {}

    def content(self, name: str) -> dict[str, Any]:
        """The JSON of a results file. Raises NotMeasuredError if it does not exist."""
        if name not in self._read:
            # A command of its own names its file after itself.
            files = [
                self.folder / name / RESULTS,
                self.folder / name / f"{name}.json",
                self.folder / f"{name}.json",
            ]
            file = next((each for each in files if each.is_file()), None)
            if file is None:
                raise NotMeasuredError(f"{self.folder} has no results of {name!r}")
            self._read[name] = read_content(file)
        return self._read[name]

    def study(self, name: str) -> StudyRuns:
        """A study, from the parts that were measured. Raises NotMeasuredError without any."""
        parts = []
        for part in PARTS[name]:
            try:
                parts.append(self.content(part))
            except NotMeasuredError:
                continue
        if not parts:
            raise NotMeasuredError(f"{self.folder} has no results of {name!r}")
        return StudyRuns(tuple(parts))


def pruned(record: Record) -> bool:
    """False for the record of a dense model."""
    return "layers" in record


def rounding(pattern: str) -> Spread:
    """The spread that rounding causes in a pattern."""
    kind = pattern.partition(":")[0]
    return ROUNDING.get(kind, ROUNDING["semi-structured"])


def geometric(records: Sequence[Record]) -> float:
    """Geometric mean of the perplexities over the draws."""
    return geometric_mean([_perplexity(record) for record in records]).value


def accuracy(record: Record, tasks: Sequence[str]) -> float:
    """Mean zero-shot accuracy over some tasks."""
    found = {task["task"]: float(task["acc"]) for task in record["zero_shot"]["tasks"]}
    return sum(found[task] for task in tasks) / len(tasks)


def _perplexity(record: Record) -> float:
    return float(record["perplexity"])


def _by_draw(records: Sequence[Record]) -> dict[int, Record]:
    return {record["calibration"]["seed"]: record for record in records}
