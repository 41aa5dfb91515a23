"""One mistake that may have made a wrong output."""

from collections.abc import Callable
from dataclasses import dataclass

from verification.diagnosis.evidence import Array, Mask


class Refuted(ValueError):
    """The mistake gives another mask than the output has; its weights need not be computed."""


@dataclass(frozen=True)
class Suspect:
    """One mistake.

    key     stable name
    rule    equation or section that it breaks
    text    description, the same for every layer unless a number is fitted
    make    returns the weight and mask that an algorithm with this mistake gives
    fitted  whether a number was fitted to the output: then it explains less than a plain mistake
    """

    key: str
    rule: str
    text: str
    make: Callable[[], tuple[Array, Mask]]
    fitted: bool = False

    @property
    def mistake(self) -> tuple[str, str]:
        """What is the same for this mistake on every layer."""
        return self.key, "" if self.fitted else self.text
