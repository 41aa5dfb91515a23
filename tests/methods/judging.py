"""The certificate of a layer that `thanos_torch.thanos` pruned, from tensors."""

from typing import Any

from torch import Tensor

from thanos_torch import Pattern, Pruned
from verification import certify


def certified(W: Tensor, G: Tensor, pruned: Pruned, pattern: Pattern, block_size: int) -> Any:
    """The verdict on a result, in the arithmetic of W, (c, b); G is (b, b)."""
    tensors = (W, G, pruned.weight, pruned.mask, pruned.block_losses)
    weight, gram, found, mask, losses = (tensor.cpu().numpy() for tensor in tensors)
    return certify(
        weight,
        gram,
        found,
        pattern,
        block_size=block_size,
        arithmetic=str(W.dtype).removeprefix("torch."),
        mask=mask,
        block_losses=losses,
    )
