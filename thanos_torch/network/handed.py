"""What decoder blocks hand to later ones beside their outputs: entries that they write."""

from collections.abc import Hashable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

_DEPTH = 8  # containers inside of containers
_OF_EVERY_MODULE = set(vars(nn.Module())) - {"_buffers"}
_SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Written:
    """A value that a block left in a container that others can read.

    path      keys, indices and attributes from the block's surroundings to the value
    in_place  whether the numbers of a tensor changed that is otherwise the same
    value     tensors, scalars, and tuples, lists and dicts of them
    """

    path: tuple[str | int, ...]
    in_place: bool
    value: Any


@dataclass(frozen=True)
class _Seen:
    """A value as it was: the object, a tensor's version, a container's members.

    The members are None where nobody looked: deep inside, or a second time.
    """

    value: Any
    version: int
    members: Mapping[Hashable, "_Seen"] | None


class Surroundings:
    """The containers that a block can write to: its arguments, and the attributes of modules."""

    def __init__(
        self, modules: Mapping[str, nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        # Modules first: one that is an argument too is looked at under its own name.
        self._root = {"modules": modules, "args": args, "kwargs": kwargs}
        self._before: _Seen | None = None

    def remember(self) -> None:
        """Note how everything is, for `written`."""
        self._before = _seen(self._root, _DEPTH, set())

    def written(self) -> list[Written]:
        """Copies of what was written since `remember`, except values of unknown types."""
        return list(_changes((), self._before, self._root))

    def write(self, entries: list[Written]) -> None:
        """Write entries again, as far as their containers are there."""
        for entry in entries:
            container: Any = self._root
            for step in entry.path[:-1]:
                container = _members(container).get(step)
            _put(container, entry.path[-1], entry)


def copied(value: Any, device: Any = None) -> Any:
    """A copy of nested tuples, lists and dicts of tensors; other values are the same objects."""
    if isinstance(value, Tensor):
        return value.detach().to(device or value.device, copy=True)
    if type(value) in (tuple, list):
        return type(value)(copied(part, device) for part in value)
    if type(value) is dict:
        return {key: copied(part, device) for key, part in value.items()}
    return value


def storable(value: Any) -> bool:
    """Whether `copied` copies all of a value, and a file can hold it."""
    if type(value) in (tuple, list):
        return all(map(storable, value))
    if type(value) is dict:
        return all(isinstance(key, str | int) and storable(part) for key, part in value.items())
    return isinstance(value, (Tensor, *_SCALARS))


def _members(value: Any) -> Mapping[Any, Any]:
    """What a container holds, by key, index or attribute."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if isinstance(value, nn.Module):
        own = vars(value).items()
        return {name: part for name, part in own if name not in _OF_EVERY_MODULE}
    if isinstance(value, Tensor | type) or callable(value) or hasattr(value, "to_diff_dict"):
        return {}  # no state: tensors, functions, configurations
    return getattr(value, "__dict__", {})


def _seen(value: Any, depth: int, met: set[int]) -> _Seen:
    version = value._version if isinstance(value, Tensor) else 0
    inner = _members(value)
    if inner and (id(value) in met or not depth):
        return _Seen(value, version, None)
    met.add(id(value))
    return _Seen(value, version, {key: _seen(each, depth - 1, met) for key, each in inner.items()})


def _changes(path: tuple[Any, ...], before: _Seen | None, value: Any) -> Iterator[Written]:
    if before is None or not _same(before.value, value):
        if storable(value) and all(isinstance(step, str | int) for step in path):
            yield Written(path, False, copied(value))
    elif isinstance(value, Tensor):
        if value._version != before.version:
            yield Written(path, True, copied(value))
    elif before.members is not None:
        for key, part in _members(value).items():
            yield from _changes((*path, key), before.members.get(key), part)


def _same(before: Any, after: Any) -> bool:
    if isinstance(after, _SCALARS):
        return type(before) is type(after) and before == after
    return before is after


def _put(container: Any, key: str | int, entry: Written) -> None:
    value = entry.value
    if entry.in_place:
        tensor = _members(container).get(key)
        if isinstance(tensor, Tensor) and tensor.shape == value.shape:
            tensor.copy_(value)
    elif isinstance(container, MutableMapping):
        container[key] = value
    elif isinstance(container, list) and isinstance(key, int):
        container[key : key + 1] = [value]  # an index behind the end appends
    elif (
        isinstance(key, str)
        and not isinstance(container, Mapping)
        and hasattr(container, "__dict__")
    ):
        setattr(container, key, value)
