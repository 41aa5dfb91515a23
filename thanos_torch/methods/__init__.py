"""Pruning methods for one layer: Thanos, SparseGPT, Wanda, magnitude, and the refit.

The files follow those of `reference`. What is fast is in `structured`, `factor`, `solver`, and the
strategies:

    inputs.py      section 2: what is refused; products in full precision
    problem.py     section 1: the Gram matrix, the objective, a layer in common units
    factor.py      section 4: one factorisation of H for all blocks, and the block losses
    masks.py       sections 2 and 3: which weights go
    solver.py      section 4: the linear systems of (6), on a CPU and on a device
    update.py      section 4: how the kept weights make up for them, (6)
    thanos.py      sections 3, 4 and 7: the algorithm block by block
    structured.py  sections 3 and 4: whole columns in one block, (5)
    baselines.py   section 6: magnitude, Wanda, SparseGPT
    refit.py       section 7: better kept weights for a final mask
    result.py      a pruned layer, and how it was computed
    units.py       T7: the units of a layer
    strategy.py    what a CPU and a device do in different ways; in_torch.py and with_kernels.py
    devices.py     which tensors can be looked at for free, and which can be worked on by kernels
    checks.py      one look at a device for several layers
"""
