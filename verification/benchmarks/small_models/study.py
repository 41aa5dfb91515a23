"""What the study of architectures runs on every small model, as plain data."""

from collections.abc import Iterator
from dataclasses import dataclass

from verification.benchmarks.paper.plan import Pruning, prunings
from verification.benchmarks.small_models.families import FAMILIES


@dataclass(frozen=True)
class ArchitectureRun:
    """One pruned model of a family."""

    family: str
    pruning: Pruning


def architecture_runs() -> Iterator[ArchitectureRun]:
    """Family x method x pattern as in the paper, the dense model of a family first."""
    for family in FAMILIES:
        for pruning in prunings():
            yield ArchitectureRun(family, pruning)
