"""How measured time and memory grow: slopes of logarithms, one variable at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from reference.patterns import Unstructured
from verification.benchmarks.performance.cases import CLIFF
from verification.benchmarks.performance.measure import Timing, layer, time_layer

Record = Mapping[str, Any]
Points = list[tuple[float, Record]]  # values of the variable, and what was measured there
FEWEST = 3  # values, for a slope to be one
MEASURED = ("values", "seconds", "bytes")


def exponents(results: Record) -> list[dict[str, Any]]:
    """Every method and pattern by c and by b, Thanos by B, Gram matrices by tokens and columns.

    Each has the values, the seconds, the bytes where they were measured, and the slopes of both.
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
    """Thanos on the square layer of that size, unstructured."""
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
    """The parts of a line that falls and then rises, each with slopes of its own; else the line.

    No power of the variable is least somewhere in between: one slope would hide both sides.
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
    """The slope of time at the end of a line: of its last two values alone."""
    return slope(line["values"][-2:], line["seconds"][-2:])


def slope(values: list[float], measured: list[float]) -> float:
    """2 means four times what is measured for twice the value."""
    return float(np.polyfit(np.log(values), np.log(measured), 1)[0])


BASE = (1024, 1024)
BLOCK_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
RAGGED = ((1000, 1030), (1023, 1025), (777, 1111))
SWEEPS: dict[str, tuple[Any, ...]] = {
    "c": (512, 1024, 2048, 4096),
    "b": (512, 1024, 2048),
    "p": (0.25, 0.5, 0.75),
}


@dataclass(frozen=True)
class Growth:
    """All sweeps, one variable at a time around BASE: (value, timing) by variable."""

    sweeps: dict[str, list[tuple[float, Timing]]]

    def exponents(self) -> dict[str, float]:
        """The slope of log time over the log of the variable, by least squares."""
        return {
            name: float(np.polyfit(np.log(values), np.log([t.seconds for _, t in timings]), 1)[0])
            for name, timings in self.sweeps.items()
            if name != "ragged"
            for values in [[value for value, _ in timings]]
        }

    def cliffs(self) -> list[str]:
        """Where doubling B changes the time, or a ragged shape costs, CLIFF times what it should.

        Times grow with the operations that a larger block takes. Those of ragged shapes are
        compared by the number of weights.
        """
        found = []
        blocks = self.sweeps["B"]
        for (small, one), (large, other) in pairwise(blocks):
            more = max(1.0, other.operations / one.operations)
            ratio = max(one.seconds / other.seconds, other.seconds / one.seconds / more)
            if ratio > CLIFF:
                found.append(f"B {small:.0f} to {large:.0f}: {ratio:.1f}")
        base = next(t for value, t in blocks if value == 128)
        for _, timing in self.sweeps["ragged"]:
            weights = timing.shape[0] * timing.shape[1] / (BASE[0] * BASE[1])
            ratio = timing.seconds / base.seconds / weights
            if ratio > CLIFF:
                found.append(f"{timing.shape[0]} x {timing.shape[1]}: {ratio:.1f}")
        return found

    def certified(self) -> bool:
        """Whether every layer of every sweep is."""
        return all(t.certified for timings in self.sweeps.values() for _, t in timings)


def measure_growth(repeats: int, device: str) -> Iterator[tuple[str, float, Timing]]:
    """All sweeps of unstructured Thanos: the variable, its value, the timing."""
    half = Unstructured(0.5)
    made = layer(BASE, "independent", device)

    def timed(shape: tuple[int, int], pattern: Unstructured = half, **options: Any) -> Timing:
        return time_layer("thanos", pattern, shape, repeats=repeats, device=device, **options)

    for B in BLOCK_SIZES:
        yield "B", B, timed(BASE, block_size=B, made=made)
    for p in SWEEPS["p"]:
        yield "p", p, timed(BASE, Unstructured(p), made=made)
    for c in SWEEPS["c"]:
        yield "c", c, timed((c, BASE[1]))
    for b in SWEEPS["b"]:
        yield "b", b, timed((BASE[0], b))
    for number, shape in enumerate(RAGGED):
        yield "ragged", number, timed(shape)
