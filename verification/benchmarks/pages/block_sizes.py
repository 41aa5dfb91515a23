"""The section on block size: perplexity, layer error and time."""

from collections.abc import Sequence
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.changes import VariantChange, changes
from verification.benchmarks.pages.pairs import Record, percent
from verification.benchmarks.pages.style import COLOURS, log_axis
from verification.benchmarks.quality.plan import Run, label
from verification.benchmarks.statistics import Estimate, added_percent


def _block_size(what: dict[str, Any]) -> int:
    return int(what.get("block_size", Run.block_size))


def by_block_size(records: Sequence[Record], base: int = Run.block_size) -> list[VariantChange]:
    """Thanos with each block size and all else as usual, in order of size, against the size `base`."""
    plain = [
        record
        for record in records
        if record["run"]["method"] == "thanos"
        and record["run"].keys() <= {"method", "pattern", "block_size"}
    ]
    of_base = next(record["run"] for record in plain if _block_size(record["run"]) == base)
    return sorted(changes(plain, label(of_base)), key=lambda each: _block_size(each.what))


def block_size_answer(records: Sequence[Record]) -> str:
    """From the smallest blocks to the largest, in words."""
    least = _block_size(by_block_size(records)[0].what)
    largest = by_block_size(records, least)[-1]
    return (
        f"- **From blocks of {least} columns to {_block_size(largest.what)}:** "
        f"perplexity {percent(largest.perplexity_ratio)}, {largest.over}; layer error {percent(largest.error_ratio)}, "
        f"{largest.seconds_ratio:.1f} times the pruning seconds."
    )


def block_size_figure(records: Sequence[Record]) -> Any:
    """Three panels, a point a block size, against the usual size."""
    found = by_block_size(records)
    sizes = [_block_size(each.what) for each in found]
    figure, panels = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    of_seconds = [Estimate(each.seconds_ratio, None, None, each.draws) for each in found]
    for panel, title, ratios in (
        (panels[0], "perplexity, % against", [each.perplexity_ratio for each in found]),
        (panels[1], "layer error, % against", [each.error_ratio for each in found]),
        (panels[2], "pruning seconds, times those of", of_seconds),
    ):
        _curve(panel, sizes, ratios, in_percent="%" in title)
        panel.set_title(f"{title} {Run.block_size} columns", fontsize=9)
        panel.set_xlabel("block size, columns")
    return figure


def _curve(panel: Any, sizes: list[int], ratios: list[Estimate], in_percent: bool) -> None:
    def shown(ratio: float) -> float:
        return added_percent(ratio) if in_percent else ratio

    values = [shown(ratio.value) for ratio in ratios]
    panel.plot(sizes, values, "o-", color=COLOURS["thanos"], linewidth=1)
    for size, ratio in zip(sizes, ratios, strict=True):
        if ratio.low is not None and ratio.high is not None:
            panel.plot([size] * 2, [shown(ratio.low), shown(ratio.high)], color="#777777")
    log_axis(panel.xaxis)
    panel.set_xticks(sizes)
    panel.minorticks_off()
    panel.axhline(0 if in_percent else 1, color="black", linewidth=0.5)
