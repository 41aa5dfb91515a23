"""2:4 on the sparse units of a GPU, through torch.sparse."""

import torch
from torch import nn

HALVES = (torch.float16, torch.bfloat16)


def semi_structured_linear(linear: nn.Linear) -> nn.Linear:
    """A layer with the same weight and bias, whose product a GPU does with half of the work.

    The weight must be 2:4, outlier rows have no place there. Raises ValueError, with the reason,
    off CUDA and for what PyTorch's kernels do not know.
    """
    weight = linear.weight.detach()
    if weight.dtype not in HALVES:
        raise ValueError(
            "weight must be float16 or bfloat16 for torch.sparse semi-structured, "
            f"got {weight.dtype}"
        )
    if weight.shape[1] % 4 or bool(((weight.view(-1, 4) == 0).sum(dim=1) < 2).any()):
        raise ValueError("weight must have two zeros in every four weights of a row (2:4)")
    if not weight.is_cuda:
        raise ValueError(
            f"weight must be on a CUDA device for torch.sparse semi-structured, got {weight.device}"
        )
    from torch.sparse import to_sparse_semi_structured

    try:
        sparse = to_sparse_semi_structured(weight)
    except (RuntimeError, ValueError) as error:  # sizes and cards that the kernels do not know
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} is refused by torch.sparse: {error}"
        ) from error
    faster = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    faster.weight = nn.Parameter(sparse, requires_grad=False)
    faster.bias = linear.bias
    return faster
