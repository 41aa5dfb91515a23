"""Numbers whose squares leave float64, and other corners in which something was once accepted."""

from typing import Any

import numpy as np
import pytest

from reference import SemiStructured, Unstructured, refit, thanos
from verification import Certificate, certify
from verification.certificate import NOT_DECIDABLE, judging, replay, solver

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 30))
GRAM = X @ X.T
SEMI = SemiStructured(2, 4)


def refitted(weight: np.ndarray, change: Any, **options: Any) -> Certificate:
    """The certificate of a right result with a changed refit."""
    before = thanos(weight, GRAM, SEMI, block_size=4)
    after = refit(weight, GRAM, before, steps=8, damping=0.01).weight
    after = change(after, before.mask)
    return certify(
        weight, GRAM, before.weight, SEMI, block_size=4, mask=before.mask,
        refitted_weight=after, **options,
    )  # fmt: skip


def test_removed_weights_of_a_refit_are_zero_and_not_only_tiny() -> None:
    weight = 3 * RNG.standard_normal((4, 8))
    assert refitted(weight, lambda after, mask: after).passed
    found = refitted(weight, lambda after, mask: np.where(mask, 5e-324, after))
    assert found["support"].value == 16


def test_a_refit_is_of_the_type_that_it_is_stored_in() -> None:
    weight = RNG.integers(-64, 65, (4, 8)) / 16.0  # bfloat16 holds it
    found = refitted(weight, lambda after, mask: after, arithmetic="float32", storage="bfloat16")
    assert not found["storage"].passed


def test_a_row_that_loses_all_its_weights_has_no_room_and_needs_none() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        weight = rng.standard_normal((4, 8))
        weight[0] *= 1e-3
        pattern = Unstructured(0.5)
        before = thanos(weight, GRAM, pattern, block_size=4)
        after = refit(weight, GRAM, before, steps=8, damping=0.01)
        found = certify(
            weight, GRAM, before.weight, pattern, block_size=4, mask=before.mask,
            refitted_weight=after.weight,
        )  # fmt: skip
        assert before.mask[0].all()
        assert found.passed, found


def test_a_row_of_which_nothing_is_removed_keeps_every_bit() -> None:
    weight = RNG.standard_normal((2, 8))
    weight[0] *= 1e3
    pattern = Unstructured(0.25)
    right = thanos(weight, GRAM, pattern, block_size=4)
    assert not right.mask[0].any()
    moved = right.weight.copy()
    moved[0, 3] = np.nextafter(moved[0, 3], np.inf)
    found = certify(weight, GRAM, moved, pattern, block_size=4, mask=right.mask)
    assert found["kept"].value == 1


def test_weights_that_cannot_be_squared_beside_others_are_not_decidable() -> None:
    weight = RNG.standard_normal((2, 8))
    weight[0] *= 1e30
    weight[0, 0] = 1e200
    pattern = Unstructured(0.25)
    with np.errstate(over="ignore"):  # of squares that the reference takes
        right = thanos(weight, GRAM, pattern, block_size=4)
    turned = right.weight.copy()
    turned[0, 1:] *= -7
    found = certify(weight, GRAM, turned, pattern, block_size=4, mask=right.mask)
    assert found.verdict == NOT_DECIDABLE, found

    weight[0] = [1e200, 0, 1e30, 1e20, 1e30, 1e20, 1e30, 1e20]
    right = thanos(weight, np.eye(8), SemiStructured(1, 2), block_size=2)
    mask = right.mask.copy()
    mask[0, 2:] ^= True
    larger = np.where(mask, 0.0, weight)
    found = certify(weight, np.eye(8), larger, SemiStructured(1, 2), block_size=2, mask=mask)
    assert found.verdict == NOT_DECIDABLE, found


def test_inputs_that_cannot_be_squared_beside_others_are_not_decidable() -> None:
    weight, gram = np.array([[1e10, 1.0, 1.0, 0.0]]), np.diag([1e-200, 1e-190, 1e150, 1e150])
    mask = np.array([[True, False, False, True]])
    found = certify(weight, gram, np.where(mask, 0.0, weight), SemiStructured(1, 2), mask=mask)
    assert found.verdict == NOT_DECIDABLE, found


def test_masks_inside_their_margins_need_a_decidable_loss() -> None:
    z = np.array([2330.0, 2330, 2037, 2037])
    weight = np.array([[1, -1, 1 + 2.0**-27, -1 - 3 * 2.0**-27]])
    mask = np.array([[False, False, True, True]])
    found = certify(
        weight, np.outer(z, z), np.where(mask, 0.0, weight), SEMI, method="magnitude", mask=mask,
        damping=1e-16, arithmetic="float32",
    )  # fmt: skip
    assert found.verdict == NOT_DECIDABLE, found


@pytest.mark.parametrize("factor", [1e-80, 1e80])
def test_right_results_of_rows_far_apart_pass(factor: float) -> None:
    weight = RNG.standard_normal((4, 8))
    weight[1] *= factor
    weight[2] /= factor
    for pattern in (Unstructured(0.5), SEMI):
        right = thanos(weight, GRAM, pattern, block_size=4)
        found = certify(
            weight, GRAM, right.weight, pattern, block_size=4, mask=right.mask,
            block_losses=right.block_losses,
        )  # fmt: skip
        assert found.passed, found


def test_a_replay_that_is_not_exact_enough_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = RNG.standard_normal((4, 8))
    right = thanos(weight, GRAM, SEMI, block_size=4)
    exact: Any = solver.best_moves

    def rough(start: Any, mask: Any, *matrices: Any) -> Any:
        moves = exact(start, mask, *matrices)
        return np.where(mask, moves, moves * (1 + 1e-6))

    monkeypatch.setattr(replay, "best_moves", rough)
    found = certify(weight, GRAM, right.weight, SEMI, block_size=4, mask=right.mask)
    assert not found["own error"].passed
    assert found.verdict != "passed", found


@pytest.mark.parametrize("module", [judging, replay], ids=["at the end", "on the way"])
def test_an_exact_run_that_grows_without_bounds_judges_nothing(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = RNG.standard_normal((4, 8))
    right = thanos(weight, GRAM, SEMI, block_size=4)
    monkeypatch.setattr(module, "LARGEST_REPLAY", 1e-3)
    found = certify(weight, GRAM, right.weight, SEMI, block_size=4, mask=right.mask)
    assert found.verdict == NOT_DECIDABLE, found
    assert not found["growth"].passed
