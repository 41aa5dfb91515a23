"""Texts and the windows cut from them."""

import gzip
import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from pyarrow import parquet

from tests.models.tiny import byte_tokenizer
from thanos_torch.models import Windows, calibration_windows, evaluation_windows
from thanos_torch.text.sources import read_text


def calibration(dataset: str, **changes: Any) -> Windows:
    options: dict[str, Any] = {"nsamples": 4, "seqlen": 16, "seed": 0}
    return calibration_windows(byte_tokenizer(), dataset, **(options | changes))


def decoded(windows: Windows) -> list[str]:
    tokenizer = byte_tokenizer()
    return [tokenizer.decode(ids) for ids in windows.ids]


def write_jsonl(file: Path, texts: list[str]) -> str:
    file.write_text("\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts))
    return str(file)


@pytest.fixture
def alphabet(tmp_path: Path) -> str:
    file = tmp_path / "alphabet.txt"
    file.write_text("abcdefghijklmnopqrstuvwxyz")
    return str(file)


def test_the_default_text_is_split_without_a_common_paragraph() -> None:
    parts = [read_text("pydoc", part).text.split("\n\n") for part in ("calibration", "evaluation")]
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


def test_windows_may_overlap(alphabet: str) -> None:
    windows = evaluation_windows(byte_tokenizer(), alphabet, seqlen=20, stride=3)
    assert decoded(windows) == [
        "abcdefghijklmnopqrst",
        "defghijklmnopqrstuvw",
        "ghijklmnopqrstuvwxyz",
    ]


def test_a_report_can_tell_the_text(alphabet: str) -> None:
    windows = calibration(alphabet, seqlen=8, seed=3)
    assert windows.provenance() == {
        "dataset": alphabet,
        "file": "alphabet.txt",
        "part": "calibration",
        "rows": 1,
        "joined_by": "blank lines",
        "text_sha256": "71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73",
        "bos": "tokenizer",
        "tokens": 26,
        "seed": 3,
        "windows": 4,
        "seqlen": 8,
        "windows_sha256": sha256(windows.ids.numpy().astype("<i8").tobytes()).hexdigest(),
    }
    evaluated = evaluation_windows(byte_tokenizer(), alphabet, seqlen=8, stride=2, limit=5)
    wanted = {"stride": 2, "windows_available": 10, "windows": 5}
    assert evaluated.provenance().items() >= wanted.items()
    version = ".".join(map(str, sys.version_info[:3]))
    assert calibration("pydoc").provenance()["dataset"] == f"pydoc of Python {version}"


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("alphabet", {"seqlen": 27}, "26 tokens for calibration, too few .* seqlen = 27"),
        ("alphabet", {"seqlen": 0}, "seqlen must be at least 1, got 0"),
        ("alphabet", {"nsamples": 0}, "nsamples must be at least 1, got 0"),
        ("nowhere", {}, "dataset must be pydoc, wikitext2, c4, a file, .* 'nowhere'"),
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
    for stride in (0, 6):
        with pytest.raises(ValueError, match=f"stride must be between 1 and .* 5, got {stride}"):
            evaluation_windows(byte_tokenizer(), alphabet, seqlen=5, stride=stride)


def test_short_documents_are_packed(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "documents.jsonl", ["one", "two\u2028lines", "three"])
    assert read_text(file, "calibration").text == "one\n\ntwo\u2028lines\n\nthree"
    windows = calibration(file, nsamples=100, seqlen=9)
    assert "one\n\ntwo" in "".join(decoded(windows)).replace("\u2028", "|")
    assert windows.provenance()["rows"] == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            '{"texts": 1}',
            r'line 2 has no column "text", but \[\'texts\'\]: choose one with --column$',
        ),
        ("no json", r'must hold one {"text": ...} a line, .*; line 2 is no JSON'),
        ("[1]", 'line 2 must be {"text": ...}, got a list'),
        ('{"text": 1}', "line 2 must have a string as its text, got a number"),
        ('{"text": ["SECRET"]}', "line 2 must have a string as its text, got a list"),
        ('{"text": null}', "line 2 must have a string as its text, got null"),
        ('["SECRET"]', 'line 2 must be {"text": ...}, got a list'),
        ('{"text": "SECRET', "line 2 is no JSON"),
        ("[" * 100_000, "line 2 nests too deeply"),
        ('{"%s": 1}' % ("key" * 999), r"but \['key.{90,100}: choose one"),
    ],
)
def test_bad_jsonl_files(tmp_path: Path, line: str, reason: str) -> None:
    for name in ("documents.jsonl", "documents.json"):
        (tmp_path / name).write_text('{"text": "good"}\n' + line)
        with pytest.raises(ValueError, match=rf"dataset .*{name}.* {reason}") as caught:
            read_text(str(tmp_path / name), "calibration")
        assert "SECRET" not in str(caught.value).rpartition("documents")[2]


LINES = '{"text": "Gr\\u00f6\\u00dfe", "url": "https://a.b"}\n\n{"text": "two"}\n'
# Files, and what their text is.
KNOWN: dict[str, tuple[bytes, str]] = {
    "c4-validation.00000-of-00008.json": (LINES.encode(), "Größe\n\ntwo"),
    "c4-validation.00000-of-00008.json.gz": (gzip.compress(LINES.encode()), "Größe\n\ntwo"),
    "LINES.JSONL": (LINES.replace("\n", "\r\n").encode(), "Größe\n\ntwo"),
    "list.json": (b'[\n {"text": "one"},\n {"text": "two"}\n]\n', "one\n\ntwo"),
    "one.json": (b'{\n "text": "one"\n}\n', "one"),
    "lines.jsonl.GZ": (gzip.compress(b'{"text": "one"}'), "one"),
    "TEXT.TXT": ("Größe\r\n".encode(), "Größe\n"),
    "text.txt.gz": (gzip.compress(b"one"), "one"),
    "marked.txt": ("one".encode("utf-8-sig"), "one"),
    "marked.json": (LINES.encode("utf-8-sig"), "Größe\n\ntwo"),
    "WIKI.RAW": (b" = A = \n \n", " = A = \n\n\n"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_suffix_says_how_a_file_is_read(tmp_path: Path, name: str) -> None:
    content, text = KNOWN[name]
    (tmp_path / name).write_bytes(content)
    assert read_text(str(tmp_path / name), "evaluation").text == text


UNKNOWN = {
    "table.csv": r"got \.csv: name plain text \.txt$",
    "ids.pt": r"or token ids \(\.npy, \.safetensors\), got \.pt",
    "ids.npz": r"got \.npz",
    "wikitext": "got no suffix: name plain text",
    "c4.json.zst": r"got \.zst: unpack it first$",
    "C4.ZIP": r"got \.zip: unpack it first$",
    "ids.npy.gz": r"got \.npy\.gz: unpack it first$",
    "rows.parquet.gz": r"all but \.parquet also as \.gz.* got \.parquet\.gz: unpack it",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("some text that goes on")
    with pytest.raises(ValueError, match=rf"dataset .*{name} must be text .*{UNKNOWN[name]}"):
        calibration(str(tmp_path / name))


def test_spoiled_archives_and_half_characters(tmp_path: Path) -> None:
    file = tmp_path / "text.txt.gz"
    whole = gzip.compress(b"text" * 99)
    for content in (b"text", whole[:-9], whole[:12] + b"spoiled" + whole[19:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"dataset .*text.txt.gz cannot be unpacked: ."):
            read_text(str(file), "evaluation")
    half = tmp_path / "half.jsonl"
    half.write_text('{"text": "SECRET \\ud800"}')
    with pytest.raises(ValueError, match=r"half.jsonl holds half a character, '\\ud800'$"):
        read_text(str(half), "evaluation")


def test_no_tokenizer_is_no_traceback(alphabet: str) -> None:
    with pytest.raises(ValueError, match="tokenizer must be given for a text, got None"):
        evaluation_windows(None, alphabet, seqlen=5)


def test_parquet_files(tmp_path: Path) -> None:
    file = tmp_path / "documents.parquet"
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "id": [1, 2]}), file)
    assert read_text(str(file), "evaluation").text == "one\n\ntwo"
    parquet.write_table(pyarrow.table({"body": ["one"]}), file)
    with pytest.raises(ValueError, match=r"parquet has no column \"text\", but \['body'\]"):
        read_text(str(file), "evaluation")
    parquet.write_table(pyarrow.table({"text": ["one", None]}), file)
    with pytest.raises(
        ValueError, match=r"parquet, row 2 must have a string as its text, got null"
    ):
        read_text(str(file), "evaluation")
    file.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"documents.parquet cannot be read as Parquet"):
        read_text(str(file), "evaluation")


def test_wikitext_files_are_joined_as_in_papers(tmp_path: Path) -> None:
    file = tmp_path / "wiki.test.raw"
    file.write_text(" \n = Title = \n \n One . \n")
    assert read_text(str(file), "evaluation").text == "\n\n = Title = \n\n\n\n\n One . \n"


def test_files_must_be_text(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt is not UTF-8 text"):
        read_text(str(file), "calibration")


def test_folders_hold_a_file_for_each_part(tmp_path: Path) -> None:
    for name in ("wiki.valid.raw", "wiki.test.raw", "train.zip"):
        (tmp_path / name).write_text(name)
    assert read_text(str(tmp_path), "calibration").text == "wiki.valid.raw"
    assert read_text(str(tmp_path), "evaluation").origin["file"] == "wiki.test.raw"
    write_jsonl(tmp_path / "c4-train.00000.jsonl", ["train"])
    (tmp_path / "c4-train-info.json").write_text("{}")
    assert read_text(str(tmp_path), "calibration").text == "train"
    (tmp_path / "wiki.valid.raw").unlink()
    (tmp_path / "wiki.test.raw").unlink()
    with pytest.raises(ValueError, match=r"has no text for evaluation: .* named test or valid$"):
        read_text(str(tmp_path), "evaluation")
    (tmp_path / "test.csv").write_text("a,b")
    with pytest.raises(ValueError, match=r"named test or valid, but test.csv$"):
        read_text(str(tmp_path), "evaluation")
    write_jsonl(tmp_path / "Test.JSON", ["test"])
    assert read_text(str(tmp_path), "evaluation").text == "test"
