"""The tokenizer of a checkpoint folder, which whoever has token ids can do without."""

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.shards import inside
from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.bos import note_family

_FILES = ("tokenizer*", "*.model", "*.tiktoken", "vocab*", "merges.txt", "*_tokens*.json")


@dataclass(frozen=True)
class NoTokenizer:
    """Stands in for a tokenizer that cannot be loaded. Any use of it raises the reason.

    folder  the checkpoint's
    reason  why it cannot be loaded
    """

    folder: Path
    reason: str

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raises ValueError."""
        raise ValueError(
            f"model {str(self.folder)!r} has no tokenizer that could be loaded: {self.reason} "
            "(a dataset of token ids, .npy or .safetensors, needs none)"
        )

    def __getattr__(self, name: str) -> Any:
        """Raises ValueError for what a tokenizer would have."""
        if name.startswith("_") or name in ("folder", "reason"):
            raise AttributeError(name)
        return self()

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the files of the tokenizer, so that another machine may load it."""
        for file in sorted({file for kind in _FILES for file in self.folder.glob(kind)}):
            if file.is_file():
                shutil.copyfile(inside(self.folder, file.name), Path(folder) / file.name)


def load_tokenizer(folder: Path, config: Any, trust_remote_code: bool) -> Any:
    """The tokenizer of a checkpoint folder; `NoTokenizer` if it cannot be loaded.

    config  of the model, whose family decides whether windows begin with BOS
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # readers of tokenizers raise what they like
        return NoTokenizer(folder, _missing_packages(folder) or reason_of(error))
    if _knows_no_words(tokenizer):
        return NoTokenizer(folder, "the folder holds no vocabulary, such as tokenizer.json")
    note_family(tokenizer, config)
    return tokenizer


def _knows_no_words(tokenizer: Any) -> bool:
    """Whether there are special tokens alone, as Transformers makes of a folder without files."""
    try:
        words = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()
        return not words - set(tokenizer.all_special_tokens)
    except (NotImplementedError, AttributeError):  # a model's own code need not list its words
        return False


def _missing_packages(folder: Path) -> str:
    """Which packages a folder's SentencePiece file needs that are not there; empty if none.

    Transformers names tiktoken instead, which it tries after SentencePiece.
    """
    missing = [name for name in ("sentencepiece", "protobuf") if not _installed(name)]
    for file in sorted(folder.glob("*.model")):
        # A protocol buffer whose first field is a list; tiktoken's files are lines of base64.
        if missing and file.is_file() and file.open("rb").read(1) == b"\n":
            return (
                f"{file.name} is a SentencePiece file and needs {' and '.join(missing)}: "
                "pip install 'thanos-pruning[models]'"
            )
    return ""


def _installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False
