"""Layer error by depth: the mean of every decoder block's layers, from the block records of a run."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from verification.benchmarks.pages.pairs import Record
from verification.benchmarks.pages.style import COLOURS
from verification.benchmarks.quality.plan import label

HEADING = "relative layer error, dense inputs"


def error_by_depth(record: Record) -> tuple[list[int], list[float]]:
    """Decoder blocks and the mean error of their layers."""
    by_block: dict[int, list[float]] = {}
    for layer in record["layers"]:
        block = next(int(part) for part in layer["name"].split(".") if part.isdigit())
        by_block.setdefault(block, []).append(layer["dense_error"])
    return list(by_block), [float(np.mean(errors)) for errors in by_block.values()]


def draw_depth(panel: Any, records: Iterable[Record]) -> None:
    """A line a run."""
    for record in records:
        name = label(record["run"])
        depth, error = error_by_depth(record)
        dashes = "--" if record["run"].get("refit_steps") else "-"
        panel.plot(depth, error, dashes, color=COLOURS[name], label=name, linewidth=1.4)
    panel.set(yscale="log", xlabel="decoder block")
