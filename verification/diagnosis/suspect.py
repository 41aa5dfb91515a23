"""One mistake that may be to blame."""

from collections.abc import Callable
from dataclasses import dataclass

from verification.diagnosis.evidence import Array, Mask


@dataclass(frozen=True)
class Suspect:
    """One mistake: `make` gives what it would have put out.

    key   stable, for programs
    rule  the equation or section that it breaks
    text  for people
    """

    key: str
    rule: str
    text: str
    make: Callable[[], tuple[Array, Mask]]
