"""Compare the weights in a GGUF file with the pruned checkpoint that it was converted from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ARCHITECTURES = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}


@dataclass(frozen=True)
class Zeros:
    """Weights of all pruned layers, counted in a GGUF file in 16-bit floats.

    removed    how many the masks remove
    kept_zero  how many of these are +0.0 in the file, at their places
    others     further zeros: weights that were too small for 16 bits, or zero before pruning
    differing  weights that are not the checkpoint's, rounded to 16 bits, bit for bit
    """

    removed: int
    kept_zero: int
    others: int
    differing: int

    @property
    def right(self) -> bool:
        """Whether every removed weight is zero, and every weight the checkpoint's."""
        return self.kept_zero == self.removed and self.differing == 0


class GGUFWeights:
    """Reads layers from a GGUF file by the names that the checkpoint has for them."""

    def __init__(self, file: Path) -> None:
        self._reader = gguf.GGUFReader(file)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._name = str(self._field("general.architecture"))
        blocks = int(self._field(f"{self._name}.block_count"))
        self._names = gguf.get_tensor_name_map(ARCHITECTURES[self._name], blocks)

    def read(self, layer: str) -> NDArray[np.float16]:
        """A layer's weight (c, b), its rows in the checkpoint's order.

        Raises ValueError for an unknown layer, and if the file has it in another dtype.
        """
        name = self._names.get_name(layer)
        if name is None:
            raise ValueError(f"layer must be one of {self._name}, got {layer!r}")
        tensor = self._tensors[f"{name}.weight"]
        if tensor.tensor_type != gguf.GGMLQuantizationType.F16:
            raise ValueError(f"{tensor.name} must be F16, got {tensor.tensor_type.name}")
        weight: NDArray[np.float16] = np.asarray(tensor.data)
        kind = name.rpartition(".")[2]
        if self._name == "llama" and kind in ("attn_q", "attn_k"):
            heads = "head_count" if kind == "attn_q" else "head_count_kv"
            return as_in_halves(weight, int(self._field(f"llama.attention.{heads}")))
        return weight

    def _field(self, key: str) -> Any:
        return self._reader.fields[key].contents()


def as_in_halves(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorder the rows of a query or key projection, (c, b), from llama.cpp's order to ours.

    Rotary embeddings turn pairs of rows. In GGUF files of the Llama architecture the rows of a
    pair are neighbours; in Transformers the first rows of all pairs of a head come before the
    second ones.
    """
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def count_zeros(
    file: Path, weights: Mapping[str, Tensor], masks: Mapping[str, NDArray[np.bool_]]
) -> Zeros:
    """Count zeros and differences over all layers with masks.

    weights  the checkpoint's weights by layer, (c, b), float32
    masks    by layer, (c, b), True where a weight was removed
    """
    found, counts = GGUFWeights(file), np.zeros(4, dtype=np.int64)
    for layer, mask in masks.items():
        weight = found.read(layer)
        zero = weight.view(np.uint16) == 0
        differs = weight.view(np.uint16) != weights[layer].half().numpy().view(np.uint16)
        counts += [mask.sum(), (zero & mask).sum(), (zero & ~mask).sum(), differs.sum()]
    return Zeros(*map(int, counts))
