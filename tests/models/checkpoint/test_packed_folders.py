"""Packed folders of strangers: what changed is named, nothing is written beside them, no bombs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models.checkpoint.packs import ROWS, digests, forge, pruned
from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint import shards
from thanos_torch.models import (
    MASKS,
    PACKED,
    RECORD,
    load_packed,
    pack_checkpoint,
    reapply_checkpoint,
    unpack_checkpoint,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pruned("Llama", ROWS, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def packed(plain: Path, tmp_path: Path) -> Path:
    pack_checkpoint(plain, tmp_path / "packed")
    return tmp_path / "packed"


def append(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + " ")


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def content_without(*keys: str) -> Callable[[Path], object]:
    def strike(folder: Path) -> None:
        content = json.loads((folder / PACKED).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        (folder / PACKED).write_text(json.dumps(content))

    return strike


CHANGED = {
    "config": (append("config.json"), "config.json was changed"),
    "tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "record": (cut(RECORD), f"{RECORD} was changed"),
    "weights": (cut("model.packed.safetensors"), "model.packed.safetensors was changed"),
    "added": (lambda folder: (folder / "new.json").touch(), "new.json was added"),
    "struck shard": (content_without("files", "model.safetensors"), "its weight files are ''"),
    "struck masks": (content_without("masks"), "it has no 'masks'"),
    "struck file": (content_without("folder", "config.json"), f"{PACKED} is not as"),
    "struck tensor": (
        content_without("tensors", "model.layers.0.mlp.up_proj.weight"),
        "it has masks of layers that are not packed",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_is_not_as_it_was_packed_is_named(
    case: str, packed: Path, tmp_path: Path, thanos: Thanos
) -> None:
    change, message = CHANGED[case]
    change(packed)
    done = thanos("unpack", packed, "--out", tmp_path / "out")
    assert done.status == 1
    assert message in done.err
    assert "\n" not in done.err.strip()
    assert [*tmp_path.iterdir()] == [packed]
    with pytest.raises(ValueError, match=message):
        load_packed(packed)


@pytest.mark.parametrize("forged", [False, True])
def test_a_shard_that_is_struck_from_the_list_is_missed(
    forged: bool, dense: Path, tmp_path: Path, thanos: Thanos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "largest_shard", lambda: "30KB")
    whole, packed, out = (tmp_path / name for name in ("whole", "packed", "out"))
    assert thanos("prune", dense, "--pattern", "2:4", "--out", whole, *SMALL).status == 0
    shard = sorted(whole.glob("model-*.safetensors"))[-1].name
    pack_checkpoint(whole, packed)
    if forged:
        forge(packed, lambda content: content["files"].pop(shard))
    else:
        content_without("files", shard)(packed)
    done = thanos("unpack", packed, "--out", out)
    assert done.status == 1
    missing = shard.replace(".safetensors", ".packed.safetensors")
    assert f"it does not say what {missing!r} holds" in done.err
    assert not out.exists()


def test_files_that_hubs_add_are_left_out(packed: Path, plain: Path, tmp_path: Path) -> None:
    (packed / ".cache").mkdir()
    (packed / ".cache" / "a.lock").touch()
    (packed / ".gitattributes").touch()
    unpack_checkpoint(packed, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(plain)


NAMES = ["", ".", "..", "/", "/etc/x", "a/../../b", "..\\b", "a\0b", "a\nb", "\x1b[2J", "a//b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["files", "folder"])
def test_names_that_are_no_files_of_a_folder(
    part: str, name: str, packed: Path, tmp_path: Path
) -> None:
    def rename(content: dict[str, Any]) -> None:
        content[part][name] = content[part].popitem()[1]

    forge(packed, rename)
    with pytest.raises(ValueError, match=r"packed.json (names|is damaged)") as refused:
        unpack_checkpoint(packed, tmp_path / "out")
    assert str(refused.value).isprintable()
    assert [*tmp_path.iterdir()] == [packed]


def test_a_weight_that_would_grow_out_of_nothing_is_refused(packed: Path, tmp_path: Path) -> None:
    """A header that promises 1.6 GB, and a compact form without any kept column."""
    name, side = "model.layers.0.mlp.up_proj.weight", 20_000
    entry = {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side * side]}
    place = {"tensors": [name], "transposed": False, "expert": None}
    piece = {"layer": "a", "number": 0, "form": "compact", "pattern": "structured:0.3"}

    def swell(content: dict[str, Any]) -> None:
        file = content["files"]["model.safetensors"]
        file["header"] = json.dumps({name: entry})
        content["tensors"] = {name: [{**piece, "shape": [side, side], "place": place}]}
        content["masks"]["header"] = "{}"

    parts = {
        "kept": torch.empty(0, dtype=torch.int32),
        "columns": torch.empty(side, 0),
        "outliers": torch.empty(0, dtype=torch.int32),
        "beside": torch.empty(0, side),
    }
    tensors = {f"{name}:{part}": tensor for part, tensor in parts.items()}
    save_file(tensors, packed / "model.packed.safetensors")
    forge(packed, swell)
    with pytest.raises(ValueError, match="bytes are more than 1024 times those stored"):
        unpack_checkpoint(packed, tmp_path / "out")
    assert [*tmp_path.iterdir()] == [packed]


def nest(content: dict[str, Any]) -> None:
    for _ in range(900):
        content["masks"] = {"header": content["masks"]}


def piece_of(content: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(content["tensors"].values()))[0]
    return first


FORGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "list of files": (lambda content: content.update(files=[1]), "files must be an object"),
    "header of numbers": (
        lambda content: content["files"]["model.safetensors"].update(header=1),
        "header must be text, got 1",
    ),
    "header that is a list": (
        lambda content: content["files"]["model.safetensors"].update(header="[]"),
        "a header of a weight file is damaged",
    ),
    "deep header": (
        lambda content: content["masks"].update(header="[" * 100_000),
        "it nests too deeply",
    ),
    "deep": (nest, "nests more than 60 levels deep"),
    "shape": (lambda content: piece_of(content).update(shape=[8]), "must be 2 values"),
    "negative": (lambda content: piece_of(content).update(shape=[-8, -16]), "at least 1, got -8"),
    "other tensor": (
        lambda content: piece_of(content)["place"].update(tensors=["lm_head.weight"]),
        "are not that tensor",
    ),
    "expert": (lambda content: piece_of(content)["place"].update(expert=1), "are not that tensor"),
    "twice": (
        lambda content: next(iter(content["tensors"].values())).append(piece_of(content)),
        "are not that tensor",
    ),
    "form": (lambda content: piece_of(content).update(form="zip"), "one of bitmask, nm, compact"),
    "form without pattern": (lambda content: piece_of(content).update(pattern=None), "go with"),
    "hash": (lambda content: content["folder"].update({"config.json": 1}), "must be text, got 1"),
}


@pytest.mark.parametrize("case", FORGED)
def test_values_that_are_no_description_of_packed_files(
    case: str, packed: Path, tmp_path: Path
) -> None:
    change, message = FORGED[case]
    forge(packed, change)
    with pytest.raises(ValueError, match=message) as refused:
        unpack_checkpoint(packed, tmp_path / "out")
    assert str(refused.value).startswith(f"{packed / PACKED} is damaged: ")
    assert len(str(refused.value)) < 600
    assert [*tmp_path.iterdir()] == [packed]


LINKED = [
    *(("pack", name) for name in ("config.json", "folder/extra.txt", "folder", RECORD, MASKS)),
    *(("unpack", name) for name in ("config.json", "extra.txt", "folder", PACKED)),
    *(("reapply", name) for name in ("config.json", "extra.txt", "model.safetensors")),
    *(("inspect", name) for name in ("model.safetensors", RECORD, MASKS)),
    *(("certify", name) for name in ("model.safetensors", RECORD)),
]


@pytest.mark.parametrize(("command", "name"), LINKED)
def test_no_link_is_followed_out_of_a_folder(
    command: str, name: str, plain: Path, packed: Path, tmp_path: Path, thanos: Thanos
) -> None:
    folder = packed if command == "unpack" else tmp_path / "plain"
    if command != "unpack":
        shutil.copytree(plain, folder)
    secret = tmp_path / "secret"
    if (folder / name).exists():
        (folder / name).rename(secret)
    elif name == "folder":
        secret.mkdir()
        (secret / "a").touch()
    else:
        secret.write_text("secret")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(secret)
    out = ["--out", tmp_path / "out"]
    arguments: dict[str, list[object]] = {
        "reapply": [folder, "--masks", plain, *out],
        "inspect": [folder],
        "certify": [plain, folder, "--gram", tmp_path],
    }
    done = thanos(command, *arguments.get(command, [folder, *out]))
    assert done.status == 1
    assert "is a link to a file outside of its folder" in done.err
    assert not (tmp_path / "out").exists()


def test_masks_in_a_linked_file_are_not_read(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "masks")
    (tmp_path / "masks" / MASKS).rename(tmp_path / "secret")
    (tmp_path / "masks" / MASKS).symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="is a link to a file outside of its folder"):
        reapply_checkpoint(plain, tmp_path / "masks", tmp_path / "out")


def test_a_layer_that_keeps_next_to_nothing_is_packed_dense_and_comes_back(tmp_path: Path) -> None:
    """What unpacking would refuse as too large is not written."""
    folder = pruned("Llama", "structured:0.9", tmp_path)
    import thanos_torch.checkpoint.pack as packing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "MOST_GROWTH", 4)
        sizes = pack_checkpoint(folder, tmp_path / "packed")
    assert any(layer.forms == {"dense"} for layer in sizes.layers.values())
    unpack_checkpoint(tmp_path / "packed", tmp_path / "again")
    assert digests(tmp_path / "again") == digests(folder)
