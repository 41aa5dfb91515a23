"""Methods, patterns and precisions that an implementation declares. docs/vectors.md."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reference.patterns import SemiStructured, Structured, Unstructured, parse_pattern
from verification.conformance.cases import Case

# One pattern n:m, where an implementation supports some of them alone.
ONE_PATTERN = re.compile(r"\d{1,9}:\d{1,9}", re.ASCII)
METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")
KINDS = {Unstructured: "unstructured", SemiStructured: "n:m", Structured: "structured"}
CHOICES = {
    "methods": METHODS,
    "patterns": (*KINDS.values(), "outlier-rows"),
    "dtypes": ("float64", "float32"),
    "storage": ("float16", "bfloat16"),
}


@dataclass(frozen=True)
class Capabilities:
    """What an implementation supports; the defaults apply to what it does not declare.

    patterns    kinds of patterns, or single ones such as 2:4 in the place of n:m
    arithmetic  precision of its computation; None if it is the dtype of the case
    by_method   whether it declared methods, so that each call must name one
    """

    name: str
    methods: tuple[str, ...]
    patterns: tuple[str, ...] = CHOICES["patterns"]
    dtypes: tuple[str, ...] = ("float64",)
    storage: tuple[str, ...] = ()
    refusals: bool = False
    arithmetic: str | None = None
    by_method: bool = False

    def missing(self, case: Case) -> str | None:
        """The reason why a case is not supported, or None."""
        if case.method not in self.methods:
            return f"method {case.method}"
        if case.expected == "refusal":
            return None if self.refusals else "refusals"
        one = case.pattern.partition("+")[0]
        for kind in pattern_kinds(case.pattern):
            if kind not in self.patterns and not (kind == "n:m" and one in self.patterns):
                return f"pattern {kind}"
        if case.dtype not in self.dtypes:
            return f"dtype {case.dtype}"
        if case.storage and case.storage not in self.storage:
            return f"storage {case.storage}"
        return None

    def judged_arithmetic(self, dtype: str) -> str:
        """The arithmetic that an output is judged by: at least as precise as the case's dtype."""
        return "float64" if "float64" in (dtype, self.arithmetic) else dtype


def pattern_kinds(pattern: str) -> tuple[str, ...]:
    """The kind of a pattern, and "outlier-rows" if it has some."""
    parsed = parse_pattern(pattern)
    outliers = getattr(parsed, "outlier_rows", 0)
    return (KINDS[type(parsed)], *(("outlier-rows",) if outliers else ()))


def read_capabilities(declared: object, method: str, name: str) -> Capabilities:
    """Check a declaration, a mapping with the keys that docs/vectors.md lists.

    method  method that is judged if none is declared
    Raises ValueError that names the key and its value.
    """
    if not isinstance(declared, Mapping):
        raise ValueError(f"the description must be an object, got {declared!r}")
    unknown = set(declared) - {*CHOICES, "name", "refusals", "arithmetic"}
    if unknown:
        raise ValueError(f"the description has the unknown key {sorted(unknown)[0]!r}")
    lists = {
        key: _choices(key, declared[key], choices)
        for key, choices in CHOICES.items()
        if key in declared
    }
    refusals = declared.get("refusals", False)
    if not isinstance(refusals, bool):
        raise ValueError(f"refusals must be true or false, got {refusals!r}")
    arithmetic = declared.get("arithmetic")
    if arithmetic not in (None, "float64", "float32"):
        raise ValueError(f"arithmetic must be float64 or float32, got {arithmetic!r}")
    by_method = "methods" in lists
    lists.setdefault("methods", (method,))
    return Capabilities(
        name=str(declared.get("name", name))[:200],
        refusals=refusals,
        arithmetic=arithmetic,
        by_method=by_method,
        **lists,
    )


def _choices(key: str, values: object, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{key} must be a list, got {values!r}")
    for value in values:
        if value not in allowed and not (key == "patterns" and _is_one_pattern(value)):
            raise ValueError(f"{key} may hold {', '.join(allowed)}, got {value!r}")
    return tuple(values)


def _is_one_pattern(value: object) -> bool:
    return isinstance(value, str) and ONE_PATTERN.fullmatch(value) is not None
