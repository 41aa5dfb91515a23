"""Fused experts of a mixture: how they are stored, and how they run while they are watched."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def stored_inputs_first(module: nn.Module) -> bool | None:
    """Whether the 3-D parameters of fused experts are (experts, b, c) and not (experts, c, b).

    None if the module holds no fused experts of a known form:

    - Most of Transformers' modules say it by their attribute `is_transposed`.
    - `gate_up_proj` and `down_proj` have shapes that fit one way alone. Without a fused gate both
      ways fit: then outputs come first, as in nn.Linear.
    - A single `weight` comes with `input_size` and `output_size`, as in JetMoE.

    If a module multiplies the other way round, `observe` sees it in the products.
    """
    if isinstance(said := getattr(module, "is_transposed", None), bool):
        return said
    held = {name: shape[1:] for name, shape in _shapes(module).items()}
    up, down = held.get("gate_up_proj") or held.get("up_proj"), held.get("down_proj")
    if up and down:
        (rows, columns), (after, inside) = up, down
        if columns == after and rows in (inside, 2 * inside):
            return False
        return True if rows == inside and columns == 2 * after else None
    sizes = getattr(module, "output_size", None), getattr(module, "input_size", None)
    known = {sizes: False, sizes[::-1]: True} if held.keys() == {"weight"} else {}
    return known.get(tuple(held.get("weight", ())))


def fused_experts(module: nn.Module) -> dict[str, int]:
    """How many experts each 3-D parameter of a module of fused experts has a weight for.

    A parameter may be longer: LongCat's `gate_up_proj` has slices for experts that do nothing.
    """
    shapes = _shapes(module) if stored_inputs_first(module) is not None else {}
    return dict.fromkeys(shapes, min((shape[0] for shape in shapes.values()), default=0))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    own = module.named_parameters(recurse=False)
    return {name: tuple(weight.shape) for name, weight in own if weight.dim() == 3}


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
