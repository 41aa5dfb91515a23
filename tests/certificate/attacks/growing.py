"""Pushes of early blocks that grow over later ones.

Default damping, 1:2, B = 2, masks by the rule at every state. Every block of the accused is at its
best for its own state, and a tiny push of the first one has grown beyond the loss at the end.
"""

from dataclasses import replace

import numpy as np

from reference import SemiStructured
from tests.certificate.attacks.exact import Long, best_row, hessian, losses, solve
from tests.certificate.attacks.layers import Array, Layer, Mask, rounded
from tests.certificate.attacks.outcome import Court, Outcome

# U of neighbouring pairs of columns, found by hill climbing on how much pushes grow while H keeps
# a least eigenvalue of λ: the diagonal blocks [[1, x], [0, exp(y)]], and A with A θ^(s-1) in the
# s-th block beside the diagonal.
A = np.array([[-0.82, -1.76], [0.0175, 0.08]])
THETA, X, Y = -0.07, -0.103, -2.08
LARGEST = 1e10  # growth of a push: beyond, float64 does not know the exact run any more


def attack(rng: np.random.Generator, outcome: Outcome) -> None:
    """Push the first block's kept weight by more and more; everything after it is exact."""
    arithmetic = str(rng.choice(["float64", "float64", "float32"]))
    layer = unstable(rng, int(rng.choice([8, 16, 24, 32, 64])), arithmetic)
    court = Court(layer, outcome)
    if not court.acquit():
        return
    mask = court.right.mask
    for exponent in np.linspace(-50, 0, 12):
        pushed = run_from(layer, mask, court.T(mask), 2.0**exponent)
        court.accuse(rounded(pushed, layer.kind), mask, f"2^{exponent:.0f}")


def unstable(rng: np.random.Generator, b: int, arithmetic: str) -> Layer:
    """A layer whose exact run is quiet, though whatever is off in it grows from pair to pair."""
    strength = 1.0
    while True:
        U, n = np.eye(b), b // 2
        for k in range(n):
            U[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[1, X], [0, np.exp(Y)]]
            for j in range(k + 1, n):
                U[2 * k : 2 * k + 2, 2 * j : 2 * j + 2] = strength * A * THETA ** (j - k - 1)
        M = np.linalg.inv(U).T
        H = M.T @ M
        G = H - 0.01 / 1.01 * np.trace(H) / b * np.eye(b)
        G -= min(0.0, float(np.linalg.eigvalsh(G)[0])) * np.eye(b)
        layer = Layer(np.zeros((1, b)), G, SemiStructured(1, 2), "thanos", 2, 0.01, arithmetic)
        if growth(layer) <= LARGEST:
            break
        strength *= 0.95
    W = np.vstack([quiet(rng, layer) for _ in range(2)])
    return replace(layer, weight=rounded(W, arithmetic), gram=rounded(G, arithmetic))


def growth(layer: Layer) -> float:
    """How much a push of the first block has grown at the end, in the norm of H."""
    b = len(layer.gram)
    mask = np.tile([False, True], b // 2)
    first = np.zeros((1, b), dtype=np.longdouble)
    first[0, 0] = 1
    last = run_from(replace(layer, weight=np.zeros((1, b))), mask[None], first, 0.0)
    return float(np.sqrt(losses(layer, last)[0] / losses(layer, first)[0]))


def quiet(rng: np.random.Generator, layer: Layer) -> Array:
    """A row whose removed weights are small at every state of the exact run."""
    H = hessian(layer)
    b = len(H)
    goal = rng.choice([-1.0, 1.0], b) * rng.uniform(1, 2, b) / np.sqrt(np.diag(H))
    goal[1::2] *= 0.01
    W, D = np.zeros(b, dtype=np.longdouble), np.zeros(b, dtype=np.longdouble)
    for k in range(0, b, 2):
        shift = solve(H[k:, k:], -(D[:k] @ H[:k, k:]))
        W[k : k + 2] = goal[k : k + 2] - shift[:2]
        state = W + D
        state[k:] = W[k:] + shift
        gone = np.arange(b) == k + 1
        D[k : k + 2] = (best_row(W, state, H, gone, k, k + 2) - W)[k : k + 2]
    return W.astype(np.float64)


def run_from(layer: Layer, mask: Mask, start: Long, size: float) -> Array:
    """The exact run behind a first block whose kept weights are off by a share `size`."""
    W, H = layer.weight.astype(np.longdouble), hessian(layer)
    state = start.copy()
    for row in range(len(W)):
        (_, first), *others = layer.blocks
        state[row, :first] *= 1 + size
        for j1, j2 in others:
            state[row] = best_row(W[row], state[row], H, mask[row], j1, j2)
    return np.asarray(np.where(mask, 0, state), dtype=np.float64)
