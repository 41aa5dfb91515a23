"""The end of `thanos prune`: perplexity before and after, and what to do next."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2_5_VLConfig

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.cli import prune_end
from thanos_torch.models import RECORD, load_model, perplexity


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune_end, "EVALUATION_WINDOWS", 3)


@pytest.mark.parametrize("name", ["my 'first' model", "-x"])
def test_the_commands_that_it_names_work(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = thanos("prune", dense, "--pattern", "2:4", f"--out={name}", *SMALL)
    assert done.status == 0
    measure, look, load = (line.partition(":")[2].strip() for line in done.out.splitlines()[-3:])
    words = shlex.split(measure)
    assert words[:2] == ["thanos", "eval"]
    assert words[3:] == ["--dataset", str(tiny.TEXT), "--seqlen", "32"]
    assert thanos(*words[1:], "--max-windows", 2).status == 0
    assert thanos(*shlex.split(look)[1:]).status == 0
    names: dict[str, Any] = {}
    exec(load, names)
    assert type(names["model"]).__name__ == "LlamaForCausalLM"
    shown_again = thanos("prune", dense, "--pattern", "2:4", f"--out={name}", *SMALL)
    assert shown_again.out.splitlines()[-3:] == done.out.splitlines()[-3:]


def test_the_defaults_of_eval_are_not_repeated(
    dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {"dataset": "pydoc", "nsamples": 9, "seqlen": 512, "column": "body", "chat": True}
    how = prune_end.PerplexityComparison(text, "cpu", trust_remote_code=True)
    said: list[str] = []
    monkeypatch.setattr(prune_end, "say", said.append)
    prune_end.say_next(dense, how)
    assert said[0].endswith(f"thanos eval {dense} --column body --chat --trust-remote-code")
    assert said[2].endswith(
        f"AutoModelForCausalLM.from_pretrained('{dense}', trust_remote_code=True)"
    )


def test_a_model_of_text_and_images_is_loaded_by_its_own_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["Qwen2_5_VLForConditionalGeneration"]
    Qwen2_5_VLConfig(architectures=names).save_pretrained(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(prune_end, "say", said.append)
    how = prune_end.PerplexityComparison({}, "cpu", trust_remote_code=False)
    prune_end.say_next(tmp_path, how)
    assert "import AutoModelForImageTextToText; model = AutoModelForImageTextToText." in said[2]


@pytest.mark.usefixtures("short")
def test_perplexity_before_and_after(thanos: Thanos, dense: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "summary.json"
    command = ("prune", dense, "--pattern", "2:4", "--out", out, *SMALL)
    done = thanos(*command, "--eval", "--json", file)
    assert done.status == 0
    told = json.loads(file.read_text())
    assert (told["exit_status"], told["verdict"], told["sparsity"]) == (0, "passed", 0.5)
    assert told["record"] == str(out / RECORD)
    measured = told["perplexity"]
    assert measured["text"]["part"] == "evaluation"
    windows = tiny_windows(dense)
    for source, when in ((dense, "before"), (out, "after")):
        found = perplexity(load_model(str(source)).model, windows)
        assert measured[when]["window_losses"] == found.window_losses
        assert f"{found.perplexity:,.2f}" in done.out
    assert "The file was calibrated on too" in done.out
    # It changes nothing of the result, and can be asked for later.
    again = thanos(*command, "--eval")
    assert again.status == 0
    assert "holds the result of this very run already" in again.out
    assert [line for line in done.out.splitlines() if "text.txt  " in line] == [
        line for line in again.out.splitlines() if "text.txt  " in line
    ]


def tiny_windows(dense: Path) -> Any:
    from thanos_torch.models import evaluation_windows

    tokenizer = load_model(str(dense)).tokenizer
    return evaluation_windows(tokenizer, str(tiny.TEXT), seqlen=32, limit=3).ids


@pytest.mark.usefixtures("short")
def test_a_text_without_an_evaluation_part_is_refused_before_the_work(
    thanos: Thanos, dense: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.txt").write_text(tiny.TEXT.read_text())
    command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    done = thanos(*command, "--dataset", tmp_path / "text", "--eval")
    assert done.status == 1
    assert "has no text for evaluation" in done.err
    assert [each.name for each in tmp_path.iterdir()] == ["text"]


def test_a_model_without_a_perplexity_is_refused_before_the_work(
    thanos: Thanos, tmp_path: Path
) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    config = json.loads((dense / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    (dense / "config.json").write_text(json.dumps(config))
    command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    done = thanos(*command, "--eval")
    assert (done.status, done.out) == (1, "")
    assert "LlamaForSequenceClassification" in done.err
    assert [each.name for each in tmp_path.iterdir()] == ["dense"]


@pytest.mark.usefixtures("short")
def test_a_perplexity_that_cannot_be_measured_keeps_the_result(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("perplexity is not finite")

    monkeypatch.setattr(prune_end, "measure_model", broken)
    file = tmp_path / "summary.json"
    done = thanos(
        "prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL, "--eval",
        "--json", file,
    )  # fmt: skip
    assert done.status == 1
    assert "Perplexity could not be measured: perplexity is not finite." in done.out
    assert "every layer certified" in done.out
    assert json.loads(file.read_text())["perplexity"] is None
    assert (tmp_path / "out" / RECORD).is_file()
