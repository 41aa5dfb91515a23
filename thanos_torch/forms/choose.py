"""Choose a storage form for a pattern, and the exact size of every form in bytes."""

from collections.abc import Mapping

from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from thanos_torch.forms.bitmask import Bitmask
from thanos_torch.forms.compact import Compact
from thanos_torch.forms.form import Form, bytes_of_bits
from thanos_torch.forms.nm import MOST, PackedNM, code_bits

FORMS = ("bitmask", "nm", "compact")
INDEX_BYTES = 4  # an index of a row or column, int32


def form_of(pattern: Pattern) -> str:
    """The name of the smallest form for a pattern."""
    if isinstance(pattern, Structured):
        return "compact"
    packs = isinstance(pattern, SemiStructured) and pattern.n and pattern.m <= MOST
    return "nm" if packs else "bitmask"


def pack(name: str, weight: Tensor, mask: Tensor, pattern: Pattern) -> Form:
    """Pack a weight by its mask, both (c, b), in the form `name`.

    pattern  the pattern that the weight was pruned to

    Raises ValueError if there is no such form or if it does not suit the pattern or the mask.
    """
    if name == "bitmask":
        return Bitmask.pack(weight, mask)
    if name == "compact":
        return Compact.pack(weight, mask)
    n, m = _n_of_m(name, pattern)
    return PackedNM.pack(weight, mask, n, m)


def form_from(
    name: str, shape: tuple[int, int], tensors: Mapping[str, Tensor], pattern: Pattern
) -> Form:
    """Make the form `name` of a weight of shape (c, b) from its stored tensors.

    Raises ValueError or KeyError if they are not the tensors of such a form.
    """
    if name == "bitmask":
        return Bitmask.of(shape, tensors)
    if name == "compact":
        return Compact.of(shape, tensors)
    n, m = _n_of_m(name, pattern)
    return PackedNM.of(shape, tensors, n, m)


def form_bytes(name: str, pattern: Pattern, shape: tuple[int, int], itemsize: int) -> int:
    """The exact bytes of a weight, of shape (c, b) and pruned to the pattern, in the form `name`.

    itemsize  bytes of one number

    Raises ValueError if there is no such form or if it does not suit the pattern.
    """
    rows, columns = shape
    outliers = 0 if isinstance(pattern, Unstructured) else pattern.outliers(rows)
    if name == "compact" and isinstance(pattern, Structured):
        return compact_bytes(rows, columns, pattern.removed(columns), outliers, itemsize)
    if name == "bitmask":
        if isinstance(pattern, Unstructured):
            removed = pattern.removed(rows * columns)
        elif isinstance(pattern, SemiStructured):
            removed = (rows - outliers) * columns // pattern.m * pattern.n
        else:
            removed = (rows - outliers) * pattern.removed(columns)
        return bitmask_bytes(rows, columns, removed, itemsize)
    n, m = _n_of_m(name, pattern)
    return nm_bytes(rows, columns, n, m, outliers, itemsize)


def _n_of_m(name: str, pattern: Pattern) -> tuple[int, int]:
    if name != "nm":
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {name!r}")
    if not isinstance(pattern, SemiStructured):
        raise ValueError(f"form nm is for n:m patterns, got {pattern}")
    return pattern.n, pattern.m


def dense_bytes(rows: int, columns: int, itemsize: int) -> int:
    """Bytes of the dense weight: itemsize · c · b."""
    return itemsize * rows * columns


def bitmask_bytes(rows: int, columns: int, removed: int, itemsize: int) -> int:
    """Bytes of a bit per weight and of the kept weights: itemsize · (c·b − removed) + ⌈c·b / 8⌉."""
    return itemsize * (rows * columns - removed) + bytes_of_bits(rows * columns)


def nm_bytes(rows: int, columns: int, n: int, m: int, outliers: int, itemsize: int) -> int:
    """Bytes of the kept weights, of a code per group, and of the indices of o outlier rows.

    itemsize · ((c−o)·b·(m−n)/m + o·b) + ⌈(c−o)·(b/m)·⌈log2 C(m, n)⌉ / 8⌉ + 4·o
    """
    groups = (rows - outliers) * (columns // m)
    numbers = groups * (m - n) + outliers * columns
    return itemsize * numbers + bytes_of_bits(groups * code_bits(m, m - n)) + INDEX_BYTES * outliers


def compact_bytes(
    rows: int, columns: int, removed_columns: int, outliers: int, itemsize: int
) -> int:
    """Bytes of the kept columns, of the outlier rows' other columns, and of two lists of indices.

    s columns are removed from all rows but o outlier rows: itemsize · (c·(b−s) + o·s) + 4·(b−s + o)
    """
    kept = columns - removed_columns
    numbers = rows * kept + outliers * removed_columns
    return itemsize * numbers + INDEX_BYTES * (kept + outliers)
