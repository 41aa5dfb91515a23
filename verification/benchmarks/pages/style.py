"""Colours, axes and saving of all plots."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from verification.benchmarks.pages import drawn
from verification.benchmarks.statistics import Estimate, added_percent

# Colours that colour-blind readers tell apart (Okabe and Ito), one a method in all plots; what
# is refitted is darker.
COLOURS = {
    "magnitude": "#999999",
    "wanda": "#E69F00",
    "sparsegpt": "#56B4E9",
    "thanos": "#D55E00",
    "thanos, outlier rows 0.1": "#CC79A7",
    "wanda + refit": "#8A5F00",
    "sparsegpt + refit": "#0072B2",
    "thanos + refit": "#7A3300",
}

# Lines of one plot that are no methods.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")

# Of perplexity against another method.
VERDICTS = {"lower": "#009E73", "higher": "#D55E00", "not shown to differ": "#777777"}

mpl.rcParams.update(
    {
        "figure.dpi": 120,
        "font.size": 9,
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
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


ENDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def change_axis(axis: Any, linear: float, marked: Sequence[int] = ENDS) -> None:
    """An axis of what a change adds, in %: linear within ±`linear`, logarithmic beyond; numbers at ±`marked`."""
    panel = axis.axes
    set_scale = panel.set_xscale if axis is panel.xaxis else panel.set_yscale
    set_scale("symlog", linthresh=linear, linscale=1.5)
    ends = [end for end in marked if end >= linear / 5]
    axis.set_major_locator(FixedLocator([*(-end for end in ends), 0, *ends]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axis.set_minor_locator(NullLocator())


def draw_change(
    panel: Any, row: float, ratio: Estimate, colour: str, line: str, size: float
) -> None:
    """A ratio as what it adds, in %: a point of some size, and a line over its interval."""
    if ratio.low is not None and ratio.high is not None:
        ends = [added_percent(ratio.low), added_percent(ratio.high)]
        panel.plot(ends, [row, row], color=line, linewidth=2)
    panel.plot([added_percent(ratio.value)], [row], "o", color=colour, markersize=size)


def legend_of_all(panels: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """Handles and labels for one legend of several panels, of which none may have all lines."""
    named = {
        name: handle
        for panel in panels
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    return [*named.values()], [*named]


def legend_outside(panel: Any) -> None:
    """To the right of the plot, where it hides nothing."""
    panel.legend(loc="upper left", bbox_to_anchor=(1, 1))
