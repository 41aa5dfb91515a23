"""One mistake that may have made a wrong output."""

from collections.abc import Callable
from dataclasses import dataclass

from verification.diagnosis.evidence import Array, Mask


@dataclass(frozen=True)
class Suspect:
    """One mistake.

    key   stable name
    rule  equation or section that it breaks
    text  description
    make  returns the weight and mask that an algorithm with this mistake gives
    """

    key: str
    rule: str
    text: str
    make: Callable[[], tuple[Array, Mask]]
