"""The certificate: a proof from the result alone that a layer is what Thanos promises. Spec 5."""

import numpy as np
from numpy.typing import ArrayLike

from reference.patterns import Ablation, Pattern
from verification.certificate.case import Case, make_case, times_power_of_two
from verification.certificate.masks import check_masks
from verification.certificate.refitted import check_refit
from verification.certificate.report import Certificate, Check
from verification.certificate.rules import make_rules
from verification.certificate.support import kept, outlier_rows, zeros
from verification.certificate.updates import check_losses, check_updates

__all__ = ["Certificate", "Check", "certify"]


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
    """Judge one pruned layer in float64, trusting nothing but its input. Spec section 5.

    weight           (c, b), W
    gram             (b, b), G = X Xᵀ
    pruned_weight    (c, b), the Ŵ to judge
    pattern, method, block_size, damping    what was asked for
    mask             (c, b), True where a weight was removed; inferred from the zeros if None
    arithmetic       "float64" or "float32", what the implementation computed in
    storage          a narrower type that Ŵ was rounded to: "float16", "bfloat16", "float32"
    block_losses     the reported ‖E_k‖², checked if given
    refitted_weight  (c, b), a refit of Ŵ, checked against it if given
    adaptive, residual, update, metric, outlier_score    the ablation switches of `thanos`

    Returns a Certificate; whatever is wrong with Ŵ or the mask makes it fail. Raises ValueError
    for what is no layer, and for options that do not exist.
    """
    case = make_case(weight, gram, pruned_weight, damping, arithmetic, storage)
    ablation = Ablation(adaptive, residual, update, metric, outlier_score)
    rules = make_rules(method, pattern, case.W.shape, block_size, ablation)
    given = None if mask is None else np.array(mask, dtype=bool)
    if given is not None and given.shape != case.W.shape:
        raise ValueError(f"mask must have the shape {case.W.shape}, got {given.shape}")
    finite = Check("finite", "section 2", int((~np.isfinite(case.pruned)).sum()), 0)
    if not finite.passed:
        return Certificate(method, str(pattern), (finite,))

    outliers, checks = outlier_rows(case, rules)
    removed, mask_checks = check_masks(case, rules, outliers, given)
    checks = [finite, *checks, *mask_checks, zeros(case, removed)]
    checks += check_updates(case, rules, removed) if rules.moves else [kept(case, removed)]
    if block_losses is not None:
        checks.append(check_losses(case, rules, block_losses))
    if refitted_weight is not None:
        checks += check_refit(case, removed, _in_units_of(case, refitted_weight))
    return Certificate(method, str(pattern), tuple(checks))


def _in_units_of(case: Case, refitted_weight: ArrayLike) -> np.ndarray:
    """Another weight of the layer, scaled like the case's; ValueError if it has another shape."""
    refitted = np.asarray(refitted_weight, dtype=np.float64)
    if refitted.shape != case.W.shape:
        raise ValueError(
            f"refitted_weight must have the shape {case.W.shape}, got {refitted.shape}"
        )
    return times_power_of_two(refitted, -case.weight_exponent)
