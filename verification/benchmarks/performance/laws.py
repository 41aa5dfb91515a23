"""The terms of the cost model: which operations each stage of each method consists of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

from reference.patterns import (
    SemiStructured,
    Structured,
    Unstructured,
    column_blocks,
    parse_pattern,
)
from thanos_torch.methods.problem import PANEL
from thanos_torch.methods.update import ENTRIES, MIN_ROWS
from thanos_torch.runtime.clock import FEW_COLUMNS

STAGES = ("prepare", "factor", "masks", "solve", "update", "refit")
SOLVER = "solve: joint"  # the law whose time depends on the number of solver steps
_FIXED = ("blocks", "constant")
_CERTIFICATE = ("b³ / threads", "c b² / threads", "c b", "b²", "constant")


@cache
def stages_of(method: str, pattern: str, refit_steps: int) -> tuple[str, ...]:
    """The stages of a method that take time, in their order."""
    zeroing = method in ("magnitude", "wanda")
    chosen_on_the_way = method == "sparsegpt" and isinstance(parse_pattern(pattern), SemiStructured)
    left_out = {"solve"} if zeroing else {"masks"} if chosen_on_the_way else set()
    refit = set() if refit_steps else {"refit"}
    return tuple(each for each in STAGES if each not in left_out | refit)


@cache
def needs_inverse(method: str, pattern: str) -> bool:
    """Whether the method needs U. Layers that read one input share it; it takes extra memory."""
    joint = method == "thanos" and isinstance(parse_pattern(pattern), Structured)
    return method in ("thanos", "sparsegpt") and not joint


@cache
def law(stage: str, method: str, pattern: str) -> tuple[str, tuple[str, ...]]:
    """The name of a stage's law, and its terms. Stages that do the same share one law."""
    asked = parse_pattern(pattern)
    structured = method == "thanos" and isinstance(asked, Structured)
    if stage == "prepare":
        return "prepare", ("c b", "b²", "constant")
    if stage == "refit":
        return "refit", ("b³", "c b²", "refit products", "refit passes", "b²", "constant")
    if stage == "factor":
        # "columns" counts the small parts in LAPACK and in the inverse of the triangle.
        kind = "triangle and its inverse" if needs_inverse(method, pattern) else "triangle"
        return f"factor: {kind}", ("b³", "b²", "columns", "constant")
    if stage == "masks":
        looking = method == "thanos" and isinstance(asked, Unstructured)
        terms = ("c b", *_FIXED)
        return f"masks: {method} {_family(pattern)}", ("looks", *terms) if looking else terms
    if stage == "solve":
        if method == "sparsegpt":
            kind = "choosing" if isinstance(asked, SemiStructured) else "chosen"
            return f"solve: column by column, {kind}", ("sweeps", "c b", "columns", "constant")
        if structured:
            return "solve: least squares", ("least squares", "c b", "columns", "constant")
        return SOLVER, ("steps", "passes", "within", "systems", "c b", *_FIXED)
    if method in ("magnitude", "wanda"):
        return "update: losses only", ("c b²", "c b", "b²", *_FIXED)
    if structured:
        return "update: none", ("c b", "b²", "constant")
    return f"update: {method}", ("trailing", "c b", "b²", *_FIXED)


@cache
def certificate_law(method: str, pattern: str, refit_steps: int) -> tuple[str, tuple[str, ...]]:
    """The name and terms of the law for the seconds of a layer's certificate."""
    name = f"certificate: {method} {_family(pattern)}" + (" with refit" if refit_steps else "")
    if method == "thanos" and isinstance(parse_pattern(pattern), Unstructured):
        choosing = ("trailing / threads", "spreads", "lengths", "looks", "blocks")
        return name, (*choosing, *_CERTIFICATE)
    return name, _CERTIFICATE


@cache
def memory_law(method: str, pattern: str, refit_steps: int) -> tuple[str, tuple[str, ...]]:
    """The name and terms of the law for the most bytes beyond W and G, with the result."""
    name = f"memory: {method} {_family(pattern)}" + (" with refit" if refit_steps else "")
    return name, ("c b", "b²", "c B", "last block²", "part", "constant")


# Steps of the solver on the random inputs of this benchmark. A block is easy while many columns
# behind it can compensate, so it takes few steps if it is a small part of the columns that are
# left. The last block takes several times as many here, and a quarter more on real layers.
STEPS_LAW = ("steps of a block", ("constant", "width / rest"))
LAST_STEPS_LAW = ("steps of the last block", ("constant", "last block / b"))
GRAM_LAW = ("gram", ("gram products", "b²", "tokens b", "constant"))
PASS_LAW = ("pass", ("tokens weights", "tokens² b", "tokens widths", "constant"))


def _family(pattern: str) -> str:
    asked = parse_pattern(pattern)
    if isinstance(asked, Unstructured):
        return "unstructured"
    return "structured" if isinstance(asked, Structured) else pattern


@dataclass(frozen=True)
class Work:
    """The size of a piece of work: pruning a layer, adding to a Gram matrix, or a forward pass.

    rows, columns  c and b
    block_size     B
    pattern        in its text form
    steps          conjugate-gradient steps of a block, the mean over all but the last
    last_steps     steps of the last block, which may take several times as many
    refit_steps    steps of the refit
    tokens         tokens of a batch or window
    weights        number of weights of a decoder block, for a forward pass
    widths         sum of the input and output widths of that block's linear layers
    threads        threads of the products in a large layer's certificate
    """

    rows: int = 0
    columns: int = 0
    block_size: int = 128
    pattern: str = "unstructured:0.5"
    steps: float = 0.0
    last_steps: float = 0.0
    refit_steps: int = 0
    tokens: int = 0
    weights: int = 0
    widths: int = 0
    threads: int = 1

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """The blocks of columns as (j1, j2)."""
        return list(column_blocks(self.columns, self.block_size))

    @cached_property
    def block_steps(self) -> list[float]:
        """Steps of every block."""
        return [self.steps] * (len(self.blocks) - 1) + [self.last_steps]

    @cached_property
    def removed_columns(self) -> int:
        """The number of columns that a structured pattern removes: s."""
        pattern = parse_pattern(self.pattern)
        assert isinstance(pattern, Structured)
        return pattern.removed(self.columns)


def trailing(work: Work) -> float:
    """Products that update the columns behind each block: Σ 2 c w (b − j2)."""
    return sum(2 * work.rows * (j2 - j1) * (work.columns - j2) for j1, j2 in work.blocks)


def within(work: Work) -> float:
    """One product with each block's own part of U: Σ 2 c w²."""
    return sum(2 * work.rows * (j2 - j1) ** 2 for j1, j2 in work.blocks)


def steps(work: Work) -> float:
    """Two products for each step of the solver: Σ 4 c w² s."""
    blocks = zip(work.blocks, work.block_steps, strict=True)
    return sum(4 * work.rows * (j2 - j1) ** 2 * taken for (j1, j2), taken in blocks)


def passes(work: Work) -> float:
    """Numbers that the solver's steps read: Σ c w s."""
    blocks = zip(work.blocks, work.block_steps, strict=True)
    return sum(work.rows * (j2 - j1) * taken for (j1, j2), taken in blocks)


def width_of_rest(work: Work) -> float:
    """A block's share of the columns that are left, w / (b − j1): mean over all but the last."""
    shares = [(j2 - j1) / (work.columns - j1) for j1, j2 in work.blocks[:-1]]
    return sum(shares) / len(shares) if shares else 0.0


def systems(work: Work) -> float:
    """Products for each block's R and its inverse: Σ w³."""
    return sum((j2 - j1) ** 3 for j1, j2 in work.blocks)


def looks(work: Work) -> float:
    """Scores that the residual mask (3) compares: Σ c (b − j1)."""
    return sum(work.rows * (work.columns - j1) for j1, _ in work.blocks)


def sweeps(work: Work) -> float:
    """Numbers that SparseGPT's rank-one updates change within blocks: Σ c w (w − 1) / 2."""
    return sum(work.rows * (j2 - j1) * (j2 - j1 - 1) / 2 for j1, j2 in work.blocks)


def lengths(work: Work) -> float:
    """Numbers in the column lengths that bound the errors of scores: Σ j1 (b − j1)."""
    return sum(j1 * (work.columns - j1) for j1, _ in work.blocks)


def spreads(work: Work) -> float:
    """`lengths` for every row, Σ c j1 (b − j1); a certificate adds up a small share of these."""
    return work.rows * lengths(work)


def judging_threads(work: Work) -> int:
    """Threads of a certificate: one for a small layer, see `blas_threads`."""
    return work.threads if work.columns >= FEW_COLUMNS else 1


def least_squares(work: Work) -> float:
    """Structured, k = b − s: triangular solve and both products by M, c k² + 2 c k s + 2 c s²."""
    s = work.removed_columns
    kept = work.columns - s
    return work.rows * (kept**2 + 2 * kept * s + 2 * s**2)


def refit_products(work: Work) -> float:
    """One product with H a step, and one before the first: 2 c b² (steps + 1)."""
    return 2 * work.rows * work.columns**2 * (work.refit_steps + 1)


def refit_passes(work: Work) -> float:
    """Numbers that the refit reads: c b (steps + 1)."""
    return work.rows * work.columns * (work.refit_steps + 1)


def gram_products(work: Work) -> float:
    """Panels of G that end at its diagonal: Σ 2 a w (b − j1)."""
    panels = column_blocks(work.columns, PANEL)
    return sum(2 * work.tokens * (j2 - j1) * (work.columns - j1) for j1, j2 in panels)


def factor_bytes(work: Work) -> float:
    """Most bytes while U is made: the scaled W, H in float64, a quarter of H, and a panel."""
    return 4 * work.rows * work.columns + 10.5 * work.columns**2


def part(work: Work) -> float:
    """Numbers of the last block that the solver holds at one time, as it takes rows in parts.

    Memory peaks there: it is the block that mostly needs float64.
    """
    start, end = work.blocks[-1]
    return min(work.rows, max(MIN_ROWS, ENTRIES // (end - start))) * (end - start)


COUNTS: dict[str, Callable[[Work], float]] = {
    "constant": lambda work: 1.0,
    "columns": lambda work: work.columns,
    "blocks": lambda work: len(work.blocks),
    "c b": lambda work: work.rows * work.columns,
    "b²": lambda work: work.columns**2,
    "b³": lambda work: work.columns**3,
    "c b²": lambda work: work.rows * work.columns**2,
    "c B": lambda work: work.rows * min(work.block_size, work.columns),
    "last block²": lambda work: (work.blocks[-1][1] - work.blocks[-1][0]) ** 2,
    "last block / b": lambda work: (work.blocks[-1][1] - work.blocks[-1][0]) / work.columns,
    "width / rest": width_of_rest,
    "b³ / threads": lambda work: work.columns**3 / judging_threads(work),
    "c b² / threads": lambda work: work.rows * work.columns**2 / judging_threads(work),
    "part": part,
    "trailing": trailing,
    "trailing / threads": lambda work: trailing(work) / judging_threads(work),
    "within": within,
    "steps": steps,
    "passes": passes,
    "systems": systems,
    "looks": looks,
    "sweeps": sweeps,
    "lengths": lengths,
    "spreads": spreads,
    "least squares": least_squares,
    "refit products": refit_products,
    "refit passes": refit_passes,
    "gram products": gram_products,
    "tokens b": lambda work: work.tokens * work.columns,
    "tokens weights": lambda work: work.tokens * work.weights,
    "tokens² b": lambda work: work.tokens**2 * work.columns,
    "tokens widths": lambda work: work.tokens * work.widths,
}

# Counts that are matrix products, with the float32 operations that take as long. They bound the
# coefficients from below: no machine is faster than its own peak, even if little of a kind was
# measured. Counts "/ threads" run on one thread, and certificates in float64, at half the speed.
PRODUCTS = {
    "trailing": 1,
    "trailing / threads": 2,
    "steps": 1,
    "refit products": 1,
    "gram products": 1,
    "tokens weights": 2,
}


def operations(method: str, work: Work) -> float:
    """Floating-point operations of matrix products that pruning a layer cannot do without.

    For Thanos and SparseGPT: the factor (Cholesky and the inverse of a triangle), the update of
    the columns, and the work within blocks. Thanos takes two products a solver step, one before
    the first step, and two for E_k and the block's new weights. Structured: see `least_squares`.
    """
    rows, columns = work.rows, work.columns
    if isinstance(parse_pattern(work.pattern), Structured):
        removed = work.removed_columns
        kept = columns - removed
        return columns**3 / 3 + rows * kept**2 + 2 * rows * kept * removed
    factor_and_update = 2 * columns**3 / 3 + rows * columns**2
    if method == "sparsegpt":
        return factor_and_update + within(work) / 2
    return factor_and_update + steps(work) + 3 * within(work)
