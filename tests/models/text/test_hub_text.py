"""Texts from a hub: what is asked for, and how it ends without one."""

import sys
import time
from typing import Any

import datasets
import huggingface_hub
import pytest

from thanos_torch.text import sources
from thanos_torch.text.sources import read_text

Rows = list[dict[str, Any]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, Any]], dict[str, Rows]]:
    """A hub: what it was asked for, and its splits."""
    asked: list[dict[str, Any]] = []
    splits: dict[str, Rows] = {}

    def load_dataset(**arguments: Any) -> Rows:
        asked.append(arguments)
        return splits[arguments["split"]]

    def split_names(**arguments: Any) -> list[str]:
        return list(splits)

    monkeypatch.setattr(sources, "hub_revision", lambda path: "abc123")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_split_names", split_names)
    return asked, splits


def test_texts_are_asked_for_by_part(hub: Any) -> None:
    asked, splits = hub
    splits["train"] = [{"text": f"row {row}", "id": row} for row in range(3)]
    splits["validation"] = [{"text": "held out"}]
    found = read_text("c4", "calibration")
    assert (found.text, found.rows) == ("row 0\n\nrow 1\n\nrow 2", 3)
    assert found.origin == {
        "dataset": "c4",
        "path": "allenai/c4",
        "configuration": "en",
        "split": "train",
        "revision": "abc123",
        "read": "all",
        "column": "text",
        "joined_by": "blank lines",
    }
    assert read_text("someone/stories", "evaluation").text == "held out"
    splits["test"] = [{"text": "tested"}]
    assert read_text("wikitext2", "evaluation").text == "tested"
    assert asked[1:] == [
        {"path": path, "name": name, "split": split, "streaming": True, "revision": "abc123"}
        for path, name, split in (
            ("someone/stories", None, "validation"),
            ("Salesforce/wikitext", "wikitext-2-raw-v1", "test"),
        )
    ]


def test_no_more_is_read_than_is_needed(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, splits = hub
    splits["train"] = [{"text": "ten chars."}] * 5
    monkeypatch.setattr(sources, "MOST_CHARACTERS", 25)
    found = read_text("someone/stories:short", "calibration")
    assert found.rows == 3
    assert found.origin["read"] == "the first 25 characters"


def test_other_splits_and_columns_are_refused(hub: Any) -> None:
    _, splits = hub
    splits["train"] = [{"body": "one", "id": 1}]
    with pytest.raises(ValueError, match=r'dataset a/b, row 1 has no column "text", but .*body'):
        read_text("a/b", "calibration")
    assert read_text("a/b", "calibration", column="body").text == "one"
    splits["train"] = [{"text": "one"}, {"text": None}]
    with pytest.raises(ValueError, match="a/b, row 2 must have a string as its text, got null"):
        read_text("a/b", "calibration")
    with pytest.raises(ValueError, match=r"a/b has no split for evaluation: none of .* in train"):
        read_text("a/b", "evaluation")


def test_a_hub_out_of_reach_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    message = "Salesforce/wikitext could not be loaded from the hub: .*; give a local file"
    with pytest.raises(ValueError, match=message):
        read_text("wikitext2", "evaluation")
    assert time.monotonic() - start < 5


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ValueError, match=r"`datasets`, which is not installed: pip install '.*data"
    ):
        read_text("c4", "calibration")
