"""Packed checkpoints: smaller by the formulas, unpacked bit for bit, damage noticed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reference.patterns import Structured, parse_pattern
from tests.forms.described import read_description, read_folder, read_safetensors
from tests.models.checkpoint.packs import CASES, ROWS, digests, forge, pruned
from tests.models.conftest import Thanos
from tests.models.families import FAMILIES
from thanos_torch.checkpoint.masks import write_masks
from thanos_torch.checkpoint.shards import weight_files
from thanos_torch.forms import choose, form_bytes, form_of
from thanos_torch.models import (
    MASKS,
    PackedLayer,
    PackedSizes,
    pack_checkpoint,
    places_of,
    read_masks,
    unpack_checkpoint,
)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pruned("Llama", ROWS, tmp_path_factory.mktemp("columns"))


def expected_bytes(layer: PackedLayer, itemsize: int, parts: int) -> int:
    """By the formulas, from the pattern; a layer in parts is packed part by part."""
    pattern = parse_pattern(layer.pattern)
    whole = form_bytes(form_of(pattern), pattern, layer.shape, itemsize)
    if isinstance(pattern, Structured):  # each part has its list of columns
        whole += (parts - 1) * 4 * (layer.shape[1] - pattern.removed(layer.shape[1]))
    return whole


def there_and_back(folder: Path, tmp_path: Path, form: str = "auto") -> PackedSizes:
    """Pack a checkpoint and unpack it again: every file must be the same.

    A reader that knows no more than forms.json must find the same tensors too.
    """
    sizes = pack_checkpoint(folder, tmp_path / "packed", form)
    unpack_checkpoint(tmp_path / "packed", tmp_path / "again")
    assert digests(tmp_path / "again") == digests(folder)
    description = read_description()
    found = read_folder(tmp_path / "packed", description)
    expected: dict[str, tuple[str, Any]] = {}
    for file in weight_files(folder):
        expected |= read_safetensors(file, description)
    assert found.keys() == expected.keys()
    for name, (_, array) in expected.items():
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
    return sizes


@pytest.mark.parametrize(("family", "pattern"), CASES)
def test_packed_and_unpacked_every_file_is_the_same(
    family: str, pattern: str, tmp_path: Path
) -> None:
    folder = pruned(family, pattern, tmp_path)
    sizes = there_and_back(folder, tmp_path)
    group = FAMILIES[family].block(0) | FAMILIES[family].block(1)
    assert {name: layer.shape for name, layer in sizes.layers.items()} == group
    for name, layer in sizes.layers.items():
        parts = 2 if family == "Mixtral" and name.endswith("gate_up_proj") else 1
        slack = 1 if parts > 1 else 0  # codes of two parts end in a byte each
        assert 0 <= layer.bytes[1] - expected_bytes(layer, 4, parts) <= slack, name
        assert layer.bytes[0] == choose.dense_bytes(*layer.shape, 4)
        assert layer.forms <= {"bitmask", "nm", "compact"}, name
    for place, total in zip((folder, tmp_path / "packed"), sizes.total, strict=True):
        assert sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) == total


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("form", ["auto", "bitmask"])
def test_other_dtypes_and_a_form_for_all(dtype: torch.dtype, form: str, tmp_path: Path) -> None:
    folder = pruned("Llama", ROWS, tmp_path, dtype)
    sizes = there_and_back(folder, tmp_path, form)
    assert {f for layer in sizes.layers.values() for f in layer.forms} == {
        "compact" if form == "auto" else "bitmask"
    }


def test_the_packed_file_holds_what_the_formulas_say_behind_its_header(
    columns: Path, tmp_path: Path
) -> None:
    sizes = pack_checkpoint(columns, tmp_path / "packed")
    file = tmp_path / "packed" / "model.packed.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert file.stat().st_size - header == sizes.pruned[1] + sizes.others[1]
    assert sizes.headers[1] == header
    assert sizes.pruned[1] < 0.75 * sizes.pruned[0]


def test_layers_that_no_form_makes_smaller_stay_dense(tmp_path: Path) -> None:
    folder = pruned("Llama", "unstructured:0.01", tmp_path)
    sizes = there_and_back(folder, tmp_path)
    assert all(layer.forms == {"dense"} for layer in sizes.layers.values())
    assert sizes.masks[0] == sizes.masks[1] == (tmp_path / "packed" / MASKS).stat().st_size


def test_experts_of_one_tensor_may_be_packed_or_not(tmp_path: Path) -> None:
    folder = pruned("GPT-OSS", "2:4", tmp_path)
    record = json.loads((folder / "thanos.json").read_text())
    dropped = "model.layers.0.mlp.experts.1.gate_up_proj"
    shrunk = tmp_path / "shrunk"
    shutil.copytree(folder, shrunk)
    masks = {k: v for k, v in read_masks(folder / MASKS).items() if k != dropped}
    write_masks(shrunk / MASKS, masks, places_of(record))
    del record["files"]
    (shrunk / "thanos.json").write_text(json.dumps(record))
    assert dropped not in there_and_back(shrunk, tmp_path).layers


def test_damage_that_a_forger_hides_is_noticed_and_nothing_is_left(
    columns: Path, tmp_path: Path
) -> None:
    def refused(message: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
        forge(tmp_path / "packed", change)
        with pytest.raises(ValueError, match=message):
            unpack_checkpoint(tmp_path / "packed", tmp_path / "again")

    pack_checkpoint(columns, tmp_path / "packed")
    file = tmp_path / "packed" / "model.packed.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith(":columns"))
    tensors[name][0, 0] += 1
    save_file(tensors, file)
    refused("model.safetensors does not come out as it was")
    tensors[name.replace(":columns", ":kept")] += 1000
    save_file(tensors, file)
    refused("proj is damaged")
    file.unlink()
    refused("model.packed.safetensors is missing")
    refused("is damaged: it has no 'files'", lambda content: content.pop("files"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed"]


def test_zeros_that_are_lost_are_refused(columns: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(columns, tuned)
    tensors = load_file(tuned / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] += 1.0
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"layers.1.mlp.up_proj: weight must be \+0.0"):
        pack_checkpoint(tuned, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_the_commands(columns: Path, tmp_path: Path, thanos: Thanos) -> None:
    done = thanos("pack", columns, "--out", tmp_path / "packed")
    assert done.status == 0
    dense = sum(file.stat().st_size for file in columns.iterdir())
    packed = sum(file.stat().st_size for file in (tmp_path / "packed").iterdir())
    assert f"{dense:,} bytes became {packed:,}" in done.out
    assert "down_proj 20 x 28" in done.out
    done = thanos("unpack", tmp_path / "packed", "--out", tmp_path / "again")
    assert done.status == 0
    assert digests(tmp_path / "again") == digests(columns)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("pack", "COLUMNS", "--form", "zip"),
            "form must be one of auto, bitmask, nm, compact, got",
        ),
        (("pack", "COLUMNS", "--form", "nm"), "proj: form nm is for n:m patterns, got structured"),
        (("pack", "EMPTY"), "has no thanos.json: only what `thanos prune` wrote can be packed"),
        (("pack", "PACKED"), "is packed already"),
        (("unpack", "COLUMNS"), "is no packed checkpoint: it has no packed.json"),
        (("inspect", "PACKED"), "is packed: unpack it first"),
        (("eval", "PACKED"), "is packed: unpack it first"),
    ],
)
def test_refusals(
    arguments: tuple[str, ...], message: str, columns: Path, tmp_path: Path, thanos: Thanos
) -> None:
    places = {"COLUMNS": columns, "PACKED": tmp_path / "packed", "EMPTY": tmp_path / "empty"}
    places["EMPTY"].mkdir()
    pack_checkpoint(columns, places["PACKED"])
    filled = [places.get(each, each) for each in arguments]
    if arguments[0].endswith("pack"):
        filled += ["--out", tmp_path / "out"]
    done = thanos(*filled)
    assert done.status == 1
    assert message in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()
