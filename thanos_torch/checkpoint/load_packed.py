"""Load a packed checkpoint as a model that runs, with smaller layers in place."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thanos_torch.checkpoint.load import LoadedModel, origin_of_folder
from thanos_torch.checkpoint.packed_format import PackedFolder, Piece
from thanos_torch.checkpoint.shards import without_content
from thanos_torch.checkpoint.streamed import Conversion, Skeleton, quiet_transformers
from thanos_torch.checkpoint.tokenizer import load_tokenizer
from thanos_torch.forms import Compact, CompactLinear
from thanos_torch.network.layers import PrunableLayer, block_of, decoder_blocks, prunable_layers
from thanos_torch.runtime.arguments import checked


@dataclass(frozen=True)
class PackedModel:
    """A model that was loaded from packed weights.

    compact  names of the layers that are `CompactLinear` modules
    dense    names of the pruned layers that are dense modules, each with the reason
    """

    loaded: LoadedModel
    compact: list[str]
    dense: dict[str, str]


@checked()
def load_packed(folder: str | Path, *, trust_remote_code: bool = False) -> PackedModel:
    """Load a packed checkpoint; layers in the form `compact` run in it, all others dense.

    The dense weight of a compact layer is never made, and files are read one decoder block at a
    time. Raises ValueError if the folder is not packed, is damaged, or lacks weights of the model.
    """
    folder = Path(folder)
    packed = PackedFolder(folder)
    described = {name: without_content(name, *packed.describe(name)) for name in packed.names()}
    built = Skeleton(folder, described, trust_remote_code)
    model, conversion = built.model, built.conversion
    blocks = decoder_blocks(model)
    groups = dict(zip(blocks, prunable_layers(blocks), strict=True))
    compact: list[str] = []
    dense: dict[str, str] = {}
    for block, names in _groups(conversion, packed, blocks):
        in_place: set[str] = set()  # tensors that compact layers hold already
        for name, layer in groups[block].items() if block else ():
            pieces = packed.of_layer(name)
            if not pieces:  # it was not pruned
                continue
            if reason := _why_dense(layer, pieces):
                dense[name] = reason
                continue
            _replace(model, layer, packed, pieces[0])
            in_place.update(pieces[0].place.tensors)
            compact.append(name)
        with quiet_transformers():
            conversion.load({name: packed.read(name) for name in names if name not in in_place})
    model.tie_weights()
    _refuse_missing(model, folder)
    with quiet_transformers():
        tokenizer = load_tokenizer(folder, model.config, trust_remote_code)
    origin = origin_of_folder(folder)
    loaded = LoadedModel(model, tokenizer, str(folder), origin, folder / "config.json")
    return PackedModel(loaded, compact, dense)


def _groups(
    conversion: Conversion, packed: PackedFolder, blocks: Collection[str]
) -> Iterator[tuple[str | None, list[str]]]:
    """Tensor names outside of the decoder blocks (None), then those of each block."""
    groups: dict[str | None, list[str]] = {None: [], **{name: [] for name in blocks}}
    for name in packed.names():
        groups[block_of(conversion.place(name)[0], blocks)].append(name)
    yield from groups.items()


def _why_dense(layer: PrunableLayer, pieces: list[Piece]) -> str:
    """Why a pruned layer cannot run as a compact one; empty if it can."""
    if any(piece.form != "compact" for piece in pieces):
        return f"{pieces[0].form} is a form to store, not one to run"
    if layer.expert is not None:
        return "an expert is a slice of a tensor, and no module of its own"
    if len(pieces) > 1:
        return "the checkpoint holds it in parts"
    return ""


def _replace(model: nn.Module, layer: PrunableLayer, packed: PackedFolder, piece: Piece) -> None:
    """Put a compact layer into the place of a dense one; its bias is loaded later."""
    form = packed.form(piece)
    assert isinstance(form, Compact)
    owner, _, own = layer.name.rpartition(".")
    dtype = layer.stored.dtype  # the model's own, whatever the checkpoint has
    with torch.no_grad():
        bias = getattr(layer.module, "bias", None)
        faster = CompactLinear(form, bias).to(dtype).eval()
    setattr(model.get_submodule(owner), own, faster)


def _refuse_missing(model: Any, folder: Path) -> None:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    missing = sorted(name for name, tensor in tensors if tensor.is_meta)
    if missing:
        raise ValueError(f"{folder} lacks weights: {', '.join(missing)}")
