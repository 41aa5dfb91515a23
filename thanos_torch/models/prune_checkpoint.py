"""Pruning a checkpoint that need not fit into memory, in a run that can be continued."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.activations import InMemory, OnDisk
from thanos_torch.models.concatenate import concatenate
from thanos_torch.models.durable import whole_file, write_json
from thanos_torch.models.fingerprint import fingerprint
from thanos_torch.models.folders import refuse_unusable
from thanos_torch.models.masks import MASKS
from thanos_torch.models.pruning import check_model, prune_blocks
from thanos_torch.models.recipe import Recipe
from thanos_torch.models.shards import INDEX, RECORD, inside
from thanos_torch.models.stored import StoredBlocks
from thanos_torch.models.streamed import StreamedModel
from thanos_torch.models.workfolder import WorkFolder, work_folder

# What is copied beside the weights: configuration and tokenizer. No weights of other formats.
_SIDE_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def prune_checkpoint(
    streamed: StreamedModel,
    windows: Tensor,
    recipe: Recipe,
    out: Path,
    *,
    record: Mapping[str, Any],
    device: torch.device | str = "cpu",
    activations: str = "disk",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Prune block by block from one checkpoint folder into another, `out`.

    windows      (nsamples, seqlen) token ids to calibrate with
    record       for `thanos.json`, before what the report says; its `settings` tell runs apart
    activations  kept on the disk, or in memory: then a continued run calculates them again

    Returns the content of `thanos.json`. What is done is kept in `OUT.partial`: after any error,
    or the death of the process, the same call goes on there, to the same bits. Raises ValueError
    before anything is written if the arguments do not fit, and ValueError or OSError later.
    """
    if activations not in ("disk", "memory"):
        raise ValueError(f"activations must be disk or memory, got {activations!r}")
    refuse_unusable(out)
    check_model(streamed.model, windows, recipe)
    options = {"device": str(device), **record["settings"]}
    mark = fingerprint(streamed.folder, streamed.files.values(), windows, options)
    with work_folder(out) as work:
        work.prepare(mark)
        try:
            return _run(streamed, windows, recipe, out, work, record, device, activations, progress)
        except OSError as error:
            raise OSError(f"{error}. {_kept(work)}") from error
        except ValueError as error:
            raise ValueError(f"{error}. {_kept(work)}") from error


def _run(
    streamed: StreamedModel,
    windows: Tensor,
    recipe: Recipe,
    out: Path,
    work: WorkFolder,
    record: Mapping[str, Any],
    device: torch.device | str,
    keep: str,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, Any]:
    store = StoredBlocks(streamed, work)
    store.copy_outside()
    streamed.load_outside()
    kept: InMemory | OnDisk = InMemory()
    if keep == "disk":
        kept = store.activations = OnDisk(work.activations, store.first_unfinished())
    report = prune_blocks(
        streamed.model,
        windows,
        recipe,
        store=store,
        activations=kept,
        device=device,
        progress=progress,
    )
    whole = {**record, **report.as_dict()}
    _complete(streamed, store, work, whole)
    store.check_all()
    work.finish(out)
    return whole


def _complete(
    streamed: StreamedModel, store: StoredBlocks, work: WorkFolder, record: Mapping[str, Any]
) -> None:
    """Write what belongs to a checkpoint beside its shards."""
    kinds = (*_SIDE_FILES, ".py") if streamed.trusted else _SIDE_FILES
    for file in sorted(streamed.folder.iterdir()):
        if file.suffix in kinds and file.name not in (INDEX, RECORD):
            with whole_file(work.checkpoint / file.name) as unfinished:
                shutil.copyfile(inside(streamed.folder, file.name), unfinished)
    size = sum(streamed.sizes.values())
    index = {"metadata": {"total_size": size}, "weight_map": store.weight_map()}
    write_json(work.checkpoint / INDEX, index)
    with whole_file(work.checkpoint / MASKS) as unfinished:
        concatenate(store.mask_files(), unfinished)
    write_json(work.checkpoint / RECORD, record)


def _kept(work: WorkFolder) -> str:
    return f"What is done so far is kept in {work.path}: the same command goes on from there"
