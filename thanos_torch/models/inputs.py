"""The Gram matrices of what the linear layers of a block read."""

from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from torch import Tensor, nn

from thanos_torch.gram import Gram
from thanos_torch.models.stopwatch import Stopwatch


class InputGrams:
    """One Gram matrix for every distinct input of some layers, filled while a block runs.

    Layers that read the same tensor (q, k and v one, gate and up another) share one. A context
    manager: the layers are watched until it is left. Call `next_batch` after every batch.

    grams  by the name of the layer that reads the input first
    """

    def __init__(self, layers: Mapping[str, nn.Linear], stopwatch: Stopwatch) -> None:
        self.grams: dict[str, Gram] = {}
        self._layers, self._stopwatch = layers, stopwatch
        self._tokens: Counter[str] = Counter()
        self._first_reader: dict[str, str] = {}
        # This batch's inputs with their first readers. That they are held keeps their ids unique.
        self._seen: dict[tuple[int, int], tuple[str, Tensor]] = {}

    def __enter__(self) -> Self:
        self._hooks = [
            layer.register_forward_pre_hook(self._watch(name))
            for name, layer in self._layers.items()
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self.next_batch()

    def next_batch(self) -> None:
        """Forget the inputs of the last batch."""
        self._seen.clear()

    def matrix(self, name: str) -> Tensor | None:
        """G of a layer, (b, b), or None if no token reached it.

        Raises ValueError, naming the layer, if an input was NaN or infinite.
        """
        if not self._tokens[name]:
            return None
        gram = self.grams[self._first_reader[name]]
        if gram.tokens != self._tokens[name]:
            raise _irregular(name)
        try:
            return gram.matrix()
        except ValueError as error:
            raise ValueError(f"calibration input of {name}: {error}") from None

    def _watch(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs = args[0]
            # The version is counted up whenever a tensor is changed in place.
            key = (id(inputs), inputs._version)
            first, _ = self._seen.setdefault(key, (name, inputs))
            if self._first_reader.setdefault(name, first) != first:
                raise _irregular(name)
            self._tokens[name] += inputs.shape[:-1].numel()
            if first == name:
                self._add(name, inputs)

        return look

    def _add(self, name: str, inputs: Tensor) -> None:
        with self._stopwatch.stage("gram"):
            if name not in self.grams:
                self.grams[name] = Gram(inputs.shape[-1], device=inputs.device)
            self.grams[name].add(inputs)


def _irregular(name: str) -> ValueError:
    return ValueError(f"{name} shares its input with other layers in some batches only")
