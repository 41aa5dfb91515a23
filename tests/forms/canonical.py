"""Write the canonical packed files beside docs/forms/forms.json: `python -m tests.forms.canonical`.

One small weight in each form, and the answers. The numbers come from formulas, not from a random
generator, so that every version of every library makes the same bytes.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.patterns import SemiStructured, Unstructured, parse_pattern
from tests.forms.described import FOLDER, read_description
from thanos_torch.checkpoint.shards import write_shard
from thanos_torch.forms import pack

WEIGHTS = {"bitmask": torch.float16, "nm": torch.bfloat16, "compact": torch.float32}


def write(folder: Path) -> None:
    """Write all canonical files into a folder."""
    canonical = read_description()["canonical"]
    answers: dict[str, Tensor] = {}
    for case in canonical["files"]:
        weight, mask = pruned({**case, "dtype": WEIGHTS[case["form"]]})
        name = case["tensor"]
        form = pack(case["form"], weight, mask, parse_pattern(case["pattern"]))
        tensors = {f"{name}:{part}": tensor for part, tensor in form.tensors.items()}
        write_shard(folder / case["file"], tensors)
        answers |= {f"{name}:weight": weight, f"{name}:removed": mask.to(torch.uint8)}
    write_shard(folder / canonical["answers"], answers)


def pruned(case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The weight of a canonical file and its mask, both (c, b); 0, -0 and NaN are among the kept.

    case  form, pattern and shape as forms.json has them, and dtype. Row 2 is an outlier row if the
          pattern has outlier rows
    """
    rows, columns = case["shape"]
    places = torch.arange(rows * columns)
    weight = (places * 37 % 101 - 50).to(case["dtype"]).view(rows, columns) / 8
    pattern = parse_pattern(case["pattern"])
    scores = (places * 29 % 31).view(rows, columns)
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    if isinstance(pattern, Unstructured):
        mask.view(-1)[scores.flatten().argsort(stable=True)[: pattern.removed(mask.numel())]] = True
    elif isinstance(pattern, SemiStructured):
        order = scores.view(-1, pattern.m).argsort(dim=1, stable=True)[:, : pattern.n]
        mask.view(-1, pattern.m).scatter_(1, order, True)
    else:
        mask[:, scores[0].argsort(stable=True)[: pattern.removed(columns)]] = True
    if "outliers" in case["pattern"]:
        mask[2] = False
    kept = (~mask).nonzero()
    for (row, column), special in zip(kept[::4], (0.0, -0.0, float("nan")), strict=False):
        weight[row, column] = special
    return weight.masked_fill(mask, 0.0), mask


if __name__ == "__main__":
    write(FOLDER)
