"""What Thanos may cost here, as shares of what SparseGPT's published procedure costs."""

from dataclasses import dataclass

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured

SHAPES = ((1024, 1024), (2048, 2048), (1024, 2816), (4096, 4096))
PATTERNS: tuple[Pattern, ...] = (
    Unstructured(0.5),
    SemiStructured(2, 4),
    SemiStructured(4, 8),
    Structured(0.3),
)
UNSTRUCTURED_SHARE, SEMI_SHARE = 0.6, 0.8
AIM = 0.5
# Choosing masks must not dominate.
SELECTION_SHARE = 0.5
# Pruning all layers of a model, over the two passes of 16 thousand tokens that calibrate it.
MODEL_SHARE = 0.25
MEMORY_FACTOR, MEMORY_EXTRA = 2, 32 * 2**20
# How many times more than its operations or its weights tell a block size or a shape may cost.
CLIFF = 2.0


@dataclass(frozen=True)
class Published:
    """Product units of the published procedure on this machine, in this run: 50 %, and 2:4."""

    unstructured: float
    semi: float

    def limit(self, method: str, pattern: Pattern) -> float:
        """At most so many units: Thanos a share of SparseGPT's, our own SparseGPT all of them.

        Structured pruning has no published counterpart: it has to be below all the others.
        """
        if method == "sparsegpt":
            return self.unstructured if isinstance(pattern, Unstructured) else self.semi
        unstructured, semi = UNSTRUCTURED_SHARE * self.unstructured, SEMI_SHARE * self.semi
        if isinstance(pattern, Structured):
            return min(unstructured, semi)
        return unstructured if isinstance(pattern, Unstructured) else semi


def memory_limit(shape: tuple[int, int]) -> int:
    """Bytes beyond the input and the result."""
    rows, columns = shape
    return MEMORY_FACTOR * 4 * (rows * columns + columns**2) + MEMORY_EXTRA
