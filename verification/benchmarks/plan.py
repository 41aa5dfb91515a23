"""What a benchmark runs."""

from collections.abc import Iterator
from dataclasses import dataclass

OUTLIERS = "0.1"


@dataclass(frozen=True)
class Run:
    """One pruned model: a method and a pattern in its text form. The dense model has neither."""

    method: str
    pattern: str

    @property
    def key(self) -> str:
        """A name for files."""
        return f"{self.method}-{self.pattern}".replace(":", "_").replace("+", "-").strip("-")

    @property
    def label(self) -> str:
        """The method, for people; outlier rows make it another one."""
        outliers = self.pattern.partition("+outliers:")[2]
        return f"{self.method}, outlier rows {outliers}" if outliers else self.method

    @property
    def family(self) -> str:
        """The pattern without outlier rows: what is compared with each other."""
        return self.pattern.partition("+")[0]


DENSE = Run("dense", "")


def quick() -> Iterator[Run]:
    """The main job: every method in every pattern, and Thanos with outlier rows."""
    for pattern in ("unstructured:0.5", "2:4", "structured:0.3"):
        for method in ("magnitude", "wanda", "sparsegpt", "thanos"):
            yield Run(method, pattern)
        if pattern != "unstructured:0.5":
            yield Run("thanos", f"{pattern}+outliers:{OUTLIERS}")


@dataclass(frozen=True)
class Settings:
    """What all runs of a benchmark share."""

    model: str
    dataset: str
    nsamples: int = 8
    seqlen: int = 512
    evaluation_windows: int = 16
    seed: int = 0
    block_size: int = 128
    damping: float = 0.01
    threads: int = 1
