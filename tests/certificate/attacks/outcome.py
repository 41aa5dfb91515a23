"""What an attack got accepted, and the bounds of T13 that it must not exceed."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from reference import Pruned
from tests.certificate.attacks.exact import Long, energies, losses, replay, unrounded
from tests.certificate.attacks.layers import Array, Layer, Mask, rounded
from verification import certify
from verification.certificate import FAILED, NOT_DECIDABLE, PASSED

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
LARGEST_CHOICE = 1.05  # of f(T*)
RATIOS = ("exact", "stored", "choices", "over_exact", "over_choices")  # fields of Outcome
FAR_OFF = 10.0  # a candidate this many times above the bound is an attack worth the name


def excess(layer: Layer) -> float:
    """ε of T13."""
    if layer.damping >= 1e-5:
        return 1e-8
    H = np.diag(layer.gram).sum() * (1 + layer.damping)
    lam = layer.damping * np.diag(layer.gram).mean()
    return 1e-8 + ROUNDOFF[layer.arithmetic] ** 2 * float(H / lam)


@dataclass
class Outcome:
    """What one attack tried and got. Ratios are of losses; those over a bound must be 1 or less.

    tries, accepted, undecided  candidates, and how many passed or stayed open
    far_off        candidates far above the bounds; none of them was accepted
    exact, stored  the worst accepted f(P)/f(T) and f(Ŵ)/f(T), over all rows of a layer
    choices        the worst accepted f(P)/f(T*)
    over_exact, over_choices  √f(P) over what T13 and the 1.05 allow, floors included
    unsolved       rounds that ended because there is no right result to compare with
    right, right_refused, right_undecided  right results, and how many did not pass
    worst          where `over_exact` and `over_choices` were worst
    """

    name: str
    seed: int = 0
    tries: int = 0
    accepted: int = 0
    undecided: int = 0
    far_off: int = 0
    exact: float = 1.0
    stored: float = 1.0
    choices: float = 1.0
    over_exact: float = 0.0
    over_choices: float = 0.0
    unsolved: int = 0
    right: int = 0
    right_refused: int = 0
    right_undecided: int = 0
    worst: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def raise_to(self, name: str, value: float, what: str = "") -> None:
        """Keep the larger of a ratio so far and `value`; NaN is the largest."""
        if not value <= getattr(self, name):
            setattr(self, name, value)
            self.worst[name] = {"seed": self.seed, "value": value, "what": what}

    def count(self, verdict: str, far_off: bool, what: str, **ratios: float) -> None:
        """Count a judged candidate; the ratios of an accepted one are kept if they are worse."""
        self.tries += 1
        self.undecided += verdict == NOT_DECIDABLE
        if verdict != PASSED:
            self.far_off += far_off
            return
        self.accepted += 1
        for name, value in ratios.items():
            self.raise_to(name, value, what)

    @property
    def sound(self) -> bool:
        """Whether nothing accepted is above its bound; NaN is."""
        return self.over_exact <= 1 and self.over_choices <= 1


class Court:
    """One layer, judged by the certificate, whose verdicts are held against the exact run."""

    def __init__(self, layer: Layer, outcome: Outcome) -> None:
        self.layer, self.outcome = layer, outcome
        self._replays: dict[bytes, Long] = {}

    @cached_property
    def right(self) -> Pruned:
        """The right result, rounded as stored. Raises ValueError if the reference refuses H."""
        return self.layer.right()

    def T(self, mask: Mask) -> Long:
        """The exact run with this mask."""
        key = mask.tobytes()
        if key not in self._replays:
            self._replays[key] = replay(self.layer, mask)
        return self._replays[key]

    def verdict(self, weight: Any, mask: Any, **others: Any) -> str:
        """What the certificate says; a refusal to judge counts as failed."""
        options: dict[str, Any] = {
            "method": self.layer.method,
            "arithmetic": self.layer.arithmetic,
            "storage": self.layer.storage,
            **self.layer.options,
            **others,
        }
        W, G, pattern = self.layer.weight, self.layer.gram, self.layer.pattern
        try:
            return certify(W, G, weight, pattern, mask=mask, **options).verdict
        except ValueError:
            return FAILED

    def acquit(self, undecidable: bool = False, **others: Any) -> bool:
        """Whether the right result passes, as it must; it may stay open if it is `undecidable`."""
        if not np.isfinite(self.right.weight).all():  # the storage type has no room for it
            self.outcome.unsolved += 1
            return False
        found = self.verdict(self.right.weight, self.right.mask, **others)
        self.outcome.right += 1
        self.outcome.right_undecided += found == NOT_DECIDABLE
        if found == FAILED or (found == NOT_DECIDABLE and not undecidable):
            self.outcome.right_refused += 1
            self.outcome.notes.append(f"seed {self.outcome.seed}: right result {found}")
        return found == PASSED

    def accuse(
        self, weight: Array, mask: Mask | None, what: str, given: Any = None, **others: Any
    ) -> bool:
        """Whether a candidate passes; if so, its losses are measured.

        mask   None to let the certificate infer that of the right result
        given  what the certificate gets, if that is not `weight` itself
        """
        others = {"mask": mask, **others}
        found = self.verdict(weight if given is None else given, **others)
        mask = self.right.mask if mask is None else mask
        ratios = measured(self, weight, mask)
        far_off = max(ratios["over_exact"], ratios["over_choices"]) > math.sqrt(FAR_OFF)
        self.outcome.count(found, far_off, what, **ratios)
        return found == PASSED

    def largest(self, direction: Array, start: Array, mask: Mask, what: str) -> float:
        """The largest push along `direction` that passes, by bisection of its exponent."""
        low, high = -80.0, 80.0
        for _ in range(14):
            middle = (low + high) / 2
            pushed = rounded(start + 2.0**middle * direction, self.layer.kind)
            if self.accuse(np.where(mask, 0.0, pushed), mask, what):
                low = middle
            else:
                high = middle
        return float(2.0**low)


def measured(court: Court, weight: Array, mask: Mask) -> dict[str, float]:
    """The ratios of Ŵ with its mask, by their names in `Outcome`: the bounds of T13."""
    layer = court.layer
    if (weight[mask] != 0).any() or mask.sum() != court.right.mask.sum():
        return dict.fromkeys(RATIOS, math.inf)
    T, star = court.T(mask), court.T(court.right.mask)
    P = unrounded(layer, weight, T)
    f, f_T, f_star = losses(layer, P), losses(layer, T), losses(layer, star)
    u, eps = ROUNDOFF[layer.arithmetic], excess(layer)
    floor = 8 * u * np.sqrt(energies(layer, T))
    bound = (1 + 1.5 * math.sqrt(eps)) * np.sqrt(f_T) + floor  # half an ε is the judge's own ρ
    # A row that loses nothing, however large, is no excuse for what others lose; and what
    # masks lose is known without the rounding of kept weights.
    some = (mask | court.right.mask).any(axis=1)
    chosen = np.sqrt(LARGEST_CHOICE * f_star.sum()) + np.sqrt((floor[some] ** 2).sum())
    over_star = math.sqrt(_over(f_T.sum(), (LARGEST_CHOICE + 1e-9) * f_star.sum()))
    ratios = (
        _over(f.sum(), f_T.sum()),
        _over(losses(layer, weight).sum(), f_T.sum()),
        _over(f.sum(), f_star.sum()),
        max(_over(a, b) for a, b in zip(np.sqrt(f), bound, strict=True)),
        max(over_star, _over(np.sqrt(f[some].sum()), chosen)),
    )
    return dict(zip(RATIOS, ratios, strict=True))


def _over(value: Any, bound: Any) -> float:
    """A ratio in which 0/0 is 1."""
    if not np.isfinite(value):
        return math.inf
    return float(value / bound) if bound > 0 else (1.0 if value == 0 else math.inf)
