"""Which form suits a pattern, and forms by their names."""

from collections.abc import Mapping

from torch import Tensor

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from thanos_torch.forms import sizes
from thanos_torch.forms.bitmask import Bitmask
from thanos_torch.forms.combinations import MOST
from thanos_torch.forms.compact import Compact
from thanos_torch.forms.form import Form
from thanos_torch.forms.nm import PackedNM

FORMS = ("bitmask", "nm", "compact")


def form_of(pattern: Pattern) -> str:
    """The name of the form that is smallest for a pattern."""
    if isinstance(pattern, Structured):
        return "compact"
    packs = isinstance(pattern, SemiStructured) and pattern.n and pattern.m <= MOST
    return "nm" if packs else "bitmask"


def pack(name: str, weight: Tensor, mask: Tensor, pattern: Pattern) -> Form:
    """A weight, (c, b), in the form of that name.

    pattern  that it was pruned to

    Raises ValueError if the form does not suit the pattern or the mask.
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
    """The form of that name, of a weight of that shape, from its tensors.

    Raises ValueError or KeyError for tensors that are not those of the form.
    """
    if name == "bitmask":
        return Bitmask.of(shape, tensors)
    if name == "compact":
        return Compact.of(shape, tensors)
    n, m = _n_of_m(name, pattern)
    return PackedNM.of(shape, tensors, n, m)


def form_bytes(name: str, pattern: Pattern, shape: tuple[int, int], itemsize: int) -> int:
    """What a weight of that shape takes, pruned to the pattern: exactly, without pruning it.

    itemsize  bytes of one number
    """
    rows, columns = shape
    outliers = 0 if isinstance(pattern, Unstructured) else pattern.outliers(rows)
    if name == "compact" and isinstance(pattern, Structured):
        return sizes.compact_bytes(rows, columns, pattern.removed(columns), outliers, itemsize)
    if name == "bitmask":
        if isinstance(pattern, Unstructured):
            removed = pattern.removed(rows * columns)
        elif isinstance(pattern, SemiStructured):
            removed = (rows - outliers) * columns // pattern.m * pattern.n
        else:
            removed = (rows - outliers) * pattern.removed(columns)
        return sizes.bitmask_bytes(rows, columns, removed, itemsize)
    n, m = _n_of_m(name, pattern)
    return sizes.nm_bytes(rows, columns, n, m, outliers, itemsize)


def _n_of_m(name: str, pattern: Pattern) -> tuple[int, int]:
    if name != "nm":
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {name!r}")
    if not isinstance(pattern, SemiStructured):
        raise ValueError(f"form nm is for n:m patterns, got {pattern}")
    return pattern.n, pattern.m
