"""When a change is more than noise: on the same draw, and between different draws."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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

# The same draw gives the same numbers up to rounding, which can tip a close choice of a mask. That
# changes what the next decoder block is given, so that it grows with depth: rounding of all
# activations moved the mean over the first three blocks by at most 0.11 %, one layer in them by
# 0.8 %, but code that only rounds otherwise moved the mean of all thirty by 1.8 % and perplexity
# by 4.5 % (docs/comparing.md). A bug in a method shows in the first blocks as in the last.
FIRST_BLOCKS = 3
ROUNDING = 0.005
ROUNDING_OF_A_LAYER = 0.04
ROUNDING_AT_DEPTH = 0.05
ROUNDING_OF_PERPLEXITY = 0.10
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

    A mean over the draws beyond the tolerance is a change, however many they are and however much
    they differ: what code does on a draw it does again, up to rounding, and that the tolerance is
    for. If no draw moved by more than rounding, neither did their mean. An interval over the draws
    would ask whether all draws move alike, which code that got worse on one of them need not do,
    and of three draws it reaches so far that hardly anything lies beyond it.
    """
    draws = [draw for draw in before if draw in after]
    layers = common_layers([side[draw] for draw in draws for side in (before, after)])
    first, second = (means([side[d] for d in draws], layers) for side in (before, after))
    ratio = paired_ratio(np.exp(first), np.exp(second))
    moved = {
        name: float(np.mean([after[d][name] - before[d][name] for d in draws])) for name in layers
    }
    of_a_layer = f", of a layer {100 * layer_tolerance:g} %" if layer_tolerance < math.inf else ""
    return Change(
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
) -> Change:
    """Compare draws that have nothing in common by how much draws vary, in logarithms.

    recorded   more draws of the same run and kind, for nothing but their spread; may be empty
    tolerance  that the same draw has: what rounding alone does is no difference here either
    tests      how many such tests there are in all: each gets its share of FALSE_ALARM

    The draw moves all layers together, so a draw is one number: the mean over the layers. Rounding
    that tips other choices on every draw is part of their spread, so the tolerance is not added to
    it. It counts where draws hardly vary: no draw moves the perplexity of magnitude pruning.
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
    return Change(measure, *values, ratio, verdict, _basis(ratio, tolerance, source, where))


def _basis(ratio: Estimate, tolerance: float, source: str, where: str) -> str:
    """What other draws were judged by: the larger of their spread and rounding."""
    if ratio.high is None:
        return "too few draws on both sides, and too few recorded ones"
    reach = math.log(ratio.high / ratio.value)
    if reach < tolerance:
        return f"other draw: beyond rounding, {100 * tolerance:g} %, more than {source} vary{where}"
    return f"other draw: beyond {added_percent(math.exp(reach)):.1f} %, by {source}{where}"


def beyond_rounding(ratio: Estimate, tolerance: float) -> Verdict:
    """Of the value alone."""
    return difference(without_interval(ratio), tolerance, deterministic=True)


def without_interval(ratio: Estimate) -> Estimate:
    """The value alone."""
    return replace(ratio, low=None, high=None)


def first_blocks(samples: Samples) -> dict[Draw, Values]:
    """Without the layers of later decoder blocks, where rounding has grown."""
    return {
        draw: {name: value for name, value in values.items() if block_of(name) < FIRST_BLOCKS}
        for draw, values in samples.items()
    }


def is_deep(samples: Iterable[Values]) -> bool:
    """Whether any layer that all samples have is beyond the first blocks."""
    return any(block_of(name) >= FIRST_BLOCKS for name in common_layers(samples))


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
