"""Colours, axes and saving of all plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from verification.benchmarks.pages import drawn
from verification.benchmarks.statistics import Estimate, added_percent

# Inches. A picture this narrow has letters that can be read on a telephone, 390 pixels wide.
WIDTH = 5.6

# Colours that colour-blind readers tell apart (Okabe and Ito), one a method in all plots; what
# is refitted is darker.
COLOURS = {
    "magnitude": "#999999",
    "wanda": "#E69F00",
    "sparsegpt": "#56B4E9",
    "thanos": "#D55E00",
    "wanda + refit": "#8A5F00",
    "sparsegpt + refit": "#0072B2",
    "thanos + refit": "#7A3300",
}

# Lines of one plot that are no methods.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")

# Of perplexity against another method.
VERDICTS = {
    "lower": "#009E73",
    "higher": "#D55E00",
    "no difference": "#777777",
    "no verdict": "#777777",
}

mpl.rcParams.update(
    {
        "figure.dpi": 150,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)


def save(figure: Any, file: Path) -> None:
    """Write a picture; the same figure gives the same bytes."""
    metadata = {"Software": None, drawn.KEY: drawn.digest(figure)}
    figure.savefig(file, bbox_inches="tight", metadata=metadata)
    plt.close(figure)


def log_axis(axis: Any) -> None:
    """A logarithmic axis with plain numbers, of which there are few on a short one."""
    panel = axis.axes
    (panel.set_xscale if axis is panel.xaxis else panel.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def change_axis(axis: Any, linear: float, marked: Sequence[int]) -> None:
    """An axis of changes in %: linear within ±`linear`, logarithmic beyond; numbers at ±`marked`."""
    panel = axis.axes
    set_scale = panel.set_xscale if axis is panel.xaxis else panel.set_yscale
    set_scale("symlog", linthresh=linear, linscale=2)
    axis.set_major_locator(FixedLocator([*(-end for end in marked), 0, *marked]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axis.set_minor_locator(NullLocator())


def draw_change(panel: Any, row: float, ratio: Estimate, colour: str, most: float) -> None:
    """A ratio as a change in %: a point and its interval; an arrow if it is more than `most`."""
    value = added_percent(ratio.value)
    if value > most:
        panel.plot([most], [row], ">", color=colour, markersize=6)
        return
    if ratio.low is not None and ratio.high is not None:
        ends = [added_percent(ratio.low), min(most, added_percent(ratio.high))]
        panel.plot(ends, [row, row], color=colour, linewidth=2)
    panel.plot([value], [row], "o", color=colour, markersize=5)
