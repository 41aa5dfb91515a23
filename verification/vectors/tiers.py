"""Which vectors are in the tiers `first-five` and `core`. docs/vectors.md."""

from typing import Any

# Layers of the catalogue, all patterns; between them they show every rule of Thanos.
_CATALOGUE = (
    "02",  # G is 0: lambda
    "03",  # dead columns: the mean of the damping
    "04",  # fewer tokens than columns: weights move far, and masks with them
    "06",  # ties
    "12",  # one column: all columns may go
    "13",  # a ragged last block
    "14",  # blocks of one column
    "15",  # a block wider than the layer
    "17",  # a loud column: scores and damping
)
# Refusals of the table of the specification: its rows in order, and then how they are ordered.
_REFUSALS = (
    "no-pattern", "unstructured-outliers", "n-of-ten-digits", "m-is-0", "n-above-m",
    "sparsity-is-1", "sparsity-nan", "sparsity-hexadecimal", "sparsity-underscore",
    "sparsity-after-a-space", "sparsity-not-ascii", "sparsity-exponent-of-five-digits",
    "legal-decimal-exponent", "alpha-is-1", "damping-0", "damping-nan",
    "weight-vector", "weight-no-rows", "weight-integers", "weight-nan",
    "gram-vector", "gram-integers", "gram-nan", "gram-too-large",
    "gram-negative-diagonal", "gram-negative-diagonal-mended-by-damping",
    "gram-dead-but-not-empty", "gram-asymmetric", "gram-asymmetric-small",
    "gram-asymmetric-unit", "block-size-0", "block-size-0-structured",
    "block-size-no-whole-number", "m-does-not-divide-columns", "m-does-not-divide-block",
    "more-columns-than-there-are", "columns-where-all-rows-are-outliers",
    "gram-indefinite-thanos", "first-damping-before-weight",
)  # fmt: skip
# Flags of layers that were made for one rule each.
_ONE_RULE = frozenset(
    ("nothing-removed", "nearly-symmetric", "tied-outlier-rows", "outliers-by-inputs",
     "ties-in-units", "exact-count", "spelled-decimal", "close-scores")
)  # fmt: skip


def tier_of(entry: dict[str, Any]) -> str:
    """The first tier that holds a case, which is given as its entry in the manifest."""
    if "first-steps" in entry["flags"]:
        return "first-five"
    return "core" if _is_core(entry) else "all"


def _is_core(entry: dict[str, Any]) -> bool:
    if entry["expected"] == "refusal":
        return entry["id"].removeprefix("refusal-") in _REFUSALS
    if (entry["method"], entry["dtype"], entry["storage"]) != ("thanos", "float64", None):
        return False
    layer = entry["id"].removeprefix("thanos-float64-").partition("-")[0]
    return layer in _CATALOGUE or not _ONE_RULE.isdisjoint(entry["flags"])
