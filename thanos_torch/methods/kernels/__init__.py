"""Triton kernels for the operations of a block that PyTorch has no fast counterpart of.

Each file is one operation, needs PyTorch and Triton only, and explains its mathematics. Nothing
here is imported where Triton is missing: `thanos_torch.methods.strategy` looks before it does.

    scores.py    spec (2): scores of weights, rounded as PyTorch rounds them
    smallest.py  spec (3): the r smallest scores of a matrix
    groups.py    spec (4): the n smallest scores of every group
    systems.py   spec (6): the masked systems of a block, and its update
    sweep.py     spec 6:   SparseGPT's columns of a block, one after another
"""
