"""How time and memory grow in the cost benchmark: slopes of logarithms over one variable."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Record = Mapping[str, Any]
Points = list[tuple[float, Record]]  # (value of the variable, record measured there)
FEWEST = 3  # a slope needs so many values
MEASURED = ("values", "seconds", "bytes")


def exponents(results: Record) -> list[dict[str, Any]]:
    """Slopes of each method and pattern over c and b, of Thanos over B, of Gram matrices.

    Each line has the values, the seconds, the bytes if they were measured, and the slopes of both.
    """
    base = results["settings"]["base"]
    lines = [*_layers(results, base), *_block_sizes(results, base), *_grams(results, base)]
    return [
        _slopes(run, variable, points)
        for run, variable, points in lines
        if len({value for value, _ in points}) >= FEWEST
    ]


def _layers(results: Record, base: int) -> Iterator[tuple[Record, str, Points]]:
    for each in results["runs"]:
        if each["run"]["block_size"] == 128:
            for side, other, variable in ((0, 1, "c"), (1, 0, "b")):
                points = [
                    (layer["shape"][side], layer)
                    for layer in each["layers"]
                    if layer["passed"] and layer["shape"][other] == base
                ]
                yield each["run"], variable, points


def _block_sizes(results: Record, base: int) -> Iterator[tuple[Record, str, Points]]:
    """Unstructured Thanos over B on the square layer of `base` columns."""
    asked = {"method": "thanos", "pattern": "unstructured:0.5", "refit_steps": 0}
    points = [
        (each["run"]["block_size"], layer)
        for each in results["runs"]
        if asked.items() <= each["run"].items()
        for layer in each["layers"]
        if layer["passed"] and layer["shape"] == [base, base]
    ]
    yield asked, "B", points


def _grams(results: Record, base: int) -> Iterator[tuple[Record, str, Points]]:
    batches = [each for each in results["gram"] if each["passed"]]
    largest = max((each["tokens"] for each in batches), default=0)
    run = {"method": "Gram matrix", "pattern": "", "refit_steps": 0}
    yield run, "tokens", [(each["tokens"], each) for each in batches if each["columns"] == base]
    yield run, "b", [(each["columns"], each) for each in batches if each["tokens"] == largest]


def _slopes(run: Record, variable: str, points: Points) -> dict[str, Any]:
    points = sorted(points, key=lambda point: point[0])
    values = [value for value, _ in points]
    seconds = [record["seconds"] for _, record in points]
    memory = [record["peak_memory_bytes"] for _, record in points if "peak_memory_bytes" in record]
    return _line(run, variable, values, seconds, memory)


def _line(
    run: Record, variable: str, values: list[float], seconds: list[float], memory: list[float]
) -> dict[str, Any]:
    return {
        "run": dict(run),
        "variable": variable,
        "values": values,
        "seconds": seconds,
        "bytes": memory,
        "time": slope(values, seconds),
        "memory": slope(values, memory) if memory else None,
    }


def sides(line: Record) -> list[dict[str, Any]]:
    """Split a line that falls and then rises into two lines with their own slopes.

    One slope would hide both sides. A line with fewer than FEWEST values on a side stays whole.
    """
    least = line["seconds"].index(min(line["seconds"]))
    parts = slice(None, least + 1), slice(least, None)
    if any(len(line["values"][part]) < FEWEST for part in parts):
        return [dict(line)]
    return [
        _line(line["run"], line["variable"], *(line[what][part] for what in MEASURED))
        for part in parts
    ]


def last_step(line: Record) -> float:
    """The slope of time between the last two values of a line."""
    return slope(line["values"][-2:], line["seconds"][-2:])


def slope(values: list[float], measured: list[float]) -> float:
    """The exponent of growth, by least squares: 2 means four times as much for twice the value."""
    return float(np.polyfit(np.log(values), np.log(measured), 1)[0])
