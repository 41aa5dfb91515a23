"""The compact layer computes what the dense one does, and is as small as its formula says."""

import copy

import pytest
import torch
from torch import Tensor, nn

from reference.patterns import Pattern, Structured, Unstructured
from tests.forms.layers import pruned
from thanos_torch.forms import Compact, CompactLinear, bits_of, choose, compact_linear

STRUCTURED = [Structured(0.3), Structured(0.3, 0.1), Structured(0.9, 0.1), Structured(0.97)]
SHAPE = (13, 48)


def layer(pattern: Pattern, *, bias: bool = True) -> tuple[nn.Linear, Tensor]:
    """A pruned float64 layer, for which rounding is not the question, and its mask."""
    weight, mask = pruned(pattern, torch.float64)
    linear = nn.Linear(48, 13, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight.nan_to_num(2.0))
    return linear, mask


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, 48, generator=torch.Generator().manual_seed(3)).double()


def distance(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 0)], ids=str)
@pytest.mark.parametrize("pattern", STRUCTURED, ids=str)
def test_the_outputs_are_those_of_the_dense_layer(
    pattern: Pattern, shape: tuple[int, ...], bias: bool
) -> None:
    linear, mask = layer(pattern, bias=bias)
    compact = compact_linear(linear, mask)
    x = inputs(*shape)
    found, expected = compact(x), linear(x)
    assert found.shape == expected.shape
    # 48 products of float64 each: a hundred roundings.
    assert not found.numel() or distance(found, expected) <= 100 * 2**-53
    assert torch.equal(bits_of(compact.form().weight()), bits_of(linear.weight.detach()))


def test_all_columns_gone() -> None:
    linear, _ = layer(Structured(0.3))
    with torch.no_grad():
        linear.weight.zero_()
    compact = compact_linear(linear, torch.ones(SHAPE, dtype=torch.bool))
    assert torch.equal(compact(inputs(2)), linear.bias.expand(2, -1))


@pytest.mark.parametrize("pattern", STRUCTURED, ids=str)
def test_its_memory_is_that_of_the_formula(pattern: Structured) -> None:
    linear, mask = layer(pattern, bias=False)
    compact = compact_linear(linear, mask)
    held = sum(each.nbytes for each in [*compact.parameters(), *compact.buffers()])
    removed, outliers = pattern.removed(48), pattern.outliers(13)
    stored = sum(each.nbytes for each in compact.state_dict().values())
    assert stored == choose.compact_bytes(*SHAPE, removed, outliers, 8)
    # Beside outlier rows the module also keeps the indices of the removed columns.
    assert held == stored + (choose.INDEX_BYTES * removed if outliers else 0)


def test_gradients_reach_the_inputs() -> None:
    linear, mask = layer(Structured(0.3, 0.1))
    compact = compact_linear(linear, mask)
    x = inputs(4).requires_grad_()
    weights = torch.randn(4, 13, dtype=torch.float64)
    (found,) = torch.autograd.grad((compact(x) * weights).sum(), x)
    (expected,) = torch.autograd.grad((linear(x) * weights).sum(), x)
    assert distance(found, expected) <= 100 * 2**-53


def test_it_moves_between_dtypes_and_copies() -> None:
    linear, mask = layer(Structured(0.3, 0.1))
    compact = copy.deepcopy(compact_linear(linear, mask)).to(torch.bfloat16)
    assert compact.kept.dtype == torch.int32
    found = compact(inputs(3).bfloat16())
    assert found.dtype == torch.bfloat16
    # 48 products, each rounded to 8 bits, though sums may be longer.
    assert distance(found.double(), linear(inputs(3))) <= 48 * 2**-9


def test_its_state_is_its_form() -> None:
    linear, mask = layer(Structured(0.3, 0.1))
    compact = compact_linear(linear, mask)
    other = CompactLinear(Compact.pack(torch.zeros(SHAPE).double(), mask), torch.zeros(13).double())
    other.load_state_dict(compact.state_dict())
    assert torch.equal(other(inputs(2)), compact(inputs(2)))


def test_what_has_no_whole_columns_is_refused() -> None:
    linear, mask = layer(Unstructured(0.5))
    with pytest.raises(ValueError, match="whole columns"):
        compact_linear(linear, mask)
