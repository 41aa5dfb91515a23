"""The release of the vectors: the same bytes anywhere, complete, and enough to judge with."""

import hashlib
import io
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from reference import SPECIFICATION
from tests.test_pages import ANCHOR, LINK, anchors, prose
from verification.conformance import Case, Output, load_cases
from verification.conformance.cases import FOLDER
from verification.conformance.judge import weight_ratio
from verification.vectors import release, version
from verification.vectors.release import NAME, PAGES, ROOT, contents, main, tarball

# Settings of a process in another place.
ELSEWHERE = {
    "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "7",
    "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "SOURCE_DATE_EPOCH": "1",
}  # fmt: skip
# Runs a module in a process in which folders are listed in another order.
SHUFFLED = """
import os, random, runpy, sys
listed = os.listdir
os.listdir = lambda *of: random.sample(found := listed(*of), len(found))
os.umask(0o077)
sys.argv = ["release", "--out", sys.argv[1]]
runpy.run_module("verification.vectors.release", run_name="__main__")
"""


@pytest.fixture(scope="module")
def packed() -> bytes:
    return tarball(contents())


@pytest.fixture(scope="module")
def unpacked(packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    return folder / NAME


def copied(target: Path) -> None:
    """A copy of the project, written in another order, at other times and with other modes."""
    pages = [ROOT / "docs" / page for page in PAGES]
    code = [f for part in ("reference", "verification") for f in (ROOT / part).rglob("*.*")
            if f.suffix in (".py", ".md", ".json", ".safetensors")]  # fmt: skip
    files = [*pages, *code, ROOT / "LICENSE"]
    rng = random.Random(1)
    for file in rng.sample(files, len(files)):
        copy = target / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(rng.choice((0o600, 0o755)))
        os.utime(copy, (0, rng.randrange(2**31)))


def test_the_bytes_are_the_same_in_another_place(packed: bytes, tmp_path: Path) -> None:
    copied(tmp_path / "copy")
    (tmp_path / "copy" / release.VECTORS / "inputs" / ".stray").write_text("not listed")
    done = subprocess.run(
        [sys.executable, "-c", SHUFFLED, "made"],
        cwd=tmp_path,
        env={**os.environ, **ELSEWHERE, "PYTHONPATH": str(tmp_path / "copy")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / f"{NAME}.tar").read_bytes() == packed
    assert done.stdout.splitlines()[1] == f"SHA-256 {hashlib.sha256(packed).hexdigest()}"


def test_the_format_is_posix_with_fixed_fields() -> None:
    """By hand, so that a Python whose tarfile writes other bytes is noticed."""
    header = b"".join([
        f"{NAME}/a".encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2,
        b"00000000001\0", b"%011o\0" % release.TIME, b" " * 8, b"0".ljust(101, b"\0"),
        b"ustar\00000", b"\0" * (32 + 32), b"\0" * 16, b"\0" * 155,
    ]).ljust(512, b"\0")  # fmt: skip
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    assert tarball({"a": b"x"}) == (header + b"x".ljust(512, b"\0")).ljust(10240, b"\0")


def test_it_is_complete_and_its_sums_are_right(unpacked: Path) -> None:
    cases = load_cases(unpacked)
    assert [case.id for case in cases] == [case.id for case in load_cases()]
    for case in cases:
        assert case.input_path.is_file()
        assert bool(case.answer) == (case.expected in ("weights", "mask"))
    manifest = json.loads((unpacked / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads((unpacked / "schema.json").read_text()))
    found = {f.relative_to(unpacked).as_posix() for f in unpacked.rglob("*") if f.is_file()}
    lines = (unpacked / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums.keys() == found - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((unpacked / name).read_bytes()).hexdigest() == digest
    assert (unpacked / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    listed = {name for name in found if f"`{name}`" in (unpacked / "README.md").read_text()}
    assert {name for name in found if "/" not in name} - listed == {"README.md"}
    assert {f"docs/{page}" for page in PAGES} <= listed


@pytest.mark.parametrize("page", PAGES)
def test_links_of_its_pages_stay_inside(page: str, unpacked: Path) -> None:
    inside = unpacked / "docs" / page
    assert ANCHOR.findall(inside.read_text()) == ANCHOR.findall((ROOT / "docs" / page).read_text())
    for link in LINK.findall(prose(inside)):
        file, _, anchor = link.partition("#")
        if ":" not in file:
            target = inside.parent / file if file else inside
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


def read(path: Path) -> dict[str, list[list[float]]]:
    """The matrices of a file of float64 and bytes, by docs/vectors.md and without this project."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    found = {}
    for name in header.keys() - {"__metadata__"}:
        about = header[name]
        first, end = (8 + length + offset for offset in about["data_offsets"])
        rows, columns = about["shape"]
        form = {"F64": "d", "F32": "f", "F16": "e", "U8": "B"}[about["dtype"]]
        numbers = struct.unpack(f"<{rows * columns}{form}", content[first:end])
        found[name] = [list(numbers[i * columns : (i + 1) * columns]) for i in range(rows)]
    return found


def right(folder: Path, case: dict[str, Any], weight: Any, mask: Any) -> bool:
    """The verdict of docs/vectors.md, "Judge without this project"."""
    given = read(folder / "inputs" / f"{case['id']}.safetensors")["weight"]
    expected = read(folder / "expected" / f"{case['id']}.safetensors")
    u = {"float64": 2.0**-53, "float32": 2.0**-24}[case["dtype"]]
    of_storage, step = {"float16": (2.0**-11, 2.0**-24), None: (0, 0)}[case["storage"]]
    if not np.array_equal(mask, expected["mask"]) or not np.isfinite(weight).all():
        return False
    for i, row in enumerate(expected.get("weight", [])):
        largest = max(abs(value) for value in given[i])
        for j, exact in enumerate(row):
            bound = u * (case["condition"] + 8) * max(largest, abs(exact))
            bound += of_storage * abs(exact) + step / 2
            zero = weight[i][j] == 0 and math.copysign(1, weight[i][j]) > 0
            if abs(weight[i][j] - exact) > bound or (mask[i][j] and not zero):
                return False
    return True


def test_what_its_page_says_is_enough_to_judge(unpacked: Path) -> None:
    """Reading and comparing as the page has it leads to the verdicts of `thanos verify`."""
    entries = {e["id"]: e for e in json.loads((unpacked / "manifest.json").read_text())["cases"]}
    judged = 0
    for case in load_cases()[::7]:
        if case.expected != "weights" or case.storage == "bfloat16":
            continue
        exact = np.array(case.answer["weight"])
        mask = case.answer["mask"].astype(bool)
        entry = entries[case.id]
        assert right(unpacked, entry, exact.tolist(), mask.tolist())
        assert not right(unpacked, entry, exact.tolist(), (~mask).tolist())
        if mask.any():
            assert not right(unpacked, entry, np.where(mask, -0.0, exact).tolist(), mask.tolist())
        for share, verdict in ((0.9, True), (1.1, False)):
            moved = at_share(case, exact, mask, share)
            if moved is not None:
                assert right(unpacked, entry, moved.tolist(), mask.tolist()) == verdict
                judged += 1
    assert judged > 100


def at_share(case: Case, exact: Any, mask: Any, share: float) -> Any:
    """The exact weights, one of them moved by a share of its bound; None if none is kept."""
    if mask.all():
        return None
    i, j = np.argwhere(~mask)[0]
    step = 2.0**-30 * (float(np.abs(case.weight).max()) or 1.0)
    moved = exact.copy()
    moved[i, j] += step
    ratio, _ = weight_ratio(case, Output(moved, mask))
    moved[i, j] = exact[i, j] + step * share / ratio
    steps = abs(moved[i, j] - exact[i, j]) / np.spacing(abs(exact[i, j]))
    return moved if steps > 20 else None  # else rounding decides


def test_it_is_made_in_a_checkout_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release, "contents", lambda: contents(tmp_path))
    assert main(["--out", str(tmp_path / "out")]) == 2
    assert f"in a checkout of the project; {tmp_path} lacks docs/" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_file_of_its_name_is_kept(
    packed: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(release, "contents", dict)
    monkeypatch.setattr(release, "tarball", lambda _: packed)
    target = tmp_path / "new" / "folder" / f"{NAME}.tar"
    assert main(["--out", str(target.parent)]) == 0
    assert main(["--out", str(target.parent)]) == 0  # the same again
    assert target.read_bytes() == packed
    target.write_bytes(b"another")
    assert main(["--out", str(target.parent)]) == 2
    assert f"out already has another {NAME}.tar" in capsys.readouterr().err
    assert os.listdir(target.parent) == [target.name]
    assert target.read_bytes() == b"another"


def test_the_vectors_are_those_of_their_version() -> None:
    version.check_version(FOLDER)


CHANGES: dict[str, Any] = {
    "an input": lambda folder: changed_byte(folder / "inputs"),
    "an answer": lambda folder: changed_byte(folder / "expected"),
    "a flag": lambda folder: changed_manifest(folder, "flags", {"large": "other words"}),
    "the version": lambda folder: changed_manifest(folder, "version", "9.9.9"),
    "the specification's": lambda folder: changed_manifest(folder, "specification", "9.9"),
}


def changed_byte(folder: Path) -> None:
    file = next(folder.glob("*first-1*"))
    file.write_bytes(file.read_bytes()[:-1] + b"\1")


def changed_manifest(folder: Path, key: str, value: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_vectors_needs_another_version(change: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "vectors", copy_function=os.link)
    for file in [*tmp_path.rglob("*first-1*"), tmp_path / "vectors" / "manifest.json"]:
        content = file.read_bytes()
        file.unlink()  # a link to a vector, which stays as it is
        file.write_bytes(content)
    CHANGES[change](tmp_path / "vectors")
    with pytest.raises(ValueError, match=r"python -m verification\.vectors"):
        version.check_version(tmp_path / "vectors")


def test_the_version_follows_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "SPECIFICATION", "1.1")
    with pytest.raises(ValueError, match=r"must begin with that of the specification, 1\.1"):
        version.check_version(FOLDER)


def test_pages_name_the_versions_and_lead_to_the_changes() -> None:
    specification, vectors = SPECIFICATION, version.VERSION
    since = f"since-{specification.replace('.', '-')}"
    head = (ROOT / "docs" / "specification.md").read_text().split("\n\n")[1]
    assert head.startswith(f"This is version {specification}: [changes since {specification}]")
    assert f"(specification-changes.md#{since})" in head
    page = (ROOT / "docs" / "vectors.md").read_text()
    for_specification = f"for [specification](specification.md) {specification}: "
    assert f"These are the vectors {vectors}, {for_specification}" in page
    assert f"(specification-changes.md#{since})" in page
    assert f"`{NAME}.tar`" in page
    changes = (ROOT / "docs" / "specification-changes.md").read_text()
    assert f'<a id="{since}"></a>' in changes
    for released in version.RELEASES:
        assert f"vectors {released}\n" in changes, released
