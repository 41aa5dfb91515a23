"""What the published code costs, and what Thanos may cost here."""

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured

SHAPES = ((1024, 1024), (2048, 2048), (1024, 2816), (4096, 4096))
PATTERNS: tuple[Pattern, ...] = (
    Unstructured(0.5),
    SemiStructured(2, 4),
    SemiStructured(4, 8),
    Structured(0.3),
)
# Product units of SparseGPT's published code on two CPU cores, p = 0.5, B = 128, float32:
# unstructured and 2:4. Measured before this project began.
PUBLISHED = {
    (1024, 1024): (16.1, 10.1),
    (2048, 2048): (8.5, 5.3),
    (1024, 2816): (3.0, 2.3),
    (4096, 4096): (4.7, 3.1),
}
UNSTRUCTURED_SHARE, SEMI_SHARE = 0.6, 0.8
# Pruning all layers of a model, over the two passes of 16 thousand tokens that calibrate it.
MODEL_SHARE = 0.25
MEMORY_FACTOR, MEMORY_EXTRA = 2, 32 * 2**20
# By how much the time may change when B doubles, or a shape becomes ragged.
CLIFF = 2.5


def limit(method: str, pattern: Pattern, shape: tuple[int, int]) -> float:
    """At most so many product units: Thanos a share of SparseGPT's, our SparseGPT all of them."""
    unstructured, semi = PUBLISHED[shape]
    if method == "sparsegpt":
        return unstructured if isinstance(pattern, Unstructured) else semi
    if isinstance(pattern, Unstructured):
        return UNSTRUCTURED_SHARE * unstructured
    if isinstance(pattern, SemiStructured):
        return SEMI_SHARE * semi
    return min(UNSTRUCTURED_SHARE * unstructured, SEMI_SHARE * semi)


def memory_limit(shape: tuple[int, int]) -> int:
    """Bytes beyond the input and the result."""
    rows, columns = shape
    return MEMORY_FACTOR * 4 * (rows * columns + columns**2) + MEMORY_EXTRA
