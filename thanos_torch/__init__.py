"""Thanos pruning in PyTorch: single layers here, whole models in `thanos_torch.models`.

Names, arguments and results are those of `reference`, with tensors for arrays. `Diagnostics`,
`FactorCache` and `Checks` are additions.
"""

# `reference` comes before PyTorch: it lets the waiting threads of both sleep.
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from thanos_torch.methods.baselines import magnitude, sparsegpt, wanda
from thanos_torch.methods.checks import Checks
from thanos_torch.methods.factor import FactorCache
from thanos_torch.methods.problem import Gram, objective
from thanos_torch.methods.refit import refit
from thanos_torch.methods.result import Diagnostics, Pruned
from thanos_torch.methods.thanos import thanos

__all__ = [
    "Checks",
    "Diagnostics",
    "FactorCache",
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
