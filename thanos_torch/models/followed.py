"""Decoder blocks of a rank that writes none: the first rank does."""

from collections.abc import Mapping

from thanos_torch.models.activations import OnDisk
from thanos_torch.models.masks import PackedMask
from thanos_torch.models.store import FinishedBlock
from thanos_torch.models.streamed import StreamedModel


class FollowedBlocks:
    """A `BlockStore` that reads dense blocks; pruned weights come from the first rank."""

    def __init__(self, streamed: StreamedModel, finished: Mapping[int, FinishedBlock]) -> None:
        """What the first rank says that is finished."""
        self._streamed, self._finished = streamed, dict(finished)
        self.activations: OnDisk | None = None

    def first_unfinished(self) -> int:
        """Index of the first block that is not finished; the number of blocks if all are."""
        count = len(self._streamed.blocks)
        return min(set(range(count)) - self._finished.keys(), default=count)

    def finished(self, index: int) -> FinishedBlock | None:
        """As `BlockStore`."""
        return self._finished.get(index)

    def fetch(self, index: int) -> None:
        """As `BlockStore`, but dense ones if the block is finished, to be overwritten."""
        self._streamed.load_block(index)

    def keep(self, index: int) -> None:
        """Nothing."""

    def finish(self, index: int, block: FinishedBlock, masks: dict[str, PackedMask]) -> None:
        """As `BlockStore`, after the first rank has recorded it."""
        self._finished[index] = block
        if self.activations:
            self.activations.drop_others()

    def release(self, index: int) -> None:
        """As `BlockStore`."""
        self._streamed.release_block(index)
