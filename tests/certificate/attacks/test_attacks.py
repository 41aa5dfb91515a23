"""Every attack finds nothing above the bounds of T13. Seconds; `make verify` searches.

What an earlier certificate accepted, and the attack that covers it:

    1 kept weights near the top of float32              overflow
    2 NaN in an early block, a last block of one column  NaN
    3 reported losses [NaN, NaN, NaN, right]             block losses
    4 bfloat16 storage, blind directions                 blind directions
    5 originals in float32, stored as bfloat16           types
    6 a refit whose "before" is spoiled                  refits
    7 γ of 1e-9 and 1e-30                                tiny damping
    8 one weight a row of 1e16                           scales
    9 near ties of S that are far apart in loss          margins
    10 float128 results with removed entries of 1e-4000  inputs
"""

import pytest

from tests.certificate.attacks import ATTACKS, play
from tests.certificate.attacks.outcome import Outcome

ROUNDS = 8


SLOW = "indefinite"  # `make verify` searches with it


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.long) if n == SLOW else n for n in ATTACKS],
)
def test_nothing_above_the_bounds_passes(name: str) -> None:
    outcome = Outcome(name)
    for seed in range(ROUNDS):
        play(name, outcome, seed)
    assert outcome.right, "no right result was judged"
    assert not outcome.right_refused, outcome.notes
    assert outcome.far_off, "no candidate was far off: this is no attack"
    assert outcome.sound, outcome
