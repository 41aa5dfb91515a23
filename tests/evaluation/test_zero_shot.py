"""Zero-shot tasks of the harness, against log-likelihoods by plain PyTorch."""

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor

from tests.evaluation.items import ITEMS, question, write_items
from tests.models.tiny import byte_tokenizer, llama_config, random_model
from thanos_torch.evaluation import TASKS, ZeroShot, task_names, zero_shot


def tokenizer() -> Any:
    """One token a byte; byte 0 ends texts."""
    words = byte_tokenizer()
    words.eos_token = words.convert_ids_to_tokens(words("\0")["input_ids"])[0]
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("items"))


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(llama_config(max_position_embeddings=256))


@pytest.fixture(scope="module")
def measured(model: Any, folder: Path) -> ZeroShot:
    return zero_shot(model, tokenizer(), TASKS, data=folder)


@torch.no_grad()
def log_likelihood(model: Any, before: str, answer: str) -> float:
    words = tokenizer()
    ids = torch.tensor(words(before + answer)["input_ids"])
    odds: Tensor = model(ids[None]).logits[0].double().log_softmax(-1)  # (tokens, WORDS)
    first = len(words(before)["input_ids"])
    return sum(float(odds[place - 1, ids[place]]) for place in range(first, len(ids)))


@pytest.mark.parametrize("task", TASKS)
def test_items_are_scored_as_the_literature_does(measured: ZeroShot, model: Any, task: str) -> None:
    samples = sorted(measured.samples[task], key=lambda sample: int(sample["doc_id"]))
    items = ITEMS[task][1]
    assert len(samples) == len(items)
    hits, hits_by_length = [], []
    for item, sample in zip(items, samples, strict=True):
        pairs, right = question(task, item)
        expected = [log_likelihood(model, *pair) for pair in pairs]
        found = [answer[0] for answer in sample["filtered_resps"]]
        assert found == pytest.approx(expected, rel=1e-5)
        hits.append(expected.index(max(expected)) == right)
        by_length = [odds / len(pair[1][1:]) for odds, pair in zip(expected, pairs, strict=True)]
        hits_by_length.append(by_length.index(max(by_length)) == right)

    result = next(result for result in measured.results if result.task == task)
    assert (result.split, result.items, result.available) == ("validation", len(items), len(items))
    assert (result.acc, result.acc_stderr) == pytest.approx(mean_and_error(hits))
    if task in ("winogrande", "boolq"):
        assert result.acc_norm is result.acc_norm_stderr is None
    else:
        by_length_result = (result.acc_norm, result.acc_norm_stderr)
        assert by_length_result == pytest.approx(mean_and_error(hits_by_length))


def mean_and_error(hits: list[bool]) -> tuple[float, float]:
    values = torch.tensor(hits, dtype=torch.float64)
    return values.mean().item(), values.std().item() / len(hits) ** 0.5


def test_not_all_tasks_are_won_or_lost(measured: ZeroShot) -> None:
    assert {0.0, 1.0} < {result.acc for result in measured.results}
    assert measured.mean_acc == pytest.approx(sum(result.acc for result in measured.results) / 7)
    record = measured.as_dict()
    assert [task["task"] for task in record["tasks"]] == list(TASKS)
    assert record["harness"].startswith("lm_eval 0.4.")


def test_a_limit_takes_the_first_items(model: Any, folder: Path) -> None:
    found = zero_shot(model, tokenizer(), ["piqa"], data=folder, limit=2, batch_size=1)
    assert (found.results[0].items, found.results[0].available) == (2, 4)
    docs = [sample["doc"]["goal"] for sample in found.samples["piqa"]]
    assert sorted(docs) == ["Open a door.", "Open soup."]
    one = zero_shot(model, tokenizer(), ["piqa"], data=folder, limit=1).results[0]
    assert one.acc in (0, 1)
    assert one.acc_stderr is None  # one item tells nothing of the spread


def test_progress_counts_every_answer(model: Any, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    # Answers of one token share a pass, as boolq's do: they count all the same.
    tasks = ["piqa", "boolq"]
    zero_shot(model, tokenizer(), tasks, data=folder, progress=lambda *done: told.append(done))
    answers = sum(len(question(task, item)[0]) for task in tasks for item in ITEMS[task][1])
    assert told == [(done, answers) for done in range(1, answers + 1)]


def test_prompts_that_are_too_long_are_counted(folder: Path) -> None:
    # The longest that fits: its last token is predicted, not read.
    longest = min(len("".join(pair)) for pair in question("piqa", ITEMS["piqa"][1][0])[0])
    short = random_model(llama_config(max_position_embeddings=longest - 1))
    result = zero_shot(short, tokenizer(), ["piqa"], data=folder).results[0]
    pairs = [pair for item in ITEMS["piqa"][1] for pair in question("piqa", item)[0]]
    assert 0 < result.truncated < len(pairs)
    assert result.truncated == sum(len("".join(pair)) > longest for pair in pairs)


@pytest.mark.usefixtures("measured")
def test_the_items_are_not_changed(folder: Path) -> None:
    files = {file.name.partition("-")[0] for file in folder.rglob("*") if file.is_file()}
    assert files == {"data", "dataset_info.json", "state.json"}


def test_names_of_tasks() -> None:
    assert task_names("all") == list(TASKS)
    assert task_names("piqa, boolq,piqa") == ["piqa", "boolq"]
    for text, bad in (("piqa,mmlu", "mmlu"), ("", "")):
        with pytest.raises(ValueError, match=f"tasks must be all, or some of .*; got '{bad}'"):
            task_names(text)


def test_refusals(model: Any, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def run(**options: Any) -> None:
        zero_shot(model, tokenizer(), ["piqa"], **{"data": folder, **options})

    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        run(limit=0)
    with pytest.raises(ValueError, match="tokenizer must have a bos_token or an eos_token"):
        zero_shot(model, byte_tokenizer(), ["piqa"], data=folder)
    with pytest.raises(ValueError, match="task_data has no items of piqa in "):
        run(data=tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"dataset baber/piqa could not be loaded from the hub"):
        run(data=None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ValueError, match=r"need lm-evaluation-harness: pip install '.*evaluation"):
        run()
