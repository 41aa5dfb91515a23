"""Find and load a model by its name: a folder, a hub id, a GGUF file, or a named model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from filelock import FileLock

from thanos_torch.checkpoint.fetch import gguf_file, saying_if_full
from thanos_torch.checkpoint.fit import note_dtypes
from thanos_torch.checkpoint.hub import hub_model
from thanos_torch.checkpoint.model_class import model_class, read_config
from thanos_torch.checkpoint.named import DEFAULT_MODEL, NAMED, NamedModel
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
from thanos_torch.runtime.downloads import cache_folder
from thanos_torch.runtime.errors import reason_of
from thanos_torch.runtime.files import new_folder, stamp
from thanos_torch.runtime.strangers import printable, read_json
from thanos_torch.text.bos import note_family

NOTICE = "NOTICE"  # the file beside the weights of models whose terms ask for one


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
    """Load a hub id, a local folder, a .gguf file, or a named model: smollm2-135m or gemma3-270m.

    A hub id with `@REVISION` behind it is loaded at that commit, branch or tag.
    Checkpoints keep their dtype, or the widest one of their layers; GGUF is dequantised to float32.
    Weights are read from safetensors only, and code that comes with a model runs only if it is
    trusted. Raises ValueError, in one line, if the model cannot be loaded: a TermsError for a
    named model whose terms of use were not accepted.
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
    """The config of a model; of `load_model` the arguments, and the errors without weights."""
    check_source(source)
    with quiet_transformers(), _load_errors(source):
        return any_config(source, trust_remote_code)


def any_config(source: str, trust_remote_code: bool) -> Any:
    """As `config_of`, for a source that was checked; readers of configs raise what they like.

    That of a named model has the shapes alone: it is known before the model is downloaded.
    """
    if source in NAMED:
        return NAMED[source].built_config()
    path = Path(source)
    if _is_gguf(source):
        return read_config(str(path.parent), gguf_file=path.name)
    if path.exists():
        return read_config(source, trust_remote_code=trust_remote_code)
    return _hub_config(source, trust_remote_code)


def _hub_config(source: str, trust_remote_code: bool) -> Any:
    model = hub_model(source)
    assert model  # `check_source` has refused what is none
    trusted = {"trust_remote_code": trust_remote_code}
    return read_config(model.repository, revision=model.revision, **trusted)


def stream_original(folder: Path, *, trust_remote_code: bool = False) -> StreamedModel:
    """The streamed model of a checkpoint folder. Errors as for `load_model`."""
    with quiet_transformers(), _load_errors(str(folder)):
        return StreamedModel(folder, trust_remote_code=trust_remote_code)


def _is_gguf(source: str) -> bool:
    return source.endswith(".gguf") and Path(source).is_file()


def _folder_and_origin(source: str, trust_remote_code: bool) -> tuple[Path, str]:
    """The folder with the model's checkpoint, converted or downloaded if needed, and its origin."""
    path = Path(source)
    if source in NAMED:
        return _named_folder(NAMED[source]), NAMED[source].origin
    if _is_gguf(source):
        folder = cache_folder() / f"{path.stem}-{stamp(path)}"
        return _dequantised(folder, lambda: path), f"{path.name}, dequantised"
    check_source(source)
    if path.is_dir():
        return path, origin_of_folder(path)
    return _snapshot(source, trust_remote_code), f"hub model {source}"


def check_source(source: str) -> None:
    """Raise ValueError for what is no model, by its name alone; arguments as of `load_model`."""
    path = Path(source)
    if source and path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"model folder {source} is no checkpoint: it has no config.json")
    named = hub_model(source) is not None
    known = source in NAMED or _is_gguf(source) or path.is_dir()
    if source.startswith((".", "/", "~")) and not path.exists():
        raise ValueError(f"model {source}: there is no such file or folder")
    if not source or (not known and (path.exists() or not named)):
        raise ValueError(
            "model must be a hub id, also with @REVISION, a checkpoint folder, a .gguf file, "
            f"{' or '.join(NAMED)}, got {source!r}"
        )


def _snapshot(source: str, trust_remote_code: bool) -> Path:
    """Download a hub model into the hub's own cache, all files but weights that are not read.

    Its config comes first: what that rules out is not worth a download.
    """
    from huggingface_hub import snapshot_download

    unread = [f"*{kind}" for kind in WEIGHT_KINDS if kind != ".safetensors"]
    model = hub_model(source)
    assert model
    with quiet_transformers(), _load_errors(source):
        _hub_config(source, trust_remote_code)
        return Path(
            snapshot_download(model.repository, revision=model.revision, ignore_patterns=unread)
        )


def _from_gguf(source: str, file: Path) -> LoadedModel:
    from accelerate import init_empty_weights
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
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict(), assign=True)  # not copied: memory holds them once
    model.tie_weights()
    note_family(tokenizer, model.config)
    return LoadedModel(model.eval(), tokenizer, source, f"{file.name}, dequantised", None)


@checked()
def checkpoint_folder(source: str) -> Path:
    """The checkpoint folder of a named model, or `source` itself if it is a folder.

    Raises ValueError for anything else; for a named model as `load_model`.
    """
    if source in NAMED:
        return _named_folder(NAMED[source])
    if not Path(source).is_dir():
        known = " or ".join(NAMED)
        raise ValueError(f"original must be a checkpoint folder, {known}, got {source!r}")
    return Path(source)


def _named_folder(model: NamedModel) -> Path:
    """A named model as a checkpoint, converted once, because reading GGUF takes 40 seconds."""
    model.refuse_unaccepted()
    folder = cache_folder() / model.folder
    notice = {NOTICE: f"{model.terms.notice}\n"} if model.terms else {}
    return _dequantised(folder, lambda: gguf_file(model), notice)


def _dequantised(
    folder: Path, fetch: Callable[[], Path], beside: Mapping[str, str] | None = None
) -> Path:
    """Convert a GGUF file to a checkpoint in `folder`, unless it is there already.

    fetch   returns the file
    beside  texts to write into the folder as well, by file name
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return folder
        file = fetch()
        loaded = _from_gguf(file.name, file)
        room = saying_if_full(file.name, folder.parent)
        with room, new_folder(folder) as partial, quiet_transformers():
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
            for name, text in (beside or {}).items():
                (partial / name).write_text(text, encoding="utf-8")
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
