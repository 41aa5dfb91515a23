"""Arrays on a device for the certificate's code, which is written for NumPy.

NumPy's functions, given such an array, ask it to do the work (NEP 13, NEP 18): so there is one
certificate, and for NumPy's own arrays nothing changes. What is listed here is all that the
certificate uses; another function is a TypeError, and nothing comes to the host unseen.

Numbers, such as a sum over everything, come to the host. Nothing else does.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from verification.certificate.libraries import Library, Native

# Operations whose name in the array standard is another one.
RENAMED = {"absolute": "abs", "power": "pow", "invert": "bitwise_invert", "rint": "round"}
KINDS = {"b": "bool", "i": "int64", "f": "float64"}


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of another library that behaves as NumPy's do.

    native   the library's own array
    library  of all arrays of the certificate
    origin   the array and the index of which this is a view, if the library's arrays cannot change
    """

    def __init__(
        self, native: Native, library: Library, origin: "tuple[DeviceArray, Any] | None" = None
    ) -> None:
        self.native, self.library, self._origin = native, library, origin

    # What arrays are

    @property
    def shape(self) -> tuple[int, ...]:
        """As NumPy's."""
        return tuple(self.native.shape)

    @property
    def ndim(self) -> int:
        """As NumPy's."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """As NumPy's."""
        return int(np.prod(self.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's name for the type."""
        return np.dtype(str(self.native.dtype).removeprefix("torch."))

    @property
    def T(self) -> "DeviceArray":  # noqa: D102
        return self._of(self.native.T)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise ValueError("an array is neither true nor false")

    def __array__(self, *_: Any, **__: Any) -> np.ndarray[Any, Any]:
        raise TypeError("an array of another library does not come to the host unseen")

    def __repr__(self) -> str:
        return f"DeviceArray({self.native!r})"

    # Parts

    def __getitem__(self, index: Any) -> Any:
        index = self._index(index)
        found = self.native[index]
        if _is_view(index) and found.ndim:
            return DeviceArray(found, self.library, (self, index))
        return self._result(found)

    def __setitem__(self, index: Any, values: Any) -> None:
        if not isinstance(values, bool | int | float):
            values = self.library.typed(self._same(values), self.dtype.name)
        self._become(self.library.put(self.native, self._index(index), values))

    def assign(self, values: Native) -> None:
        """Take other numbers, in the shape and type of these, also where this is a view."""
        xp = self.library.xp
        whole = xp.broadcast_to(self.library.typed(values, self.dtype.name), self.shape)
        self._become(self.library.put(self.native, (slice(None),) * self.ndim, whole))

    def _become(self, native: Native) -> None:
        """Stand for a changed array; tell the array of which this is a view."""
        changed, self.native = native is not self.native, native
        if changed and self._origin:
            origin, index = self._origin
            origin._become(self.library.put(origin.native, index, native))

    # NumPy's protocols

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        out, where = options.pop("out", (None,))[0], options.pop("where", True)
        if method != "__call__" or options:
            return NotImplemented
        if ufunc is np.power and _is_number(inputs[1]) and inputs[1] == 2:
            ufunc, inputs = np.multiply, (inputs[0], inputs[0])
        own = OPERATIONS.get(ufunc.__name__)
        if own is None:
            name = RENAMED.get(ufunc.__name__, ufunc.__name__)
            # The standard wants numbers second only; a number costs no launch.
            arrays = self._promoted(inputs, bare=isinstance(inputs[0], DeviceArray))
            found = getattr(self.library.xp, name)(*arrays)
        else:
            found = own(self.library, *self._promoted(inputs))
        if out is None:
            several = isinstance(found, tuple)
            return tuple(map(self._result, found)) if several else self._result(found)
        if where is not True:
            found = self.library.xp.where(self._same(where), found, out.native)
        out.assign(found)
        return out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        if function.__module__ == "numpy.linalg":
            name = f"linalg.{name}"
        if name not in FUNCTIONS:
            raise TypeError(f"numpy.{name} is not made for arrays of other libraries")
        options = {key: kwargs[key] for key in kwargs.keys() - {"like", "order", "device"}}
        return FUNCTIONS[name](self, *args, **options)

    # Methods

    def copy(self) -> "DeviceArray":
        """As NumPy's."""
        return self._of(self.library.xp.asarray(self.native, copy=True))

    def astype(self, dtype: Any) -> "DeviceArray":
        """As NumPy's."""
        return self._of(self.library.typed(self.copy().native, np.dtype(dtype).name))

    def ravel(self) -> "DeviceArray":
        """As NumPy's, but not to be written to."""
        return self.reshape(-1)

    def reshape(self, *shape: Any) -> "DeviceArray":
        """As NumPy's, but not to be written to."""
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return self._of(self.library.xp.reshape(self.native, shape))

    def take(self, places: "DeviceArray") -> "DeviceArray":
        """The numbers at some places of the flat array."""
        return self._of(self.library.xp.reshape(self.native, (-1,))[places.native])

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """As NumPy's."""
        return self._reduced("sum", axis, keepdims)

    def max(self, axis: int | None = None, initial: float | None = None) -> Any:
        """As NumPy's."""
        return self._extreme("max", "maximum", axis, initial)

    def min(self, axis: int | None = None, initial: float | None = None) -> Any:
        """As NumPy's."""
        return self._extreme("min", "minimum", axis, initial)

    def any(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """As NumPy's."""
        return self._reduced("any", axis, keepdims)

    def all(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """As NumPy's."""
        return self._reduced("all", axis, keepdims)

    def _reduced(self, name: str, axis: int | None, keepdims: bool = False) -> Any:
        found = getattr(self.library.xp, name)(self.native, axis=axis, keepdims=keepdims)
        return self._result(found)

    def _extreme(self, name: str, pair: str, axis: int | None, initial: float | None) -> Any:
        if initial is not None:
            assert axis is None
            value = self._reduced(name, None) if self.size else initial
            return getattr(np, pair)(value, initial)
        return self._reduced(name, axis)

    # Between the libraries

    def _of(self, native: Native) -> "DeviceArray":
        return DeviceArray(native, self.library)

    def _result(self, native: Native) -> Any:
        """An array, or the number that an array without dimensions holds."""
        return self._of(native) if native.ndim else self.library.host(native)[()]

    def _same(self, value: Any, dtype: str | None = None) -> Native:
        """A value as an array of the library."""
        if isinstance(value, DeviceArray):
            return value.native
        if _is_number(value):
            xp = self.library.xp
            kind = dtype or KINDS[np.asarray(value).dtype.kind]
            return xp.full((), value, dtype=getattr(xp, kind), device=self.library.device)
        return self.library.array(value)

    def _promoted(self, values: Any, bare: bool = False) -> list[Native]:
        """Operands as arrays; a number of Python takes the type of the array beside it.

        bare  leave such a number as it is
        """
        own = next(each for each in values if isinstance(each, DeviceArray)).dtype
        found = []
        for value in values:
            weak = isinstance(value, bool | int | float)
            weak &= not isinstance(value, np.generic) or own == np.float64
            weak &= own.kind == "f" or (own.kind == "i" and not isinstance(value, float))
            if weak and bare:
                found.append(float(value) if own.kind == "f" else int(value))
            else:
                found.append(self._same(value, own.name if weak else None))
        return found

    def _index(self, index: Any) -> Any:
        if isinstance(index, tuple):
            return tuple(map(self._index, index))
        if isinstance(index, DeviceArray):
            return index.native
        if isinstance(index, np.ndarray | list):
            return self.library.array(index)
        return int(index) if isinstance(index, np.integer) else index


def pieces(array: Any, numbers: int) -> int:
    """How many numbers are worked on at one time: `numbers`, which fit a CPU's cache, or more."""
    return array.library.at_once if isinstance(array, DeviceArray) else numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.generic)


def _is_view(index: Any) -> bool:
    """Whether an index selects by slices, so that NumPy makes a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or isinstance(part, int | slice) for part in parts)


# Operations that the standard lacks, or that libraries do in different ways.


def _exp2(library: Library, exponents: Native) -> Native:
    """2**k for whole k in float64, also subnormal."""
    return _ldexp(library, library.xp.ones_like(exponents), exponents)


def _ldexp(library: Library, values: Native, exponents: Native) -> Native:
    """Numbers * 2**k, as far as float64 reaches; by quarters, because 2**k may be out of it."""
    xp = library.xp
    k = library.typed(exponents, "int64")
    k = xp.minimum(xp.maximum(k, xp.full_like(k, -4080)), xp.full_like(k, 4080))
    first = xp.floor_divide(k, xp.full_like(k, 4))
    found, quarter = library.typed(values, "float64"), library.power(first)
    for _ in range(3):
        found = found * quarter
    return found * library.power(k - 3 * first)


def _frexp(library: Library, values: Native) -> tuple[Native, Native]:
    mantissa, exponents = library.xp.frexp(values)
    return mantissa, library.typed(exponents, "int64")


def _divide(library: Library, left: Native, right: Native) -> Native:
    return library.typed(left, "float64") / right if _is_whole(left, right) else left / right


def _is_whole(*arrays: Native) -> bool:
    return not any("float" in str(each.dtype) for each in arrays)


def _matmul(library: Library, left: Native, right: Native) -> Native:
    """Products of float32 and float64 are float64, as NumPy's."""
    if left.dtype != right.dtype:
        left, right = (library.typed(each, "float64") for each in (left, right))
    return library.xp.matmul(left, right)


def _divmod(library: Library, left: Native, right: Native) -> tuple[Native, Native]:
    xp = library.xp
    return xp.floor_divide(left, right), xp.remainder(left, right)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "exp2": _exp2,
    "ldexp": _ldexp,
    "frexp": _frexp,
    "divide": _divide,
    "matmul": _matmul,
    "divmod": _divmod,
}

# NumPy's functions. The first argument is the array that was asked.

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _made(function: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[function.__name__.strip("_").replace("linalg_", "linalg.")] = function
    return function


def _new(asked: DeviceArray, shape: Any, value: float, dtype: Any) -> DeviceArray:
    xp, name = asked.library.xp, np.dtype(dtype or float).name
    place = {"dtype": getattr(xp, name), "device": asked.library.device}
    return asked._of(xp.full(shape if isinstance(shape, tuple) else (shape,), value, **place))


@_made
def _zeros(asked: DeviceArray, shape: Any, dtype: Any = None) -> DeviceArray:
    return _new(asked, shape, 0, dtype)


@_made
def _empty(asked: DeviceArray, shape: Any, dtype: Any = None) -> DeviceArray:
    return _new(asked, shape, 0, dtype)


@_made
def _ones(asked: DeviceArray, shape: Any, dtype: Any = None) -> DeviceArray:
    return _new(asked, shape, 1, dtype)


@_made
def _full(asked: DeviceArray, shape: Any, value: Any, dtype: Any = None) -> DeviceArray:
    return _new(asked, shape, value, dtype or np.asarray(value).dtype)


@_made
def _zeros_like(asked: DeviceArray, values: DeviceArray, dtype: Any = None) -> DeviceArray:
    return _new(asked, values.shape, 0, dtype or values.dtype)


@_made
def _empty_like(asked: DeviceArray, values: DeviceArray, dtype: Any = None) -> DeviceArray:
    return _new(asked, values.shape, 0, dtype or values.dtype)


@_made
def _ones_like(asked: DeviceArray, values: DeviceArray, dtype: Any = None) -> DeviceArray:
    return _new(asked, values.shape, 1, dtype or values.dtype)


@_made
def _eye(asked: DeviceArray, size: int, **defaults: Any) -> DeviceArray:
    xp = asked.library.xp
    return asked._of(xp.eye(size, dtype=xp.float64, device=asked.library.device))


@_made
def _arange(asked: DeviceArray, size: int) -> DeviceArray:
    xp = asked.library.xp
    return asked._of(xp.arange(size, dtype=xp.int64, device=asked.library.device))


@_made
def _asarray(asked: DeviceArray, values: Any, dtype: Any = None) -> DeviceArray:
    return values if isinstance(values, DeviceArray) else asked._of(asked._same(values))


@_made
def _where(asked: DeviceArray, condition: Any, left: Any, right: Any) -> DeviceArray:
    arrays = [each for each in (left, right) if isinstance(each, DeviceArray)]
    both = [*map(asked._same, (left, right))]
    if arrays:
        both = arrays[0]._promoted((left, right), bare=True)
    return asked._of(asked.library.xp.where(asked._same(condition), *both))


@_made
def _clip(asked: DeviceArray, values: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(values, low), high)


@_made
def _sum(asked: DeviceArray, values: Any, axis: int | None = None, **options: Any) -> Any:
    return values.sum(axis, **options)


@_made
def _any(asked: DeviceArray, values: Any, axis: int | None = None, **options: Any) -> Any:
    return values.any(axis, **options)


@_made
def _all(asked: DeviceArray, values: Any, axis: int | None = None, **options: Any) -> Any:
    return values.all(axis, **options)


@_made
def _ptp(asked: DeviceArray, values: DeviceArray) -> Any:
    return values.max() - values.min()


@_made
def _argmax(asked: DeviceArray, values: DeviceArray, axis: int | None = None) -> Any:
    native = (
        asked.library.typed(values.native, "int64") if values.dtype.kind == "b" else values.native
    )
    return asked._result(asked.library.xp.argmax(native, axis=axis))


@_made
def _argmin(asked: DeviceArray, values: DeviceArray) -> Any:
    return asked._result(asked.library.xp.argmin(values.native))


@_made
def _count_nonzero(asked: DeviceArray, values: DeviceArray, axis: int | None = None) -> Any:
    return (values != 0).sum(axis)


@_made
def _cumsum(asked: DeviceArray, values: DeviceArray, axis: int) -> DeviceArray:
    native = values.native
    if values.dtype.kind == "b":
        native = asked.library.typed(native, "int64")
    return asked._of(asked.library.xp.cumulative_sum(native, axis=axis))


@_made
def _array_equal(asked: DeviceArray, left: Any, right: Any) -> bool:
    left, right = (asked._of(asked._same(each)) for each in (left, right))
    return left.shape == right.shape and bool((left == right).all())


@_made
def _broadcast_to(asked: DeviceArray, values: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    return asked._of(asked.library.xp.broadcast_to(values.native, shape))


@_made
def _concatenate(asked: DeviceArray, arrays: Any, axis: int = 0) -> DeviceArray:
    return asked._of(asked.library.xp.concat([*map(asked._same, arrays)], axis=axis))


@_made
def _diag(asked: DeviceArray, matrix: DeviceArray) -> DeviceArray:
    return asked._of(asked.library.xp.linalg.diagonal(matrix.native))


@_made
def _tril(asked: DeviceArray, matrix: DeviceArray) -> DeviceArray:
    return asked._of(asked.library.xp.tril(matrix.native))


@_made
def _flip(asked: DeviceArray, matrix: DeviceArray) -> DeviceArray:
    return asked._of(asked.library.xp.flip(matrix.native))


@_made
def _outer(asked: DeviceArray, left: DeviceArray, right: DeviceArray) -> DeviceArray:
    return asked._of(asked._same(left)[:, None] * asked._same(right)[None, :])


@_made
def _einsum(asked: DeviceArray, subscripts: str, left: DeviceArray, right: Any) -> Any:
    assert subscripts == "ij,ij->i"
    return (left * right).sum(axis=1)


@_made
def _nonzero(asked: DeviceArray, mask: DeviceArray) -> tuple[DeviceArray, ...]:
    return tuple(map(asked._of, asked.library.xp.nonzero(mask.native)))


@_made
def _flatnonzero(asked: DeviceArray, mask: DeviceArray) -> DeviceArray:
    places: DeviceArray = _nonzero(asked, mask.ravel())[0]
    return places


@_made
def _isin(asked: DeviceArray, values: Any, among: Any) -> DeviceArray:
    return asked._of(asked.library.xp.isin(asked._same(values), asked._same(among)))


@_made
def _unique(asked: DeviceArray, values: DeviceArray, return_inverse: bool) -> Any:
    assert return_inverse
    return tuple(map(asked._of, asked.library.xp.unique_inverse(values.native)))


@_made
def _sort(asked: DeviceArray, values: DeviceArray) -> DeviceArray:
    return asked._of(asked.library.xp.sort(values.native))


@_made
def _partition(asked: DeviceArray, values: DeviceArray, kth: int, axis: int = -1) -> DeviceArray:
    """More than is asked for: everything is sorted."""
    return asked._of(asked.library.xp.sort(values.native, axis=axis))


@_made
def _argsort(
    asked: DeviceArray, values: DeviceArray, axis: int = -1, kind: str = "stable"
) -> DeviceArray:
    native = values.native
    if values.dtype.kind == "b":
        native = asked.library.typed(native, "int64")
    return asked._of(asked.library.xp.argsort(native, axis=axis, stable=True))


@_made
def _lexsort(asked: DeviceArray, keys: tuple[DeviceArray, ...]) -> Any:
    order = _argsort(asked, keys[0])
    for key in keys[1:]:
        order = order[_argsort(asked, key[order])]
    return order


@_made
def _take_along_axis(
    asked: DeviceArray, values: DeviceArray, places: DeviceArray, axis: int
) -> DeviceArray:
    xp = asked.library.xp
    return asked._of(xp.take_along_axis(values.native, places.native, axis=axis))


@_made
def _put_along_axis(
    asked: DeviceArray, target: DeviceArray, places: DeviceArray, values: DeviceArray, axis: int
) -> None:
    assert axis == 1
    target[np.arange(len(target), like=target)[:, None], places] = values


@_made
def _ix_(asked: DeviceArray, rows: DeviceArray, columns: DeviceArray) -> tuple[Any, Any]:
    return rows[:, None], columns[None, :]


FUNCTIONS["ix_"] = _ix_


@_made
def _linalg_norm(asked: DeviceArray, values: DeviceArray, axis: int) -> Any:
    return asked._result(asked.library.xp.linalg.vector_norm(values.native, axis=axis))


@_made
def _linalg_solve(asked: DeviceArray, A: DeviceArray, right: DeviceArray) -> DeviceArray:
    return asked._of(asked.library.solve(A.native, right.native))
