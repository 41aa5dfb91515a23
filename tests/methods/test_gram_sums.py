"""How exact the sums of a Gram matrix are: docs/models.md has the bound."""

import math

import pytest
import torch
from torch import Tensor

from thanos_torch import Gram
from thanos_torch.methods.checks import Checks

U = 2.0**-24
COLUMNS = 40
HALVES = [torch.bfloat16, torch.float16]


def inputs(kind: str, tokens: int, dtype: torch.dtype) -> Tensor:
    X = torch.randn(tokens, COLUMNS)
    return (X.abs() + 1 if kind == "one sign" else X).to(dtype)


@pytest.fixture(params=["cpu", "device"])
def _anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the panels and the mirroring of a device."""
    if request.param == "device":
        monkeypatch.setattr("thanos_torch.methods.devices.HOSTS", frozenset())
        monkeypatch.setattr("thanos_torch.methods.problem.DEVICE_PANEL", 16)


@pytest.mark.usefixtures("_anywhere")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_products_of_half_precision_are_exact(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for scale in (1.0, 2.0**-10, 200.0):
        X = (scale * torch.randn(1, COLUMNS)).to(dtype)
        gram = Gram(COLUMNS)
        gram.add(X)
        assert torch.equal(gram.matrix().double(), X.double().T @ X.double())


@pytest.mark.usefixtures("_anywhere")
@pytest.mark.parametrize("kind", ["normal", "one sign"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("batches", "tokens"), [(8, 2048), (256, 1)])
def test_sums_are_as_exact_as_stated(
    batches: int, tokens: int, dtype: torch.dtype, kind: str
) -> None:
    torch.manual_seed(0)
    gram, exact = Gram(COLUMNS), torch.zeros(COLUMNS, COLUMNS, dtype=torch.float64)
    for _ in range(batches):
        X = inputs(kind, tokens, dtype)
        gram.add(X)
        exact += X.double().T @ X.double()
    found, norms = gram.matrix().double(), exact.diagonal().sqrt()
    ratios = (found - exact).abs() / torch.outer(norms, norms) / U
    n = batches * tokens
    assert ratios.max() <= n / (1 - n * U)  # always
    assert ratios.max() <= 4 * math.sqrt(n)  # as roundings of either sign add up


def test_a_matrix_on_a_device_is_symmetric_and_refused_by_the_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thanos_torch.methods.devices.HOSTS", frozenset())
    gram, checks = Gram(3), Checks()
    gram.add(torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, -1.0]]))
    found = gram.matrix(checks)
    checks.look()
    assert torch.equal(found, torch.tensor([[2.0, 4.0, 2.0], [4.0, 8.0, 4.0], [2.0, 4.0, 10.0]]))
    gram.add(torch.tensor([1.0, torch.nan, 3.0]))
    gram.matrix(checks.named("layer"))
    with pytest.raises(ValueError, match=r"^layer: batch must be finite, .* in column 1"):
        checks.look()
    with pytest.raises(ValueError, match=r"^batch must be finite"):
        gram.matrix()
