"""Find the prunable layers and decoder blocks of a model by its structure, not by its name."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PrunableLayer:
    """One linear map inside a model.

    name        what people see; unique in the model
    parameter   full name of the parameter that holds the weight, alone or with other experts'
    module      owns that parameter, and is asked for it each time: it may be loaded or moved
    transposed  the parameter is stored inputs first, (b, c)
    expert      the weight is this slice of a 3-D parameter; None: it is the whole of a matrix
    """

    name: str
    parameter: str
    module: nn.Module
    transposed: bool = False
    expert: int | None = None

    @property
    def stored(self) -> Tensor:
        """The parameter itself."""
        tensor: Tensor = getattr(self.module, self.parameter.rpartition(".")[2])
        return tensor

    @property
    def matrix(self) -> Tensor:
        """The weight as a view of the parameter, (c, b): a row for each output of the layer."""
        tensor = self.stored if self.expert is None else self.stored[self.expert]
        return tensor.T if self.transposed else tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(c, b), output rows and input columns."""
        rows, columns = self.stored.shape[-2:]
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def dtype(self) -> torch.dtype:
        """What the parameter is stored in."""
        return self.stored.dtype

    @torch.no_grad()
    def read(self) -> Tensor:
        """A copy of the weight, (c, b), in its own dtype."""
        return self.matrix.clone(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def write(self, weight: Tensor) -> None:
        """Put `weight`, (c, b), into the parameter, rounded to its dtype."""
        self.matrix.copy_(weight)


def layers_of(module: nn.Module, name: str) -> Iterator[PrunableLayer]:
    """The layers that a module holds itself, without those of the modules inside it.

    nn.Linear; Transformers' Conv1D, which is linear with its weight transposed (GPT-2); experts
    that are fused into 3-D parameters, if their module says with `is_transposed` which way round
    they are, as Transformers' do. Without that word nothing tells inputs from outputs.

    Gate and up projection of a `gate_up_proj` stay one layer, as in the fused linear layers of
    dense models: they read the same input, and whether their rows alternate is the model's affair.
    """
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear | Conv1D):
        yield PrunableLayer(name, f"{name}.weight", module, isinstance(module, Conv1D))
    elif isinstance(transposed := getattr(module, "is_transposed", None), bool):
        for attribute, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 3:
                whole = f"{name}.{attribute}"
                for expert in range(len(parameter)):
                    own = f"{name}.{expert}.{attribute}"
                    yield PrunableLayer(own, whole, module, transposed, expert)


# Routers of mixtures of experts look like any other linear layer: only what models call them tells.
_ROUTER = re.compile(r"(^|\.)(gate|gating|shared_expert_gate|\w*router\w*)(\.|$)")
_PRUNABLE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the list of decoder blocks: the longest list of modules that hold layers.

    A list inside such a list (of experts, say) does not count, nor does what is outside the
    decoder that a model names with `get_decoder`, as a vision tower is. Raises ValueError if
    there is none.
    """
    named: Callable[[], nn.Module] | None = getattr(model, "get_decoder", None)
    decoder = named() if named else model
    start = next(name for name, module in model.named_modules() if module is decoder)
    found: dict[str, nn.ModuleList] = {}
    for name, module in decoder.named_modules(prefix=start):
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and not inside and _all_hold_layers(module):
            found[name] = module
    if not found:
        raise ValueError(
            f"model {type(model).__name__} has no prunable layers: no list of decoder blocks "
            "(nn.ModuleList) with linear layers inside"
        )
    return max(found.items(), key=lambda item: len(item[1]))


def prunable_layers(blocks: nn.ModuleList, prefix: str) -> list[dict[str, PrunableLayer]]:
    """The layers of every block, by full name, in the order of the model.

    The output head and the embeddings are outside the blocks. Routers are inside, but they are
    small and decide where tokens go: they are left alone. Raises ValueError if layers share a
    weight, or hold no plain floating-point numbers, as in quantised models.
    """
    layers = [
        {
            layer.name: layer
            for name, module in block.named_modules()
            if not _ROUTER.search(name)
            for layer in layers_of(module, f"{prefix}.{index}.{name}")
        }
        for index, block in enumerate(blocks)
    ]
    owners: dict[tuple[int, int | None], str] = {}
    for name, layer in ((name, layer) for group in layers for name, layer in group.items()):
        if layer.dtype not in _PRUNABLE_DTYPES:
            raise ValueError(f"{name} holds {layer.dtype}, which cannot be pruned")
        owner = owners.setdefault((id(layer.stored), layer.expert), name)
        if owner != name:
            raise ValueError(f"{name} and {owner} share one weight, which cannot be pruned")
    return layers


def model_layers(model: nn.Module) -> dict[str, PrunableLayer]:
    """All prunable layers of a model, by full name; errors as of the functions above."""
    prefix, blocks = decoder_blocks(model)
    groups = prunable_layers(blocks, prefix)
    return {name: layer for group in groups for name, layer in group.items()}


def layer_kind(name: str, shape: Sequence[int] = ()) -> str:
    """What a layer has in common with those of other blocks: "q_proj", or "q_proj 24 x 16"."""
    own = name.rpartition(".")[2]
    return f"{own} {' x '.join(map(str, shape))}".strip()


def arithmetic_of(dtype: torch.dtype) -> torch.dtype:
    """What a layer is pruned in whose weight is stored in `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """As people and JSON write it: bfloat16."""
    return str(dtype).removeprefix("torch.")


def other_weights(blocks: nn.ModuleList, prefix: str) -> list[str]:
    """Names of the matrices inside the blocks that are no prunable layer's weight.

    Routers, convolutions, and experts in a form that `layers_of` does not know.
    """
    groups = prunable_layers(blocks, prefix)
    prunable = {layer.parameter for group in groups for layer in group.values()}
    names = [f"{prefix}.{name}" for name, weight in blocks.named_parameters() if weight.dim() > 1]
    return [name for name in names if name not in prunable]


def _all_hold_layers(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and all(
        any(True for part in module.modules() for _ in layers_of(part, "")) for module in modules
    )
