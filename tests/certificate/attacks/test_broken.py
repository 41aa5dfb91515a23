"""The certificate broken in each of the old ways once: the attack of that name then fails.

Each break is one that the certificate once had, or one check that a refactoring might lose.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.certificate.attacks import play
from tests.certificate.attacks.outcome import Outcome
from verification.certificate import case, judging, storage, updates
from verification.certificate.report import Check
from verification.thresholds import UNIT_ROUNDOFF

Patch = pytest.MonkeyPatch
ROUNDS = 60


def without(*names: str) -> Callable[[Patch], None]:
    """A certificate that does not look at these checks."""

    def patch(monkeypatch: Patch) -> None:
        judge: Any = judging.judge

        def blind(*arguments: Any) -> list[Check]:
            found = judge(*arguments)
            return [replace(each, threshold=None) if each.name in names else each for each in found]

        monkeypatch.setattr("verification.certificate.judge", blind)

    return patch


def floors_from_the_result(monkeypatch: Patch) -> None:
    """Rounding floors grow with |Ŵ| and u_s, so that what is far off excuses itself."""
    replayed: Any = judging._replayed

    def lenient(given: case.ScaledCase, replay: Any, *others: Any) -> list[Check]:
        distance = (given.pruned - replay.T) @ given.M.T
        u = 8 * given.u + (2.0**-8 if given.storage else 0.0)
        allowed = u**2 * np.sum(given.pruned**2 * given.H_diagonal, axis=1)
        ratio = float(updates.over(np.sum(distance**2, axis=1), allowed).max())
        checks = replayed(given, replay, *others)
        return [replace(c, value=ratio) if c.name == "replay" else c for c in checks]

    monkeypatch.setattr(judging, "_replayed", lenient)
    monkeypatch.setattr(judging, "before_rounding", lambda pruned, T, *others: T)


def infinite_floors(monkeypatch: Patch) -> None:
    """Floors from |Ŵ| that overflow, and 0 for what is over infinity."""

    def over(error: Any, bound: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.nan_to_num(error / np.where(np.isfinite(error), bound, np.inf), posinf=1e300)

    monkeypatch.setattr(judging, "over", over)
    monkeypatch.setattr(updates, "over", over)
    without("updates")(monkeypatch)


def maxima_forget_nan(monkeypatch: Patch) -> None:
    """0 for NaN, as in `if not cosine <= worst: worst = cosine`."""

    def over(error: Any, bound: Any) -> Any:
        ratio = np.divide(error, bound, out=np.zeros_like(error), where=(error != 0) | (bound != 0))
        return np.where(np.isnan(ratio), 0.0, ratio)

    monkeypatch.setattr(judging, "over", over)
    monkeypatch.setattr(updates, "over", over)


def always_clipped(monkeypatch: Patch) -> None:
    """P is clipped to bfloat16's intervals, whatever storage was asked for."""
    before: Any = storage.before_rounding

    def clipped(pruned: Any, T: Any, kind: str, exponents: Any, narrower: bool) -> Any:
        return before(pruned, T, "bfloat16", exponents, True)

    monkeypatch.setattr(judging, "before_rounding", clipped)


def interval_of_whole_steps(monkeypatch: Patch) -> None:
    """A whole step of the storage type to either side instead of half of one."""
    interval: Any = storage.rounding_interval

    def wide(sizes: Any, kind: str, last: Any) -> Any:
        inner, outer = interval(sizes, kind, last)
        return 4 * inner - 3 * sizes, 4 * outer - 3 * sizes

    monkeypatch.setattr(storage, "rounding_interval", wide)


def subnormals_exact(monkeypatch: Patch) -> None:
    """Every number below 1e-20 is taken for subnormal, and for what rounds to anything."""

    def tiny(pruned: Any, T: Any, kind: str, exponents: Any, narrower: bool) -> Any:
        return np.where(exponents[:, None] < -20, T, pruned)

    monkeypatch.setattr(judging, "before_rounding", tiny)


def uncapped_excess(monkeypatch: Patch) -> None:
    """ε of a tiny γ without a limit, and no look at the judge's own rounding."""

    def standard(given: case.ScaledCase) -> judging.Standard:
        given.factorise()
        return judging.Standard(1e-8 + given.u**2 * given.trace_over_damping * 1e9, 1.0)

    monkeypatch.setattr(judging, "_standard", standard)
    without("updates", "own error", "decidable")(monkeypatch)


def unseen_eigenvalues(monkeypatch: Patch) -> None:
    """Losses compared in the norm of the diagonal of H, which sees no direction."""

    def standard(given: case.ScaledCase) -> judging.Standard:
        return judging.Standard(1e2, 0.0)

    monkeypatch.setattr(judging, "_standard", standard)
    without("updates", "own error")(monkeypatch)


def any_float(monkeypatch: Patch) -> None:
    """Wider types are converted to float64, in which their tiny numbers are 0."""
    for wider in ("longdouble", "float128"):
        monkeypatch.setitem(UNIT_ROUNDOFF, wider, 2.0**-64)


def largest_row_counts(monkeypatch: Patch) -> None:
    """One ratio for all rows, in units of the largest: small rows vanish."""
    right: Any = updates.over

    def last(error: Any, bound: Any) -> Any:
        ratio = right(error, bound)
        return np.full_like(ratio, ratio[-1]) if ratio.ndim else ratio

    monkeypatch.setattr(judging, "over", last)
    without("updates")(monkeypatch)


BROKEN: list[tuple[str, Callable[[Patch], None]]] = [
    ("overflow", infinite_floors),
    ("NaN", maxima_forget_nan),
    ("denormals", subnormals_exact),
    ("blind directions", floors_from_the_result),
    ("growing pushes", without("replay", "updates")),
    ("scales", largest_row_counts),
    ("types", always_clipped),
    ("tiny damping", uncapped_excess),
    ("indefinite", unseen_eigenvalues),
    ("narrow blocks", without("replay", "updates")),
    ("margins", without("choices")),
    ("roundings", interval_of_whole_steps),
    ("refits", without("replay", "updates")),
    ("refits", without("refit")),
    ("refits", without("support")),
    ("block losses", without("losses")),
    ("inputs", any_float),
    ("inputs", without("zeros")),
]


@pytest.mark.parametrize(("name", "break_it"), BROKEN)
def test_the_attack_of_that_name_fails(
    name: str, break_it: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    break_it(monkeypatch)
    outcome = Outcome(name)
    for seed in range(ROUNDS):
        play(name, outcome, seed)
        if not outcome.sound:
            return
    pytest.fail(f"{outcome} accepts nothing above its bounds")
