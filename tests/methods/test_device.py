"""On a GPU: what no machine without one can measure, but fake tensors can tell."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from reference.patterns import Ablation
from tests.methods.judging import certified
from thanos_torch import SemiStructured, Unstructured, refit, sparsegpt, thanos, wanda
from thanos_torch.methods.factor import Factor
from thanos_torch.methods.in_torch import TorchStrategy
from thanos_torch.methods.problem import ScaledLayer
from thanos_torch.methods.solver import DeviceSolver
from thanos_torch.methods.thanos import prune_blocks
from thanos_torch.methods.units import Units
from thanos_torch.methods.update import walk_blocks
from verification.benchmarks.performance.launches import SlicesByNarrow

ROWS, COLUMNS, BLOCK = 24, 40, 16  # a ragged last block
PATTERNS: list[Unstructured | SemiStructured] = [
    Unstructured(0.5),
    SemiStructured(2, 4),
    SemiStructured(2, 4, outlier_rows=0.1),
]
ABLATIONS = [
    {},
    {"adaptive": False},
    {"residual": "local"},
    {"update": "sequential"},
    {"metric": "obs"},
    {"metric": "magnitude"},
    {"outlier_score": "wanda"},
]


def blocks(
    pattern: Unstructured | SemiStructured, ablation: Ablation, *, benign: bool, directly: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The block loop alone, over a whole block and a ragged one in a device's memory."""
    columns = BLOCK + COLUMNS % BLOCK
    W = torch.ones(ROWS, columns, device="cuda")
    G, U = (torch.ones(columns, columns, device="cuda") for _ in range(2))
    factor = Factor(U, benign)
    layer = ScaledLayer(W, G, True, 0.01, 0.01, Units.of_exponents(0, 0))
    strategy = TorchStrategy(factor, directly=directly)
    return prune_blocks(layer, factor, pattern, BLOCK, ablation, strategy)


@pytest.mark.parametrize("directly", [False, True], ids=["iterated", "directly"])
@pytest.mark.parametrize("benign", [True, False])
@pytest.mark.parametrize("options", ABLATIONS, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_nothing_in_the_block_loop_waits_or_mixes_devices(
    pattern: Unstructured | SemiStructured,
    options: dict[str, Any],
    benign: bool,
    directly: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fake tensors have no numbers: reading one, or a shape that depends on one, is an error."""
    # The third step would be the same again.
    monkeypatch.setattr("thanos_torch.methods.solver.DeviceSolver.max_steps", 2)
    with FakeTensorMode(), SlicesByNarrow():
        weight, mask, losses = blocks(
            pattern, Ablation(**options), benign=benign, directly=directly
        )
    for tensor in (weight, mask, losses):
        assert tensor.device.type == "cuda"
    assert mask.shape == weight.shape == (ROWS, 24)


def test_fake_tensors_do_tell() -> None:
    """The check above can fail: a loop that looks at a number, one that mixes devices."""
    with FakeTensorMode(), SlicesByNarrow():
        W, U = torch.ones(4, 8, device="cuda"), torch.ones(8, 8, device="cuda")

        def waiting(W: Tensor, block: tuple[int, int], _: Tensor) -> Tensor:
            return W * W.sum().item()

        with pytest.raises(DataDependentOutputException):
            walk_blocks(W, U, 8, waiting)

        def mixing(W: Tensor, block: tuple[int, int], _: Tensor) -> Tensor:
            return W + torch.ones(4, 8)

        with pytest.raises(RuntimeError, match="device"):
            walk_blocks(W, U, 8, mixing)


def problem(kind: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    X = torch.randn(COLUMNS, 3 * COLUMNS)
    if kind == "loud directions":
        X += 20 * torch.randn(COLUMNS, 2) @ torch.randn(2, 3 * COLUMNS)
    return torch.randn(ROWS, COLUMNS), X @ X.T


def take_the_cpu_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed steps, flags instead of looks."""
    monkeypatch.setattr("thanos_torch.methods.in_torch.solver_for", DeviceSolver)


@pytest.mark.parametrize("kind", ["independent", "loud directions"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_fixed_steps_give_a_certified_layer_and_the_same_mask(
    pattern: Unstructured | SemiStructured, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    W, G = problem(kind)
    expected = thanos(W, G, pattern, block_size=BLOCK)
    take_the_cpu_for_a_device(monkeypatch)
    found = thanos(W, G, pattern, block_size=BLOCK)
    assert torch.equal(found.mask, expected.mask)
    assert found.diagnostics.direct_rows == 0
    assert certified(W, G, found, pattern, BLOCK).passed


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_layer_with_unfinished_rows_is_done_again_directly(
    pattern: Unstructured | SemiStructured, monkeypatch: pytest.MonkeyPatch
) -> None:
    W, G = problem("loud directions")
    take_the_cpu_for_a_device(monkeypatch)
    monkeypatch.setattr("thanos_torch.methods.solver.DeviceSolver.max_steps", 1)
    found = thanos(W, G, pattern, block_size=BLOCK)
    assert found.diagnostics.direct_rows > 0
    assert certified(W, G, found, pattern, BLOCK).passed


@pytest.mark.parametrize("method", [thanos, sparsegpt, wanda])
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_are_exact_whatever_the_caller_allows(precision: str, method: Any) -> None:
    W, G = problem("loud directions")
    expected = method(W, G, PATTERNS[0], block_size=BLOCK)
    better = refit(W, G, expected, steps=3)
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = method(W, G, PATTERNS[0], block_size=BLOCK)
            refitted = refit(W, G, expected, steps=3)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.weight, expected.weight)
    assert torch.equal(found.block_losses, expected.block_losses)
    assert torch.equal(refitted.weight, better.weight)
