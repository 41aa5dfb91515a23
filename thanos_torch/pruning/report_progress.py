"""How far a pruning run is: told to whoever shows its progress, at every step."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from thanos_torch.checkpoint.record import layer_kind
from thanos_torch.pruning.cost import PlannedLayer
from thanos_torch.pruning.forecast import Cost, Forecast, total


@dataclass(frozen=True)
class RunState:
    """How far a pruning run is.

    note                what is being done, such as `block 3 of 30: q_proj`
    blocks, of_blocks   finished decoder blocks, and all of them
    layers, of_layers   layers done, and all of them
    before              blocks that an earlier process finished, where a run goes on
    finished            layers of the block that was finished right now; None between two blocks
    seconds             how long that block took
    left                estimated seconds until the run ends; None before anything was measured
    """

    note: str
    blocks: int
    of_blocks: int
    layers: int
    of_layers: int
    before: int
    finished: int | None
    seconds: float
    left: float | None


class RunReport:
    """Tells `show` the state of a run at every step; does nothing without `show`.

    A run calls `begin`; then for every block `calibration`, `layer` before each of its layers, and
    `finished`; or `again` and `ran` for a finished block whose outputs are missing; at last `done`.
    """

    def __init__(
        self,
        show: Callable[[RunState], None] | None,
        layers: Sequence[PlannedLayer],
        blocks: int,
        windows: Sequence[Tensor],
    ) -> None:
        """The run's layers, its number of blocks, and its windows, as of `PruningRun`."""
        self._show, self._blocks = show, blocks
        self._names: list[list[str]] = [[] for _ in range(blocks)]
        for layer in layers:
            self._names[layer.block].append(layer.name)
        self._sizes = [len(names) for names in self._names]
        tokens = sum(each.numel() for each in windows)
        seqlen = tokens // max(1, sum(map(len, windows)))  # on average
        self._forecast = Forecast(layers if show else (), blocks, tokens, seqlen)
        self._done: set[int] = set()
        self._before = 0
        self._left: dict[int, Cost] = {}  # of the blocks that are still to run
        self._begun: Cost = {}  # of the block at work, what is done
        self._since = time.perf_counter()

    def begin(self, finished: Iterable[int], again: Iterable[int]) -> None:
        """The run begins, or goes on: blocks that are finished, and those that run again."""
        self._done = set(finished)
        self._before = len(self._done)
        pruned = [index for index in range(self._blocks) if index not in self._done]
        self._left = {
            index: self._forecast.of_block(
                index, pruned=index in pruned, passed_on=index != max(pruned, default=None)
            )
            for index in {*pruned, *again}
        }
        self._since = time.perf_counter()
        self._tell("begin")

    def again(self, index: int) -> None:
        """A finished block is about to run."""
        self._tell(f"{self._named(index)}: its outputs once more")

    def ran(self, index: int) -> None:
        """A finished block has run."""
        self._left.pop(index, None)
        self._since = time.perf_counter()

    def calibration(self, index: int) -> None:
        """A block is about to be calibrated."""
        self._tell(f"{self._named(index)}: calibration")

    def layer(self, index: int, name: str) -> None:
        """A layer is about to be pruned, and all before it are done."""
        before = self._names[index][: self._names[index].index(name)]
        if self._show:
            self._begun = self._forecast.of_beginning(index, before)
        self._tell(f"{self._named(index)}: {layer_kind(name)}", within=len(before))

    def finished(self, index: int, stages: Mapping[str, float]) -> None:
        """A block is pruned and stored; `stages` are its seconds by stage."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        cost = self._left.pop(index)
        known = {stage: stages.get(stage, 0.0) for stage in cost if stage != "storing"}
        storing = max(0.0, seconds - sum(known.values()))
        self._forecast.learn(cost, {**known, "storing": storing})
        self._begun = {}
        self._done.add(index)
        self._tell(self._named(index), finished=self._sizes[index], seconds=seconds)

    def done(self) -> None:
        """All blocks are done; the files of the result are written and checked next."""
        self._tell("done")

    def writing(self, name: str) -> None:
        """A file of the result is about to be written."""
        self._tell(f"writing {name}")

    def _named(self, index: int) -> str:
        return f"block {index + 1} of {self._blocks}"

    def _tell(
        self, note: str, *, within: int = 0, finished: int | None = None, seconds: float = 0.0
    ) -> None:
        """Show the state; `within` counts the layers that are done in the block at work."""
        if not self._show:
            return
        layers = sum(self._sizes[index] for index in self._done) + within
        state = RunState(
            note,
            len(self._done),
            self._blocks,
            layers,
            sum(self._sizes),
            self._before,
            finished,
            seconds,
            self._seconds_left(),
        )
        self._show(state)

    def _seconds_left(self) -> float | None:
        left = total(*self._left.values(), self._forecast.checking)
        elapsed = time.perf_counter() - self._since
        return self._forecast.seconds(left, self._begun, elapsed)
