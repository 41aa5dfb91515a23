"""`thanos certify` believes nothing of the pruned checkpoint, and says whom it believes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.models import tiny
from tests.models.certifying.kept import (
    Folders,
    certify_in,
    change,
    change_json,
    in_record,
    in_two_files,
    in_weights,
    in_witness,
    like,
    make,
    undecided,
)
from tests.models.conftest import SMALL, Outcome, Thanos
from tests.test_imports import ROOT
from thanos_torch.certifying.layers import GramReader, sha256_of_all, sha256_of_tensor
from thanos_torch.checkpoint.shards import INDEX, WEIGHT_KINDS
from thanos_torch.cli import certify as command
from thanos_torch.models import RECORD, Asked, Original, judge_checkpoint
from thanos_torch.pruning.card import CARD
from thanos_torch.pruning.checkpoint import WRITTEN
from verification import certify

UP = "model.layers.1.mlp.up_proj"
DENSE = "model.layers.2.self_attn.v_proj"
REFITTED = "model.layers.1.self_attn.o_proj"
NORM = "model.norm.weight"


@pytest.fixture
def copy(kept: Folders, tmp_path: Path) -> Path:
    """A copy to spoil of the folders dense, out and grams."""
    shutil.copytree(kept[0].parent, tmp_path / "copy")
    return tmp_path / "copy"


# --- What the original decides ---------------------------------------------------------------


def test_layers_that_the_original_has_not_fail(thanos: Thanos, copy: Path) -> None:
    in_record(UP, lambda layer: layer.update(name="model.layers.9.mlp.up_proj"))(copy)
    done = certify_in(copy, thanos)
    assert done.status == 1
    assert "layers.9.mlp.up_proj FAILED: the original has no such layer" in done.out
    assert f"{UP}.weight was CHANGED" in done.out


@pytest.mark.parametrize(
    ("stored", "model"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32")]
)
def test_a_checkpoint_of_another_dtype_than_its_model(
    thanos: Thanos, tmp_path: Path, stored: torch.dtype, model: str
) -> None:
    make(tmp_path, stored, thanos, model)
    done = certify_in(tmp_path, thanos)
    assert done.status == 0, done.out
    if stored == torch.float32:  # which is what a layer is judged by
        in_weights(f"{UP}.weight", lambda weight: weight.bfloat16().float())(tmp_path)
        done = certify_in(tmp_path, thanos)
        assert f"{UP} FAILED: " in done.out


# --- A refit's witness -----------------------------------------------------------------------


def test_a_witness_has_no_rounding_to_hide_behind(thanos: Thanos, tmp_path: Path) -> None:
    """The refitted weight is bfloat16, the weight before it is not."""
    make(tmp_path, torch.bfloat16, thanos)
    for spoil in (lambda weight: weight.bfloat16().float(), like):
        in_witness(REFITTED, spoil)(tmp_path)
        done = certify_in(tmp_path, thanos)
        assert done.status == 1
        assert f"{REFITTED} FAILED: " in done.out
        assert "19 of 20 layers passed." in done.out
    in_witness(REFITTED, lambda weight: weight.bfloat16())(tmp_path)
    done = certify_in(tmp_path, thanos)
    assert f"{REFITTED} FAILED: the weight before its refit is kept as bfloat16" in done.out


# --- What was asked for, and who says so -----------------------------------------------------


def test_the_first_line_says_whose_word_the_verdict_rests_on(
    thanos: Thanos, kept: Folders, tmp_path: Path
) -> None:
    dense, out, grams = kept
    report = tmp_path / "report.json"
    done = thanos("certify", dense, out, "--gram", grams, "--json", report)
    told = json.loads(report.read_text())["provenance"]
    reader = GramReader(grams)
    names = json.loads((grams / "grams.json").read_text())
    expected = sha256_of_all({name: sha256_of_tensor(reader.gram(name)) for name in names})
    assert told["grams"]["sha256"] == expected
    first, *lines = done.out.splitlines()
    assert first.startswith(f"Asked for, as {out / RECORD} says: thanos, unstructured:0.5, block")
    assert "sparsegpt, 2:4, block size 8, damping 0.01 in 3 layers" in first
    assert "; 1 layers dense. " in first
    assert f"Gram matrices: {grams}, SHA-256 {expected}, supplied by whoever ran" in first
    share = 1 - 8 * 16 / told["weights"]
    assert told["judged_share"] == share
    assert first.endswith(
        f"Judged: {share:.2%} of all weights of linear layers in the decoder blocks."
    )
    warned = [line for line in lines if line.startswith("WARNING, not the default: ")]
    assert [line.partition(": ")[2] for line in warned] == [f"{w}." for w in told["not_default"]]
    assert set(told["not_default"]) == {
        "method sparsegpt (default thanos) in 3 of 20 layers",
        "method wanda (default thanos) in 1 of 20 layers",
        "block size 8 (default 128) in 20 of 20 layers",
        "refit steps 5 (default 0) in 1 of 20 layers",
        "update=sequential in 1 of 20 layers",
        f"1 of 21 layers left dense ({DENSE})",
    }
    assert told["asked_by"] == str(out / RECORD)
    assert told["dense"] == [DENSE]
    assert sum(group["layers"] for group in told["asked"]) == 20
    assert told["grams"]["vouched_for"] is False


def test_the_judge_is_certify_if_none_is_named_and_folders_may_be_texts(kept: Folders) -> None:
    dense, out, grams = kept
    record = json.loads((out / RECORD).read_text())
    asked, only = Asked.by_record("its record", record), ("*.2.mlp.*",)
    found = judge_checkpoint(Original(dense), str(out), asked, str(grams), include=only)
    assert [layer.verdict for layer in found.judged] == ["passed"] * 3
    assert found.verdict == "passed"


def test_judging_a_part_says_how_small_it_is(thanos: Thanos, kept: Folders) -> None:
    dense, out, grams = kept
    done = thanos("certify", dense, out, "--gram", grams, "--include", "*.2.mlp.down_proj")
    assert done.status == 0
    share = 16 * 24 / (3 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 16 * 24))
    assert f"Judged: {share:.2%} of all weights" in done.out.splitlines()[0]
    assert "19 layers that differ from the original were NOT judged, as --include asks." in done.out


def test_a_damping_that_explains_anything_is_named(thanos: Thanos, copy: Path) -> None:
    for layer in json.loads((copy / "out" / RECORD).read_text())["layers"]:
        if layer["options"]:
            in_record(layer["name"], lambda each: each["options"].update(damping=1e-30))(copy)
    done = certify_in(copy, thanos)
    assert done.status == 3, done.out
    assert "layers.0.mlp.up_proj NOT DECIDABLE: damping 1e-30 is too small for " in done.out
    # Wanda computes nothing with it.
    assert "1 of 20 layers passed, 19 not decidable." in done.out
    assert "damping 1e-30 in 3 layers" in done.out.splitlines()[0]
    assert "WARNING, not the default: damping 1e-30 (default 0.01) in 20 of 20 layers." in done.out


def test_a_layer_dropped_from_what_was_asked_is_a_change(thanos: Thanos, copy: Path) -> None:
    in_record(UP, lambda layer: layer.update(options={}))(copy)
    done = certify_in(copy, thanos)
    assert done.status == 1
    assert f"{UP}.weight was CHANGED, though nobody asked for that" in done.out
    assert f"2 of 21 layers left dense ({UP}, {DENSE})" in done.out
    assert "19 of 19 layers passed." in done.out


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "2:4"},
        {"block_size": 8.5},
        {"block_size": "8"},
        {"damping": 10**400},
        {"damping": None},
        {"ablation": {"order": "up"}},
        {"ablation": 3},
        {"name": "surplus"},
    ],
)
def test_a_record_that_makes_no_sense_is_refused(
    thanos: Thanos, copy: Path, options: dict[str, Any]
) -> None:
    whole = {"pattern": "2:4", "method": "thanos", "block_size": 8, "damping": 1, "refit_steps": 0}
    changed = {**whole, **options} if len(options) and "pattern" not in options else options
    in_record(UP, lambda layer: layer.update(options=changed))(copy)
    done = certify_in(copy, thanos)
    assert done.status == 1
    at_the_door = "thanos.json is no record of a pruned model: "
    assert f"thanos: options of {UP}: " in done.err or at_the_door in done.err, done.err


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, thanos_once: Thanos) -> Folders:
    folder = tmp_path_factory.mktemp("plain")
    dense = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), folder / "dense")
    out, grams = folder / "out", folder / "grams"
    asked = ("--pattern", "1:4", "--n-counts-zeros", "--exclude", "*.0.*", "--method", "sparsegpt")
    done = thanos_once("prune", dense, *asked, "--out", out, "--keep-gram", grams, *SMALL)
    assert done.status == 0, done.out + done.err
    assert "1:4 (1 zeros in every 4)" in done.out
    return dense, out, grams


ASKED = ("--pattern", "1:4", "--n-counts-zeros", "--exclude", "*.0.*")
SAME = (*ASKED, "--method", "sparsegpt", "--block-size", 8)


def test_the_command_line_rules_over_the_record(
    thanos: Thanos, plain: Folders, tmp_path: Path
) -> None:
    def again(*asked: object, folder: Path = plain[1]) -> Outcome:
        return thanos("certify", plain[0], folder, "--gram", plain[2], *asked)

    done = again(*SAME)
    assert done.status == 0, done.out
    assert "14 of 14 layers passed." in done.out
    first = done.out.splitlines()[0]
    assert first.startswith("Asked for, as the command line says: sparsegpt, 1:4, block size 8,")
    assert "WARNING, not the default: 7 of 21 layers left dense (model.layers.0." in done.out
    assert again().status == 0
    # Not what was done: another method, another damping, a layer that should be dense, or not.
    assert again(*ASKED, "--block-size", 8).status == 1
    assert again(*SAME, "--damping", 0.02).status == 1
    assert "was CHANGED" in again(*SAME, "--exclude", "*.up_proj").out
    done = again(*SAME[:3], *SAME[5:])
    assert "0.mlp.down_proj FAILED: there is no Gram matrix of it" in done.out
    # Without a record, and by a recipe.
    bare = tmp_path / "bare"
    shutil.copytree(plain[1], bare)
    (bare / RECORD).unlink()
    assert again(folder=bare).status == 1
    assert again(*SAME, folder=bare).status == 0
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('pattern = "1:4"\nmethod = "sparsegpt"\nblock_size = 8\n')
    assert again("--recipe", recipe, *ASKED[2:]).status == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [("--damping", 0.01), ("--ablation", "metric=obs"), ("--exclude", "*"), ("--refit", 0)],
)
def test_half_of_what_was_asked_is_refused(
    thanos: Thanos, plain: Folders, option: str, value: object
) -> None:
    done = thanos("certify", plain[0], plain[1], "--gram", plain[2], option, value)
    assert done.status == 2
    assert f"{option}: needs --pattern or --recipe" in " ".join(done.err.split())


# --- Every other tensor and file -------------------------------------------------------------


def one_byte(name: str) -> Callable[[Path], None]:
    def spoil(out: Path) -> None:
        content = bytearray((out / name).read_bytes())
        content[content.index(b" ")] = 9  # as JSON the same
        (out / name).write_bytes(content)

    return spoil


def link_to(target: str) -> Callable[[Path], None]:
    def spoil(out: Path) -> None:
        (out.parent / "elsewhere.json").write_text((out / "config.json").read_text())
        (out / "config.json").unlink()
        (out / "config.json").symlink_to(target)

    return spoil


def unlisted(out: Path) -> None:
    in_two_files(out)
    index = json.loads((out / INDEX).read_text())
    del index["weight_map"][NORM]
    (out / INDEX).write_text(json.dumps(index))


def write(name: str, content: str = "") -> Callable[[Path], object]:
    return lambda out: (out / name).write_text(content)


def in_norm(how: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    return lambda out: in_weights(NORM, how)(out.parent)


def negative_zero(norm: Tensor) -> Tensor:
    norm[0] = -0.0
    return norm


CHANGED = "was CHANGED, though nobody asked for that"
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "added": (write("modeling_llama.py"), "modeling_llama.py was ADDED"),
    "added below": (
        lambda out: shutil.copytree(out.parent / "grams", out / "code"),
        "code/grams.json was ADDED",
    ),
    "added pickle": (write("pytorch_model.bin"), "pytorch_model.bin was ADDED"),
    "added weights": (
        lambda out: save_file({"a": torch.ones(1)}, out / "adapter.safetensors"),
        "adapter.safetensors was ADDED",
    ),
    "lost": (
        lambda out: (out / "tokenizer_config.json").unlink(),
        "tokenizer_config.json was LOST",
    ),
    "tokenizer": (
        one_byte("tokenizer.json"),
        f"tokenizer.json {CHANGED}: the same values in other bytes",
    ),
    "config": (
        lambda out: change_json(out / "config.json", vocab_size=255, hidden_act="relu", new=1),
        f"config.json {CHANGED}: keys hidden_act, new, vocab_size",
    ),
    "no json": (write("config.json", "{"), f"config.json {CHANGED}: it is no JSON object"),
    "link out": (link_to("../elsewhere.json"), f"config.json {CHANGED}: it cannot be read: "),
    "link to nothing": (link_to("nothing.json"), "out/config.json is no regular file"),
    "folder of links": (lambda out: (out / "more").symlink_to("/etc"), "more was ADDED"),
    "name": (write("a\x1b[2J\n.json"), r"a\x1b[2J\n.json was ADDED"),
    "norm": (in_norm(lambda norm: norm * 2), f"{NORM} {CHANGED}\n"),
    "norm dtype": (in_norm(Tensor.bfloat16), f"{NORM} {CHANGED}: stored as bfloat16, the original"),
    "sign of zero": (in_norm(negative_zero), f"{NORM} was CHANGED"),
    "index": (unlisted, f"{INDEX} {CHANGED}: it does not name {NORM}"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_whatever_else_changed_is_named(thanos: Thanos, copy: Path, case: str) -> None:
    spoil, message = OTHERS[case]
    if case == "sign of zero":
        change(copy / "dense" / "model.safetensors", NORM, lambda norm: negative_zero(norm).abs())
        in_weights(NORM, lambda norm: negative_zero(norm).abs())(copy)
        assert certify_in(copy, thanos).status == 0
    spoil(copy / "out")
    done = certify_in(copy, thanos)
    assert done.status == 1
    assert message in done.out, done.out
    assert "20 of 20 layers passed." in done.out


def test_what_pruning_changes_by_design_passes(thanos: Thanos, copy: Path, tmp_path: Path) -> None:
    """Files that are not copied, those that are written anew, and links inside of a folder."""
    dense, out = copy / "dense", copy / "out"
    (dense / "pytorch_model.bin").write_text("pickle")
    (dense / "LICENSE").write_text("free")
    (dense / "onnx").mkdir()
    (dense / "onnx" / "model.onnx").write_text("weights")
    (dense / ".git").mkdir()
    (dense / ".git" / "config").write_text("[core]")
    (dense / CARD).write_text("# Dense")
    (out / "LICENSE").write_text("free")
    in_two_files(out)
    (out / "config.json").rename(out / "real.json")
    (out / "config.json").symlink_to("real.json")
    shutil.copyfile(out / "real.json", dense / "real.json")
    report = tmp_path / "report.json"
    folders = (dense, out, "--gram", copy / "grams")
    done = thanos("certify", *folders, "--json", report)
    assert done.status == 0, done.out
    found = json.loads(report.read_text())
    left = {"pytorch_model.bin", "onnx/model.onnx", ".git/config"}
    assert set(found["by_design"]) == {*WRITTEN, *left}
    assert found["not_as_before"] == {}
    shutil.move(out, dense / "pruned")  # a result may lie in the original's folder
    done = thanos("certify", dense, dense / "pruned", "--gram", copy / "grams")
    assert done.status == 0, done.out


def test_the_page_lists_what_changes_by_design() -> None:
    page = (ROOT / "docs" / "pruning-models.md").read_text()
    _, _, rest = page.partition("What `thanos prune` changes by design")
    table = rest.partition("\n## ")[0]
    rows = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")}
    assert rows >= {f"`{name}`" for name in WRITTEN}
    assert ", ".join(f"`{kind}`" for kind in WEIGHT_KINDS) in table


# --- The third outcome -----------------------------------------------------------------------


def test_a_layer_that_is_not_decidable_is_never_passed(
    thanos: Thanos, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "judge", undecided(certify))
    report = copy / "report.json"
    folders = (copy / "dense", copy / "out", "--gram", copy / "grams")
    done = thanos("certify", *folders, "--json", report)
    assert done.status == 3
    assert "layers.0.mlp.down_proj NOT DECIDABLE: [too few tokens]" in done.out
    assert "17 of 20 layers passed, 3 not decidable." in done.out
    assert "0 of 3, 3" in done.out
    found = json.loads(report.read_text())
    assert (found["passed"], found["verdict"]) == (False, "not decidable")
    assert sum(layer["verdict"] == "not decidable" for layer in found["layers"]) == 3
    in_weights(NORM, lambda norm: norm * 2)(copy)
    assert thanos("certify", *folders).status == 1


SIDE_BY_SIDE = """
import itertools, threading, time
from threadpoolctl import threadpool_info
from thanos_torch.cli import certify as command, main
from thanos_torch.certifying import layers
from verification import certify

both, numbers, begun = threading.Barrier(2, timeout=60), itertools.count(), []
check = layers.refuse_unlike

def one_after_the_other(*arguments):
    begun.append(threading.get_ident())
    if begun[0] != threading.get_ident():
        time.sleep(0.5)
    check(*arguments)

def overlapping(*args, **options):
    number = next(numbers)
    both.wait()
    time.sleep(0.3 * number)
    return certify(*args, **options)

def threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

layers.refuse_unlike = one_after_the_other
command.judge = overlapping
before = threads()
assert max(before) > 1, before
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert next(numbers) == 2
assert threads() == before, (before, threads())
"""


@pytest.mark.long
def test_judging_side_by_side_leaves_blas_its_threads(kept: Folders) -> None:
    """A layer begins while another is judged, and ends after it.

    In a process of its own: that of the tests holds a limit, beside which no other has an effect.
    """
    dense, out, grams = kept
    layers = ("--include", UP, "--include", "model.layers.0.mlp.up_proj")
    command = (sys.executable, "-c", SIDE_BY_SIDE, "certify", dense, out, "--gram", grams, *layers)
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
