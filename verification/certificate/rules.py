"""What a method promises, so that every check asks one place. Spec sections 3, 6 and 7."""

from collections.abc import Iterator
from dataclasses import dataclass

from reference.patterns import (
    Ablation,
    Pattern,
    SemiStructured,
    Structured,
    Unstructured,
    column_blocks,
    refuse_outlier_rows,
    refuse_switches,
)

METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")


@dataclass(frozen=True)
class MethodRules:
    """A method with its switches.

    block   columns over which a mask is chosen and losses are reported
    """

    method: str
    pattern: Pattern
    block: int
    columns: int
    ablation: Ablation

    @property
    def moves(self) -> bool:
        """Whether kept weights move at all."""
        return self.method in ("thanos", "sparsegpt")

    @property
    def joint(self) -> bool:
        """Whether a block is removed jointly, or column by column: T2 then holds with B = 1."""
        return self.method == "thanos" and self.ablation.update == "joint"

    @property
    def original_scores(self) -> bool:
        """Whether the masks follow from W alone, or from the weights that the updates left."""
        whole = self.method == "thanos" and isinstance(self.pattern, Structured)
        return whole or not self.moves or not self.ablation.adaptive

    @property
    def in_groups(self) -> bool:
        """Whether a sweep chooses group by group, when it reaches them: SparseGPT's n:m."""
        return self.method == "sparsegpt" and isinstance(self.pattern, SemiStructured)

    @property
    def residual(self) -> bool:
        """The residual mask (3): the r smallest of all columns that are left."""
        return (
            self.method == "thanos"
            and isinstance(self.pattern, Unstructured)
            and self.ablation.residual == "global"
        )

    @property
    def whole_layer(self) -> bool:
        """Whether all weights of a choice compete with all."""
        return not self.within_rows and not self.whole_columns

    @property
    def within_rows(self) -> bool:
        """Whether weights compete with others of their own row only."""
        return isinstance(self.pattern, SemiStructured) or (
            self.method == "wanda" and isinstance(self.pattern, Unstructured)
        )

    @property
    def whole_columns(self) -> bool:
        """Whether one value stands for a whole column."""
        return isinstance(self.pattern, Structured)

    def original_blocks(self) -> Iterator[tuple[int, int]]:
        """The columns of every choice that is made from W alone, or that has a count of its own."""
        own_count = self.method == "sparsegpt" or (
            self.method == "thanos" and self.ablation.residual == "local"
        )
        by_block = own_count and not isinstance(self.pattern, SemiStructured)
        return column_blocks(self.columns, self.block if by_block else self.columns)

    def group(self, width: int) -> int:
        """How many neighbours compete, in rows of `width` values, unless all do with all."""
        return self.pattern.m if isinstance(self.pattern, SemiStructured) else width

    def count(self, rows: int, j1: int, j2: int, removed: int) -> int:
        """How many of every group go in columns [j1, j2), after `removed` went before them."""
        pattern = self.pattern
        if isinstance(pattern, SemiStructured):
            return pattern.n
        if isinstance(pattern, Structured):
            if self.method == "thanos":
                return pattern.removed(self.columns)
            return pattern.removed(j2) - pattern.removed(j1)
        if self.method == "wanda":
            return pattern.removed(self.columns)
        if self.residual:
            return pattern.removed(rows * self.columns) - removed
        return pattern.removed(rows * j2) - pattern.removed(rows * j1)


def make_rules(
    method: str,
    pattern: Pattern,
    shape: tuple[int, int],
    block_size: int,
    ablation: Ablation,
) -> MethodRules:
    """Check the arguments of a certificate that say what is promised. Raises ValueError."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    ablation.check()
    pattern.check(shape[0], shape[1], block_size)
    if method != "thanos":
        refuse_outlier_rows(method, pattern)
        refuse_switches(method, ablation)
    whole = method == "thanos" and isinstance(pattern, Structured)
    block = shape[1] if whole else min(block_size, shape[1])
    return MethodRules(method, pattern, block, shape[1], ablation)
