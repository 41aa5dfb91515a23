"""What an earlier process made is believed only if it is of the same run, and as it was written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models import tiny
from tests.models.conftest import SMALL, Outcome, Thanos
from tests.stress.program import differing_files
from thanos_torch.models import (
    MASKS,
    RECORD,
    GramWriter,
    StreamedModel,
    finished_run,
    inspect_folder,
    pack_checkpoint,
    prune_checkpoint,
    prune_model,
    read_record,
    reapply_checkpoint,
    save_checkpoint,
    unpack_checkpoint,
)
from thanos_torch.runtime import files
from thanos_torch.runtime.files import refuse_overlap
from thanos_torch.runtime.progress import alone_in

Damage = Callable[[Path], object]
SHARD = "model.safetensors"


class Program:
    """`thanos prune` of one model into folders beside each other."""

    def __init__(self, thanos: Thanos, dense: Path, folder: Path) -> None:
        self._thanos, self.dense, self.folder = thanos, dense, folder
        self.out, self.grams = folder / "out", folder / "grams"

    def prune(self, *more: object, fail: str = "", pattern: str = "2:4") -> Outcome:
        files._begun.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("THANOS_FAILPOINT", fail)
            given = ("--pattern", pattern, "--out", self.out, "--keep-gram", self.grams)
            return self._thanos("prune", self.dense, *given, *SMALL, *more)

    @property
    def partial(self) -> Path:
        return self.folder / "out.partial"


@pytest.fixture(scope="module")
def whole(dense: Path, tmp_path_factory: pytest.TempPathFactory, thanos_once: Thanos) -> Program:
    """A finished run."""
    run = Program(thanos_once, dense, tmp_path_factory.mktemp("whole"))
    before = os.umask(0o027)
    try:
        assert run.prune().status == 0
    finally:
        os.umask(before)
    return run


@pytest.fixture(scope="module")
def broken_off(
    dense: Path, tmp_path_factory: pytest.TempPathFactory, thanos_once: Thanos
) -> Program:
    """A run that ended in its last block."""
    run = Program(thanos_once, dense, tmp_path_factory.mktemp("broken"))
    assert "No space left" in run.prune(fail="solve:16:enospc").err
    shutil.copytree(run.folder, run.folder.with_name("kept"))
    return run


@pytest.fixture
def halfway(broken_off: Program) -> Program:
    """The same, whatever earlier tests did to it."""
    shutil.rmtree(broken_off.folder)
    shutil.copytree(broken_off.folder.with_name("kept"), broken_off.folder)
    return broken_off


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def flip_a_bit(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def change_json(file: Path, how: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    how(content)
    file.write_text(json.dumps(content))


def make_a_folder_of_it(out: Path) -> None:
    (out / SHARD).unlink()
    (out / SHARD).mkdir()


def settings_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / RECORD).read_text())["settings"]
    return found


# What happened to a finished result: the file that is named, and how.
SPOILED: dict[str, tuple[str, Damage]] = {
    "zeros over a shard": (
        f"{SHARD} has other content",
        lambda out: (out / SHARD).write_bytes(
            (out / SHARD).read_bytes()[:-64] + bytes(64)  # of the last tensor
        ),
    ),
    "a cut shard": (f"{SHARD} has ", lambda out: cut(out / SHARD)),
    "a lost shard": (f"{SHARD} is missing", lambda out: (out / SHARD).unlink()),
    "a folder instead of a shard": (
        f"{SHARD} is missing",
        make_a_folder_of_it,
    ),
    "masks": (f"{MASKS} has other content", lambda out: flip_a_bit(out / MASKS)),
    "config.json": (
        "config.json has ",
        lambda out: change_json(out / "config.json", lambda c: c.update(rope_theta=7.0)),
    ),
    "weights that are loaded with it": (
        "model-00001-of-00002.safetensors was added",
        lambda out: shutil.copy(out / SHARD, out / "model-00001-of-00002.safetensors"),
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_finished_result_is_compared_with_its_hashes(
    whole: Program, thanos: Thanos, tmp_path: Path, case: str
) -> None:
    named, spoil = SPOILED[case]
    out = tmp_path / "copy"
    shutil.copytree(whole.out, out)
    spoil(out)
    again = thanos(
        "prune", whole.dense, "--pattern", "2:4", "--out", out, "--keep-gram", whole.grams, *SMALL
    )
    assert again.status == 1
    assert f"{out} holds the result of this very run, but it changed since: {out}/{named}" in (
        again.err
    )
    assert f"Remove {out} and {whole.grams}, and the same command" in again.err
    assert "certified" not in again.out
    with pytest.raises(ValueError, match="but it changed since"):
        finished_run(out, settings_of(out))
    seen = thanos("inspect", out)
    assert seen.status == 1
    assert f"{out}/{named}" in seen.out
    assert "All zeros hold" not in seen.out


@pytest.mark.parametrize("part", ["files", "grams"])
@pytest.mark.parametrize("emptied", [False, True])
def test_a_record_without_hashes_is_not_believed(
    whole: Program, thanos: Thanos, tmp_path: Path, part: str, emptied: bool
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole.out, out)
    change_json(out / RECORD, lambda c: c.update({part: {}}) if emptied else c.pop(part))
    again = thanos(
        "prune", whole.dense, "--pattern", "2:4", "--out", out, "--keep-gram", whole.grams, *SMALL
    )
    assert again.status == 1
    assert f"but it changed since: {out}/{RECORD} has no hashes of" in again.err


def test_what_changed_since_is_not_packed(whole: Program, thanos: Thanos, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole.out, out)
    (out / "config.json").write_text((out / "config.json").read_text() + "\n")
    done = thanos("pack", out, "--out", tmp_path / "packed")
    assert done.status == 1
    assert f"{out}/config.json has " in done.err
    assert "can be packed, unchanged; `thanos inspect` names all that changed" in done.err
    assert not (tmp_path / "packed").exists()


def test_layers_of_a_changed_file_are_named_by_the_function(whole: Program, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole.out, out)
    flip_a_bit(out / SHARD)
    found = {each.name: each.problems for each in inspect_folder(out, read_record(out))}
    assert found["model.layers.1.mlp.up_proj"] == (
        f"its file {SHARD} has other content, by its SHA-256",
    )


def test_other_files_beside_a_result_do_no_harm(
    whole: Program, thanos: Thanos, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole.out, out)
    (out / "notes.txt").write_text("mine")
    (out / "README.md").write_text("my own words")
    assert finished_run(out, settings_of(out), whole.grams) is not None
    seen = thanos("inspect", out)
    assert (seen.status, "All zeros hold." in seen.out) == (0, True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_record_cannot_name_files_elsewhere(
    whole: Program, thanos: Thanos, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole.out, out)
    facts = {"bytes": 0, "sha256": ""}
    change_json(out / RECORD, lambda record: record["files"].update({"../x": facts}))
    assert "names a file outside of itself: '../x'" in thanos("inspect", out).err
    change_json(out / RECORD, lambda record: record.update(files={"x": 3}))
    assert "is no record of a pruned model" in thanos("inspect", out).err
    change_json(out / RECORD, lambda record: record.pop("files"))
    assert "has no SHA-256 of the files: they were not compared" in thanos("inspect", out).out
    with pytest.raises(ValueError, match=r"thanos.json has no hashes of the files"):
        finished_run(out, settings_of(out))


def test_files_have_the_mode_of_the_umask(whole: Program) -> None:
    made = [*whole.out.rglob("*"), *whole.grams.rglob("*")]
    assert {file.stat().st_mode & 0o777 for file in made if file.is_file()} == {0o640}


GRAM = "model.layers.1.mlp.down_proj.safetensors"
GRAMS_SPOILED: dict[str, Damage] = {
    "lost": lambda grams: (grams / GRAM).unlink(),
    "cut": lambda grams: cut(grams / GRAM),
    "of another layer": lambda grams: shutil.copy(
        grams / "model.layers.0.mlp.down_proj.safetensors", grams / GRAM
    ),
}


@pytest.mark.parametrize("case", GRAMS_SPOILED)
def test_kept_grams_of_a_finished_run_are_compared(whole: Program, case: str) -> None:
    before = (whole.grams / GRAM).read_bytes()
    GRAMS_SPOILED[case](whole.grams)
    again = whole.prune()
    (whole.grams / GRAM).write_bytes(before)
    assert again.status == 1
    assert f"it changed since: {whole.grams / GRAM} " in again.err
    assert whole.prune().status == 0


@pytest.mark.parametrize("case", ["all lost", "of another layer"])
def test_kept_grams_of_a_run_that_goes_on_are_made_again(
    whole: Program, halfway: Program, case: str
) -> None:
    if case == "all lost":
        shutil.rmtree(halfway.grams)
    else:
        GRAMS_SPOILED[case](halfway.grams)
    found = halfway.prune()
    while found.status:  # where the sizes are right, the hash tells at the end
        assert f"{halfway.grams}/" in found.err
        assert not halfway.out.exists()
        found = halfway.prune()
    assert differing_files(whole.grams, halfway.grams) == []
    index = json.loads((halfway.grams / "grams.json").read_text())
    assert len(index) == 21


def test_two_runs_cannot_keep_grams_in_one_folder(halfway: Program, dense: Path) -> None:
    with alone_in(halfway.grams):
        assert f"another run is at work in {halfway.grams}" in halfway.prune().err
        with pytest.raises(ValueError, match="another run is at work in"):
            GramWriter(halfway.grams).open([])
    model = tiny.random_model(tiny.llama_config())
    with pytest.raises(ValueError, match="keep_gram must be a new or empty folder"):
        prune_model(model, tiny.random_windows(), "2:4", on_layer=GramWriter(halfway.grams))


RUNS: dict[str, Damage] = {
    "damaged": lambda partial: (partial / "run.json").write_text("{"),
    "of another type": lambda partial: (partial / "run.json").write_text("[]"),
    "removed": lambda partial: (partial / "run.json").unlink(),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_journal_without_its_fingerprint_is_believed_by_its_own_run_alone(
    whole: Program, halfway: Program, case: str
) -> None:
    RUNS[case](halfway.partial)
    held = {file: file.stat().st_mtime_ns for file in halfway.partial.rglob("*.safetensors")}
    other = halfway.prune(pattern="4:8")
    assert other.status == 1
    assert f"{halfway.partial}/journal/00000.json is damaged, or of another run" in other.err
    assert f"remove all of {halfway.partial}" in other.err
    assert {file: file.stat().st_mtime_ns for file in held} == held
    if case == "of another type":  # as if it were damaged
        return
    assert halfway.prune().status == 0
    assert differing_files(whole.grams, halfway.grams) == []
    left = set(differing_files(whole.out, halfway.out))
    assert left <= {RECORD, "README.md"}  # where the Gram matrices lie, and times


def swap_entries(partial: Path) -> None:
    journal = partial / "journal"
    shutil.copy(journal / "00000.json", journal / "00001.json")


def forge_an_entry(partial: Path) -> None:
    change_json(
        partial / "journal" / "00001.json",
        lambda entry: entry["content"]["block"]["layers"][0].update(relative_error=0.0),
    )


def of_another_seed(partial: Path) -> None:
    """The list and the outputs fit each other, but not this run."""
    change_json(partial / "activations" / "00002" / "list.json", lambda c: c.update(seal="0" * 64))


LEFT: dict[str, tuple[str, Damage]] = {
    "an entry of another block": ("journal/00001.json", swap_entries),
    "a forged entry": ("journal/00001.json", forge_an_entry),
    "an entry that nests deeply": (
        "journal/00001.json",
        lambda partial: (partial / "journal/00001.json").write_text("[" * 100000),
    ),
    "one bit of the activations": (
        "activations/00002/00000.safetensors",
        lambda partial: flip_a_bit(partial / "activations/00002/00000.safetensors"),
    ),
    "activations of another run": ("activations/00002/list.json", of_another_seed),
    "activations without a list": (
        "activations/00002/list.json",
        lambda partial: (partial / "activations/00002/list.json").unlink(),
    ),
    "a shard of another model": (
        "checkpoint/model-00007-of-00009.safetensors",
        lambda partial: shutil.copy(
            partial / "parts/00000.safetensors",
            partial / "checkpoint/model-00007-of-00009.safetensors",
        ),
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_leftovers_of_other_runs_are_named_and_made_again(
    whole: Program, halfway: Program, case: str
) -> None:
    name, damage = LEFT[case]
    damage(halfway.partial)
    found = halfway.prune()
    assert found.status == 1
    assert f"{halfway.partial}/{name}" in found.err
    assert "\n" not in found.err.strip()
    if "remove it" in found.err:
        assert (halfway.partial / name).exists()
        return
    assert not (halfway.partial / name).exists()
    if case not in ("a forged entry", "one bit of the activations"):
        return
    done = halfway.prune()
    assert done.status == 0, done.err
    assert differing_files(whole.grams, halfway.grams) == []
    assert set(differing_files(whole.out, halfway.out)) <= {RECORD, "README.md"}


def link(to: str) -> Damage:
    return lambda path: path.symlink_to(path.parent / to)


# --out and --keep-gram below the test's folder, which has model/, a link to it, and empty/.
PLACES: dict[str, tuple[str, str, str]] = {
    "grams inside of out": ("out", "out/grams", "keep_gram must be neither out"),
    "grams as out": ("out", "../w/out", "keep_gram must be neither out"),
    "grams around out": ("a/out", "a", "keep_gram must be neither out"),
    "grams in the progress": ("out", "out.partial/grams", "neither the folder of the progress"),
    "out is a link": ("to-empty", "grams", "to-empty, which is a link"),
    "out is a dangling link": ("dangling", "grams", "dangling, which is a link"),
    "out ends in ..": ("x/..", "grams", "out must end in the name of a new folder"),
    "out in the model": ("model/out", "grams", "out must be neither the model's folder"),
    "out in the model by a link": ("link/sub/out", "grams", "neither the model's folder"),
    "out is the model": ("model", "grams", "out must be a new or empty folder"),
    "grams in the model": ("out", "link/grams", "keep_gram must be neither the model's folder"),
    "grams are the model": ("out", "model", "keep_gram must be neither the model's folder"),
    "grams around the model": ("out", ".", "keep_gram must be neither"),
    "grams at a dangling link": ("out", "dangling", "keep_gram must be a new or empty folder"),
    "progress at a link": ("linked", "grams", "linked.partial is needed for the progress"),
}


@pytest.mark.parametrize("case", PLACES)
def test_outputs_are_refused_before_the_work(
    dense: Path, thanos: Thanos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    out, grams, message = PLACES[case]
    folder = tmp_path / "w"
    shutil.copytree(dense, folder / "model")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("model")
    (folder / "to-empty").symlink_to("empty")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "linked.partial").symlink_to("empty")
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    done = thanos(
        "prune", "model", "--pattern", "2:4", "--out", out, "--keep-gram", grams, *SMALL, *()
    )
    assert done.status == 1
    assert message in done.err
    assert "\n" not in done.err.strip()
    with pytest.raises(ValueError, match=message.replace("..", r"\.\.")):
        prune_checkpoint(
            StreamedModel(Path("model")),
            tiny.random_windows(),
            "2:4",
            out,
            record={"settings": {}},
            on_layer=GramWriter(Path(grams)),
        )
    assert sorted(folder.rglob("*")) == before


def test_outputs_of_other_commands_are_refused_too(whole: Program, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned"
    shutil.copytree(whole.out, pruned)
    (tmp_path / "link").symlink_to("pruned")
    inside = tmp_path / "link" / "new"
    with pytest.raises(ValueError, match="out must be neither the pruned checkpoint"):
        pack_checkpoint(pruned, inside)
    with pytest.raises(ValueError, match="out must be neither the checkpoint"):
        reapply_checkpoint(pruned, whole.out, inside)
    with pytest.raises(ValueError, match="out must be neither the pruned checkpoint"):
        reapply_checkpoint(whole.out, pruned, inside)
    pack_checkpoint(pruned, tmp_path / "packed")
    with pytest.raises(ValueError, match="out must be neither the packed folder"):
        unpack_checkpoint(tmp_path / "packed", tmp_path / "packed" / "new")
    assert not inside.exists()


def test_spellings_of_a_disk_that_ignores_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS has it; imitated by a link of the other spelling beside the folder."""
    (tmp_path / "work").mkdir()
    refuse_overlap({"out": tmp_path / "work/Out", "keep_gram": tmp_path / "work/out"}, {})
    (tmp_path / "WORK").symlink_to("work")
    with pytest.raises(ValueError, match="keep_gram must be neither out"):
        refuse_overlap({"out": tmp_path / "work/Out", "keep_gram": tmp_path / "WORK/out/x"}, {})


def test_a_model_saved_from_memory_has_hashes_too(
    dense: Path, thanos: Thanos, tmp_path: Path
) -> None:
    from thanos_torch.models import load_model

    loaded = load_model(str(dense))
    report = prune_model(loaded.model, tiny.random_windows(), "2:4", block_size=8)
    record = {"settings": {"mine": 1}, **report.as_dict()}
    with pytest.raises(ValueError, match="out must be neither the model's folder"):
        save_checkpoint(loaded, dense / "new", record=record, masks=report.masks)
    out = tmp_path / "out"
    save_checkpoint(loaded, out, record=record, masks=report.masks)
    assert finished_run(out, {"mine": 1}) is not None
    flip_a_bit(out / "model.safetensors")
    assert "model.safetensors has other content" in thanos("inspect", out).out
    with pytest.raises(ValueError, match="it changed since"):
        finished_run(out, {"mine": 1})
