"""The command `thanos bench --families`."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_families import hub
from tests.models.conftest import Thanos
from verification.benchmarks import commands
from verification.benchmarks.quality.families import FAMILIES


def test_the_command_leaves_out_what_it_cannot_reach(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub(monkeypatch, OSError("no hub"))
    measured: list[str] = []

    def measure(study: Any, *_: Any) -> bool:
        measured.append(study.name)
        raise ValueError("nothing is measured here")

    monkeypatch.setattr(commands, "_measure", measure)
    done = thanos("bench", "--families", "--out", tmp_path)
    assert re.search("left out: .*Qwen3-0.6B.*: the hub does not give it: no hub", done.out)
    assert measured == ["family-smollm2-135m-0"]
    asked = thanos("bench", "--families", "--study", "Qwen3-0.6B", "--out", tmp_path)
    assert asked.status == 1
    assert "left out: Qwen3-0.6B: the hub does not give it: no hub" in asked.err


def test_the_plan_has_a_row_for_each_model(thanos: Thanos) -> None:
    done = thanos("bench", "--families", "--dry-run")
    assert done.status == 0
    for model in FAMILIES:
        assert model.label in done.out
        assert f"{model.source}@{model.revision[:8]}".rstrip("@") in done.out
    unknown = thanos("bench", "--families", "--dry-run", "--study", "Qwen")
    assert unknown.status == 2
    assert "'Qwen'" in unknown.err


@pytest.mark.parametrize("profile", ["--standard", "--paper", "--families"])
def test_texts_of_a_hub_need_their_package_before_anything_is_measured(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda _: None)
    monkeypatch.setattr(commands, "_within_reach", pytest.fail)
    monkeypatch.setattr(commands, "_measure", pytest.fail)
    done = thanos("bench", profile, "--out", tmp_path / "out")
    assert done.status == 2
    assert "pip install 'thanos-pruning[data]'" in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()
