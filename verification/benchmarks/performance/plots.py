"""The plots of cost.json and of speed.json."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from verification.benchmarks.pages.cost_stages import largest_common
from verification.benchmarks.pages.style import COLOURS, SERIES, log_axis, save
from verification.benchmarks.performance.cases import PATTERNS
from verification.benchmarks.performance.cost_model import CostModel, label, predicted_layer
from verification.benchmarks.performance.growth import sides
from verification.benchmarks.performance.laws import STAGES
from verification.benchmarks.performance.steadiness import at_usual_speed

BLUE, RED, GREEN, PINK = SERIES
STAGE_COLOURS = dict(zip(STAGES, ("#BBBBBB", BLUE, "#E69F00", RED, GREEN, PINK), strict=True))
LARGEST = 16384  # columns, up to which lines are drawn


def draw_cost(results: dict[str, Any], folder: Path) -> None:
    """Write time.png, stages.png, growth.png and memory.png: points measured, lines predicted."""
    results = at_usual_speed(results)
    memory_title = "MiB beyond W and G, one b x b layer"
    for name, figure in (
        ("time", _against_size(results, "seconds", "pruning", 1.0, "seconds, one b x b layer")),
        ("stages", _stages(results)),
        ("growth", _growth(results)),
        ("memory", _against_size(results, "peak_memory_bytes", "memory", 2.0**20, memory_title)),
    ):
        save(figure, folder / f"{name}.png")


def _against_size(
    results: dict[str, Any], measured: str, said: str, unit: float, title: str
) -> Any:
    """A panel for each pattern: square layers; filled points are fitted, hollow ones held out."""
    model = CostModel.from_dict(results["model_fitted"])
    figure, panels = plt.subplots(1, len(PATTERNS), figsize=(11, 3.8), sharey=True)
    for panel, pattern in zip(panels, PATTERNS, strict=True):
        for each in results["runs"]:
            run = each["run"]
            squares = [layer for layer in each["layers"]
                       if layer["passed"] and len(set(layer["shape"])) == 1]  # fmt: skip
            if squares and run["pattern"] == pattern and run["block_size"] == 128:
                name = run["method"] + (" + refit" if run["refit_steps"] else "")
                _draw_points(panel, squares, measured, unit, COLOURS[name])
                edges = [layer["shape"][1] for layer in squares]
                # Magnitude and Wanda cost nearly the same: the wider line shows under the other.
                wide = 3.5 if run["method"] == "magnitude" else 1.2
                for part, style, width in ((_sizes(min(edges), max(edges)), "-", wide),
                                    (_sizes(max(edges), LARGEST), ":", 1.2)):  # fmt: skip
                    line = [predicted_layer(model, run, (b, b))[said] / unit for b in part]
                    panel.plot(part, line, style, color=COLOURS[name], linewidth=width,
                               label=name if style == "-" else None)  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.set(title=pattern, yscale="log", xlabel="columns b")
        panel.grid(which="major", alpha=0.2)
    panels[0].set_ylabel(title)
    handles, names = panels[0].get_legend_handles_labels()
    handles += [Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor=fill)
                for fill in ("black", "white")]  # fmt: skip
    handles.append(Line2D([], [], color="black", linestyle=":"))
    names += ["fitted", "held out", "beyond all measured"]
    panels[-1].legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw_points(
    panel: Any, squares: list[dict[str, Any]], measured: str, unit: float, colour: str
) -> None:
    for held_out in (False, True):
        some = [layer for layer in squares if layer["held_out"] == held_out]
        panel.plot([layer["shape"][1] for layer in some],
                   [layer[measured] / unit for layer in some], "o", color=colour,
                   markerfacecolor="white" if held_out else colour, markersize=5,
                   zorder=3)  # fmt: skip


def _sizes(first: int, last: int) -> list[int]:
    """Columns to draw a line through, multiples of four."""
    return sorted({int(size) // 4 * 4 for size in np.geomspace(first, last, 25)})


def _growth(results: dict[str, Any]) -> Any:
    """Thanos over B, and a Gram matrix over its tokens: seconds, with the slopes."""
    base = results["settings"]["base"]
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for panel, name in zip(panels, ("B", "tokens"), strict=True):
        parts = [part for each in results["growth"] if each["variable"] == name
                 for part in sides(each)]  # fmt: skip
        for part, style in zip(parts, ("o-", "o:"), strict=False):
            over = f"{name} = {part['values'][0]} to {part['values'][-1]}"
            panel.plot(part["values"], part["seconds"], style, color=COLOURS["thanos"],
                       label=f"slope {part['time']:.2f}, {over}")  # fmt: skip
            panel.legend()
        panel.set_xscale("log", base=2)
        log_axis(panel.yaxis)
        panel.set(xlabel=name)
        panel.grid(which="major", alpha=0.2)
    panels[0].set(ylabel="seconds", title=f"Thanos, unstructured, {base} x {base}")
    panels[1].set(title=f"Gram matrix of {base} columns")
    return figure


def _stages(results: dict[str, Any]) -> Any:
    """Stacked bars on one layer, by method and pattern."""
    name, found = largest_common(results)
    found = found[::-1]
    figure, panel = plt.subplots(figsize=(8, 0.32 * len(found) + 1.2))
    left = np.zeros(len(found))
    for stage in STAGES:
        widths = np.array([layer["stages"].get(stage, 0.0) for _, layer in found])
        panel.barh(range(len(found)), widths, left=left, color=STAGE_COLOURS[stage], label=stage)
        left += widths
    panel.set_yticks(range(len(found)), [label(run) for run, _ in found])
    panel.set(xlabel="seconds", title=f"{name}, by stage")
    panel.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


VARIABLE_NAMES = {"c": "rows c", "b": "columns b", "B": "block size B", "p": "share removed p"}


def draw_speed(results: dict[str, Any], file: Path) -> None:
    """Write the plot of speed.json: seconds over each variable, relative to its base value."""
    base = {"c": 1024, "b": 1024, "B": 128, "p": 0.5}
    figure, axes = plt.subplots(figsize=(6, 4))
    for (name, words), colour in zip(VARIABLE_NAMES.items(), SERIES, strict=True):
        points = sorted(results["growth"]["sweeps"][name])
        slope = results["growth"]["exponents"][name]
        axes.plot(
            [value / base[name] for value, _ in points],
            [seconds for _, seconds in points],
            "o-",
            color=colour,
            label=f"{words} (slope {slope:.2f})",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="variable over its value at c = b = 1024, B = 128, p = 0.5",
        ylabel="seconds",
        title="Thanos, unstructured, one layer",
    )
    axes.set_xscale("log", base=2)
    axes.grid(which="both", alpha=0.2)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, file)
