"""When a change is more than noise, on the same calibration draw and between different draws."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.benchmarks.results import Draw, Values, common_layers
from verification.benchmarks.statistics import (
    Estimate,
    Verdict,
    added_percent,
    difference,
    geometric_mean,
    independent_ratio,
    paired_ratio,
)

# Tolerances for the same draw, which gives the same numbers up to rounding. Rounding can tip a
# close choice of a mask, which changes the inputs of the next decoder block, so it grows with
# depth. Rounding all activations moved the mean over the first three blocks by at most 0.11 % and
# one layer in them by 0.8 %; code that rounds differently moved the mean of all thirty blocks by
# 1.8 % and perplexity by 4.5 % (docs/comparing.md). A bug in a method shows in the first blocks.
FIRST_BLOCKS = 3
ROUNDING = 0.005
ROUNDING_OF_A_LAYER = 0.04
ROUNDING_AT_DEPTH = 0.05
ROUNDING_OF_PERPLEXITY = 0.10
# Chance that any test of a comparison calls two results different that differ by their draws alone.
FALSE_ALARM = 0.01
ENOUGH_DRAWS = 3  # the fewest draws for a useful Student's t interval

Samples = Mapping[Draw, Values]


@dataclass(frozen=True)
class MeasureChange:
    """One measure of one run, before and after.

    ratio    after / before; with an interval if there are enough draws
    verdict  "higher" and "lower" are more than noise
    basis    how noise was judged, in words
    layers   layers that got worse on the same draw by more than rounding of one layer
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
        """The fields, for JSON."""
        return asdict(self)


def same_draw(
    measure: str,
    before: Samples,
    after: Samples,
    tolerance: float,
    layer_tolerance: float = math.inf,
) -> MeasureChange:
    """Compare the draws that both sides have, layer by layer; tolerances are of logarithms.

    It is a change if the mean over the draws moved by more than the tolerance. On one draw code
    repeats its answer up to rounding, which the tolerance allows for, so no interval is needed. An
    interval over draws would ask whether all draws move alike; code that got worse on one of them
    need not move the others. And with three draws it is too wide to detect anything.
    """
    draws = [draw for draw in before if draw in after]
    layers = common_layers([side[draw] for draw in draws for side in (before, after)])
    first, second = (means([side[d] for d in draws], layers) for side in (before, after))
    ratio = paired_ratio(np.exp(first), np.exp(second))
    moved = {
        name: float(np.mean([after[d][name] - before[d][name] for d in draws])) for name in layers
    }
    of_a_layer = f", of a layer {100 * layer_tolerance:g} %" if layer_tolerance < math.inf else ""
    return MeasureChange(
        measure,
        math.exp(first.mean()),
        math.exp(second.mean()),
        ratio if len(draws) >= ENOUGH_DRAWS else without_interval(ratio),
        beyond_rounding(ratio, tolerance),
        f"same draw: beyond rounding, {100 * tolerance:g} %{of_a_layer}",
        [name for name in layers if moved[name] > layer_tolerance],
    )


def other_draws(
    measure: str,
    before: Samples,
    after: Samples,
    recorded: Samples,
    tolerance: float,
    tests: int,
) -> MeasureChange:
    """Compare different draws by how much draws vary; in logarithms.

    recorded   more draws of the same run and kind, used for their spread only; may be empty
    tolerance  tolerance of the same draw: rounding alone is no difference here either
    tests      number of such tests in the whole comparison; each gets its share of FALSE_ALARM

    A draw moves all layers together, so each draw is one number: the mean over the layers. Rounding
    differs from draw to draw and is part of their spread, so the tolerance is not added to it. The
    tolerance decides if draws hardly vary: perplexity of magnitude pruning is the same on all.
    """
    sides = [list(side.values()) for side in (before, after, recorded) if side]
    layers = common_layers([values for side in sides for values in side])
    first, second, *spread = (np.exp(means(side, layers)) for side in sides)
    level = 1 - FALSE_ALARM / tests
    ratio = independent_ratio(first, second, *spread, level=level, freedom=ENOUGH_DRAWS - 1)
    verdict = difference(ratio)
    if verdict != "no verdict" and verdict != beyond_rounding(ratio, tolerance):
        verdict = "no difference"
    values = geometric_mean(first).value, geometric_mean(second).value
    source = f"{len(recorded)} recorded draws" if recorded else "their own draws"
    where = f", {len(layers)} layers" if layers != [""] else ""
    return MeasureChange(measure, *values, ratio, verdict, _basis(ratio, tolerance, source, where))


def _basis(ratio: Estimate, tolerance: float, source: str, where: str) -> str:
    """In words, how different draws were judged: by the larger of their spread and rounding."""
    if ratio.high is None:
        return "too few draws on both sides, and too few recorded ones"
    reach = math.log(ratio.high / ratio.value)
    if reach < tolerance:
        return f"other draw: beyond rounding, {100 * tolerance:g} %, more than {source} vary{where}"
    return f"other draw: beyond {added_percent(math.exp(reach)):.1f} %, by {source}{where}"


def beyond_rounding(ratio: Estimate, tolerance: float) -> Verdict:
    """Whether the value differs from 1 by more than the tolerance, whatever its interval."""
    return difference(without_interval(ratio), tolerance, deterministic=True)


def without_interval(ratio: Estimate) -> Estimate:
    """The estimate without its interval."""
    return replace(ratio, low=None, high=None)


def first_blocks(samples: Samples) -> dict[Draw, Values]:
    """The layers of the first decoder blocks only, before rounding has grown."""
    return {
        draw: {name: value for name, value in values.items() if block_of(name) < FIRST_BLOCKS}
        for draw, values in samples.items()
    }


def is_deep(samples: Iterable[Values]) -> bool:
    """Whether a layer that all samples have lies behind the first blocks."""
    return any(block_of(name) >= FIRST_BLOCKS for name in common_layers(samples))


def block_of(layer: str) -> int:
    """The number of the decoder block in a layer's name; 0 if it has none."""
    return next((int(part) for part in layer.split(".") if part.isdigit()), 0)


def against(samples: Samples, control: Samples) -> dict[Draw, Values]:
    """Logarithms of the ratio to a control run on the same draw: the effect of the draw cancels."""
    return {
        draw: {name: value - control[draw][name] for name, value in values.items()
               if name in control[draw]}
        for draw, values in samples.items()
        if draw in control
    }  # fmt: skip


def means(samples: Iterable[Values], layers: list[str]) -> NDArray[np.float64]:
    """The mean logarithm over some layers, for each sample."""
    return np.array([np.mean([values[name] for name in layers]) for values in samples])
