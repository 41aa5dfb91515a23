"""On a GPU: what no machine without one can measure, but fake tensors can tell."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

from reference.patterns import Ablation
from thanos_torch import SemiStructured, Unstructured, refit, sparsegpt, thanos, wanda
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.scaled import ScaledLayer
from thanos_torch.methods.solver import MaskedSolver
from thanos_torch.methods.thanos import BlockWalk
from thanos_torch.methods.update import walk_blocks
from verification import certify

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


class SlicesByNarrow(TorchFunctionMode):
    """Indexing by slices and None, and ~, in other words.

    PyTorch without CUDA refuses these of fake tensors, for which it wants a driver.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.__getitem__:
            return narrowed(*args)
        if function is Tensor.__setitem__:
            target, index, value = args
            part = narrowed(target, index)
            if not isinstance(value, Tensor):
                return part.fill_(value)
            return torch.ops.aten.copy_(part, value)
        if function in OTHER_WORDS:
            return OTHER_WORDS[function](*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


# The same operations without the part of Python's binding that wants a driver.
OTHER_WORDS: dict[Any, Any] = {
    Tensor.__invert__: torch.logical_not,
    Tensor.contiguous: lambda it: it.clone(memory_format=torch.contiguous_format),
    Tensor.copy_: torch.ops.aten.copy_,
    Tensor.double: lambda it: torch.ops.aten._to_copy(it, dtype=torch.float64),
    Tensor.to: lambda it, dtype, **_: torch.ops.aten._to_copy(it, dtype=dtype),
}


def narrowed(tensor: Tensor, index: Any) -> Tensor:
    """tensor[index] for slices and None."""
    dim = 0
    for part in index if isinstance(index, tuple) else (index,):
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, slice):
            start, stop, step = part.indices(tensor.shape[dim])
            assert step == 1
            tensor = tensor.narrow(dim, start, max(0, stop - start))
        else:
            tensor = tensor.select(dim, part)
            continue
        dim += 1
    return tensor


class Blocks:
    """The block loop alone, its layer in a device's memory, in front of all that may wait."""

    def __init__(self, device: str, *, directly: bool = False, factor: str = "float32") -> None:
        self.device, self.directly, self.factor = torch.device(device), directly, factor

    def prune(self, pattern: Unstructured | SemiStructured, **options: object) -> Pruned:
        W = torch.ones(ROWS, COLUMNS, device=self.device)
        G, U = (torch.ones(COLUMNS, COLUMNS, device=self.device) for _ in range(2))
        layer = ScaledLayer(W, W.clone(), G, True, 0.01, 0.01, 0, 0)
        walk = BlockWalk(pattern, BLOCK, Ablation(**options))  # type: ignore[arg-type]
        solver = MaskedSolver(self.device, self.directly)
        diagnostics = Diagnostics(self.factor)
        with Unrestored():
            return walk.prune(layer, U, solver, diagnostics)


class Unrestored:
    """Leaves out the look for untouched rows, which comes after the last block and may wait."""

    def __enter__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ScaledLayer, "restored", lambda self, weight, mask: weight)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.mark.parametrize("directly", [False, True], ids=["iterated", "directly"])
@pytest.mark.parametrize("factor", ["float32", "float64"])
@pytest.mark.parametrize("options", ABLATIONS, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_nothing_in_the_block_loop_waits_or_mixes_devices(
    pattern: Unstructured | SemiStructured,
    options: dict[str, object],
    factor: str,
    directly: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fake tensors have no numbers: reading one, or a shape that depends on one, is an error."""
    monkeypatch.setattr(
        "thanos_torch.methods.solver.DEVICE_STEPS", 2
    )  # the third would be the same again
    with FakeTensorMode(), SlicesByNarrow():
        pruned = Blocks("cuda", directly=directly, factor=factor).prune(pattern, **options)
    for tensor in (pruned.weight, pruned.mask, pruned.block_losses):
        assert tensor.device.type == "cuda"
    assert pruned.mask.shape == (ROWS, COLUMNS)


def test_fake_tensors_do_tell() -> None:
    """The check above can fail: a loop that looks at a number, one that mixes devices."""
    with FakeTensorMode(), SlicesByNarrow():
        W = torch.ones(4, 8, device="cuda")
        layer = ScaledLayer(W, W.clone(), torch.ones(8, 8, device="cuda"), True, 0.01, 0.01, 0, 0)

        def waiting(W: Tensor, block: tuple[int, int], _: Tensor) -> tuple[Tensor, Tensor]:
            return W.sum().item() < W, W

        with pytest.raises(DataDependentOutputException):
            walk_blocks(layer, layer.gram, 8, waiting, Diagnostics())

        def mixing(W: Tensor, block: tuple[int, int], _: Tensor) -> tuple[Tensor, Tensor]:
            return W > 0, W + torch.ones(4, 8)

        with pytest.raises(RuntimeError, match="device"):
            walk_blocks(layer, layer.gram, 8, mixing, Diagnostics())


def problem(kind: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    X = torch.randn(COLUMNS, 3 * COLUMNS)
    if kind == "loud directions":
        X += 20 * torch.randn(COLUMNS, 2) @ torch.randn(2, 3 * COLUMNS)
    return torch.randn(ROWS, COLUMNS), X @ X.T


class OnDevice(MaskedSolver):
    """A solver that takes the CPU for a device: fixed steps, flags instead of looks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.device = torch.device("cuda")


@pytest.mark.parametrize("kind", ["independent", "loud directions"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_fixed_steps_give_a_certified_layer_and_the_same_mask(
    pattern: Unstructured | SemiStructured, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    W, G = problem(kind)
    expected = thanos(W, G, pattern, block_size=BLOCK)
    monkeypatch.setattr(sys.modules["thanos_torch.methods.thanos"], "MaskedSolver", OnDevice)
    found = thanos(W, G, pattern, block_size=BLOCK)
    assert torch.equal(found.mask, expected.mask)
    assert found.diagnostics.direct_rows == 0
    assert passes(W, G, found, pattern)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_layer_with_unfinished_rows_is_done_again_directly(
    pattern: Unstructured | SemiStructured, monkeypatch: pytest.MonkeyPatch
) -> None:
    W, G = problem("loud directions")
    monkeypatch.setattr(sys.modules["thanos_torch.methods.thanos"], "MaskedSolver", OnDevice)
    monkeypatch.setattr("thanos_torch.methods.solver.DEVICE_STEPS", 1)
    found = thanos(W, G, pattern, block_size=BLOCK)
    assert found.diagnostics.direct_rows > 0
    assert passes(W, G, found, pattern)


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


def passes(W: Tensor, G: Tensor, pruned: Pruned, pattern: Unstructured | SemiStructured) -> bool:
    """Whether the certificate does."""
    return certify(
        W.numpy(),
        G.numpy(),
        pruned.weight.numpy(),
        pattern,
        block_size=BLOCK,
        arithmetic="float32",
        mask=pruned.mask.numpy(),
        block_losses=pruned.block_losses.numpy(),
    ).passed
