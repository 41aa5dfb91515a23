"""Tiny pruned checkpoints to pack."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from reference.patterns import parse_pattern
from tests.models.families import FAMILIES
from tests.models.tiny import random_model, random_windows
from tests.models.tiny import save_checkpoint as save_dense
from thanos_torch.checkpoint.packed_format import sha256_of_json
from thanos_torch.models import PACKED, load_model, prune_model, save_checkpoint
from thanos_torch.runtime.files import sha256_of

ROWS = "structured:0.3+outliers:0.1"
# Every way in which a checkpoint may hold a layer, and every pattern.
CASES = [
    ("Llama", ROWS),
    ("Llama", "2:4"),
    ("Llama", "unstructured:0.5"),
    ("OPT", "structured:0.3"),
    ("Phi-3", ROWS),
    ("GPT-2", ROWS),
    ("GPT-2", "2:4+outliers:0.1"),
    ("GPT-NeoX", "structured:0.3"),
    ("BLOOM", "unstructured:0.5"),
    ("Falcon 7b", ROWS),
    ("Gemma 2", ROWS),
    ("Mixtral", "2:4+outliers:0.1"),
    ("Mixtral", ROWS),
    ("GPT-OSS", "2:4"),
    ("GPT-OSS", ROWS),
    ("Qwen3-MoE", "1:4"),
]


def pruned(
    family: str, pattern: str, folder: Path, dtype: torch.dtype = torch.float32, **options: Any
) -> Path:
    """A tiny checkpoint of that family, pruned to that pattern."""
    model = random_model(FAMILIES[family].config, dtype)
    loaded = load_model(str(save_dense(model, folder / "dense")))
    report = prune_model(
        loaded.model, random_windows(), parse_pattern(pattern), judge=None, block_size=4, **options
    )
    record = {"model": loaded.provenance(), **report.as_dict()}
    save_checkpoint(loaded, folder / "pruned", record=record, masks=report.masks, card="A card.")
    return folder / "pruned"


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder, by its path in there."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def forge(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Change what packed.json says, and make all its hashes right: as a forger would."""
    content = json.loads((folder / PACKED).read_text())
    for name in content["folder"]:
        if (folder / name).is_file():
            content["folder"][name] = sha256_of(folder / name)
    change(content)
    content["sha256"] = sha256_of_json(content)
    (folder / PACKED).write_text(json.dumps(content))
