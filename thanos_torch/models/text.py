"""Text to calibrate with and to measure perplexity on."""

import json
from pathlib import Path
from typing import Literal

from thanos_torch.models.hub_text import HUB_DATASETS, hub_text

DEFAULT_DATASET = "pydoc"
Part = Literal["calibration", "evaluation"]
# Which file of a data set's folder is for what: the first of these words that one is named by.
_FILE_WORDS: dict[Part, tuple[str, ...]] = {
    "calibration": ("train", "valid"),
    "evaluation": ("test", "valid"),
}
_SUFFIXES = (".txt", ".raw", ".jsonl")


def read_text(dataset: str, part: Part) -> str:
    """One part of a data set.

    dataset  `pydoc`, the default; a file (.txt, .raw as WikiText has it, or .jsonl with a "text"
             a line), which serves for both parts; a folder of such files named train, valid or
             test; or `wikitext2` and `c4`, which come from a hub

    Raises ValueError if there is no such text.
    """
    if dataset == DEFAULT_DATASET:
        return pydoc_text(part)
    path = Path(dataset)
    if path.is_dir():
        return _read_file(_file_for(path, part))
    if path.is_file():
        return _read_file(path)
    if dataset in HUB_DATASETS:
        return hub_text(dataset, part)
    raise ValueError(
        f"dataset must be {DEFAULT_DATASET}, {', '.join(HUB_DATASETS)}, a file or a folder, "
        f"got {dataset!r}"
    )


def pydoc_text(part: Part) -> str:
    """English that every Python carries: the topics of its help system, in two halves.

    Topics repeat each other's paragraphs, so every paragraph is used once, whatever its white
    space: the half to evaluate on has none that was calibrated on.
    """
    from pydoc_data.topics import topics

    paragraphs: dict[str, str] = {}
    for _, topic in sorted(topics.items()):
        for paragraph in topic.split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    texts = list(paragraphs.values())
    half = len(texts) // 2
    return "\n\n".join(texts[:half] if part == "calibration" else texts[half:])


def _file_for(folder: Path, part: Part) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    for word in _FILE_WORDS[part]:
        for file in files:
            if word in file.name:
                return file
    raise ValueError(
        f"dataset folder {folder} has no text for {part}: no {', '.join(_SUFFIXES)} file named "
        f"{' or '.join(_FILE_WORDS[part])}"
    )


def _read_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"dataset {path} is not UTF-8 text: {error}") from error
    if path.suffix == ".raw":
        # As papers read WikiText: rows are lines, blank ones empty, and two newlines between them.
        return "\n\n".join(row if row.strip() else "" for row in text.splitlines(keepends=True))
    if path.suffix != ".jsonl":
        return text
    try:
        return "\n\n".join(json.loads(line)["text"] for line in text.splitlines() if line.strip())
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'dataset {path} must hold one {{"text": ...}} a line: {error}') from error
