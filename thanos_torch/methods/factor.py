"""One reversed Cholesky factorisation, H = Mᵀ M, that serves all blocks. Spec section 5.

M is lower triangular. Its halves, the last columns first:

    H = [[H_11, ·], [H_21, H_22]]      M_22ᵀ M_22 = H_22
                                       M_21 = M_22⁻ᵀ H_21
                                       M_11ᵀ M_11 = H_11 − M_21ᵀ M_21

Nearly all of that is matrix products at the machine's peak, in the memory of H and without the
copies into LAPACK's order of columns, which cost more than its factorisation.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from reference.patterns import column_blocks
from thanos_torch.methods.result import Diagnostics
from thanos_torch.methods.scaled import ScaledLayer

Factor = tuple[Tensor, str]  # U, and what H was factorised in


def made_once(layer: ScaledLayer, make: Callable[[ScaledLayer], Factor]) -> Factor:
    """What `make` makes of the layer's H, or has made of the same H just before."""
    shared = _SHARED.get()
    known = shared.of(layer) if shared else None
    if known is None:
        known = make(layer)
        if shared:
            shared.remember(layer, known)
    return known


@contextmanager
def shared_factors() -> Iterator[None]:
    """Inside, layers that are pruned with the same Gram matrix in turn are factorised once.

    Queries, keys and values read one input, and so do the gate and the up projection. It is for
    callers who own the Gram matrices and change none of them in place meanwhile.
    """
    token = _SHARED.set(_LastFactor())
    try:
        yield
    finally:
        _SHARED.reset(token)


class _LastFactor:
    """The factor made last, and the H that it is of, as long as its Gram matrix lives."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self, *_: object) -> None:
        self._gram: weakref.ref[Tensor] | None = None
        self._rest: tuple[object, ...] | None = None
        self._known: Factor | None = None

    def of(self, layer: ScaledLayer) -> Factor | None:
        """What is remembered if this layer has the same H; otherwise its memory is freed."""
        same = self._gram is not None and self._gram() is layer.gram and self._rest == _rest(layer)
        if not same:
            self._forget()
        return self._known

    def remember(self, layer: ScaledLayer, known: Factor) -> None:
        """Keep this factor instead."""
        self._gram, self._rest, self._known = (
            weakref.ref(layer.gram, self._forget),
            _rest(layer),
            known,
        )


def _rest(layer: ScaledLayer) -> tuple[object, ...]:
    """All that makes H of a Gram matrix."""
    return (layer.dtype, layer.lam, layer.gram_exponent)


_SHARED: ContextVar[_LastFactor | None] = ContextVar("shared_factors", default=None)


# The largest variance inflation factor H_jj (H⁻¹)_jj at which float32 will do: no column is a
# combination of others to more than its root, 4, so that no more than two bits are lost.
BENIGN_INFLATION = 16.0
# Matrices up to this size are factorised by LAPACK, and triangles inverted by substitution.
SMALL = 256
PANELS = 4


def reversed_cholesky(layer: ScaledLayer, order: Tensor | None = None) -> Tensor:
    """The lower triangular M with H = Mᵀ M, (b, b), H's columns in `order` if one is given.

    Always factorised in float64, then rounded to the arithmetic of the run: in float32 real
    layers miss the margins of the certificate. Raises ValueError if H is not positive definite.
    """
    M = layer.hessian(torch.float64, order)
    if not _factorise(M):
        raise ValueError(
            f"gram is too far from positive definite: damping = {layer.damping} does not mend it"
        )
    return _narrowed(M, layer.dtype)


def inverse_factor(layer: ScaledLayer, diagnostics: Diagnostics) -> Tensor:
    """The upper triangular U = M⁻ᵀ, (b, b), in the arithmetic of the run.

    For every trailing J = [j1, b), (H_JJ)⁻¹ = U_JJᵀ U_JJ: what a block needs of the inverse of
    its own H_JJ lies in the block's rows of U, and nothing is inverted block by block.

    A float32 run factorises in float32 where the columns of H are nearly independent, in float64
    otherwise; `diagnostics.factor` tells which.
    """
    U, diagnostics.factor = made_once(layer, _inverse_factor)
    return U


def _inverse_factor(layer: ScaledLayer) -> tuple[Tensor, str]:
    """U, and what H was factorised in."""
    inverse = _in_single(layer) if layer.dtype == torch.float32 else None
    if inverse is not None:
        return inverse.T, "float32"
    return _invert(reversed_cholesky(layer)).T, "float64"


def _in_single(layer: ScaledLayer) -> Tensor | None:
    """M⁻¹ by float32 alone, or None where that would lose digits."""
    M = layer.hessian(torch.float32)
    diagonal = M.diagonal().clone()
    # The last columns tell of most layers that they are not benign, in a fraction of the time.
    few = slice(-SMALL, None)
    if not _factorise_benign(M[few, few].clone(), diagonal[few]):
        return None
    if not _factorise_benign(M, diagonal):
        return None
    inverse = _invert(M)
    inflation = diagonal * torch.linalg.vector_norm(inverse, dim=1).square()
    return inverse if (inflation <= BENIGN_INFLATION).all() else None


def _factorise_benign(H: Tensor, diagonal: Tensor) -> bool:
    """The same as `_factorise`; False as well if a pivot alone tells that float32 will not do."""
    return _factorise(H) and bool((H.diagonal().square() * BENIGN_INFLATION >= diagonal).all())


def _factorise(H: Tensor) -> bool:
    """H becomes its M; only its lower triangle is read. False if it is not positive definite."""
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
    # Panels keep what is in flight small, and leave out most of the triangle that nobody reads.
    panels = list(column_blocks(half, max(SMALL, half // PANELS)))
    for start, end in panels:
        # M_21ᵀ M_22 = H_21ᵀ: with the unknowns as rows, which is the faster way around.
        panel = corner[:, start:end]
        panel.copy_(torch.linalg.solve_triangular(last, panel.T, upper=False, left=False).T)
    for start, end in panels:
        first[start:, start:end].addmm_(corner[:, start:].T, corner[:, start:end], alpha=-1)
    return _factorise(first)


def _narrowed(M: Tensor, dtype: torch.dtype) -> Tensor:
    """M rounded to `dtype` in its own memory, where a row then takes half the place it has."""
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
