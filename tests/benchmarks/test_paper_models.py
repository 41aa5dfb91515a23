"""The paper's models have the sizes that Transformers builds; the plan to repeat the paper."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reference.patterns import parse_pattern
from thanos_torch.network.layers import decoder_blocks, prunable_layers
from verification.benchmarks.pages.paper_models import PAPER_MODELS
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.quality.paper_models import MODELS, PaperModel
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


def by_label(label: str) -> PaperModel:
    return next(model for model in MODELS if model.label == label)


def varied(model: PaperModel, **config: Any) -> PaperModel:
    """The model with other values in its config."""
    return replace(model, config={**model.config, **config})


def built(model: PaperModel) -> Any:
    """The model on the meta device, without weights."""
    with torch.device("meta"):
        config = AutoConfig.for_model(model.model_type, **model.config)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float16)


def counted(model: PaperModel) -> int:
    return sum(weight.numel() for weight in built(model).parameters())


def test_labels_and_hub_ids_are_unique() -> None:
    assert len({model.label for model in MODELS}) == len(MODELS)
    assert len({model.hub_id for model in MODELS}) == len(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.label)
def test_configs_give_the_parameters_and_the_layers(model: PaperModel) -> None:
    made = built(model)
    assert sum(weight.numel() for weight in made.parameters()) == model.parameters
    blocks = decoder_blocks(made)
    assert len(blocks) == model.layers
    first, *_ = prunable_layers(blocks)
    assert [layer.shape for layer in first.values()] == model.block
    assert {columns for _, columns in model.block} == set(model.gram_columns)


@pytest.mark.parametrize(
    "size", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads",
             "vocab_size", "tie_word_embeddings"]
)  # fmt: skip
def test_a_wrong_value_changes_the_parameters(size: str) -> None:
    model = by_label("LLaMA-3-1B")
    wrong = False if size == "tie_word_embeddings" else 2 * model.config[size]
    assert counted(varied(model, **{size: wrong})) != model.parameters


def test_the_odd_opt_is_odd() -> None:
    model = by_label("OPT-350M")
    usual = varied(model, do_layer_norm_before=True, word_embed_proj_dim=model.hidden)
    assert counted(usual) != counted(model)


def test_the_page_has_a_row_for_every_model(tmp_path: Path) -> None:
    identity, sizes, plan = (table(Results(tmp_path)) for table in PAPER_MODELS.tables.values())
    for model in MODELS:
        assert f"| {model.label} | `{model.hub_id}` | {model.licence} |" in identity
        assert f"| {model.label} | `{model.config_read_in}` | {model.layers} |" in sizes
        assert (f"| {model.label} |" in plan) == (model in paper_models())


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
    # Every layer has a Gram matrix on disk: six layers read the hidden size, one the MLP's width.
    grams = 32 * (6 * 4096**2 + 11008**2)
    assert disk_bytes(model) == 2 * 6_738_415_616 + 4 * grams
    # With a small vocabulary and a wide MLP, pruning takes more than evaluation.
    sizes = {"vocab_size": 8, "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 4096}
    wide = replace(varied(model, **sizes), parameters=0)
    block = 4 * 64 * 64 + 3 * 64 * 4096
    assert gpu_bytes(wide, Protocol()) == (
        2 * block + 4 * (3 * 64**2 + 4096**2) + 8 * (64 * 4096 + 4096**2)
    )
