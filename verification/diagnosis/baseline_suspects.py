"""Known mistakes of the baselines, each with the output that it gives."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from verification.diagnosis import baselines
from verification.diagnosis.evidence import Evidence
from verification.diagnosis.simulation import plain_score
from verification.diagnosis.suspect import Suspect


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
        ]  # fmt: skip
    for key, text, how in listed:
        yield Suspect(key, "section 6", text, lambda how=how: make(e, how))  # type: ignore[misc]
