"""Arrays of PyTorch are judged where they are, with the verdicts of NumPy's."""

import contextlib
import sys
from typing import Any

import numpy as np
import pytest
import torch

import reference
from reference import SemiStructured, Structured, Unstructured
from tests.certificate.attacks import ATTACKS, play
from tests.certificate.attacks.outcome import Outcome
from tests.certificate.both import certify_both, on_device, tensor_of
from tests.certificate.test_catalogue import certificates
from tests.certificate.wrong import BLOCK, DAMPING, GRAM, WEIGHT, WRONG, Wrong
from tests.implementations import FLOAT64, MOVING, TORCH32
from verification import Certificate, certify
from verification.catalogue import HardInput, catalogue
from verification.certificate.case import make_case
from verification.certificate.libraries import library_of

HARD = [
    pytest.param(implementation, hard, id=f"{implementation.arithmetic}-{hard}")
    for implementation in (FLOAT64[0], TORCH32[0])
    for hard in catalogue(implementation.arithmetic)
]
ROUNDS, CANDIDATES = 16, 3  # of every attack, and how many are a sample


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.bug for wrong in WRONG])
def test_wrong_results(wrong: Wrong) -> None:
    pruned = wrong.run()
    options: dict[str, Any] = {"method": wrong.method, "block_size": BLOCK, "damping": DAMPING}
    options |= {"mask": pruned.mask, **wrong.judge}
    found = certify_both(WEIGHT, GRAM, pruned.weight, wrong.pattern, **options)
    assert not found[wrong.check].passed


@pytest.mark.parametrize("pattern", [SemiStructured(2, 4, 0.1), Unstructured(0.5), Structured(0.3)])
@pytest.mark.parametrize("switches", [{}, {"metric": "obs"}, {"update": "sequential"}], ids=str)
def test_right_results_with_losses_and_refit(pattern: Any, switches: dict[str, Any]) -> None:
    options: dict[str, Any] = {"block_size": BLOCK, "damping": DAMPING}
    pruned = reference.thanos(WEIGHT, GRAM, pattern, **options, **switches)
    refitted = reference.refit(WEIGHT, GRAM, pruned, steps=5, damping=DAMPING).weight
    for more in ({"refitted_weight": refitted}, {"mask": pruned.mask}):
        more = {**options, **switches, **more, "block_losses": pruned.block_losses}
        assert certify_both(WEIGHT, GRAM, pruned.weight, pattern, **more).passed


@pytest.mark.long
@pytest.mark.parametrize(("implementation", "hard"), HARD)
def test_hard_inputs(implementation: Any, hard: HardInput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.certificate.test_catalogue.certify", certify_both)
    for method in MOVING:
        assert certificates(implementation, hard, method)


class EnoughError(Exception):
    """Ends a round of an attack."""


@pytest.mark.parametrize("name", ATTACKS)
def test_the_first_candidates_of_attacks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Certificate] = []

    def few(*layer: Any, **options: Any) -> Certificate:
        if len(judged) == CANDIDATES:
            raise EnoughError
        judged.append(certify_both(*layer, **options))
        return judged[-1]

    monkeypatch.setattr("tests.certificate.attacks.outcome.certify", few)
    outcome = Outcome(name)
    with contextlib.suppress(EnoughError):
        for seed in range(ROUNDS):
            play(name, outcome, seed)
    assert judged
    assert outcome.sound
    assert not outcome.right_refused, outcome.notes


@pytest.mark.long
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.certificate.attacks.outcome.certify", certify_both)
    outcome = Outcome(name)
    for seed in range(ROUNDS):
        play(name, outcome, seed)
    assert outcome.right
    assert outcome.sound
    assert not outcome.right_refused, outcome.notes


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_types_of_tensors(kind: torch.dtype) -> None:
    W, G = (torch.tensor(each).to(kind) for each in (WEIGHT, GRAM / 2**8))
    pattern = SemiStructured(2, 4)
    pruned = reference.thanos(W.double().numpy(), G.double().numpy(), pattern, block_size=BLOCK)
    # Beside a weight on a device, others may be anywhere.
    found = on_device(W, G, pruned.weight, pattern, block_size=BLOCK, mask=pruned.mask)
    assert found.passed, found
    with pytest.raises(ValueError, match="weight must hold floating-point numbers"):
        on_device(W.int(), G, pruned.weight, pattern, block_size=BLOCK)


def test_the_condition_number_is_that_of_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    by_numpy = make_case(WEIGHT, GRAM, WEIGHT, DAMPING, "float64", None)
    monkeypatch.setattr("verification.certificate.libraries.HOSTS", frozenset())
    weight, gram = tensor_of(WEIGHT), tensor_of(GRAM)
    home = library_of(weight)
    on_torch: Any = make_case(weight, gram, weight, DAMPING, "float64", None, home)
    assert on_torch.condition == pytest.approx(by_numpy.condition, rel=1e-9)
    assert np.allclose(on_torch.U.native.numpy(), by_numpy.U, rtol=1e-9, atol=1e-12)


def test_tensors_stay_as_they_are() -> None:
    pattern = SemiStructured(2, 4)
    pruned = reference.thanos(WEIGHT, GRAM, pattern, block_size=BLOCK)
    layer = [tensor_of(each) for each in (WEIGHT, GRAM, pruned.weight)]
    mask, copies = tensor_of(pruned.mask), [each.clone() for each in layer]
    layer[0].requires_grad_()
    assert on_device(*layer, pattern, block_size=BLOCK, mask=mask).passed
    assert all(torch.equal(one, other) for one, other in zip(layer, copies, strict=True))
    assert torch.equal(mask, tensor_of(pruned.mask))


def test_without_array_api_compat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    weight, gram = tensor_of(WEIGHT), tensor_of(GRAM)
    with pytest.raises(ValueError, match=r"thanos-pruning\[device\]"):
        on_device(weight, gram, weight, SemiStructured(2, 4))
    certify(
        weight, gram, weight, SemiStructured(2, 4)
    )  # in the memory of the CPU nothing else is needed


def test_what_is_not_listed_is_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes to the host unseen."""
    monkeypatch.setattr("verification.certificate.libraries.HOSTS", frozenset())
    weight = tensor_of(WEIGHT)
    case = make_case(weight, tensor_of(GRAM), weight, DAMPING, "float64", None, library_of(weight))
    with pytest.raises(TypeError, match="median"):
        np.median(case.W)
    for refused in (np.asarray, float, lambda W: np.abs(W, dtype=np.float32)):
        with pytest.raises(TypeError):
            refused(case.W)
    with pytest.raises(ValueError, match="neither true nor false"):
        bool(case.W)
