"""One reversed Cholesky factorisation that serves all blocks. Spec section 5.

The matrix with rows and columns reversed is factorised as usual, H_rev = L Lᵀ; turned back, L is
Mᵀ with H = Mᵀ M, and L⁻¹ is U = M⁻ᵀ.
"""

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.layer import PANEL, Layer
from thanos_torch.result import Diagnostics

# The largest variance inflation factor H_jj (H⁻¹)_jj at which float32 will do: no column is a
# combination of others to more than its root, 4, so that no more than two bits are lost.
BENIGN_INFLATION = 16.0
# Triangles up to this size are inverted by substitution.
SUBSTITUTED = 256
PANELS = 4


def reversed_cholesky(layer: Layer, order: Tensor | None = None) -> Tensor:
    """The lower triangular M with H = Mᵀ M, (b, b), H's columns in `order` if one is given.

    Always factorised in float64, then rounded to the arithmetic of the run: in float32 real
    layers miss the margins of the certificate. Raises ValueError if H is not positive definite.
    """
    if order is None:
        H = layer.reversed_hessian(torch.float64)
    else:
        backwards = order.flip(0)
        H = layer.hessian(torch.float64)[backwards][:, backwards]
    return _cholesky(layer, H).to(layer.dtype).flip(0, 1).T


def inverse_factor(layer: Layer, diagnostics: Diagnostics) -> Tensor:
    """The upper triangular U = M⁻ᵀ, (b, b), in the arithmetic of the run.

    For every trailing J = [j1, b), (H_JJ)⁻¹ = U_JJᵀ U_JJ: what a block needs of the inverse of
    its own H_JJ lies in the block's rows of U, and nothing is inverted block by block.

    A float32 run factorises in float32 where the columns of H are nearly independent, in float64
    otherwise; `diagnostics.factor` tells which.
    """
    if layer.dtype == torch.float32:
        U = _in_single(layer)
        if U is not None:
            diagnostics.factor = "float32"
            return U
    L = _cholesky(layer, layer.reversed_hessian(torch.float64)).to(layer.dtype)
    return _turned(_invert(L), into=torch.empty(L.shape, dtype=L.dtype, device=L.device))


def _in_single(layer: Layer) -> Tensor | None:
    """U by float32 alone, or None where that would lose digits."""
    H = layer.reversed_hessian(torch.float32)
    # Some columns tell of most layers that they are not benign, in a fraction of the time.
    for columns in (min(SUBSTITUTED, len(H)), len(H)):
        L, failed = torch.linalg.cholesky_ex(H[:columns, :columns].T)
        pivots = L.diagonal().square() * BENIGN_INFLATION
        if failed or not (pivots >= H.diagonal()[:columns]).all():
            return None
    inverse = _invert(L)
    inflation = H.diagonal() * torch.linalg.vector_norm(inverse, dim=0).square()
    benign = bool((inflation <= BENIGN_INFLATION).all())
    return _turned(inverse, into=H) if benign else None


def _cholesky(layer: Layer, reversed_H: Tensor) -> Tensor:
    """L with H_rev = L Lᵀ."""
    # LAPACK reads by columns: the transpose of a symmetric matrix is itself, and needs no copy.
    L, failed = torch.linalg.cholesky_ex(reversed_H.T)
    if failed:
        raise ValueError(
            f"gram is too far from positive definite: damping = {layer.damping} does not mend it"
        )
    triangle: Tensor = L
    return triangle


def _invert(L: Tensor) -> Tensor:
    """L⁻¹ of a lower triangular L, in its place.

    By halves: [[A, 0], [B, C]]⁻¹ = [[A⁻¹, 0], [−C⁻¹ B A⁻¹, C⁻¹]]. That is matrix products at the
    machine's peak, a third of the flops of substituting into the identity.
    """
    size = len(L)
    if size <= SUBSTITUTED:
        identity = torch.eye(size, dtype=L.dtype, device=L.device)
        L.copy_(torch.linalg.solve_triangular(L, identity, upper=False))
        return L
    half = size // 2
    A, C = _invert(L[:half, :half]), _invert(L[half:, half:])
    corner = L[half:, :half]
    # Both factors are triangular: panels leave most of their zeros out.
    product = torch.empty_like(corner)
    for start, end in column_blocks(half, max(SUBSTITUTED, half // PANELS)):
        torch.mm(corner[:, start:], A[start:, start:end], out=product[:, start:end])
    for start, end in column_blocks(size - half, max(SUBSTITUTED, half // PANELS)):
        corner[start:end] = (C[start:end, :end] @ product[:end]).neg_()
    return L


def _turned(matrix: Tensor, into: Tensor) -> Tensor:
    """The matrix with rows and columns reversed, in memory that is no longer needed."""
    for start, end in column_blocks(len(matrix), PANEL):
        into[start:end] = matrix[len(matrix) - end : len(matrix) - start].flip(0, 1)
    return into
