"""The small models: what they are, and that training them does what its record says."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from thanos_torch.models import evaluation_windows, load_model, perplexity
from verification.benchmarks.small_models.corpus import (
    Texts,
    read_texts,
    train_tokenizer,
    unigram_perplexity,
)
from verification.benchmarks.small_models.families import FAMILIES, family_config, new_model
from verification.benchmarks.small_models.run import RECORD, train_family
from verification.benchmarks.small_models.training import Schedule, train
from verification.benchmarks.studies.small import architecture_runs

TINY: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 300}
TINY |= {"intermediate_size": 32}
SHORT = Schedule(steps=25, warmup_steps=5, seqlen=32)
CLASSES = ("OPTForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM", "GPTNeoXForCausalLM")
KEYS = {
    *("command", "commit", "date", "python", "versions", "machine", "asked", "architecture"),
    *("parameters", "config", "text", "held_out", "steps", "tokens", "seconds", "curve"),
    *("stopped_by", "epochs", "perplexity", "unigram_perplexity", "ratio", "well_below_unigram"),
}


@pytest.fixture(scope="module")
def texts() -> Texts:
    return read_texts(["pydoc"])


@pytest.fixture(scope="module")
def trained(texts: Texts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "qwen3"
    train_family("qwen3", texts, SHORT, out, "test", **TINY)
    return out


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return record


@pytest.mark.parametrize(("family", "name"), list(zip(FAMILIES, CLASSES, strict=True)))
def test_a_family_is_its_own_class_with_2_to_5_million_parameters(family: str, name: str) -> None:
    with torch.device("meta"):
        model = new_model(family_config(family), 0)
    assert type(model).__name__ == name
    assert 2e6 <= sum(weight.numel() for weight in model.parameters()) <= 5e6


def test_training_lowers_the_loss(trained: Path) -> None:
    record = record_of(trained)
    losses = [loss for _, loss in record["curve"]]
    assert math.exp(losses[0]) > 250  # knows nothing of 300 tokens
    assert sum(losses[-5:]) / 5 < losses[0] - 0.3
    assert record["curve"][-1][0] == record["steps"] == 25
    assert record["tokens"] == 25 * 4 * 32
    assert record["stopped_by"] == "steps"


def test_the_record_has_its_keys_and_adds_up(trained: Path) -> None:
    record = record_of(trained)
    assert set(record) == KEYS
    assert record["ratio"] == record["perplexity"] / record["unigram_perplexity"]
    assert record["well_below_unigram"] == (record["ratio"] <= 0.5)
    assert not record["well_below_unigram"]  # nobody learns English in 25 steps
    assert record["config"]["hidden_size"] == 16
    assert record["text"]["held_out_overlap"] == 0


def test_the_folder_is_a_checkpoint_with_the_recorded_perplexity(trained: Path) -> None:
    loaded = load_model(str(trained))
    windows = evaluation_windows(loaded.tokenizer, "pydoc", seqlen=32, limit=128)
    record = record_of(trained)
    assert windows.provenance() == record["held_out"]
    assert perplexity(loaded.model, windows.ids).perplexity == record["perplexity"]


def test_the_same_seed_gives_the_same_model_bit_for_bit(
    texts: Texts, trained: Path, tmp_path: Path
) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    train_family("qwen3", texts, SHORT, again, "test", **TINY)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()
    seeded = Schedule(**{**record_of(trained)["asked"]["schedule"], "seed": 1})
    train_family("qwen3", texts, seeded, other, "test", **TINY)
    assert (other / "model.safetensors").read_bytes() != (again / "model.safetensors").read_bytes()


def test_a_finished_training_is_not_repeated_and_not_written_over(
    texts: Texts, trained: Path
) -> None:
    notes: list[str] = []
    before = record_of(trained)
    found = train_family(
        "qwen3", texts, SHORT, trained, "test", lambda note, *_: notes.append(note), **TINY
    )
    assert found == before
    assert not notes
    with pytest.raises(
        ValueError, match=r"trained otherwise, .*: asked family: qwen3 there, llama"
    ):
        train_family("llama", texts, SHORT, trained, "test", **TINY)


def test_time_ends_a_training() -> None:
    model = new_model(family_config("llama", **TINY), 0)
    ids = torch.arange(200) % 300
    done: list[int] = []
    ended = train(model, ids, Schedule(minutes=1e-9, seqlen=16), lambda at, of: done.append(at))
    assert (ended.steps, ended.stopped_by, done) == (1, "minutes", [1])
    assert not model.training


def test_a_unigram_model_by_hand() -> None:
    training = torch.tensor([0, 0, 1])  # one more of each of 3 tokens: 3, 2 and 1 of 6
    windows = torch.tensor([[1, 0, 2]])  # the first is not scored
    assert unigram_perplexity(training, windows, 3) == pytest.approx(
        math.sqrt(6 / 3 * 6 / 1),
        rel=1e-12,  # float64
    )


def test_the_tokenizer_keeps_every_text() -> None:
    tokenizer = train_tokenizer("the cat\n\nthe hat", 270)
    text = "\n\nThe cät  sat\t☃"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) <= 270
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minutes": 31}, "minutes must be above 0 and at most 30, got 31"),
        ({"minutes": 0}, "minutes must be above 0 and at most 30, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_schedules_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


def test_texts_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("A sentence that is long enough to be recognised wherever it stands. " * 9)
    with pytest.raises(ValueError, match="held_out must name a text, as"):
        read_texts([str(file)])
    with pytest.raises(ValueError, match="held_out must be a text apart from data, but 100%"):
        read_texts(["pydoc", str(file)], str(file))
    with pytest.raises(ValueError, match="data must name at least one text, got none"):
        read_texts([])
    with pytest.raises(ValueError, match=r"family must be one of opt.*got 'gpt5'"):
        family_config("gpt5")
    short = Schedule(seqlen=512)
    with pytest.raises(ValueError, match="data must have at least seqlen = 512 tokens, got 3"):
        train(new_model(family_config("opt", **TINY), 0), torch.zeros(3, dtype=torch.long), short)


def test_the_study_runs_everything_on_every_family() -> None:
    runs = list(architecture_runs())
    assert len(set(runs)) == len(runs)
    for family in FAMILIES:
        mine = [run for run in runs if run.model == f"small-{family}"]
        assert len(mine) == len(runs) / len(FAMILIES)
        assert {run.method for run in mine} == {"magnitude", "wanda", "sparsegpt", "thanos"}
        assert any(run.refit_steps for run in mine)
