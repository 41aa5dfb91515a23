"""The checks of every method's arguments, and products in full precision. Spec section 2.

Every refusal is a ValueError that names the argument and its value.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from reference.patterns import column_blocks

TILE = 256  # rows and columns of G that are compared with their transpose at one time


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32, no bfloat16 passes and no autocast inside: masks and bounds rest on these digits.

    Every public method is decorated with it.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_damping(damping: float) -> None:
    """γ must be a positive, finite number."""
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")


def check_same_shape(name: str, matrix: Tensor, weight: Tensor) -> None:
    """A matrix that belongs to a weight, (c, b), must have its shape."""
    if matrix.shape != weight.shape:
        raise ValueError(
            f"{name} must have the shape {tuple(weight.shape)}, got {tuple(matrix.shape)}"
        )


def check_form(name: str, matrix: Tensor) -> None:
    """A matrix must have entries, of floating-point numbers; looks at none of them."""
    if matrix.dim() != 2 or matrix.numel() == 0:
        raise ValueError(f"{name} must be a matrix with entries, got shape {tuple(matrix.shape)}")
    if not matrix.is_floating_point():
        raise ValueError(f"{name} must hold floating-point numbers, got {matrix.dtype}")


def check_matrix(name: str, matrix: Tensor) -> tuple[float, float]:
    """The least and the largest entry of a matrix, which must be finite floating-point numbers."""
    check_form(name, matrix)
    least, largest = torch.stack(matrix.aminmax()).tolist()
    if not (math.isfinite(least) and math.isfinite(largest)):  # one NaN makes both NaN
        i, j = (~torch.isfinite(matrix)).nonzero()[0].tolist()
        raise ValueError(f"{name} must be finite, got {name}[{i}, {j}] = {matrix[i, j].item()}")
    return least, largest


def check_gram_form(gram: Tensor, weight: Tensor) -> None:
    """G must be b x b, on the device of the weight; looks at no number of it."""
    check_form("gram", gram)
    columns = weight.shape[1]
    if gram.shape != (columns, columns):
        raise ValueError(
            f"gram must be {columns} x {columns} like the columns of the weight, "
            f"got {gram.shape[0]} x {gram.shape[1]}"
        )
    if gram.device != weight.device:
        raise ValueError(f"gram must be on {weight.device} like the weight, got {gram.device}")


def check_gram(gram: Tensor, weight: Tensor) -> bool:
    """Whether G, (b, b), is exactly symmetric; it must be a Gram matrix of the weight's inputs."""
    check_matrix("gram", gram)
    check_gram_form(gram, weight)
    diagonal = gram.diagonal()
    if (diagonal < 0).any():
        j = int(diagonal.argmin())
        raise ValueError(f"gram[{j}, {j}] must not be negative, got {diagonal[j].item()}")
    for j in (diagonal == 0).nonzero()[:, 0].tolist():
        if gram[j].any():
            raise ValueError(f"gram[{j}, {j}] is 0 but row {j} is not: no Gram matrix is like that")
    if all(torch.equal(tile, other.T.contiguous()) for tile, other in mirrored_tiles(gram)):
        return True
    norms = diagonal.double().sqrt()
    asymmetry = (gram.double() - gram.double().T).abs() - 1e-5 * torch.outer(norms, norms)
    if (asymmetry > 0).any():
        i, j = divmod(int(asymmetry.argmax()), len(gram))
        raise ValueError(
            f"gram must be symmetric, got gram[{i}, {j}] = {gram[i, j].item()} "
            f"and gram[{j}, {i}] = {gram[j, i].item()}"
        )
    return False


def mirrored_tiles(matrix: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tiles of the lower triangle, each with its mirror image.

    Comparing a matrix with its transpose as a whole reads one of them by columns, which is slow.
    """
    tiles = list(column_blocks(len(matrix), TILE))
    for row, (i1, i2) in enumerate(tiles):
        for j1, j2 in tiles[: row + 1]:
            yield matrix[i1:i2, j1:j2], matrix[j1:j2, i1:i2]
