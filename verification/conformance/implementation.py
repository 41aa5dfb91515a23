"""What can be judged: anything that gives an answer to a case."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import Case
from verification.conformance.tensors import Tensor


@dataclass(frozen=True)
class Output:
    """A pruned layer: weight and mask, (c, b), and the losses of the blocks if they were told."""

    weight: Tensor
    mask: Tensor
    block_losses: Tensor | None = None


@dataclass(frozen=True)
class Refused:
    """The input was refused, with this message."""

    message: str


@dataclass(frozen=True)
class Failed:
    """No answer that can be judged.

    check  "output": there is none, or it is malformed; "input": what was given was changed;
           "layout": an answer that hangs on how the input lies in memory
    """

    check: str
    message: str


Answer: TypeAlias = Output | Refused | Failed


class Implementation(Protocol):
    """One that is judged."""

    @property
    def capabilities(self) -> Capabilities:
        """What it supports."""
        ...

    def answer(self, case: Case) -> Answer:
        """Prune a case. Never raises: what goes wrong is an answer too."""
        ...

    def reproduce(self, case: Case) -> str:
        """Lines that a person can run to see the answer to a case."""
        ...
