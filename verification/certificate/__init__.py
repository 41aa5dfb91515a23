"""The certificate: a proof from the result alone that a layer is what Thanos promises. Spec T13."""

import time
from contextlib import nullcontext
from typing import Any

import reference.patterns  # noqa: F401 - before NumPy: reference/threads.py

# isort: split
import numpy as np
from numpy.typing import ArrayLike

from reference.patterns import Ablation, Pattern
from verification.certificate.case import (
    ScaledCase,
    in_units,
    losses_of,
    make_case,
    mask_of,
    matrix,
    same_bits,
    unmoved,
)
from verification.certificate.judging import judge
from verification.certificate.libraries import Library, library_of
from verification.certificate.refit import Refit
from verification.certificate.report import (
    FAILED,
    NOT_DECIDABLE,
    PASSED,
    Certificate,
    Check,
    failed,
)
from verification.certificate.rules import make_rules
from verification.certificate.storage import not_of_type
from verification.thresholds import UNIT_ROUNDOFF

__all__ = ["FAILED", "NOT_DECIDABLE", "PASSED", "Certificate", "Check", "certify", "failed"]


def certify(
    weight: ArrayLike,
    gram: ArrayLike,
    pruned_weight: ArrayLike,
    pattern: Pattern,
    *,
    method: str = "thanos",
    block_size: int = 128,
    damping: float = 0.01,
    mask: ArrayLike | None = None,
    arithmetic: str = "float64",
    storage: str | None = None,
    block_losses: ArrayLike | None = None,
    refitted_weight: ArrayLike | None = None,
    adaptive: bool = True,
    residual: str = "global",
    update: str = "joint",
    metric: str = "wanda",
    outlier_score: str = "output",
) -> Certificate:
    """Judge one pruned layer in float64, trusting nothing but its input. docs/certificate.md.

    weight           (c, b), W
    gram             (b, b), G = X Xᵀ
    pruned_weight    (c, b), the Ŵ to judge
    pattern, method, block_size, damping    what was asked for
    mask             (c, b), True where a weight was removed; inferred from the zeros if None
    arithmetic       "float64" or "float32", what the implementation computed in
    storage          a narrower type that the result was rounded to: "float16", "bfloat16",
                     "float32"; the result is the refitted weight if there is one, else Ŵ
    block_losses     the reported ‖E_k‖², checked if given
    refitted_weight  (c, b), a refit of Ŵ, checked against it if given
    adaptive, residual, update, metric, outlier_score    the ablation switches of `thanos`

    Matrices are NumPy arrays, or arrays of PyTorch, JAX or CuPy, of float16, bfloat16, float32 or
    float64. If `weight` is on a device other than the CPU, everything is judged there, in float64:
    docs/gpu.md.

    Returns a Certificate: passed, failed or not decidable. Whatever is wrong with Ŵ or the mask
    makes it fail. Raises ValueError for what is no layer, and for options that do not exist.
    """
    started = time.perf_counter()
    ablation = Ablation(adaptive, residual, update, metric, outlier_score)
    home = library_of(weight)
    with home.in_double() if home else nullcontext():
        case = make_case(
            weight,
            gram,
            pruned_weight,
            damping,
            arithmetic,
            storage if refitted_weight is None else None,  # else the refit is what was stored
            home,
        )
        shape = case.W.shape
        rules = make_rules(method, pattern, shape, block_size, ablation)
        given = None if mask is None else mask_of(mask, shape, home)
        losses = None if block_losses is None else losses_of(block_losses)
        refit = _refit(case, pruned_weight, refitted_weight, storage, home)
        with np.errstate(over="ignore", invalid="ignore"):  # of a Ŵ that is far off: it fails
            checks = judge(case, rules, given, losses, refit)
    seconds = time.perf_counter() - started
    return Certificate(method, str(pattern), tuple(checks), seconds)


def _refit(
    case: ScaledCase,
    pruned_weight: Any,
    refitted_weight: Any,
    storage: str | None,
    home: Library | None,
) -> Refit | None:
    """The refitted weight in units of the case; ValueError if it is no weight of this layer."""
    if refitted_weight is None:
        return None
    weight = matrix("refitted_weight", refitted_weight, case.W.shape, finite=False, home=home)
    before = matrix("pruned_weight", pruned_weight, finite=False, home=home)
    narrower = storage if storage and UNIT_ROUNDOFF[storage] > case.u else None
    return Refit(
        weight=in_units(weight, case.row_exponents),
        zeros=same_bits(weight, 0.0),
        unchanged=unmoved(before, weight, narrower),
        storage=narrower,
        strangers=not_of_type(weight, narrower) if narrower else 0,
    )
