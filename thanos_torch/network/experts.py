"""Fused experts of a mixture: how they are stored, and how they run while they are watched."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class FusedWeights:
    """A parameter that holds the weights of several experts, or of several groups of a layer.

    attribute   its name in its module
    count       how many weights are used: a parameter may have more slices
    transposed  whether each weight is stored inputs first, (b, c)
    stacked     whether they are the rows of a matrix, one weight after another; else slices in 3-D
    """

    attribute: str
    count: int
    transposed: bool
    stacked: bool = False


def fused_weights(module: nn.Module) -> list[FusedWeights]:
    """The parameters of a module that hold several weights; empty if their form is not known.

    If a module multiplies by them the other way round, `observe` sees it in the products.
    """
    shapes = {n: tuple(each.shape) for n, each in module.named_parameters(recurse=False)}
    if stacked := _stacked(module, shapes):
        return stacked
    slices = {name: shape for name, shape in shapes.items() if len(shape) == 3}
    transposed = _inputs_first(module, slices)
    if transposed is None:
        return []
    # LongCat's `gate_up_proj` is longer: it has slices for experts that do nothing.
    count = min((shape[0] for shape in slices.values()), default=0)
    return [FusedWeights(name, count, transposed) for name in slices]


def _inputs_first(module: nn.Module, slices: Mapping[str, tuple[int, ...]]) -> bool | None:
    """Whether 3-D parameters are (experts, b, c) and not (experts, c, b); None if unknown.

    Most of Transformers' modules say it by their attribute `is_transposed`. `gate_up_proj` and
    `down_proj` have shapes that fit one way alone; without a fused gate both ways fit, and outputs
    come first as in nn.Linear. JetMoE has a single `weight`, and says its sizes.
    """
    if isinstance(said := getattr(module, "is_transposed", None), bool):
        return said
    held = {name: shape[1:] for name, shape in slices.items()}
    up, down = held.get("gate_up_proj") or held.get("up_proj"), held.get("down_proj")
    if up and down:
        (rows, columns), (after, inside) = up, down
        if columns == after and rows in (inside, 2 * inside):
            return False
        return True if rows == inside and columns == 2 * after else None
    sizes = getattr(module, "output_size", None), getattr(module, "input_size", None)
    if held.keys() != {"weight"}:
        return None
    return False if held["weight"] == sizes else True if held["weight"] == sizes[::-1] else None


def _stacked(module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> list[FusedWeights]:
    """The experts of DBRX, and the groups of DeepSeek V4's block-diagonal projection."""
    experts, groups = getattr(module, "moe_num_experts", 0), getattr(module, "n_groups", 0)
    if isinstance(experts, int) and experts > 1 and shapes.keys() == {"w1", "v1", "w2"}:
        fits = all(len(shape) == 2 and shape[0] % experts == 0 for shape in shapes.values())
        each = (FusedWeights(name, experts, name == "w2", stacked=True) for name in shapes)
        return list(each) if fits else []
    own = isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward
    if own and isinstance(groups, int) and groups > 1 and shapes["weight"][0] % groups == 0:
        return [FusedWeights("weight", groups, transposed=False, stacked=True)]
    return []


@contextmanager
def looping_experts(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let Transformers compute expert by expert, because its faster ways mix the experts' inputs.

    The outputs are the same up to rounding. Modules of other libraries are left as they are.
    """
    configs: dict[int, Any] = {}
    for module in modules:
        config = getattr(module, "config", None)
        if hasattr(config, "_experts_implementation"):
            configs[id(config)] = config
    before = [(config, config._experts_implementation) for config in configs.values()]
    try:
        for config, _ in before:
            config._experts_implementation = "eager"
        yield
    finally:
        for config, implementation in before:
            config._experts_implementation = implementation
