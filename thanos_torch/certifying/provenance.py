"""What a verdict rests on: what was asked of each layer, who says so, and whose Gram matrices."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from thanos_torch.certifying.layers import Judged, sha256_of_all
from thanos_torch.certifying.original import Original
from thanos_torch.checkpoint.converted import AUTO, read_dtype
from thanos_torch.network.layers import dtype_name
from thanos_torch.pruning.plan import LayerOptions, Rules, Shapes, switch_words
from thanos_torch.pruning.recipe_file import stored_options

_PLAIN = {
    "method": "method",
    "block_size": "block size",
    "damping": "damping",
    "refit_steps": "refit steps",
}
_DEFAULTS = {each.name: each.default for each in fields(LayerOptions) if each.name in _PLAIN}
_NAMED = 3  # dense layers that are named


@dataclass(frozen=True)
class Asked:
    """What was asked of a pruning run.

    source   who says so, for people
    options  of each layer that should be pruned
    dtype    what all floating-point tensors should be converted to; None for nothing
    """

    source: str
    options: dict[str, LayerOptions]
    dtype: torch.dtype | None = None

    @classmethod
    def by_rules(
        cls, source: str, rules: Rules, shapes: Shapes, dtype: torch.dtype | str = AUTO
    ) -> "Asked":
        """From rules, for layers with shapes (c, b) by name; `dtype` as for `prune_checkpoint`.

        Raises ValueError as `Rules.plan`.
        """
        plan = rules.plan(shapes)
        options = {n: each for n, each in plan.items() if isinstance(each, LayerOptions)}
        return cls(source, options, read_dtype(dtype))

    @classmethod
    def by_record(cls, source: str, record: Mapping[str, Any]) -> "Asked":
        """From the content of `thanos.json`. Raises ValueError if a layer's options are invalid."""
        options = {
            str(layer["name"]): stored_options(f"options of {layer['name']}", layer["options"])
            for layer in record["layers"]
            if layer["options"]
        }
        return cls(source, options, read_dtype(record.get("dtype", AUTO)))

    @property
    def written(self) -> str:
        """The name of the dtype that tensors should be converted to; AUTO for none."""
        return dtype_name(self.dtype) if self.dtype else AUTO

    def dense(self, layers: Mapping[str, object]) -> list[str]:
        """The layers of a model that should be left dense."""
        return [name for name in layers if name not in self.options]

    def groups(self) -> list[tuple[LayerOptions, int]]:
        """Each combination of options, and for how many layers."""
        return list(Counter(self.options.values()).items())

    def unusual(self, layers: Mapping[str, object]) -> list[str]:
        """Every option that is not the default, and the layers left dense, for people."""
        counts: Counter[str] = Counter()
        for options in self.options.values():
            for name, default in _DEFAULTS.items():
                value = getattr(options, name)
                if value != default:
                    counts[f"{_PLAIN[name]} {value} (default {default})"] += 1
            counts.update(switch_words(options.ablation.changed()))
        pruned, dense = len(self.options), self.dense(layers)
        lines = [f"{what} in {number} of {pruned} layers" for what, number in counts.items()]
        if self.dtype:
            lines.append(
                f"all weights converted to {self.written} (default: each as the original has it)"
            )
        if dense:
            names = ", ".join(dense[:_NAMED]) + (", ..." if len(dense) > _NAMED else "")
            lines.append(f"{len(dense)} of {len(layers)} layers left dense ({names})")
        return lines


_SUPPLIER = "whoever ran `thanos certify` with --gram"


@dataclass(frozen=True)
class Provenance:
    """What a verdict rests on.

    grams  folder or file of the Gram matrices
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
        """The whole provenance in one line, for people."""
        asked = "; ".join(f"{each.in_full()} in {n} layers" for each, n in self.asked.groups())
        dense = len(self.asked.dense(self.original.layers))
        judged, whole = self.weights
        stored = f"; all weights converted to {self.asked.written}" if self.asked.dtype else ""
        return (
            f"Asked for, as {self.asked.source} says: {asked}; {dense} layers dense{stored}. "
            f"Gram matrices: {self.grams}, SHA-256 {self.grams_sha256}, supplied by {_SUPPLIER}; "
            "no certificate vouches for them. "
            f"Judged: {judged / whole:.2%} of all weights of linear layers in the decoder blocks."
        )

    def warnings(self) -> list[str]:
        """One text for everything that is not the default."""
        return self.asked.unusual(self.original.layers)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        judged, whole = self.weights
        groups = self.asked.groups()
        return {
            "asked_by": self.asked.source,
            "asked": [{**options.as_dict(), "layers": number} for options, number in groups],
            "dense": self.asked.dense(self.original.layers),
            "dtype": self.asked.written,
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
