"""Text to calibrate with and to measure perplexity on."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thanos_torch.models.hub_text import HUB_DATASETS, hub_text, is_hub_name
from thanos_torch.models.text_files import TEXT_SUFFIXES, read_rows

DEFAULT_DATASET = "pydoc"
Part = Literal["calibration", "evaluation"]
# WikiText-2's protocol, and ours for all texts. Not a model's end-of-text token: what that is
# differs between a base model and its chat version, so their perplexities would not compare.
SEPARATOR = "\n\n"
# Which file of a data set's folder is for what: the first of these words that one is named by.
_FILE_WORDS: dict[Part, tuple[str, ...]] = {
    "calibration": ("train", "valid"),
    "evaluation": ("test", "valid"),
}


@dataclass(frozen=True)
class Text:
    """One part of a data set, its rows joined by `SEPARATOR`.

    rows    how many there were
    origin  what else a report should say of it, JSON-able
    """

    text: str
    rows: int
    origin: dict[str, Any]


def read_text(dataset: str, part: Part) -> Text:
    """One part of a data set.

    dataset  `pydoc`, the default; a file (.txt, .raw as WikiText has it, .parquet with a column
             "text", or .jsonl with a "text" a line), which serves for both parts; a folder of
             such files named train, valid or test; or a hub's data set: `wikitext2`, `c4`,
             owner/name or owner/name:configuration

    Raises ValueError if there is no such text.
    """
    if dataset == DEFAULT_DATASET:
        # The default text is part of Python and changes with it.
        return _joined(
            pydoc_rows(part), {"dataset": f"pydoc of Python {platform.python_version()}"}
        )
    path = Path(dataset)
    if path.exists():
        file = _file_for(path, part) if path.is_dir() else path
        return _joined(read_rows(file), {"dataset": dataset, "file": file.name})
    if not is_hub_name(dataset):
        raise ValueError(
            f"dataset must be {DEFAULT_DATASET}, {', '.join(HUB_DATASETS)}, a file, a folder, or "
            f"owner/name[:configuration] of a hub, got {dataset!r}"
        )
    found = hub_text(dataset, part)
    return _joined(found.rows, {"dataset": dataset, **found.origin})


def pydoc_rows(part: Part) -> list[str]:
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
    return texts[:half] if part == "calibration" else texts[half:]


def _joined(rows: list[str], origin: dict[str, Any]) -> Text:
    return Text(SEPARATOR.join(rows), len(rows), origin)


def _file_for(folder: Path, part: Part) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in TEXT_SUFFIXES)
    for word in _FILE_WORDS[part]:
        for file in files:
            if word in file.name:
                return file
    raise ValueError(
        f"dataset folder {folder} has no text for {part}: no {', '.join(TEXT_SUFFIXES)} file named "
        f"{' or '.join(_FILE_WORDS[part])}"
    )
