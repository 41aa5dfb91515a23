"""What a change of one thing does, against the run without it, draw by draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verification.benchmarks.statistics import (
    Estimate,
    Verdict,
    difference,
    geometric_mean,
    paired_ratio,
    perplexity_ratio,
)
from verification.benchmarks.studies.plan import label

Record = dict[str, Any]
MEANING = """- *Perplexity* and *error* are geometric means over the calibration draws. *Against the first* compares on the same draw, with the 95 %
  interval of Student's t over the draws; with one draw, over the windows of the text. A difference is called one only if that interval leaves out 0 %.
- *Error*: tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W, mean over the layers, G of the dense model on other windows, the same for all runs."""


@dataclass(frozen=True)
class Change:
    """One setting against the base.

    what               as of `Run.what`
    draws              calibration draws that both have
    perplexity, error  geometric means over the draws
    *_ratio            to the base on the same draws; of one draw, perplexity is compared window by
                       window, and the error has no interval
    """

    name: str
    what: dict[str, Any]
    draws: int
    perplexity: Estimate
    error: Estimate
    perplexity_ratio: Estimate
    error_ratio: Estimate

    @property
    def verdict(self) -> Verdict:
        """Of the perplexity."""
        return difference(self.perplexity_ratio)


def setting(record: Record, base: Record) -> str:
    """What a run is, for people: also where its calibration is not the base's."""
    parts = [label(record["run"])]
    own, usual = record["calibration"], base["calibration"]
    if own["dataset"] != usual["dataset"]:
        parts.append(f"calibrated on {own['dataset']}")
    if own["nsamples"] * own["seqlen"] != usual["nsamples"] * usual["seqlen"]:
        parts.append(f"{own['nsamples'] * own['seqlen']:,} tokens")
    return ", ".join(parts)


def changes(records: Sequence[Record], base_name: str) -> list[Change]:
    """Every setting of pruned runs against the one whose label is `base_name`, the base first."""
    pruned = [record for record in records if "layers" in record]
    base = next(record for record in pruned if label(record["run"]) == base_name)
    by_setting: dict[str, dict[int, Record]] = {}
    for record in pruned:
        draws = by_setting.setdefault(setting(record, base), {})
        draws[record["calibration"]["seed"]] = record
    of_base = by_setting[base_name]
    names = [base_name, *(name for name in by_setting if name != base_name)]
    return [_change(name, by_setting[name], of_base) for name in names]


def _change(name: str, runs: dict[int, Record], base: dict[int, Record]) -> Change:
    shared = sorted(runs.keys() & base.keys())
    own, usual = [runs[seed] for seed in shared], [base[seed] for seed in shared]

    def both(what: str) -> tuple[list[float], list[float]]:
        return [record[what] for record in usual], [record[what] for record in own]

    if len(shared) > 1:
        perplexities = paired_ratio(*both("perplexity"))
    else:
        perplexities = perplexity_ratio(usual[0]["window_losses"], own[0]["window_losses"])
    return Change(
        name,
        own[0]["run"],
        len(shared),
        geometric_mean(both("perplexity")[1]),
        geometric_mean(both("dense_error")[1]),
        perplexities,
        paired_ratio(*both("dense_error")),
    )


def percent(ratio: Estimate) -> str:
    """A ratio as what it adds, with its interval."""
    text = f"{100 * (ratio.value - 1):+.1f} %"
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text} ({100 * (ratio.low - 1):+.1f} to {100 * (ratio.high - 1):+.1f})"


def change_table(found: Sequence[Change]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; the base comes first and has no ratios."""
    headings = ["setting", "draws", "perplexity", "against the first", "error", "against the first"]
    rows = [
        [
            each.name,
            str(each.draws),
            f"{each.perplexity.value:.2f}",
            percent(each.perplexity_ratio) if number else "",
            f"{each.error.value:.4f}",
            percent(each.error_ratio) if number else "",
        ]
        for number, each in enumerate(found)
    ]
    return headings, rows


def answer(found: Sequence[Change]) -> str:
    """In words: what makes perplexity higher, what lower, and what no difference."""
    parts = []
    for verdict, words in (
        ("higher", "Worse than the first row"),
        ("lower", "Better than the first row"),
        ("no difference", "No difference that the draws can show"),
        ("no verdict", "Too few draws to say"),
    ):
        names = [
            f"{each.name} ({percent(each.perplexity_ratio)})"
            for each in found[1:]
            if each.verdict == verdict
        ]
        if names:
            parts.append(f"- **{words}:** {'; '.join(names)}.")
    return "\n".join(parts)
