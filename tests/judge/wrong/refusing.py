"""What a right implementation refuses, spec section 2, one overridable check a bullet."""

import numpy as np

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from tests.judge.wrong.arrays import Floats


class Refusing:
    """A layer as it was given, and the refusals: every one names the argument and its value."""

    def __init__(
        self, weight: Floats, gram: Floats, pattern: str, block_size: int, damping: float
    ) -> None:
        self.given_weight = weight
        self.given_gram = gram
        self.pattern = self.parsed(pattern)
        self.block_size = block_size
        self.damping = damping

    def refuse(self, method: str) -> None:
        """All of section 2 that the arguments show; whether H is definite, factorising it does."""
        if method != "thanos":
            self.refuse_outlier_rows(self.pattern)
        self.refuse_damping()
        self.refuse_matrix("weight", self.given_weight)
        self.refuse_matrix("gram", self.given_gram)
        self.refuse_shapes()
        self.refuse_diagonal()
        self.refuse_asymmetry()
        self.refuse_block_size()
        if isinstance(self.pattern, SemiStructured):
            self.refuse_groups(self.pattern)
        if isinstance(self.pattern, Structured):
            self.refuse_columns(self.pattern)

    def parsed(self, pattern: str) -> Pattern:
        return parse_pattern(pattern)

    def refuse_damping(self) -> None:
        if not 0 < self.damping < np.inf:
            raise ValueError(f"damping is {self.damping}, but must be positive and finite")

    def refuse_matrix(self, name: str, matrix: Floats) -> None:
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"{name} has the shape {matrix.shape}, which is no matrix")
        if matrix.dtype.kind != "f":
            raise ValueError(f"{name} has the type {matrix.dtype}, not a floating-point type")
        if not np.isfinite(matrix).all():
            raise ValueError(f"{name} holds {matrix[~np.isfinite(matrix)][0]}")

    def refuse_shapes(self) -> None:
        columns = self.given_weight.shape[1]
        if self.given_gram.shape != (columns, columns):
            raise ValueError(f"gram has the shape {self.given_gram.shape} for {columns} columns")

    def refuse_diagonal(self) -> None:
        diagonal = np.diag(self.given_gram)
        for j in np.flatnonzero(diagonal < 0):
            raise ValueError(f"gram[{j}, {j}] is {diagonal[j]}, below 0")
        for j in np.flatnonzero(diagonal == 0):
            if self.given_gram[j].any() or self.given_gram[:, j].any():
                raise ValueError(f"gram[{j}, {j}] is 0, but its row or column is not")

    def refuse_asymmetry(self) -> None:
        G = self.given_gram.astype(np.float64)
        norms = np.sqrt(np.diag(G))
        for i, j in np.argwhere(np.abs(G - G.T) > 1e-5 * norms[:, None] * norms):
            raise ValueError(f"gram[{i}, {j}] is {G[i, j]}, but gram[{j}, {i}] is {G[j, i]}")

    def refuse_block_size(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"block_size is {self.block_size}, but must be at least 1")

    def refuse_groups(self, pattern: SemiStructured) -> None:
        columns, m = self.given_weight.shape[1], pattern.m
        if columns % m:
            raise ValueError(f"m is {m}, which does not divide {columns} columns")
        if self.block_size < columns and self.block_size % m:
            raise ValueError(f"block_size is {self.block_size}, no multiple of m = {m}")

    def refuse_columns(self, pattern: Structured) -> None:
        if pattern.sparsity > 1 - pattern.outlier_rows:
            raise ValueError(
                f"sparsity is {float(pattern.sparsity)}: with outlier_rows = "
                f"{float(pattern.outlier_rows)} there are not enough columns"
            )

    def refuse_outlier_rows(self, pattern: Pattern) -> None:
        if not isinstance(pattern, Unstructured) and pattern.outlier_rows:
            raise ValueError(f"outlier_rows is {float(pattern.outlier_rows)}, but must be 0 here")
