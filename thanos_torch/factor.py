"""One reversed Cholesky factorisation that serves all blocks. Spec section 5."""

import torch
from torch import Tensor

from thanos_torch.layer import Layer


def reversed_cholesky(layer: Layer, order: Tensor | None = None) -> Tensor:
    """The lower triangular M with H = Mᵀ M, (b, b), H's columns in `order` if one is given.

    Always factorised in float64, then rounded to the arithmetic of the run. Of all steps this one
    alone suffers from float32: because of it real layers missed the margins of the certificate.
    Raises ValueError if H is not positive definite.
    """
    H = layer.hessian(torch.float64)
    if order is not None:
        H = H[order][:, order]
    L, failed = torch.linalg.cholesky_ex(H.flip(0, 1))
    if failed:
        raise ValueError(
            f"gram is too far from positive definite: damping = {layer.damping} does not mend it"
        )
    M: Tensor = L.flip(0, 1).T
    return M.to(layer.dtype)


def inverse_factor(layer: Layer) -> Tensor:
    """The upper triangular U = M⁻ᵀ, (b, b), in the arithmetic of the run.

    For every trailing J = [j1, b), (H_JJ)⁻¹ = U_JJᵀ U_JJ: what a block needs of the inverse of
    its own H_JJ lies in the block's rows of U, and nothing is inverted block by block.
    """
    M = reversed_cholesky(layer)
    identity = torch.eye(len(M), dtype=M.dtype, device=M.device)
    U: Tensor = torch.linalg.solve_triangular(M.T, identity, upper=True)
    return U
