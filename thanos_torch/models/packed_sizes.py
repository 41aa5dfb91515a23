"""The bytes of a checkpoint, before and after packing."""

from dataclasses import dataclass, field
from typing import Any

Bytes = tuple[int, int]  # dense, packed


@dataclass
class PackedLayer:
    """A pruned layer's weight.

    forms  that it, or its parts, were packed in; `dense` where no form is smaller
    """

    name: str
    shape: tuple[int, int]
    pattern: str
    forms: set[str] = field(default_factory=set)
    bytes: Bytes = (0, 0)


@dataclass
class PackedSizes:
    """All bytes of a checkpoint folder.

    others   tensors that were not pruned
    headers  of weight files: where each tensor is
    masks    the file with the masks; none after, if the packed weights say as much
    beside   all other files, after packing `packed.json` too, which keeps the headers of before
    """

    layers: dict[str, PackedLayer]
    others: Bytes = (0, 0)
    headers: Bytes = (0, 0)
    masks: Bytes = (0, 0)
    beside: Bytes = (0, 0)

    @property
    def pruned(self) -> Bytes:
        """Of all pruned layers' weights."""
        return plus(*(layer.bytes for layer in self.layers.values()))

    @property
    def total(self) -> Bytes:
        """What the files of the folder hold."""
        return plus(self.pruned, self.others, self.headers, self.masks, self.beside)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        names = ("pruned", "others", "headers", "masks", "beside", "total")
        return {
            **{name: list(getattr(self, name)) for name in names},
            "layers": [
                {
                    "name": layer.name,
                    "shape": list(layer.shape),
                    "pattern": layer.pattern,
                    "forms": sorted(layer.forms),
                    "bytes": list(layer.bytes),
                }
                for layer in self.layers.values()
            ],
        }


def plus(*sizes: Bytes) -> Bytes:
    """The sum of some."""
    return sum(dense for dense, _ in sizes), sum(packed for _, packed in sizes)
