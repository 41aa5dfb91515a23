"""Reads and writes safetensors files; every file is treated as untrusted data.

The format is on docs/vectors.md. Every size is checked before anything is allocated, and a file
that is malformed in any way raises ValueError.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_HEADER = 2**20
MAX_FILE = 2**28
MAX_DIMENSIONS = 8
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|u1", "U8": "|u1",
    "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
}  # fmt: skip
# Names of the floating-point types; NumPy has no bfloat16.
TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}

Tensor = NDArray[Any]


class TensorFile(dict[str, Tensor]):
    """Tensors by name with their `types` and the file's `metadata`; bfloat16 becomes float32."""

    def __init__(self, types: dict[str, str], metadata: dict[str, str]) -> None:
        super().__init__()
        self.types = types
        self.metadata = metadata


def read_tensors(path: str | os.PathLike[str], max_bytes: int = MAX_FILE) -> TensorFile:
    """Read a file. Raises ValueError if it is malformed, OSError if it cannot be read.

    max_bytes  a larger file is refused unread
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"file of {size} bytes: more than the {max_bytes} that it may have")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:  # a pipe or a device tells no size
        raise ValueError(f"file of more than the {max_bytes} bytes that it may have")
    return parse_tensors(content)


def parse_tensors(content: bytes) -> TensorFile:
    """Read the content of a file. Raises ValueError if it is malformed."""
    if len(content) < 8:
        raise ValueError(f"file of {len(content)} bytes: no room for the length of a header")
    length = int.from_bytes(content[:8], "little")
    if length > min(MAX_HEADER, len(content) - 8):
        raise ValueError(f"header of {length} bytes in a file of {len(content)}")
    header = parse_json(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("header must be a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ must hold text only")
    data = memoryview(content)[8 + length :]
    _check_layout(header, len(data))
    tensors = TensorFile({name: entry["dtype"] for name, entry in header.items()}, metadata)
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        flat = np.frombuffer(data[start:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = _decoded(name, flat, entry["dtype"]).reshape(entry["shape"])
    return tensors


def parse_json(content: bytes | str) -> Any:
    """Read untrusted JSON. Raises ValueError, also for deep nesting and repeated keys."""
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_int=_whole_number)
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"no JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one JSON object")
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > 18:  # larger than any file, and slow to parse
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _check_layout(header: Mapping[str, Any], available: int) -> None:
    """Raise ValueError unless the tensors are well described, in sequence, and fill the file."""
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name!r} must have dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"tensor {name!r} has the unknown type {dtype!r}")
        if not _sizes(shape) or len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has the shape {shape!r}")
        if not _sizes(offsets) or len(offsets) != 2:
            raise ValueError(f"tensor {name!r} has the data_offsets {offsets!r}")
        expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if offsets[1] - offsets[0] != expected:
            raise ValueError(
                f"tensor {name!r} of {expected} bytes lies in {offsets[1] - offsets[0]}"
            )
        spans.append(tuple(offsets))
    end = 0
    for span in sorted(spans):
        if span[0] != end:
            raise ValueError(f"tensors must follow one another: one starts at {span[0]}, not {end}")
        end = span[1]
    if end != available:
        raise ValueError(f"tensors fill {end} bytes of {available}")


def _sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )


def _decoded(name: str, flat: Tensor, dtype: str) -> Tensor:
    if dtype == "BF16":
        return (flat.astype("<u4") << np.uint32(16)).view("<f4")
    if dtype == "BOOL":
        if (flat > 1).any():
            raise ValueError(f"tensor {name!r} of type BOOL holds more than 0 and 1")
        return flat.astype(bool)
    return flat


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    types: Mapping[str, str] | None = None,
) -> None:
    """Write a file; arguments as for `encode_tensors`."""
    Path(path).write_bytes(encode_tensors(tensors, metadata, types))


def encode_tensors(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    types: Mapping[str, str] | None = None,
) -> bytes:
    """The content of a file; equal tensors give equal bytes.

    types  stored types that differ from the tensors' own: "BF16" for float32 values that have no
           more than its eight bits
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts: list[bytes] = []
    start = 0
    for name, tensor in tensors.items():
        dtype = (types or {}).get(name) or _type_of(tensor)
        part = _encoded(tensor, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, start + len(part)],
        }
        start += len(part)
        parts.append(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # align the numbers
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def _type_of(tensor: Tensor) -> str:
    if tensor.dtype == np.bool_:
        return "BOOL"
    wanted = tensor.dtype.newbyteorder("<").str
    return next(name for name, code in DTYPES.items() if code == wanted and name != "BOOL")


def _encoded(tensor: Tensor, dtype: str) -> bytes:
    if dtype == "BF16":
        bits = np.ascontiguousarray(tensor, dtype="<f4").view("<u4")
        return (bits >> np.uint32(16)).astype("<u2").tobytes()
    return np.ascontiguousarray(tensor).astype(DTYPES[dtype]).tobytes()
