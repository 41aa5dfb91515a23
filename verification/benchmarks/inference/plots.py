"""The plots of inference.json: time of the compact layer and of models, and bytes of the forms."""

import math
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.style import SERIES, WIDTH

SHOWN = "median and 95 % interval"
POINT = 3  # small, so that a point does not hide its interval


def draw_inference(results: dict[str, Any]) -> Any:
    """Plot the time of the compact layer over nn.Linear's, and of models over the dense one's."""
    figure, (layers, models) = plt.subplots(2, 1, figsize=(WIDTH, 8), layout="constrained")
    _layers(layers, results["layers"])
    _models(models, results["runs"][1:] or results["runs"])
    return figure


def draw_sizes(results: dict[str, Any]) -> Any:
    """Plot the bytes of the pruned layers in each form, 32 and 16 bits, relative to dense."""
    by_pattern = {
        run["run"]["pattern"]: run["sizes"]["formulas"] for run in results["runs"] if "sizes" in run
    }
    names = [(pattern, form) for pattern, forms in by_pattern.items() for form in forms]
    names = [name for name in names if name[1] != "dense"]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.8 + 0.42 * len(names)), layout="constrained")
    for number, (bits, size) in enumerate((("32", "4"), ("16", "2"))):
        shares = [
            100 * by_pattern[pattern][form][size] / by_pattern[pattern]["dense"][size]
            for pattern, form in names
        ]
        places = [place + 0.38 * (number - 0.5) for place in range(len(names))]
        bars = axes.barh(places, shares, 0.36, color=SERIES[number], label=f"{bits} bits")
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    axes.axvline(100, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(names)), [f"{pattern}, {form}" for pattern, form in names])
    axes.invert_yaxis()
    axes.set(xlabel="bytes of the pruned layers, % of dense", xlim=(0, 108))
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.12), ncols=2, fontsize=9)
    return figure


def _layers(axes: Any, layers: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys("{}×{}".format(*each["shape"]) for each in layers))
    series = list(dict.fromkeys((each["pattern"], each["tokens"]) for each in layers))
    for number, ((pattern, tokens), colour) in enumerate(zip(series, SERIES, strict=False)):
        own = [each for each in layers if (each["pattern"], each["tokens"]) == (pattern, tokens)]
        ratios = [each["ratio"] for each in own]
        places = [names.index("{}×{}".format(*each["shape"])) for each in own]
        axes.errorbar(
            [place + 0.15 * (number - 1.5) for place in places],
            [ratio["median"] for ratio in ratios],
            yerr=_errors(ratios),
            fmt="o",
            markersize=POINT,
            color=colour,
            label=f"{pattern}, {tokens} token{'s' if tokens > 1 else ''}",
        )
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(ylabel=f"time, compact / nn.Linear\n{SHOWN}")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    _legend_above(axes, "single layers")


def _models(axes: Any, runs: list[dict[str, Any]]) -> None:
    names = [
        f"{run['run']['pattern'] or 'not pruned'}\n"
        f"{'zeros in place' if run['run']['form'] == 'dense' else run['run']['form']}"
        for run in runs
    ]
    for number, what in enumerate(("prefill", "decode")):
        ratios = [run["latency"][what]["ratio"] for run in runs]
        axes.errorbar(
            [ratio["median"] for ratio in ratios],
            [place + 0.2 * number for place in range(len(runs))],
            xerr=_errors(ratios),
            fmt="o",
            markersize=POINT,
            color=SERIES[number],
            label=what,
        )
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set(xlabel=f"time / dense model's\n{SHOWN}")
    axes.set_yticks(range(len(runs)), names)
    axes.invert_yaxis()
    _legend_above(axes, "whole model")


def _legend_above(axes: Any, title: str) -> None:
    """A legend above the axes, where it hides no points."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, title=title, fontsize=7)


def _errors(ratios: list[dict[str, Any]]) -> list[list[float]]:
    """Distances from the medians to the ends of their intervals; NaN, no bar, without interval."""
    ends = [ratio["interval"] or (math.nan, math.nan) for ratio in ratios]
    return [
        [ratio["median"] - low for ratio, (low, _) in zip(ratios, ends, strict=True)],
        [high - ratio["median"] for ratio, (_, high) in zip(ratios, ends, strict=True)],
    ]
