"""Writing a pruned model, so that a folder holds all of it or nothing."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from thanos_torch.models.loading import LoadedModel, quiet_transformers

RECORD = "thanos.json"
MASKS = "masks.safetensors"


def refuse_occupied(folder: Path) -> None:
    """Raise ValueError unless `folder` is free: it does not exist, or is empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out must be a new or empty folder, got {folder}")


def finished_run(folder: Path, settings: Mapping[str, object]) -> dict[str, Any] | None:
    """The record of a finished run with the very same settings in `folder`, or None."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    # Through JSON, for what a file cannot tell apart: tuples and lists.
    return record if record.get("settings") == json.loads(json.dumps(settings)) else None


def save_checkpoint(
    loaded: LoadedModel,
    folder: Path,
    *,
    record: Mapping[str, object],
    masks: Mapping[str, Tensor],
) -> None:
    """Write a plain Hugging Face checkpoint with exact zeros, `thanos.json`, and the masks.

    record  what was done, JSON-able; `settings` in it tells `finished_run` the run again
    masks   True where a weight was removed, by layer; stored as bits

    Everything is written next to `folder` first and moved there by one rename. Raises ValueError
    if `folder` is occupied.
    """
    refuse_occupied(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with quiet_transformers():
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
        if loaded.folder:
            shutil.copyfile(loaded.folder / "config.json", partial / "config.json")
        _write_masks(partial / MASKS, masks)
        (partial / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes private folders
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_masks(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The masks of a saved run, by layer, (c, b)."""
    from safetensors import safe_open

    with safe_open(folder / MASKS, framework="numpy") as file:
        shapes = {name: json.loads(shape) for name, shape in (file.metadata() or {}).items()}
        return {
            name: np.unpackbits(file.get_tensor(name), count=rows * columns)
            .view(np.bool_)
            .reshape(rows, columns)
            for name, (rows, columns) in shapes.items()
        }


def _write_masks(file: Path, masks: Mapping[str, Tensor]) -> None:
    from safetensors.numpy import save_file

    bits = {name: np.packbits(mask.numpy()) for name, mask in masks.items()}
    shapes = {name: json.dumps(list(mask.shape)) for name, mask in masks.items()}
    save_file(bits, file, metadata=shapes)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
