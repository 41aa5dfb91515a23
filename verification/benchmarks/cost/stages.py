"""The sections of cost.md on where the time goes: stage by stage."""

from collections.abc import Mapping
from typing import Any

from verification.benchmarks.cost.check import label
from verification.benchmarks.cost.laws import STAGES
from verification.benchmarks.cost.sections import Results
from verification.benchmarks.pages.tables import markdown

Record = Mapping[str, Any]


def stages(results: Results) -> list[str]:
    """Stages of the largest square that every method was measured on."""
    name, found = largest_common(results)
    headings = ["method", "seconds", *STAGES, "certificate", "MiB", "repeats differ by"]
    rows = [
        [
            label(run),
            *_seconds(layer),
            f"{layer['peak_memory_bytes'] / 2**20:.0f}",
            f"{layer['spread']:.0%}",
        ]
        for run, layer in found
    ]
    return [
        f"## Where the time goes: {name}",
        "",
        markdown(headings, rows, left=len(headings)),
        "",
        "Seconds, medians. *Prepare*: checks and scaling. *Solve*: what moves the kept weights of "
        "a block, or SparseGPT's sweep over its columns, which also chooses n:m masks. *Update*: "
        "the columns behind it, and losses. Of magnitude and Wanda, *factor* and *update* are the "
        "losses alone, which their certificates want and their masks do not. *MiB*: most bytes of "
        "tensors beyond the weight and the Gram matrix, the result included.",
        "",
    ]


def largest_common(results: Results) -> tuple[str, list[tuple[Record, Record]]]:
    """The largest square layer on which all runs with B = 128 were measured, and their records."""
    runs = _squares(results)
    size = max(set.intersection(*(set(squares) for _, squares in runs)), default=0)
    return f"{size} x {size}", [(run, squares[size]) for run, squares in runs if size]


def _seconds(layer: Record) -> list[str]:
    """All of pruning, its stages, and the certificate."""
    stages = [f"{layer['stages'][each]:.3f}" if each in layer["stages"] else "-" for each in STAGES]
    return [f"{layer['seconds']:.3f}", *stages, f"{layer['certificate_seconds']:.2f}"]


def _squares(results: Results) -> list[tuple[Record, dict[int, Record]]]:
    """Runs with B = 128, and their certified square layers by size."""
    return [
        (each["run"], {layer["shape"][0]: layer for layer in each["layers"]
                       if len(set(layer["shape"])) == 1 and layer["passed"]})
        for each in results["runs"]
        if each["run"]["block_size"] == 128
    ]  # fmt: skip
