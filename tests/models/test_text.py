"""Texts and the windows cut from them."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.models.tiny import byte_tokenizer
from thanos_torch.models import Windows, calibration_windows, evaluation_windows, hub_text
from thanos_torch.models.text import read_text


def calibration(dataset: str, **changes: Any) -> Windows:
    options: dict[str, Any] = {"nsamples": 4, "seqlen": 16, "seed": 0}
    return calibration_windows(byte_tokenizer(), dataset, **(options | changes))


def decoded(windows: Windows) -> list[str]:
    tokenizer = byte_tokenizer()
    return [tokenizer.decode(ids) for ids in windows.ids]


@pytest.fixture
def alphabet(tmp_path: Path) -> str:
    file = tmp_path / "alphabet.txt"
    file.write_text("abcdefghijklmnopqrstuvwxyz")
    return str(file)


def test_the_default_text_is_split_without_a_common_paragraph() -> None:
    parts = [read_text("pydoc", part).split("\n\n") for part in ("calibration", "evaluation")]
    first, second = ({" ".join(paragraph.split()) for paragraph in part} for part in parts)
    assert not first & second
    sizes = [sum(map(len, part)) for part in parts]
    assert min(sizes) > 100_000  # characters; 465 kB before repetitions are left out


def test_calibration_windows_are_pieces_of_the_text_drawn_by_seed(alphabet: str) -> None:
    windows = calibration(alphabet, nsamples=50, seqlen=5)
    assert windows.ids.shape == (50, 5)
    pieces = decoded(windows)
    assert all(piece in "abcdefghijklmnopqrstuvwxyz" for piece in pieces)
    assert {"abcde", "vwxyz"} <= set(decoded(calibration(alphabet, nsamples=500, seqlen=5)))
    assert torch.equal(windows.ids, calibration(alphabet, nsamples=50, seqlen=5).ids)
    assert not torch.equal(windows.ids, calibration(alphabet, nsamples=50, seqlen=5, seed=1).ids)


def test_evaluation_windows_lie_side_by_side(alphabet: str) -> None:
    tokenizer = byte_tokenizer()
    windows = evaluation_windows(tokenizer, alphabet, seqlen=5)
    assert decoded(windows) == ["abcde", "fghij", "klmno", "pqrst", "uvwxy"]
    some = evaluation_windows(tokenizer, alphabet, seqlen=5, limit=2)
    assert decoded(some) == ["abcde", "klmno"]
    assert evaluation_windows(tokenizer, alphabet, seqlen=5, limit=9).ids.shape == (5, 5)


def test_a_report_can_tell_the_text(alphabet: str) -> None:
    assert calibration(alphabet, seqlen=8).provenance() == {
        "dataset": alphabet,
        "part": "calibration",
        "text_tokens": 26,
        "text_sha256": "71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73",
        "windows": 4,
        "seqlen": 8,
    }
    version = ".".join(map(str, sys.version_info[:3]))
    assert calibration("pydoc").provenance()["dataset"] == f"pydoc of Python {version}"


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("alphabet", {"seqlen": 27}, "26 tokens for calibration, too few .* seqlen = 27"),
        ("alphabet", {"seqlen": 0}, "seqlen must be at least 1, got 0"),
        ("alphabet", {"nsamples": 0}, "nsamples must be at least 1, got 0"),
        ("nowhere.txt", {}, "dataset must be pydoc, wikitext2, c4, a file or a .* 'nowhere.txt'"),
    ],
)
def test_refusals(alphabet: str, dataset: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration(alphabet if dataset == "alphabet" else dataset, **options)


def test_evaluation_refusals(alphabet: str) -> None:
    with pytest.raises(ValueError, match="26 tokens for evaluation, too few"):
        evaluation_windows(byte_tokenizer(), alphabet, seqlen=27)
    with pytest.raises(ValueError, match="max_windows must be at least 1, got 0"):
        evaluation_windows(byte_tokenizer(), alphabet, seqlen=5, limit=0)


def test_jsonl_files(tmp_path: Path) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in ("one", "two\nlines")) + "\n")
    assert read_text(str(file), "calibration") == "one\n\ntwo\nlines"
    for bad in ('{"texts": 1}', "no json", "[1]", '{"text": 1}'):
        file.write_text(bad)
        with pytest.raises(ValueError, match=r"documents.jsonl must hold one"):
            read_text(str(file), "calibration")


def test_wikitext_files_are_joined_as_in_papers(tmp_path: Path) -> None:
    file = tmp_path / "wiki.test.raw"
    file.write_text(" \n = Title = \n \n One . \n")
    assert read_text(str(file), "evaluation") == "\n\n = Title = \n\n\n\n\n One . \n"


def test_files_must_be_text(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt is not UTF-8 text"):
        read_text(str(file), "calibration")


def test_folders_hold_a_file_for_each_part(tmp_path: Path) -> None:
    for name in ("wiki.valid.raw", "wiki.test.raw", "train.zip"):
        (tmp_path / name).write_text(name)
    assert read_text(str(tmp_path), "calibration") == "wiki.valid.raw"
    assert read_text(str(tmp_path), "evaluation") == "wiki.test.raw"
    (tmp_path / "wiki.train.raw").write_text("train")
    assert read_text(str(tmp_path), "calibration") == "train"
    (tmp_path / "wiki.valid.raw").unlink()
    (tmp_path / "wiki.test.raw").unlink()
    with pytest.raises(ValueError, match=r"has no text for evaluation: .* named test or valid"):
        read_text(str(tmp_path), "evaluation")


class Rows(list[dict[str, str]]):
    """What `datasets` streams."""

    def take(self, count: int) -> "Rows":
        return Rows(self[:count])


def test_hub_texts_are_asked_for_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, configuration: str, *, split: str, streaming: bool) -> Rows:
        asked.append((path, configuration, split, streaming))
        return Rows({"text": f"row {row}"} for row in range(2000))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert read_text("wikitext2", "evaluation").startswith("row 0\n\nrow 1\n\n")
    assert read_text("c4", "calibration").endswith("row 999")
    assert asked == [
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "test", True),
        ("allenai/c4", "en", "train", True),
    ]


def test_hub_texts_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(ValueError, match="dataset c4 could not be loaded: no route; give a local"):
        hub_text.hub_text("c4", "calibration")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="package `datasets`, which is not installed"):
        hub_text.hub_text("wikitext2", "evaluation")
