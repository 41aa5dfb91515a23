"""When a change is more than noise: on the same draw, and between different draws."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.benchmarks.comparing.records import Draw, Values, common_layers
from verification.benchmarks.statistics import (
    Estimate,
    Verdict,
    difference,
    geometric_mean,
    independent_ratio,
    paired_ratio,
)

# The same draw gives the same numbers up to rounding, which can tip a close choice of a mask. That
# changes what the next decoder block is given, so that it grows with depth: rounding of all
# activations moved the mean over the first three blocks by at most 0.11 %, one layer in them by
# 0.8 %, but code that only rounds otherwise moved the mean of all thirty by 1.8 % and perplexity
# by 1.1 % (docs/comparing.md). A bug in a method shows in the first blocks as in the last.
FIRST_BLOCKS = 3
ROUNDING = 0.005
ROUNDING_OF_A_LAYER = 0.04
ROUNDING_AT_DEPTH = 0.05
# Chance that two results that differ by their draws alone are called different, by any of the
# tests between different draws that a comparison makes.
FALSE_ALARM = 0.01
ENOUGH_DRAWS = 3  # for an interval of Student's t that says something

Samples = Mapping[Draw, Values]


@dataclass(frozen=True)
class Change:
    """One measure of one run, before and after.

    ratio    after / before; its interval where draws vary
    verdict  higher and lower are more than noise
    basis    what noise was judged by, in words
    layers   layers that got worse on the same draw by more than a layer's rounding
    """

    measure: str
    before: float
    after: float
    ratio: Estimate
    verdict: Verdict
    basis: str
    layers: list[str] = field(default_factory=list)

    @property
    def worse(self) -> bool:
        """More than noise, in the wrong direction: all measures here are better if lower."""
        return self.verdict == "higher" or bool(self.layers)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "measure": self.measure,
            "before": self.before,
            "after": self.after,
            "ratio": self.ratio.as_dict(),
            "verdict": self.verdict,
            "basis": self.basis,
            "layers": self.layers,
        }


def same_draw(
    measure: str,
    before: Samples,
    after: Samples,
    tolerance: float,
    layer_tolerance: float = math.inf,
) -> Change:
    """Compare draws that both sides have, layer by layer; tolerances are of logarithms.

    From three draws on, their interval has to agree: a change that other draws would not show
    is chance as well.
    """
    draws = [draw for draw in before if draw in after]
    layers = common_layers([side[draw] for draw in draws for side in (before, after)])
    first, second = (means([side[d] for d in draws], layers) for side in (before, after))
    ratio = paired_ratio(np.exp(first), np.exp(second))
    if len(draws) < ENOUGH_DRAWS:
        ratio = Estimate(ratio.value, None, None, ratio.count, ratio.level)
    moved = {
        name: float(np.mean([after[d][name] - before[d][name] for d in draws])) for name in layers
    }
    verdict = difference(ratio, tolerance, deterministic=True)
    of_a_layer = f", of a layer {100 * layer_tolerance:g} %" if layer_tolerance < math.inf else ""
    return Change(
        measure,
        math.exp(first.mean()),
        math.exp(second.mean()),
        ratio,
        verdict,
        f"same draw: beyond rounding, {100 * tolerance:g} %{of_a_layer}",
        [name for name in layers if moved[name] > layer_tolerance],
    )


def other_draws(
    measure: str,
    before: Samples,
    after: Samples,
    recorded: Samples,
    tests: int,
) -> Change:
    """Compare draws that have nothing in common by how much draws vary, in logarithms.

    recorded  more draws of the same run and kind, for nothing but their spread; may be empty
    tests     how many such tests there are in all: each gets its share of FALSE_ALARM

    The draw moves all layers together, so a draw is one number: the mean over the layers.
    """
    sides = [list(side.values()) for side in (before, after, recorded) if side]
    layers = common_layers([values for side in sides for values in side])
    first, second, *spread = (np.exp(means(side, layers)) for side in sides)
    level = 1 - FALSE_ALARM / tests
    ratio = independent_ratio(first, second, *spread, level=level, freedom=ENOUGH_DRAWS - 1)
    basis = "too few draws on both sides, and too few recorded ones"
    if ratio.high is not None:
        where = f", {len(layers)} layers" if layers != [""] else ""
        source = f"{len(recorded)} recorded draws" if recorded else "their own draws"
        basis = (
            f"other draw: beyond {100 * (ratio.high / ratio.value - 1):.1f} %, by {source}{where}"
        )
    values = geometric_mean(first).value, geometric_mean(second).value
    return Change(measure, *values, ratio, difference(ratio), basis)


def first_blocks(samples: Samples) -> dict[Draw, Values]:
    """Without the layers of later decoder blocks, where rounding has grown."""
    return {
        draw: {name: value for name, value in values.items() if block_of(name) < FIRST_BLOCKS}
        for draw, values in samples.items()
    }


def block_of(layer: str) -> int:
    """The decoder block that a layer's name tells; 0 where it tells none."""
    return next((int(part) for part in layer.split(".") if part.isdigit()), 0)


def against(samples: Samples, control: Samples) -> dict[Draw, Values]:
    """Logarithms of the ratio to a control with the same draw: what moves both cancels."""
    return {
        draw: {name: value - control[draw][name] for name, value in values.items()
               if name in control[draw]}
        for draw, values in samples.items()
        if draw in control
    }  # fmt: skip


def means(samples: Iterable[Values], layers: list[str]) -> NDArray[np.float64]:
    """The mean logarithm over the layers of each sample."""
    return np.array([np.mean([values[name] for name in layers]) for values in samples])
