"""The shortcuts of the fast version give what the long way gives."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.judging import certified
from thanos_torch import Gram, Pattern, SemiStructured, Unstructured, sparsegpt, thanos
from thanos_torch.methods.factor import FactorCache, inverse_factor, reversed_cholesky
from thanos_torch.methods.masks import Candidates, ResidualMask, smallest
from thanos_torch.methods.problem import PANEL, prepare

ROWS, COLUMNS, BLOCK = 300, 600, 50  # enough scores for a bracket in most blocks


def drifting(grid: float | None) -> list[Tensor]:
    """Scores of the columns that are left, block by block; they change a little."""
    torch.manual_seed(1)
    W = torch.randn(ROWS, COLUMNS)
    parts = []
    for j in range(0, COLUMNS, BLOCK):
        W += 0.02 * torch.randn(ROWS, COLUMNS)
        parts.append(W[:, j:].abs() if grid is None else (W[:, j:] / grid).round().abs() * grid)
    return parts


def left(part: Tensor) -> Candidates:
    """Weights that are their own scores."""
    return Candidates(part, None, "magnitude")


@pytest.mark.parametrize("grid", [None, 0.5, 1e-3], ids=["distinct", "many ties", "few ties"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_the_bracket_changes_no_mask(share: float, grid: float | None) -> None:
    search = ResidualMask()
    for part in drifting(grid):
        count = int(share * part.numel())
        mask = search.choose(left(part), torch.tensor(count), BLOCK)
        assert torch.equal(mask, smallest(part, count)[:, :BLOCK])


@pytest.mark.parametrize("threshold", [0.0, 1e-30, 0.3, 1e30])
def test_a_bracket_that_misses_changes_no_mask(threshold: float) -> None:
    part = drifting(None)[0]
    for count in (1, 1000, part.numel() // 2, part.numel() - 1):
        search = ResidualMask(threshold, 1e-6)
        mask = search.choose(left(part), torch.tensor(count), BLOCK)
        assert torch.equal(mask, smallest(part, count)[:, :BLOCK])


def test_the_bracket_follows_the_threshold() -> None:
    search, widths = ResidualMask(), []
    for part in drifting(None)[:6]:
        search.choose(left(part), torch.tensor(part.numel() // 2), BLOCK)
        widths.append(search.width)
    assert max(widths[1:]) < 0.1  # of a threshold that moves by a hundredth


def inputs(kind: str, columns: int) -> Tensor:
    torch.manual_seed(2)
    X = torch.randn(columns, 2 * columns)
    if kind == "equal columns":
        X[3] = X[7]
    if kind == "loud directions":
        X += 4 * torch.randn(columns, 2) @ torch.randn(2, 2 * columns)
    return X


@pytest.mark.parametrize(
    ("kind", "damping", "expected"),
    [
        ("independent", 0.01, "float32"),
        ("independent", 1.0, "float32"),
        ("equal columns", 0.01, "float64"),
        ("loud directions", 1e-4, "float64"),
        ("equal columns", 1.0, "float32"),  # damped away
    ],
)
@pytest.mark.parametrize("columns", [40, 300])  # with and without a look at the first columns
def test_the_factor_is_float32_only_where_that_loses_no_digits(
    columns: int, kind: str, damping: float, expected: str
) -> None:
    X = inputs(kind, columns)
    G, W = X @ X.T, torch.randn(8, columns)
    factor = inverse_factor(prepare(W, G, damping))
    assert factor.arithmetic == expected
    assert factor.benign is (expected == "float32")
    U, exact = factor.U, inverse_factor(prepare(W.double(), G.double(), damping)).U
    off = (U.double() - exact).norm(dim=0) / exact.norm(dim=0)
    # u by the root of the inflation, 4, where the factor is float32, and sqrt(b) sums of it.
    assert float(off.max()) < 4 * 2.0**-24 * 4 * columns**0.5
    assert torch.equal(U, U.triu())


@pytest.mark.parametrize("pattern", [Unstructured(0.5), SemiStructured(2, 4)], ids=str)
@pytest.mark.parametrize("kind", ["independent", "loud directions"])
def test_rows_in_parts_are_certified_and_choose_the_same(
    kind: str, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = inputs(kind, 96)
    G, W = X @ X.T, torch.randn(200, 96)
    whole = thanos(W, G, pattern, block_size=32)
    monkeypatch.setattr("thanos_torch.methods.update.ENTRIES", 1)  # 64 rows
    parts = thanos(W, G, pattern, block_size=32)
    assert torch.equal(parts.mask, whole.mask)
    for pruned in (whole, parts):
        verdict = certified(W, G, pruned, pattern, 32)
        assert verdict.passed, verdict


def test_layers_with_one_gram_matrix_are_factorised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X = inputs("loud directions", 40)
    G, other = X @ X.T, 2 * X @ X.T
    weights = [torch.randn(8, 40) for _ in range(2)]
    alone = [thanos(W, G, Unstructured(0.5)) for W in weights]
    made = []
    make = reversed_cholesky

    def counted(*arguments: Any) -> Tensor:
        made.append(1)
        return make(*arguments)

    monkeypatch.setattr("thanos_torch.methods.factor.reversed_cholesky", counted)
    factors = FactorCache()
    together = [thanos(W, G, Unstructured(0.5), factors=factors) for W in weights]
    sparsegpt(weights[0], G, Unstructured(0.5), factors=factors)
    assert len(made) == 1
    thanos(weights[0], G, Unstructured(0.5), damping=0.1, factors=factors)  # another H
    thanos(weights[0], other, Unstructured(0.5), factors=factors)
    thanos(weights[0], G, Unstructured(0.5), factors=factors)
    assert len(made) == 4
    thanos(weights[0], G, Unstructured(0.5))
    assert len(made) == 5  # nothing is remembered without a cache
    for one, two in zip(alone, together, strict=True):
        assert torch.equal(one.weight, two.weight)
        assert one.diagnostics.factor == two.diagnostics.factor == "float64"


def test_a_cached_factor_lives_as_long_as_its_gram_matrix() -> None:
    X = inputs("independent", 40)
    layer, factors = prepare(torch.randn(8, 40), X @ X.T, 0.01), FactorCache()
    U = weakref.ref(factors.of(layer).U)
    assert factors.of(layer).U is U()
    del layer
    assert U() is None


@pytest.mark.parametrize("columns", [PANEL - 1, PANEL, PANEL + 1, 3 * PANEL - 10])
def test_panels_up_to_the_diagonal_are_the_whole_gram_matrix(columns: int) -> None:
    batches = torch.randint(-8, 9, (3, 50, columns)).float()  # whole numbers: sums are exact
    gram = Gram(columns)
    for batch in batches:
        gram.add(batch)
    x = batches.reshape(-1, columns)
    assert torch.equal(gram.matrix(), x.T @ x)
    assert torch.equal(gram.matrix(), x.T @ x)  # asking for it changes nothing
