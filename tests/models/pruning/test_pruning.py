"""`prune_model`: block by block, in place, certified, or refused."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.tiny import (
    BLOCK_SIZE,
    llama_config,
    prune,
    random_model,
    random_windows,
)
from thanos_torch import SemiStructured, Structured, Unstructured, parse_pattern
from thanos_torch.models import (
    MASKS,
    METHODS,
    Ablation,
    LayerRecord,
    ModelReport,
    PrunedLayer,
    RunState,
    load_model,
    prune_model,
    read_masks,
    relative_error,
    save_checkpoint,
)
from thanos_torch.network.layers import PrunableLayer
from thanos_torch.pruning.one_layer import store_weight
from verification import certify

HALF = Unstructured(0.5)


@pytest.mark.parametrize("pattern", ["unstructured:0.5", "1:2", "structured:0.25"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_pattern_is_certified(method: str, pattern: str) -> None:
    model = random_model(llama_config())
    report = prune(model, parse_pattern(pattern), method=method)
    assert report.verified
    for record in report.layers:
        assert record.certificate is not None
        assert record.certificate["method"] == method
        layer = model.get_submodule(record.name)
        mask = report.masks[record.name].unpacked()
        assert record.removed == int(mask.sum()) > 0
        assert not layer.weight[mask].any()
        assert layer.weight[~mask].all()
    assert report.sparsity == {"u": 0.5, "1": 0.5, "s": 0.25}[pattern[0]]


@pytest.mark.parametrize("pattern", [SemiStructured(2, 4, 0.1), Structured(0.2, 0.2)], ids=str)
def test_outlier_rows_stay(pattern: SemiStructured | Structured) -> None:
    model = random_model(llama_config())
    dense = copy.deepcopy(model)
    report = prune(model, pattern)
    assert report.verified
    for record in report.layers:
        same = model.get_submodule(record.name).weight == dense.get_submodule(record.name).weight
        assert same.all(dim=1).sum() == pattern.outliers(record.shape[0])


def test_refit_lowers_the_error_and_is_certified() -> None:
    plain = prune(random_model(llama_config(num_hidden_layers=1)))
    refitted = prune(random_model(llama_config(num_hidden_layers=1)), refit_steps=10)
    assert refitted.verified
    assert refitted.relative_error < plain.relative_error
    for record in refitted.layers:
        assert record.certificate is not None
        assert any(check["name"].startswith("refit") for check in record.certificate["checks"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_hold_the_rounded_certified_weights(dtype: torch.dtype) -> None:
    model = random_model(llama_config(), dtype)
    results: dict[str, Tensor] = {}
    report = prune(model, on_layer=lambda layer: results.update({layer.name: layer.pruned.weight}))
    assert report.verified
    for name, result in results.items():
        weight = model.get_submodule(name).weight
        assert result.dtype == torch.float32
        assert weight.dtype == dtype
        assert not torch.equal(weight.float(), result)
        assert torch.equal(weight, result.to(dtype))


def test_double_precision_models_keep_all_digits() -> None:
    model = random_model(llama_config(), torch.float64)
    dense = copy.deepcopy(model)
    report = prune(model, method="magnitude")
    assert report.verified
    for record in report.layers:
        before, after = (m.get_submodule(record.name).weight for m in (dense, model))
        assert torch.equal(after, torch.where(after == 0, 0.0, before))
    assert prune(dense).verified  # Thanos, certified against the float64 threshold


def test_layers_see_their_dense_weight() -> None:
    model = random_model(llama_config())
    dense = copy.deepcopy(model)
    seen: list[PrunedLayer] = []
    report = prune(model, on_layer=seen.append)
    assert [layer.name for layer in seen] == [record.name for record in report.layers]
    for layer, record in zip(seen, report.layers, strict=True):
        assert torch.equal(layer.weight, dense.get_submodule(layer.name).weight)
        error = relative_error(layer.weight, layer.pruned.weight, layer.gram)
        assert record.relative_error == error > 0


def test_relative_error_of_a_hand_computed_layer() -> None:
    weight, pruned = torch.tensor([[3.0, 1.0]]), torch.tensor([[3.0, 0.0]])
    gram = torch.tensor([[1.0, 0.0], [0.0, 7.0]])
    assert relative_error(weight, pruned, gram) == 7 / 16
    assert relative_error(weight, pruned, torch.zeros(2, 2)) == 0


def test_the_judge_is_certify_if_none_is_named_and_a_pattern_may_be_text() -> None:
    named, plain = (random_model(llama_config()) for _ in range(2))
    report = prune_model(named, random_windows(), HALF, judge=certify, block_size=BLOCK_SIZE)
    found = prune_model(plain, random_windows(), "unstructured:0.5", block_size=BLOCK_SIZE)
    assert found.verified
    for one, other in zip(found.layers, report.layers, strict=True):
        assert one.certificate is not None
        assert other.certificate is not None
        assert {**one.certificate, "seconds": 0} == {**other.certificate, "seconds": 0}
    with pytest.raises(ValueError, match=r"pattern must look like .* got 'half'"):
        prune_model(plain, random_windows(), "half")


def test_without_a_judge_nothing_counts_as_verified() -> None:
    report = prune(random_model(llama_config()), judge=None)
    assert all(record.certificate is None for record in report.layers)
    assert not report.verified


ABLATIONS = [
    Ablation(adaptive=False),
    Ablation(residual="local"),
    Ablation(update="sequential"),
    Ablation(metric="magnitude"),
    Ablation(metric="obs"),
    Ablation(outlier_score="wanda"),
]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: str(ablation.changed()))
def test_an_ablation_reaches_the_layers_and_their_judge(ablation: Ablation) -> None:
    pattern = parse_pattern("2:4+outliers:0.2" if ablation.outlier_score == "wanda" else str(HALF))
    config = llama_config(num_hidden_layers=1)
    told: list[dict[str, Any]] = []

    def listening(*args: Any, **options: Any) -> Any:
        told.append(options)
        return certify(*args, **options)

    report = prune(random_model(config), pattern, judge=listening, ablation=ablation)
    assert report.verified
    for options, record in zip(told, report.layers, strict=True):
        assert ablation.changed().items() <= options.items()
        assert record.options["ablation"] == ablation.changed()

    def unaware(*args: Any, **options: Any) -> Any:
        plain = {key: value for key, value in options.items() if key not in ablation.changed()}
        return certify(*args, **plain)

    assert not prune(random_model(config), pattern, judge=unaware, ablation=ablation).verified


def test_the_papers_algorithm_has_no_ablation_in_its_record() -> None:
    report = prune(random_model(llama_config(num_hidden_layers=1)), judge=None)
    assert all("ablation" not in record.options for record in report.layers)


def test_the_judge_is_told_the_mask_and_the_losses() -> None:
    told: list[dict[str, Any]] = []

    def listening(*args: Any, **options: Any) -> Any:
        told.append(options)
        return certify(*args, **options)

    report = prune(random_model(llama_config()), judge=listening)
    assert len(told) == len(report.layers)
    for options, record in zip(told, report.layers, strict=True):
        assert (options["mask"] == report.masks[record.name].unpacked().numpy()).all()
        assert len(options["block_losses"]) == -(-record.shape[1] // options["block_size"])


def test_what_is_not_decidable_is_neither_passed_nor_failed() -> None:
    open_one = {"passed": False, "verdict": "not decidable"}
    layers = [
        LayerRecord("a", (2, 2), certificate={"passed": True}, stored_exactly=True),
        LayerRecord("b", (2, 2), certificate=open_one, stored_exactly=True),
        LayerRecord("c", (2, 2), left_dense="excluded", asked_dense=True),
        LayerRecord("d", (2, 2), left_dense="no calibration token reached it"),
        LayerRecord("e", (2, 2), certificate={"passed": True}, stored_exactly=False),
    ]
    assert [layer.verdict for layer in layers] == [
        "passed",
        "not decidable",
        "dense, as asked",
        "failed",
        "failed",
    ]
    assert ModelReport(layers, [], {}, {}).verdict == "failed"
    report = ModelReport(layers[:3], [], {}, {})
    assert (report.verdict, report.verified) == ("not decidable", False)
    assert ModelReport(layers[:3:2], [], {}, {}).verified


def test_weights_that_the_model_cannot_hold_are_refused() -> None:
    linear = nn.Linear(2, 1, dtype=torch.float16)
    layer = PrunableLayer("some.layer", "some.layer.weight", linear)
    before = layer.read()
    with pytest.raises(ValueError, match=r"some.layer: pruned weights are not finite in torch.flo"):
        store_weight(layer, torch.tensor([[1e6, 0.0]]))
    assert torch.equal(linear.weight, before)


def test_a_folder_of_masks_is_saved_as_the_masks_in_it(dense: Path, tmp_path: Path) -> None:
    loaded = load_model(str(dense))
    masks = prune(loaded.model).masks
    save_checkpoint(loaded, tmp_path / "first", record={}, masks=masks)
    save_checkpoint(loaded, str(tmp_path / "second"), record={}, masks=str(tmp_path / "first"))
    found = read_masks(tmp_path / "second" / MASKS)
    assert found.keys() == masks.keys()
    assert all((found[name].bits == mask.bits).all() for name, mask in masks.items())


def test_the_report_is_json() -> None:
    report = prune(random_model(llama_config()))
    record = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert record["verified"] is True
    assert len(record["layers"]) == 21
    assert record["layers"][1]["shape"] == [8, 16]
    assert set(record["seconds"]) == {"calibration", "gram", "pruning", "errors", "certificates"}
    assert all(seconds > 0 for seconds in record["seconds"].values())


def test_progress_goes_to_the_end() -> None:
    steps: list[RunState] = []
    prune(random_model(llama_config()), progress=steps.append)
    assert [step.layers for step in steps] == sorted(step.layers for step in steps)
    last = steps[-1]
    assert (last.note, last.layers, last.of_layers, last.blocks) == ("done", 21, 21, 3)
    assert [step.finished for step in steps if step.finished is not None] == [7, 7, 7]


def a_quantised_layer(model: Any) -> None:
    weight = torch.zeros(16, 16, dtype=torch.int8)
    model.model.layers[2].self_attn.q_proj.weight = nn.Parameter(weight, requires_grad=False)


def a_shared_weight(model: Any) -> None:
    blocks = model.model.layers
    blocks[1].mlp.up_proj.weight = blocks[0].mlp.up_proj.weight


def untouched(model: Any) -> None:
    """The model is fine, the arguments are not."""


REFUSALS: dict[str, tuple[Any, Callable[[Any], None], dict[str, Any], str]] = {
    "pattern does not fit": (
        SemiStructured(2, 5),
        untouched,
        {},
        r"layers.0.*m = 5 does not divide",
    ),
    "block size does not fit": (SemiStructured(2, 4), untouched, {"block_size": 6}, "block_size"),
    "too many columns": (Structured(0.9, 0.5), untouched, {}, r"layers.0.*sparsity = 0.9"),
    "unknown switch": (
        HALF,
        untouched,
        {"ablation": Ablation(residual="near")},
        "residual must be one of global, local, got 'near'",
    ),
    "block size": (HALF, untouched, {"block_size": 0}, "block_size must be at least 1, got 0"),
    "refit": (HALF, untouched, {"refit_steps": -1}, "refit_steps must not be negative, got -1"),
    "seqlen": (HALF, untouched, {"windows": random_windows(1, 65)}, "seqlen must be at most 64"),
    "quantised": (HALF, a_quantised_layer, {}, r"layers.2.self_attn.q_proj holds torch.int8"),
    "shared": (HALF, a_shared_weight, {}, r"1.mlp.up_proj and .*0.mlp.up_proj share one weight"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_before_anything_changes(case: str) -> None:
    pattern, spoil, options, message = REFUSALS[case]
    model = random_model(llama_config())
    spoil(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        prune(model, pattern, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM has no prunable layers: no list of dec"):
        prune(random_model(llama_config(num_hidden_layers=0)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_calibration_that_is_not_finite_names_the_layer(value: float) -> None:
    model = random_model(llama_config())
    model.model.layers[1].post_attention_layernorm.weight.data[3] = value
    with pytest.raises(ValueError, match=r"input of model.layers.1.mlp.gate_proj: .* column"):
        prune(model)


def test_weights_that_are_not_finite_name_the_layer() -> None:
    model = random_model(llama_config())
    model.model.layers[0].mlp.down_proj.weight.data[1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"layers.0.mlp.down_proj: weight must be finite"):
        prune(model)
