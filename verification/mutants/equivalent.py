"""Reasons why some mutants survive, one entry per mutant.

An entry that matches no mutant, or whose mutant is killed, is an error.
"""

from dataclasses import dataclass

from verification.mutants.mutant import Mutant

NO_OTHER_RESULT = "equivalent"  # the output is the same for every input, except for rounding
NO_SUCH_CALL = "unreachable"  # no call of the judged interface reaches the code
WORDS_ONLY = "message"  # it still refuses and names the argument; only other words change

DEFAULTS = "the interface always says B and γ: defaults are not judged"
TYPED = "the text form holds whole numbers, and always says α"
ORDER = "a mean is a sum over a count that all share: the order of the values is the same"
NOT_YET = "row i of `updated` is still that of W: only its own turn changes it"
FIRST = "j is j1 there"
ROWS = "no pattern's check reads the number of rows"
SHOWN = "the message still names gram or weight; which entry it shows is not judged"


@dataclass(frozen=True)
class KnownSurvivor:
    """Why one mutant survives; `before` and `after` are the mutant's."""

    module: str
    function: str
    before: str
    after: str
    why: str
    reason: str


def known_survivor(mutant: Mutant) -> KnownSurvivor | None:
    """The entry of a mutant, or None."""
    return _KNOWN.get((mutant.module, mutant.function, mutant.before, mutant.after))


def _defaults() -> list[KnownSurvivor]:
    return [
        KnownSurvivor(module, function, f"{argument} = {value},", f"{argument} = {other},",
                    NO_SUCH_CALL, DEFAULTS)
        for module, function in (("thanos", "thanos"), ("baselines", "magnitude"),
                                 ("baselines", "wanda"), ("baselines", "sparsegpt"))
        for argument, value, other in (("block_size: int", "128", "129"),
                                       ("damping: float", "0.01", "0.005"),
                                       ("damping: float", "0.01", "0.02"))
    ]  # fmt: skip


# Module, function, line, the part of it that is mutated, what it becomes, why, and the reason.
_ENTRIES: tuple[tuple[str, str, str, str, str, str, str], ...] = (
    ("update", "inverse",
     "inverted: Array = cho_solve(cho_factor(matrix, lower=True), np.eye(len(matrix)))",
     "True", "False", NO_OTHER_RESULT, "the matrix is symmetric: either triangle holds all of it"),
    ("update", "joint_update", "continue  # nothing is lost: the row stays as it is, bit for bit",
     "continue", "pass", NO_OTHER_RESULT,
     "the product over no picks is +0.0, and x - 0.0 is x, even if x is -0.0"),
    ("update", "joint_update", "for i in range(len(W_J)):",
     "W_J", "updated", NO_OTHER_RESULT, "both have the same rows"),
    ("update", "joint_update", "mu = np.linalg.solve(R[np.ix_(q, q)], W_J[i, q])",
     "W_J", "updated", NO_OTHER_RESULT, NOT_YET),
    ("update", "sequential_update", "for j in range(mask.shape[1]):",
     "mask.shape[1]", "mask.shape[1] + 1", NO_OTHER_RESULT,
     "the column beyond the mask is an empty slice: no row has a pick there"),
    ("masks", "smallest_of_each_group", "groups = values.reshape(-1, m)",
     "-1", "-2", NO_OTHER_RESULT, "NumPy takes every negative size as the one to be found"),
    ("masks", "ordinary_rows", "h = np.sum((weight @ gram) * weight, axis=1)",
     "sum", "mean", NO_OTHER_RESULT, ORDER),
    ("masks", "ordinary_rows", "h = np.sum(weight**2 * np.diag(gram), axis=1)",
     "sum", "mean", NO_OTHER_RESULT, ORDER),
    ("masks", "ordinary_rows", "return np.sort(largest_first[outliers:])",
     "np.sort(largest_first[outliers:])", "largest_first[outliers:]", NO_OTHER_RESULT,
     "the rows are used as a set: masks row by row, or a sum over all"),
    ("thanos", "thanos", "J = slice(j1, b)",
     "b", "b + 1", NO_OTHER_RESULT, "slices end where the array ends"),
    ("thanos", "thanos", "rows: Indices = np.arange(c)",
     "arange(c)", "arange(b)", NO_OTHER_RESULT, "read for n:m only, where it has been replaced"),
    ("thanos", "thanos", "first_scores = scores(original, G, H, metric)",
     "original", "W", NO_OTHER_RESULT, "W is still a copy of the original there"),
    ("thanos", "_structured",
     'v = np.sum(S if metric == "obs" else S**2, axis=0)  # obs is a square already',
     "sum", "mean", NO_OTHER_RESULT, ORDER),
    ("problem", "checked_problem", "pattern.check(W.shape[0], W.shape[1], block_size)",
     "shape[0]", "shape[-1]", NO_OTHER_RESULT, ROWS),
    ("problem", "checked_problem", "pattern.check(W.shape[0], W.shape[1], block_size)",
     "shape[0]", "shape[1]", NO_OTHER_RESULT, ROWS),
    ("losses", "reversed_cholesky", "return M",
     "M", "-M", NO_OTHER_RESULT, "H = Mᵀ M holds for -M as well, and losses are squares of E"),
    ("baselines", "sparsegpt", "mask = np.zeros((c, b), dtype=bool)",
     "zeros", "ones", NO_OTHER_RESULT, "every column's mask is chosen before it is read"),
    ("baselines", "sparsegpt", "for j in range(j1, j2):",
     "j1", "j1 - 1", NO_OTHER_RESULT, "the column before the block has its zeros already: μ = 0"),
    ("baselines", "sparsegpt", "block = slice(j1, j2)",
     "j1", "j", NO_OTHER_RESULT, FIRST),
    ("baselines", "sparsegpt",
     "mask[:, block] = _sparsegpt_block(W[:, block] ** 2 / pivots[block], pattern, j1)",
     "j1", "j", NO_OTHER_RESULT, FIRST),
    ("baselines", "_whole_columns", "mask[:, smallest_columns(score.mean(axis=0), count)] = True",
     "mean", "sum", NO_OTHER_RESULT, ORDER),
    ("patterns", "Ablation", "adaptive: bool = True",
     "True", "False", NO_SUCH_CALL, "`thanos` says all switches: their defaults are its own"),
    ("patterns", "SemiStructured.check", "if block_size < columns and block_size % self.m:",
     "<", "<=", NO_OTHER_RESULT, "where B = b, m divides B since it divides b"),
    ("patterns", "SemiStructured.__init__",
     "def __init__(self, n: int, m: int, outlier_rows: Share = 0.0) -> None:",
     "0.0", "1.0", NO_SUCH_CALL, TYPED),
    ("patterns", "Structured.__init__",
     "def __init__(self, sparsity: Share, outlier_rows: Share = 0.0) -> None:",
     "0.0", "1.0", NO_SUCH_CALL, TYPED),
    ("patterns", "SemiStructured.__init__", '_whole("m", m)',
     '_whole("m", m)', "pass", NO_SUCH_CALL, TYPED),
    ("patterns", "SemiStructured.__init__", '_whole("m", m)',
     ", m", ", n", NO_SUCH_CALL, TYPED),
    ("patterns", "SemiStructured.__init__", '_whole("n", n)',
     '_whole("n", n)', "pass", NO_SUCH_CALL, TYPED),
    ("patterns", "SemiStructured.__init__", '_whole("n", n)',
     ", n", ", m", NO_SUCH_CALL, TYPED),
    ("patterns", "_whole", 'if isinstance(value, bool) or not hasattr(value, "__index__"):',
     'isinstance(value, bool) or not hasattr(value, "__index__")',
     "not hasattr(value, '__index__')", NO_SUCH_CALL,
     "neither the text form nor a case has a truth value for a number"),
    ("inputs", "checked_gram", "asymmetry = np.abs(G - G.T) - 1e-5 * np.outer(norms, norms)",
     "np.abs(G - G.T)", "G - G.T", NO_OTHER_RESULT,
     "of G_ij - G_ji and G_ji - G_ij, both there, one is the absolute value"),
    ("inputs", "checked_gram", "i, j = np.unravel_index(np.argmax(asymmetry), G.shape)",
     "argmax", "argmin", WORDS_ONLY, SHOWN),
    ("inputs", "checked_gram", "j = np.flatnonzero(dead & G.any(axis=1))[0]",
     "[0]", "[-1]", WORDS_ONLY, SHOWN),
    ("inputs", "checked_gram", "j = np.flatnonzero(dead & G.any(axis=1))[0]",
     "&", "|", WORDS_ONLY, SHOWN),
    ("inputs", "checked_gram", "j = np.flatnonzero(dead & G.any(axis=1))[0]",
     "axis=1", "axis=0", WORDS_ONLY, SHOWN),
    ("inputs", "_finite_matrix", "i, j = np.argwhere(~np.isfinite(matrix))[0]",
     "[0]", "[-1]", WORDS_ONLY, SHOWN),
)  # fmt: skip

KNOWN_SURVIVORS: tuple[KnownSurvivor, ...] = (
    *_defaults(),
    *(
        KnownSurvivor(module, function, line, line.replace(old, new), why, reason)
        for module, function, line, old, new, why, reason in _ENTRIES
    ),
)
_KNOWN = {(e.module, e.function, e.before, e.after): e for e in KNOWN_SURVIVORS}
