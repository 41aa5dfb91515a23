"""Latency, memory and bytes of a pruned model in every form: `thanos bench inference`."""
