"""How many bytes a weight takes in each form, exactly. The formulas of docs/forms.md.

rows, columns  of the weight, c and b
itemsize       bytes of one number
outliers       rows that are kept whole
"""

from thanos_torch.forms.combinations import code_bits

INDEX_BYTES = 4  # an index of a row or column, int32


def dense_bytes(rows: int, columns: int, itemsize: int) -> int:
    """Itemsize · c · b."""
    return itemsize * rows * columns


def bitmask_bytes(rows: int, columns: int, removed: int, itemsize: int) -> int:
    """A bit a weight, and the kept weights: itemsize · (c·b − removed) + ⌈c·b / 8⌉."""
    return itemsize * (rows * columns - removed) + bytes_of_bits(rows * columns)


def nm_bytes(rows: int, columns: int, n: int, m: int, outliers: int, itemsize: int) -> int:
    """The kept weights, a code for each group, and where the outlier rows are.

    itemsize · ((c−o)·b·(m−n)/m + o·b) + ⌈(c−o)·(b/m)·⌈log2 C(m, n)⌉ / 8⌉ + 4·o
    """
    groups = (rows - outliers) * (columns // m)
    numbers = groups * (m - n) + outliers * columns
    return itemsize * numbers + bytes_of_bits(groups * code_bits(m, m - n)) + INDEX_BYTES * outliers


def compact_bytes(
    rows: int, columns: int, removed_columns: int, outliers: int, itemsize: int
) -> int:
    """The kept columns of all rows, what outlier rows have beside them, and two lists of indices.

    itemsize · (c·(b−s) + o·s) + 4·(b−s + o)
    """
    kept = columns - removed_columns
    numbers = rows * kept + outliers * removed_columns
    return itemsize * numbers + INDEX_BYTES * (kept + outliers)


def compact_module_bytes(
    rows: int, columns: int, removed_columns: int, outliers: int, itemsize: int
) -> int:
    """In memory, as `CompactLinear` without its bias: the removed columns are listed as well.

    `compact_bytes` + 4·s if there are outlier rows, the same if there are none.
    """
    stored = compact_bytes(rows, columns, removed_columns, outliers, itemsize)
    return stored + (INDEX_BYTES * removed_columns if outliers else 0)


def semi_structured_bytes(rows: int, columns: int, itemsize: int) -> int:
    """2:4 on a GPU, 16-bit numbers: half of them, and two bits for each, whose place it is.

    itemsize · c·b/2 + c·b/8
    """
    return itemsize * rows * columns // 2 + rows * columns // 8


def bytes_of_bits(bits: int) -> int:
    """⌈bits / 8⌉."""
    return -(-bits // 8)
