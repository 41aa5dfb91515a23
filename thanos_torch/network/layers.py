"""Find the prunable layers and decoder blocks of a model by its structure, not by its name."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thanos_torch.network.memory import overlap


@dataclass(frozen=True)
class PrunableLayer:
    """One linear layer inside a model.

    name        shown to users; unique in the model
    parameter   full name of the parameter that holds the weight, or the weights of all experts
    module      owns the parameter; it is asked for it each time, because weights come and go
    transposed  whether the parameter is stored inputs first, (b, c)
    expert      index of the weight in a 3-D parameter; None if the parameter is the weight
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
    def computed(self) -> bool:
        """Whether the module computes its weight, from parameters of other names."""
        return self.parameter.rpartition(".")[2] not in self.module._parameters

    @property
    def shows_inputs(self) -> bool:
        """Whether a call of the module multiplies the weight by what it is given, and no more.

        Linear layers with a forward pass of their own may scale, add or round before they multiply.
        """
        from transformers.pytorch_utils import Conv1D

        if not isinstance(self.module, nn.Linear | Conv1D):  # an embedding, which looks rows up
            return True
        known = (nn.Linear.forward, Conv1D.forward)
        return type(self.module).forward in known and "forward" not in vars(self.module)

    @property
    def shape(self) -> tuple[int, int]:
        """(c, b), output rows and input columns."""
        rows, columns = self.stored.shape[-2:]
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weight: that of `note_dtype` if the parameter has room for it."""
        own = self.stored.dtype
        noted = noted_dtype(self.module, self.parameter.rpartition(".")[2]) or own
        return noted if noted == own or torch.promote_types(noted, own) == own else own

    @torch.no_grad()
    def read(self) -> Tensor:
        """A copy of the weight, (c, b), in its own dtype."""
        return self.matrix.to(self.dtype, copy=True, memory_format=torch.contiguous_format)

    @torch.no_grad()
    def write(self, weight: Tensor) -> None:
        """Put `weight`, (c, b), into the parameter, rounded to the parameter's dtype."""
        self.matrix.copy_(weight)


def note_dtype(module: nn.Module, parameter: str, dtype: torch.dtype) -> None:
    """Note in which dtype the checkpoint has a parameter, which the model may hold in a wider one.

    The layer is then pruned in the arithmetic for that dtype, and its weights are rounded to it.
    """
    vars(module).setdefault("_thanos_dtypes", {})[parameter] = dtype


def noted_dtype(module: nn.Module, parameter: str) -> torch.dtype | None:
    """The dtype of the last `note_dtype`; None if there was none."""
    noted: torch.dtype | None = vars(module).get("_thanos_dtypes", {}).get(parameter)
    return noted


def layers_of(module: nn.Module, name: str) -> Iterator[PrunableLayer]:
    """The layers that a module holds itself, without those of the modules inside it.

    These are nn.Linear; Transformers' Conv1D, a linear layer with a transposed weight (GPT-2); and
    experts that are fused into 3-D parameters. The module of fused experts must say with
    `is_transposed`, as Transformers' do, whether inputs or outputs come first.

    The gate and up projections of a `gate_up_proj` stay one layer, as in the fused linear layers of
    dense models: they read the same input, and the order of their rows does not matter here.
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


# Routers of mixtures of experts look like any other linear layer; only their names differ.
_ROUTER = re.compile(r"(^|\.)(gate|gating|shared_expert_gate|\w*router\w*)(\.|$)")
_ELEMENTWISE = re.compile(r"(bias|A_log)$")  # of experts, and the states of Mamba
PRUNABLE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def is_router(name: str) -> bool:
    """Whether a module or a parameter is a router of a mixture of experts, by its full name."""
    return bool(_ROUTER.search(name))


def decoder_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The decoder blocks of a model by full name: the members of its lists of blocks.

    The blocks of several lists, for example of attentions and of MLPs, take turns. In which order
    they run is seen by `observe` alone. Raises ValueError if there is no such list.
    """
    lists = block_lists(model)
    longest = max(map(len, lists.values()))
    return {
        f"{name}.{index}": blocks[index]
        for index in range(longest)
        for name, blocks in lists.items()
        if index < len(blocks)
    }


def block_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The lists of decoder blocks by full name: lists of modules that all hold layers.

    A list inside such a list, for example of experts, does not count. Lists of single layers count
    only if there are no others: they are heads or projections. If the model names its decoder with
    `get_decoder`, lists outside of it do not count, for example a vision tower. Raises ValueError
    if there is none.
    """
    named: Callable[[], nn.Module] | None = getattr(model, "get_decoder", None)
    try:
        decoder = named() if named else model
    except (AttributeError, NotImplementedError):  # of models that do not say which it is
        decoder = model
    names = {id(module): name for name, module in model.named_modules()}
    found = _lists_in(decoder, names[id(decoder)]) if id(decoder) in names else {}
    # Some models name a head by mistake.
    found = found or _lists_in(model, "")
    whole = {name: each for name, each in found.items() if not _is_layer(each[0])}
    if not found:
        raise ValueError(
            f"model {type(model).__name__} has no prunable layers: no list of decoder blocks "
            "(nn.ModuleList) with linear layers inside"
        )
    return whole or found


def block_of(name: str, blocks: Container[str]) -> str | None:
    """The name of the block that a parameter is in, or None."""
    parts = name.split(".")
    starts = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((start for start in starts if start in blocks), None)


def _lists_in(decoder: nn.Module, start: str) -> dict[str, nn.ModuleList]:
    found: dict[str, nn.ModuleList] = {}
    for name, module in decoder.named_modules(prefix=start):
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and not inside and _all_hold_layers(module):
            found[name] = module
    return found


def found_layers(blocks: Mapping[str, nn.Module]) -> list[dict[str, PrunableLayer]]:
    """The layers of every block, by full name, in the order of the model.

    The output head and the embeddings are outside the blocks. Routers are left out, because they
    are small and decide where tokens go.
    """
    return [
        {
            layer.name: layer
            for name, module in block.named_modules()
            if not is_router(name)
            for layer in layers_of(module, ".".join(filter(None, (prefix, name))))
        }
        for prefix, block in blocks.items()
    ]


def prunable_layers(blocks: Mapping[str, nn.Module]) -> list[dict[str, PrunableLayer]]:
    """The layers of `found_layers`, if all of them can be pruned.

    Raises ValueError for layers that hold no plain floating-point numbers, as in quantised models.
    """
    layers = found_layers(blocks)
    for name, layer in ((name, layer) for group in layers for name, layer in group.items()):
        if layer.dtype not in PRUNABLE_DTYPES:
            raise ValueError(f"{name} holds {layer.dtype}, which cannot be pruned")
    return layers


def shared_weights(model: nn.Module, layers: Mapping[str, PrunableLayer]) -> dict[str, str]:
    """For every layer whose weight is, or is a part of, another weight too, one such name."""
    stores: dict[int, list[tuple[str, Tensor]]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        store = id(weight) if weight.is_meta else weight.untyped_storage().data_ptr()
        stores.setdefault(store, []).append((name, weight))
    beside = {name: group for group in stores.values() if len(group) > 1 for name, _ in group}
    shared: dict[str, str] = {}
    for name, layer in layers.items():
        for other, its in beside.get(layer.parameter, ()):
            same = its is layer.stored or overlap(its, layer.stored)
            if other != layer.parameter and same:
                shared[name] = other.removesuffix(".weight")
    return shared


def model_layers(model: nn.Module) -> dict[str, PrunableLayer]:
    """All prunable layers of a model, by full name; errors as of the functions above."""
    groups = prunable_layers(decoder_blocks(model))
    return {name: layer for group in groups for name, layer in group.items()}


def layer_kind(name: str, shape: Sequence[int] = ()) -> str:
    """The kind of a layer, the same in every block: "q_proj", or with a shape "q_proj 24 x 16"."""
    own = name.rpartition(".")[2]
    return f"{own} {' x '.join(map(str, shape))}".strip()


def arithmetic_of(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a layer's arithmetic: float64 if its weight is stored so, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype for people and JSON: bfloat16."""
    return str(dtype).removeprefix("torch.")


def other_weights(blocks: Mapping[str, nn.Module]) -> dict[str, int]:
    """The matrices inside the blocks that are no prunable layer's weight, and their sizes.

    For example routers, convolutions, and experts in a form that `layers_of` does not know. What
    is added or multiplied element by element is no matrix.
    """
    prunable = {layer.parameter for group in prunable_layers(blocks) for layer in group.values()}
    sizes: dict[int, tuple[str, int]] = {}  # what several blocks share counts once
    for prefix, block in blocks.items():
        for name, weight in block.named_parameters(prefix):
            matrix = weight.squeeze().dim() > 1 and not _ELEMENTWISE.search(name)
            if name not in prunable and matrix:
                sizes.setdefault(id(weight), (name, weight.numel()))
    return dict(sizes.values())


def count_weights(blocks: Iterable[nn.Module]) -> int:
    """How many numbers all parameters of the blocks hold, biases and norms included.

    What several blocks share counts once.
    """
    found = {id(weight): weight.numel() for block in blocks for weight in block.parameters()}
    return sum(found.values())


def _is_layer(module: nn.Module) -> bool:
    return any(True for _ in layers_of(module, ""))


def _all_hold_layers(modules: nn.ModuleList) -> bool:
    """Whether all are modules that can be called, with layers inside."""
    return len(modules) > 0 and all(
        not isinstance(module, nn.ModuleList) and any(map(_is_layer, module.modules()))
        for module in modules
    )
