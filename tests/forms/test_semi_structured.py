"""2:4 through torch.sparse: right on a GPU, refused elsewhere."""

from typing import Any

import pytest
import torch
from torch import nn

from reference.patterns import SemiStructured
from tests.forms.layers import pruned
from thanos_torch.forms import semi_structured_linear

SHAPE = (128, 256)


def layer(dtype: torch.dtype, device: str) -> nn.Linear:
    weight, _ = pruned(SemiStructured(2, 4), dtype, SHAPE)
    linear = nn.Linear(SHAPE[1], SHAPE[0], dtype=dtype, device=device)
    with torch.no_grad():
        linear.weight.copy_(weight.nan_to_num(1.0))
    return linear


def test_off_cuda_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight must be on a CUDA device .* got cpu"):
        semi_structured_linear(layer(torch.bfloat16, "cpu"))


def test_what_the_units_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be float16 or bfloat16 .* got torch.float32"):
        semi_structured_linear(layer(torch.float32, "cpu"))
    linear = layer(torch.float16, "cpu")
    linear.weight.data[5, 4:8] = 1.0
    with pytest.raises(ValueError, match="two zeros in every four"):
        semi_structured_linear(linear)


@pytest.mark.cuda
@pytest.mark.parametrize("tokens", [1, 7, 512])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_outputs_are_those_of_the_dense_layer(dtype: torch.dtype, tokens: int) -> None:
    linear = layer(dtype, "cuda")
    faster = semi_structured_linear(linear)
    x = torch.randn(tokens, SHAPE[1], device="cuda").to(dtype)
    exact = x.double() @ linear.weight.double().T + linear.bias.double()
    reach = x.double().abs() @ linear.weight.double().abs().T + 1
    # Sums in float32, and one rounding of the result: a bound for any order of summation.
    unit = torch.finfo(dtype).eps
    assert ((faster(x).double() - exact).abs() <= (unit + 256 * 2**-23) * reach).all()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_its_bytes_are_those_of_the_formula(dtype: torch.dtype) -> None:
    sparse: Any = semi_structured_linear(layer(dtype, "cuda")).weight.data
    parts = {id(part): part for part in (sparse.packed, sparse.meta) if part is not None}
    held = sum(part.nbytes for part in parts.values())
    # Half of the values in 16 bits, and 2 bits of position for each of them.
    assert held == SHAPE[0] * SHAPE[1] + SHAPE[0] * SHAPE[1] // 8


@pytest.mark.cuda
def test_sizes_that_the_kernels_do_not_know_are_refused() -> None:
    linear = nn.Linear(8, 3, device="cuda", dtype=torch.float16)
    linear.weight.data.zero_()
    with pytest.raises(ValueError, match=r"shape \(3, 8\) is refused by torch.sparse"):
        semi_structured_linear(linear)
