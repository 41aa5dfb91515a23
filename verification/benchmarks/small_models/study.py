"""What the study of architectures runs on every small model, as plain data."""

from collections.abc import Iterator
from dataclasses import dataclass

from verification.benchmarks.small_models.families import FAMILIES

METHODS = ("magnitude", "wanda", "sparsegpt", "thanos")
PATTERNS = ("unstructured:0.5", "4:8", "2:4", "structured:0.3")
OUTLIERS = "+outliers:0.1"  # for Thanos alone: the other methods refuse outlier rows
REFIT_STEPS = 10
# Magnitude's mask knows nothing of the inputs: no control for what a refit is worth.
REFITTED = ("wanda", "sparsegpt", "thanos")


@dataclass(frozen=True)
class ArchitectureRun:
    """One pruned model. The dense one has the method "dense" and no pattern."""

    family: str
    method: str
    pattern: str
    refit_steps: int = 0


def architecture_runs() -> Iterator[ArchitectureRun]:
    """Family x method x pattern, the dense model of a family first."""
    for family in FAMILIES:
        yield ArchitectureRun(family, "dense", "")
        for pattern in PATTERNS:
            for method in METHODS:
                yield ArchitectureRun(family, method, pattern)
            if not pattern.startswith("unstructured"):
                yield ArchitectureRun(family, "thanos", pattern + OUTLIERS)
            for method in REFITTED:
                # One block is at its optimum already: spec T6.
                if (method, pattern) != ("thanos", "structured:0.3"):
                    yield ArchitectureRun(family, method, pattern, REFIT_STEPS)
