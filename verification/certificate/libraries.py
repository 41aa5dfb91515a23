"""Array libraries other than NumPy: what the certificate needs of each beyond the array standard.

Everything else goes through `array-api-compat`, which is imported here alone, and late.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Devices whose arrays NumPy reads in their place: these are judged by NumPy.
HOSTS = {"cpu"}
BIAS, FRACTION = 1023, 52  # of the exponent in a float64 number's bits, and the bits behind it

Native = Any  # an array of another library


class Library(ABC):
    """One library on one device.

    xp      its functions, with the names of the array standard
    device  where all arrays of a certificate are
    """

    # Numbers that are worked on at one time: enough to fill a device, 512 MB in float64.
    at_once = 2**26

    def __init__(self, xp: Any, device: Any) -> None:
        self.xp, self.device = xp, device

    def array(self, values: Any, dtype: str | None = None) -> Native:
        """An array on the device, of whatever NumPy takes."""
        values = np.asarray(values, dtype)
        return self.xp.asarray(values, device=self.device)

    def moved(self, values: Native) -> Native:
        """An array of this library on the device, without a gradient."""
        return self.xp.asarray(values, device=self.device)

    def widened(self, values: Native) -> Native:
        """Half types as float32; others as they are."""
        half = str(values.dtype).rpartition(".")[2] in ("float16", "bfloat16")
        return self.typed(values, "float32") if half else values

    def typed(self, values: Native, dtype: str) -> Native:
        """The same numbers in another type, that of NumPy's name."""
        return self.xp.astype(values, getattr(self.xp, dtype), copy=False)

    @abstractmethod
    def host(self, values: Native) -> NDArray[Any]:
        """A copy for NumPy."""

    @abstractmethod
    def bits(self, values: Native) -> Native:
        """The float64 numbers that have the bits of some int64 numbers."""

    @abstractmethod
    def put(self, target: Native, index: Any, values: Native) -> Native:
        """`target` with values at an index: the same array, or a new one if it cannot change."""

    @abstractmethod
    def cholesky(self, A: Native) -> tuple[Native, bool]:
        """The lower factor of A, (n, n), and whether there is none."""

    @abstractmethod
    def solved(self, L: Native, right: Native, *, transposed: bool = False) -> Native:
        """The X with L X = `right`, or Lᵀ X = `right`, for a lower triangular L, (n, n)."""

    @abstractmethod
    def solve(self, A: Native, right: Native) -> Native:
        """The X with A X = `right`, (..., n, k); LinAlgError or NaN if A is singular."""

    def in_double(self) -> AbstractContextManager[Any]:
        """Let the library know float64 inside."""
        return nullcontext()

    def power(self, exponents: Native) -> Native:
        """2**k for whole k within ±1022, float64, exactly."""
        return self.bits((exponents + BIAS) << FRACTION)


class Torch(Library):
    """PyTorch, on any device that has float64."""

    def moved(self, values: Native) -> Native:  # noqa: D102
        return values.detach().to(self.device)

    def host(self, values: Native) -> NDArray[Any]:  # noqa: D102
        found: NDArray[Any] = values.cpu().numpy()
        return found

    def bits(self, values: Native) -> Native:  # noqa: D102
        return values.view(self.xp.float64)

    def put(self, target: Native, index: Any, values: Native) -> Native:  # noqa: D102
        target[index] = values
        return target

    def cholesky(self, A: Native) -> tuple[Native, bool]:  # noqa: D102
        L, failed = self.xp.linalg.cholesky_ex(A)
        return L, bool(failed)

    def solved(self, L: Native, right: Native, *, transposed: bool = False) -> Native:  # noqa: D102
        solve = self.xp.linalg.solve_triangular
        return solve(L.mT if transposed else L, right, upper=transposed)

    def solve(self, A: Native, right: Native) -> Native:  # noqa: D102
        try:
            return self.xp.linalg.solve(A, right)
        except RuntimeError as error:
            raise np.linalg.LinAlgError(str(error)) from error


class Jax(Library):
    """JAX. Its arrays never change: `put` makes new ones."""

    def typed(self, values: Native, dtype: str) -> Native:  # noqa: D102
        return values.astype(dtype)

    def host(self, values: Native) -> NDArray[Any]:  # noqa: D102
        return np.asarray(values)

    def bits(self, values: Native) -> Native:  # noqa: D102
        return values.view("float64")

    def put(self, target: Native, index: Any, values: Native) -> Native:  # noqa: D102
        return target.at[index].set(values)

    def cholesky(self, A: Native) -> tuple[Native, bool]:  # noqa: D102
        L = self.xp.linalg.cholesky(A)
        return L, not bool(self.xp.all(self.xp.isfinite(L)))

    def solved(self, L: Native, right: Native, *, transposed: bool = False) -> Native:  # noqa: D102
        from jax.scipy.linalg import solve_triangular

        return solve_triangular(L, right, lower=True, trans=int(transposed))

    def solve(self, A: Native, right: Native) -> Native:  # noqa: D102
        return self.xp.linalg.solve(A, right)

    def in_double(self) -> AbstractContextManager[Any]:  # noqa: D102
        import jax

        context: AbstractContextManager[Any] = jax.enable_x64(True)
        return context


class CuPy(Library):
    """CuPy, NumPy's functions on a GPU."""

    def host(self, values: Native) -> NDArray[Any]:  # noqa: D102
        found: NDArray[Any] = values.get()
        return found

    def bits(self, values: Native) -> Native:  # noqa: D102
        return values.view("float64")

    def put(self, target: Native, index: Any, values: Native) -> Native:  # noqa: D102
        target[index] = values
        return target

    def cholesky(self, A: Native) -> tuple[Native, bool]:  # noqa: D102
        try:
            L = self.xp.linalg.cholesky(A)
        except np.linalg.LinAlgError:
            return A, True
        return L, not bool(self.xp.all(self.xp.isfinite(L)))

    def solved(self, L: Native, right: Native, *, transposed: bool = False) -> Native:  # noqa: D102
        from cupyx.scipy.linalg import solve_triangular

        return solve_triangular(L, right, lower=True, trans=int(transposed))

    def solve(self, A: Native, right: Native) -> Native:  # noqa: D102
        return self.xp.linalg.solve(A, right)


LIBRARIES: dict[str, type[Library]] = {"torch": Torch, "jax": Jax, "jaxlib": Jax, "cupy": CuPy}


def library_of(values: Any) -> Library | None:
    """The library of an array on a device; None for what NumPy reads where it is.

    Raises ValueError if array-api-compat is missing, or the device has no float64.
    """
    kind: Any = _kind_of(values)
    if kind is None or _platform(values) in HOSTS:
        return None
    try:
        from array_api_compat import array_namespace
    except ImportError:
        raise ValueError(
            f"weight is on {_platform(values)}: to judge it there, pip install "
            "'thanos-pruning[device]'; or give arrays in the memory of the CPU"
        ) from None
    library: Library = kind(array_namespace(values), _device(values))
    with library.in_double():
        try:
            library.xp.zeros(1, dtype=library.xp.float64, device=library.device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"weight is on {_platform(values)}, without float64") from error
    return library


def at_home(values: Any, home: Library) -> Native:
    """An array of any library as one of `home`, half types as float32."""
    own = isinstance(home, _kind_of(values) or ())
    return home.widened(home.moved(values) if own else home.array(on_host(values)))


def on_host(values: Any) -> NDArray[Any]:
    """An array of any library for NumPy; half types of PyTorch become float32, exactly."""
    if hasattr(values, "get") and not isinstance(values, dict):  # CuPy's
        values = values.get()
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    halves = tensor.is_floating_point() and tensor.element_size() == 2
    array: NDArray[Any] = (tensor.float() if halves else tensor).numpy()
    return array


def _kind_of(values: Any) -> type[Library] | None:
    return LIBRARIES.get(type(values).__module__.partition(".")[0])


def _device(values: Any) -> Any:
    from array_api_compat import device

    return device(values)


def _platform(values: Any) -> str:
    """The kind of an array's device: cpu, cuda, gpu, tpu, mps..."""
    device = getattr(values, "device", "cpu")
    kind = getattr(device, "type", None) or getattr(device, "platform", None)
    if kind is None and hasattr(values, "devices"):  # JAX, of an array on several devices
        kind = next(iter(values.devices())).platform
    return str(kind or type(device).__name__).lower()
