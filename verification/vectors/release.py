"""`python -m verification.vectors.release`: the vectors as one tarball, the same bytes anywhere.

The file order, the time zone, the locale, the umask, and times and modes of files change nothing.
There is no compression, because two versions of one library compress into different bytes.
"""

import argparse
import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from verification.vectors.version import VERSION, check_version, files_of
from verification.writing import write_bytes

ROOT = Path(__file__).parents[2]
VECTORS = "verification/vectors"
PAGES = (
    "first-five.md", "vectors.md", "tolerances.md", "specification.md", "specification-changes.md",
    "certificate.md",
)  # fmt: skip
NAME = f"thanos-vectors-{VERSION}"
TIME = 946_684_800  # 2000-01-01 UTC, for every file: tar warns of 1970
COMMAND = re.compile(r"^\$ .*", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def contents(root: Path = ROOT) -> dict[str, bytes]:
    """The files of the release by their names in it, sorted.

    root  a checkout of the project

    Raises ValueError if it is none, or if its vectors are not those of the version.
    """
    missing = [page for page in PAGES if not (root / "docs" / page).is_file()]
    if missing:
        raise ValueError(
            f"a release is made in a checkout of the project; {root} lacks docs/{missing[0]}, "
            "as an installed package does"
        )
    vectors = root / VECTORS
    check_version(vectors)
    data = files_of(json.loads(_text(vectors / "manifest.json"))["cases"])
    found = {name: (vectors / name).read_bytes() for name in data}
    for name in ("README.md", "manifest.json", "schema.json"):
        found[name] = _text(vectors / name).encode()
    found["LICENSE"] = _text(root / "LICENSE").encode()
    names = {*found, "SHA256SUMS", *(f"docs/{page}" for page in PAGES)}
    for page in PAGES:
        text = _with_links_inside(_text(root / "docs" / page), names)
        found[f"docs/{page}"] = _with_paths_inside(text).encode()
    found["SHA256SUMS"] = _sums(found).encode()
    return dict(sorted(found.items()))


def tarball(files: Mapping[str, bytes]) -> bytes:
    """A tar file in POSIX format (ustar), of files in the given order in a folder NAME."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(f"{NAME}/{name}")  # mode 644, no owner
            about.size, about.mtime = len(content), TIME
            tar.addfile(about, io.BytesIO(content))
    return packed.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the tarball is there; 2: it could not be made."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.vectors.release",
        description="Make the release of the conformance vectors. docs/vectors.md explains it.",
    )
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="FOLDER",
                        help="where the tarball goes; dist by default")  # fmt: skip
    target = parser.parse_args(arguments).out / f"{NAME}.tar"
    try:
        content = tarball(contents())
        if target.exists() and target.read_bytes() != content:
            raise ValueError(f"out already has another {target.name}, in {target.parent}")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, content)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{target}: {len(content):,} bytes")
    print(f"SHA-256 {hashlib.sha256(content).hexdigest()}")
    return 0


def _text(path: Path) -> str:
    """Text with the same ends of lines on every system."""
    return path.read_text(encoding="utf-8")


def _with_links_inside(page: str, names: set[str]) -> str:
    """A page of docs/ without the links that lead out of the release; their words stay."""

    def kept(link: re.Match[str]) -> str:
        words, target = link.groups()
        file = target.partition("#")[0]
        inside = not file or ":" in file or f"docs/{file}" in names
        return link[0] if inside else words

    return LINK.sub(kept, page)


def _with_paths_inside(page: str) -> str:
    """A page whose commands find the vectors from the folder of the release."""
    return COMMAND.sub(lambda line: line[0].replace(f"{VECTORS}/", ""), page)


def _sums(files: Mapping[str, bytes]) -> str:
    """Lines for `sha256sum --check`."""
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
    )


if __name__ == "__main__":
    raise SystemExit(main())
