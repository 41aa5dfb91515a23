"""Time the CPU kernels of other libraries for weights that are half zeros, against dense ones.

`python -m verification.benchmarks.inference.sparse_kernels --out FILE`: one layer at a time, with
zeros anywhere. Each sparse kernel is compared with the dense one of its library and its numbers:
PyTorch's CSR (by MKL) in float32, and OpenVINO's in 8 bits if OpenVINO is installed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from verification.benchmarks.environment import environment
from verification.benchmarks.inference.measure import alternate, compare, summary, verdict
from verification.benchmarks.results import write_results

# Layers of SmolLM2-135M and Gemma 3 270M, and one as large models have them: rows, columns.
SHAPES = [(1536, 576), (576, 1536), (2048, 640), (640, 2048), (2048, 8192)]
SPARSITIES = (0.5, 0.8)
TOKENS = {1: 30, 512: 10}  # with the number of rounds
# Copies of a weight take turns for single tokens until they are this large together: as in a
# model, weights come from memory and not from a cache.
TURN_BYTES = 2**30
Run = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Time all layers and write the results."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m verification.benchmarks.inference.sparse_kernels", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="results, as JSON")
    parser.add_argument("--threads", type=int, default=1, help="threads of every library")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        openvino = None
    origin, layers = environment(), []
    for rows, columns in SHAPES:
        for sparsity in SPARSITIES:
            for tokens, rounds in TOKENS.items():
                times = time_layer(
                    (rows, columns), sparsity, tokens, rounds, options.threads, openvino is not None
                )
                layers += times
                for each in times:
                    print(in_words(each), flush=True)
    command = ["python -m verification.benchmarks.inference.sparse_kernels", *given]
    results = {
        "command": " ".join(command),
        **origin,
        "openvino": openvino,
        "threads": options.threads,
        "turn_bytes": TURN_BYTES,
        "layers": layers,
    }
    write_results(options.out, results, indent=1)
    return 0


@torch.inference_mode()
def time_layer(
    shape: tuple[int, int],
    sparsity: float,
    tokens: int,
    rounds: int,
    threads: int,
    with_openvino: bool,
) -> list[dict[str, Any]]:
    """Time every sparse kernel in turns with its dense one; JSON-able."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    weight[torch.rand(shape, generator=generator) < sparsity] = 0.0
    x = torch.randn(tokens, shape[1], generator=generator)
    pairs = {"torch CSR, float32": in_torch(weight, x)}
    if with_openvino:
        pairs["OpenVINO, 8 bits"] = in_openvino(weight, x, sparsity, threads)
    found = []
    for kernel, (dense, sparse) in pairs.items():
        seconds = alternate({"dense": dense, "sparse": sparse}, rounds)
        ratio = compare(seconds["sparse"], seconds["dense"])
        about = {"kernel": kernel, "shape": list(shape), "sparsity": sparsity, "tokens": tokens}
        times = {name: summary(each) for name, each in seconds.items()}
        found.append({**about, **times, "ratio": ratio, "verdict": verdict(ratio)})
    return found


def in_torch(weight: Tensor, x: Tensor) -> tuple[Run, Run]:
    """The dense and the CSR product in PyTorch. Raises RuntimeError if they differ."""
    copies = copies_of(weight.nbytes, len(x))
    dense = cycle([weight, *(weight.clone() for _ in range(copies - 1))])
    # CSR takes as many bytes: 4 for each kept weight and 4 for its column.
    sparse = cycle([weight.to_sparse_csr() for _ in range(copies)])
    transposed = x.T.contiguous()
    bound = weight.shape[1] * 2**-23 * (x.abs() @ weight.abs().T)  # of sums in any two orders
    if not bool((((next(sparse) @ transposed).T - x @ weight.T).abs() <= bound).all()):
        raise RuntimeError("the CSR product is not the dense one")
    return lambda: torch.nn.functional.linear(x, next(dense)), lambda: next(sparse) @ transposed


def in_openvino(weight: Tensor, x: Tensor, sparsity: float, threads: int) -> tuple[Run, Run]:
    """The 8-bit product in OpenVINO, with and without packed zeros; each run is one weight's share.

    Raises RuntimeError if the second one does not use a sparse kernel, or if results differ.
    """
    import numpy as np
    import openvino
    from openvino import opset13 as op

    scale = float(weight.abs().max()) / 127
    rounded = (weight / scale).round().to(torch.int8).numpy()
    columns, top = weight.shape[1], float(x.abs().max())
    given = op.parameter([len(x), columns], np.float32)
    # Only products of 8-bit numbers have a sparse kernel, so what is read is rounded too.
    limits = [op.constant(np.float32(each)) for each in (-top, top, -top, top)]
    read = op.fake_quantize(given, *limits, 256)
    copies = copies_of(rounded.nbytes, len(x))
    outputs = []
    for number in range(copies):
        own = np.roll(rounded, number, axis=0)  # equal constants would be merged
        factor = op.constant(np.float32(scale))
        matrix = op.multiply(op.convert(op.constant(own), np.float32), factor)
        outputs.append(op.matmul(read, matrix, False, True))
    model = openvino.Model(outputs[:], [given], "layers")
    name = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"
    runs, results, kernels = [], [], []
    for least in (1.0, sparsity - 0.1):  # the share of zeros from which on they are packed
        settings = {name: str(least), "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        kernels.append(_kernels(compiled))
        request = compiled.create_infer_request()
        results.append([array.copy() for array in request.infer({0: x.numpy()}).values()])
        runs.append(lambda request=request: request.infer({0: x.numpy()}))
    if not all("sparse" in kernel for kernel in kernels[1]):
        raise RuntimeError(f"OpenVINO uses no sparse kernel here but {', '.join(kernels[1])}")
    if not all(map(np.array_equal, *results)):
        raise RuntimeError("OpenVINO's sparse product is not its dense one")
    return runs[0], runs[1]


def _kernels(compiled: Any) -> set[str]:
    """Names of the kernels that OpenVINO chose for its matrix products."""
    about = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return {
        each["primitiveType"].astype(str)
        for each in about
        if each["layerType"].astype(str) in ("FullyConnected", "MatMul")
    }


def copies_of(weight_bytes: int, tokens: int) -> int:
    """How many copies of a weight take turns; with many tokens arithmetic counts, not memory."""
    return max(1, TURN_BYTES // weight_bytes) if tokens == 1 else 1


def in_words(timed: dict[str, Any]) -> str:
    """A line on one comparison."""
    rows, columns = timed["shape"]
    where = f"{rows} x {columns}, {timed['sparsity']:.0%} zeros, {timed['tokens']} tokens"
    return f"{timed['kernel']}: {where}: {timed['ratio']['median']:.2f}, {timed['verdict']}"


if __name__ == "__main__":
    raise SystemExit(main())
