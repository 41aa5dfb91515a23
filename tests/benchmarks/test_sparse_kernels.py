"""Kernels of other libraries are timed only if they compute the same."""

import importlib.util

import pytest
import torch
from torch import Tensor

from verification.benchmarks.inference import sparse_kernels
from verification.benchmarks.inference.sparse_kernels import in_torch, in_words, time_layer

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


@pytest.fixture(autouse=True)
def few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_kernels, "TURN_BYTES", 2**14)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_layer_is_timed(tokens: int) -> None:
    with_openvino = importlib.util.find_spec("openvino") is not None
    found = time_layer((16, 32), 0.5, tokens, 6, 1, with_openvino)
    assert len(found) == 1 + with_openvino
    assert found[0]["kernel"] == "torch CSR, float32"
    assert found[0]["sparse"]["median"] > 0
    assert f"16 x 32, 50% zeros, {tokens} tokens" in in_words(found[0])


def test_a_wrong_product_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Tensor.to_sparse_csr
    monkeypatch.setattr(Tensor, "to_sparse_csr", lambda weight: right(weight * (weight > 0)))
    with pytest.raises(RuntimeError, match="not the dense one"):
        in_torch(torch.randn(16, 32), torch.randn(2, 32))
