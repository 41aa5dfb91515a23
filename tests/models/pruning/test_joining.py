"""Parts that are joined to the files of `save_pretrained`: the same bytes, whatever ends a run."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import tiny
from tests.models.conftest import SMALL, Outcome, Thanos
from tests.models.families import FAMILIES
from tests.stress.program import differing_files, fork_program, wait_for
from thanos_torch import Unstructured
from thanos_torch.checkpoint import shards
from thanos_torch.models import (
    LayerOptions,
    Rules,
    load_model,
    pack_checkpoint,
    prune_checkpoint,
    reapply_checkpoint,
    stream_model,
    unpack_checkpoint,
)
from thanos_torch.runtime import files

RULES = Rules(LayerOptions(Unstructured(0.5), block_size=tiny.BLOCK_SIZE))
# Not Mixtral and Qwen3-MoE: Transformers puts all experts of a block into one file, because in its
# memory they share one tensor.
LONGER = FAMILIES.keys() - {"Llama", "GPT-OSS", "Mixtral", "Qwen3-MoE"}
SMALL_SHARDS = "18KB"  # four files for the tiny Llama, which share two blocks


@pytest.mark.parametrize("size", ["50GB", SMALL_SHARDS])
@pytest.mark.parametrize(
    "family",
    [
        "Llama",
        "GPT-OSS",
        *(pytest.param(n, marks=pytest.mark.long) for n in FAMILIES if n in LONGER),
    ],
)
def test_the_files_are_those_of_save_pretrained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, size: str
) -> None:
    assert shards.largest_shard() == "50GB"  # of the Transformers that is installed
    monkeypatch.setattr(shards, "largest_shard", lambda: size)
    dense = tiny.save_checkpoint(tiny.random_model(FAMILIES[family].config), tmp_path / "dense")
    _, streamed = stream_model(str(dense))
    prune_checkpoint(
        streamed, tiny.random_windows(), RULES, tmp_path / "out", record={"settings": {}}
    )
    load_model(str(tmp_path / "out")).model.save_pretrained(tmp_path / "again", max_shard_size=size)
    names = {file.name for file in (tmp_path / "again").glob("model*")}
    assert names == {file.name for file in (tmp_path / "out").glob("model*")}
    assert (len(names) == 1) == (size == "50GB")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_joined_files_are_those_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "COPIED_AT_ONCE", 7)
    torch.manual_seed(0)
    tensors = {
        'b "é\\': torch.randn(3, 5),
        "a": torch.randn(7).bfloat16(),
        "layers.10.x": torch.randn(2, 3, 4).half(),
        "layers.2.x": torch.arange(5),
        "flags": torch.tensor([True, False, True]),
        "nothing": torch.empty(0, 4),
        "number": torch.tensor(1.5).double(),
    }
    places: dict[str, Path] = {}
    for number, names in enumerate((["a", "nothing", "flags"], [*tensors][::2], [*tensors][1::2])):
        part = tmp_path / f"{number}.safetensors"
        save_file({name: tensors[name] for name in names}, part)
        places |= dict.fromkeys(names, part)
    save_file(tensors, tmp_path / "whole", metadata={"format": "pt"})
    written = shards.join(places, tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "whole").read_bytes()
    assert files.sha256_of(tmp_path / "joined") == written


Prune = Callable[..., Outcome]


@pytest.fixture
def prune(dense: Path, thanos: Thanos, monkeypatch: pytest.MonkeyPatch) -> Prune:
    """Runs `thanos prune` of the tiny Llama into a folder, with small files of weights."""
    monkeypatch.setattr(shards, "largest_shard", lambda: SMALL_SHARDS)

    def run(out: Path, *, fail: str = "", more: tuple[object, ...] = ()) -> Outcome:
        files._begun.clear()
        monkeypatch.setenv("THANOS_FAILPOINT", fail)
        return thanos("prune", dense, "--pattern", "2:4", "--out", out, *SMALL, *more)

    return run


@pytest.fixture(scope="module")
def whole(
    dense: Path, thanos_once: Thanos, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A run left in peace, and the stages that began."""
    folder = tmp_path_factory.mktemp("joining")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "largest_shard", lambda: SMALL_SHARDS)
        patch.setenv("THANOS_TRACE", str(folder / "trace"))
        given = ("--pattern", "2:4", "--out", folder / "out", *SMALL)
        assert thanos_once("prune", dense, *given).status == 0
    assert len(list((folder / "out").glob("model-*-of-00004.safetensors"))) == 4
    return folder / "out", (folder / "trace").read_text().split("\n")


# Stages, and how often they have begun since the first file of the result was.
QUICK = [("join", 3), ("rename", 1), ("rename", 8), ("journal", 1), ("drop", 3)]
LONG = [("join", 1), ("rename", 2), ("rename", 4), ("rename", 10), ("drop", 1), ("finish", 1)]


@pytest.mark.parametrize(
    ("stage", "count"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.long) for each in LONG)]
)
def test_several_files_are_joined_whatever_ends_the_run(
    dense: Path, prune: Prune, whole: tuple[Path, list[str]], tmp_path: Path, stage: str, count: int
) -> None:
    (reference, stages), out = whole, tmp_path / "out"
    before = stages[: stages.index("join")].count(stage)
    given = ("prune", dense, "--pattern", "2:4", "--out", out, *SMALL)
    fail = {"THANOS_FAILPOINT": f"{stage}:{before + count}:kill"}
    assert wait_for(fork_program(given, fail)) == -signal.SIGKILL
    assert not out.exists()
    # Every tensor is on the disk, in a part or in a file of the result.
    left = (tmp_path / "out.partial").glob("[cp]*/0*.safetensors"), tmp_path.glob("*/*/model-*")
    held = {
        name
        for each in left
        for file in each
        if "unfinished" not in file.name
        for name in load_file(file)
    }
    assert held == {name for file in reference.glob("model-*rs") for name in load_file(file)}
    assert "No space left" in prune(out, fail="rename:1:enospc").err
    assert prune(out).status == 0
    assert differing_files(reference, out) == []
    assert not (tmp_path / "out.partial").exists()


def test_parts_go_as_soon_as_no_file_needs_them(prune: Prune, tmp_path: Path) -> None:
    parts = tmp_path / "out.partial" / "parts"
    left = []
    for fail in ("join:1", "join:2", "join:2", "join:2", "finish:1"):  # counted by process
        prune(tmp_path / "out", fail=f"{fail}:enospc")
        left.append([int(file.stem) for file in sorted(parts.iterdir())])
    # Head; embedding and some of block 0; the rest of it, block 1, some of block 2; the rest.
    assert left == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [2, 3], []]


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a changed file": ("checkpoint/model-00003-of-00004.safetensors", flip),
    "a lost file": ("checkpoint/model-00002-of-00004.safetensors", Path.unlink),
    "lost masks": ("masks/00001.safetensors", Path.unlink),
    "changed masks": ("masks/00000.safetensors", flip),
    "a damaged entry": ("journal/00005.json", flip),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_after_joining_is_found_and_made_good(
    prune: Prune, whole: tuple[Path, list[str]], tmp_path: Path, case: str
) -> None:
    # In memory there are no outputs to go on with, so finished blocks are read again.
    more = ("--activations", "memory") if "masks" in case else ()
    out, (name, damage) = tmp_path / "out", DAMAGE[case]
    assert "No space" in prune(out, fail="finish:1:enospc", more=more).err
    damage(tmp_path / "out.partial" / name)
    found = prune(out, more=more)
    assert f"{out}.partial/{name}" in found.err
    for _ in range(3):  # what was only in a lost file is found to be missing, and made again
        assert not out.exists()
        found = prune(out, more=more)
        if found.status == 0:
            break
    assert found.status == 0, found.err
    assert differing_files(whole[0], out) == []


def test_blocks_that_come_out_otherwise_are_joined_again(
    prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where sums need not come out the same."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    prune(out, fail="finish:1:enospc")
    (partial / "masks" / "00002.safetensors").unlink()
    assert "00002.safetensors is missing" in prune(out).err
    original = shards.write_shard

    def another(file: Path, tensors: dict[str, torch.Tensor], *rest: object) -> None:
        original(file, {name: each * 1.25 for name, each in tensors.items()})

    with monkeypatch.context() as patch:
        patch.setattr("thanos_torch.pruning.store.write_shard", another)
        patch.setattr("thanos_torch.checkpoint.streamed.StreamedModel.is_written", lambda *_: True)
        told = prune(out)
    assert told.status == 1
    assert "is missing" in told.err
    assert not out.exists()


def test_reapply_and_pack_hold_few_tensors_of_a_large_file(
    kept: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pruned, _ = kept
    reapply_checkpoint(pruned, pruned, tmp_path / "at once")
    pack_checkpoint(pruned, tmp_path / "packed at once")
    monkeypatch.setattr(shards, "PART_BYTES", 2000)
    written: list[int] = []
    original = shards.write_shard

    def counted(file: Path, tensors: dict[str, torch.Tensor], *rest: object) -> None:
        written.append(sum(each.nbytes for each in tensors.values()))
        original(file, tensors, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shards, "write_shard", counted)
    reapply_checkpoint(pruned, pruned, tmp_path / "in parts")
    pack_checkpoint(pruned, tmp_path / "packed in parts")
    assert max(written) < 2000 + 256 * 16 * 4 + 1  # and the largest tensor
    assert differing_files(tmp_path / "at once", tmp_path / "in parts") == []
    assert differing_files(tmp_path / "packed at once", tmp_path / "packed in parts") == []
    unpack_checkpoint(tmp_path / "packed in parts", tmp_path / "unpacked")
    assert differing_files(pruned, tmp_path / "unpacked") == []
    assert json.loads((pruned / "thanos.json").read_text())["files"]["model.safetensors"]
