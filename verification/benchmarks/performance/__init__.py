"""Seconds and memory of pruning: `thanos bench speed` and `thanos bench cost`."""
