"""Thanos pruning in PyTorch: single layers here, whole models in `thanos_torch.models`.

Names, arguments and results are those of `reference`, with tensors for arrays.
"""

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from thanos_torch.gram import Gram
from thanos_torch.problem import objective
from thanos_torch.refit import refit
from thanos_torch.result import Diagnostics, Pruned
from thanos_torch.sparsegpt import sparsegpt
from thanos_torch.thanos import thanos
from thanos_torch.zeroing import magnitude, wanda

__all__ = [
    "Diagnostics",
    "Gram",
    "Pattern",
    "Pruned",
    "SemiStructured",
    "Structured",
    "Unstructured",
    "magnitude",
    "objective",
    "parse_pattern",
    "refit",
    "sparsegpt",
    "thanos",
    "wanda",
]
