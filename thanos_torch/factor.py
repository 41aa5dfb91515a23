"""One reversed Cholesky factorisation that serves all blocks. Spec section 5."""

import torch
from torch import Tensor

from thanos_torch.layer import Layer
from thanos_torch.result import Diagnostics


def reversed_cholesky(
    layer: Layer, diagnostics: Diagnostics, order: Tensor | None = None
) -> Tensor:
    """The lower triangular M with H = Mᵀ M, (b, b), H's columns in `order` if one is given.

    Where the float32 factorisation breaks down it is made in float64 and this is noted; the
    result is in the arithmetic in which it was made. Raises ValueError if that fails as well.
    """
    for dtype in dict.fromkeys((layer.dtype, torch.float64)):
        H = layer.hessian(dtype)
        if order is not None:
            H = H[order][:, order]
        L, failed = torch.linalg.cholesky_ex(H.flip(0, 1))
        if not failed:
            diagnostics.factor_dtype = str(dtype).removeprefix("torch.")
            M: Tensor = L.flip(0, 1).T
            return M
    raise ValueError(
        f"gram is too far from positive definite: the damping of {layer.lam:.3g} times "
        f"2**{layer.gram_exponent} does not mend it"
    )


def inverse_factor(layer: Layer, diagnostics: Diagnostics) -> Tensor:
    """The upper triangular U = M⁻ᵀ, (b, b), in the arithmetic of the run.

    For every trailing J = [j1, b), (H_JJ)⁻¹ = U_JJᵀ U_JJ: what a block needs of the inverse of
    its own H_JJ lies in the block's rows of U, and nothing is inverted block by block.
    """
    M = reversed_cholesky(layer, diagnostics)
    identity = torch.eye(len(M), dtype=M.dtype, device=M.device)
    U: Tensor = torch.linalg.solve_triangular(M.T, identity, upper=True)
    return U.to(layer.dtype)
