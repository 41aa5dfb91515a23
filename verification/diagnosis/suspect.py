"""One mistake that may have made a wrong output."""

from collections.abc import Callable
from dataclasses import dataclass

from verification.diagnosis.evidence import Array, Mask


class Refuted(ValueError):  # noqa: N818 - a verdict about a mistake
    """The mistake gives another mask than the output has; its weights need not be computed."""


@dataclass(frozen=True)
class Suspect:
    """One mistake.

    key    stable name
    rule   equation or section that it breaks
    text   description; that of a kind "run" is the same for every layer
    make   returns the weight and mask that an algorithm with this mistake gives
    kind   "run"; "fitted" if something in it was fitted to the output, which then proves less;
           "seen" if the output is right but for one detail
    value  the fitted number, which has to be the same on all layers
    """

    key: str
    rule: str
    text: str
    make: Callable[[], tuple[Array, Mask]]
    kind: str = "run"
    value: float = 1.0

    @property
    def mistake(self) -> tuple[str, str]:
        """What is the same for this mistake on every layer."""
        return self.key, self.text if self.kind == "run" else ""
