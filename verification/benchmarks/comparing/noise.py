"""Whether a measure of a run changed by more than rounding and calibration draws explain."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from verification.benchmarks.results import Draw, Records, Values, named
from verification.benchmarks.statistics import Verdict, added_percent, independent_ratio

# Tolerances for the same draw, which gives the same numbers up to rounding. Rounding can tip a
# close choice of a mask, which changes the inputs of the next decoder block, so it grows with
# depth. docs/comparing.md has the measurements. A bug in a method shows in the first blocks.
FIRST_BLOCKS = 3
ROUNDING = 0.005
ROUNDING_OF_A_LAYER = 0.04
ROUNDING_AT_DEPTH = 0.05
ROUNDING_OF_PERPLEXITY = 0.10
LEVEL = 0.999  # probability that draws alone do not move a measure beyond its limit

Table = NDArray[np.float64]  # (draws, layers) logarithms


@dataclass(frozen=True)
class Measure:
    """A number of a run, or the geometric mean of a number over its layers; lower is better.

    field            argument of `MeasuredRun.measured`
    tolerance        by how much rounding may move its logarithm on the same draw
    blocks           how many decoder blocks count, from the first one
    layer_tolerance  by how much rounding may move the logarithm of a single layer
    """

    name: str
    field: str
    tolerance: float
    blocks: float = math.inf
    layer_tolerance: float = math.inf

    def values(self, records: Records) -> dict[Draw, Values]:
        """The logarithms by draw and layer, for the draws that have any."""
        found = {}
        for draw, record in records.items():
            values = record.measured(self.field).items()
            found[draw] = {name: value for name, value in values if block_of(name) < self.blocks}
        return {draw: values for draw, values in found.items() if values}


MEASURES = (
    Measure(f"layer error, first {FIRST_BLOCKS} blocks", "error", ROUNDING, FIRST_BLOCKS,
            ROUNDING_OF_A_LAYER),
    Measure("layer error", "error", ROUNDING_AT_DEPTH),
    Measure("error with dense inputs", "dense_error", ROUNDING_AT_DEPTH),
    Measure("perplexity", "perplexity", ROUNDING_OF_PERPLEXITY),
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One measure of one run, before and after.

    before, after  geometric means over draws and layers; None if nothing can be compared
    verdict        "higher" and "lower" are more than noise
    basis          what noise explains, or why there is no verdict
    layers         layers that got worse on the same draw by more than rounding of one layer
    """

    measure: str
    before: float | None
    after: float | None
    verdict: Verdict
    basis: str
    layers: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """More than noise, in the wrong direction."""
        return self.verdict == "higher" or bool(self.layers)

    @property
    def percent(self) -> float | None:
        """The relative change, in %; None if nothing can be compared."""
        if self.before is None or self.after is None:
            return None
        return added_percent(self.after / self.before)


def judge(measure: Measure, before: Records, after: Records, recorded: Records) -> Change | None:
    """Compare a measure on the draws that both sides have, or on other draws if they share none.

    recorded  more draws of the same run, which show how much draws of their kind vary

    Returns None if a side lacks the measure.
    """
    first, second = measure.values(before), measure.values(after)
    if not first or not second:
        return None
    shared = [draw for draw in first if draw in second]
    if shared:
        first, second = ({draw: side[draw] for draw in shared} for side in (first, second))
    layers = _common([*first.values(), *second.values()])
    if not layers:
        texts = (named(list(dict.fromkeys(chain(*side.values())))) for side in (first, second))
        basis = f"nothing in common: {' → '.join(texts)}"
        return Change(measure.name, None, None, "no verdict", basis)
    old, new = (_table(side.values(), layers) for side in (first, second))
    worse: list[str] = []
    limit: float | None = measure.tolerance
    basis = f"same draw; rounding explains {100 * measure.tolerance:g} %"
    if shared:
        moved = new.mean(axis=0) - old.mean(axis=0)
        worse = [layers[place] for place in np.flatnonzero(moved > measure.layer_tolerance)]
    else:
        known = measure.values(recorded)
        kinds = {draw.kind for draw in chain(first, second)}
        like = [known[draw] for draw in known if {draw.kind} == kinds]
        spread = [values for values in like if values.keys() >= set(layers)]
        limit, basis = _other_draws(old, new, _table(spread, layers), measure.tolerance)
        begun = [{draw.bos or "tokenizer" for draw in side} for side in (first, second)]
        if begun[0] != begun[1]:  # what layers read differs by more than a draw
            words = " → ".join(", ".join(sorted(each)) for each in begun)
            limit, basis = None, f"calibrated with another BOS: {words}"
    shift = float(new.mean() - old.mean())
    return Change(
        measure.name,
        math.exp(old.mean()),
        math.exp(new.mean()),
        _verdict(shift, limit),
        basis,
        tuple(worse),
    )


def _other_draws(
    old: Table, new: Table, spread: Table, tolerance: float
) -> tuple[float | None, str]:
    """By how much other draws may move a measure, in logarithms, and what explains that.

    A draw moves all layers together, so each draw is one number: the mean over the layers. Rounding
    differs from draw to draw and is part of their spread, so the tolerance is not added to it. The
    tolerance decides if draws hardly vary: magnitude pruning is the same on all draws.
    """
    first, second, *others = (np.exp(t.mean(axis=1)) for t in (old, new, spread) if len(t))
    ratio = independent_ratio(first, second, *others, level=LEVEL)
    if ratio.high is None:
        return None, "too few calibration draws"
    reach = math.log(ratio.high / ratio.value)
    if reach < tolerance:
        return tolerance, f"other draws; rounding explains {100 * tolerance:g} %"
    return reach, f"other draws; their spread explains {added_percent(math.exp(reach)):.1f} %"


def _verdict(shift: float, limit: float | None) -> Verdict:
    if limit is None:
        return "no verdict"
    if abs(shift) <= limit:
        return "no difference"
    return "higher" if shift > 0 else "lower"


def block_of(layer: str) -> int:
    """The number of the decoder block in a layer's name; 0 if it has none."""
    return next((int(part) for part in layer.split(".") if part.isdigit()), 0)


def _common(samples: list[Values]) -> list[str]:
    """The layers that all samples have, in the order of the first."""
    return [name for name in samples[0] if all(name in other for other in samples)]


def _table(samples: Iterable[Values], layers: list[str]) -> Table:
    return np.array([[values[name] for name in layers] for values in samples])
