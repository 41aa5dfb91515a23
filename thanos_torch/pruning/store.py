"""Block stores: read and write the decoder blocks of a run, and record which are finished."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.checkpoint.masks import PackedMask, write_masks
from thanos_torch.checkpoint.record import LayerRecord
from thanos_torch.checkpoint.shards import (
    INDEX,
    PART_BYTES,
    join,
    shards_of,
    write_index,
    write_shard,
)
from thanos_torch.checkpoint.streamed import StreamedModel
from thanos_torch.pruning.kept_grams import GramWriter
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.runtime.files import begin, facts_of, whole_file, why_changed
from thanos_torch.runtime.progress import WorkFolder
from thanos_torch.runtime.ranks import Ranks


@dataclass(frozen=True)
class FinishedBlock:
    """The report's share of a block that is pruned and stored.

    seconds  by stage, as in `ModelReport`
    shares   the same for every rank, if there were several
    """

    layers: list[LayerRecord]
    seconds: dict[str, float]
    shares: list[dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the argument of `from_dict`."""
        layers = [layer.as_dict() for layer in self.layers]
        return {"layers": layers, "seconds": self.seconds, "shares": self.shares}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "FinishedBlock":
        """Read back what `as_dict` made, also after a journey through JSON."""
        layers = [LayerRecord.from_dict(layer) for layer in stored["layers"]]
        return cls(layers, stored["seconds"], stored["shares"])


class BlockStore:
    """The decoder blocks of a model in memory: there is nothing to read, write or resume.

    Every method takes the index of a block and may raise ValueError or OSError.
    """

    def finished(self, index: int) -> FinishedBlock | None:
        """The block's results if an earlier process finished it; None if it is to be pruned."""
        return None

    def fetch(self, index: int) -> None:
        """Fill the block's weights: pruned ones if it is finished, else the model's own."""

    def prefetch(self, index: int, device: torch.device | str) -> None:
        """Begin to read the weights of the block that is fetched next, while another is pruned."""

    def keep(self, index: int) -> None:
        """Store the pruned block. Afterwards the model holds the weights as they are stored."""

    def finish(self, index: int, block: FinishedBlock, masks: dict[str, PackedMask]) -> None:
        """Record the block as finished. `masks` is emptied if they are stored elsewhere."""

    def release(self, index: int) -> None:
        """Free the memory of the block's weights."""

    @contextmanager
    def at_work(self, index: int, block: nn.Module, device: torch.device | str) -> Iterator[None]:
        """Hold the block's weights on the device until the context is left."""
        self.fetch(index)
        home = next(block.parameters()).device
        with in_one_line(f"decoder block {index}, {type(block).__name__}, cannot go to {device}"):
            # Out of pinned memory a GPU's copy does not wait; what follows it in its queue does.
            block.to(device, non_blocking=True)
        yield
        block.to(home)
        self.release(index)


class StoredBlocks(BlockStore):
    """Decoder blocks of a checkpoint on disk; each pruned block becomes a part of the result.

    A part is a file with the tensors of one block, or with some that are outside of the blocks. At
    the end the parts are joined to the files that `save_pretrained` would write.

    Without `writes` nothing is written, and every block is read dense. So do all ranks but the
    first one: they get pruned weights from that one.

    If files of an earlier process are damaged, ValueError is raised after their entries were
    removed from the journal: the next run makes them again.

    grams    keeps the Gram matrices of the blocks, which are part of what makes a block finished
    results  numbers of the files of the result in the journal, behind those of the parts
    """

    def __init__(
        self,
        streamed: StreamedModel,
        work: WorkFolder,
        *,
        writes: bool = True,
        grams: GramWriter | None = None,
    ) -> None:
        self._streamed, self._work, self._writes, self._grams = streamed, work, writes, grams
        self._count = len(streamed.blocks)
        self._groups = list(_grouped(streamed.outside, streamed.sizes))
        within = enumerate([*streamed.inside, *self._groups])
        self._part_of = {name: number for number, names in within for name in names}
        self._shards = shards_of(streamed.written)
        parts = self._count + len(self._groups)
        self._parts, self.results = range(parts), range(parts, parts + len(self._shards))
        self._results_of: dict[int, set[int]] = {part: set() for part in self._parts}
        for number, names in zip(self.results, self._shards.values(), strict=True):
            for name in names:
                self._results_of[self._part_of[name]].add(number)
        self._read_back: set[int] = set()  # files of the result that this process has compared
        self._finished: dict[int, FinishedBlock] = {}
        self._reader = ThreadPoolExecutor(1)
        self._coming: dict[int, Future[dict[str, Tensor]]] = {}  # one block at most
        if writes:
            self._check(self._everything, thoroughly=False)
            entries = [work.entry(index) for index in range(self._count)]
            for index, entry in enumerate(entries):
                if entry:
                    self._finished[index] = FinishedBlock.from_dict(entry["block"])
            if grams:
                grams.open([entry["grams"] for entry in entries if entry])

    def agree(self, ranks: Ranks) -> None:
        """Let all ranks take the first one's word for which blocks are finished."""
        told = ranks.from_first(
            lambda: {str(index): block.as_dict() for index, block in self._finished.items()}
        )
        self._finished = {int(n): FinishedBlock.from_dict(block) for n, block in told.items()}

    def first_unfinished(self) -> int:
        """Index of the first block that is not finished; the number of blocks if all are."""
        return min(set(range(self._count)) - self._finished.keys(), default=self._count)

    def copy_outside(self) -> None:
        """Write the tensors outside of the blocks, unchanged but for the dtype of the result."""
        for number, names in enumerate(self._groups, self._count):
            if self._work.entry(number) is None:
                self._streamed.write_outside(names, self._part(number))
                self._work.write_entry(number, {"files": self._facts(self._part(number))})

    def finished(self, index: int) -> FinishedBlock | None:
        """As `BlockStore`."""
        return self._finished.get(index)

    def fetch(self, index: int) -> None:
        """As `BlockStore`; dense weights if this store does not write."""
        if self._writes and index in self._finished:
            joined = () if self._part(index).exists() else self._results_of[index]
            self._check([*joined, index], thoroughly=True)
            self._streamed.load_block(index, self._places(index))
        elif index in self._coming:
            self._streamed.load_block(index, tensors=self._coming.pop(index).result())
        else:
            self._streamed.load_block(index)

    def prefetch(self, index: int, device: torch.device | str) -> None:
        """As `BlockStore`: in a thread, which only reads; for a GPU into pinned memory."""
        if index in self._finished or index >= self._count:
            return
        pinned = torch.device(device).type == "cuda"

        def read() -> dict[str, Tensor]:
            tensors = self._streamed.read_block(index)
            # Either copy reads the file, of which only the place in memory is known before.
            return {n: each.pin_memory() if pinned else each.clone() for n, each in tensors.items()}

        self._coming = {index: self._reader.submit(read)}

    def keep(self, index: int) -> None:
        """As `BlockStore`. Raises ValueError if the part does not read as what was written."""
        if not self._writes:
            return
        block = list(self._streamed.blocks.values())[index]
        device = next(block.parameters()).device
        tensors = self._streamed.block_tensors(index)
        before = self._streamed.block_state(index)
        write_shard(self._part(index), tensors)
        self._streamed.load_block(index, self._places(index))
        for name, value in self._streamed.block_state(index).items():
            if not self._streamed.is_written(before[name].cpu(), value):
                raise ValueError(f"{name} is not the same after writing and reading its part")
        block.to(device)

    def finish(self, index: int, block: FinishedBlock, masks: dict[str, PackedMask]) -> None:
        """As `BlockStore`: masks go to the disk, and out of memory."""
        if self._writes:
            places = self._streamed.places(index)
            for layer in block.layers:
                layer.stored = places[layer.name].as_dict() if layer.name in places else None
            with whole_file(self._masks(index)) as unfinished:
                write_masks(unfinished, masks, places)
            masks.clear()
            files = self._facts(self._part(index), self._masks(index))
            entry = {"block": block.as_dict(), "files": files}
            grams = {"grams": self._grams.take()} if self._grams else {}
            self._work.write_entry(index, entry | grams)
        self._finished[index] = block

    def release(self, index: int) -> None:
        """As `BlockStore`."""
        self._streamed.release_block(index)

    def join(self, number: int) -> None:
        """Write a file of the result, unless it is written, and drop the parts that are in it.

        number  of `results`

        The parts are read before, and the file afterwards, so that parts are dropped only if the
        disk holds what was written. A part is kept while another file needs it.
        """
        file, names = self._result(number), self._names(number)
        parts = sorted({self._part_of[name] for name in names})
        held = {str(part): self._sha256(self._part(part), part) for part in parts}
        entry = self._work.entry(number)
        if entry and entry["parts"] != held:  # blocks were pruned again, and to other bits
            self._work.forget(number)
            entry = None
        if entry is None:
            self._check(parts, thoroughly=True)
            begin("join")
            with whole_file(file) as unfinished:
                written = join(
                    {name: self._part(self._part_of[name]) for name in names}, unfinished
                )
            facts = self._facts(file)
            if facts[self._relative(file)]["sha256"] != written:
                raise OSError(f"{file} does not read as it was written")
            self._read_back.add(number)
            self._work.write_entry(number, {"files": facts, "parts": held})
        begin("drop")
        for part in filter(self._is_joined, parts):
            self._part(part).unlink(missing_ok=True)

    def check_all(self) -> None:
        """Read every file that this process has not compared yet, and compare it."""
        self._check(self._everything, thoroughly=True)

    def shards(self) -> dict[str, dict[str, Any]]:
        """Size and SHA-256 of every file of weights, by its name; for a run that is joined."""
        entries = {self._result(number): self._work.entry(number) for number in self.results}
        return {
            file.name: entry["files"][self._relative(file)]
            for file, entry in entries.items()
            if entry
        }

    def write_index(self) -> None:
        """Write the index of the files of weights, if there are several."""
        if len(self._shards) > 1:
            write_index(self._work.checkpoint / INDEX, self._shards, self._streamed.written)

    def kept_grams(self) -> dict[str, dict[str, Any]]:
        """Size and SHA-256 of every file of Gram matrices, as the journal has it."""
        entries = [self._work.entry(index) for index in range(self._count)]
        return {
            name: facts
            for entry in entries
            if entry
            for name, facts in entry["grams"]["files"].items()
        }

    def shard_names(self) -> list[str]:
        """The names of the result's files of weights, in the order of `results`."""
        return list(self._shards)

    def mask_files(self) -> list[Path]:
        """The file with the masks of each block."""
        return [self._masks(index) for index in range(self._count)]

    def _places(self, index: int) -> dict[str, Path]:
        """The file of every tensor of a finished block: its part, or what that was joined to."""
        part, names = self._part(index), self._streamed.inside[index]
        if part.exists():
            return dict.fromkeys(names, part)
        joined = {
            name: self._result(number) for number in self.results for name in self._names(number)
        }
        return {name: joined[name] for name in names}

    def _part(self, number: int) -> Path:
        return self._work.parts / f"{number:05}.safetensors"

    def _result(self, number: int) -> Path:
        return self._work.checkpoint / self.shard_names()[number - self.results.start]

    def _names(self, number: int) -> list[str]:
        """The tensors in a file of the result."""
        return self._shards[self._result(number).name]

    def _is_joined(self, part: int) -> bool:
        """Whether all tensors of a part are in finished files of the result."""
        return all(self._work.entry(number) for number in self._results_of[part])

    def _masks(self, index: int) -> Path:
        return self._work.masks / f"{index:05}.safetensors"

    @property
    def _everything(self) -> list[int]:
        """All numbers of the journal: files of the result before the parts that they replace."""
        return [*self.results, *self._parts]

    def _sha256(self, file: Path, number: int) -> str | None:
        entry = self._work.entry(number)
        return entry["files"][self._relative(file)]["sha256"] if entry else None

    def _facts(self, *files: Path) -> dict[str, Any]:
        """Size and SHA-256 of each file of a journal's entry."""
        return {self._relative(file): facts_of(file) for file in files}

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._work.path).as_posix()

    def _check(self, numbers: Iterable[int], *, thoroughly: bool) -> None:
        """Compare the files of the journal's entries with them: by size, or by hash as well."""
        problems = []
        for number in numbers:
            problem = self._problem(number, thoroughly and number not in self._read_back)
            if problem:
                self._work.forget(number)
                problems.append(problem)
            elif thoroughly and number in self.results and self._work.entry(number):
                self._read_back.add(number)
        if problems:
            more = f" ({len(problems) - 1} more like it)" if problems[1:] else ""
            raise ValueError(f"{problems[0]}{more}")

    def _problem(self, number: int, thoroughly: bool) -> str:
        """The first thing that is wrong with an entry or its files; empty if nothing is."""
        try:
            entry = self._work.entry(number) or {"files": {}}
        except ValueError as error:
            return str(error)
        files = {self._work.path / name: facts for name, facts in entry["files"].items()}
        if number in self._parts and self._is_joined(number) and not self._part(number).exists():
            files.pop(self._part(number), None)  # files of the result have replaced it
        if self._grams and "grams" in entry:
            kept = entry["grams"]["files"].items()
            files |= {self._grams.folder / name: facts for name, facts in kept}
        for file, facts in files.items():
            why = why_changed(file, facts, thoroughly=thoroughly)
            if why:
                return f"{file} {why}: the same command makes it again"
        return ""


def _grouped(names: Iterable[str], sizes: dict[str, int]) -> Iterable[list[str]]:
    """Split names, in their order, into groups of at most PART_BYTES or of one name."""
    group: list[str] = []
    for name in names:
        if group and sum(sizes[each] for each in [*group, name]) > PART_BYTES:
            yield group
            group = []
        group.append(name)
    if group:
        yield group
