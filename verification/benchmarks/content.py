"""What files hold, in one short word: numbers are measured again when it is another."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from thanos_torch.models.durable import sha256_of


def content_of(files: Iterable[Path]) -> str:
    """Short SHA-256 of files by name and content, whatever their order and folder.

    What is no file, as a folder beside them, does not count.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(file.name.encode() + sha256_of(file).encode())
    return digest.hexdigest()[:16]
