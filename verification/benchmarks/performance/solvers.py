"""Compare other solvers for the masked systems of a block with `thanos_torch.methods.solver`.

    python -m verification.benchmarks.performance.solvers --out docs/results/solvers.json

Every candidate solves μ_iq R_qq = W_iq for all rows of one block, in float32 unless its name says
otherwise. Times are reported together with accuracy: the largest relative residual of a row.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from thanos_torch.methods.factor import Factor
from thanos_torch.methods.solver import solver_for
from verification.benchmarks.environment import clock, environment
from verification.benchmarks.results import write_results

ROWS, BLOCK = 1024, 128
DENSITIES = (0.1, 0.5, 0.9)
INPUTS = ("independent", "neighbours alike")
ALIKE = 0.95  # correlation of neighbouring columns
PART = 256  # rows whose systems are solved as one batch
SUB_BLOCK = 16
REPEATS = 5
Solver = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, int]]


def jacobi(system: Tensor, mask: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """Conjugate gradients; the system has unit diagonal, so that is Jacobi scaling."""
    return _conjugate_gradients(system, mask, right, torch.eye(len(system)))


def shared_inverse(system: Tensor, mask: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """Conjugate gradients, preconditioned by (R⁻¹)_qq of the inverse that all rows share."""
    return _conjugate_gradients(system, mask, right, torch.linalg.inv(system))


def batched_cholesky(
    system: Tensor, mask: Tensor, right: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, int]:
    """A B x B system for every row, with the identity outside of its picks."""
    solutions = []
    for start in range(0, len(mask), PART):
        systems = _filled(system.to(dtype), mask[start : start + PART])
        part = right[start : start + PART, :, None].to(dtype)
        factor = torch.linalg.cholesky(systems)
        solutions.append(torch.cholesky_solve(part, factor)[:, :, 0])
    return torch.cat(solutions).to(right.dtype), 0


def gathered_cholesky(system: Tensor, mask: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """Systems of the size of the most picks in any row, which is small for a sparse mask."""
    most = int(mask.sum(dim=1).max())
    picks = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    solution = torch.zeros_like(right)
    for start in range(0, len(mask), PART):
        index = picks[start : start + PART]
        real = mask[start : start + PART].gather(1, index)
        systems = system[index[:, :, None], index[:, None, :]]
        both = real[:, :, None] & real[:, None, :]
        systems = torch.where(both, systems, torch.eye(most))
        part = right[start : start + PART].gather(1, index)[:, :, None]
        solved = torch.cholesky_solve(part, torch.linalg.cholesky(systems))[:, :, 0]
        solution[start : start + PART].scatter_(1, index, solved)
    return solution, 0


def block_elimination(system: Tensor, mask: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """The filled systems, eliminated by sub-blocks of columns in batched products."""
    solutions = []
    for start in range(0, len(mask), PART):
        A = _filled(system, mask[start : start + PART])  # (rows, B, B)
        x = right[start : start + PART, :, None].clone()
        for k in range(0, len(system), SUB_BLOCK):
            here, behind = slice(k, k + SUB_BLOCK), slice(k + SUB_BLOCK, None)
            factor = torch.linalg.cholesky(A[:, here, here])
            reach = torch.cholesky_solve(A[:, here, behind], factor)
            x[:, behind] -= reach.mT @ x[:, here]
            A[:, behind, behind] -= A[:, behind, here] @ reach
            x[:, here] = torch.cholesky_solve(x[:, here].clone(), factor)
            A[:, here, behind] = reach
        for k in reversed(range(0, len(system), SUB_BLOCK)):
            here, behind = slice(k, k + SUB_BLOCK), slice(k + SUB_BLOCK, None)
            x[:, here] -= A[:, here, behind] @ x[:, behind]
        solutions.append(x[:, :, 0])
    return torch.cat(solutions), 0


def of_the_project(U: Tensor, mask: Tensor, W: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """What `thanos_torch` does; `dtype` float64 adds refinement, as for factors in float64."""
    solver = solver_for(Factor(U, benign=dtype == torch.float32))
    mu = solver.multipliers(solver.system(U), mask, W)
    return mu, solver.steps[-1]


CANDIDATES: dict[str, Solver] = {
    "conjugate gradients, Jacobi": jacobi,
    "conjugate gradients, shared inverse": shared_inverse,
    "batched Cholesky": batched_cholesky,
    "batched Cholesky, float64": partial(batched_cholesky, dtype=torch.float64),
    "gathered Cholesky": gathered_cholesky,
    "block elimination": block_elimination,
}


def measure(inputs: str, density: float) -> list[dict[str, Any]]:
    """All candidates on one block: seconds (median), steps, the largest relative residual."""
    U, mask, W = block(inputs, density)
    exact = U.double().T @ U.double()
    scale = exact.diagonal().rsqrt()
    system = (exact * scale * scale[:, None]).float()
    right = (W * scale.float()) * mask
    runs: dict[str, Callable[[], tuple[Tensor, int]]] = {
        name: partial(solve, system, mask, right) for name, solve in CANDIDATES.items()
    }
    runs["thanos_torch, float32 factor"] = partial(of_the_project, U, mask, W, torch.float32)
    runs["thanos_torch, float64 factor"] = partial(of_the_project, U, mask, W, torch.float64)
    rows = []
    for name, run in runs.items():
        mu, steps = run()
        if name in CANDIDATES:
            mu = mu * scale
        residual = ((W - mu.double() @ exact) * mask / scale).norm(dim=1)
        relative = float((residual / (W * mask / scale).norm(dim=1).clamp_min(1e-30)).max())
        seconds = median(clock(run) for _ in range(REPEATS))
        rows.append(
            {"solver": name, "inputs": inputs, "density": density, "seconds": seconds,
             "steps": steps, "residual": relative}
        )  # fmt: skip
    return rows


def block(inputs: str, density: float) -> tuple[Tensor, Tensor, Tensor]:
    """A random block: its part of U, (B, B), and its picks and weights, (ROWS, B)."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(4 * BLOCK, 8 * BLOCK, generator=generator)
    if inputs == "neighbours alike":
        for j in range(1, len(X)):
            X[j] = ALIKE * X[j - 1] + (1 - ALIKE**2) ** 0.5 * X[j]
    H = (X @ X.T).double()
    H.diagonal().add_(0.01 * float(H.diagonal().mean()))
    R = torch.linalg.inv(H)[:BLOCK, :BLOCK]
    W = torch.randn(ROWS, BLOCK, generator=generator)
    score = W.abs() + 0.01 * torch.rand(ROWS, BLOCK, generator=generator)
    mask = score <= score.flatten().quantile(density)
    return torch.linalg.cholesky(R, upper=True).float(), mask, W


def _conjugate_gradients(
    system: Tensor, mask: Tensor, right: Tensor, preconditioner: Tensor
) -> tuple[Tensor, int]:
    """Iterate to a relative residual of 1e-7 in every row; an identity preconditioner is free."""
    picks, x, r = mask.to(right.dtype), torch.zeros_like(right), right.clone()
    plain = torch.equal(preconditioner, torch.eye(len(system)))
    goal = 1e-7 * right.norm(dim=1, keepdim=True)
    z = r.clone() if plain else (r @ preconditioner) * picks
    d, slope = z.clone(), (r * z).sum(dim=1, keepdim=True)
    for step in range(100):
        if (r.norm(dim=1, keepdim=True) <= goal).all():
            return x, step
        product = (d @ system).mul_(picks)
        length = slope / (d * product).sum(dim=1, keepdim=True).clamp_min(1e-30)
        x.addcmul_(length, d)
        r.addcmul_(length, product, value=-1)
        z = r if plain else (r @ preconditioner).mul_(picks)
        previous, slope = slope.clamp_min(1e-30), (r * z).sum(dim=1, keepdim=True)
        d = torch.addcmul(z, slope / previous, d)
    return x, 100


def _filled(system: Tensor, mask: Tensor) -> Tensor:
    both = mask[:, :, None] & mask[:, None, :]
    return torch.where(both, system, torch.diag_embed((~mask).to(system.dtype)))


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each solver, a column for each block; milliseconds and steps."""
    rows = results["solvers"]
    blocks = list(dict.fromkeys((row["inputs"], row["density"]) for row in rows))
    names = list(dict.fromkeys(row["solver"] for row in rows))
    cells = {(row["solver"], row["inputs"], row["density"]): row for row in rows}
    head = ["solver", *(f"{inputs}, {density:.0%}" for inputs, density in blocks), "residual"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name in names:
        found = [cells[name, *each] for each in blocks]
        shown = [
            f"{row['seconds'] * 1e3:.1f} ms" + (f", {row['steps']} steps" if row["steps"] else "")
            for row in found
        ]
        worst = max(row["residual"] for row in found)
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {worst:.0e} |")
    origin = results["environment"]
    lines += [
        "",
        f"Measured by `{results['command']}` at commit {origin['commit']} on {origin['machine']}, "
        f"torch {origin['versions']['torch']}, {origin['date'][:10]}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure all candidates on all blocks, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    command = " ".join(["python -m verification.benchmarks.performance.solvers", *sys.argv[1:]])
    results = {
        "command": command,
        "environment": environment(),
        "rows": ROWS,
        "block": BLOCK,
        "threads": torch.get_num_threads(),
        "solvers": [
            row for inputs in INPUTS for density in DENSITIES for row in measure(inputs, density)
        ],
    }
    write_results(out, results, indent=1)
    print(table(results))


if __name__ == "__main__":
    main()
