"""Pruning methods for one layer: Thanos, SparseGPT, Wanda, magnitude, and the refit."""
