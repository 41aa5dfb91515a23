"""The seconds that a pruning run still takes, by the cost model and by what its blocks took."""

from collections.abc import Iterable, Mapping

from thanos_torch.pruning.cost import PlannedLayer, Speed, time_parts

# Only the ratios of these count: they weigh the stages until something was measured.
NOMINAL = Speed(single=1e11, double=5e10, elements=1e9)
# Seconds a weight for what no stage covers: reading, layer errors, writing, reading back, hashing.
STORING = 2e-8
CHECKING = 0.25  # of the cost of storing: at the end every file is read and hashed once more
# The weight of a block beside that of the block after it, because a machine's speed changes.
FORGETTING = 0.8

Cost = Mapping[str, float]  # modelled seconds by stage


class Forecast:
    """Estimates the seconds of what is left of a run.

    Every stage of a block has its cost by the model of `--dry-run`. What the stage took in the
    blocks so far, over their costs, corrects it: so the machine's speed, a GPU and several ranks
    need no model of their own.
    """

    def __init__(
        self, layers: Iterable[PlannedLayer], blocks: int, tokens: int, seqlen: int
    ) -> None:
        """Costs of `layers` in `blocks` decoder blocks; tokens are windows times seqlen."""
        self._of_layer: dict[str, Cost] = {}
        self._of_block: list[Cost] = [{} for _ in range(blocks)]
        for layer in layers:
            parts = time_parts([layer], tokens, seqlen, NOMINAL)
            cost = {**parts, "storing": layer.weights * STORING}
            self._of_layer[layer.name] = cost
            self._of_block[layer.block] = total(self._of_block[layer.block], cost)
        self.checking: Cost = {"storing": CHECKING * total(*self._of_block).get("storing", 0.0)}
        self._taken: Cost = {}
        self._modelled: Cost = {}

    def of_block(self, block: int, *, pruned: bool, passed_on: bool) -> Cost:
        """The cost of a block.

        pruned     whether it is pruned; else it only runs, because its outputs are missing
        passed_on  whether its outputs are computed, which the last block's are not
        """
        whole = self._of_block[block]
        passes = {"calibration": (pruned + passed_on) / 2 * whole.get("calibration", 0.0)}
        return {**whole, **passes} if pruned else passes

    def of_beginning(self, block: int, layers: Iterable[str]) -> Cost:
        """The cost of a block until it is calibrated, and these layers of it are pruned."""
        whole = self._of_block[block]
        first = {"calibration": whole.get("calibration", 0.0) / 2, "gram": whole.get("gram", 0.0)}
        stages = ("pruning", "certificates")
        done = ({stage: self._of_layer[name][stage] for stage in stages} for name in layers)
        return total(first, *done)

    def learn(self, cost: Cost, seconds: Cost) -> None:
        """Correct the model by what a block of that cost took, by stage."""
        taken = {stage: seconds.get(stage, 0.0) for stage in cost}
        self._taken = total(scaled(self._taken, FORGETTING), taken)
        self._modelled = total(scaled(self._modelled, FORGETTING), cost)

    def seconds(self, cost: Cost, begun: Cost, elapsed: float) -> float | None:
        """The seconds for a cost; None before anything was measured.

        begun    of the cost of the block at work, what is done
        elapsed  seconds for that; it counts until the first block is finished
        """
        modelled, taken = self._modelled, self._taken
        if not modelled:
            modelled, taken = {"all": sum(begun.values())}, {"all": elapsed}
        if not sum(modelled.values()):
            return None
        overall = sum(taken.values()) / sum(modelled.values())
        rates = {stage: taken[stage] / each for stage, each in modelled.items() if each}
        left = {stage: part - begun.get(stage, 0.0) for stage, part in cost.items()}
        return sum(part * rates.get(stage, overall) for stage, part in left.items())


def total(*costs: Cost) -> Cost:
    """The sum of costs, stage by stage."""
    stages = dict.fromkeys(stage for cost in costs for stage in cost)
    return {stage: sum(cost.get(stage, 0.0) for cost in costs) for stage in stages}


def scaled(cost: Cost, factor: float) -> Cost:
    """A cost times a number."""
    return {stage: factor * part for stage, part in cost.items()}
