"""Prune a checkpoint larger than the memory, in a run that can resume; save pruned models."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Pattern
from thanos_torch.checkpoint.load import LoadedModel
from thanos_torch.checkpoint.masks import PackedMask, Place, read_masks, write_masks
from thanos_torch.checkpoint.record import Judge, PrunedLayer, is_consistent, read_record
from thanos_torch.checkpoint.shards import INDEX, MASKS, RECORD, concatenate, inside
from thanos_torch.checkpoint.streamed import StreamedModel, quiet_transformers
from thanos_torch.network.activations import Activations, StoredActivations
from thanos_torch.pruning.card import CARD
from thanos_torch.pruning.plan import Rules, default_judge, rules_for
from thanos_torch.pruning.store import StoredBlocks
from thanos_torch.pruning.whole_model import PruningRun, plan_for
from thanos_torch.runtime.files import new_folder, refuse_unusable, whole_file, write_json
from thanos_torch.runtime.progress import (
    WorkFolder,
    differences,
    fingerprint,
    resumable_run,
    work_folder_of,
)
from thanos_torch.runtime.ranks import Ranks

# Files that are copied byte for byte from the top of the folder: configuration and tokenizer.
COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken")
CODE = ".py"  # copied as well if the model's code is trusted

# Files that pruning changes by design. docs/pruning-models.md has the same table.
WRITTEN = {
    INDEX: "names the new weight files",
    CARD: "is the model card of the pruned model",
    RECORD: "says what was done",
    MASKS: "holds the masks",
}


def is_copied(name: str, trusted: bool) -> bool:
    """Whether `thanos prune` copies a file, by its path; `trusted` if the model's code is."""
    kinds = (*COPIED, CODE) if trusted else COPIED
    return "/" not in name and Path(name).suffix in kinds and name not in WRITTEN


def prune_checkpoint(
    streamed: StreamedModel,
    windows: Tensor,
    rules: str | Pattern | Rules,
    out: str | Path,
    *,
    judge: Judge | None = default_judge,
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
    rules        which layers to prune and how; or one pattern for all layers, also as text: "2:4"
    judge        certifies every layer; None leaves them uncertified
    record       first part of `thanos.json`, before the report; its `settings` tell runs apart
    card         makes the model card from the content of `thanos.json`: `model_card`
    activations  "disk", or "memory": then a resumed run computes them again
    on_layer     called with every layer once it is pruned; again if its block was not finished
    ranks        the processes that share the work, each with the same arguments; only the first
                 one calls `on_layer` and writes to `out`

    Returns the content of `thanos.json`. Finished blocks are kept in `OUT.partial`. After an error,
    or the death of the process, the same call continues there, to the same bits. Raises ValueError
    before anything is written if the arguments do not fit; ValueError or OSError later.
    """
    refuse_activations(activations)
    out, ranks = Path(out), ranks or Ranks()
    ranks.from_first(lambda: refuse_unusable(out))
    plan = plan_for(streamed.model, windows, rules_for(rules))
    options = {"device": str(device), "ranks": ranks.count, **record["settings"]}
    mark = fingerprint(streamed.folder, streamed.files.values(), windows, options)
    _refuse_unlike(ranks, mark)
    side_files = _side_files(streamed)
    whole: dict[str, Any] = {}
    # Only the first rank writes, and may say that what it wrote is kept.
    opened = (
        resumable_run(out, mark) if ranks.first else nullcontext(WorkFolder(work_folder_of(out)))
    )
    with opened as work:
        store = StoredBlocks(streamed, work, writes=ranks.first)
        if ranks.first:
            store.copy_outside()
        store.agree(ranks)
        streamed.load_for(windows)
        outputs = work.activations if ranks.count == 1 else work.activations / f"rank-{ranks.rank}"
        on_disk = activations == "disk"
        run = PruningRun(
            streamed.model,
            windows,
            plan,
            judge,
            store=store,
            activations=(
                StoredActivations(outputs, store.first_unfinished()) if on_disk else Activations()
            ),
            device=ranks.own_device(device),
            on_layer=on_layer,
            progress=progress,
            ranks=ranks,
        )
        report = run.execute()
        if ranks.first:
            whole = {**record, **report.as_dict()}
            _complete(streamed, side_files, store, work, whole, card(whole) if card else "")
            store.check_all()
            work.finish(out)
    whole = ranks.from_first(lambda: whole)
    # Outputs of a rank on a machine that does not share the first one's folder.
    shutil.rmtree(outputs, ignore_errors=True)
    return whole


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


def _side_files(streamed: StreamedModel) -> list[Path]:
    """Files to copy beside the weights; ValueError for a link that leads out of the folder."""
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
    with new_folder(Path(folder)) as partial:
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


def finished_run(folder: Path, settings: Mapping[str, object]) -> dict[str, Any] | None:
    """The record of a finished run with the very same settings in `folder`, or None."""
    try:
        record = read_record(folder)
    except ValueError:
        return None
    # Through JSON, for what a file cannot tell apart: tuples and lists.
    same = record and record.get("settings") == json.loads(json.dumps(settings))
    return record if same and record and is_consistent(record) else None
