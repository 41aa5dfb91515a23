"""The interface of implementations under test, and the answers that they give to a case."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import Case
from verification.conformance.tensors import Tensor

MAX_MESSAGE = 2**16  # of a message, bytes or characters that are read
TIMEOUT = 10.0  # seconds per case


@dataclass(frozen=True)
class Output:
    """A pruned layer: weight and mask, (c, b), and the block losses if it returned any."""

    weight: Tensor
    mask: Tensor
    block_losses: Tensor | None = None


@dataclass(frozen=True)
class Refused:
    """A refusal of the input, with its message."""

    message: str


@dataclass(frozen=True)
class Failed:
    """An answer that cannot be judged.

    check  "output" if the output is missing or malformed, "input" if the input was changed
    ended  whether the process ended, or was ended
    """

    check: str
    message: str
    ended: bool = False


Answer: TypeAlias = Output | Refused | Failed


def wrong_shape(shape: tuple[int, ...], output: Output) -> Failed | None:
    """What is wrong if a part of the output does not have the shape of the weight."""
    for name, array in (("weight", output.weight), ("mask", output.mask)):
        if array.shape != shape:
            return Failed("output", f"{name} must be {shape}, got {array.shape}")
    if output.block_losses is not None and output.block_losses.ndim != 1:
        return Failed("output", f"block_losses must be a list, got {output.block_losses.shape}")
    return None


class Implementation(Protocol):
    """An implementation under test."""

    @property
    def capabilities(self) -> Capabilities:
        """Methods, patterns and precisions that it supports."""
        ...

    def answer(self, case: Case) -> Answer:
        """Prune a case. Never raises: an error is an answer too."""
        ...

    def reproduce(self, case: Case) -> str:
        """Commands or code with which a person can see the answer to a case."""
        ...

    def close(self) -> None:
        """End the processes that it keeps; it may still be called."""
        ...


@runtime_checkable
class AskedPlainly(Implementation, Protocol):
    """An implementation that a case can also be asked under circumstances that never disturb.

    If only that answer is right, the algorithm is, and the check says what disturbs.
    """

    @property
    def plain_check(self) -> tuple[str, str]:
        """Name and note of the check that fails then."""
        ...

    def plain_answer(self, case: Case) -> Answer | None:
        """Prune a case under the other circumstances; None if that would take too long."""
        ...
