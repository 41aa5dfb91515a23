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

    name     of the ratio, as certificates and docs/tolerances.md report it
    check    the check that fails above it
    formula  the error, over what it may be
    reason   why right code stays below
    """

    name: str
    check: str
    formula: str
    reason: str
    value: float = 1.0


GRADIENT = Threshold(
    "gradient",
    "updates",
    r"$|G_{k,ij}|$ over $\tau_{ij} + T\,\lVert E_{i,\le k}\rVert\,\lVert (M_{kk})_j\rVert$, "
    r"$T = \max(T_u, 8\,u_{64}\,\kappa_1(H))$, $T_u$ = 3e-5 in float32 and 0 in float64",
    "right code makes G 0 but for the rounding of E (the floor tau) and of the factorisation of H",
)
MARGIN = Threshold(
    "margin",
    "masks",
    r"$|S_{ij} - t|$ of a choice on the wrong side of the threshold $t$, over $\delta_{ij}$ "
    r"and that of $t$ together",
    "moved weights carry their rounding into the scores, and that of the factorisation of H: "
    r"both are in $\delta_{ij}$",
)
OUTLIERS = Threshold(
    "outlier margin",
    "outliers",
    r"$|h_i - h_l|$ of an outlier row $i$ below a row $l$ that is none, over the sum of both "
    r"$8u\,(|W|\,|G|\,|W|^{\mathsf T})$",
    "h is a sum of products: n u of their sizes at most",
)
LOSSES = Threshold(
    "losses",
    "losses",
    r"$|\ell_k - \lVert E_k\rVert^2|$ over $\sum(2|E_k|a + a^2) + "
    r"8u\lVert |T - W||M|^{\mathsf T}\rVert^2 + 8u_{64}\,\kappa_1(H)\lVert E_k\rVert^2$, "
    r"$a = (8u + u_s)(|W| + |T|)|M|^{\mathsf T}$; infinite if $\ell_k < 0$",
    "losses are squares of E, with its rounding and that of the factorisation",
)
REFIT = Threshold(
    "refit",
    "refit",
    r"what $\sqrt{f_i}$ of a row is higher after the refit than before it, over "
    r"$\sqrt{((8u)^2 + u_s^2)N_i}$",
    "a refit never raises f, in any row (T10); rounding errors of entries add up in quadrature",
)
VECTOR_WEIGHTS = Threshold(
    "vector weights",
    "vector weights",
    r"$|\hat W_{ij} - \hat W^*_{ij}|$ over $u\,\kappa\max(\max_j|W_{ij}|, |\hat W^*_{ij}|) "
    r"+ u_s|\hat W^*_{ij}|$ + half the smallest subnormal of the storage",
    "the condition number turns a relative error of u in H into one of u kappa in the weights",
)
THRESHOLDS = (GRADIENT, MARGIN, OUTLIERS, LOSSES, REFIT, VECTOR_WEIGHTS)


def factor_error(condition: float) -> float:
    """The relative error of weights and gradients from the factorisation of H in float64."""
    return ROUNDINGS * UNIT_ROUNDOFF["float64"] * condition


def cosine_threshold(u: float, condition: float) -> float:
    """The bound of (7) beyond the floor, for arithmetic of unit roundoff u and κ(H)."""
    single = u > UNIT_ROUNDOFF["float64"]
    return max(COSINE_FLOAT32, factor_error(condition)) if single else factor_error(condition)
