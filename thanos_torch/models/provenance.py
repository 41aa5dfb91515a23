"""Where everything comes from that a checkpoint was judged by: the first line of a verdict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thanos_torch.models.asked import Asked
from thanos_torch.models.gram_files import sha256_of_all
from thanos_torch.models.judging import Judged
from thanos_torch.models.original import Original

_SUPPLIER = "whoever ran `thanos certify` with --gram"


@dataclass(frozen=True)
class Provenance:
    """What a verdict rests on.

    grams  what --gram named
    """

    asked: Asked
    original: Original
    grams: Path
    judged: list[Judged]

    @property
    def weights(self) -> tuple[int, int]:
        """How many weights were judged, and how many all layers of the decoder blocks have."""
        layers = self.original.layers
        names = [layer.name for layer in self.judged if layer.certificate is not None]
        whole = sum(layer.weights for layer in layers.values())
        return sum(layers[name].weights for name in names), whole

    @property
    def grams_sha256(self) -> str:
        """One hash over the Gram matrices of all layers that were judged."""
        return sha256_of_all(
            {layer.name: layer.gram_sha256 for layer in self.judged if layer.gram_sha256}
        )

    def first_line(self) -> str:
        """All of it, for people."""
        asked = "; ".join(f"{each.in_full()} in {n} layers" for each, n in self.asked.groups())
        dense = len(self.asked.dense(self.original.layers))
        judged, whole = self.weights
        return (
            f"Asked for, as {self.asked.source} says: {asked}; {dense} layers dense. "
            f"Gram matrices: {self.grams}, SHA-256 {self.grams_sha256}, supplied by {_SUPPLIER}; "
            "no certificate vouches for them. "
            f"Judged: {judged / whole:.2%} of all weights of linear layers in the decoder blocks."
        )

    def warnings(self) -> list[str]:
        """What is not as by default, one text each."""
        return self.asked.unusual(self.original.layers)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        judged, whole = self.weights
        groups = self.asked.groups()
        return {
            "asked_by": self.asked.source,
            "asked": [{**options.as_dict(), "layers": number} for options, number in groups],
            "dense": self.asked.dense(self.original.layers),
            "not_default": self.warnings(),
            "original": str(self.original.folder),
            "grams": {
                "path": str(self.grams),
                "sha256": self.grams_sha256,
                "supplied_by": _SUPPLIER,
                "vouched_for": False,
            },
            "weights": whole,
            "judged_weights": judged,
            "judged_share": judged / whole,
        }
