"""The page and the pictures of the sweep: quality against the share of weights removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from verification.benchmarks.pages.depth import HEADING, draw_depth
from verification.benchmarks.pages.groups import OTHERS, RUINED
from verification.benchmarks.pages.page import Page, Sources, joined
from verification.benchmarks.pages.pairs import INTERVALS, Record, on_one_draw, percent
from verification.benchmarks.pages.style import COLOURS, legend_outside, log_axis, save
from verification.benchmarks.pages.tables import lines, protocol, source, summary, timing, verdict
from verification.benchmarks.quality.plan import label
from verification.benchmarks.statistics import difference, in_words

STUDIES = ("sweep-low", "sweep-high")
DEPTH_AT = 0.5  # the share removed where layer error is shown by depth: refits are there too
MOST_SHOWN = 1e5  # of perplexity: beyond, no model is left
PAIRS = (("sparsegpt", "thanos"), ("thanos", "thanos + refit"), ("sparsegpt", "sparsegpt + refit"))


def sparsity(record: Record) -> float:
    """The share that a run was asked to remove."""
    return float(record["run"]["pattern"].partition(":")[2])


def by_method(results: dict[str, Any]) -> dict[str, dict[float, Record]]:
    """Pruned runs by label and sparsity."""
    grouped: dict[str, dict[float, Record]] = {}
    for record in results["runs"]:
        if "layers" in record:
            grouped.setdefault(label(record["run"]), {})[sparsity(record)] = record
    return grouped


def text(sources: Sources) -> str:
    """Answer, plots, table."""
    results = joined(sources, STUDIES)
    grouped = by_method(results)
    shares = sorted({*chain(*grouped.values())})
    dense = next(record for record in results["runs"] if "layers" not in record)
    return f"""# How much can be removed?

Perplexity is at most twice the dense model's ({dense["perplexity"]:.2f}) at these shares of the weights removed; where the 95 % interval of the
ratio holds 2, *about*:

{lines(_usable(name, runs, dense, shares) for name, runs in grouped.items())}

Measured from {min(shares):.0%} to {max(shares):.0%} in steps of 10%, with one calibration draw at each point. {_ruined(grouped, dense["perplexity"])}{_below(grouped, dense)}

Perplexity against another method on the same draw. A difference is called one if its 95 % interval leaves out 0 %; none is corrected for the
number of comparisons.

{_against_best(grouped)}
{lines(_compared(before, after, grouped) for before, after in PAIRS)}

![Perplexity against sparsity](sweep-perplexity.png)

![Layer error against sparsity](sweep-error.png)
{_depth_picture(grouped)}
{summary(results)}

- {INTERVALS}.

*Sparsity*: Wanda removes the same whole number of weights of every row, rounded down.
*Pruning s*: {timing(results)}. *Peak MiB*: of the process up to the end of pruning, with its libraries, of which a GPU needs more: runs
of different machines do not compare. *With dense inputs*: on windows drawn apart from the calibration's; from one text, they may share a few tokens.

{protocol(results)} {verdict(results)}

{source(results)}
"""


def _depth_picture(grouped: dict[str, dict[float, Record]]) -> str:
    shown = f"\n![Layer error by depth, {DEPTH_AT:.0%} removed](sweep-depth.png)\n"
    return shown if _at_depth_share(grouped) else ""


def _usable(name: str, runs: dict[float, Record], dense: Record, shares: list[float]) -> str:
    told = []
    for share, run in sorted(runs.items()):
        ratio = on_one_draw(dense, run)
        assert ratio.low is not None
        assert ratio.high is not None
        if ratio.high <= 2:
            told.append(f"{share:.0%}")
        elif ratio.low <= 2:
            told.append(
                f"about {share:.0%} ({ratio.value:.2f} times, {ratio.low:.2f} to {ratio.high:.2f})"
            )
    partly = "" if sorted(runs) == shares else f" (measured at {_listed(sorted(runs))})"
    return f"- {name}: {', '.join(told) or 'nowhere'}{partly}."


def _listed(shares: list[float]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares)


def _below(grouped: dict[str, dict[float, Record]], dense: Record) -> str:
    """Where removing weights even helped, which readers would take for a mistake."""
    told = [
        f"{name} at {share:.0%} ({percent(ratio)})"
        for name, runs in grouped.items()
        for share, run in sorted(runs.items())
        for ratio in [on_one_draw(dense, run)]
        if difference(ratio) == "lower"
    ]
    return f" Below the dense model's: {', '.join(told)}." if told else ""


def _ruined(grouped: dict[str, dict[float, Record]], dense: float) -> str:
    """Where no method leaves a model that is worth comparing."""
    best = {
        share: min(runs[share]["perplexity"] for runs in grouped.values() if share in runs)
        for share in sorted({*chain(*grouped.values())})
    }
    shares = [share for share, perplexity in best.items() if perplexity > RUINED * dense]
    if not shares:
        return f"The best method stays below {RUINED} times the dense model's everywhere."
    return (
        f"At {_listed(shares)} even the best method's is more than {RUINED} times the dense model's: "
        "who is better there says little."
    )


def _against_best(grouped: dict[str, dict[float, Record]]) -> str:
    """Thanos against the best of the others at every sparsity."""
    words = []
    for share, own in sorted(grouped["thanos"].items()):
        others = {name: grouped[name][share] for name in OTHERS}
        best = min(others, key=lambda name: others[name]["perplexity"])
        words.append(f"{share:.0%} {_judged(others[best], own)} against {best}")
    return f"- thanos against the best of {', '.join(OTHERS)}: {'; '.join(words)}."


def _compared(before: str, after: str, grouped: dict[str, dict[float, Record]]) -> str:
    words = [
        f"{share:.0%} {_judged(grouped[before][share], grouped[after][share])}"
        for share in sorted(grouped[before].keys() & grouped[after].keys())
    ]
    return f"- {after} against {before}: {'; '.join(words)}."


def _judged(before: Record, after: Record) -> str:
    ratio = on_one_draw(before, after)
    return f"{in_words(difference(ratio))} ({percent(ratio)})"


def draw(sources: Sources, folder: Path) -> None:
    """Write sweep-perplexity.png, sweep-error.png and, if runs have its share, sweep-depth.png."""
    results = joined(sources, STUDIES)
    grouped = by_method(results)
    dense = next(record for record in results["runs"] if "layers" not in record)
    most = max(record["perplexity"] for record in results["runs"])
    cut = f"; beyond {MOST_SHOWN:,.0f} not shown" if most > MOST_SHOWN else ""
    with _picture(folder, "sweep-perplexity") as panel:
        draw_by_share(panel, grouped, "perplexity")
        panel.axhline(dense["perplexity"], color="black", linewidth=1, label="dense")
        panel.set_ylim(0.8 * dense["perplexity"], min(MOST_SHOWN, 1.3 * most))
        panel.set(ylabel=f"perplexity (log scale{cut})")
    with _picture(folder, "sweep-error") as panel:
        draw_by_share(panel, grouped, "dense_error")
        panel.set(ylabel="layer error, dense inputs (log scale)")
    if records := _at_depth_share(grouped):
        with _picture(folder, "sweep-depth") as panel:
            draw_depth(panel, records)
            panel.set_ylabel(f"{HEADING} (log scale), {DEPTH_AT:.0%} removed")


@contextmanager
def _picture(folder: Path, name: str) -> Iterator[Any]:
    """A panel that becomes `name`.png, with its legend."""
    figure, panel = plt.subplots(figsize=(7.5, 4.2))
    yield panel
    legend_outside(panel)
    save(figure, folder / f"{name}.png")


def _at_depth_share(grouped: dict[str, dict[float, Record]]) -> list[Record]:
    return [runs[DEPTH_AT] for runs in grouped.values() if DEPTH_AT in runs]


def draw_by_share(panel: Any, grouped: dict[str, dict[float, Record]], what: str) -> None:
    """A line a method; only between shares that are neighbours: over a gap it would tell of what nobody measured."""
    shares = sorted({*chain(*grouped.values())})
    for method, runs in grouped.items():
        values = [runs[share][what] if share in runs else np.nan for share in shares]
        panel.plot(shares, values, "o-", color=COLOURS[method], label=method, markersize=4)
    log_axis(panel.yaxis)
    panel.set_xlabel("share of weights removed")


SWEEP = Page("sweep", "How much can be removed?", STUDIES, text, draw, whole=False)
