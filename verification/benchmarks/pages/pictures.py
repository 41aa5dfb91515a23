"""The pictures of the studies of pruning quality."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from verification.benchmarks.pages.studies import Comparison, StudyRuns, geometric
from verification.benchmarks.pages.style import (
    COLOURS,
    VERDICTS,
    WIDTH,
    change_axis,
    draw_change,
    log_axis,
)
from verification.benchmarks.pages.tables import perplexity, signed
from verification.benchmarks.quality.plan import family
from verification.benchmarks.statistics import added_percent

MOST_SHOWN = 1e4  # of perplexity: beyond it no model is left
MOST_PERCENT = 100  # of a change in a forest plot; an arrow marks what lies beyond
LONGEST_BAR = 1000  # of perplexity; the bars of worse models end here
LABEL = 30  # characters of a row's label in a line


def forest(groups: Mapping[str, Mapping[str, Comparison]], axis: str) -> Any:
    """Changes of perplexity with their intervals: a panel for each group, a row for each name.

    Green is lower, red higher; grey is not shown to differ. The value stands at the right.
    """
    rows = [len(group) for group in groups.values()]
    figure, panels = plt.subplots(
        len(groups),
        1,
        figsize=(WIDTH, 0.9 + 0.34 * sum(rows) + 0.25 * len(rows)),
        sharex=True,
        height_ratios=rows,
        layout="constrained",
        squeeze=False,
    )
    for panel, (title, group) in zip(panels[:, 0], groups.items(), strict=True):
        for row, change in enumerate(group.values()):
            colour = VERDICTS[change.verdict]
            draw_change(panel, row, change.perplexity, colour, MOST_PERCENT)
            value = signed(added_percent(change.perplexity.value), 1)
            panel.text(
                1.02,
                row,
                f"{value} %",
                color=colour,
                va="center",
                fontsize=9,
                transform=panel.get_yaxis_transform(),
            )
        panel.axvline(0, color="black", linewidth=1)
        panel.set_yticks(range(len(group)), [textwrap.fill(name, LABEL) for name in group])
        panel.set_ylim(len(group) - 0.4, -0.6)
        panel.set_title(title, fontsize=10, loc="left")
        change_axis(panel.xaxis, linear=10, marked=(10, 50))
        panel.set_xlim(-MOST_PERCENT, 1.2 * MOST_PERCENT)
    figure.supxlabel(axis, fontsize=9)
    return figure


def by_sparsity(study: StudyRuns, methods: Sequence[str]) -> Any:
    """Perplexity against the share of weights removed: a line for each method."""
    figure, panel = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
    for method in methods:
        runs = {
            name: runs for name, runs in study.runs.items() if name.rpartition(" ")[0] == method
        }
        shares = [100 * float(name.rpartition(":")[2]) for name in runs]
        panel.plot(
            shares,
            [geometric(each) for each in runs.values()],
            "o-",
            color=COLOURS[method],
            label=method,
            markersize=4,
        )
    dense = study.dense["perplexity"]
    panel.axhline(dense, color="black", linewidth=1, linestyle="--", label=f"dense, {dense:.1f}")
    log_axis(panel.yaxis)
    panel.set_ylim(0.8 * dense, MOST_SHOWN)
    panel.set(xlabel="weights removed, %", ylabel="perplexity (log scale, lower is better)")
    panel.legend(loc="upper left")
    return figure


def bars(study: StudyRuns) -> Any:
    """Perplexity by method: a panel for each pattern; the dense model is a line."""
    patterns = list(dict.fromkeys(name.rpartition(" ")[2] for name in study.runs))
    groups = {
        pattern: {
            name.rpartition(" ")[0]: geometric(runs)
            for name, runs in study.runs.items()
            if name.endswith(f" {pattern}")
        }
        for pattern in patterns
    }
    figure, panels = plt.subplots(
        len(groups),
        1,
        figsize=(WIDTH, 0.8 + 0.32 * len(study.runs)),
        sharex=True,
        height_ratios=[len(group) for group in groups.values()],
        layout="constrained",
        squeeze=False,
    )
    dense = study.dense["perplexity"]
    for panel, (pattern, values) in zip(panels[:, 0], groups.items(), strict=True):
        lengths = [min(value, LONGEST_BAR) for value in values.values()]
        shown = panel.barh(range(len(values)), lengths, color=[COLOURS[each] for each in values])
        panel.bar_label(shown, [perplexity(value) for value in values.values()], padding=3)
        panel.axvline(dense, color="black", linewidth=1, linestyle="--")
        panel.set_yticks(range(len(values)), values)
        panel.invert_yaxis()
        panel.set_title(pattern, fontsize=10, loc="left")
    log_axis(panels[-1, 0].xaxis)
    panels[-1, 0].set_xlim(0.8 * dense, 2.2 * LONGEST_BAR)
    panels[-1, 0].set_xlabel(f"perplexity (log scale; dashed: dense, {dense:.1f})")
    return figure


def zeros(study: StudyRuns) -> Any:
    """The mask of one layer in every run, in coarse cells: dark where much was removed."""
    records = [runs[0] for runs in study.runs.values() if not runs[0]["run"].get("refit_steps")]
    patterns = list(dict.fromkeys(family(record["run"]) for record in records))
    methods = list(dict.fromkeys(study.setting(record) for record in records))
    figure, panels = plt.subplots(
        len(patterns),
        len(methods),
        figsize=(WIDTH, 0.6 + 1.3 * len(patterns)),
        layout="constrained",
        squeeze=False,
    )
    shades = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), "Greys")
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for record in records:
        row, column = patterns.index(family(record["run"])), methods.index(study.setting(record))
        density = np.array(record["mask_picture"]["density"])
        panels[row, column].imshow(density, norm=shades.norm, cmap=shades.cmap, aspect="auto")
    for column, method in enumerate(methods):
        panels[0, column].set_title(method, fontsize=9)
    for row, pattern in enumerate(patterns):
        panels[row, 0].set_ylabel(pattern, fontsize=9)
    figure.colorbar(shades, ax=panels, shrink=0.6, label="share removed")
    return figure


def draws(study: StudyRuns) -> Any:
    """Perplexity of every calibration draw: a row for each method."""
    figure, panel = plt.subplots(figsize=(WIDTH, 0.9 + 0.3 * len(study.runs)), layout="constrained")
    for row, (name, runs) in enumerate(study.runs.items()):
        values = [run["perplexity"] for run in runs]
        colour = COLOURS[name.rpartition(" ")[0]]
        panel.plot(values, [row] * len(values), "o", color=colour, alpha=0.7)
    panel.set_yticks(range(len(study.runs)), [name.rpartition(" ")[0] for name in study.runs])
    panel.invert_yaxis()
    log_axis(panel.xaxis)
    panel.set_xlabel("perplexity, a point for each calibration draw (log scale)")
    return figure
