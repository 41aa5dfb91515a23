"""Known mistakes of the baselines, each with the output that it gives."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil

import numpy as np

from reference.patterns import SemiStructured, Structured
from verification.diagnosis import baselines
from verification.diagnosis.evidence import Evidence, rounded
from verification.diagnosis.simulation import Score, mean_damping, plain_score
from verification.diagnosis.suspect import Suspect
from verification.diagnosis.thanos_suspects import dead_columns_extra


def of_baselines(e: Evidence) -> Iterator[Suspect]:
    """The known mistakes of the method under test."""
    score, make = {
        "magnitude": (lambda W, norms, pivots: np.abs(W), baselines.zeroed),
        "wanda": (plain_score, baselines.zeroed),
        "sparsegpt": (lambda W, norms, pivots: W**2 / pivots, baselines.swept),
    }[e.method]
    rows = e.method == "wanda"
    plain = baselines.Baseline(score, by_rows=rows)
    listed = [
        ("count-off-by-one", "one weight or column too many goes", replace(plain, more=1)),
        ("count-off-by-one", "one weight or column too few goes", replace(plain, more=-1)),
    ]
    if rows:
        listed += [
            ("norm-not-rooted", "scores take G_jj for the norm: it is the root of G_jj",
             replace(plain, score=lambda W, norms, _: np.abs(W) * norms**2)),
            ("compared-over-the-layer", "all rows are compared at once",
             replace(plain, by_rows=False)),
        ]  # fmt: skip
    else:
        listed += [
            ("compared-by-rows", "weights are compared within each row",
             replace(plain, by_rows=True))
        ]  # fmt: skip
    if e.method == "sparsegpt":
        listed += [
            ("chosen-at-block-start", "groups are chosen when their block begins, not when the "
             "sweep reaches them", replace(plain, at_start=True)),
            ("pivot-not-squared", "scores take U_jj for its square",
             replace(plain, score=lambda W, _, pivots: W**2 / np.sqrt(pivots))),
            ("pivot-multiplied", "scores are multiplied by U_jj² instead of divided",
             replace(plain, score=lambda W, _, pivots: W**2 * pivots)),
        ]  # fmt: skip
        listed += [
            ("update-within-block", "columns behind the block do not move",
             replace(plain, inside=True)),
            ("no-damping", "λ is 0: the damping is missing", replace(plain, damping=lambda _: 0.0)),
            ("damping-off", "λ is half of what it should be",
             replace(plain, damping=lambda e: mean_damping(e) / 2)),
            ("damping-off", "λ is twice what it should be",
             replace(plain, damping=lambda e: mean_damping(e) * 2)),
        ]  # fmt: skip
        yield from dead_columns_extra(
            e, lambda e, live: baselines.swept(e, replace(plain, score=live(score)))
        )
    if not isinstance(e.pattern, SemiStructured):
        p = float(e.pattern.sparsity)
        whole: Callable[[float], int] = ceil if isinstance(e.pattern, Structured) else int
        listed.insert(0, ("count-in-binary", "counts are taken in binary floating point",
                          replace(plain, removed=lambda _, k: whole(p * k))))  # fmt: skip
    if e.precision == "float64":
        listed.append(
            ("scores-in-float32", "scores are rounded to float32",
             replace(plain, score=_in_float32(plain.score)))
        )  # fmt: skip
    for key, text, how in listed:
        yield Suspect(key, "section 6", text, lambda how=how: make(e, how))  # type: ignore[misc]


def _in_float32(score: Score) -> Score:
    return lambda W, norms, pivots: rounded(score(W, norms, pivots), "float32")
