"""Standard texts from a model hub, through the package `datasets`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class _HubDataset:
    """Where a data set is; `rows` limits how much of a split is read."""

    path: str
    configuration: str
    splits: dict[str, str]
    rows: int


HUB_DATASETS = {
    "wikitext2": _HubDataset(
        "Salesforce/wikitext",
        "wikitext-2-raw-v1",
        {"calibration": "train", "evaluation": "test"},
        rows=100_000,  # more than it has
    ),
    "c4": _HubDataset(
        "allenai/c4",
        "en",
        {"calibration": "train", "evaluation": "validation"},
        rows=1_000,  # of 365 million
    ),
}


def hub_text(dataset: str, part: str) -> str:
    """The calibration or evaluation part of `wikitext2` or `c4`; ValueError if out of reach."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(
            f"dataset {dataset} comes from a hub through the package `datasets`, which is not "
            "installed; install it, or give a local file or folder"
        ) from None
    known = HUB_DATASETS[dataset]
    try:
        rows = load_dataset(
            known.path, known.configuration, split=known.splits[part], streaming=True
        )
        return "\n\n".join(row["text"] for row in rows.take(known.rows))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"dataset {dataset} could not be loaded: {error}; give a local file or folder instead"
        ) from error
