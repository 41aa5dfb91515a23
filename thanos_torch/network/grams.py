"""Gram matrices of the inputs of a block's layers, added up while the block runs."""

from collections import Counter
from collections.abc import Container, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from thanos_torch.methods.checks import Checks
from thanos_torch.methods.problem import Gram
from thanos_torch.network.experts import looping_experts
from thanos_torch.network.layers import PrunableLayer
from thanos_torch.network.products import WeightProducts
from thanos_torch.runtime.clock import Stopwatch
from thanos_torch.runtime.ranks import Ranks


class InputGrams:
    """One Gram matrix for every distinct input of some layers, filled while their block runs.

    Layers that read the same tensor share one matrix: q, k and v one, gate and up another. As a
    context manager it watches the layers until it is left. Call `next_batch` after every batch.

    grams         matrices by the name of the layer that reads the input first
    first_reader  the first layer that reads the same input, by layer, for layers that were reached
    """

    def __init__(
        self,
        layers: Mapping[str, PrunableLayer],
        stopwatch: Stopwatch,
        multiplied: Container[str] = (),
        alone: Container[str] = (),
    ) -> None:
        """Watch `layers`.

        multiplied  names of layers whose weight is multiplied without calling their module
        alone       names of layers that share some of their inputs but not all: they get a matrix
                    of their own
        """
        self.grams: dict[str, Gram] = {}
        self._layers, self._stopwatch, self._alone = layers, stopwatch, alone
        self._products = WeightProducts(
            [
                layer
                for name, layer in layers.items()
                if layer.expert is not None or name in multiplied or not layer.shows_inputs
            ],
            self._multiplied,
            self._goes_into,
        )
        # Where in memory the weights of modules lie whose forward pass runs.
        self._inside: set[int] = set()
        self._tokens: Counter[str] = Counter()
        self.first_reader: dict[str, str] = {}
        self._matrices: dict[str, Tensor] = {}  # those asked for, by first reader
        # This batch's inputs with their first readers. That they are held keeps places unique.
        self._seen: dict[tuple[object, ...], tuple[str, Tensor]] = {}

    def __enter__(self) -> Self:
        experts = [each.module for each in self._layers.values() if each.expert is not None]
        with ExitStack() as stack:
            for layer in self._layers.values():
                if layer.expert is None and layer.shows_inputs:
                    self._register(layer, stack)
            if self._products.layers:
                stack.enter_context(looping_experts(experts))
                stack.enter_context(self._products)
            self._watching = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watching.close()
        self.next_batch()

    def next_batch(self) -> None:
        """Forget the inputs of the last batch."""
        self._seen.clear()
        self._products.next_batch()

    def pool(self, ranks: Ranks) -> None:
        """Add up the matrices of all ranks, in their order, so that all have the same.

        Raises ValueError if layers share an input on some ranks only.
        """
        if ranks.count > 1:
            with self._stopwatch.stage("exchange"):
                self._pool(ranks)

    def _pool(self, ranks: Ranks) -> None:
        seen = ranks.gather([self.first_reader, self._tokens])
        self._tokens = Counter()
        for readers, tokens in seen:
            self._tokens.update(tokens)
            for name, first in readers.items():
                if self.first_reader.setdefault(name, first) != first:
                    raise _irregular(name)
        for name in sorted(set(self.first_reader.values())):
            layer = self._layers[name]
            # A rank adds zeros for an expert that none of its tokens reached.
            gram = self.grams.setdefault(name, Gram(layer.shape[1], device=layer.stored.device))
            gram.pool(ranks.add_up, self._tokens[name])

    def matrix(self, name: str, checks: Checks | None = None) -> Tensor | None:
        """G of a layer, (b, b), or None if no token reached it.

        Layers that share an input get one and the same tensor. Raises ValueError, naming the
        layer, if an input was NaN or infinite; on a device `checks.look()` does.
        """
        if not self._tokens[name]:
            return None
        first = self.first_reader[name]
        if self._tokens[name] != self._tokens[first]:
            raise _irregular(name)
        if first not in self._matrices:
            what = f"calibration input of {name}"
            named = checks.named(what) if checks else None
            try:
                self._matrices[first] = self.grams[first].matrix(named)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from None
            del self.grams[first]  # the matrix takes its place in memory
        return self._matrices[first]

    def forget(self, name: str) -> None:
        """Note that a layer is done. The memory of a matrix is freed after its last reader."""
        first = self.first_reader.pop(name, name)
        if first not in self.first_reader.values():
            self.grams.pop(first, None)
            self._matrices.pop(first, None)

    def _register(self, layer: PrunableLayer, stack: ExitStack) -> None:
        """Watch calls of a layer's module."""

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._inside.add(layer.stored.data_ptr())
            self._look(layer.name, next(iter((*args, *kwargs.values()))))

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self._inside.discard(layer.stored.data_ptr())

        before = layer.module.register_forward_pre_hook(enter, with_kwargs=True)
        stack.callback(before.remove)
        stack.callback(layer.module.register_forward_hook(leave, always_call=True).remove)

    def _multiplied(self, name: str, inputs: Tensor) -> None:
        """Add inputs that a product reads, unless the module has told of them already."""
        if not self._runs(self._layers[name]):
            self._look(name, inputs)

    def _goes_into(self, layer: PrunableLayer, operation: str) -> None:
        if not self._runs(layer):
            self.refuse(layer.parameter, operation)

    def _runs(self, layer: PrunableLayer) -> bool:
        """Whether the forward pass of the layer's own module is running."""
        return layer.stored.data_ptr() in self._inside

    def refuse(self, parameter: str, operation: str) -> None:
        """Raise ValueError for weights that an operation hides."""
        raise ValueError(hidden_weight(parameter, operation))

    def _look(self, name: str, inputs: Tensor) -> None:
        """Add a batch of inputs, (..., b), of the layer `name`, unless another layer read it."""
        if not inputs.numel():  # of an expert without tokens; its place in memory says nothing
            return
        first = name
        if name not in self._alone:
            first, _ = self._seen.setdefault(input_key(inputs), (name, inputs))
        if self.first_reader.setdefault(name, first) != first:
            raise _irregular(name)
        self._tokens[name] += self._count(name, inputs)
        if first == name:
            self.add(name, inputs)

    def _count(self, name: str, inputs: Tensor) -> int:
        """How many tokens there are among inputs, (..., b).

        Llama 4 gives all tokens to every expert, with zeros in place of those of other experts.
        """
        if self._layers[name].expert is None:
            return inputs.shape[:-1].numel()
        return int(inputs.any(dim=-1).sum())

    def add(self, name: str, inputs: Tensor) -> None:
        """Add a batch of inputs, (..., b), to the matrix of their first reader, `name`."""
        with self._stopwatch.stage("gram"):
            if name not in self.grams:
                self.grams[name] = Gram(inputs.shape[-1], device=inputs.device)
            self.grams[name].add(inputs)


def input_key(inputs: Tensor) -> tuple[object, ...]:
    """Where inputs, (..., b), lie in memory: the same for all their shapes with the same rows.

    It tells them from all others while they are held.
    """
    steps = () if inputs.is_contiguous() else (inputs.shape, inputs.stride())
    place = inputs.data_ptr(), inputs.numel(), inputs.shape[-1], inputs.dtype, steps
    # PyTorch increments the version whenever a tensor is changed in place.
    return (*place, inputs._version)


def hidden_weight(parameter: str, operation: str) -> str:
    """Why the layers of a parameter cannot be calibrated."""
    return (
        f"{parameter}: what reaches it cannot be told, as its weights go into {operation}: "
        "only products of inputs and one layer's whole weight are known"
    )


def _irregular(name: str) -> ValueError:
    return ValueError(f"{name} shares its input with other layers in some batches only")
