"""Thanos pruning in PyTorch: single layers here, whole models in `thanos_torch.models`.

Names, arguments and results are those of `reference`, with tensors for arrays. `Diagnostics`,
`FactorCache` and `Checks` are additions.
"""

import importlib
from typing import TYPE_CHECKING, Any

# `reference` comes before PyTorch: it lets the waiting threads of both sleep.
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern

if TYPE_CHECKING:
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

# Imported on first use, since the program `thanos` judges others without PyTorch.
_MODULES = {
    "baselines": ("magnitude", "sparsegpt", "wanda"),
    "checks": ("Checks",),
    "factor": ("FactorCache",),
    "problem": ("Gram", "objective"),
    "refit": ("refit",),
    "result": ("Diagnostics", "Pruned"),
    "thanos": ("thanos",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            try:
                home = importlib.import_module(f"thanos_torch.methods.{module}")
            except ModuleNotFoundError as error:
                if error.name != "torch":
                    raise
                raise ModuleNotFoundError(
                    f"thanos_torch.{name} needs PyTorch: pip install 'thanos-pruning[torch]'",
                    name="torch",
                ) from None
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
