"""What a change of one thing does, against the run without it, draw by draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verification.benchmarks.pages.names import name as named
from verification.benchmarks.pages.tables import timing
from verification.benchmarks.statistics import (
    LEVEL,
    Estimate,
    Verdict,
    added_percent,
    difference,
    geometric_mean,
    paired_ratio,
    perplexity_ratio,
    t_factor,
)
from verification.benchmarks.studies.plan import label

Record = dict[str, Any]


def meaning(results: dict[str, Any]) -> str:
    """What the columns of a change table are, and what its intervals cover."""
    return f"""- *Perplexity*, *error* and *pruning s* are geometric means over the calibration draws. *Against the first* compares on the same draws: where
  rows have different draws, only that compares them.
- 95 % intervals: over several draws, Student's t of the draws: {t_factor(1, LEVEL):.1f} standard errors to either side where there are two, {t_factor(2, LEVEL):.1f} of three. Of one
  draw, over the windows of the evaluation text only, which says nothing of other draws: it is the narrower one, and what it shows may not be
  shown over two draws. The error then has none. A difference is called one only if the interval leaves out 0 %.
- Each interval is for its own comparison: none is corrected for the number of comparisons on this page. Without any difference, one in
  twenty would still be called one.
- *Error*: tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W, mean over the layers, G of the dense model, the same for all runs, on windows drawn apart from
  those of the calibration. Where both are from one text they may share a few tokens.
- *Pruning s*: {timing(results)}."""


@dataclass(frozen=True)
class Change:
    """One setting against the base.

    what               as of `Run.what`
    draws              calibration draws that both have
    perplexity, error  geometric means over the draws
    seconds            of pruning, as perplexity
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
    seconds: float
    seconds_ratio: float

    @property
    def verdict(self) -> Verdict:
        """Of the perplexity."""
        return difference(self.perplexity_ratio)


def setting(record: Record, base: Record) -> str:
    """What a run is, for people: also where its calibration is not the base's."""
    parts = [named(record["run"])]
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
    first = setting(base, base)
    of_base = by_setting[first]
    names = [first, *(name for name in by_setting if name != first)]
    return [_change(name, by_setting[name], of_base) for name in names]


def _change(name: str, runs: dict[int, Record], base: dict[int, Record]) -> Change:
    shared = sorted(runs.keys() & base.keys())
    own, usual = [runs[seed] for seed in shared], [base[seed] for seed in shared]

    def both(what: str) -> tuple[list[float], list[float]]:
        return [record[what] for record in usual], [record[what] for record in own]

    return Change(
        name,
        own[0]["run"],
        len(shared),
        geometric_mean(both("perplexity")[1]),
        geometric_mean(both("dense_error")[1]),
        paired_perplexity(usual, own),
        paired_ratio(*both("dense_error")),
        *_times(usual, own),
    )


def paired_perplexity(usual: Sequence[Record], own: Sequence[Record]) -> Estimate:
    """The ratio of perplexities on the same draws; of one draw, over the evaluation's windows."""
    if len(own) > 1:
        before, after = ([record["perplexity"] for record in each] for each in (usual, own))
        return paired_ratio(before, after)
    return perplexity_ratio(usual[0]["window_losses"], own[0]["window_losses"])


def _times(usual: Sequence[Record], own: Sequence[Record]) -> tuple[float, float]:
    """Seconds of pruning, and how many times those of the base."""
    before, after = (
        geometric_mean([record["seconds"]["pruning"] for record in each]).value
        for each in (usual, own)
    )
    return after, after / before


def percent(ratio: Estimate) -> str:
    """A ratio as what it adds, with its interval: with digits that show on which side of 0 it lies."""
    value = added_percent(ratio.value)
    if ratio.low is None or ratio.high is None:
        return f"{signed(value, 1)} %"
    ends = [added_percent(end) for end in (ratio.low, ratio.high)]
    judged = difference(ratio) != "no difference"
    digits = next((d for d in (1, 2) if all(round(end, d) for end in ends)), 3) if judged else 1
    low, high = (signed(end, digits) for end in ends)
    return f"{signed(value, digits)} % ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """With its sign, which 0 has none of."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def over(change: Change) -> str:
    """What the interval of its perplexity is over."""
    return f"{change.draws} draws" if change.draws > 1 else "windows of 1 draw"


def change_table(found: Sequence[Change]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; the base comes first and has no ratios."""
    headings = ["setting", "interval over", "perplexity", "against the first", "error",
                "against the first", "pruning s", "times the first"]  # fmt: skip
    rows = [
        [
            each.name,
            over(each),
            f"{each.perplexity.value:.2f}",
            percent(each.perplexity_ratio) if number else "",
            f"{each.error.value:.4f}",
            percent(each.error_ratio) if number else "",
            f"{each.seconds:.1f}",
            f"{each.seconds_ratio:.1f}" if number else "",
        ]
        for number, each in enumerate(found)
    ]
    return headings, rows


def answer(found: Sequence[Change]) -> str:
    """In words: what was measured with a higher perplexity than the base, what lower, and where neither was shown."""
    base, *others = found
    kinds = list(dict.fromkeys(map(over, others)))
    parts = []
    for verdict, words in (
        ("higher", "Higher perplexity than"),
        ("lower", "Lower perplexity than"),
        ("no difference", "Not shown to differ from"),
        ("no verdict", "Too few draws to tell from"),
    ):
        told = [
            f"{each.name} {_interval(each, kinds)}" for each in others if each.verdict == verdict
        ]
        if told:
            parts.append(f"- **{words} {base.name}:** {'; '.join(told)}.")
    if len(kinds) == 1:
        parts.append(f"- In brackets 95 % intervals, over {kinds[0]}.")
    return "\n".join(parts)


def _interval(change: Change, kinds: Sequence[str]) -> str:
    """What it adds; where not all intervals are over the same, what this one is over."""
    text = percent(change.perplexity_ratio)
    return text if len(kinds) == 1 else f"{text}, over {over(change)}"
