"""Several processes that prune one model together, started with torchrun."""

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from thanos_torch.runtime.arguments import checked

T = TypeVar("T")

# Seconds that a rank waits for another one: more than pruning the largest layer takes.
TIMEOUT = 1800.0
# Entries of a matrix that are added up at one time: 64 MB in float32.
ENTRIES = 2**24


@dataclass(frozen=True)
class Ranks:
    """The processes of a run. A process alone does not touch torch.distributed.

    Tensors travel through CPU memory, so that sums are added in the order of the ranks on every
    device. All ranks must call the same methods in the same order. Every method raises OSError if
    another rank ended or did not answer in time.

    rank     number of this process, from 0; the first one does all the writing
    count    number of processes
    timeout  seconds that a rank waits for another
    """

    rank: int = 0
    count: int = 1
    timeout: float = TIMEOUT

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def own_device(self, device: torch.device | str) -> torch.device:
        """This process's own device of a kind, such as cuda:1; processes may share a device."""
        wanted = torch.device(device)
        if self.count == 1 or wanted.type == "cpu" or wanted.index is not None:
            return wanted
        number = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device(wanted.type, number % torch.accelerator.device_count())

    def share(self, total: int) -> range:
        """This rank's consecutive part of the numbers below `total`."""
        return range(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def gather(self, value: Any) -> list[Any]:
        """Give every rank the JSON-able values of all ranks, in their order."""
        if self.count == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with self._listening():
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(lengths, torch.tensor([len(text)]))
            longest = int(max(lengths))
            texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
            dist.all_gather(texts, torch.nn.functional.pad(text, (0, longest - len(text))))
        pairs = zip(texts, lengths, strict=True)
        return [json.loads(bytes(each[: int(length)].numpy())) for each, length in pairs]

    def agree(self, make: Callable[[], T]) -> list[T]:
        """The results of `make` on all ranks. If it raises ValueError on one, all raise it."""
        if self.count == 1:
            return [make()]
        value, problem = None, ""
        try:
            value = make()
        except ValueError as error:
            problem = str(error) or "ValueError"
        answers = self.gather([value, problem])
        for _, each in answers:
            if each:
                raise ValueError(each)
        return [value for value, _ in answers]

    def from_first(self, make: Callable[[], T]) -> T:
        """Give every rank the JSON-able result of `make` on the first one, or its ValueError."""
        return self.agree(make if self.first else lambda: None)[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        self.gather(None)

    def add_up(self, matrix: Tensor) -> None:
        """Replace a matrix by its sum over the ranks, in their order: the same bits on all."""
        if self.count == 1:
            return
        for rows in matrix.split(max(1, ENTRIES // matrix.shape[1])):
            parts = _padded(rows.cpu().flatten(), self.count)
            received = torch.empty_like(parts)
            with self._listening():
                # Each rank adds up one part and sends the sum to all: half of what a
                # broadcast of all summands would move.
                dist.all_to_all_single(received, parts)
                total = received.view(self.count, -1)[0].clone()
                for summand in received.view(self.count, -1)[1:]:
                    total += summand
                dist.all_gather(list(parts.view(self.count, -1)), total)
            rows.copy_(parts[: rows.numel()].view_as(rows))

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first rank."""
        for tensor in tensors if self.count > 1 else ():
            held = tensor.detach().cpu().contiguous()
            with self._listening():
                dist.broadcast(_as_bytes(held), 0)
            tensor.detach().copy_(held)

    def send_to_first(self, tensor: Tensor) -> None:
        """Give a tensor to the first rank, which calls `receive`."""
        with self._listening():
            dist.send(_as_bytes(tensor.cpu().contiguous()), 0)

    def receive(self, source: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Receive a tensor from rank `source`, on the CPU."""
        tensor = torch.empty(shape, dtype=dtype)
        with self._listening():
            dist.recv(_as_bytes(tensor), source)
        return tensor

    @contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise OSError(
                f"rank {self.rank} of {self.count} lost another rank, which ended or did not "
                f"answer within {self.timeout:g} seconds"
            ) from error


@checked()
@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """The ranks that torchrun started, or this process alone, until the context is left.

    Raises ValueError if the timeout is not positive, OSError if the others cannot be reached.
    """
    if not timeout > 0:
        raise ValueError(f"rank timeout must be positive, got {timeout}")
    count = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if count == 1:
        yield Ranks(timeout=timeout)
        return
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        raise OSError(f"{count} ranks could not find one another: {error}") from error
    try:
        yield Ranks(dist.get_rank(), count, timeout)
    finally:
        dist.destroy_process_group()


def host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def _padded(flat: Tensor, count: int) -> Tensor:
    """A copy with zeros at the end, so that it splits into `count` equal parts."""
    padded = flat.new_zeros(-(-len(flat) // count) * count)
    padded[: len(flat)] = flat
    return padded


def _as_bytes(tensor: Tensor) -> Tensor:
    """View a tensor as bytes: gloo does not send every dtype."""
    return tensor.view(-1).view(torch.uint8)
