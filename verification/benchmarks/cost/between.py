"""The first lines of cost.md: Thanos against SparseGPT, and a refit against none."""

import math
from typing import Any

from verification.benchmarks.cost.sections import Results
from verification.benchmarks.pages.tables import LARGE, span


def between_methods(results: Results) -> list[str]:
    """Thanos against SparseGPT on large layers, pattern by pattern, and a refit."""
    layers: dict[tuple[str, str], dict[tuple[int, ...], Any]] = {}
    refits = []
    for each in results["runs"]:
        run = each["run"]
        by_shape = {tuple(layer["shape"]): layer for layer in each["layers"]}
        large = {shape: layer for shape, layer in by_shape.items() if math.prod(shape) >= LARGE}
        if run["block_size"] == 128 and run["refit_steps"]:
            refits.append((run, large))
        elif run["block_size"] == 128:
            layers[run["pattern"], run["method"]] = large
    lines = [
        _against(pattern, found, layers[pattern, "sparsegpt"], "SparseGPT")
        for (pattern, method), found in layers.items()
        if method == "thanos" and (pattern, "sparsegpt") in layers
    ]
    lines += [
        _against(
            f"{run['pattern']}, refit", found, layers[run["pattern"], "thanos"], "plain Thanos"
        )
        for run, found in refits
        if run["method"] == "thanos" and (run["pattern"], "thanos") in layers
    ]
    lines = [line for line in lines if line]
    if not lines:
        return []
    return [
        "Seconds and memory of pruning a layer by Thanos, B = 128, on the layers of 4 million "
        "weights or more that both were measured on:",
        "",
        *lines,
        "",
        "That SparseGPT is the one of this project, which gives the published procedure's answer "
        "and is faster: [speed](../results/speed/speed.md) holds both against the published one. "
        "Patterns 4:8 and those with outlier rows are not measured here.",
        "",
    ]


def _against(name: str, own: Any, other: Any, other_name: str) -> str:
    shared = [shape for shape in own if shape in other]
    if not shared:
        return ""
    seconds, memory = (
        span([own[shape][what] / other[shape][what] for shape in shared], "{:.2f}".format)
        for what in ("seconds", "peak_memory_bytes")
    )
    where = f"{len(shared)} layers" if len(shared) > 1 else "1 layer"
    return (
        f"- **{name}**: {seconds} times the seconds of {other_name}, {memory} times the memory, "
        f"on {where}."
    )
