"""All thresholds of the judge. docs/tolerances.md.

Each is a ratio, an error over its bound, that right code keeps below 1.
`python -m verification.tolerances` measures how close our own implementations come to each.
"""

from dataclasses import dataclass

# Unit roundoffs, smallest subnormal and largest numbers of the types in which weights are stored.
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
SMALLEST = {
    "float64": 2.0**-1074,
    "float32": 2.0**-149,
    "bfloat16": 2.0**-133,
    "float16": 2.0**-24,
}
LARGEST = {
    "float64": (2 - 2.0**-52) * 2.0**1023,
    "float32": (2 - 2.0**-23) * 2.0**127,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
    "float16": 65504.0,
}

# A sum of products of n numbers is off by at most n u times the sum of the products' sizes, and
# by about sqrt(n) u in practice. Blocks of up to a few hundred columns stay below this many u.
ROUNDINGS = 8
# (7) of float32 code beyond the floor: what right code was found to need.
COSINE_FLOAT32 = 3e-5

# T13. The distance of a row from the exact replay, as a share of the row's loss there. With this
# share, the loss is within (1 + 1e-4)², 0.02 %.
REPLAY_EXCESS = 1e-8
# At this damping and below, float32 code has an additional error, u² tr(H) / λ.
SMALL_DAMPING = 1e-5
# The largest loss of a passed result, or of a mask within its margins, over the exact one: + 5 %.
LARGEST_LOSS = 1.05
# The share of λ that the least eigenvalue of H must keep if G is slightly indefinite, at least and
# at most: H less this share has to be positive definite.
EIGENVALUE_SHARES = (0.5, 0.95)
# If weights of the exact run exceed this, in units of their row's largest, the run diverges.
LARGEST_REPLAY = 2.0**60
# The judge's own rounding, in units of b u tr(H) / λ_min: of the factorisation, of the inverse, of
# the updates, and of losses.
OWN_ROUNDINGS = 4
# Limits beyond which squares in units of a row would underflow to 0: the smallest weight relative
# to the largest of its row, and the powers of two between competing rows.
SMALLEST_WEIGHT = 2.0**-400
FARTHEST_ROWS = 700


@dataclass(frozen=True)
class Threshold:
    """One bound: a check passes if its ratio is at most `value`.

    name   of the ratio, as in certificates and docs/tolerances.md, which has formula and reason
    check  the check that fails above it
    """

    name: str
    check: str
    value: float = 1.0


REFIT = Threshold("refit", "refit")
VECTOR_WEIGHTS = Threshold("vector weights", "vector weights")
THRESHOLDS = (
    Threshold("gradient", "updates"),
    Threshold("margin", "masks"),
    Threshold("outlier margin", "outliers"),
    Threshold("losses", "losses"),
    REFIT,
    VECTOR_WEIGHTS,
)


def factor_error(condition: float) -> float:
    """The relative error of weights and gradients from the factorisation of H in float64."""
    return ROUNDINGS * UNIT_ROUNDOFF["float64"] * condition


def cosine_threshold(u: float, condition: float) -> float:
    """The bound of (7) beyond the floor, for arithmetic of unit roundoff u and κ(H)."""
    single = u > UNIT_ROUNDOFF["float64"]
    return max(COSINE_FLOAT32, factor_error(condition)) if single else factor_error(condition)
