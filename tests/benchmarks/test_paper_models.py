"""The paper's models have the sizes that Transformers builds; the plan to repeat the paper."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reference.patterns import parse_pattern
from thanos_torch.network.layers import decoder_blocks, prunable_layers
from verification.benchmarks.pages.paper_models import page
from verification.benchmarks.quality.paper_models import (
    MODELS,
    LlamaSizes,
    OptSizes,
    PaperModel,
    meta_model,
)
from verification.benchmarks.quality.paper_plan import (
    HEADINGS,
    Protocol,
    disk_bytes,
    gpu_bytes,
    paper_models,
    plan_rows,
    prunings,
)
from verification.benchmarks.quality.plan import Run, dense_runs
from verification.benchmarks.quality.profiles import paper_studies

ROOT = Path(__file__).parents[2]


def by_label(label: str) -> PaperModel:
    return next(model for model in MODELS if model.label == label)


def counted(sizes: LlamaSizes | OptSizes) -> int:
    return sum(weight.numel() for weight in meta_model(sizes).parameters())


def test_labels_and_hub_ids_are_unique() -> None:
    assert len({model.label for model in MODELS}) == len(MODELS)
    assert len({model.hub_id for model in MODELS}) == len(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.label)
def test_sizes_give_the_parameters_and_the_layers(model: PaperModel) -> None:
    built = meta_model(model.sizes)
    assert sum(weight.numel() for weight in built.parameters()) == model.parameters
    prefix, blocks = decoder_blocks(built)
    assert len(blocks) == model.sizes.layers
    first, *_ = prunable_layers(blocks, prefix)
    expected = model.sizes.block.items()
    assert {name: layer.shape for name, layer in first.items()} == {
        f"{prefix}.0.{name}": shape for name, shape in expected
    }
    assert {columns for _, (_, columns) in expected} == set(model.sizes.gram_columns)


@pytest.mark.parametrize(
    "size", ["hidden", "intermediate", "layers", "kv_heads", "vocabulary", "tied"]
)
def test_a_wrong_size_is_seen(size: str) -> None:
    model = by_label("LLaMA-3-1B")
    right = getattr(model.sizes, size)
    wrong: Any = {size: not right if size == "tied" else right * 2}
    assert counted(replace(model.sizes, **wrong)) != model.parameters


def test_the_odd_opt_is_odd() -> None:
    sizes = by_label("OPT-350M").sizes
    assert isinstance(sizes, OptSizes)
    assert not sizes.norm_first
    usual = replace(sizes, norm_first=True, embedding=sizes.hidden)
    assert counted(usual) != counted(sizes)


def test_the_page_is_made_from_the_registry() -> None:
    assert (ROOT / "docs" / "paper-models.md").read_text(encoding="utf-8") == page()


def paper_runs(refits: bool = True) -> list[tuple[str, Run]]:
    """Everything that `thanos bench --paper` does, with the model's label."""
    return [
        (name, run)
        for name, study in paper_studies().items()
        for run in [*dense_runs(study.runs), *study.runs]
        if refits or not run.refit_steps
    ]


def test_the_plan_has_every_method_and_pattern_once_for_each_model() -> None:
    runs = paper_runs(refits=False)
    assert len(set(runs)) == len(runs) == 11 * (1 + 4 * 4 + 3)
    assert Counter(name for name, _ in runs) == {model.label: 20 for model in paper_models()}
    assert set(runs) < set(paper_runs())
    for pruning in prunings():
        assert str(parse_pattern(pruning.pattern)) == pruning.pattern


def test_the_plan_of_one_model() -> None:
    row, total = plan_rows(Protocol(), [by_label("OPT-125M")])
    assert row[0] == "OPT-125M"
    assert total[0] == "1 model"
    assert total[3:6] == row[3:6]


def test_the_plan_as_a_table() -> None:
    *rows, total = plan_rows(Protocol(), paper_models())
    assert {len(row) for row in [*rows, total]} == {len(HEADINGS)}
    assert [row[0] for row in rows][:3] == ["OPT-125M", "OPT-350M", "LLaMA-2-1.1B"]
    assert int(total[3]) == len(paper_runs())


def test_what_a_model_needs_by_hand() -> None:
    model = by_label("LLaMA-2-7B")
    assert gpu_bytes(model, Protocol()) == 2 * 6_738_415_616 + 2048 * 32000 * 6
    # Of every layer's inputs: attention and MLP read the hidden size, but for the last product.
    grams = 32 * (6 * 4096**2 + 11008**2)
    assert disk_bytes(model) == 2 * 6_738_415_616 + 4 * grams
    # A small vocabulary and a wide MLP: pruning is what takes most.
    sizes = replace(model.sizes, vocabulary=8, layers=1, hidden=64, intermediate=4096)
    wide = replace(model, parameters=0, sizes=sizes)
    block = 4 * 64 * 64 + 3 * 64 * 4096
    assert gpu_bytes(wide, Protocol()) == (
        2 * block + 4 * (3 * 64**2 + 4096**2) + 8 * (64 * 4096 + 4096**2)
    )
