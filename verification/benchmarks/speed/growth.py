"""How the cost grows: with rows, columns, the block size and the share removed. Ragged shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from reference.patterns import Unstructured
from verification.benchmarks.speed.limits import CLIFF
from verification.benchmarks.speed.measure import Timing, layer, time_layer

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
