"""Prune a checkpoint larger than the memory, in a run that can resume; save pruned models."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Pattern
from thanos_torch.checkpoint.converted import AUTO, CONFIG, config_in, read_dtype
from thanos_torch.checkpoint.inspect import changed_files
from thanos_torch.checkpoint.load import LoadedModel
from thanos_torch.checkpoint.masks import PackedMask, Place, read_masks, write_masks
from thanos_torch.checkpoint.record import (
    Judge,
    PrunedLayer,
    described_files,
    is_consistent,
    read_record,
)
from thanos_torch.checkpoint.shards import (
    INDEX,
    MASKS,
    RECORD,
    concatenate,
    inside,
    is_side_file,
    side_files,
)
from thanos_torch.checkpoint.streamed import StreamedModel, quiet_transformers
from thanos_torch.network.activations import Activations, StoredActivations
from thanos_torch.network.layers import dtype_name, noted_dtype
from thanos_torch.pruning.card import CARD
from thanos_torch.pruning.kept_grams import GRAMS_INDEX, GramWriter
from thanos_torch.pruning.plan import Rules, default_judge, rules_for
from thanos_torch.pruning.store import StoredBlocks
from thanos_torch.pruning.whole_model import PruningRun, plan_for
from thanos_torch.runtime.arguments import check_device, checked
from thanos_torch.runtime.files import (
    facts_of,
    new_folder,
    refuse_occupied,
    refuse_overlap,
    refuse_unusable,
    whole_file,
    why_changed,
    write_json,
)
from thanos_torch.runtime.progress import (
    Seal,
    WorkFolder,
    differences,
    fingerprint,
    has_progress,
    resumable_run,
    work_folder_of,
)
from thanos_torch.runtime.ranks import Ranks
from thanos_torch.text.bos import warn_lacking_bos
from thanos_torch.text.padding import real_windows

# Files that pruning changes by design. docs/pruning-models.md has the same table.
WRITTEN = {
    INDEX: "names the new weight files, if there are several",
    CARD: "is the model card of the pruned model",
    RECORD: "says what was done",
    MASKS: "holds the masks",
}


def is_copied(name: str) -> bool:
    """Whether `thanos prune` copies a file, by its path in the model's folder.

    A model's own code is copied too, trusted or not: config.json may name it in `auto_map`.
    """
    return is_side_file(name) and name not in WRITTEN


@checked("windows", "rules", "activations", "attention_mask")
def prune_checkpoint(
    streamed: StreamedModel,
    windows: Tensor,
    rules: str | Pattern | Rules,
    out: str | Path,
    *,
    judge: Judge | None = default_judge,
    record: Mapping[str, Any],
    card: Callable[[Mapping[str, Any]], str] | None = None,
    dtype: torch.dtype | str = AUTO,
    device: torch.device | str = "cpu",
    activations: str = "disk",
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    ranks: Ranks | None = None,
    attention_mask: Tensor | None = None,
) -> dict[str, Any]:
    """Prune block by block from one checkpoint folder into another, `out`.

    windows      (nsamples, seqlen) token ids to calibrate with
    rules        which layers to prune and how; or one pattern for all layers, also as text: "2:4"
    judge        certifies every layer; None leaves them uncertified
    record       first part of `thanos.json`, before the report; its `settings` tell runs apart
    card         makes the model card from the content of `thanos.json`: `model_card`
    dtype        "float32", "bfloat16" or "float16": what all floating-point tensors are written
                 in, each rounded once; "auto": each as the checkpoint has it
    activations  "disk", or "memory": then a resumed run computes them again
    on_layer     called with every layer once it is pruned; again if its block was not finished.
                 A `GramWriter` goes on where an earlier process ended
    ranks        the processes that share the work, each with the same arguments; only the first
                 one calls `on_layer` and writes to `out`
    attention_mask  for padded windows, as of `prune_model`

    Returns the content of `thanos.json`. Finished blocks are kept in `OUT.partial`. After an error,
    or the death of the process, the same call continues there, to the same bits. Raises ValueError
    before anything is written if the arguments do not fit; ValueError or OSError later.
    """
    refuse_activations(activations)
    check_device(device)
    if not isinstance(record.get("settings"), Mapping):
        raise ValueError('record must have "settings", which tell runs apart')
    streamed = streamed.written_in(read_dtype(dtype))
    out, ranks = Path(out), ranks or Ranks()
    grams = on_layer if isinstance(on_layer, GramWriter) else None
    keep_gram = grams.folder if grams else None
    ranks.from_first(lambda: refuse_outputs(out, keep_gram, streamed.folder))
    rules = rules_for(rules)
    real = real_windows(streamed.model, windows, attention_mask)
    groups = [each.ids for each in real]
    warn_lacking_bos(streamed.model, groups)
    seen, plan = plan_for(streamed.model, groups[0], rules)
    streamed.arrange(seen.blocks)
    options = {"device": str(device), "ranks": ranks.count, **record["settings"]}
    options["keep_gram"] = str(keep_gram) if keep_gram else None
    options["dtype"] = dtype_name(streamed.dtype) if streamed.dtype else AUTO
    mark = fingerprint(streamed.folder, streamed.files.values(), groups, options)
    _refuse_unlike(ranks, mark)
    copied = [*filter(is_copied, side_files(streamed.folder, out, work_folder_of(out)))]
    # A run that goes on has read all tensors before.
    ranks.from_first(lambda: None if has_progress(out) else streamed.refuse_overflow())
    whole: dict[str, Any] = {}
    # Only the first rank writes, and may say that what it wrote is kept.
    opened = (
        resumable_run(out, mark) if ranks.first else nullcontext(WorkFolder(work_folder_of(out)))
    )
    with opened as work, closing(grams) if grams else nullcontext():
        store = StoredBlocks(streamed, work, writes=ranks.first, grams=grams)
        if ranks.first:
            _refuse_strays(work, {*store.shard_names(), *copied})
            store.copy_outside()
        store.agree(ranks)
        tokens = torch.cat([group.flatten() for group in groups])
        streamed.load_for(tokens, table_alone=seen.table_alone)
        outputs = work.activations if ranks.count == 1 else work.activations / f"rank-{ranks.rank}"
        on_disk = activations == "disk"
        kept: list[Activations] = []
        at_most, seal = store.first_unfinished(), Seal.of(mark)
        # If one rank's outputs are damaged, all ranks end with that message.
        ranks.agree(
            lambda: kept.append(
                StoredActivations(outputs, at_most, seal) if on_disk else Activations()
            )
        )
        run = PruningRun(
            seen,
            groups,
            plan,
            judge,
            rules=rules,
            store=store,
            activations=kept[0],
            dtype=streamed.dtype,
            device=ranks.own_device(device),
            on_layer=on_layer,
            progress=progress,
            ranks=ranks,
        )
        report = run.execute()
        for number, name in zip(store.results, store.shard_names(), strict=True):
            if progress:
                progress(f"writing {name}", len(report.layers), len(report.layers))
            # A file at a time, so that no rank waits for all of them.
            ranks.from_first(partial(store.join, number))
        if ranks.first:
            whole = {**record, **report.as_dict()}
            if streamed.dtype:
                whole["dtype"] = dtype_name(streamed.dtype)
            if grams:
                grams.write_index()
                index = {GRAMS_INDEX: facts_of(grams.folder / GRAMS_INDEX)}
                whole["grams"] = store.kept_grams() | index
            _complete(streamed, copied, store, work, whole, card(whole) if card else "")
            store.check_all()
            work.finish(out)
    whole = ranks.from_first(lambda: whole)
    # Outputs of a rank on a machine that does not share the first one's folder.
    shutil.rmtree(outputs, ignore_errors=True)
    return whole


def refuse_outputs(out: Path, keep_gram: Path | None, model: Path | None) -> None:
    """Raise ValueError unless the result and the Gram matrices can be written where they are to go.

    model  the folder of the model, which neither may overlap; None if it is not known yet
    """
    refuse_unusable(out)
    folders = {"out": out, "the folder of the progress": work_folder_of(out)}
    if keep_gram:
        folders["keep_gram"] = keep_gram
    refuse_overlap(folders, {"the model's folder": model} if model else {})
    if keep_gram and not has_progress(out):  # else it holds the beginning of this run
        refuse_occupied(keep_gram, "keep_gram")


def _refuse_strays(work: WorkFolder, own: set[str]) -> None:
    """Raise ValueError for a file that is not of this run, and would be part of its result."""
    for file in sorted(work.checkpoint.rglob("*")):
        name = file.relative_to(work.checkpoint).as_posix()
        if file.is_file() and name not in own | WRITTEN.keys():
            raise ValueError(f"{file} is not of this run: remove it")


def refuse_activations(activations: str) -> None:
    """Raise ValueError unless it says where the outputs of blocks can be kept."""
    if activations not in ("disk", "memory"):
        raise ValueError(f"activations must be disk or memory, got {activations!r}")


def _refuse_unlike(ranks: Ranks, mark: Mapping[str, Any]) -> None:
    """Raise ValueError unless all ranks were given the same. A model's files may differ in time."""
    known = {part: content for part, content in mark.items() if part != "model"}
    for number, other in enumerate(ranks.gather(known)):
        found = differences(known, other)
        if found:
            raise ValueError(f"rank {ranks.rank} and rank {number} differ: {'; '.join(found)}")


def _complete(
    streamed: StreamedModel,
    copied: Sequence[str],
    store: StoredBlocks,
    work: WorkFolder,
    record: dict[str, Any],
    card: str,
) -> None:
    """Write what belongs to a checkpoint beside its shards; `record` gets every file's hash."""
    for name in copied:
        (work.checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(work.checkpoint / name) as unfinished:
            if name == CONFIG and streamed.dtype:
                content = (streamed.folder / name).read_bytes()
                unfinished.write_bytes(config_in(content, streamed.dtype))
            else:
                shutil.copyfile(streamed.folder / name, unfinished)
    store.write_index()
    with whole_file(work.checkpoint / MASKS) as unfinished:
        concatenate(store.mask_files(), unfinished)
    if card:
        with whole_file(work.checkpoint / CARD) as unfinished:
            unfinished.write_text(card, encoding="utf-8")
    record["files"] = _described(work.checkpoint, store.shards())
    write_json(work.checkpoint / RECORD, record)


def _described(folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Size and SHA-256 of each file of a result, but of its record, and its card for people.

    known  the same of some files, by name
    """
    files = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    own = files.keys() - {RECORD, CARD}
    return {name: known.get(name) or facts_of(files[name]) for name in sorted(own)}


@checked()
def save_checkpoint(
    loaded: LoadedModel,
    folder: str | Path,
    *,
    record: Mapping[str, Any],
    masks: Mapping[str, PackedMask] | str | Path,
    card: str = "",
) -> None:
    """Write a checkpoint with exact zeros, `thanos.json`, and the masks; all of it or nothing.

    record  what was done, JSON-able; `settings` in it lets `finished_run` know the run again
    masks   by layer, or the folder or file that holds them
    card    Markdown, of `model_card`

    The checkpoint is loaded again before it gets its name: ValueError if one bit differs, or if
    `folder` is occupied.
    """
    if isinstance(masks, str | Path):
        masks = read_masks(masks)
    source = {"the model's folder": loaded.config_file.parent} if loaded.config_file else {}
    with new_folder(Path(folder), source) as partial:
        with quiet_transformers():
            loaded.model.save_pretrained(partial, state_dict=_as_stored(loaded.model))
            loaded.tokenizer.save_pretrained(partial)
        if loaded.config_file:
            _copy_missing(loaded.config_file.parent, partial, Path(folder))
            shutil.copyfile(loaded.config_file, partial / "config.json")
        places = check_reload(loaded.model, partial)
        write_masks(partial / MASKS, masks, places)
        content = {**_with_places(record, places), "files": _described(partial, {})}
        text = json.dumps(content, indent=1, allow_nan=False)
        (partial / RECORD).write_text(text + "\n", encoding="utf-8")
        if card:
            (partial / CARD).write_text(card, encoding="utf-8")


def _as_stored(model: torch.nn.Module) -> dict[str, Tensor]:
    """A model's state, every parameter in the dtype that the model's checkpoint has it in."""
    noted = {
        weight.data_ptr(): dtype
        for module in model.modules()
        for own, weight in module.named_parameters(recurse=False)
        if (dtype := noted_dtype(module, own))
    }
    stored: dict[int, Tensor] = {}  # tied weights stay one tensor
    return {
        name: stored.setdefault(
            value.data_ptr(), value.to(noted.get(value.data_ptr(), value.dtype))
        )
        for name, value in model.state_dict().items()
    }


def _copy_missing(source: Path, target: Path, out: Path) -> None:
    """Copy the files of a model's folder that its classes have not written, weights left out."""
    for name in filter(is_copied, side_files(source, target, out)):
        if not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def check_reload(model: torch.nn.Module, folder: Path) -> dict[str, Place]:
    """Read a saved model block by block; ValueError unless it is exactly `model`.

    Returns where the checkpoint has the weight of each layer.
    """
    streamed = StreamedModel(folder)
    expected = model.state_dict()
    streamed.load_outside()
    _compare(streamed.model.state_dict(), expected)
    places: dict[str, Place] = {}
    for index in range(len(streamed.blocks)):
        streamed.load_block(index)
        _compare(streamed.block_state(index), expected)
        streamed.release_block(index)
        places |= streamed.places(index)
    return places


def _with_places(record: Mapping[str, Any], places: Mapping[str, Place]) -> dict[str, Any]:
    """Add to every layer of a record where the checkpoint has its weight."""
    layers = [
        {**layer, "stored": places[layer["name"]].as_dict() if layer["name"] in places else None}
        for layer in record.get("layers", [])
    ]
    return {**record, **({"layers": layers} if layers else {})}


def _compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a tensor that was read and is not as expected."""
    for name, tensor in found.items():
        if not tensor.is_meta and not torch.equal(expected[name].cpu(), tensor):
            raise ValueError(f"{name} is not the same after saving and loading the checkpoint")


@checked()
def finished_run(
    folder: Path, settings: Mapping[str, object], keep_gram: Path | None = None
) -> dict[str, Any] | None:
    """The record of a finished run with the very same settings in `folder`, or None.

    keep_gram  the folder of its Gram matrices, if it kept them

    Raises ValueError, naming the first of them, if files are not as the run wrote them.
    """
    try:
        record = read_record(folder)
    except ValueError:
        return None
    # Through JSON, for what a file cannot tell apart: tuples and lists.
    same = record and record.get("settings") == json.loads(json.dumps(settings))
    if not (same and record and is_consistent(record)):
        return None
    changed = changed_files(folder, record)
    if not record.get("files") or (keep_gram and not record.get("grams")):
        changed[RECORD] = "has no hashes of the files"
    problems = [f"{folder / name} {why}" for name, why in changed.items()]
    if keep_gram:
        for name, facts in described_files(record, "grams").items():
            why = why_changed(inside(keep_gram, name), facts)
            problems += [f"{keep_gram / name} {why}"] if why else []
    if problems:
        more = f", and {len(problems) - 1} more" if problems[1:] else ""
        both = f"{folder} and {keep_gram}" if keep_gram else str(folder)
        raise ValueError(
            f"{folder} holds the result of this very run, but it changed since: "
            f"{problems[0]}{more}. Remove {both}, and the same command makes it again"
        )
    return record
