"""Prune a checkpoint that need not fit into memory, in a run that resumes; write the result."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.checkpoint.load import LoadedModel
from thanos_torch.checkpoint.masks import PackedMask, Place, write_masks
from thanos_torch.checkpoint.record import Judge, ModelReport, PrunedLayer
from thanos_torch.checkpoint.shards import INDEX, MASKS, RECORD, concatenate, inside
from thanos_torch.checkpoint.streamed import StreamedModel, quiet_transformers
from thanos_torch.network.activations import InMemory, OnDisk
from thanos_torch.pruning.card import CARD
from thanos_torch.pruning.plan import Rules
from thanos_torch.pruning.side_files import is_copied
from thanos_torch.pruning.store import FinishedBlock, FollowedBlocks, StoredBlocks
from thanos_torch.pruning.whole_model import plan_for, prune_blocks
from thanos_torch.runtime.files import new_folder, refuse_unusable, whole_file, write_json
from thanos_torch.runtime.progress import (
    WorkFolder,
    differences,
    fingerprint,
    work_folder,
    work_folder_of,
)
from thanos_torch.runtime.ranks import Ranks


def prune_checkpoint(
    streamed: StreamedModel,
    windows: Tensor,
    rules: Rules,
    out: Path,
    *,
    judge: Judge | None,
    record: Mapping[str, Any],
    card: Callable[[Mapping[str, Any]], str] | None = None,
    device: torch.device | str = "cpu",
    activations: str = "disk",
    on_layer: Callable[[PrunedLayer], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """Prune block by block from one checkpoint folder into another, `out`.

    windows      (nsamples, seqlen) token ids to calibrate with
    rules        which layers, and each how
    judge        certifies every layer, `verification.certify`; None leaves them uncertified
    record       for `thanos.json`, before what the report says; its `settings` tell runs apart
    card         makes the model card out of the whole record, `model_card`
    activations  kept on the disk, or in memory: then a continued run calculates them again
    on_layer     called with every layer once it is pruned; again if its block was not finished
    ranks        the processes that share the work, each with these arguments; only the first one
                 calls `on_layer` and writes, but for activations

    Returns the content of `thanos.json`. What is done is kept in `OUT.partial`: after any error,
    or the death of the process, the same call goes on there, to the same bits. Raises ValueError
    before anything is written if the arguments do not fit, and ValueError or OSError later.
    """
    refuse_activations(activations)
    ranks = ranks or Ranks()
    ranks.from_first(lambda: refuse_unusable(out))
    plan = plan_for(streamed.model, windows, rules)
    options = {"device": str(device), "ranks": ranks.count, **record["settings"]}
    mark = fingerprint(streamed.folder, streamed.files.values(), windows, options)
    _refuse_unlike(ranks, mark)
    side_files = _side_files(streamed)

    def prune(store: StoredBlocks | FollowedBlocks, work: WorkFolder) -> ModelReport:
        streamed.load_for(windows)
        return prune_blocks(
            streamed.model,
            windows,
            plan,
            judge,
            store=store,
            activations=_activations(activations, store, work, ranks),
            device=ranks.own_device(device),
            on_layer=on_layer,
            progress=progress,
            ranks=ranks,
        )

    if not ranks.first:
        return _follow(streamed, out, ranks, prune)
    with work_folder(out) as work:
        work.prepare(mark)
        try:
            store = StoredBlocks(streamed, work)
            store.copy_outside()
            ranks.from_first(store.all_finished)
            report = prune(store, work)
            whole = {**record, **report.as_dict()}
            _complete(streamed, side_files, store, work, whole, card(whole) if card else "")
            store.check_all()
            work.finish(out)
        except OSError as error:
            raise OSError(f"{error}. {_kept(work)}") from error
        except ValueError as error:
            raise ValueError(f"{error}. {_kept(work)}") from error
    return ranks.from_first(lambda: whole)


def refuse_activations(activations: str) -> None:
    """Raise ValueError unless it says where what blocks read can be kept."""
    if activations not in ("disk", "memory"):
        raise ValueError(f"activations must be disk or memory, got {activations!r}")


def _follow(
    streamed: StreamedModel,
    out: Path,
    ranks: Ranks,
    prune: Callable[[FollowedBlocks, WorkFolder], ModelReport],
) -> dict[str, Any]:
    """What a rank does that is not the first one, and learns from that in the end."""
    work = WorkFolder(work_folder_of(out))
    told: dict[str, Any] = ranks.from_first(dict)
    finished = {int(index): FinishedBlock.from_dict(block) for index, block in told.items()}
    prune(FollowedBlocks(streamed, finished), work)
    whole: dict[str, Any] = ranks.from_first(dict)
    # On a machine that does not share the first one's folder.
    shutil.rmtree(_rank_activations(work, ranks), ignore_errors=True)
    return whole


def _refuse_unlike(ranks: Ranks, mark: Mapping[str, Any]) -> None:
    """All ranks must have been given the same. Copies of a model may differ in their times."""
    known = {part: content for part, content in mark.items() if part != "model"}
    for number, other in enumerate(ranks.gather(known)):
        found = differences(json.loads(json.dumps(known)), other)
        if found:
            raise ValueError(f"rank {ranks.rank} and rank {number} differ: {'; '.join(found)}")


def _activations(
    kept: str, store: StoredBlocks | FollowedBlocks, work: WorkFolder, ranks: Ranks
) -> InMemory | OnDisk:
    if kept == "memory":
        return InMemory()
    folder = work.activations if ranks.count == 1 else _rank_activations(work, ranks)
    store.activations = OnDisk(folder, store.first_unfinished())
    return store.activations


def _rank_activations(work: WorkFolder, ranks: Ranks) -> Path:
    return work.activations / f"rank-{ranks.rank}"


def _side_files(streamed: StreamedModel) -> list[Path]:
    """What is copied beside the weights; ValueError for a link that leads out of the folder."""
    return [
        inside(streamed.folder, file.name)
        for file in sorted(streamed.folder.iterdir())
        if is_copied(file.name, streamed.trusted)
    ]


def _complete(
    streamed: StreamedModel,
    side_files: Sequence[Path],
    store: StoredBlocks,
    work: WorkFolder,
    record: Mapping[str, Any],
    card: str,
) -> None:
    """Write what belongs to a checkpoint beside its shards."""
    for file in side_files:
        with whole_file(work.checkpoint / file.name) as unfinished:
            shutil.copyfile(file, unfinished)
    size = sum(streamed.sizes.values())
    index = {"metadata": {"total_size": size}, "weight_map": store.weight_map()}
    write_json(work.checkpoint / INDEX, index)
    with whole_file(work.checkpoint / MASKS) as unfinished:
        concatenate(store.mask_files(), unfinished)
    if card:
        with whole_file(work.checkpoint / CARD) as unfinished:
            unfinished.write_text(card, encoding="utf-8")
    write_json(work.checkpoint / RECORD, record)


def _kept(work: WorkFolder) -> str:
    return f"What is done so far is kept in {work.path}: the same command goes on from there"


def save_checkpoint(
    loaded: LoadedModel,
    folder: Path,
    *,
    record: Mapping[str, Any],
    masks: Mapping[str, PackedMask],
    card: str = "",
) -> None:
    """Write a checkpoint with exact zeros, `thanos.json`, and the masks; all of it or nothing.

    record  what was done, JSON-able; `settings` in it lets `finished_run` know the run again
    masks   by layer
    card    Markdown, of `model_card`

    The checkpoint is loaded again before it gets its name: ValueError if one bit differs, or if
    `folder` is occupied.
    """
    with new_folder(folder) as partial:
        with quiet_transformers():
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
        if loaded.config_file:
            shutil.copyfile(loaded.config_file, partial / "config.json")
        places = check_reload(loaded.model, partial)
        write_masks(partial / MASKS, masks, places)
        text = json.dumps(_with_places(record, places), indent=1, allow_nan=False)
        (partial / RECORD).write_text(text + "\n", encoding="utf-8")
        if card:
            (partial / CARD).write_text(card, encoding="utf-8")


def check_reload(model: torch.nn.Module, folder: Path) -> dict[str, Place]:
    """Raise ValueError unless `folder` holds exactly this model; it is read block by block.

    Returns where it has the weight of each layer.
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
    """The same record; every layer in it says where the checkpoint has its weight."""
    layers = [
        {**layer, "stored": places[layer["name"]].as_dict() if layer["name"] in places else None}
        for layer in record.get("layers", [])
    ]
    return {**record, **({"layers": layers} if layers else {})}


def _compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, tensor in found.items():
        same = tensor.is_meta or torch.equal(expected[name].cpu(), tensor)
        if not same:
            raise ValueError(f"{name} is not the same after saving and loading the checkpoint")


def finished_run(folder: Path, settings: Mapping[str, object]) -> dict[str, Any] | None:
    """The record of a finished run with the very same settings in `folder`, or None."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        # Through JSON, for what a file cannot tell apart: tuples and lists.
        same = record["settings"] == json.loads(json.dumps(settings))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same else None
