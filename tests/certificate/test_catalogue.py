"""Every hard input through every method and pattern, in both arithmetics."""

from typing import Any

import numpy as np
import pytest

from reference import Unstructured
from tests.implementations import FLOAT64, METHODS, MOVING, TORCH32, Implementation
from verification import Certificate, certify
from verification.catalogue import HardInput, catalogue
from verification.certificate import NOT_DECIDABLE

# The one entry on which T13 allows no verdict: float64 cannot judge itself.
UNDECIDED = (True, "condition 0.1 over u", "float64")
CASES = [
    pytest.param(implementation, hard, method, id=f"{implementation}-{hard}-{method}")
    for implementation in (*FLOAT64, *TORCH32)
    for hard in catalogue(implementation.arithmetic)
    for method in METHODS
]


def certificates(implementation: Implementation, hard: HardInput, method: str) -> list[Certificate]:
    """One a pattern, with and without the mask."""
    found = []
    for pattern in hard.patterns():
        if method != "thanos" and not isinstance(pattern, Unstructured) and pattern.outlier_rows:
            continue  # the baselines refuse them, and a test of its own says so
        options: dict[str, Any] = {"block_size": hard.block_size, "damping": hard.damping}
        pruned = implementation.prune(method, hard.weight, hard.gram, pattern, **options)
        options |= {"method": method, "arithmetic": implementation.arithmetic}
        options["block_losses"] = pruned.block_losses
        for mask in (pruned.mask, None):
            layer = hard.weight, hard.gram, pruned.weight
            found.append(certify(*layer, pattern, mask=mask, **options))
    return found


@pytest.mark.parametrize(("implementation", "hard", "method"), CASES)
def test_hard_input_is_pruned_right(
    implementation: Implementation, hard: HardInput, method: str
) -> None:
    for certificate in certificates(implementation, hard, method):
        if (method in MOVING, hard.name, implementation.arithmetic) == UNDECIDED:
            assert certificate.verdict == NOT_DECIDABLE, certificate
            assert not certificate["decidable"].passed, certificate
        else:
            assert certificate.passed, certificate


def test_catalogue_is_what_its_names_say() -> None:
    for arithmetic, u in (("float64", 2.0**-53), ("float32", 2.0**-24)):
        entries = {hard.name: hard for hard in catalogue(arithmetic)}
        assert [hard.number for hard in entries.values()] == list(range(1, len(entries) + 1))
        for name, condition in (
            ("condition 1 over root u", u**-0.5),
            ("condition 0.1 over u", 0.1 / u),
        ):
            hard = entries[name]
            eigenvalues = np.linalg.eigvalsh(hard.gram.astype(np.float64))
            lam = hard.damping * np.mean(np.diag(hard.gram))
            assert 0.7 < eigenvalues[-1] / lam / condition < 1.5  # the damping is a power of two
        assert np.linalg.matrix_rank(entries["fewer tokens than columns"].gram) == 3
        assert not entries["zero weight"].weight.any()
        assert not entries["zero gram"].gram.any()
        norms = np.diag(entries["half-precision ties"].gram)
        assert (norms == norms[0]).all()


def test_catalogue_is_the_same_every_time() -> None:
    for first, second in zip(catalogue(), catalogue(), strict=True):
        assert first.weight.tobytes() == second.weight.tobytes()
        assert first.gram.tobytes() == second.gram.tobytes()


def test_catalogue_refuses_other_arithmetics() -> None:
    with pytest.raises(ValueError, match="'float16'"):
        catalogue("float16")
