"""The page and the picture on outlier rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.changes import (
    VariantChange,
    by_pattern,
    change_table,
    changes,
    meaning,
)
from verification.benchmarks.pages.groups import RUINED
from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.pairs import percent
from verification.benchmarks.pages.style import change_axis, save
from verification.benchmarks.pages.tables import lines, markdown, protocol, source, verdict
from verification.benchmarks.quality.plan import label
from verification.benchmarks.quality.profiles import SEEDS
from verification.benchmarks.statistics import added_percent

SCORES = {"output": "‖W_i X‖²", "wanda": "Σ_j W_ij² G_jj"}
# Colour, and how far aside of its share a score's interval is drawn: both are at the same one.
SCORE_STYLES = {"output": ("#D55E00", 0.012), "wanda": ("#0072B2", 0.028)}
NONE = "thanos"  # the label of a run without outlier rows


def by_sparsity(results: dict[str, Any]) -> dict[str, list[VariantChange]]:
    """By the pattern without outlier rows: every share and score against no outlier rows."""
    return {name: changes(records, NONE) for name, records in by_pattern(results["runs"]).items()}


def share(change: VariantChange) -> float:
    """α of a setting."""
    return float(change.what["pattern"].partition("+outliers:")[2] or 0)


def score(change: VariantChange) -> str:
    """Which score picks the outlier rows."""
    return str(change.what.get("outlier_score", "output"))


def text(sources: Sources) -> str:
    """Answer, tables, plot."""
    results = sources["outliers"]
    grouped = by_sparsity(results)
    dense = next(record["perplexity"] for record in results["runs"] if "layers" not in record)
    tables = (
        f"**{name}**\n\n{markdown(*change_table(found))}\n" for name, found in grouped.items()
    )
    return f"""# What do outlier rows contribute?

Perplexity against no outlier rows, of SmolLM2-135M, with 95 % intervals:

{lines(_answer(name, found, dense) for name, found in grouped.items())}
{lines(_between_scores(*each) for each in by_pattern(results["runs"]).items())}

In n:m pruning, outlier rows are judged on the page of [claims](claims.md).

{lines(tables)}
- Outlier rows keep all their weights, and the columns removed from the others are more, so that the same share of the layer goes.
- They are the rows with the largest {SCORES["output"]}; with *rows by Wanda's score*, with the largest {SCORES["wanda"]}.
{meaning(results)}

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity against the share of outlier rows](outliers.png)
"""


def _answer(name: str, found: list[VariantChange], dense: float) -> str:
    """The paper's choice first, then what else was shown, and what is left of the model."""
    none = found[0]
    others = [each for each in found if share(each) > 0]  # the rest are controls without any
    choice = next(each for each in others if share(each) == 0.1 and score(each) == "output")
    return (
        f"- **{name}**: the paper's choice, {_setting(choice)}: perplexity {choice.shown}, "
        f"{_against_none(choice)}. {_shown('Lower', others)} {_shown('Higher', others)} "
        f"{_kept(none, others, dense)}"
    )


def _shown(word: str, found: list[VariantChange]) -> str:
    """Settings with that verdict against no outlier rows; what one draw shows stands apart."""
    shown = [each for each in found if each.verdict == word.lower()]
    told: dict[str, list[str]] = {}
    for each in sorted(shown, key=lambda each: -each.draws):
        told.setdefault(each.over, []).append(
            f"{_setting(each)} ({percent(each.perplexity_ratio)})"
        )
    parts = [
        f"{'; '.join(settings)} over {over}{'' if 'draws' in over else ', which says nothing of others'}"
        for over, settings in told.items()
    ]
    return f"{word}: {', and '.join(parts) or 'none'}."


def _setting(change: VariantChange) -> str:
    return f"{share(change):.0%} by {SCORES[score(change)]}"


def _against_none(change: VariantChange) -> str:
    return f"{percent(change.perplexity_ratio)} over {change.over}"


def _kept(none: VariantChange, others: list[VariantChange], dense: float) -> str:
    """How far all that is from the dense model: where it is ruined, a difference is of no use."""
    best = min(each.perplexity for each in (none, *others))
    ruined = ", which is of no use" if best > RUINED * dense else ""
    return (
        f"Without outlier rows perplexity is {none.perplexity / dense:.0f} times the dense model's, "
        f"at best {best / dense:.0f} times{ruined}."
    )


def _between_scores(name: str, records: list[Any]) -> str:
    """The two scores at the paper's share, on the same draws."""
    of_paper = f"{NONE}, outlier rows 0.1"
    wanda = f"{of_paper}, outlier_score wanda"
    runs = [record for record in records if label(record["run"]) in (of_paper, wanda)]
    (change,) = changes(runs, of_paper)[1:]
    return (
        f"- **{name}**, 10% by {SCORES['wanda']} against 10% by {SCORES['output']}: perplexity "
        f"{change.shown}, {_against_none(change)}."
    )


def draw(sources: Sources, folder: Path) -> None:
    """Write outliers.png: lines over the shares on the one draw that has all of them, and what several draws say."""
    patterns = by_pattern(sources["outliers"]["runs"])
    figure, panels = plt.subplots(1, len(patterns), figsize=(9, 3.4), squeeze=False)
    for panel, (name, records) in zip(panels[0], patterns.items(), strict=True):
        values = [
            value
            for which, (colour, aside) in SCORE_STYLES.items()
            for value in draw_score(panel, records, which, colour, aside)
        ]
        panel.axhline(0, color="black", linewidth=1)
        change_axis(panel.yaxis, linear=20)
        panel.set_ylim(min(-2.0, 1.3 * min(values)), max(2.0, 1.3 * max(values)))
        panel.set(title=name, xlabel="share of outlier rows")
    panels[0][0].set_ylabel("perplexity against no outlier rows, %\n(linear within ±20)")
    panels[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, folder / "outliers.png")


def draw_score(
    panel: Any, records: list[Any], which: str, colour: str, aside: float
) -> Iterator[float]:
    """Both kinds of points of a score; yields all that must be visible."""
    first = [record for record in records if record["calibration"]["seed"] == SEEDS[0]]
    line = sorted(_with_score(changes(first, NONE), which), key=share)
    added = [added_percent(each.perplexity_ratio.value) for each in line]
    panel.plot([share(each) for each in line], added, "o-", color=colour, markerfacecolor="white",
               label=f"{SCORES[which]}, first draw")  # fmt: skip
    yield from added
    for each in _with_score(changes(records, NONE), which):
        ratio = each.perplexity_ratio
        if each.draws > 1 and share(each) > 0 and ratio.low is not None and ratio.high is not None:
            value, low, high = map(added_percent, (ratio.value, ratio.low, ratio.high))
            reach = [[value - low], [high - value]]
            panel.errorbar([share(each) + aside], [value], reach, fmt="s", color=colour, capsize=3,
                           markersize=4, label=f"{SCORES[which]}, {each.draws} draws, 95 %")  # fmt: skip
            yield from (low, high)


def _with_score(found: list[VariantChange], which: str) -> list[VariantChange]:
    """None, which is the same for both scores, and the shares that one of them picked."""
    return [found[0], *(each for each in found if share(each) > 0 and score(each) == which)]


OUTLIERS = Page("outliers", "What do outlier rows contribute?", ("outliers",), text, draw)
