"""The sections of cost.md on where the time goes: stage by stage."""

from collections.abc import Mapping
from typing import Any

from verification.benchmarks.pages.cost_sections import Results
from verification.benchmarks.pages.tables import markdown
from verification.benchmarks.performance.cases import BLOCK_SIZE
from verification.benchmarks.performance.cost_model import label
from verification.benchmarks.performance.laws import STAGES

Record = Mapping[str, Any]
MOST_SIZES = 4  # in the tables by size


def stages(results: Results) -> list[str]:
    """Stages of the largest square that every method was measured on."""
    name, found = largest_common(results)
    headings = ["method", "seconds", *STAGES, "certificate", "MiB", "repeats differ by"]
    rows = [
        [
            label(run),
            *_seconds(layer),
            *_rest(layer),
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


def by_size(results: Results) -> list[str]:
    """Stages of every method on squares that double, a table a pattern; none of one size alone."""
    runs = _squares(results)
    sizes = _doubling({size for _, squares in runs for size in squares})
    if len(sizes) < 2:
        return []
    headings = ["method", "size", "pruning", *STAGES, "certificate", "MiB", "repeats differ by"]
    tables: dict[str, list[list[str]]] = {}
    for run, squares in runs:
        method, pattern = label(run).split(", ")
        tables.setdefault(pattern, []).extend(
            [method, squares[size]["name"], *_milliseconds(squares[size]), *_rest(squares[size])]
            for size in sizes
            if size in squares
        )
    lines = [
        "## Where the time goes, by size",
        "",
        "Milliseconds, medians, and MiB, in the columns of the table above. Sizes that a method "
        "was not measured on are left out. The refit was measured on Thanos' unstructured masks: "
        "of other methods and patterns its seconds are on the pages of their studies, in runs "
        "beside others.",
        "",
    ]
    for pattern, rows in tables.items():
        lines += [f"### {pattern}", "", markdown(headings, rows, left=len(headings)), ""]
    return lines


def _doubling(measured: set[int]) -> list[int]:
    """The largest size and its halves, down to the first that was not measured."""
    sizes: list[int] = []
    size = max(measured, default=0)
    while size in measured and len(sizes) < MOST_SIZES:
        sizes.append(size)
        size //= 2
    return sizes[::-1]


def largest_common(results: Results) -> tuple[str, list[tuple[Record, Record]]]:
    """The largest square layer on which all runs with B = 128 were measured, and their records."""
    runs = _squares(results)
    size = max(set.intersection(*(set(squares) for _, squares in runs)), default=0)
    return f"{size} x {size}", [(run, squares[size]) for run, squares in runs if size]


def _seconds(layer: Record) -> list[str]:
    """All of pruning, its stages, and the certificate."""
    spent = [layer["seconds"], *_stages(layer)]
    certificate = f"{layer['certificate_seconds']:.2f}"
    return ["-" if each is None else f"{each:.3f}" for each in spent] + [certificate]


def _milliseconds(layer: Record) -> list[str]:
    """The same for small layers too: two digits of what takes a millisecond."""
    spent = [layer["seconds"], *_stages(layer), layer["certificate_seconds"]]
    return ["-" if each is None else _short(1000 * each) for each in spent]


def _short(amount: float) -> str:
    return f"{amount:.1f}" if amount < 9.95 else f"{amount:,.0f}"


def _stages(layer: Record) -> list[float | None]:
    return [layer["stages"].get(stage) for stage in STAGES]


def _rest(layer: Record) -> list[str]:
    """Peak memory, and how far repeats differ."""
    memory = layer["peak_memory_bytes"] / 2**20
    return [f"{memory:.1f}" if memory < 9.95 else f"{memory:,.0f}", f"{layer['spread']:.0%}"]


def _squares(results: Results) -> list[tuple[Record, dict[int, Record]]]:
    """Runs with B = 128, and their certified square layers by size."""
    return [
        (each["run"], {layer["shape"][0]: layer for layer in each["layers"]
                       if len(set(layer["shape"])) == 1 and layer["passed"]})
        for each in results["runs"]
        if each["run"]["block_size"] == BLOCK_SIZE
    ]  # fmt: skip
