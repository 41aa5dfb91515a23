"""The version of the vectors, and the content that each version has."""

import hashlib
import json
from pathlib import Path

from reference import SPECIFICATION

# SHA-256 of the content of every version, by `content_digest`; the last one is in this folder.
# docs/specification-changes.md says which number a change raises.
RELEASES = {"1.0.0": "6eb5ed186b5f255803c25be5df8dbf4bb852d1527c4ba35fd87ef504848af560"}
VERSION = list(RELEASES)[-1]


def content_digest(folder: Path) -> str:
    """SHA-256 of what a program or its judge gets from the vectors in a folder.

    That is the manifest without its version, and every file that it lists. Raises OSError if a
    listed file is missing.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    content = {key: manifest[key] for key in ("format", "total", "flags", "cases")}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in files_of(manifest["cases"]):
        digest.update(f"\n{name} ".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def files_of(cases: list[dict[str, object]]) -> list[str]:
    """The files of cases, by the entries of the manifest, sorted."""
    answered = [case["id"] for case in cases if case["expected"] in ("weights", "mask")]
    names = [f"inputs/{case['id']}.safetensors" for case in cases]
    return sorted([*names, *(f"expected/{name}.safetensors" for name in answered)])


def check_version(folder: Path) -> None:
    """Raise ValueError if the content of a folder is not what VERSION stands for."""
    if not VERSION.startswith(f"{SPECIFICATION}."):
        raise ValueError(
            f"version must begin with that of the specification, {SPECIFICATION}, got {VERSION}"
        )
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    said = manifest["specification"], manifest["version"]
    if said != (SPECIFICATION, VERSION):
        raise ValueError(
            f"version of the manifest must be {VERSION}, of specification {SPECIFICATION}, got "
            f"{said[1]} of {said[0]}: run python -m verification.vectors"
        )
    found = content_digest(folder)
    if found != RELEASES[VERSION]:
        raise ValueError(
            f"version {VERSION} stands for other vectors than those in {folder}: add a version "
            f"with the digest {found} to RELEASES in verification/vectors/version.py, say in "
            "docs/specification-changes.md what changed, and run python -m verification.vectors"
        )
