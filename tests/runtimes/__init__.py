"""Pruned checkpoints in runtimes of others: docs/runtimes.md."""
