"""The few rows of a large embedding that some tokens need."""

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def keep_rows(embedding: nn.Embedding, tokens: Tensor) -> None:
    """Drop the rows of all other tokens; whoever looks one of `tokens` up gets the same row.

    Calibration reads a fraction of a vocabulary, whose table would stay in memory all along.
    """
    known = tokens.unique()
    embedding.weight = nn.Parameter(embedding.weight[known], requires_grad=False)
    embedding.num_embeddings = len(known)
    embedding.padding_idx = None  # matters for gradients alone

    def renumber(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return torch.searchsorted(known.to(args[0].device), args[0]), *args[1:]

    embedding.register_forward_pre_hook(renumber)
