"""`thanos bench --families`: what it plans, and what it does about models that are out of reach."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from reference.patterns import SemiStructured, parse_pattern
from thanos_torch.models import accept_terms
from thanos_torch.runtime.downloads import CACHE_VARIABLE
from verification.benchmarks.pages.studies import PARTS
from verification.benchmarks.quality import families
from verification.benchmarks.quality.families import FAMILIES, FamilyModel, family_runs
from verification.benchmarks.quality.paper_plan import METHODS
from verification.benchmarks.quality.profiles import family_parts, family_studies

BY_LABEL = {model.label: model for model in FAMILIES}
NARROW, WIDE = BY_LABEL["SmolLM2-135M"], BY_LABEL["Qwen3-0.6B"]


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Have every question about a model on a hub answered so."""

    def model_info(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in answer])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.label)
def test_every_run_fits_the_model(model: FamilyModel) -> None:
    runs = [run for study in family_studies(model) for run in study.runs]
    assert len(set(runs)) == len(runs)
    for run in runs:
        pattern = parse_pattern(run.pattern)
        assert str(pattern) == run.pattern
        if isinstance(pattern, SemiStructured):
            assert all(width % pattern.m == 0 for width in model.widths)
            assert run.block_size % pattern.m == 0


def test_every_method_meets_every_pattern_on_every_draw() -> None:
    runs = [run for seed in families.SEEDS for run in family_runs(NARROW, seed)]
    draws = Counter((run.method, run.pattern) for run in runs)
    for pattern in families.PATTERNS:
        counts = [draws[method, pattern] for method in METHODS]
        assert counts == [1, 3, 3, 3]  # magnitude reads no calibration text


def test_groups_of_six_run_only_where_they_fit() -> None:
    sixes = [run for run in family_runs(NARROW, 0) if run.pattern == "2:6"]
    assert [(run.method, run.block_size) for run in sixes] == [("sparsegpt", 96), ("thanos", 96)]
    assert not any(run.pattern == "2:6" for run in family_runs(WIDE, 0))


def test_pages_find_the_results_of_every_model() -> None:
    for model in FAMILIES:
        assert PARTS[model.study] == family_parts(model)
        assert len(family_parts(model)) == len(families.SEEDS)


@pytest.mark.parametrize(
    ("model", "answer", "reason"),
    [
        (NARROW, OSError("nobody asks"), ""),
        (WIDE, ["config.json", "model-00001-of-00002.safetensors"], ""),
        (WIDE, ["config.json", "pytorch_model.bin"], "it has only .*pytorch_model.bin"),
        (WIDE, OSError("no route to host\nand more"), "no route to host$"),
        (WIDE, OSError(), "OSError$"),
        (BY_LABEL["OPT-125M"], ["model.safetensors"], "no safetensors"),
    ],
)
def test_models_out_of_reach_have_a_reason(
    monkeypatch: pytest.MonkeyPatch, model: FamilyModel, answer: Any, reason: str
) -> None:
    hub(monkeypatch, answer)
    found = families.out_of_reach(model)
    assert re.search(reason, found) if reason else found == ""


def test_terms_that_were_not_accepted_are_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    gemma = BY_LABEL["Gemma-3-270M"]
    assert "--accept-gemma-terms" in families.out_of_reach(gemma)
    accept_terms(gemma.source)
    assert families.out_of_reach(gemma) == ""
