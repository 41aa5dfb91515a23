"""Safetensors files written again, byte for byte: from their header and their tensors."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from thanos_torch.models.durable import sha256_of, whole_file


@dataclass(frozen=True)
class ExactFile:
    """All of a safetensors file but the numbers in it.

    header  its text, as it is in the file, after the 8 bytes of its length
    sha256  of the whole file
    """

    header: str
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Self:
        """Read the header of a file that has been read before, and so is known to be sound."""
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = content.read(length).decode()
        return cls(header, sha256_of(file))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What `as_dict` made. Raises KeyError or TypeError for anything else."""
        return cls(str(stored["header"]), str(stored["sha256"]))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def header_bytes(self) -> int:
        """The bytes in front of the tensors."""
        return 8 + len(self.header.encode())

    def entries(self) -> dict[str, dict[str, Any]]:
        """What the header says of every tensor, in the order of their bytes."""
        content = json.loads(self.header)
        content.pop("__metadata__", None)
        return dict(sorted(content.items(), key=lambda item: item[1]["data_offsets"]))

    def write(self, file: Path, tensor: Callable[[str], Tensor]) -> None:
        """Write the file anew; `tensor` gives one by name. ValueError if it is another file."""
        header = self.header.encode()
        with whole_file(file) as unfinished:
            with unfinished.open("wb") as content:
                content.write(len(header).to_bytes(8, "little") + header)
                for name in self.entries():
                    flat = tensor(name).contiguous().reshape(-1)
                    content.write(flat.view(torch.uint8).numpy().data)
            if sha256_of(unfinished) != self.sha256:
                raise ValueError(f"{file.name} does not come out as it was: what holds it changed")
