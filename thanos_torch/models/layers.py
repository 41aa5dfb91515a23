"""Layers that can be pruned: the matrices of a model, however its modules store them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
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


def layers_of(module: nn.Module, name: str) -> Iterator[Layer]:
    """The layers that a module holds itself, without those of the modules inside it.

    nn.Linear; Transformers' Conv1D, which is linear with its weight transposed (GPT-2); experts
    that are fused into 3-D parameters, if their module says with `is_transposed` which way round
    they are, as Transformers' do. Without that word nothing tells inputs from outputs.

    Gate and up projection of a `gate_up_proj` stay one layer, as in the fused linear layers of
    dense models: they read the same input, and whether their rows alternate is the model's affair.
    """
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear | Conv1D):
        yield Layer(name, f"{name}.weight", module, isinstance(module, Conv1D))
    elif isinstance(transposed := getattr(module, "is_transposed", None), bool):
        for attribute, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 3:
                whole = f"{name}.{attribute}"
                for expert in range(len(parameter)):
                    own = f"{name}.{expert}.{attribute}"
                    yield Layer(own, whole, module, transposed, expert)
