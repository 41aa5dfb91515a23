"""The effect of one change against the run without it, draw by draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verification.benchmarks.pages.names import name as named
from verification.benchmarks.pages.pairs import INTERVALS, PairedRuns, Record, percent
from verification.benchmarks.pages.tables import timing
from verification.benchmarks.quality.plan import family, label


def meaning(results: dict[str, Any]) -> str:
    """What the columns of a change table are, and what its intervals cover."""
    evaluation = results["runs"][0]["evaluation"]
    reference = evaluation["reference"] or evaluation["dataset"]
    return f"""- *Perplexity*, *error* and *pruning s* are geometric means over the calibration draws. *Against the first* compares on the same draws: where
  rows have different draws, only that compares them.
- {INTERVALS}. The error of one draw has no interval. A difference is called one only if the interval leaves out 0 %.
- Each interval is for its own comparison: none is corrected for the number of comparisons on this page. Without any difference, one in
  twenty would still be called one.
- *Error*: tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W, mean over the layers, G of the dense model, the same for all runs, on windows of
  `{reference}` drawn apart from those of the calibration. Where both are from one text they may share a few tokens.
- *Pruning s*: {timing(results)}."""


@dataclass(frozen=True)
class VariantChange(PairedRuns):
    """One setting against the base.

    name  for people
    what  as of `Run.what`
    """

    name: str
    what: dict[str, Any]


def setting(record: Record, base: Record) -> str:
    """What a run is, for people: also where its calibration is not the base's."""
    parts = [named(record["run"])]
    own, usual = record["calibration"], base["calibration"]
    if own["dataset"] != usual["dataset"]:
        parts.append(f"calibrated on {own['dataset']}")
    if own["nsamples"] * own["seqlen"] != usual["nsamples"] * usual["seqlen"]:
        parts.append(f"{own['nsamples'] * own['seqlen']:,} tokens")
    return ", ".join(parts)


def changes(records: Sequence[Record], base_name: str) -> list[VariantChange]:
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


def by_pattern(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records of pruned models by the pattern without outlier rows."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        if "layers" in record:
            grouped.setdefault(family(record["run"]), []).append(record)
    return grouped


def _change(name: str, runs: dict[int, Record], base: dict[int, Record]) -> VariantChange:
    shared = sorted(runs.keys() & base.keys())
    own, usual = ([each[seed] for seed in shared] for each in (runs, base))
    return VariantChange(own, usual, name, own[0]["run"])


def change_table(found: Sequence[VariantChange]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; the base comes first and has no ratios."""
    headings = ["setting", "interval over", "perplexity", "against the first", "error",
                "against the first", "pruning s", "times the first"]  # fmt: skip
    rows = [
        [
            each.name,
            each.over,
            f"{each.perplexity:.2f}",
            percent(each.perplexity_ratio) if number else "",
            f"{each.error:.4f}",
            percent(each.error_ratio) if number else "",
            f"{each.seconds:.1f}",
            f"{each.seconds_ratio:.1f}" if number else "",
        ]
        for number, each in enumerate(found)
    ]
    return headings, rows


def answer(found: Sequence[VariantChange]) -> str:
    """In words: what was measured with a higher perplexity than the base, what lower, and where neither was shown.

    What one draw shows stands apart from what several do.
    """
    base, *others = found
    kinds = sorted({(-each.draws, each.over) for each in others})
    parts = []
    for verdict, words in (
        ("higher", "Higher perplexity than"),
        ("lower", "Lower perplexity than"),
        ("no difference", "Not shown to differ from"),
        ("no verdict", "Too few draws to tell from"),
    ):
        for _, over in kinds:
            told = [
                f"{each.name} {percent(each.perplexity_ratio)}"
                for each in others
                if (each.verdict, each.over) == (verdict, over)
            ]
            if told:
                where = f", over {over}" if len(kinds) > 1 else ""
                parts.append(f"- **{words} {base.name}{where}:** {'; '.join(told)}.")
    if len(kinds) == 1:
        ((_, over),) = kinds
        parts.append(f"- In brackets 95 % intervals, over {over}.")
    return "\n".join(parts)
