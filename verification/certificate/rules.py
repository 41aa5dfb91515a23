"""What a method promises, so that every check asks one place. Spec sections 3, 6 and 7."""

from dataclasses import dataclass

from reference.patterns import (
    Ablation,
    Pattern,
    SemiStructured,
    Structured,
    Unstructured,
    refuse_outlier_rows,
    refuse_switches,
)

METHODS = ("thanos", "magnitude", "wanda", "sparsegpt")


@dataclass(frozen=True)
class Rules:
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
    def over_all_columns(self) -> bool:
        """The residual mask (3): the r smallest of all columns that are left."""
        return (
            self.method == "thanos"
            and isinstance(self.pattern, Unstructured)
            and self.ablation.residual == "global"
        )

    @property
    def mask_width(self) -> int:
        """Columns that are chosen at one time, from the weights as they are then."""
        if not self.moves:
            return self.columns
        if self.method == "sparsegpt" and isinstance(self.pattern, SemiStructured):
            return self.pattern.m
        return self.block

    def block_count(self, rows: int, j1: int, j2: int) -> int:
        """Weights (Unstructured) or columns (Structured) that columns [j1, j2) give."""
        assert not isinstance(self.pattern, SemiStructured)
        if isinstance(self.pattern, Unstructured):
            return self.pattern.removed(rows * j2) - self.pattern.removed(rows * j1)
        return self.pattern.removed(j2) - self.pattern.removed(j1)


def make_rules(
    method: str,
    pattern: Pattern,
    shape: tuple[int, int],
    block_size: int,
    ablation: Ablation,
) -> Rules:
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
    return Rules(method, pattern, block, shape[1], ablation)
