"""On a device one look refuses a layer, or does it again; errors are those of a CPU."""

import re

import pytest
import torch
from torch import Tensor

from tests.implementations import TORCH64
from tests.reference.refusals import REFUSALS, Refusal
from thanos_torch import Checks, Gram, Unstructured, magnitude, sparsegpt, thanos, wanda

HALF = Unstructured(0.5)


@pytest.fixture(autouse=True)
def cpu_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors are worked on as a device's are, by PyTorch alone."""
    monkeypatch.setattr("thanos_torch.methods.devices.HOSTS", frozenset())
    monkeypatch.setattr("thanos_torch.methods.strategy.has_kernels", lambda _: False)
    monkeypatch.setattr("thanos_torch.methods.solver.DeviceSolver.max_steps", 8)


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.case for refusal in REFUSALS])
def test_refusals_name_the_argument_and_the_value(refusal: Refusal) -> None:
    with pytest.raises(ValueError, match=re.escape(refusal.argument)) as raised:
        refusal.call(TORCH64[0])
    assert refusal.value.lower() in str(raised.value).lower()


def layer(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    gram = Gram(12)
    gram.add(scale * torch.randn(40, 12))
    return scale * torch.randn(6, 12), gram.matrix()


@pytest.mark.parametrize("scale", [1.0, 2.0**-50, 2.0**50, 1e-17, 1e17])
@pytest.mark.parametrize("method", [thanos, sparsegpt, wanda, magnitude])
def test_units_change_nothing(
    method: object, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no single power of two brings the numbers near 1."""
    W, G = layer(scale)
    found = method(W, G, HALF, block_size=5)  # type: ignore[operator]
    monkeypatch.setattr("thanos_torch.methods.devices.HOSTS", {"cpu"})
    expected = method(W, G, HALF, block_size=5)  # type: ignore[operator]
    assert torch.equal(found.mask, expected.mask)
    difference = (found.weight - expected.weight).abs().max() / W.abs().max()
    assert difference <= 1e-5
    assert torch.allclose(found.block_losses, expected.block_losses, rtol=1e-5, atol=0)


def test_a_zero_gram_matrix_is_no_doubt() -> None:
    W, G = layer()
    found = thanos(W, torch.zeros_like(G), HALF, block_size=5)
    loss = W[found.mask].double().square().sum()  # λ = 1
    assert torch.allclose(found.block_losses.sum(), loss)


def test_one_look_finishes_several_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, looks, look = Checks(), [], Tensor.tolist

    def counted(tensor: Tensor) -> object:
        looks.append(1)
        return look(tensor)

    W, G = layer()
    monkeypatch.setattr(Tensor, "tolist", counted)
    first, second = (method(W, G, HALF, block_size=5, checks=checks) for method in (thanos, wanda))
    assert not looks
    assert not first.diagnostics.solver_steps
    checks.look()
    assert len(looks) == 1
    assert len(first.diagnostics.solver_steps) == 3
    assert torch.equal(second.weight[~second.mask], W[~second.mask])
    checks.look()
    assert len(looks) == 1  # nothing is left to look at


def test_the_look_names_what_is_wrong() -> None:
    W, G = layer()
    bad = W.clone()
    bad[2, 3] = torch.nan
    for weight, gram, message in (
        (bad, G, "weight must be finite, got weight[2, 3] = nan"),
        (W, -G, "gram[11, 11] must not be negative"),
        (W, G + torch.eye(12)[:, [1, 0, *range(2, 12)]].tril() * G.trace(), "gram must be symm"),
    ):
        checks = Checks()
        for some in (G, gram):
            thanos(weight if some is gram else W, some, HALF, block_size=5, checks=checks)
        with pytest.raises(ValueError, match=re.escape(message)):
            checks.look()


def test_an_unfinished_layer_is_overwritten_by_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    W, G = layer()
    expected = thanos(W, G, HALF, block_size=5)
    monkeypatch.setattr("thanos_torch.methods.solver.DeviceSolver.max_steps", 0)
    checks = Checks()
    found = thanos(W, G, HALF, block_size=5, checks=checks)
    checks.look()
    assert found.diagnostics.direct_rows > 0
    assert torch.equal(found.mask, expected.mask)
    assert torch.allclose(found.weight, expected.weight, atol=1e-5)


def test_entries_of_a_dead_column_are_seen() -> None:
    W, G = layer()
    for value in (1e-3, 1e-30, 1e-38):
        dead = G.clone()
        dead[4], dead[:, 4] = 0, 0
        thanos(W, dead, HALF, block_size=5)
        dead[4, 7] = dead[7, 4] = value
        with pytest.raises(ValueError, match="gram\\[4, 4\\] is 0 but row 4 is not"):
            thanos(W, dead, HALF, block_size=5)
