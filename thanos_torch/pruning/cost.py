"""The cost model: estimated seconds of a pruning run, by layer and stage."""

import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from reference.patterns import Structured
from thanos_torch.network.observe import Observation
from thanos_torch.pruning.plan import Choice, LayerOptions, Plan

MEASURED_SIZE = 768  # rows and columns of the products that measure the machine's speed
SOLVER_STEPS = 20  # conjugate-gradient steps in a block; 8 to 36 were seen


@dataclass(frozen=True)
class PlannedLayer:
    """A layer, and how a run would prune it.

    shape    (c, b)
    block    index of its decoder block
    reads    the first layer of its block that reads the same input; its own name if it is the first
    removed  how many weights would be removed
    """

    name: str
    shape: tuple[int, int]
    block: int
    reads: str
    choice: Choice
    removed: int

    @property
    def weights(self) -> int:
        """How many weights the layer has, c b."""
        return self.shape[0] * self.shape[1]


def layers_to_prune(seen: Observation, plan: Plan) -> list[PlannedLayer]:
    """Every layer that could be pruned, in the order of the run; arguments as of `plan_for`."""
    return [
        PlannedLayer(
            name,
            layer.shape,
            index,
            seen.reads.get(name, name),
            plan[name],
            plan[name].removed(layer.shape),
        )
        for index, group in enumerate(seen.layers)
        for name, layer in group.items()
    ]


@dataclass(frozen=True)
class Speed:
    """How fast this machine is.

    single, double  operations a second in matrix products, float32 and float64
    elements        numbers a second in passes over a float32 tensor
    """

    single: float
    double: float
    elements: float


def measure_speed() -> Speed:
    """Measure this machine's CPU for about a second, with torch's number of threads."""
    A = torch.rand(MEASURED_SIZE, MEASURED_SIZE)
    B, C = A.double(), torch.rand(2**23)
    operations = 2 * MEASURED_SIZE**3
    return Speed(
        operations / _best_time(lambda: A @ A),
        operations / _best_time(lambda: B @ B),
        len(C) / _best_time(lambda: C.mul(2.0)),
    )


def time_parts(
    layers: Sequence[PlannedLayer], tokens: int, seqlen: int, speed: Speed
) -> dict[str, float]:
    """Estimate the seconds of each stage, as `prune_model` reports them.

    tokens  windows times their length, which is seqlen
    """
    parts = dict.fromkeys(("calibration", "gram", "pruning", "certificates"), 0.0)
    for layer in layers:
        (rows, columns), numbers = layer.shape, layer.weights
        # Every block runs twice: to collect Gram matrices, and to hand on what it puts out.
        parts["calibration"] += 2 * 2 * tokens * numbers / speed.single
        if layer.reads == layer.name:
            # Attention, whose scores and sums are as wide as what a layer reads, once a block.
            parts["calibration"] += 2 * 2 * tokens * seqlen * columns / speed.single / 2
        if not isinstance(layer.choice, LayerOptions):
            continue
        if layer.reads == layer.name:
            parts["gram"] += 2 * tokens * columns**2 / speed.single
        parts["pruning"] += _pruning(layer.choice, rows, columns, speed)
        # Two factors, an inverse, and the products of the replay and of distances.
        work = 2 * columns**3 + 8 * rows * columns**2 + _systems(layer.choice, rows, columns)
        parts["certificates"] += work / speed.double + 60 * numbers / speed.elements
    return parts


def _systems(options: LayerOptions, rows: int, columns: int) -> float:
    """Operations for the linear systems of a certificate, one for each row and block.

    Counted sixteen times: on systems of some 64 unknowns LAPACK reaches a sixteenth of the speed
    of matrix products.
    """
    if options.method != "thanos" or isinstance(options.pattern, Structured):
        return 0.0
    width = min(options.block_size, columns)
    return 16 * rows * (columns / width) * (2 / 3) * (width / 2) ** 3


def _pruning(options: LayerOptions, rows: int, columns: int, speed: Speed) -> float:
    """Estimate the seconds to prune one layer."""
    numbers, blocks = rows * columns, max(1, columns // options.block_size)
    refit = options.refit_steps * 2 * rows * columns**2 / speed.single
    if options.method in ("magnitude", "wanda"):
        return 20 * numbers / speed.elements + refit
    factor = columns**3 / speed.double
    updates = rows * columns**2 / speed.single
    if options.method == "sparsegpt":  # column by column: each passes over its block
        width = min(options.block_size, columns)
        return factor + updates + refit + 2 * numbers * width / speed.elements
    if isinstance(options.pattern, Structured):
        return factor + updates + refit + 20 * numbers / speed.elements
    width = min(options.block_size, columns)
    steps = SOLVER_STEPS * (2 * numbers * width / speed.single + 8 * numbers / speed.elements)
    masks = 8 * numbers * (blocks + 1) / 2 / speed.elements
    return factor + updates + steps + masks + refit


def _best_time(work: Callable[[], object]) -> float:
    """Seconds, the least of five; the first time is a warm-up."""
    return min(timeit.repeat(work, number=1, repeat=6)[1:])
