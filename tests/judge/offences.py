"""Which rows of the table of spec section 2 describe an input, each row on its own.

It shares no code with `reference`: it judges the refusals among the vectors. A row applies only if
what it speaks of exists: a text that is no pattern has no n, and only a matrix has columns.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]

# The argument that the error names, by row. Row 7 is about switches, which files do not have.
ARGUMENTS = {
    1: "pattern", 2: "m", 3: "n", 4: "sparsity", 5: "outlier_rows", 6: "outlier_rows",
    8: "damping", 9: "weight", 10: "weight", 11: "weight",
    12: "gram", 13: "gram", 14: "gram", 15: "gram", 16: "gram",
    17: "block_size", 18: "m", 19: "block_size", 20: "sparsity", 21: "gram",
}  # fmt: skip

_FORM = re.compile(
    r"(?P<n>[0-9]{1,9}):(?P<m>[0-9]{1,9})(\+outliers:(?P<a>[^:]+))?"
    r"|structured:(?P<s>[^:]+?)(\+outliers:(?P<b>[^:]+))?|unstructured:(?P<u>[^:]+)"
)
_DECIMAL = re.compile(r"([+-]?)([0-9]*)(\.?)([0-9]*)([eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True)
class Call:
    """An input: the method, the text of the pattern, W, G, B and γ."""

    method: str
    pattern: str
    weight: Matrix
    gram: Matrix
    block_size: float
    damping: float


def offences(call: Call) -> list[int]:
    """The rows that apply."""
    return sorted({*_of_pattern(call), *_of_matrices(call), *_of_sizes(call), *_of_hessian(call)})


def _share(text: str | None) -> Fraction | None:
    """The share that a text means; None if it is no decimal in [0, 1). No text means 0."""
    found = _DECIMAL.fullmatch(text or "0")
    if not found or not (found[2] or found[4]):
        return None
    digits, places = int(found[2] + found[4]), len(found[4]) - int((found[5] or "e0")[1:])
    share = Fraction(digits) / 10**places if places >= 0 else Fraction(digits * 10**-places)
    share = -share if found[1] == "-" else share
    return share if 0 <= share < 1 else None


def _of_pattern(call: Call) -> list[int]:
    form = _FORM.fullmatch(call.pattern)
    if not form:
        return [1]
    n, m, share, alpha = form["n"], form["m"], form["u"] or form["s"], form["a"] or form["b"]
    illegal, positive = _share(alpha) is None, bool(re.match(r"[+.0-9]*[1-9]", alpha or "0"))
    return [
        *([2] if m and int(m) < 1 else []),
        *([3] if m and int(n) > int(m) else []),
        *([4] if share and _share(share) is None else []),
        *([5] if illegal else []),
        *([6] if call.method != "thanos" and positive else []),
    ]


def _is_matrix(matrix: Matrix) -> bool:
    return matrix.ndim == 2 and matrix.size > 0


def _of_matrix(matrix: Matrix) -> list[str]:
    floating = matrix.dtype.kind == "f"
    return [
        *([] if _is_matrix(matrix) else ["shape"]),
        *([] if floating else ["type"]),
        *(["entry"] if floating and not np.isfinite(matrix).all() else []),
    ]


def _of_matrices(call: Call) -> list[int]:
    rows = {"shape": 9, "type": 10, "entry": 11}
    found = [rows[fault] for fault in _of_matrix(call.weight)]
    found += [12] if _of_matrix(call.gram) else []
    if not (call.damping > 0 and isfinite(call.damping)):
        found.append(8)
    b = call.weight.shape[1] if _is_matrix(call.weight) else None
    if b and _is_matrix(call.gram) and call.gram.shape != (b, b):
        found.append(13)
    return [*found, *(_of_gram(call.gram) if _is_square(call.gram) else [])]


def _is_square(gram: Matrix) -> bool:
    return not _of_matrix(gram) and gram.shape[0] == gram.shape[1]


def _of_gram(G: Matrix) -> list[int]:
    diagonal = np.diag(G)
    allowed = 1e-5 * np.sqrt(np.outer(diagonal, diagonal).clip(0))
    empty = diagonal == 0
    return [
        *([14] if (diagonal < 0).any() else []),
        *([15] if G[empty].any() else []),
        *([16] if (np.abs(G - G.T) > allowed).any() else []),
    ]


def _of_sizes(call: Call) -> list[int]:
    B, form = call.block_size, _FORM.fullmatch(call.pattern)
    legal = int(B) == B and B >= 1
    found = [] if legal else [17]
    if not form or not _is_matrix(call.weight):
        return found
    b = call.weight.shape[1]
    if form["m"] and int(form["m"]) >= 1:
        found += [18] if b % int(form["m"]) else []
        found += [19] if legal and b > B and B % int(form["m"]) else []
    p, alpha = _share(form["s"]), _share(form["b"])
    if form["s"] and p is not None and alpha is not None and ceil(p * b / (1 - alpha)) > b:
        found.append(20)
    return found


def _of_hessian(call: Call) -> list[int]:
    """Row 21; whatever γ is wrong for row 8 makes no H."""
    if not _is_square(call.gram) or not (call.damping > 0 and isfinite(call.damping)):
        return []
    G = (call.gram + call.gram.T) / 2
    added = call.damping * np.diag(G).mean() if G.any() else 1.0
    return [21] if np.linalg.eigvalsh(G + added * np.eye(len(G)))[0] <= 0 else []
