"""For each marked rule: wrong implementations that break it, and vectors that reject them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Broken:
    """A wrong implementation of tests/judge/wrong, by its name, and cases that it fails."""

    bug: str
    cases: tuple[str, ...]


def _broken(bug: str, *cases: str) -> Broken:
    return Broken(bug, cases)


_T = "thanos-float64-"
_LONG = "0.29999999999999999-5x10-unstructured"
_LONG_COLUMNS = "0.30000000000000001-5x10-structured"
_BINARY = (
    _broken("count in binary floating point", f"{_T}count-0.29-5x20-unstructured",
            f"{_T}count-0.58-5x10-unstructured"),
    _broken("count mended by a small number", f"{_T}count-{_LONG}"),
    _broken("count of columns in binary floating point", f"{_T}count-0.28-2x25-structured"),
    _broken("count of columns mended by a small number", f"{_T}count-{_LONG_COLUMNS}"),
    _broken("1 - alpha in binary floating point",
            f"{_T}count-0.28-0.3-5x10-structured-outliers",
            f"{_T}count-0.3-0.40000000000000001-4x10-structured-outliers"),
    _broken("outlier rows counted in binary floating point", f"{_T}count-0.28-25x4-nm-outliers",
            f"{_T}count-0.25-0.28-25x4-structured-outliers"),
    _broken("magnitude: counts in binary floating point",
            "magnitude-float64-count-0.58-5x10-unstructured",
            "magnitude-float64-count-0.28-2x25-structured"),
    _broken("Wanda: counts in binary floating point",
            "wanda-float64-count-0.58-2x50-unstructured",
            "wanda-float64-count-0.28-2x25-structured"),
    _broken("SparseGPT: counts in binary floating point",
            "sparsegpt-float64-count-0.58-5x10-unstructured",
            "sparsegpt-float64-count-0.28-2x25-structured"),
)  # fmt: skip
_LEGAL = _broken(
    "decimals with an exponent fail",
    f"{_T}spelled-exponent-unstructured",
    f"{_T}spelled-no-digit-before-unstructured",
    "refusal-legal-decimal-exponent",
)
_UNSTRUCTURED_OUTLIERS = _broken(
    "outlier rows of an unstructured pattern dropped", "refusal-unstructured-outliers"
)
_ORDER = _broken("weight checked before damping", "refusal-first-damping-before-weight")
_UNNAMED = _broken("refusals name nothing", "refusal-weight-nan")

BROKEN: dict[str, tuple[Broken, ...]] = {
    # Section 1
    "damping": (_broken("damping by the sum", f"{_T}13-unstructured"),
                _broken("damping by the largest", f"{_T}17-nm")),
    "damping-mean": (_broken("damping by the mean of live columns", f"{_T}03-unstructured"),),
    "zero-gram": (_broken("no damping for zero inputs", f"{_T}02-unstructured"),),
    # Section 2
    "count-of-weights": (_broken("count rounded up", f"{_T}nothing-unstructured"),
                         _broken("count one too large", f"{_T}13-unstructured")),
    "count-of-groups": (_broken("groups across borders", f"{_T}13-nm"),),
    "count-of-columns": (_broken("count of columns rounded down", f"{_T}03-structured"),
                         _broken("columns counted without outlier rows",
                                 f"{_T}13-structured-outliers")),
    "n-counts-zeros": (_broken("n kept", f"{_T}first-3-nm", f"{_T}large-1of4-nm"),),
    "outlier-rows": (_broken("rows of the smallest outputs spared", f"{_T}13-nm-outliers"),
                     _broken("rows spared by norms", f"{_T}quiet-inputs-nm-outliers")),
    "outlier-row-ties": (_broken("outlier rows: ties to the higher index",
                                 f"{_T}tied-rows-nm-outliers",
                                 f"{_T}tied-rows-structured-outliers"),),
    "outlier-rows-unchanged": (_broken("outlier rows one ulp off", f"{_T}13-nm-outliers"),),
    "all-rows-outliers": (_broken("a row is always pruned", f"{_T}nothing-nm-outliers",
                                  f"{_T}nothing-structured-outliers"),),
    "columns-still-counted": (_broken("columns not counted if all rows are outliers",
                                      "refusal-columns-where-all-rows-are-outliers"),),
    "exact-counts": _BINARY,
    "ties": (_broken("ties to the higher index", f"{_T}06-unstructured", f"{_T}06-nm"),),
    "precision-of-scores": (
        _broken("scores in float32", f"{_T}close-weights-unstructured", f"{_T}close-weights-nm",
                f"{_T}close-weights-structured"),
        _broken("norms in float32", f"{_T}close-norms-unstructured", f"{_T}close-norms-nm"),
        _broken("outputs of rows in float32", f"{_T}close-weights-nm-outliers",
                f"{_T}close-weights-structured-outliers"),
        _broken("magnitude: scores in float32", "magnitude-float64-close-weights-unstructured",
                "magnitude-float64-close-weights-nm", "magnitude-float64-close-weights-structured"),
        _broken("Wanda: scores in float32", "wanda-float64-close-weights-unstructured",
                "wanda-float64-close-norms-nm", "wanda-float64-close-weights-structured"),
        _broken("SparseGPT: scores in float32", "sparsegpt-float64-close-weights-unstructured",
                "sparsegpt-float64-close-norms-nm"),
    ),
    "removed-entries": (_broken("negative zeros", f"{_T}13-unstructured"),
                        _broken("zeros not exact", f"{_T}13-nm"),
                        _broken("NaN for removed", f"{_T}13-unstructured")),
    "nothing-removed": (_broken("rounded although nothing is removed", f"{_T}nothing-nm",
                                f"{_T}nothing-unstructured"),),
    "all-columns": (_broken("all columns fail", f"{_T}12-structured"),),
    "wide-block": (_broken("wide block fails", f"{_T}15-unstructured"),
                   _broken("whole blocks only", f"{_T}15-unstructured")),
    "structured-ignores-b": (_broken("structured in blocks", f"{_T}13-structured"),),
    "block-size-always-checked": (_broken("B not checked for structured patterns",
                                          "refusal-block-size-0-structured"),),
    "legal-decimals": (_LEGAL,),
    "illegal-decimals": (
        _broken("p as Python reads it", "refusal-sparsity-underscore",
                "refusal-sparsity-after-a-space", "refusal-sparsity-not-ascii"),
        _broken("p as C reads it", "refusal-sparsity-hexadecimal"),
        _broken("p with a long exponent accepted", "refusal-sparsity-exponent-of-five-digits"),
    ),
    "digits-of-n-and-m": (_broken("n of ten digits accepted", "refusal-n-of-ten-digits"),),
    "refusals-name": (_UNNAMED,
                      _broken("unpruned instead of refused", "refusal-gram-asymmetric")),
    "order-of-refusals": (_ORDER,),
    "row-1": (_UNSTRUCTURED_OUTLIERS,),
    "row-2": (_broken("m = 0 accepted", "refusal-m-is-0"),),
    "row-3": (_broken("n above m taken for m", "refusal-n-above-m"),),
    "row-4": (_broken("p = 1 accepted", "refusal-sparsity-is-1"),),
    "row-5": (_broken("alpha = 1 accepted", "refusal-alpha-is-1"),),
    "row-6": (_broken("Wanda: outlier rows ignored", "refusal-outlier-rows-wanda",
                      "refusal-outlier-rows-structured-wanda"),),
    "row-8": (_broken("damping 0 taken for the default", "refusal-damping-0"),),
    "row-9": (_broken("vector taken for one row", "refusal-weight-vector"),),
    "row-10": (_broken("integers accepted", "refusal-weight-integers"),),
    "row-11": (_broken("NaN taken for 0", "refusal-weight-nan"),),
    "row-12": (_broken("NaN in gram taken for 0", "refusal-gram-nan"),),
    "row-13": (_broken("larger gram cut", "refusal-gram-too-large"),),
    "row-14": (_broken("negative diagonal taken for 0", "refusal-gram-negative-diagonal",
                       "refusal-gram-negative-diagonal-mended-by-damping"),),
    "row-15": (_broken("dead row that is not empty accepted", "refusal-gram-dead-but-not-empty"),),
    "row-16": (_broken("asymmetry averaged", "refusal-gram-asymmetric-small",
                       "refusal-gram-asymmetric-unit"),
               _broken("asymmetry below the limit fails", f"{_T}asymmetric-unit-unstructured")),
    "row-17": (_broken("B = 0 taken for one block", "refusal-block-size-0"),
               _broken("magnitude: B not checked", "refusal-block-size-0-magnitude")),
    "row-18": (_broken("last group narrower", "refusal-m-does-not-divide-columns"),),
    "row-19": (_broken("group across a block border", "refusal-m-does-not-divide-block"),),
    "row-20": (_broken("p > 1 - alpha accepted", "refusal-more-columns-than-there-are"),),
    "row-21": (_broken("more damping until H is definite", "refusal-gram-indefinite-thanos"),
               _broken("Wanda: indefinite gram accepted", "refusal-gram-indefinite-wanda")),
    # Section 3
    "score": (_broken("mask by magnitude", f"{_T}13-unstructured"),
              _broken("norm not rooted", f"{_T}13-nm"),
              _broken("norms with damping", f"{_T}17-unstructured"),
              _broken("scores with sign", f"{_T}13-nm")),
    "adaptive-mask": (_broken("mask of the original weights", f"{_T}04-unstructured"),),
    "residual-mask": (_broken("mask local to the block", f"{_T}04-unstructured"),
                      _broken("full count in every block", f"{_T}13-unstructured")),
    "groups": (_broken("n:m chosen once from the original weights", f"{_T}04-nm"),),
    "values-of-columns": (
        _broken("columns scored over all rows", f"{_T}13-structured-outliers"),
        _broken("columns scored by unsquared sums", f"{_T}04-structured"),
    ),
    # Section 4
    "joint-update": (_broken("sequential instead of joint", f"{_T}13-unstructured"),
                     _broken("half the step", f"{_T}13-nm"),
                     _broken("stale inverse", f"{_T}13-unstructured")),
    "frozen-columns": (_broken("frozen columns updated", f"{_T}13-unstructured"),
                       _broken("columns before the block not frozen", f"{_T}13-nm")),
    "structured-at-once": (_broken("structured in blocks", f"{_T}13-structured"),),
    # Section 6
    "magnitude": (_broken("magnitude: per row", "magnitude-float64-13-unstructured"),),
    "wanda": (_broken("Wanda: per layer", "wanda-float64-13-unstructured"),),
    "sparsegpt": (_broken("SparseGPT: pivot not squared", "sparsegpt-float64-13-unstructured"),
                  _broken("SparseGPT: shares of blocks",
                          f"sparsegpt-float64-count-{_LONG}", "sparsegpt-float64-03-structured")),
    "baselines-zero": (_broken("Wanda: kept weights rescaled", "wanda-float64-13-unstructured"),),
    "sparsegpt-scores": (_broken("SparseGPT: n:m chosen at the block's start",
                                 "sparsegpt-float64-13-nm"),),
    "baselines-refuse": (_broken("Wanda: outlier rows ignored", "refusal-outlier-rows-wanda"),),
    # docs/vectors.md
    "message": (_UNNAMED,),
    "storage": (_broken("storage cut off", "thanos-float16-13-unstructured"),),
    "pattern-text": (_LEGAL, *_BINARY[:2]),
    "counts-in-doubles": _BINARY,
    "symmetrised": (_broken("upper triangle of G only", f"{_T}asymmetric-unit-unstructured"),
                    _broken("asymmetry below the limit fails",
                            f"{_T}asymmetric-large-unstructured")),
    "first-offence": (_ORDER,),
    "no-outliers-of-unstructured": (_UNSTRUCTURED_OUTLIERS,),
    "output-weight": (_broken("weight transposed", f"{_T}13-unstructured"),
                      _broken("always float32", f"{_T}13-unstructured"),
                      _broken("always float64", "thanos-float32-13-unstructured")),
    "output-mask": (_broken("mask inverted", f"{_T}13-unstructured"),
                    _broken("mask transposed", f"{_T}13-nm")),
    "even-units": (_broken("G in odd units", f"{_T}units-1-nm", f"{_T}units-12-nm"),),
    "equal-columns": (_broken("equal columns differ in the last bits", f"{_T}06-nm"),),
    "input-unchanged": (_broken("weight overwritten", f"{_T}13-unstructured"),
                        _broken("gram overwritten", f"{_T}13-unstructured")),
}  # fmt: skip

THEOREM = "a theorem, which follows from sections 1 to 4: tests/properties"
NO_FILE = "switches and refits do not occur in files: tests/reference"
FORMAT = "of the files, which tests/judge/test_vectors.py checks"
MAKER = "binds who makes vectors: tests/judge/test_vectors.py"
JUDGE = "binds the judge: tests/judge"
PROGRAM = "binds programs: tests/judge/test_ways_in.py"
SERVER = "binds programs that serve: tests/judge/test_serving.py"
RULED = "what it says is marked elsewhere"
TIERS = "chooses cases for a tier: tests/judge/test_tiers.py"
RELEASE = "binds the release: tests/judge/test_release.py"
ADVICE = "advice; the rule is in the specification"

# Sentences with one of the words that fix no rule for an implementation: how they begin, and why.
FIX_NOTHING: dict[str, str] = {
    "Test vectors have only ties that are exact": MAKER,
    "**Refusals.**": RULED,
    "| | refused if | argument |": RULED,
    "$$\\hat W_{iJ} \\leftarrow": RULED,
    "Statements T1 to T13 hold in exact arithmetic": THEOREM,
    "The masks have exactly the counts": THEOREM,
    "Given the mask, exactly one": THEOREM,
    "- **T4**": THEOREM,
    "Permuting rows permutes": THEOREM,
    "- **T10**": THEOREM,
    "- **T13**": THEOREM,
    "If each mask is the one that": THEOREM,
    "Each block of $P$ may be": THEOREM,
    "It refuses what rows 8 to 16": NO_FILE,
    "The baselines have no switches": NO_FILE,
    "Ties of outlier rows go to the lower row index under both": NO_FILE,
    "| `expected/ID.safetensors`": FORMAT,
    '| `expected` | `"weights"`': FORMAT,
    "| `condition` | an upper bound": FORMAT,
    "| `core` | 132": TIERS,
    "- [the baselines](specification.md": TIERS,
    "The version, and nothing else": RELEASE,
    "| `values` | refusals": FORMAT,
    "Inputs that must be refused may hold": FORMAT,
    "`weight` always as `F64`": FORMAT,
    "## What is refused": RULED,
    "Refusals are judged if `refusals` is declared": JUDGE,
    "The cases `refusal-first-...`": MAKER,
    "The cases `refusal-legal-decimal-...`": MAKER,
    "- Exit status 2": PROGRAM,
    "A malformed file (no": PROGRAM,
    "| `refusals` | `true`": JUDGE,
    "What is not declared is counted": JUDGE,
    "A QR factorisation of": ADVICE,
    "Dividing by a power of two is exact": ADVICE,
    "**Ties are exact.**": RULED,
    "All inputs are dyadic rationals": MAKER,
    "The answers are computed in exact": MAKER,
    "Ties are used only where": MAKER,
    "[the certificate](certificate.md) of the output passes": JUDGE,
    "A case that is not decidable": JUDGE,
    '| `status` | `"done"`': SERVER,
    '| `message` | text. For `"refused"`': SERVER,
    "- One request comes at a time, and each has": SERVER,
    "The program must give the same answer to a case whatever": SERVER,
}
