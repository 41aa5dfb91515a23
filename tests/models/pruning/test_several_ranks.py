"""Models that several ranks prune together."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models import tiny
from tests.models.families import FAMILIES
from tests.models.processes import on_ranks
from thanos_torch.models import ModelReport, PrunedLayer, Ranks, prune_model

LLAMA = tiny.llama_config()
EXPERTS = FAMILIES["Mixtral"].config
PATTERNS = ["unstructured:0.5", "2:4+outliers:0.1", "structured:0.25"]


def prune(config: Any, windows: Tensor, ranks: Ranks, **options: Any) -> dict[str, Any]:
    """What came of the model: its report and weights, and the layers that a caller saw."""
    model = tiny.random_model(config)
    seen: list[PrunedLayer] = []
    report = prune_model(
        model,
        windows,
        block_size=tiny.BLOCK_SIZE,
        on_layer=seen.append,
        ranks=ranks,
        **options,
    )
    return {"report": report, "weights": model.state_dict(), "seen": seen}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def without_times(report: ModelReport) -> list[dict[str, Any]]:
    layers = [layer.as_dict() | {"seconds": 0, "rank": 0} for layer in report.layers]
    for layer in layers:
        layer["certificate"] = {**layer["certificate"], "seconds": 0}
    return layers


@pytest.mark.parametrize(("count", "pattern"), [*zip([3, 2, 3], PATTERNS, strict=True)])
def test_same_gram_matrices_give_the_same_bits(count: int, pattern: str, tmp_path: Path) -> None:
    # One window cannot be split: the sums over ranks are those of one process.
    windows = tiny.random_windows(1)
    options = {"pattern": pattern, "refit_steps": 2}
    alone = prune(LLAMA, windows, Ranks(), **options)
    results = on_ranks(count, lambda ranks: prune(LLAMA, windows, ranks, **options), tmp_path)
    for result in results:
        assert differing(alone["weights"], result["weights"]) == []
        assert without_times(result["report"]) == without_times(alone["report"])
        assert {layer.rank for layer in result["report"].layers} == set(range(count))
    first, *others = results
    assert [bool(other["seen"] or other["report"].masks) for other in others] == [False] * (
        count - 1
    )
    for mine, shown in zip(alone["seen"], first["seen"], strict=True):
        assert mine.name == shown.name
        for tensor in ("weight", "gram", "before_refit"):
            assert torch.equal(getattr(mine, tensor), getattr(shown, tensor))
        for tensor in ("weight", "mask", "block_losses"):
            assert torch.equal(getattr(mine.pruned, tensor), getattr(shown.pruned, tensor))
        assert mine.pruned.diagnostics == shown.pruned.diagnostics
    for name, mask in alone["report"].masks.items():
        assert (mask.bits == first["report"].masks[name].bits).all()


@pytest.mark.parametrize("config", [LLAMA, EXPERTS], ids=["llama", "experts"])
@pytest.mark.parametrize("count", [2, 3])
def test_split_calibration_differs_by_rounding_alone(
    count: int, config: Any, tmp_path: Path
) -> None:
    windows = tiny.random_windows(7)
    alone = prune(config, windows, Ranks(), pattern="unstructured:0.5")
    results = on_ranks(
        count, lambda ranks: prune(config, windows, ranks, pattern="unstructured:0.5"), tmp_path
    )
    for result in results:
        assert differing(results[0]["weights"], result["weights"]) == []
        assert result["report"].verified == alone["report"].verified
        assert [r.left_dense for r in result["report"].layers] == [
            r.left_dense for r in alone["report"].layers
        ]
    for mine, shown in zip(alone["seen"], results[0]["seen"], strict=True):
        # Sums of a few hundred products in another order.
        assert torch.allclose(mine.gram, shown.gram, rtol=1e-4, atol=1e-4 * mine.gram.max())
    masks = [result["report"].masks for result in (alone, results[0])]
    unequal = sum(int((masks[0][n].bits != masks[1][n].bits).sum()) for n in masks[0])
    assert unequal <= 2, "bytes of masks that differ"
    shares = results[0]["report"].as_dict()["ranks"]
    assert sum(share["layers"] for share in shares) == len(masks[0])
    assert sum(share["batches"] for share in shares) >= count
    assert all(share["seconds"]["calibration"] > 0 for share in shares)


def test_what_one_rank_finds_ends_all(tmp_path: Path) -> None:
    windows = tiny.random_windows(2)

    def work(ranks: Ranks) -> object:
        model = tiny.random_model(LLAMA)
        with torch.no_grad():
            model.model.layers[1].mlp.gate_proj.weight[0, 0] = float("inf")
        return prune_model(model, windows, "unstructured:0.5", judge=None, ranks=ranks)

    errors = on_ranks(2, work, tmp_path)
    assert {type(error) for error in errors} == {ValueError}
    assert str(errors[0]) == str(errors[1])
    assert "model.layers.1.mlp" in str(errors[0])
