"""Every threshold of the judge: one table, one owner for every number. docs/tolerances.md.

All are stated as ratios that right code keeps below 1: an error over the bound that it may reach.
`python -m verification.tolerances` measures how close our own implementations come to each.
"""

from dataclasses import dataclass

# Unit roundoffs, and the smallest subnormal numbers of the types that weights are stored in.
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
SMALLEST = {"float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24}

# A sum of products of n numbers is off by at most n u times the sum of the products' sizes, and
# by about sqrt(n) u in practice. Blocks of up to a few hundred columns stay below this many u.
ROUNDINGS = 8
# (7) of float32 code beyond the floor: what spec section 5 found right code to need.
COSINE_FLOAT32 = 3e-5


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
    r"$\delta_{ij}$ of section 5 and "
    r"$8u_{64}\sqrt{\kappa_1(H)}\,\max_j|W_{ij}|\,\lVert X_j\rVert$ together",
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
    r"$|\ell_k - \lVert E_k\rVert^2|$ over $\sum(2|E|a + a^2) + 8u\lVert |D||M|^{\mathsf T}\rVert^2"
    r" + 8u_{64}\,\kappa_1(H)\lVert E_k\rVert^2$, $a = (8u + u_s)(|W| + |\hat W|)|M|^{\mathsf T}$",
    "losses are squares of E, with its rounding and that of the factorisation",
)
REFIT = Threshold(
    "refit",
    "refit",
    r"what $f$ is higher after the refit than before it, over "
    r"$2\sqrt{\sum E^2a^2} + \sum a^2$",
    "a refit never raises f (T10), and f is known up to the rounding of E",
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
    """The relative error that the factorisation of H in float64 makes in weights and gradients."""
    return ROUNDINGS * UNIT_ROUNDOFF["float64"] * condition


def cosine_threshold(u: float, condition: float) -> float:
    """What (7) may be after the floor, for arithmetic of unit roundoff u and κ(H)."""
    single = u > UNIT_ROUNDOFF["float64"]
    return max(COSINE_FLOAT32, factor_error(condition)) if single else factor_error(condition)
