"""Writing a pruned model as a plain Hugging Face checkpoint."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.card import CARD
from thanos_torch.models.folders import new_folder
from thanos_torch.models.loading import LoadedModel
from thanos_torch.models.masks import MASKS, PackedMask, write_masks
from thanos_torch.models.places import Place
from thanos_torch.models.quiet import quiet_transformers
from thanos_torch.models.shards import RECORD
from thanos_torch.models.streamed import StreamedModel


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
