"""One reversed Cholesky factorisation, H = Mᵀ M, that serves all blocks. Spec section 4.

M is lower triangular. Its halves, the last columns first:

    H = [[H_11, ·], [H_21, H_22]]      M_22ᵀ M_22 = H_22
                                       M_21 = M_22⁻ᵀ H_21
                                       M_11ᵀ M_11 = H_11 − M_21ᵀ M_21

Nearly all of that is matrix products at the machine's peak, in the memory of H and without the
copies into LAPACK's order of columns, which cost more than its factorisation.

On a device that would be thousands of launches, and a wait at each of its ends. There it is one
call of the device's Cholesky, and one triangular solve, always in float64: whether float32 would
do is known only after looking. docs/gpu.md has what that costs.
"""

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.devices import on_host
from thanos_torch.methods.problem import ScaledLayer

# The largest variance inflation factor H_jj (H⁻¹)_jj at which float32 will do: no column is a
# combination of others to more than its root, 4, so that no more than two bits are lost.
BENIGN_INFLATION = 16.0
# Matrices up to this size are factorised by LAPACK, and triangles inverted by substitution.
SMALL = 256
PANELS = 4


@dataclass(frozen=True)
class Factor:
    """The inverse factor of a layer's H, which all blocks share.

    U       (b, b), upper triangular, M⁻ᵀ, in the arithmetic of the run. For every trailing
            J = [j1, b), (H_JJ)⁻¹ = U_JJᵀ U_JJ, so no block inverts its own H_JJ
    benign  True if the columns of H are so nearly independent that H was factorised in float32
            without losing digits; the masked systems of the blocks are then solved in float32 too
    failed  on a device: not 0 if H is not positive definite, (); None on a CPU, which raises
    """

    U: Tensor
    benign: bool
    failed: Tensor | None = None

    @property
    def arithmetic(self) -> str:
        """The arithmetic in which H was factorised, for reports."""
        return "float32" if self.benign else "float64"


class FactorCache:
    """The factor made last, for layers that are pruned in turn with the same Gram matrix.

    Queries, keys and values read one input, and so do the gate and the up projection. Pass one
    cache to all their calls; the Gram matrix must not be changed in place meanwhile. A factor is
    freed as soon as its Gram matrix is.
    """

    def __init__(self) -> None:
        self._gram: weakref.ref[Tensor] | None = None
        # One factor at most, by all that makes H of a Gram matrix.
        self._made: dict[tuple[torch.dtype, float], Factor] = {}

    def of(self, layer: ScaledLayer) -> Factor:
        """The factor of this layer's H. Raises ValueError if H is not positive definite.

        On a device that is a doubt of the layer instead.
        """
        made, key = self._made, (layer.dtype, layer.damping)
        same = self._gram is not None and self._gram() is layer.gram
        if not same or key not in made:
            made.clear()  # frees the memory of the last factor before the next one needs it
            made[key] = inverse_factor(layer)
            self._gram = weakref.ref(layer.gram, lambda _: made.clear())
        failed = made[key].failed
        if failed is not None:
            layer.doubts.append(failed)
        return made[key]


def inverse_factor(layer: ScaledLayer) -> Factor:
    """The factor of a layer, made anew: use `FactorCache.of` for layers that share their input.

    A float32 run factorises in float32 where the columns of H are nearly independent, in float64
    otherwise. Raises ValueError if H is not positive definite; on a device the factor says so.
    """
    if not on_host(layer.gram):
        return _factor_on_device(layer)
    inverse = _in_single(layer) if layer.dtype == torch.float32 else None
    if inverse is not None:
        return Factor(inverse.T, benign=True)
    return Factor(_invert(reversed_cholesky(layer)).T, benign=False)


def reversed_cholesky(layer: ScaledLayer, order: Tensor | None = None) -> Tensor:
    """The lower triangular M with H = Mᵀ M, (b, b), H's columns in `order` if one is given.

    Always factorised in float64, then rounded to the arithmetic of the run: in float32 real
    layers miss the margins of the certificate. Raises ValueError if H is not positive definite;
    on a device that is a doubt of the layer.
    """
    if not on_host(layer.gram):
        L, failed = _cholesky_on_device(layer, order)
        layer.doubts.append(failed)
        return L.flip(0, 1).mT.to(layer.dtype)
    M = layer.hessian(torch.float64, order)
    if not _factorise(M):
        raise ValueError(
            f"gram is too far from positive definite: damping = {layer.damping} does not mend it"
        )
    return _narrowed(M, layer.dtype)


def block_losses(layer: ScaledLayer, D: Tensor, block_size: int) -> Tensor:
    """‖E_k‖² with E = D Mᵀ, in the layer's units, (blocks,) float64. Spec T3, T4."""
    M = reversed_cholesky(layer)
    E2 = (D @ M.mT).double().square()
    return torch.stack([E2[:, j1:j2].sum() for j1, j2 in column_blocks(D.shape[1], block_size)])


def _cholesky_on_device(layer: ScaledLayer, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The Cholesky factor of H reversed, (b, b) in float64; a number that is not 0 if it failed."""
    # H = Mᵀ M reversed is L Lᵀ with L = Mᵀ reversed.
    L, failed = torch.linalg.cholesky_ex(layer.hessian(torch.float64, order).flip(0, 1))
    return L, failed


def _factor_on_device(layer: ScaledLayer) -> Factor:
    """`inverse_factor` in a few launches, without a wait."""
    L, failed = _cholesky_on_device(layer)
    identity = torch.eye(len(L), dtype=L.dtype, device=L.device)
    inverse = torch.linalg.solve_triangular(L, identity, upper=False, out=identity)
    U = torch.empty(L.shape, dtype=layer.dtype, device=L.device)  # M⁻ᵀ is L⁻¹ reversed
    return Factor(U.copy_(inverse.flip(0, 1)), benign=False, failed=failed)


def _in_single(layer: ScaledLayer) -> Tensor | None:
    """M⁻¹ by float32 alone, or None where that would lose digits."""
    M = layer.hessian(torch.float32)
    diagonal = M.diagonal().clone()
    # The last columns reveal most layers that are not benign, in a fraction of the time.
    few = slice(-SMALL, None)
    if not _factorise_benign(M[few, few].clone(), diagonal[few]):
        return None
    if not _factorise_benign(M, diagonal):
        return None
    inverse = _invert(M)
    inflation = diagonal * torch.linalg.vector_norm(inverse, dim=1).square()
    return inverse if (inflation <= BENIGN_INFLATION).all() else None


def _factorise_benign(H: Tensor, diagonal: Tensor) -> bool:
    """As `_factorise`; False also if a pivot already shows that float32 will not do."""
    return _factorise(H) and bool((H.diagonal().square() * BENIGN_INFLATION >= diagonal).all())


def _factorise(H: Tensor) -> bool:
    """Overwrite H by its M, reading only the lower triangle; False if not positive definite."""
    size = len(H)
    if size <= SMALL:
        L, failed = torch.linalg.cholesky_ex(H.flip(0, 1).T)
        H.copy_(L.flip(0, 1).T)
        return not failed
    half = size // 2
    first, corner, last = H[:half, :half], H[half:, :half], H[half:, half:]
    H[:half, half:] = 0
    if not _factorise(last):
        return False
    # Panels keep temporaries small, and leave out most of the triangle that nobody reads.
    panels = list(column_blocks(half, max(SMALL, half // PANELS)))
    for start, end in panels:
        # M_21ᵀ M_22 = H_21ᵀ: with the unknowns as rows, which is the faster way around.
        panel = corner[:, start:end]
        panel.copy_(torch.linalg.solve_triangular(last, panel.T, upper=False, left=False).T)
    for start, end in panels:
        first[start:, start:end].addmm_(corner[:, start:].T, corner[:, start:end], alpha=-1)
    return _factorise(first)


def _narrowed(M: Tensor, dtype: torch.dtype) -> Tensor:
    """M rounded to `dtype` in its own memory, where a row then takes half of its former space."""
    if dtype == M.dtype:
        return M
    narrow = M.view(dtype)[:, : len(M)]
    for start, end in column_blocks(len(M), SMALL):
        narrow[start:end] = M[start:end].to(dtype)  # a copy: what it overwrites was read before
    return narrow


def _invert(M: Tensor) -> Tensor:
    """M⁻¹ of a lower triangular M, in its place.

    By halves: [[A, 0], [B, C]]⁻¹ = [[A⁻¹, 0], [−C⁻¹ B A⁻¹, C⁻¹]]. That is matrix products at the
    machine's peak, a third of the flops of substituting into the identity.
    """
    size = len(M)
    if size <= SMALL:
        identity = torch.eye(size, dtype=M.dtype, device=M.device)
        M.copy_(torch.linalg.solve_triangular(M, identity, upper=False))
        return M
    half = size // 2
    A, C = _invert(M[:half, :half]), _invert(M[half:, half:])
    corner = M[half:, :half]
    # Both factors are triangular: panels leave most of their zeros out.
    product = torch.empty_like(corner)
    for start, end in column_blocks(half, max(SMALL, half // PANELS)):
        torch.mm(corner[:, start:], A[start:, start:end], out=product[:, start:end])
    for start, end in column_blocks(size - half, max(SMALL, half // PANELS)):
        torch.mm(C[start:end, :end], product[:end], out=corner[start:end]).neg_()
    return M
