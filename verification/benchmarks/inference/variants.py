"""The variants of a model that the inference benchmark runs: made, loaded, and their bytes."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reference.patterns import SemiStructured, Structured, parse_pattern
from thanos_torch.forms import FORMS, choose, form_bytes, semi_structured_linear
from thanos_torch.models import (
    LayerOptions,
    PackedSizes,
    Rules,
    calibration_windows,
    load_model,
    load_packed,
    pack_checkpoint,
    prune_checkpoint,
    stream_model,
)
from verification import certify
from verification.benchmarks.environment import Progress

DENSE = "dense"  # the form of an ordinary model, with zeros in place if it is pruned


@dataclass(frozen=True)
class Variant:
    """A model in one form that can be run.

    pattern  pattern that it was pruned to; empty if it is dense
    form     DENSE, `compact`, or `semi-structured`
    source   name or folder that it is loaded from
    """

    pattern: str
    form: str
    source: str

    def as_dict(self) -> dict[str, str]:
        """The arguments of this class, for JSON."""
        return asdict(self)

    def load(self, device: str) -> Any:
        """Load the model; in bfloat16 on a GPU, whose sparse units do not support float32."""
        if self.form == "compact":
            model = load_packed(Path(self.source)).loaded.model
        else:
            model = load_model(self.source).model
        if device != "cpu":
            model = model.to(device, torch.bfloat16)
        return semi_structured(model) if self.form == "semi-structured" else model


def variants_of(
    pattern: str, forms: list[str], pruned: Path, packed: Path, device: str
) -> list[Variant]:
    """The variants of a pruned model, packed in `forms`, that can run on a device."""
    found = [Variant(pattern, DENSE, str(pruned))]
    if "compact" in forms:
        found.append(Variant(pattern, "compact", str(packed)))
    if device != "cpu" and pattern == "2:4":
        found.append(Variant(pattern, "semi-structured", str(pruned)))
    return found


def semi_structured(model: Any) -> Any:
    """Replace the layers whose weights are 2:4 by layers for the sparse units of a GPU."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and _is_2_4(module):
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, semi_structured_linear(module))
    return model


def prune_to(
    model: str,
    pattern: str,
    out: Path,
    calibration: dict[str, Any],
    progress: Progress,
    device: str,
) -> bool:
    """Write a checkpoint of `model` pruned by Thanos; returns whether every certificate passed."""
    loaded, streamed = stream_model(model)
    windows = calibration_windows(loaded.tokenizer, **calibration)
    record = prune_checkpoint(
        streamed,
        windows.ids,
        Rules(LayerOptions(parse_pattern(pattern))),
        out,
        judge=certify,
        device=device,
        record={"settings": {"pattern": pattern, **calibration}, "model": loaded.provenance()},
        activations="memory",
        progress=lambda run: progress(f"pruning to {pattern}", run.layers, run.of_layers),
    )
    return bool(record["verified"])


def measured_sizes(pruned: Path, packed: Path) -> dict[str, Any]:
    """Pack a checkpoint. Returns its forms, its bytes on disk, and its bytes by formula.

    formulas  bytes of the pruned layers' weights, by form and by bytes of a number ("4" and "2")
    """
    found = pack_checkpoint(pruned, packed)
    on_disk = {name: size for name, size in found.as_dict().items() if name != "layers"}
    forms = sorted({form for layer in found.layers.values() for form in layer.forms})
    return {"forms": forms, "disk": on_disk, "formulas": _by_formula(found)}


def _by_formula(found: PackedSizes) -> dict[str, dict[str, int]]:
    layers = [(parse_pattern(layer.pattern), layer.shape) for layer in found.layers.values()]
    totals: dict[str, dict[str, int]] = {}
    for form in (DENSE, *FORMS):
        if form == "compact" and not all(isinstance(p, Structured) for p, _ in layers):
            continue
        if form == "nm" and not all(isinstance(p, SemiStructured) for p, _ in layers):
            continue
        totals[form] = {
            str(itemsize): sum(
                choose.dense_bytes(*shape, itemsize)
                if form == DENSE
                else form_bytes(form, pattern, shape, itemsize)
                for pattern, shape in layers
            )
            for itemsize in (4, 2)
        }
    return totals


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers; shared tensors count once."""
    tensors: Iterable[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _is_2_4(linear: nn.Linear) -> bool:
    weight = linear.weight
    if weight.shape[1] % 4:
        return False
    return bool(((weight.view(-1, 4) == 0).sum(dim=1) >= 2).all())
