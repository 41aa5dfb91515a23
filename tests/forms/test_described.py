"""forms.json says all that a reader of packed checkpoints needs, and nothing wrong."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from reference.patterns import parse_pattern
from tests.forms.canonical import WEIGHTS, pruned, write
from tests.forms.described import (
    FOLDER,
    Description,
    check_canonical,
    decode,
    read_description,
    read_folder,
    read_safetensors,
)
from tests.forms.layers import DTYPES
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.packed_format import DENSE, Piece
from thanos_torch.checkpoint.shards import read_tensors, tensor_names, write_shard
from thanos_torch.forms import FORMS, Form, bits_of, form_from, pack

CASES = read_description()["canonical"]["files"]
# Tensors of a checkpoint, and the places of the weights in them: every kind of place.
PLACES = {
    "dense experts": [Place(("dense experts",), expert=expert) for expert in (0, 1)],
    "plain": [Place(("plain",))],
    "inputs first": [Place(("inputs first",), transposed=True)],
    "in turns": [Place(("in turns",), interleaved=2)],
    "experts": [Place(("experts",), transposed=True, expert=expert) for expert in (1, 0)],
    "stacked": [Place(("stacked",), expert=expert, stacked=2) for expert in (0, 1)],
}


def test_it_is_as_its_schema_says() -> None:
    schema = json.loads((FOLDER / "schema.json").read_text())
    description = read_description()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(description, schema)
    assert {*description["forms"]} == {*FORMS, "dense"}
    assert {case["form"] for case in CASES} == {*FORMS}


def test_the_canonical_files_decode_to_their_answers() -> None:
    check_canonical(read_description())


def check_answers(description: Description) -> None:
    """The answers hold the numbers and masks of our own, in the byte order of this machine."""
    canonical = description["canonical"]
    answers = read_safetensors(FOLDER / canonical["answers"], description)
    for case in canonical["files"]:
        weight, mask = pruned({**case, "dtype": WEIGHTS[case["form"]]})
        _, numbers = answers[f"{case['tensor']}:weight"]
        native = numbers.astype(numbers.dtype.newbyteorder("="))
        assert native.tobytes() == bits_of(weight).numpy().tobytes()
        assert np.array_equal(answers[f"{case['tensor']}:removed"][1], mask.numpy())


def test_the_answers_are_what_was_packed() -> None:
    check_answers(read_description())


def test_our_writer_makes_the_bytes_of_the_canonical_files(tmp_path: Path) -> None:
    write(tmp_path)
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_bytes() for file in FOLDER.glob("*.safetensors")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["form"])
def test_our_reader_reads_the_canonical_files(case: dict[str, Any]) -> None:
    file, start = FOLDER / case["file"], f"{case['tensor']}:"
    found = read_tensors(dict.fromkeys(tensor_names(file), file))
    parts = {name.removeprefix(start): tensor for name, tensor in found.items()}
    rows, columns = case["shape"]
    form = form_from(case["form"], (rows, columns), parts, parse_pattern(case["pattern"]))
    names = [f"{start}weight", f"{start}removed"]
    weight, removed = read_tensors(dict.fromkeys(names, FOLDER / "answers.safetensors")).values()
    assert torch.equal(bits_of(form.weight()), bits_of(weight))
    assert torch.equal(form.mask(), removed.bool())


@pytest.mark.parametrize("pattern", ["2:4", "1:2", "24:48+outliers:0.3", "4:4"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_other_patterns_and_dtypes_decode_too(
    pattern: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    case = {"form": "nm", "pattern": pattern, "shape": [3, 48]}
    weight, mask = pruned({**case, "dtype": dtype})
    form = pack("nm", weight, mask, parse_pattern(pattern))
    write_shard(tmp_path / "file", dict(form.tensors))
    description = read_description()
    parts = read_safetensors(tmp_path / "file", description)
    found, removed = decode(description, "nm", pattern, [3, 48], parts)
    assert found.tobytes() == bits_of(weight).numpy().tobytes()
    assert np.array_equal(removed, mask.numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packed tensors in every kind of place, one in each form, and one not packed."""
    path = tmp_path_factory.mktemp("packed")
    stored = {"not packed": torch.arange(3.0)}
    index: dict[str, list[dict[str, Any]]] = {}
    for tensor, places in PLACES.items():
        index[tensor] = []
        for place in places:
            piece, form, weight = _piece(place)
            stored |= piece.tensors(form, weight)
            index[tensor].append(piece.as_dict())
    write_shard(path / "model.packed.safetensors", stored)
    content = {"files": {"model.safetensors": {}}, "tensors": index}
    (path / "packed.json").write_text(json.dumps(content))
    return path


def _piece(place: Place) -> tuple[Piece, Form | None, torch.Tensor]:
    """A packed weight (4, 16): expert 0 of "dense experts" stays dense, expert 1 is n:m."""
    name, text = ("nm", "1:4+outliers:0.25") if place.expert else ("bitmask", "unstructured:0.4")
    dtype = torch.float64 if place.tensors == ("plain",) else torch.float32
    weight, mask = pruned({"form": name, "pattern": text, "shape": [4, 16], "dtype": dtype})
    if place.tensors == ("dense experts",) and place.expert == 0:
        return Piece("", 0, DENSE, None, (4, 16), place), None, weight
    pattern = parse_pattern(text)
    piece = Piece("layer", 0, name, pattern, (4, 16), place)
    return piece, pack(name, weight, mask, pattern), weight


def check_folder(folder: Path, description: Description) -> None:
    """Compare what is read with what our own rules for places make of the weights."""
    found = read_folder(folder, description)
    assert found.pop("not packed").tolist() == [0, 1, 2]
    assert found.keys() == PLACES.keys()
    for tensor, places in PLACES.items():
        matrices: dict[int, torch.Tensor] = {}
        for place in places:
            matrices[place.expert or 0] = place.arranged(_piece(place)[2])
        in_order = [matrices[expert] for expert in sorted(matrices)]
        stacks = places[0].expert is not None and not places[0].stacked
        expected = (torch.stack if stacks else torch.cat)(in_order).numpy()
        assert found[tensor].shape == expected.shape
        assert found[tensor].tobytes() == expected.tobytes()


def test_a_folder_is_put_together_as_we_do(folder: Path) -> None:
    check_folder(folder, read_description())


def test_a_wrong_field_is_noticed(folder: Path) -> None:
    """Every number, formula, step and name of forms.json, changed by itself."""
    survivors = []
    changes = 0
    for where, wrong in changed(read_description()):
        changes += 1
        try:
            check_canonical(wrong)
            check_answers(wrong)
            check_folder(folder, wrong)
        except Exception:  # whatever a wrong description leads to
            continue
        survivors.append(where)
    assert survivors == []
    assert changes > 250


PROSE = ("about", "title", "version")
# What is exchanged in formulas and names, one place at a time.
EXCHANGES = [
    (r"//", "*"), (r"\*", "+"), (r"\+", "-"), (r"-", "+"), (r"~", ""), (r">=", ">"), (r"==", "!="),
    (r"\bc\b", "b"), (r"\bb\b", "c"), (r"\bn\b", "m"), (r"\bm\b", "n"), (r"\bo\b", "s"),
    (r"\bs\b", "o"), (r"\bk\b", "n"), (r"\bnot\b", ""), (r"\band\b", "or"), (r"\bTrue\b", "False"),
    (r"\bFalse\b", "True"), (r"\b0\b", "1"), (r"\b1\b", "0"), (r"\b2\b", "3"), (r"\.T\b", ""),
    (r"big", "little"), (r"<", ">"), (r"reversed", ""), (r"sorted", "list"), (r":", "-"),
    (r"8", "4"), (r"numbers", "I32"), (r"I32", "numbers"), (r"U8", "I32"), (r"packed", "p"),
    (r"answers", "a"),    (r"outliers", "o"), (r"unstructured", "s"), (r"stack\b", "concatenate"),
]  # fmt: skip


def changed(description: Description) -> Iterator[tuple[str, Description]]:
    """All copies in which one value is wrong or one line is missing, with its place."""
    for path, value in leaves(description):
        for wrong in others(value):
            spoiled = copy.deepcopy(description)
            inside(spoiled, path[:-1])[path[-1]] = wrong
            yield f"{path}: {wrong!r}", spoiled
        spoiled = copy.deepcopy(description)
        del inside(spoiled, path[:-1])[path[-1]]
        yield f"{path}: missing", spoiled


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value that is no list and no object, with the keys that lead to it; prose left out."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if key not in PROSE:
            yield from leaves(each, (*path, key))


def inside(value: Any, path: tuple[Any, ...]) -> Any:
    """What the keys lead to."""
    for key in path:
        value = value[key]
    return value


def others(value: int | str) -> Iterator[int | str]:
    """Wrong values in the place of a right one."""
    if isinstance(value, int):
        yield from (value + 1, value - 1)
        return
    for what, instead in EXCHANGES:
        for found in re.finditer(what, value):
            yield value[: found.start()] + instead + value[found.end() :]
