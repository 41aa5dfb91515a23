"""Text to calibrate with and to measure perplexity on."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DEFAULT_DATASET = "pydoc"
# name -> (hub data set, configuration, file or split to calibrate on, the same to evaluate on)
HUB_DATASETS = {
    "wikitext2": ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", "test"),
    "c4": ("allenai/c4", "en", "train", "validation"),
}


def calibration_windows(
    tokenizer: Any, dataset: str, *, nsamples: int, seqlen: int, seed: int
) -> Tensor:
    """Token ids to calibrate with, (nsamples, seqlen), cut at random places drawn with `seed`.

    dataset: `pydoc`, `wikitext2`, `c4`, or a .txt, .raw or .jsonl file (one "text" a line).
    Raises ValueError if there is no such text, or not enough of it for one window.
    """
    _at_least_one("nsamples", nsamples)
    ids = _token_ids(tokenizer, dataset, seqlen, evaluation=False)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(ids) - seqlen + 1, (nsamples,), generator=generator)
    return torch.stack([ids[start : start + seqlen] for start in starts.tolist()])


def evaluation_windows(
    tokenizer: Any, dataset: str, *, seqlen: int, limit: int | None = None
) -> Tensor:
    """Token ids to measure perplexity on, (windows, seqlen): the text cut into windows.

    Windows do not overlap and the rest of the text is dropped. `limit` takes that many windows,
    evenly spread over the text. Arguments and errors as for `calibration_windows`.
    """
    ids = _token_ids(tokenizer, dataset, seqlen, evaluation=True)
    windows = ids[: len(ids) // seqlen * seqlen].view(-1, seqlen)
    if limit is None or limit >= len(windows):
        return windows
    _at_least_one("limit", limit)
    return windows[torch.arange(limit) * len(windows) // limit]


def _token_ids(tokenizer: Any, dataset: str, seqlen: int, *, evaluation: bool) -> Tensor:
    _at_least_one("seqlen", seqlen)
    text = read_text(dataset, evaluation=evaluation)
    # Tokenizers warn of text that is longer than the model's window; it is cut right after.
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.long)
    if len(ids) < seqlen:
        raise ValueError(
            f"dataset {dataset} has {len(ids)} tokens, too few for one window of seqlen = {seqlen}"
        )
    return ids


def read_text(dataset: str, *, evaluation: bool) -> str:
    """The text of a data set, its evaluation part or its calibration part.

    A file has one part only: it serves for whichever is asked for.
    """
    if dataset == DEFAULT_DATASET:
        return _pydoc_text(evaluation=evaluation)
    path = Path(dataset)
    if path.is_file():
        return _read_file(path)
    if dataset in HUB_DATASETS:
        return _hub_text(dataset, evaluation=evaluation)
    raise ValueError(
        f"dataset must be {DEFAULT_DATASET}, {', '.join(HUB_DATASETS)} or a file, got {dataset!r}"
    )


def _pydoc_text(*, evaluation: bool) -> str:
    """English that every Python carries: the topics of its help system, in two halves.

    Topics repeat each other's paragraphs, so every paragraph is used once: the half to evaluate
    on has none that was calibrated on.
    """
    from pydoc_data.topics import topics

    paragraphs = dict.fromkeys(
        paragraph for _, topic in sorted(topics.items()) for paragraph in topic.split("\n\n")
    )
    half = len(paragraphs) // 2
    parts = list(paragraphs)
    return "\n\n".join(parts[half:] if evaluation else parts[:half])


def _read_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"dataset {path} is not UTF-8 text: {error}") from error
    if path.suffix != ".jsonl":
        return text
    try:
        return "\n\n".join(json.loads(line)["text"] for line in text.splitlines() if line.strip())
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'dataset {path} must hold one {{"text": ...}} a line: {error}') from error


def _hub_text(dataset: str, *, evaluation: bool) -> str:
    name, configuration, calibrate_on, evaluate_on = HUB_DATASETS[dataset]
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(
            f"dataset {dataset} comes from a hub through the package `datasets`, which is not "
            "installed; or name a local file"
        ) from None
    split = evaluate_on if evaluation else calibrate_on
    try:
        # C4 has 365 million documents: the first thousand are plenty.
        rows = load_dataset(name, configuration, split=split, streaming=True).take(
            1000 if dataset == "c4" else 100_000
        )
        return "\n\n".join(row["text"] for row in rows)
    except OSError as error:
        raise ValueError(f"dataset {dataset} could not be loaded: {error}") from error


def _at_least_one(argument: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, got {value}")
