"""The log-log plot of a speed.json: cost against size."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.style import save

COLOURS = {"c": "#0072B2", "b": "#D55E00", "B": "#009E73", "p": "#CC79A7"}
NAMES = {"c": "rows c", "b": "columns b", "B": "block size B", "p": "share removed p"}


def draw(results: dict[str, Any], file: Path) -> None:
    """Seconds against each variable over its value at 1024 x 1024, B = 128, p = 0.5."""
    base = {"c": 1024, "b": 1024, "B": 128, "p": 0.5}
    figure, axes = plt.subplots(figsize=(6, 4))
    for name, colour in COLOURS.items():
        points = sorted(results["growth"]["sweeps"][name])
        slope = results["growth"]["exponents"][name]
        axes.plot(
            [value / base[name] for value, _ in points],
            [seconds for _, seconds in points],
            "o-",
            color=colour,
            label=f"{NAMES[name]} (slope {slope:.2f})",
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
