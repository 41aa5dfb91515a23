"""Zeros are counted at their places in a GGUF file, in which rows lie in another order."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.runtimes.gguf_weights import GGUFWeights, count_zeros

HEADS = {"q_proj": 4, "k_proj": 2, "v_proj": 2}
NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v"}
LAYER = "model.layers.0.self_attn"
WIDTH = 4  # rows of a head
COLUMNS = 6
Matrix = NDArray[np.float16]


def weights_and_masks() -> tuple[dict[str, Tensor], dict[str, NDArray[np.bool_]]]:
    torch.manual_seed(0)
    shapes = {name: (heads * WIDTH, COLUMNS) for name, heads in HEADS.items()}
    weights = {f"{LAYER}.{name}": torch.randn(shape) for name, shape in shapes.items()}
    masks = {name: torch.rand(weight.shape) < 0.5 for name, weight in weights.items()}
    for name, weight in weights.items():
        weight[masks[name]] = 0.0
    return weights, {name: mask.numpy() for name, mask in masks.items()}


def in_pairs(weight: Matrix, heads: int) -> Matrix:
    """Row by row: in a head, rows 0 and WIDTH / 2 are a pair, then 1 and WIDTH / 2 + 1, ..."""
    order = [
        head * WIDTH + half * WIDTH // 2 + pair
        for head in range(heads)
        for pair in range(WIDTH // 2)
        for half in (0, 1)
    ]
    return weight[order]


def written(file: Path, change: Callable[[str, Matrix], Matrix]) -> Path:
    """A GGUF file of the Llama architecture with the weights of one block, each changed first."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_head_count(HEADS["q_proj"])
    writer.add_head_count_kv(HEADS["k_proj"])
    for layer, weight in weights_and_masks()[0].items():
        name = layer.rpartition(".")[2]
        matrix = np.ascontiguousarray(change(name, weight.half().numpy()))
        writer.add_tensor(f"blk.0.{NAMES[name]}.weight", matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def converted(name: str, weight: Matrix) -> Matrix:
    """As llama.cpp wants it: its converter leaves values in their order."""
    return weight if name == "v_proj" else in_pairs(weight, HEADS[name])


def unpermuted(name: str, weight: Matrix) -> Matrix:
    return weight


def one_weight_back(name: str, weight: Matrix) -> Matrix:
    changed = converted(name, weight).copy()
    if name == "v_proj":
        changed[tuple(np.argwhere(changed == 0)[0])] = 0.5
    return changed


def one_zero_negative(name: str, weight: Matrix) -> Matrix:
    changed = converted(name, weight).copy()
    if name == "k_proj":
        changed[tuple(np.argwhere(changed == 0)[0])] = -0.0
    return changed


def one_kept_weight_lost(name: str, weight: Matrix) -> Matrix:
    changed = converted(name, weight).copy()
    if name == "q_proj":
        changed[tuple(np.argwhere(changed != 0)[0])] = 0.0
    return changed


def test_a_right_file_has_all_zeros_at_their_places(tmp_path: Path) -> None:
    weights, masks = weights_and_masks()
    found = count_zeros(written(tmp_path / "m.gguf", converted), weights, masks)
    assert found.right
    assert found.removed == sum(mask.sum() for mask in masks.values()) > 0
    assert found.others == 0


@pytest.mark.parametrize(
    "mistake", [unpermuted, one_weight_back, one_zero_negative, one_kept_weight_lost]
)
def test_mistakes_are_seen(mistake: Callable[[str, Matrix], Matrix], tmp_path: Path) -> None:
    weights, masks = weights_and_masks()
    assert not count_zeros(written(tmp_path / "m.gguf", mistake), weights, masks).right


def test_other_dtypes_and_unknown_layers_are_refused(tmp_path: Path) -> None:
    def in_32(name: str, weight: Matrix) -> Matrix:
        return weight.astype(np.float32)

    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.weight must be F16, got F32"):
        GGUFWeights(written(tmp_path / "m.gguf", in_32)).read(f"{LAYER}.q_proj")
    with pytest.raises(ValueError, match=r"'model\.nothing'"):
        GGUFWeights(tmp_path / "m.gguf").read("model.nothing")


@pytest.mark.parametrize(
    ("name", "kept"), [("BF16", 1), ("Q8_0", 1), ("Q5_0", 1), ("Q4_0", 1), ("Q5_1", 0), ("Q4_1", 0)]
)
def test_which_formats_keep_zeros(name: str, kept: int) -> None:
    """As docs/runtimes.md says; with an offset, zeros are kept where they are a block's minimum."""
    weight = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    weight.reshape(-1, 4)[:, :2] = 0.0
    dtype = gguf.GGMLQuantizationType[name]
    found = gguf.quants.dequantize(gguf.quants.quantize(weight, dtype), dtype)
    share = (found[weight == 0] == 0).mean()
    assert share == 1 if kept else share < 0.01
