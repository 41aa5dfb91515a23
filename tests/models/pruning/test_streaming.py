"""Checkpoints that are pruned block by block: the same result as in memory, the same layout."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MixtralConfig

from tests.models import tiny
from tests.models.families import EXPERTS, FAMILIES
from thanos_torch import Unstructured
from thanos_torch.checkpoint import shards
from thanos_torch.checkpoint import streamed as streamed_module
from thanos_torch.checkpoint.shards import INDEX, read_rows, read_tensors, tensor_files
from thanos_torch.models import (
    MASKS,
    RECORD,
    LayerOptions,
    Rules,
    RunState,
    StreamedModel,
    load_model,
    prune_checkpoint,
    prune_model,
    read_masks,
    stream_model,
)

RULES = Rules(LayerOptions(Unstructured(0.5), block_size=tiny.BLOCK_SIZE))


def prune(dense: Path, out: Path, **options: Any) -> dict[str, Any]:
    loaded, streamed = stream_model(str(dense))
    record = {"settings": {}, "model": loaded.provenance()}
    windows = tiny.random_windows(70)  # two batches
    return prune_checkpoint(streamed, windows, RULES, out, record=record, **options)


def in_shards(folder: Path, count: int) -> Path:
    """Spread a checkpoint's tensors over some files, in no order."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"part-{number % count}.safetensors" for number, name in enumerate(weights)}
    for file in set(places.values()):
        held = {name: weights[name].clone() for name in weights if places[name] == file}
        save_file(held, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted(set(tensor_files(folder).values()))
        for name, tensor in load_file(file).items()
    }


def comparable(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the time, and without what only a checkpoint can say."""
    return [
        {k: v for k, v in layer.items() if k not in ("seconds", "stored")}
        | {"certificate": {**layer["certificate"], "seconds": 0}}
        for layer in layers
    ]


ARCHITECTURES = {
    **{name: family.config for name, family in FAMILIES.items()},
    "tied": tiny.llama_config(tie_word_embeddings=True),
    # Products of many experts at once want rows of a multiple of 16 bytes.
    "even Mixtral": MixtralConfig(
        **EXPERTS | {"hidden_size": 16, "intermediate_size": 24}, num_local_experts=3
    ),
}


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [*((each, torch.float32) for each in ARCHITECTURES), ("even Mixtral", torch.bfloat16)],
)
def test_a_streamed_checkpoint_is_the_model_pruned_in_memory(
    tmp_path: Path, architecture: str, dtype: torch.dtype
) -> None:
    model = tiny.random_model(ARCHITECTURES[architecture], dtype)
    dense = in_shards(tiny.save_checkpoint(model, tmp_path / "dense"), 3)
    record = prune(dense, tmp_path / "out")
    held = load_model(str(dense)).model
    report = prune_model(held, tiny.random_windows(70), RULES)
    expected = json.loads(json.dumps(report.as_dict()))
    written = json.loads((tmp_path / "out" / RECORD).read_text())
    assert written == json.loads(json.dumps(record))
    assert written["verified"]
    assert all(layer["stored"] for layer in written["layers"])
    assert comparable(written["layers"]) == comparable(expected["layers"])

    again = load_model(str(tmp_path / "out")).model
    for name, value in held.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    before, after = tensors(dense), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(after[name].dtype == value.dtype for name, value in before.items())
    masks = read_masks(tmp_path / "out" / MASKS)
    assert masks.keys() == report.masks.keys()
    assert all((masks[name].bits == mask.bits).all() for name, mask in report.masks.items())
    assert not (tmp_path / "out.partial").exists()


def test_what_is_not_pruned_is_copied(tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    config = dense / "config.json"
    config.write_text(config.read_text() + "\n\n")  # recognisable, byte for byte
    prune(dense, tmp_path / "out")
    before, after = tensors(dense), tensors(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "proj" in name}
    assert (tmp_path / "out" / "config.json").read_bytes() == config.read_bytes()
    for file in ("tokenizer.json", "generation_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (dense / file).read_bytes()


@pytest.mark.parametrize("tied", [True, False])
def test_a_vocabulary_is_never_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    """Rows that the windows read are, and tensors that stay as they are are copied as files."""
    config = tiny.llama_config(tie_word_embeddings=tied)
    dense = tiny.save_checkpoint(tiny.random_model(config), tmp_path / "dense")
    read: set[str] = set()

    def noting(files: Mapping[str, Path]) -> dict[str, Tensor]:
        read.update(files)
        return read_tensors(files)

    monkeypatch.setattr(streamed_module, "read_tensors", noting)
    prune(dense, tmp_path / "out")
    assert "model.norm.weight" in read
    assert "model.embed_tokens.weight" not in read
    assert "lm_head.weight" not in read


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_read_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    table = torch.randn(37, 5).to(dtype)
    save_file({"before": torch.ones(3), "table": table}, tmp_path / "file.safetensors")
    monkeypatch.setattr(shards, "COPIED_AT_ONCE", 4 * table[0].nbytes)  # four rows
    for rows in (torch.arange(37), torch.tensor([0, 3, 4, 36]), torch.tensor([20])):
        found = read_rows(tmp_path / "file.safetensors", "table", rows)
        assert found.shape == table.shape
        assert torch.equal(found[rows], table[rows])


def test_names_of_a_base_model_stay(tmp_path: Path) -> None:
    """Many checkpoints lack the prefix that the causal model gives to its parts."""
    model = tiny.random_model(tiny.llama_config(tie_word_embeddings=True))
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    weights = load_file(dense / "model.safetensors")
    bare = {name.removeprefix("model."): value for name, value in weights.items()}
    save_file(bare, dense / "model.safetensors", metadata={"format": "pt"})
    prune(dense, tmp_path / "out")
    assert tensors(tmp_path / "out").keys() == bare.keys()


def test_a_checkpoint_wider_than_its_config_keeps_its_digits(tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    config = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    prune(dense, tmp_path / "out")
    before, after = tensors(dense), tensors(tmp_path / "out")
    for name, value in after.items():
        assert value.dtype == torch.float32
        if "proj" in name:
            assert not torch.equal(value, value.bfloat16().float())
            assert (value == 0).sum() == value.numel() // 2
        else:
            assert torch.equal(value, before[name])


def test_only_one_block_has_weights(dense: Path, tmp_path: Path) -> None:
    _, streamed = stream_model(str(dense))
    windows = tiny.random_windows()
    held: list[set[str]] = []

    def look(_: RunState) -> None:
        held.append({n for n, weight in streamed.model.named_parameters() if not weight.is_meta})

    # A pattern and a folder may be texts, as on the command line.
    prune_checkpoint(
        streamed,
        windows,
        "2:4",
        str(tmp_path / "out"),
        record={"settings": {}},
        progress=look,
    )
    outside = {"model.embed_tokens.weight", "model.norm.weight"}
    assert held[-1] == outside
    # Of the vocabulary what calibration reads.
    assert len(streamed.model.model.embed_tokens.weight) == len(set(windows.flatten().tolist()))
    for names in held[:-2]:  # at the end files are written
        assert len({name.split(".")[2] for name in names - outside}) <= 1


def test_a_shard_that_does_not_hold_the_pruned_block_is_noticed(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dense_tensors(streamed: StreamedModel, index: int) -> dict[str, torch.Tensor]:
        return read_tensors({name: streamed.files[name] for name in streamed.inside[index]})

    monkeypatch.setattr(StreamedModel, "block_tensors", dense_tensors)
    with pytest.raises(ValueError, match=r"0.self_attn.q_proj.weight is not the same after writ"):
        prune(dense, tmp_path / "out")


def place_at(file: str, folder: Path) -> None:
    names = json.loads((folder / INDEX).read_text())["weight_map"]
    first = next(iter(names))
    (folder / INDEX).write_text(json.dumps({"weight_map": {**names, first: file}}))


def an_absolute_path(folder: Path) -> None:
    place_at(str(folder.parent / "secret.safetensors"), folder)


def a_link_out(folder: Path) -> None:
    (folder / "part-0.safetensors").unlink()
    (folder / "part-0.safetensors").symlink_to(folder.parent / "secret.safetensors")


def a_truncated_shard(folder: Path) -> None:
    content = (folder / "part-1.safetensors").read_bytes()
    (folder / "part-1.safetensors").write_bytes(content[:-100])


def a_missing_shard(folder: Path) -> None:
    (folder / "part-1.safetensors").unlink()


def no_index(folder: Path) -> None:
    (folder / INDEX).write_text("[]")


def no_weights(folder: Path) -> None:
    (folder / INDEX).unlink()


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "path upwards": (partial(place_at, "../secret.safetensors"), r"outside of itself: '../secret"),
    "absolute path": (an_absolute_path, r"names a file outside of itself: '/.*/secret.safetensor"),
    "link out": (a_link_out, r"part-0.safetensors is a link to a file outside of its folder"),
    "pickle": (partial(place_at, "pytorch_model.bin"), r"only safetensors files are read, got 'py"),
    "missing tensor": (partial(place_at, "part-1.safetensors"), r"part-1.* lacks the tensor"),
    "truncated shard": (a_truncated_shard, r"part-1.safetensors cannot be read: "),
    "missing shard": (a_missing_shard, r"part-1.safetensors cannot be read: it is missing"),
    "no index": (no_index, r"index.json is no index of safetensors files"),
    "no weights": (no_weights, r"holds no model.safetensors and no model.safetensors.index.json"),
}


@pytest.mark.parametrize("load", [stream_model, load_model])
@pytest.mark.parametrize("case", REFUSED)
def test_bad_checkpoints_are_refused(tmp_path: Path, case: str, load: Any) -> None:
    spoil, message = REFUSED[case]
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    in_shards(dense, 2)
    weights = load_file(dense / "part-0.safetensors")
    save_file(weights, tmp_path / "secret.safetensors")
    load(str(dense))
    spoil(dense)
    with pytest.raises(ValueError, match=message) as caught:
        load(str(dense))
    assert "\n" not in str(caught.value)


def test_links_inside_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), snapshot)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (snapshot / "model.safetensors").rename(blobs / "hash")
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/hash"))
    loaded, streamed = stream_model(str(snapshot))
    assert loaded.provenance()["commit"] == "0123"
    assert len(streamed.inside) == 3


def test_other_files_do_not_leak_through_links(tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "dense")
    (tmp_path / "password").write_text("secret")
    (dense / "notes.txt").symlink_to(tmp_path / "password")
    with pytest.raises(ValueError, match=r"notes.txt is a link to a file outside of its folder"):
        prune(dense, tmp_path / "out")
    # Before the first block is pruned: the same command would fail again, hours later.
    assert not list(tmp_path.glob("out*"))
