"""Pruned models at work: latency, memory and bytes in every form. `thanos bench inference`."""
