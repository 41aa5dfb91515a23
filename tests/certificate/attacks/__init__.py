"""Attacks on the certificate: results that are far off and try to pass. T13.

One module a kind; each has `attack(rng, outcome)`, one round on layers drawn by `rng`. A round
first sees the right result pass, then judges candidates, and measures every accepted one against
an exact run of its own (exact.py, outcome.py). `python -m tests.certificate.attacks` searches.
"""

from collections.abc import Callable

import numpy as np

from tests.certificate.attacks import (
    blind,
    damping,
    denormals,
    growing,
    indefinite,
    inputs,
    losses_reported,
    margins,
    nans,
    narrow,
    overflow,
    refits,
    roundings,
    scales,
    types,
)
from tests.certificate.attacks.outcome import Outcome

Attack = Callable[[np.random.Generator, Outcome], None]

ATTACKS: dict[str, Attack] = {
    "overflow": overflow.attack,
    "NaN": nans.attack,
    "denormals": denormals.attack,
    "blind directions": blind.attack,
    "growing pushes": growing.attack,
    "scales": scales.attack,
    "types": types.attack,
    "tiny damping": damping.attack,
    "indefinite": indefinite.attack,
    "narrow blocks": narrow.attack,
    "margins": margins.attack,
    "roundings": roundings.attack,
    "refits": refits.attack,
    "block losses": losses_reported.attack,
    "inputs": inputs.attack,
}


def play(name: str, outcome: Outcome, seed: int) -> None:
    """One round of an attack; its layers follow from the name and the seed."""
    outcome.seed = seed
    rng = np.random.default_rng([list(ATTACKS).index(name), seed])
    with np.errstate(all="ignore"):
        try:
            ATTACKS[name](rng, outcome)
        except ValueError as error:  # the reference refuses H, or cannot solve with it
            outcome.unsolved += 1
            outcome.notes.append(f"seed {seed}: {error}")
