"""Prune a tiny random model of every class that Transformers registers for causal language models.

python -m tests.models.sweep --out docs/results/model-sweep.json
"""
