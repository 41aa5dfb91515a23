"""The kernels of a GPU against the reference: masks bit for bit, weights by certificate."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from reference.masks import smallest as reference_smallest
from reference.masks import smallest_of_each_group as reference_groups
from tests.methods.interpreted import DEVICE, on_a_device, planted
from tests.methods.judging import certified
from tests.test_imports import ROOT
from thanos_torch import Pattern, SemiStructured, Structured, Unstructured, sparsegpt, thanos
from thanos_torch.methods.masks import Candidates
from verification import certify
from verification.strategies import Problem, problems

pytestmark = pytest.mark.triton

DTYPES = [torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@st.composite
def score_matrices(draw: st.DrawFn, groups: bool = False) -> tuple[Candidates, int, int]:
    """Weights, with their metric, and n and m; ties, dead columns, one row, ragged tiles."""
    m = draw(st.integers(1, 6))
    rows = draw(st.sampled_from([1, 2, 7, 8, 9, 17]))
    columns = m * draw(st.integers(1, 6)) if groups else draw(st.integers(1, 40))
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    W, f = rng.standard_normal((rows, columns)), rng.random(columns)
    if draw(st.booleans(), label="ties"):
        W, f = np.round(W), np.round(2 * f) + 1
    metric = draw(st.sampled_from(["wanda", "magnitude", "obs", "sparsegpt"]))
    if metric == "wanda" and draw(st.booleans(), label="dead columns"):
        f[:: draw(st.integers(1, 3))] = 0
    wide = torch.zeros(
        rows, columns + 3, dtype=dtype, device=DEVICE
    )  # rows are parts of longer ones
    wide[:, 3:] = torch.from_numpy(W)
    factors = None if metric == "magnitude" else torch.from_numpy(f).to(DEVICE, dtype)
    return Candidates(wide[:, 3:], factors, metric), draw(st.integers(0, m)), m


@settings(max_examples=15)
@given(
    drawn=score_matrices(),
    share=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    more=st.integers(0, 9),
)
def test_the_r_smallest_are_those_of_a_stable_sort(
    drawn: tuple[Candidates, int, int], share: float, more: int
) -> None:
    left = drawn[0]
    rows, columns = left.weight.shape
    count, width = round(share * rows * columns), max(1, columns // 2)
    found = by_kernel(left, count, more, width)
    scores = left.scores().cpu().numpy()
    assert (found == reference_smallest(scores, count)[:, :width]).all()


def by_kernel(left: Candidates, count: int, more: int, width: int) -> np.ndarray:
    """The kernel's mask; it leaves its memory as it found it."""
    from thanos_torch.methods.kernels import smallest
    from thanos_torch.methods.with_kernels import METRICS

    size = smallest.workspace_size(left.weight.dtype)
    work = torch.zeros(size, dtype=torch.int32, device=DEVICE)
    picks = torch.zeros(left.weight.shape, dtype=torch.bool, device=DEVICE)[:, :width]
    removed, metric = torch.tensor([more], device=DEVICE), METRICS[left.metric]
    with on_a_device():
        smallest.smallest(left.weight, left.factors, metric, count + more, removed, work, picks)
    assert not work[2 * smallest.STATES :].any()
    return np.asarray(picks.cpu().numpy())


@settings(max_examples=15)
@given(drawn=score_matrices(groups=True))
def test_the_n_smallest_of_groups_are_those_of_a_stable_sort(
    drawn: tuple[Candidates, int, int],
) -> None:
    from thanos_torch.methods.kernels import groups
    from thanos_torch.methods.with_kernels import METRICS

    block, n, m = drawn
    rows = len(block.weight)
    outliers = torch.arange(rows, device=DEVICE)[:, None] % 4 == 3
    picks = torch.ones(block.weight.shape, dtype=torch.bool, device=DEVICE)
    metric = METRICS[block.metric]
    with on_a_device():
        groups.smallest_of_groups(block.weight, block.factors, metric, n, m, outliers, picks)
    expected = reference_groups(block.scores().cpu().numpy(), n, m) & ~outliers.cpu().numpy()
    assert (picks.cpu().numpy() == expected).all()


@each_dtype
@pytest.mark.parametrize("name", ["thanos", "sparsegpt"])
@settings(max_examples=4)
@given(problem=problems(kinds=("unstructured", "semi-structured"), outlier_rows=False, max_rows=20))
def test_layers_are_certified_and_have_the_masks_of_the_reference(
    name: str, dtype: torch.dtype, problem: Problem
) -> None:
    W, G = (torch.from_numpy(a).to(DEVICE, dtype) for a in (problem.weight, problem.gram))
    options: dict[str, Any] = {"block_size": problem.block_size, "damping": problem.damping}
    method = {"thanos": thanos, "sparsegpt": sparsegpt}[name]
    with on_a_device():
        found = method(W, G, problem.pattern, **options)
    seen = [a.double().cpu().numpy() for a in (W, G)]
    expected = getattr(reference, name)(*seen, problem.pattern, **options)
    arithmetic = str(dtype).removeprefix("torch.")
    verdicts = [
        certify(
            seen[0].astype(arithmetic),
            seen[1].astype(arithmetic),
            pruned.weight.astype(arithmetic),
            problem.pattern,
            method=name,
            mask=pruned.mask,
            arithmetic=arithmetic,
            **options,
        )
        for pruned in (on_host(found), expected)
    ]
    assert verdicts[0].passed, verdicts[0]
    undecidable = not verdicts[1]["masks"].note.startswith("0 of the weights undecidable")
    assert undecidable or (on_host(found).mask == expected.mask).all()
    assert not found.weight[found.mask].signbit().any()


def on_host(pruned: Any) -> Any:
    """The result as NumPy arrays."""
    arrays = (pruned.weight, pruned.mask, pruned.block_losses)
    return reference.Pruned(*(a.cpu().numpy() for a in arrays))


def layer(rows: int, columns: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A layer with loud directions, a dead column, and two equal ones."""
    torch.manual_seed(3)
    X = torch.randn(columns, 3 * columns, dtype=torch.float64)
    X += 10 * torch.randn(columns, 1, dtype=torch.float64) @ torch.randn(1, 3 * columns).double()
    X[1], X[2] = 0, X[3]
    W = torch.randn(rows, columns, dtype=torch.float64)
    return W.to(DEVICE, dtype), (X @ X.T).to(DEVICE, dtype)


# Several tiles of rows, a ragged last tile, columns in several tiles of a product, a ragged block.
PATTERNS: list[Pattern] = [
    Unstructured(0.5),
    SemiStructured(3, 5, outlier_rows=0.1),
    Structured(0.3, outlier_rows=0.1),
]


@each_dtype
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_several_tiles_are_certified(pattern: Pattern, dtype: torch.dtype) -> None:
    W, G = layer(37 if dtype == torch.float64 else 133, 45, dtype)
    with on_a_device():
        found = thanos(W, G, pattern, block_size=25)
    expected = thanos(W.cpu(), G.cpu(), pattern, block_size=25)
    assert torch.equal(found.mask.cpu(), expected.mask)
    assert certified(W, G, found, pattern, 25).passed
    assert found.diagnostics.direct_rows == 0


SOME, MOST, TWO = Unstructured(0.4), Unstructured(0.7), SemiStructured(2, 4)
# File, pattern, what stands there once, and what stands there with the bug.
BUGS: list[tuple[str, Pattern, str, str]] = [
    ("smallest", MOST, "return above, rank - below, at", "return above, rank, at"),
    ("smallest", SOME, "tl.cumsum(tie.to(tl.int32), 1) <=", "tl.cumsum(tie.to(tl.int32), 1) <"),
    ("groups", TWO, "(other_place < place)", "(other_place > place)"),
    ("systems", TWO, "-mu_U", "mu_U"),
    ("systems", TWO, "right - exact_product", "left - exact_product"),
    ("sweep", TWO, "w += e[:, None]", "w -= e[:, None]"),
    ("sweep", TWO, "(other < column)", "(other > column)"),
]


@pytest.mark.parametrize(("name", "pattern", "old", "new"), BUGS, ids=str)
def test_a_bug_in_a_kernel_is_seen(
    name: str,
    pattern: Pattern,
    old: str,
    new: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a layer with equal scores in its first block, which the kernel without the bug passes."""
    W, G = torch.ones(9, 8, device=DEVICE), torch.eye(8, device=DEVICE)
    W[:, 4:], G[4:, 4:] = layer(9, 4, torch.float32)
    method = sparsegpt if name == "sweep" else thanos
    assert right(method, W, G, pattern)
    bug = planted(name, old, new, tmp_path)
    monkeypatch.setattr(f"thanos_torch.methods.with_kernels.{name}", bug)
    assert not right(method, W, G, pattern)


def right(method: Any, W: Tensor, G: Tensor, pattern: Pattern) -> bool:
    """Whether the kernels alone make a certified layer with the masks of the reference."""
    with on_a_device():
        pruned = method(W, G, pattern, block_size=4)
    found = on_host(pruned)
    seen = W.double().cpu().numpy(), G.double().cpu().numpy()
    expected = getattr(reference, method.__name__)(*seen, pattern, block_size=4)
    verdict = certify(
        W.cpu().numpy(),
        G.cpu().numpy(),
        found.weight,
        pattern,
        method=method.__name__,
        block_size=4,
        arithmetic="float32",
        mask=found.mask,
    )
    alone = pruned.diagnostics.direct_rows == 0  # a system solved badly is solved again otherwise
    return alone and bool((found.mask == expected.mask).all()) and verdict.passed


def test_unfinished_rows_are_done_again_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    W, G = layer(20, 16, torch.float32)
    monkeypatch.setattr("thanos_torch.methods.kernels.systems.PASSES", 1)
    with on_a_device():
        found = thanos(W, G, PATTERNS[0], block_size=8)
    assert found.diagnostics.direct_rows > 0
    assert certified(W, G, found, PATTERNS[0], 8).passed


def test_wide_blocks_go_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    W, G = layer(6, 24, torch.float32)
    monkeypatch.setattr("thanos_torch.methods.with_kernels.WIDEST", 7)
    for method, pattern in (
        (thanos, Unstructured(0.5)),
        (thanos, SemiStructured(1, 3)),
        (sparsegpt, SemiStructured(1, 3)),
    ):
        with on_a_device():
            found = method(W, G, pattern, block_size=12)
        expected = method(W.cpu(), G.cpu(), pattern, block_size=12)
        assert torch.equal(found.mask.cpu(), expected.mask)
        if method is thanos:
            assert certified(W, G, found, pattern, 12).passed


@pytest.mark.skipif(DEVICE != "cpu", reason="counts what the interpreter runs")
@each_dtype
def test_operations_launch_as_many_kernels_as_they_say(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget of test_launches.py rests on these numbers."""
    from triton.runtime.interpreter import GridExecutor

    from thanos_torch.methods.kernels import groups, smallest, sweep, systems

    W, G = layer(5, 4, dtype)
    launched, run = [], GridExecutor.__call__

    def counted(self: Any, *arguments: Any, **options: Any) -> None:
        launched.append(self.fn.__name__)
        run(self, *arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", counted)
    for method, pattern, expected in (
        (thanos, Unstructured(0.5), smallest.launches(dtype) + systems.launches()),
        (thanos, SemiStructured(1, 2), groups.launches() + systems.launches()),
        (sparsegpt, SemiStructured(1, 2), sweep.launches()),
    ):
        launched.clear()
        with on_a_device():
            method(W, G, pattern, block_size=4)
        assert len(launched) == expected, launched


@pytest.mark.long
def test_the_kernels_compile_and_fit_into_a_consumers_card(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.methods.compiled"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
