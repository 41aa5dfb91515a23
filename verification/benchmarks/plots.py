"""The plots of a results.json."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from verification.benchmarks.plan import Run

# Colours that colour-blind readers tell apart (Okabe and Ito), one a method in all plots.
COLOURS = {
    "magnitude": "#999999",
    "wanda": "#E69F00",
    "sparsegpt": "#56B4E9",
    "thanos": "#D55E00",
    "thanos, outlier rows 0.1": "#CC79A7",
}


def draw_all(results: dict[str, Any], folder: Path) -> None:
    """Write perplexity.png, layer-error.png and zeros.png."""
    with mpl.rc_context({"figure.dpi": 120, "font.size": 9, "axes.spines.top": False,
                         "axes.spines.right": False}):  # fmt: skip
        for name, draw in (
            ("perplexity", draw_perplexity),
            ("layer-error", draw_layer_error),
            ("zeros", draw_zeros),
        ):
            figure = draw(results)
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
            plt.close(figure)


def families(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The pruned runs by pattern, in order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for record in results["runs"][1:]:
        grouped.setdefault(Run(**record["run"]).family, []).append(record)
    return grouped


def draw_perplexity(results: dict[str, Any]) -> Any:
    """Bars by method, a panel a pattern; the dense model is a line."""
    grouped = families(results)
    dense = results["runs"][0]["perplexity"]
    figure, panels = plt.subplots(1, len(grouped), figsize=(10, 3.6), sharey=True)
    for panel, (family, records) in zip(panels, grouped.items(), strict=True):
        labels = [Run(**record["run"]).label for record in records]
        values = [record["perplexity"] for record in records]
        bars = panel.bar(range(len(values)), values, color=[COLOURS[label] for label in labels])
        panel.bar_label(
            bars, [f"{value:.1f}" if value < 1e4 else f"{value:.0e}" for value in values]
        )
        panel.axhline(dense, color="black", linewidth=1, linestyle="--", label=f"dense {dense:.1f}")
        panel.set(title=family, yscale="log")
        panel.set_xticks(range(len(labels)), [label.replace(", ", "\n") for label in labels],
                         rotation=30, ha="right")  # fmt: skip
    panels[0].set_ylabel("perplexity (log scale, lower is better)")
    panels[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_layer_error(results: dict[str, Any]) -> Any:
    """Mean error of a decoder block's layers against its depth, with the dense model's inputs."""
    grouped = families(results)
    figure, panels = plt.subplots(1, len(grouped), figsize=(10, 3.6), sharey=True)
    for panel, (family, records) in zip(panels, grouped.items(), strict=True):
        for record in records:
            label = Run(**record["run"]).label
            depth, error = error_by_depth(record)
            panel.plot(depth, error, color=COLOURS[label], label=label, linewidth=1.4)
        panel.set(title=family, yscale="log", xlabel="decoder block")
    panels[0].set_ylabel("relative layer error, dense inputs")
    panels[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def error_by_depth(record: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Decoder blocks and the mean error of their layers."""
    by_block: dict[int, list[float]] = {}
    for layer in record["layers"]:
        block = next(int(part) for part in layer["name"].split(".") if part.isdigit())
        by_block.setdefault(block, []).append(layer["dense_error"])
    return list(by_block), [float(np.mean(errors)) for errors in by_block.values()]


def draw_zeros(results: dict[str, Any]) -> Any:
    """The mask of one layer in every run, in coarse cells: dark where much was removed."""
    grouped = families(results)
    width = max(len(records) for records in grouped.values())
    figure, panels = plt.subplots(len(grouped), width, figsize=(12, 1.7 * len(grouped)))
    shades = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), "Greys")
    for row, (family, records) in zip(panels, grouped.items(), strict=True):
        for panel in row:
            panel.set_axis_off()
        for panel, record in zip(row, records, strict=False):
            density = np.array(record["mask_picture"]["density"])
            panel.imshow(density, norm=shades.norm, cmap=shades.cmap, aspect="auto")
            panel.set_title(f"{Run(**record['run']).label}\n{family}", fontsize=7)
    layer = results["runs"][1]["mask_picture"]["layer"]
    figure.suptitle(f"Share of zeros in layer {layer}: output rows down, input columns across")
    figure.tight_layout()
    figure.colorbar(shades, ax=panels, shrink=0.6, label="share removed")
    return figure
