"""One factor for layers that are pruned with the same Gram matrix in turn."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from thanos_torch.layer import Layer

Factor = tuple[Tensor, str]  # U, and what H was factorised in


def made_once(layer: Layer, make: Callable[[Layer], Factor]) -> Factor:
    """What `make` makes of the layer's H, or has made of the same H just before."""
    shared = _SHARED.get()
    known = shared.of(layer) if shared else None
    if known is None:
        known = make(layer)
        if shared:
            shared.remember(layer, known)
    return known


@contextmanager
def shared_factors() -> Iterator[None]:
    """Inside, layers that are pruned with the same Gram matrix in turn are factorised once.

    Queries, keys and values read one input, and so do the gate and the up projection. It is for
    callers who own the Gram matrices and change none of them in place meanwhile.
    """
    token = _SHARED.set(_LastFactor())
    try:
        yield
    finally:
        _SHARED.reset(token)


class _LastFactor:
    """The factor made last, and the H that it is of, as long as its Gram matrix lives."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self, *_: object) -> None:
        self._gram: weakref.ref[Tensor] | None = None
        self._rest: tuple[object, ...] | None = None
        self._known: Factor | None = None

    def of(self, layer: Layer) -> Factor | None:
        """What is remembered if this layer has the same H; otherwise its memory is freed."""
        same = self._gram is not None and self._gram() is layer.gram and self._rest == _rest(layer)
        if not same:
            self._forget()
        return self._known

    def remember(self, layer: Layer, known: Factor) -> None:
        """Keep this factor instead."""
        self._gram, self._rest, self._known = (
            weakref.ref(layer.gram, self._forget),
            _rest(layer),
            known,
        )


def _rest(layer: Layer) -> tuple[object, ...]:
    """All that makes H of a Gram matrix."""
    return (layer.dtype, layer.lam, layer.gram_exponent)


_SHARED: ContextVar[_LastFactor | None] = ContextVar("shared_factors", default=None)
