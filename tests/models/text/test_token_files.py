"""Token ids of the user's own."""

import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file

from tests.models.tiny import WORDS, byte_tokenizer, llama_config, random_model
from thanos_torch import parse_pattern
from thanos_torch.models import (
    Windows,
    calibration_windows,
    evaluation_windows,
    perplexity,
    prune_model,
)


def save(file: Path, ids: Any) -> str:
    numpy.save(file, ids)
    return str(file)


def calibration(dataset: str, **changes: Any) -> Windows:
    options: dict[str, Any] = {"nsamples": 3, "seqlen": 8, "seed": 0}
    return calibration_windows(byte_tokenizer(), dataset, **(options | changes))


def test_flat_ids_are_cut_like_a_text(tmp_path: Path) -> None:
    file = save(tmp_path / "ids.npy", numpy.arange(20, dtype=numpy.uint16))
    windows = evaluation_windows(byte_tokenizer(), file, seqlen=8, stride=4)
    assert windows.ids.tolist() == [list(range(start, start + 8)) for start in (0, 4, 8, 12)]
    drawn = calibration(file, nsamples=50).ids
    assert {row[0] for row in drawn.tolist()} == set(range(13))
    assert (drawn.diff(dim=1) == 1).all()


def test_windows_are_taken_as_they_are(tmp_path: Path) -> None:
    ids = torch.arange(40).view(5, 8)
    file = tmp_path / "ids.safetensors"
    save_file({"input_ids": ids.int()}, file)
    assert torch.equal(evaluation_windows(byte_tokenizer(), str(file), seqlen=8).ids, ids)
    drawn = calibration(str(file), nsamples=5)
    assert drawn.ids[:, 0].tolist() != ids[:, 0].tolist()
    assert sorted(drawn.ids.tolist()) == ids.tolist()
    assert torch.equal(calibration(str(file)).ids, drawn.ids[:3])
    record = drawn.provenance()
    # As little-endian int64, whatever the file's type was.
    expected = sha256(struct.pack("<40q", *range(40))).hexdigest()
    assert (record["tokens"], record["tokens_sha256"]) == (40, expected)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (numpy.ones(20), "must hold integers, got float64"),
        (numpy.ones(20, dtype=bool), "must hold integers, got bool"),
        (numpy.ones((2, 2, 8), dtype=int), r"shape \(tokens\) or .*, got \(2, 2, 8\)"),
        (numpy.ones((0, 8), dtype=int), r"shape \(tokens\) or .*, got \(0, 8\)"),
        (numpy.full(20, -1), "must hold token ids, got -1"),
        (numpy.full(20, 2**63, dtype=numpy.uint64), "must hold token ids, got 9223372036854775808"),
        (numpy.ones(7, dtype=int), "has 7 tokens for calibration, too few .* seqlen = 8"),
        (numpy.ones((9, 16), dtype=int), "seqlen must be 16, the tokens of a window in .*, got 8"),
        (numpy.ones((2, 8), dtype=int), "nsamples must be at most 2, the windows in .*, got 3"),
        (numpy.array([{}]), "holds no token ids: Object arrays cannot be loaded"),
    ],
)
def test_refusals(tmp_path: Path, ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration(save(tmp_path / "ids.npy", ids))


@pytest.mark.parametrize("name", ["ids.npy", "ids.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"\xff" * 100, b"{}" * 100])
def test_spoiled_files(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} holds no token ids"):
        calibration(str(file))


def test_suffixes_in_capitals_and_no_tokenizer(tmp_path: Path) -> None:
    file = Path(save(tmp_path / "ids.npy", numpy.arange(20))).rename(tmp_path / "IDS.NPY")
    assert evaluation_windows(None, str(file), seqlen=8).ids.shape == (2, 8)


def test_a_shape_larger_than_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "ids.npy"
    header = {"descr": "<i8", "fortran_order": False, "shape": (2**50,)}
    with file.open("wb") as stream:
        numpy.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(ValueError, match=r"ids.npy holds no token ids: ."):
        calibration(str(file))


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([[1, 2, 3]], "windows must be a tensor of token ids, int64 or int32, got list"),
        (torch.ones(2, 8), "int64 or int32, got torch.float32"),
        (torch.ones(8, dtype=torch.long), r"the shape \(windows, seqlen\), got \(8,\)"),
        (torch.ones(0, 8, dtype=torch.long), r"the shape \(windows, seqlen\), got \(0, 8\)"),
        (torch.tensor([[3, -1]]), "windows must hold token ids, got -1"),
    ],
)
def test_windows_that_are_no_token_ids(windows: Any, message: str) -> None:
    model = random_model(llama_config())
    with pytest.raises(ValueError, match=message):
        perplexity(model, windows)
    with pytest.raises(ValueError, match=message):
        prune_model(model, windows, "2:4", judge=None)


def test_a_maximum_below_one_is_none(tmp_path: Path) -> None:
    model = random_model(llama_config())
    model.config.max_position_embeddings = -1
    assert perplexity(model, torch.ones(1, 8, dtype=torch.long)).perplexity > 1


def test_files_of_several_tensors_and_overlapping_windows(tmp_path: Path) -> None:
    file = tmp_path / "ids.safetensors"
    save_file({"a": torch.ones(8, dtype=torch.int), "b": torch.ones(8, dtype=torch.int)}, file)
    with pytest.raises(ValueError, match=r"must hold one tensor, got \['a', 'b'\]"):
        calibration(str(file))
    windows = save(tmp_path / "ids.npy", numpy.ones((2, 8), dtype=int))
    with pytest.raises(ValueError, match=r"stride must be seqlen = 8 for ids that are .*, got 4"):
        evaluation_windows(byte_tokenizer(), windows, seqlen=8, stride=4)


def test_ids_beyond_the_vocabulary_are_refused_by_the_model(tmp_path: Path) -> None:
    windows = calibration(save(tmp_path / "ids.npy", numpy.full(20, WORDS))).ids
    model = random_model(llama_config())
    message = f"dataset must have token ids below {WORDS}, the model's vocabulary, got {WORDS}"
    with pytest.raises(ValueError, match=message):
        perplexity(model, windows)
    with pytest.raises(ValueError, match=message.replace("dataset", "windows")):
        prune_model(model, windows, parse_pattern("2:4"), judge=None)
