"""Tokenizers that are missing, damaged or not readable: needed for texts, not for token ids."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from transformers import Gemma3TextConfig, GPT2Config

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint import tokenizer as tokenizers
from thanos_torch.models import (
    MASKS,
    calibration_windows,
    load_model,
    read_masks,
    save_checkpoint,
    stream_model,
)

SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15"  # the beginning of such a file
TIKTOKEN = b"IQ== 0\nIg== 1\n"


def nothing(folder: Path) -> None:
    """No file of a tokenizer."""


def damaged(folder: Path) -> None:
    tiny.byte_tokenizer().save_pretrained(folder)
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(whole[:-100])


def sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(SENTENCEPIECE)


def tiktoken(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(TIKTOKEN)


# What is in the folder, and what is said when a text must be read.
CASES: dict[str, tuple[Any, Callable[[Path], None], str]] = {
    "none": (tiny.llama_config(), nothing, "one of: .* need to have sentencepiece or tiktoken"),
    "none, and a class that needs none": (
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=tiny.WORDS),
        nothing,
        "the folder holds no vocabulary, such as tokenizer.json",
    ),
    "none, and a class with special tokens": (
        Gemma3TextConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            vocab_size=tiny.WORDS,
        ),
        nothing,
        "the folder holds no vocabulary, such as tokenizer.json",
    ),
    "damaged": (tiny.llama_config(), damaged, "."),
    "SentencePiece": (
        tiny.llama_config(),
        sentencepiece,
        "tokenizer.model is a SentencePiece file and needs sentencepiece and protobuf: "
        r"pip install 'thanos-pruning\[models\]'",
    ),
    "tiktoken": (tiny.llama_config(), tiktoken, "."),
}


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A checkpoint without a tokenizer that could be loaded, and the reason."""
    monkeypatch.setattr(tokenizers, "_installed", lambda package: False)
    config, fill, reason = CASES[request.param]
    folder = tmp_path / "model"
    tiny.random_model(config).save_pretrained(folder)
    fill(folder)
    return folder, reason


def test_texts_need_a_tokenizer_and_token_ids_do_not(
    thanos: Thanos, case: tuple[Path, str], tmp_path: Path
) -> None:
    folder, reason = case
    numpy.save(tmp_path / "ids.npy", numpy.arange(600) % 20)
    ids = ("--dataset", tmp_path / "ids.npy")
    out = tmp_path / "out"
    commands = {
        "prune": ("prune", folder, "--pattern", "2:4", "--out", out, *SMALL),
        "eval": ("eval", folder, "--seqlen", 32, "--max-windows", 2),
    }
    for command in commands.values():
        done = thanos(*command)
        assert done.status == 1
        assert re.fullmatch(
            r"thanos: model '.*' has no tokenizer that could be loaded: "
            rf".*{reason}.* \(a dataset of "
            r"token ids, \.npy or \.safetensors, needs none\)",
            done.err,
        )
    assert not out.exists()
    for command in commands.values():
        done = thanos(*command, *ids)
        assert done.status == 0, done.err
    for file in folder.glob("tokenizer*"):
        assert (out / file.name).read_bytes() == file.read_bytes()


def test_functions_say_the_same(case: tuple[Path, str], tmp_path: Path) -> None:
    folder, reason = case
    numpy.save(tmp_path / "ids.npy", numpy.arange(600) % 20)
    for loaded in (load_model(str(folder)), stream_model(str(folder))[0]):
        options: dict[str, Any] = {"nsamples": 2, "seqlen": 8, "seed": 0}
        assert calibration_windows(loaded.tokenizer, str(tmp_path / "ids.npy"), **options)
        with pytest.raises(ValueError, match=f"has no tokenizer that could be loaded: .*{reason}"):
            calibration_windows(loaded.tokenizer, "pydoc", **options)
        with pytest.raises(ValueError, match=reason):
            loaded.tokenizer.decode([1])


def test_what_cannot_be_loaded_is_saved_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny.random_model(tiny.llama_config()).save_pretrained(folder)
    damaged(folder)
    sentencepiece(folder)
    loaded = load_model(str(folder))
    report = tiny.prune(loaded.model, judge=None)
    save_checkpoint(loaded, tmp_path / "out", record=report.as_dict(), masks=report.masks)
    assert read_masks(tmp_path / "out" / MASKS).keys() == report.masks.keys()
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_tasks_need_a_tokenizer(thanos: Thanos, tmp_path: Path) -> None:
    from tests.evaluation.items import write_items

    tiny.random_model(tiny.llama_config()).save_pretrained(tmp_path / "model")
    items = write_items(tmp_path / "items")
    done = thanos("eval", tmp_path / "model", "--tasks", "piqa", "--task-data", items)
    assert done.status == 1
    assert "has no tokenizer that could be loaded" in done.err


def test_sentencepiece_files_are_read(tmp_path: Path) -> None:
    trainer: Any = pytest.importorskip("sentencepiece").SentencePieceTrainer
    pytest.importorskip("google.protobuf")
    content = io.BytesIO()
    trainer.train(
        sentence_iterator=iter(["a b c d e f", "the quick brown fox"] * 9),
        model_writer=content,
        vocab_size=32,
        model_type="bpe",
        minloglevel=2,
    )
    tiny.random_model(tiny.llama_config()).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(content.getvalue())
    assert len(load_model(str(tmp_path)).tokenizer("the fox")["input_ids"]) > 1
