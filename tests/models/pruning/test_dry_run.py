"""`thanos prune --dry-run`: its counts are those of the real run, and it touches nothing."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from tests.models.families import FAMILIES
from thanos_torch import parse_pattern
from thanos_torch.models import METHODS, RECORD, LayerOptions, Rules, load_model, prune_model
from thanos_torch.network.grams import InputGrams
from thanos_torch.network.layers import model_layers
from thanos_torch.pruning.cost import Speed, time_parts
from thanos_torch.pruning.dry_run import memory_parts, meta_model, planned_layers
from thanos_torch.runtime.clock import Stopwatch

RECIPE = """
pattern = "unstructured:0.55"
block_size = 8
[[rules]]
layers = "*.up_proj"
pattern = "2:4+outliers:0.1"
[[rules]]
layers = "*.down_proj"
pattern = "structured:0.3+outliers:0.1"
[[rules]]
layers = "*.k_proj"
method = "wanda"
[[rules]]
layers = "*.0.*"
pattern = "dense"
"""


def test_counts_are_those_of_the_real_run(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE)
    command = ("prune", dense, "--recipe", "recipe.toml", *SMALL)
    plan = thanos(*command, "--dry-run")
    assert plan.status == 0, plan.err
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.toml"]
    assert plan.out.count("ESTIMATED") == 2
    assert "Nothing was loaded, nothing was written." in plan.out
    assert thanos(*command, "--out", "out").status == 0
    record = json.loads(Path("out", RECORD).read_text())
    total = sum(layer["removed"] for layer in record["layers"])
    said = re.search(r"([\d,]+) of ([\d,]+) weights", plan.out)
    assert said
    assert int(said[1].replace(",", "")) == total > 0

    rules = Rules(LayerOptions(parse_pattern("2:4"), block_size=8), exclude=("*.0.*",))
    layers = planned_layers(meta_model(str(dense)), rules)
    report = prune_model(load_model(str(dense)).model, tiny.random_windows(), rules, judge=None)
    found = [(record.name, record.shape, record.removed) for record in report.layers]
    assert [(layer.name, layer.shape, layer.removed) for layer in layers] == found


PATTERNS = ("unstructured:0.35", "1:4", "structured:0.3")


@pytest.mark.parametrize("pattern", [*PATTERNS, "1:4+outliers:0.3", "structured:0.3+outliers:0.3"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_removes_what_is_counted(method: str, pattern: str) -> None:
    options = LayerOptions(parse_pattern(pattern), method, block_size=4)
    if "outliers" in pattern and method != "thanos":
        with pytest.raises(ValueError, match="outlier_rows"):
            options.check()
        return
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 12, generator=generator)
    inputs = torch.randn(12, 40, generator=generator)
    pruned, _ = options.prune(weight, inputs @ inputs.T)
    assert options.removed((7, 12)) == int(pruned.mask.sum()) > 0


@pytest.mark.parametrize("family", ["Llama", "OPT", "GPT-NeoX", "Gemma 3", "GPT-2", "Phi-3"])
def test_shared_inputs_are_those_of_a_real_pass(family: str, tmp_path: Path) -> None:
    model = tiny.random_model(FAMILIES[family].config)
    model.save_pretrained(tmp_path)
    planned = planned_layers(meta_model(str(tmp_path)), Rules(LayerOptions(parse_pattern("1:2"))))
    watch = Stopwatch("cpu", ("gram",))
    with torch.no_grad(), InputGrams(model_layers(model), watch) as grams:
        model(tiny.random_windows(1))
    assert {layer.reads for layer in planned} == set(grams.grams)


def test_the_default_model_needs_no_download(
    thanos: Thanos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    done = thanos("prune", "--pattern", "2:4", "--dry-run")
    assert done.status == 0
    assert (
        "53,084,160 of 106,202,880 weights in the decoder blocks (49.98%) would be removed, "
        "50.00% of those in pruned layers." in done.out
    )
    assert not list(tmp_path.iterdir())


def test_the_default_model_is_planned_as_it_is() -> None:
    planned = {name: weight.shape for name, weight in meta_model("smollm2-135m").named_parameters()}
    real = {name: weight.shape for name, weight in load_model().model.named_parameters()}
    assert planned == real


def test_estimates_grow_with_what_they_depend_on(dense: Path) -> None:
    model = meta_model(str(dense))
    speed = Speed(1e9, 1e9, 1e9)
    plain = planned_layers(model, Rules(LayerOptions(parse_pattern("2:4"))))
    wanda = planned_layers(model, Rules(LayerOptions(parse_pattern("2:4"), "wanda")))
    seconds = time_parts(plain, 1024, 64, speed)
    assert time_parts(wanda, 1024, 64, speed)["pruning"] < seconds["pruning"]
    assert time_parts(plain, 2048, 64, speed)["gram"] == pytest.approx(2 * seconds["gram"])
    # Per block: q, k, v share 16 columns, gate and up too, o has 16 and down 24.
    grams = memory_parts(model, plain, 1024)["Gram matrices of a block"]
    assert grams == 4 * (3 * 16**2 + 24**2)
    on_cpu, on_gpu = (memory_parts(model, plain, 1024, device=kind) for kind in ("cpu", "cuda"))
    assert on_gpu.keys() - on_cpu.keys() == {"next block", "results of a block"}
    assert 2 * on_gpu["next block"] == on_gpu["block"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--device", "abacus"), "'abacus'"),
        (("--include", "*.qproj"), "near misses: *.q_proj"),
        (("--nsamples", 0), "nsamples must be at least 1, got 0"),
        (("--seqlen", 0), "seqlen must be at least 1, got 0"),
        (("--activations", "tape"), "activations must be disk or memory, got 'tape'"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    thanos: Thanos, dense: Path, changes: tuple[object, ...], message: str
) -> None:
    done = thanos("prune", dense, "--pattern", "2:4", "--dry-run", *SMALL, *changes)
    assert done.status in (1, 2)
    assert message in " ".join(done.err.split())


def test_only_a_dry_run_needs_no_folder(thanos: Thanos, dense: Path) -> None:
    done = thanos("prune", dense, "--pattern", "2:4")
    assert done.status == 2
    assert "--out" in done.err
