"""The plots of the quick benchmark."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from verification.benchmarks.pages.depth import HEADING, draw_depth
from verification.benchmarks.pages.style import COLOURS, legend_of_all, log_axis, save
from verification.benchmarks.quality.plan import family, label


def draw_quick(sources: dict[str, dict[str, Any]], folder: Path) -> None:
    """Write quick-perplexity.png, quick-layer-error.png and quick-zeros.png."""
    results = sources["quick"]
    save(draw_perplexity(results), folder / "quick-perplexity.png")
    save(draw_layer_error(results), folder / "quick-layer-error.png")
    save(draw_zeros(results), folder / "quick-zeros.png")


def families(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The pruned runs by pattern, in order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for record in results["runs"]:
        if "layers" not in record:
            continue
        grouped.setdefault(family(record["run"]), []).append(record)
    return grouped


def draw_perplexity(results: dict[str, Any]) -> Any:
    """Bars by method, a panel a pattern; the dense model is a line."""
    grouped = families(results)
    dense = results["runs"][0]["perplexity"]
    most = max(len(records) for records in grouped.values())
    figure, panels = plt.subplots(1, len(grouped), figsize=(11, 3.2), sharex=True)
    for panel, (pattern, records) in zip(panels, grouped.items(), strict=True):
        labels = [label(record["run"]) for record in records]
        values = [record["perplexity"] for record in records]
        bars = panel.barh(range(len(values)), values, color=[COLOURS[each] for each in labels])
        said = [f"{value:.1f}" if value < 1e4 else f"{value:.0e}" for value in values]
        panel.bar_label(bars, said, padding=3, fontsize=8)
        panel.axvline(dense, color="black", linewidth=1, linestyle="--", label=f"dense {dense:.1f}")
        panel.set_title(pattern)
        log_axis(panel.xaxis)
        panel.set_yticks(range(len(labels)), labels)
        panel.set_ylim(most - 0.5, -0.5)  # bars are as wide in all panels
        panel.legend(loc="lower right", fontsize=8)
    panels[1].set_xlabel("perplexity (log scale, lower is better)")
    figure.tight_layout()
    return figure


def draw_layer_error(results: dict[str, Any]) -> Any:
    """Mean error of a decoder block's layers against its depth, with the dense model's inputs."""
    grouped = families(results)
    figure, panels = plt.subplots(1, len(grouped), figsize=(10, 3.6), sharey=True)
    for panel, (pattern, records) in zip(panels, grouped.items(), strict=True):
        draw_depth(panel, records)
        panel.set_title(pattern)
    panels[0].set_ylabel(HEADING)
    panels[-1].legend(*legend_of_all(panels), loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_zeros(results: dict[str, Any]) -> Any:
    """The mask of one layer in every run, in coarse cells: dark where much was removed.

    A refit keeps the mask: its runs would show the same again.
    """
    grouped = {
        pattern: [record for record in records if not record["run"].get("refit_steps")]
        for pattern, records in families(results).items()
    }
    width = max(len(records) for records in grouped.values())
    figure, panels = plt.subplots(len(grouped), width, figsize=(12, 1.7 * len(grouped)))
    shades = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), "Greys")
    for row, (pattern, records) in zip(panels, grouped.items(), strict=True):
        for panel in row:
            panel.set_axis_off()
        for panel, record in zip(row, records, strict=False):
            density = np.array(record["mask_picture"]["density"])
            panel.imshow(density, norm=shades.norm, cmap=shades.cmap, aspect="auto")
            panel.set_title(f"{label(record['run'])}\n{pattern}", fontsize=7)
    layer = results["runs"][1]["mask_picture"]["layer"]
    figure.suptitle(f"Share of zeros in layer {layer}: output rows down, input columns across")
    figure.tight_layout()
    figure.colorbar(shades, ax=panels, shrink=0.6, label="share removed")
    return figure
