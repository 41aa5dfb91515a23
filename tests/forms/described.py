"""Read packed weights with NumPy alone, by running the formulas and steps of forms.json.

Nothing here knows a form: the shapes, the order of bits and the way to decode come from that file.
"""

import json
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Description = dict[str, Any]
FOLDER = Path(__file__).parents[2] / "docs" / "forms"
DESCRIPTION = FOLDER / "forms.json"


def read_description() -> Description:
    """The content of forms.json."""
    content: Description = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return content


def read_safetensors(file: Path, description: Description) -> dict[str, tuple[str, Array]]:
    """The dtype, as the file spells it, and the array of each tensor."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    dtypes = description["dtypes"]["numbers"] | description["dtypes"]
    found = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        array = np.frombuffer(content[first:last], dtypes[entry["dtype"]])
        found[name] = entry["dtype"], array.reshape(entry["shape"])
    return found


def decode(
    description: Description,
    form: str,
    pattern: str | None,
    shape: list[int],
    parts: dict[str, tuple[str, Array]],
) -> tuple[Array, NDArray[np.bool_]]:
    """A weight and its mask, (c, b), from the tensors of its form.

    Raises ValueError for tensors whose dtype, shape or last bits are not as described.
    """
    described = description["forms"][form]
    names = _names(description, pattern, shape)
    names |= {name: parts[name][1] for name in described["tensors"]}
    exec("\n".join(described["decode"]), names)
    for name, expected in described["tensors"].items():
        _check(description, name, expected, parts[name], names)
    weight, removed = names["weight"], names["removed"]
    if not list(weight.shape) == list(removed.shape) == shape:
        raise ValueError(f"a weight of shape {shape} is decoded to {weight.shape}")
    return weight, removed


def _names(description: Description, pattern: str | None, shape: list[int]) -> dict[str, Any]:
    """What formulas and steps may use."""
    names: dict[str, Any] = {"np": np, "math": math, "order": description["bits"]["order"]}
    for name, function in description["functions"].items():
        names[name] = eval(function, names)
    names["c"], names["b"] = shape
    if found := re.fullmatch(description["pattern"]["nm"], pattern or ""):
        names |= {name: int(found[name]) for name in ("n", "m")}
    return names


def _check(
    description: Description,
    name: str,
    expected: dict[str, Any],
    part: tuple[str, Array],
    names: dict[str, Any],
) -> None:
    """Raise ValueError unless a tensor is as described."""
    dtype, array = part
    numbers = description["dtypes"]["numbers"]
    if dtype not in (numbers if expected["dtype"] == "numbers" else [expected["dtype"]]):
        raise ValueError(f"{name} must be {expected['dtype']}, got {dtype}")
    if "flags" in expected:
        count = eval(expected["flags"], names)
        shape = [math.ceil(count / 8)]
        rest = names["unpack"](array)[count:]
        if (rest != description["bits"]["fill"]).any():
            raise ValueError(f"{name} must end in bits that are {description['bits']['fill']}")
    else:
        shape = [eval(formula, names) for formula in expected["shape"]]
    if list(array.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {list(array.shape)}")


def read_folder(folder: Path, description: Description) -> dict[str, Array]:
    """All tensors of the checkpoint that a packed folder holds, each as NumPy has its bits."""
    rules = description["folder"]
    index = json.loads((folder / rules["index"]).read_text(encoding="utf-8"))
    stored: dict[str, tuple[str, Array]] = {}
    for name in index["files"]:
        stem = name.removesuffix(".safetensors")
        stored |= read_safetensors(folder / rules["file"].format(stem=stem), description)
    found: dict[str, Array] = {}
    for tensor, pieces in index["tensors"].items():
        weights = [_weight_of(description, tensor, piece, stored) for piece in pieces]
        names: dict[str, Any] = {"np": np, "pieces": list(zip(pieces, weights, strict=True))}
        exec("\n".join(rules["assemble"]), names)
        found[tensor] = names["tensor"]
    return found | {name: array for name, (_, array) in stored.items()}


def _weight_of(
    description: Description,
    tensor: str,
    piece: dict[str, Any],
    stored: dict[str, tuple[str, Array]],
) -> Array:
    """The weight of a piece, whose tensors are taken out of `stored`."""
    rules, expert = description["folder"], piece["place"]["expert"]
    parts = {}
    for part in description["forms"][piece["form"]]["tensors"]:
        name = rules["name"] if expert is None else rules["name_of_expert"]
        parts[part] = stored.pop(name.format(tensor=tensor, expert=expert, part=part))
    return decode(description, piece["form"], piece["pattern"], piece["shape"], parts)[0]


def check_canonical(description: Description) -> None:
    """Raise an error unless the canonical files decode to the answers beside them."""
    canonical = description["canonical"]
    answers = read_safetensors(FOLDER / canonical["answers"], description)
    left = set(answers)
    for case in canonical["files"]:
        parts: dict[str, dict[str, tuple[str, Array]]] = defaultdict(dict)
        for name, part in read_safetensors(FOLDER / case["file"], description).items():
            parts[name.rpartition(":")[0]][name.rpartition(":")[2]] = part
        own = parts.pop(case["tensor"])
        if parts or own.keys() != description["forms"][case["form"]]["tensors"].keys():
            raise ValueError(f"{case['file']} holds other tensors than {case['form']} has")
        weight, removed = decode(description, case["form"], case["pattern"], case["shape"], own)
        for answer, found in (("weight", weight), ("removed", removed.astype("u1"))):
            name = f"{case['tensor']}:{answer}"
            left.remove(name)
            _, array = answers[name]
            if found.shape != array.shape or found.tobytes() != array.tobytes():
                raise ValueError(f"{case['file']}: {answer} is not the answer")
    if left:
        raise ValueError(f"no canonical file answers {', '.join(sorted(left))}")
